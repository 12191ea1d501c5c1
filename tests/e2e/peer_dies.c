/*
 * usage: peer_dies fixed            a list of cases with one outcome each
 *        peer_dies random SEED N    N rounds at random moments
 *
 * One end of a connection ends in every way there is; what the survivor sees
 * is printed (fixed) or checked (random): all bytes in order, then the end of
 * the file or ECONNRESET, never garbage, never a short file that looks whole,
 * never a hang.
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum how { KILLED, EXITS, CLOSES, EXITS_AT_ONCE, ABORTS, HOWS };

static const char *const how_names[] = {"killed", "exit", "close", "_exit",
                                        "abort"};

/* What the other end had done, in memory that outlives it. */
static struct {
    _Atomic uint64_t wrote, took;
    _Atomic bool ready;
} * shared;

/*
 * Under the library ($E2E_PATIENCE) words are exchanged until TCP carries them
 * no more, some seconds at most: who dies while a stream leaves TCP is a reset.
 */
static void until_both_moved(int fd, bool first)
{
    uint64_t sent = 0, now;
    char word[4] = "grew";

    for (int i = 0; i < 100; i++) {
        bool done = i == 99 || (i > 0 && memcmp(word, "same", 4) == 0 &&
                                kernel_sent(fd) == sent);

        if (first) {
            sent = kernel_sent(fd);
            (void)!write(fd, done ? "done" : "more", 4);
        }
        if (recv(fd, word, 4, MSG_WAITALL) != 4)
            die("settle");
        if (!first) {
            now = kernel_sent(fd);
            done = memcmp(word, "done", 4) == 0;
            (void)!write(fd, now == sent ? "same" : "grew", 4);
            sent = now;
        }
        if (done)
            return;
        if (first)
            time_to_move();
    }
}

static void settle(int fd, bool first)
{
    char c[4];

    for (int i = 0; i < 20; i++) {
        if (i == 15)
            time_to_move();
        if (first)
            (void)!write(fd, "ping", 4);
        if (recv(fd, c, 4, MSG_WAITALL) != 4)
            die("settle");
        if (!first)
            (void)!write(fd, "pong", 4);
    }
    if (getenv("E2E_PATIENCE") != NULL)
        until_both_moved(fd, first);
}

static void die_by(enum how how, int fd)
{
    fflush(stdout);
    switch (how) {
    case KILLED:
        kill(getpid(), SIGKILL);
        break;
    case EXITS:
        exit(0);
    case CLOSES:
        close(fd);
        sleep_ms(50);
        exit(0);
    case EXITS_AT_ONCE:
        _exit(0);
    default:
        abort();
    }
}

/* The victim writes `out` bytes, reads `in`, leaves `unread` and ends. */
struct plan {
    enum how how;
    bool victim_accepts;
    unsigned out, in, unread;
};

static int both_ends(bool child_accepts, pid_t *pid)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port), fd;

    memset(shared, 0, sizeof(*shared));
    *pid = fork_limited(20);
    if ((*pid == 0) == child_accepts)
        fd = accept(listener, NULL, NULL);
    else
        fd = tcp_connect("4", port);
    if (fd < 0)
        die("accept");
    close(listener);
    return fd;
}

static void write_out(int fd, unsigned n)
{
    static char buf[1 << 20];

    pattern_fill(1, 0, buf, n);
    if (n != 0 && write(fd, buf, n) != (ssize_t)n)
        die("write");
}

static void victim(const struct plan *p, int fd)
{
    static char buf[1 << 20];

    settle(fd, !p->victim_accepts);
    write_out(fd, p->out);
    if (p->in != 0 && recv(fd, buf, p->in, MSG_WAITALL) != (ssize_t)p->in)
        die("read");
    if (p->unread != 0)
        wait_unread(fd, (int)p->unread);
    atomic_store(&shared->ready, true);
    sleep_ms(20);
    die_by(p->how, fd);
}

static void wait_ready(void)
{
    while (!atomic_load(&shared->ready))
        sleep_ms(1);
}

static void print_rest(int fd)
{
    static char buf[1 << 20];
    size_t n = 0;
    ssize_t rc;

    while ((rc = read(fd, buf + n, sizeof(buf) - n)) > 0)
        n += (size_t)rc;
    printf(" %zu bytes%s then %s;", n,
           pattern_check(1, 0, buf, n) < 0 ? "" : " WRONG",
           rc == 0 ? "end" : error_name(errno));
    for (int i = 0; i < 3; i++) {
        rc = send(fd, "x", 1, MSG_NOSIGNAL);
        printf(" %s", rc == 1 ? "1" : error_name(errno));
        sleep_ms(5);
    }
    rc = read(fd, buf, 1);
    printf(" read %s\n", rc == 0 ? "end" : error_name(errno));
}

static void fixed_case(const struct plan *p)
{
    pid_t pid;
    int fd = both_ends(p->victim_accepts, &pid), status;
    struct pollfd ready = {fd, POLLIN | POLLRDHUP, 0};

    if (pid == 0)
        victim(p, fd);
    printf("%s %s out %u in %u unread %u:", how_names[p->how],
           p->victim_accepts ? "server" : "client", p->out, p->in, p->unread);
    settle(fd, p->victim_accepts);
    write_out(fd, p->in + p->unread);
    wait_ready();
    waitpid(pid, &status, 0);
    poll(&(struct pollfd){fd, POLLRDHUP, 0}, 1, 5000); /* if all are busy */
    sleep_ms(15);
    poll(&ready, 1, 0);
    printf(" events %x", (unsigned)ready.revents);
    print_rest(fd);
    close(fd);
}

static void fixed(void)
{
    static const unsigned amounts[][3] = {
        {0, 0, 0},       {1000, 0, 0}, {0, 1000, 0},
        {60000, 500, 0}, {0, 0, 700},  {5000, 100, 900},
    };
    struct plan p = {.how = KILLED};

    for (; p.how < HOWS; p.how++)
        for (size_t i = 0; i < sizeof(amounts) / sizeof(amounts[0]); i++) {
            p.victim_accepts = (p.how + i) & 1;
            p.out = amounts[i][0];
            p.in = amounts[i][1];
            p.unread = amounts[i][2];
            fixed_case(&p);
        }
}

/* ---- random ---- */

/* Writes and reads random amounts until its time comes. */
static void random_victim(uint64_t *chance, int fd, enum how how)
{
    static uint8_t buf[100000];
    uint64_t stop = random_below(chance, 400000);
    ssize_t rc;

    while (atomic_load(&shared->wrote) < stop) {
        size_t n = 1 + random_below(chance, 20000);

        usleep((useconds_t)random_below(chance, 400));
        pattern_fill(1, shared->wrote, buf, n);
        atomic_fetch_add(&shared->wrote, n);
        rc = send(fd, buf, n, MSG_NOSIGNAL);
        if (rc != (ssize_t)n)
            break;
        if (random_below(chance, 3) == 0) {
            rc = recv(fd, buf, 1 + random_below(chance, sizeof(buf)), 0);
            if (rc <= 0 || pattern_check(2, shared->took, buf, (size_t)rc) >= 0)
                die("the victim read %zd at %llu", rc,
                    (unsigned long long)shared->took);
            atomic_fetch_add(&shared->took, (uint64_t)rc);
        }
    }
    atomic_store(&shared->ready, true);
    if (how == CLOSES)
        close(fd);
    else if (how != KILLED)
        die_by(how, fd);
    sleep_ms(3000);
}

struct seen {
    uint64_t wrote, took;
    bool end, told;
    int error;
};

static void survive(uint64_t *chance, int fd, struct seen *seen)
{
    static uint8_t buf[100000];
    uint64_t until = now_ms() + 5000;
    ssize_t rc;

    make_nonblocking(fd);
    while (now_ms() < until) {
        struct pollfd p = {fd, POLLIN | POLLOUT, 0};
        size_t n = 1 + random_below(chance, 30000);

        if (seen->wrote > 3000000)
            p.events = POLLIN;
        poll(&p, 1, 1000);
        if (p.revents & POLLOUT) {
            pattern_fill(2, seen->wrote, buf, n);
            rc = send(fd, buf, n, MSG_NOSIGNAL);
            if (rc > 0)
                seen->wrote += (uint64_t)rc;
            else if (errno == EPIPE || errno == ECONNRESET)
                seen->told = true; /* by the write: the read may say end */
            else if (errno != EAGAIN)
                die("the survivor's send");
        }
        rc = recv(fd, buf, n, 0);
        if (rc < 0 && errno == EAGAIN)
            continue;
        if (rc <= 0) {
            seen->end = rc == 0;
            seen->error = rc < 0 ? errno : 0;
            return;
        }
        if (pattern_check(1, seen->took, buf, (size_t)rc) >= 0)
            die("garbage after %llu", (unsigned long long)seen->took);
        seen->took += (uint64_t)rc;
    }
    die("the survivor waits for ever: took %llu of %llu, wrote %llu of %llu",
        (unsigned long long)seen->took, (unsigned long long)shared->wrote,
        (unsigned long long)seen->wrote, (unsigned long long)shared->took);
}

struct killing {
    pid_t pid;
    unsigned delay;
    bool pauses;
};

/* No child of ours: sockets that a child shares would stay on TCP. */
static void *kill_later(void *arg)
{
    struct killing *k = arg;

    usleep(k->delay);
    if (k->pauses) {
        kill(k->pid, SIGSTOP);
        sleep_ms(30);
        kill(k->pid, SIGCONT);
        usleep(k->delay);
    }
    kill(k->pid, SIGKILL);
    return NULL;
}

static void random_round(uint64_t *chance)
{
    enum how how = (enum how)random_below(chance, HOWS);
    struct killing plan = {.delay = (unsigned)random_below(chance, 8000),
                           .pauses = random_below(chance, 6) == 0};
    bool settles = random_below(chance, 2) == 0;
    bool accepts = random_below(chance, 2) == 0;
    uint64_t own = next_random(chance);
    struct seen seen = {0};
    pid_t pid;
    int fd = both_ends(accepts, &pid);
    pthread_t thread;

    if (settles)
        settle(fd, (pid == 0) != accepts);
    if (pid == 0)
        random_victim(&own, fd, how);
    plan.pid = pid;
    if (how == KILLED && pthread_create(&thread, NULL, kill_later, &plan) != 0)
        die("pthread_create");
    survive(chance, fd, &seen);
    if (seen.end && !seen.told && seen.took < shared->wrote &&
        (how == EXITS || how == CLOSES || how == EXITS_AT_ONCE))
        die("%s: end of file after %llu of %llu", how_names[how],
            (unsigned long long)seen.took, (unsigned long long)shared->wrote);
    if (seen.error != 0 && seen.error != ECONNRESET && seen.error != EPIPE)
        die("%s: %s", how_names[how], error_name(seen.error));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    if (how == KILLED)
        pthread_join(thread, NULL);
    close(fd);
}

int main(int argc, char **argv)
{
    uint64_t chance;
    int rounds;

    setvbuf(stdout, NULL, _IOLBF, 0);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc == 2 && strcmp(argv[1], "fixed") == 0) {
        time_limit(40);
        fixed();
        return 0;
    }
    if (argc < 4 || shared == MAP_FAILED)
        die("usage: peer_dies fixed | random SEED ROUNDS");
    chance = strtoull(argv[2], NULL, 10);
    rounds = atoi(argv[3]);
    for (int i = 0; i < rounds; i++) {
        time_limit(15);
        random_round(&chance);
    }
    printf("%d rounds\n", rounds);
    return 0;
}
