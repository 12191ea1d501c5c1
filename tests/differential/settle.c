/*
 * Rest between the steps, so that what a step sees is decided.
 *
 * The kernel is asked by raw system calls, which the library does not see. On
 * kernel TCP all that was sent has arrived when FIONREAD says so. Under the
 * library the statistics segment tells which streams are on TCP and which on a
 * link, and nothing is asked while one moves from one to the other. When the
 * other end was closed, TCP has to be in the state it was in on the kernel:
 * the library closes a moment later than close() returns.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "preload/stats_layout.h"
#include "tests/differential/actor.h"
#include "tests/e2e/support/plain.h"

static struct {
    bool looked_for;
    const struct stats_header *header;
    const struct stats_row *rows;
    uint64_t ups, link_bytes;
    const struct stats_row *row[CONNS][2]; /* of this program, once known */
    bool lost[CONNS][2];  /* bytes never came: they are not waited for */
    bool late[CONNS][2];  /* nor this state */
    bool shut[CONNS][2];  /* waited for */
    bool stuck[CONNS][2]; /* its reader did not take them */
} ours;

void pause_us(unsigned us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000L};

    syscall(SYS_nanosleep, &t, NULL);
}

/* ---- what the library says of itself ---- */

static int find_segment(void)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *d;
    int found = -1;

    while (dir != NULL && found < 0 && (d = readdir(dir)) != NULL) {
        char path[64], name[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%.20s", d->d_name);
        n = readlink(path, name, sizeof(name) - 1);
        if (n > 0 && strncmp(name, "/memfd:" STATS_NAME,
                             strlen("/memfd:" STATS_NAME)) == 0)
            found = open(path, O_RDONLY | O_CLOEXEC);
    }
    if (dir != NULL)
        closedir(dir);
    return found;
}

static bool has_library(const struct shared *shared, unsigned process)
{
    unsigned end = process & 1;

    return shared->mode == MODE_BOTH || shared->mode == MODE_BREAKS ||
           shared->mode == (end == CLIENT ? MODE_CLIENT : MODE_SERVER);
}

/* The segment is made with the first connected socket. */
static bool have_segment(const struct actor *a)
{
    void *at;
    int fd;

    if (ours.header != NULL || !has_library(a->shared, a->process))
        return ours.header != NULL;
    fd = find_segment();
    if (fd < 0)
        return false;
    at = mmap(NULL, stats_size(), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at == MAP_FAILED)
        return false;
    ours.header = at;
    ours.rows = (const struct stats_row *)(ours.header + 1);
    return true;
}

static const struct stats_row *find_row(const struct actor *a,
                                        const struct slot *s)
{
    const struct stats_row **row = &ours.row[s->conn][s->end];

    if (*row != NULL || !have_segment(a))
        return *row;
    for (uint32_t i = 0; i < ours.header->highest; i++)
        if (atomic_load(&ours.rows[i].used) &&
            ours.rows[i].fd == (uint32_t)s->fd)
            *row = &ours.rows[i];
    return *row;
}

/* Its row, while the stream has one. */
static const struct stats_row *row_of(const struct actor *a,
                                      const struct slot *s)
{
    const struct stats_row *row = find_row(a, s);

    return row != NULL && atomic_load(&row->used) ? row : NULL;
}

static uint32_t stage_of(const struct stats_row *row)
{
    return row == NULL ? STATS_STAGE_RAW
                       : __atomic_load_n(&row->stage, __ATOMIC_ACQUIRE);
}

static void forget_segment(void)
{
    if (ours.header != NULL)
        munmap((void *)ours.header, stats_size());
    memset(&ours, 0, sizeof(ours));
}

/* The process's own counters begin anew in a child. */
void settle_forget(void)
{
    static pid_t pid;

    if (pid != getpid())
        forget_segment();
    pid = getpid();
    memset(ours.row, 0, sizeof(ours.row));
    memset(ours.lost, 0, sizeof(ours.lost));
    memset(ours.late, 0, sizeof(ours.late));
    memset(ours.shut, 0, sizeof(ours.shut));
    memset(ours.stuck, 0, sizeof(ours.stuck));
}

static uint32_t (*breaks_so_far)(void);

/* Links that break are a library of their own: breaking_links.c. */
void settle_plan_break(uint32_t at)
{
    void (*plan)(uint32_t) = dlsym(RTLD_DEFAULT, "breaking_links_plan");

    breaks_so_far = dlsym(RTLD_DEFAULT, "breaking_links_count");
    if (plan != NULL)
        plan(at);
}

void settle_count(struct shared *shared)
{
    uint64_t ups, bytes;

    if (breaks_so_far != NULL)
        atomic_fetch_add(&shared->breaks, breaks_so_far());
    if (ours.header == NULL)
        return;
    ups = ours.header->streams_up;
    bytes = ours.header->closed_link_in;
    for (uint32_t i = 0; i < ours.header->highest; i++)
        if (atomic_load(&ours.rows[i].used))
            bytes += ours.rows[i].link_in;
    atomic_fetch_add(&shared->ups, (uint32_t)(ups - ours.ups));
    if (bytes > ours.link_bytes)
        atomic_fetch_add(&shared->link_bytes,
                         (uint32_t)(bytes - ours.link_bytes));
    ours.ups = ups;
    ours.link_bytes = bytes;
}

/* ---- rest ---- */

static uint8_t tcp_state(int fd)
{
    uint8_t state = 0; /* tcpi_state is the first byte of TCP_INFO */
    socklen_t len = 1;

    syscall(SYS_getsockopt, fd, IPPROTO_TCP, TCP_INFO, &state, &len);
    return state;
}

static int kernel_unread(int fd)
{
    int n = 0;

    syscall(SYS_ioctl, fd, FIONREAD, &n);
    return n;
}

static bool moves(uint32_t stage)
{
    return stage != STATS_STAGE_RAW && stage != STATS_STAGE_UP &&
           stage != STATS_STAGE_DEAD;
}

static void wait_for_stage(const struct actor *a, const struct slot *s)
{
    uint64_t until = now_us() + 200000 * (uint64_t)a->shared->slow;

    if (a->shared->program.loose)
        return; /* it may wait for a reader */
    while (moves(stage_of(row_of(a, s))) && now_us() < until)
        pause_us(20);
}

static void wait_for_bytes(const struct actor *a, const struct slot *s)
{
    const struct conn *c = &a->shared->conn[s->conn];
    uint64_t until = now_us() + 50000 * (uint64_t)a->shared->slow;
    int64_t want = (int64_t)(c->sent[!s->end] - c->took[!s->end]);

    if (c->closed[0] || c->closed[1] || ours.lost[s->conn][s->end])
        return;
    while (stage_of(row_of(a, s)) == STATS_STAGE_RAW &&
           kernel_unread(s->fd) < want) {
        if (now_us() > until) {
            ours.lost[s->conn][s->end] = true;
            return;
        }
        pause_us(20);
    }
}

/* A file of a thread of any process, as a string. */
static bool read_of_thread(int tid, const char *name, char *buf, size_t size)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", tid, tid, name);
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    n = syscall(SYS_read, fd, buf, size - 1);
    syscall(SYS_close, fd);
    buf[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* In a call of the kernel's on this descriptor. */
static bool is_in_kernel(const struct worker_slot *w, int fd)
{
    char buf[256], *at, *first;

    if (!read_of_thread(w->tid, "syscall", buf, sizeof(buf)))
        return false;
    strtol(buf, &at, 10);
    first = at;
    return at != buf && strtoul(first, &at, 16) == (unsigned long)fd &&
           at != first;
}

/* A thread of this process that reads this stream, and not the kernel's. */
static bool has_reader(const struct actor *a, const struct slot *s)
{
    for (int i = 0; i < WORKERS && a->process <= SERVER; i++) {
        const struct worker_slot *w = &a->shared->worker[a->process][i];
        const struct step *step = &a->shared->program.step[w->step];
        const struct slot *of = slot_at(a, step->arg[0]);

        if (atomic_load(&w->state) == WORKER_INSIDE && step->op == OP_RECV &&
            of != NULL && of->kind == SLOT_CONN && of->conn == s->conn &&
            of->end == s->end && !is_in_kernel(w, of->fd))
            return true;
    }
    return false;
}

/*
 * A read with MSG_WAITALL takes what comes and stays inside. On the kernel it
 * had taken so much by now; here a link may break under it, which takes a
 * moment to be seen, and the bytes come by TCP.
 */
static void wait_for_reader(const struct actor *a, const struct slot *s)
{
    const struct conn *c = &a->shared->conn[s->conn];
    int64_t *taken = &a->shared->taken[a->at][s->conn][s->end];
    int64_t want = a->shared->expected_taken[a->at][s->conn][s->end];
    uint64_t until = now_us() + 200000 * (uint64_t)a->shared->slow;
    const struct stats_row *row;

    if (a->expected == NULL) {
        *taken = (int64_t)c->sent[!s->end] - kernel_unread(s->fd);
        return;
    }
    if (c->closed[0] || c->closed[1] || ours.stuck[s->conn][s->end])
        return;
    while ((row = row_of(a, s)) != NULL &&
           (int64_t)atomic_load(&row->in) < want && has_reader(a, s)) {
        if (now_us() > until) {
            ours.stuck[s->conn][s->end] = true;
            return;
        }
        pause_us(20);
    }
}

/* The other end is closed: FIN or RST is here, whoever sent it. */
static void wait_for_state(const struct actor *a, const struct slot *s)
{
    uint8_t *state = &a->shared->state[a->at][s->conn][s->end];
    uint8_t want = a->shared->expected_state[a->at][s->conn][s->end];
    bool closed = a->shared->conn[s->conn].closed[!s->end];
    bool known = a->expected != NULL;
    uint64_t until =
        now_us() + (known ? 200000 : 1000) * (uint64_t)a->shared->slow;

    *state = tcp_state(s->fd);
    if (!closed || ours.late[s->conn][s->end])
        return;
    while (known ? *state != want : *state == TCP_ESTABLISHED) {
        if (now_us() > until) {
            ours.late[s->conn][s->end] = true;
            return;
        }
        pause_us(20);
        *state = tcp_state(s->fd);
    }
    if (!known)
        ours.late[s->conn][s->end] = true; /* it goes no further by itself */
    /* The helper has heard of it as well. */
    while (stage_of(row_of(a, s)) == STATS_STAGE_UP && now_us() < until)
        pause_us(20);
}

/* The library's record of a shutdown takes a moment, too. */
static void wait_for_shutdown(const struct actor *a, const struct slot *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLRDHUP};
    uint64_t until = now_us() + 50000 * (uint64_t)a->shared->slow;

    if (!a->shared->conn[s->conn].shut[!s->end] || ours.shut[s->conn][s->end] ||
        row_of(a, s) == NULL)
        return;
    ours.shut[s->conn][s->end] = true;
    while (poll(&p, 1, 0) == 0 && now_us() < until)
        pause_us(20);
}

void settle_moves(const struct actor *a)
{
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *s = slot_at(a, i);
        const struct stats_row *row =
            s->kind == SLOT_CONN ? row_of(a, s) : NULL;

        if (row != NULL &&
            (row->returns > 0 || stage_of(row) == STATS_STAGE_DEAD))
            a->shared->moved = 1;
    }
}

void settle(const struct actor *a)
{
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *s = slot_at(a, i);

        if (s->kind != SLOT_CONN)
            continue;
        wait_for_shutdown(a, s);
        wait_for_reader(a, s);
        wait_for_stage(a, s);
        wait_for_bytes(a, s);
        wait_for_state(a, s);
    }
    settle_moves(a);
}

/* Asleep, and not just waiting for a lock or a moment. */
static bool sleeps(const struct worker_slot *w)
{
    char buf[256], *at;
    long number;

    if (!read_of_thread(w->tid, "stat", buf, sizeof(buf)))
        return true;
    at = strrchr(buf, ')');
    if (at == NULL || at[2] != 'S')
        return false;
    if (!read_of_thread(w->tid, "syscall", buf, sizeof(buf)))
        return true;
    number = strtol(buf, &at, 10);
    return at != buf && number != SYS_futex && number != SYS_nanosleep;
}

/* On the kernel this thread was done after this step, or before it. */
static bool is_due(const struct actor *a, const struct worker_slot *w)
{
    uint32_t done_at = a->shared->expected[w->step].done_at;

    return a->expected != NULL && done_at != 0 && done_at <= a->at + 1;
}

/*
 * Threads inside a call sleep there, or have come back: those that had come
 * back on the kernel are waited for.
 */
void settle_workers(const struct actor *a)
{
    uint64_t start = now_us(), slow = a->shared->slow;

    for (int i = 0; i < 2 * WORKERS; i++) {
        struct worker_slot *w = &a->shared->worker[i / WORKERS][i % WORKERS];
        struct outcome *o = &a->shared->seen[w->step];

        while (atomic_load(&w->state) == WORKER_INSIDE &&
               now_us() < start + (is_due(a, w) ? 500000 : 100000) * slow &&
               (is_due(a, w) || !sleeps(w)))
            pause_us(20);
        if (atomic_load(&w->state) == WORKER_DONE && o->done_at == 0)
            o->done_at = a->at + 1;
    }
}

bool settle_up(const struct actor *a, int slot)
{
    const struct slot *s = slot_at(a, slot);
    uint64_t until = now_us() + 300000 * (uint64_t)a->shared->slow;
    bool both = a->shared->mode == MODE_BOTH || a->shared->mode == MODE_BREAKS;

    if (!both || s == NULL || s->kind != SLOT_CONN)
        return true;
    while (stage_of(row_of(a, s)) != STATS_STAGE_UP) {
        if (now_us() > until) {
            atomic_fetch_add(&a->shared->not_up, 1);
            return false;
        }
        pause_us(50);
    }
    return true;
}
