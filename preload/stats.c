/*
 * See stats.h. The segment is made with the first connected socket; a process
 * that never has one has none.
 */
#include "preload/stats.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "config/log.h"
#include "preload/process.h"
#include "transport/kernel_calls.h"
#include "transport/lock.h"
#include "transport/pause.h"
#include "transport/shared_memory.h"

static struct {
    struct lock lock;
    struct stats_header *header;
    struct stats_row *rows;
    int fd;
    bool failed;
    unsigned next;
    _Atomic unsigned freed; /* 1 + the row that was used last; 0: unknown */
    _Atomic unsigned used;  /* rows */
    /* Closed streams that never left TCP, by the reason known last. */
    _Atomic uint64_t stayed[REASON_COUNT];
} stats = {.fd = -1};

static bool stats_open(void)
{
    void *at;

    if (stats.header != NULL || stats.failed)
        return stats.header != NULL;
    stats.failed = true;
    if (memory_create(STATS_NAME, stats_size(), &stats.fd) < 0)
        return false;
    stats.fd = ours_keep(stats.fd);
    if (memory_map(stats.fd, stats_size(), true, &at) < 0) {
        ours_close(stats.fd);
        stats.fd = -1;
        return false;
    }
    stats.failed = false;
    stats.header = at;
    stats.rows = (struct stats_row *)(stats.header + 1);
    stats.header->version = STATS_VERSION;
    stats.header->rows = STATS_ROWS;
    stats.header->pid = (uint32_t)getpid();
    stats.header->started_ns = clock_ns();
    memcpy(stats.header->program, process.program,
           sizeof(stats.header->program));
    __atomic_store_n(&stats.header->magic, STATS_MAGIC, __ATOMIC_RELEASE);
    return true;
}

uint64_t stats_inode(void)
{
    struct stat st;
    bool found;

    lock_enter(&stats.lock);
    found = stats.header != NULL && fstat(stats.fd, &st) == 0;
    lock_leave(&stats.lock);
    return found ? st.st_ino : 0;
}

/* Where connections come and go one by one, it is in the caches still. */
static struct stats_row *last_used(void)
{
    unsigned at = atomic_exchange(&stats.freed, 0);

    return at != 0 && atomic_load(&stats.rows[at - 1].used) == 0
               ? &stats.rows[at - 1]
               : NULL;
}

struct stats_row *stats_open_row(struct endpoint *e)
{
    struct stats_row *row = NULL;

    if (lock_take(&stats.lock) < 0)
        return NULL; /* a signal handler, in the midst of this */
    if (!stats_open())
        goto unlock;
    atomic_fetch_add(&stats.header->streams_seen, 1);
    /* A full table is not searched from end to end each time. */
    if (atomic_load(&stats.used) >= STATS_ROWS)
        goto unlisted;
    row = last_used();
    for (unsigned i = 0; i < STATS_ROWS && row == NULL; i++) {
        unsigned at = (stats.next + i) % STATS_ROWS;

        if (atomic_load(&stats.rows[at].used) == 0) {
            row = &stats.rows[at];
            stats.next = at + 1;
            if (at >= stats.header->highest)
                stats.header->highest = at + 1;
        }
    }
unlisted:
    if (row == NULL) {
        atomic_fetch_add(&stats.header->unlisted, 1);
        goto unlock;
    }
    memset(row, 0, sizeof(*row));
    row->opened_ns = clock_ns();
    row->fd = (uint32_t)e->stream.fd;
    row->initiator = e->stream.h.initiator;
    row->reason = REASON_YOUNG;
    row->since_ns = row->opened_ns;
    memcpy(row->transport, "tcp", 4);
    atomic_store(&row->used, 1);
    atomic_fetch_add(&stats.used, 1);
unlock:
    lock_give(&stats.lock);
    return row;
}

void stats_update(struct endpoint *e)
{
    struct stats_row *row = e->row;
    struct stream *s = &e->stream;
    bool up = stream_is_up(s);

    if (atomic_exchange(&s->broken, false))
        stats_count(STATS_BROKEN); /* listed or not */
    if (row == NULL)
        return;
    row->stage = (uint32_t)s->h.stage;
    row->reason = (uint32_t)s->why;
    row->since_ns = s->since_ns;
    row->initiator = s->h.initiator;
    if (up && s->ups > row->ups)
        stats_count(STATS_UP);
    if (s->returns > row->returns) {
        row->last_return = (uint32_t)s->h.why;
        stats_count(STATS_RETURN);
    }
    row->ups = s->ups;
    row->returns = s->returns;
    if (s->link != NULL)
        row->peer_pid = s->link->peer_pid;
    strncpy(row->transport, up && s->link != NULL ? s->link->ops->name : "tcp",
            sizeof(row->transport) - 1);
    if (e->known && row->family == 0) {
        memcpy(row->local,
               e->stream.h.initiator ? e->name.client : e->name.server, 16);
        memcpy(row->peer,
               e->stream.h.initiator ? e->name.server : e->name.client, 16);
        row->local_port =
            e->stream.h.initiator ? e->name.client_port : e->name.server_port;
        row->peer_port =
            e->stream.h.initiator ? e->name.server_port : e->name.client_port;
        row->family = e->name.family;
    }
}

/* `transport` may be the beginning of a list. */
void stats_not_over(struct endpoint *e, const char *transport, enum reason why)
{
    size_t len = strcspn(transport, ",");

    for (unsigned i = 0; e->row != NULL && i < STATS_TRANSPORTS; i++) {
        const char *name = stats_transport_name(i);

        if (name != NULL && strlen(name) == len &&
            memcmp(name, transport, len) == 0)
            e->row->not_over[i] = (uint32_t)why;
    }
}

void stats_close_row(struct endpoint *e)
{
    struct stats_header *h = stats.header;

    if (h == NULL || e->row == NULL)
        return;
    log_debug("fd %u closed: was on a link %u times, last known: %s",
              e->row->fd, e->row->ups,
              reason_token(reason_from(e->row->reason)));
    atomic_fetch_add(&h->closed_out, atomic_load(&e->row->out));
    atomic_fetch_add(&h->closed_in, atomic_load(&e->row->in));
    atomic_fetch_add(&h->closed_link_out, atomic_load(&e->row->link_out));
    atomic_fetch_add(&h->closed_link_in, atomic_load(&e->row->link_in));
    if (e->row->ups == 0)
        atomic_fetch_add(&stats.stayed[reason_from(e->row->reason)], 1);
    e->stream.bytes = &e->bytes;
    atomic_store(&e->row->used, 0);
    atomic_store(&stats.freed, (unsigned)(e->row - stats.rows) + 1);
    atomic_fetch_sub(&stats.used, 1);
    e->row = NULL;
}

void stats_count(enum stats_event event)
{
    struct stats_header *h = stats.header;
    _Atomic uint64_t *count;

    if (h == NULL)
        return;
    switch (event) {
    case STATS_UP:
        count = &h->streams_up;
        break;
    case STATS_RETURN:
        count = &h->returns;
        break;
    case STATS_BROKEN:
        count = &h->broken;
        break;
    case STATS_BANISHED:
        count = &h->banished;
        break;
    case STATS_SLEEP:
        count = &h->sleeps;
        break;
    case STATS_SPIN_HIT:
        count = &h->spins_hit;
        break;
    default:
        count = &h->spins_missed;
    }
    /* Many threads, no promise to the last digit: no locked operation. */
    atomic_store_explicit(count,
                          atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void stats_spinners(int more)
{
    if (stats.header != NULL)
        atomic_fetch_add_explicit(&stats.header->spinners, (uint32_t)more,
                                  memory_order_relaxed);
}

void stats_spun(bool hit, uint64_t ns, uint32_t budget_ns)
{
    struct stats_header *h = stats.header;

    if (h == NULL)
        return;
    stats_count(hit ? STATS_SPIN_HIT : STATS_SPIN_MISSED);
    atomic_store_explicit(&h->spin_budget_ns, budget_ns, memory_order_relaxed);
    if (!hit)
        atomic_fetch_add_explicit(&h->spun_in_vain_ns, ns,
                                  memory_order_relaxed);
}

void stats_cpu_quota(unsigned percent)
{
    if (stats.header != NULL)
        atomic_store(&stats.header->cpu_quota, percent);
}

void stats_withdrawn(enum reason why)
{
    if (stats.header != NULL)
        atomic_store(&stats.header->withdrawn, (uint32_t)why);
}

static void report_path(char *out, size_t size)
{
    const char *from = process.settings.report;
    size_t n = 0;

    while (*from != '\0' && n + 12 < size) {
        if (from[0] == '%' && from[1] == 'p') {
            n += (size_t)snprintf(out + n, size - n, "%d", (int)getpid());
            from += 2;
        } else {
            out[n++] = *from++;
        }
    }
    out[n] = '\0';
}

/* A line for each reason why streams never left TCP. */
static void report_stayed(int fd, const uint64_t n[REASON_COUNT])
{
    char text[64];

    for (unsigned why = 0; why < REASON_COUNT; why++) {
        int len;

        if (n[why] == 0)
            continue;
        len = snprintf(text, sizeof(text), "stayed_%s %llu\n",
                       reason_token((enum reason)why),
                       (unsigned long long)n[why]);
        (void)!syscall(SYS_write, fd, text, len);
    }
}

void stats_report(void)
{
    struct stats_header *h = stats.header;
    uint64_t out = 0, in = 0, link_out = 0, link_in = 0, rows = 0;
    uint64_t stayed[REASON_COUNT];
    char path[SETTINGS_PATH_MAX], text[1024];
    int fd, n;

    if (h == NULL || process.settings.report[0] == '\0')
        return;
    out = h->closed_out;
    in = h->closed_in;
    link_out = h->closed_link_out;
    link_in = h->closed_link_in;
    for (unsigned why = 0; why < REASON_COUNT; why++)
        stayed[why] = atomic_load(&stats.stayed[why]);
    for (unsigned i = 0; i < h->highest && i < STATS_ROWS; i++) {
        struct stats_row *r = &stats.rows[i];

        if (!atomic_load(&r->used))
            continue;
        rows++;
        out += r->out;
        in += r->in;
        link_out += r->link_out;
        link_in += r->link_in;
        if (r->ups == 0)
            stayed[reason_from(r->reason)]++;
    }
    report_path(path, sizeof(path));
    n = snprintf(
        text, sizeof(text),
        "program %s\npid %d\nstreams_seen %llu\nstreams_up %llu\n"
        "streams_open %llu\nreturns %llu\nbroken %llu\n"
        "banished %llu\n"
        "link_bytes_out %llu\nlink_bytes_in %llu\n"
        "tcp_bytes_out %llu\ntcp_bytes_in %llu\n"
        "sleeps %llu\nspins_hit %llu\nspins_missed %llu\n",
        process.program, (int)getpid(), (unsigned long long)h->streams_seen,
        (unsigned long long)h->streams_up, (unsigned long long)rows,
        (unsigned long long)h->returns, (unsigned long long)h->broken,
        (unsigned long long)h->banished, (unsigned long long)link_out,
        (unsigned long long)link_in, (unsigned long long)(out - link_out),
        (unsigned long long)(in - link_in), (unsigned long long)h->sleeps,
        (unsigned long long)h->spins_hit, (unsigned long long)h->spins_missed);
    fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                      O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    (void)!syscall(SYS_write, fd, text, n);
    report_stayed(fd, stayed);
    kernel_close(fd);
}

void stats_after_fork(void)
{
    memory_unmap(stats.header, stats_size());
    ours_close(stats.fd);
    stats.header = NULL;
    stats.rows = NULL;
    stats.fd = -1;
    stats.next = 0;
    atomic_store(&stats.freed, 0);
    atomic_store(&stats.used, 0);
    for (unsigned why = 0; why < REASON_COUNT; why++)
        atomic_store(&stats.stayed[why], 0);
    lock_init(&stats.lock);
}
