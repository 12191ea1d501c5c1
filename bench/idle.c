/*
 * What connections cost that have moved bytes and now rest. A server and a
 * client process exchange messages over N connections for a while; then both
 * wait, the server in epoll_wait, the client in read (one connection) or
 * epoll_wait; and this process reads from /proc what all their threads use.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "bench/support/socket.h"

enum {
    MESSAGE = 64,
    PIECE = 32768,
    EVENTS = 64,
    CONNS_MAX = 20000,
    AT_ONCE = 100,       /* connections that exchange at the same time */
    ROUNDS_AT_LEAST = 16 /* messages of each, before the rest */
};

struct options {
    unsigned conns;
    int cpus[2]; /* server's, client's; -1: wherever */
    double warm_seconds;
    double seconds;
    unsigned move_kb; /* that each connection moves, each way, before */
    bool json;
};

struct shared {
    atomic_uint port;  /* 0 until the server listens */
    atomic_uint start; /* 1 when the client may connect */
    atomic_uint ready; /* 1 when the client has begun to rest */
    double kernel_share;
};

/* What a process has used so far, all its threads together. Memory is what
 * it has, shared pages divided by those who map them. */
struct usage {
    unsigned long long ticks;
    unsigned long long switches;
    uint64_t cpu_ns;
    unsigned long long memory;
};

static void on_signal(int number)
{
    (void)number;
}

static int check_fd(int rc, const char *what)
{
    if (rc < 0)
        program_die("%s: %s", what, strerror(rc == -1 ? errno : -rc));
    return rc;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    check_fd(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* False at the end of the stream. */
static bool echo(int fd)
{
    char buf[PIECE];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n <= 0)
        return false;
    return socket_send_all(fd, buf, (size_t)n) == 0;
}

static void serve(struct shared *shared)
{
    struct epoll_event ready[EVENTS];
    uint16_t port = 0;
    int listener = check_fd(socket_listen(&port), "listen");
    int epoll = check_fd(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    unsigned accepted = 0, closed = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    watch(epoll, listener);
    atomic_store(&shared->port, port);
    while (accepted == 0 || closed < accepted) {
        int n = epoll_wait(epoll, ready, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = ready[i].data.fd;

            if (fd == listener) {
                watch(epoll, check_fd(socket_accept(listener), "accept"));
                accepted++;
            } else if (!echo(fd)) {
                close(fd);
                closed++;
            }
        }
    }
}

/* One message over each connection and back. */
static void exchange_once(const int *fds, unsigned n, char mark)
{
    char sent[MESSAGE], got[MESSAGE];

    memset(sent, mark, sizeof(sent));
    for (unsigned i = 0; i < n; i++)
        check_fd(socket_send_all(fds[i], sent, MESSAGE), "send");
    for (unsigned i = 0; i < n; i++) {
        check_fd(socket_recv_all(fds[i], got, MESSAGE), "read");
        if (memcmp(sent, got, MESSAGE) != 0)
            program_die("a message came back changed");
    }
}

/* rounds messages over all connections, some of them at once, and again for
 * so many seconds; returns the bytes of one way. */
static uint64_t exchange(const int *fds, unsigned n, unsigned rounds,
                         double seconds)
{
    uint64_t end = program_now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t bytes = 0;

    do {
        for (unsigned first = 0; first < n; first += AT_ONCE) {
            unsigned some = n - first < AT_ONCE ? n - first : AT_ONCE;

            for (unsigned i = 0; i < rounds; i++)
                exchange_once(fds + first, some, (char)('a' + i % 20));
        }
        bytes += (uint64_t)n * rounds * MESSAGE;
    } while (program_now_ns() < end);
    return bytes;
}

/* So many bytes over each connection and back, one connection at a time. */
static void move_bytes(const int *fds, unsigned n, unsigned kb)
{
    static char sent[PIECE], got[PIECE];

    memset(sent, 'm', sizeof(sent));
    for (unsigned i = 0; i < n; i++) {
        for (unsigned done = 0; done < kb; done += PIECE / 1024) {
            check_fd(socket_send_all(fds[i], sent, PIECE), "send");
            check_fd(socket_recv_all(fds[i], got, PIECE), "read");
            if (memcmp(sent, got, PIECE) != 0)
                program_die("a piece came back changed");
        }
    }
}

static uint64_t kernel_bytes(const int *fds, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += socket_kernel_bytes(fds[i]);
    return sum;
}

/* Waits for a signal, or for bytes that must not come. */
static void rest(const int *fds, unsigned n)
{
    struct epoll_event event;
    char byte;
    int epoll;

    if (n == 1) {
        if (read(fds[0], &byte, 1) >= 0 || errno != EINTR)
            program_die("expected a resting connection to stay silent");
        return;
    }
    epoll = check_fd(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    for (unsigned i = 0; i < n; i++)
        watch(epoll, fds[i]);
    if (epoll_wait(epoll, &event, 1, -1) >= 0 || errno != EINTR)
        program_die("expected resting connections to stay silent");
}

static void be_client(struct shared *shared, const struct options *o)
{
    struct sigaction wake = {.sa_handler = on_signal};
    unsigned n = o->conns;
    int *fds = calloc(n, sizeof(*fds));
    uint64_t kernel, moved;
    char port[8];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!fds)
        program_die("no memory for %u connections", n);
    sigaction(SIGUSR1, &wake, NULL);
    snprintf(port, sizeof(port), "%u", atomic_load(&shared->port));
    while (!atomic_load(&shared->start))
        program_sleep_ns(1000000);
    for (unsigned i = 0; i < n; i++)
        fds[i] = check_fd(socket_connect("127.0.0.1", port), "connect");
    exchange(fds, n, ROUNDS_AT_LEAST, o->warm_seconds);
    move_bytes(fds, n, o->move_kb);
    kernel = kernel_bytes(fds, n);
    moved = exchange(fds, n, 2, o->warm_seconds / 4);
    shared->kernel_share =
        (double)(kernel_bytes(fds, n) - kernel) / (double)moved;
    atomic_store(&shared->ready, 1);
    rest(fds, n);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
}

static unsigned long long switches_of(const char *status)
{
    unsigned long long n, sum = 0;
    char line[256];
    FILE *file = fopen(status, "re");

    if (!file)
        return 0; /* the thread has ended */
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1 ||
            sscanf(line, "nonvoluntary_ctxt_switches: %llu", &n) == 1)
            sum += n;
    }
    fclose(file);
    return sum;
}

static unsigned long long ticks_of(pid_t pid)
{
    unsigned long long user = 0, system = 0;
    char name[64], line[1024];
    FILE *file;
    char *after;

    snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
    file = fopen(name, "re");
    if (!file || !fgets(line, sizeof(line), file))
        program_die("cannot read %s", name);
    fclose(file);
    after = strrchr(line, ')'); /* the program's name may hold anything */
    if (!after || sscanf(after,
                         ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
                         "%llu %llu",
                         &user, &system) != 2)
        program_die("%s is not as expected: %s", name, line);
    return user + system;
}

static unsigned long long memory_of(pid_t pid)
{
    unsigned long long kb = 0;
    char name[64], line[256];
    FILE *file;

    snprintf(name, sizeof(name), "/proc/%d/smaps_rollup", (int)pid);
    file = fopen(name, "re");
    if (!file)
        program_die("cannot read %s", name);
    while (fgets(line, sizeof(line), file) &&
           sscanf(line, "Pss: %llu kB", &kb) != 1)
        ;
    fclose(file);
    return kb * 1024;
}

static struct usage usage_of(pid_t pid)
{
    struct usage u = {.ticks = ticks_of(pid), .cpu_ns = program_cpu_ns(pid)};
    char name[320];
    struct dirent *entry;
    DIR *tasks;

    snprintf(name, sizeof(name), "/proc/%d/task", (int)pid);
    tasks = opendir(name);
    if (!tasks)
        program_die("cannot read %s: has the process died?", name);
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "/proc/%d/task/%s/status", (int)pid,
                 entry->d_name);
        u.switches += switches_of(name);
    }
    closedir(tasks);
    u.memory = memory_of(pid);
    return u;
}

static void await(atomic_uint *word, double seconds, const char *what)
{
    uint64_t end = program_now_ns() + (uint64_t)(seconds * 1e9);

    while (atomic_load(word) == 0) {
        if (program_now_ns() > end)
            program_die("%s took more than %g seconds", what, seconds);
        program_sleep_ns(1000000);
    }
}

static pid_t start(int cpu)
{
    pid_t pid = check_fd(fork(), "fork");

    if (pid == 0 && cpu >= 0)
        program_pin(cpu);
    return pid;
}

static double per_conn(const struct usage *after, const struct usage *before,
                       unsigned conns)
{
    return ((double)after->memory - (double)before->memory) / conns;
}

static void measure(const struct options *o, struct shared *shared,
                    const pid_t pids[2])
{
    struct usage fresh[2], before[2], after[2];

    for (int i = 0; i < 2; i++)
        fresh[i] = usage_of(pids[i]);
    atomic_store(&shared->start, 1);
    await(&shared->ready, 60 + 2 * o->warm_seconds, "the exchange before");
    program_sleep_ns(3000000000); /* links rest one to two seconds later */
    for (int i = 0; i < 2; i++)
        before[i] = usage_of(pids[i]);
    program_sleep_ns((uint64_t)(o->seconds * 1e9));
    for (int i = 0; i < 2; i++)
        after[i] = usage_of(pids[i]);
    const struct figure figures[] = {
        {"seconds", o->seconds},
        {"server_ticks", (double)(after[0].ticks - before[0].ticks)},
        {"client_ticks", (double)(after[1].ticks - before[1].ticks)},
        {"server_switches", (double)(after[0].switches - before[0].switches)},
        {"client_switches", (double)(after[1].switches - before[1].switches)},
        {"server_cpu_ns", (double)(after[0].cpu_ns - before[0].cpu_ns)},
        {"client_cpu_ns", (double)(after[1].cpu_ns - before[1].cpu_ns)},
        {"server_memory_bytes", per_conn(&after[0], &fresh[0], o->conns)},
        {"client_memory_bytes", per_conn(&after[1], &fresh[1], o->conns)},
        {"kernel_share", shared->kernel_share},
    };
    program_print(figures, sizeof(figures) / sizeof(figures[0]), o->json);
}

static void parse_options(struct options *o, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "c:S:C:W:s:m:j")) >= 0) {
        if (option == 'c')
            o->conns = (unsigned)program_number('c', optarg, 1, CONNS_MAX);
        else if (option == 'S' || option == 'C')
            o->cpus[option == 'C'] =
                (int)program_number((char)option, optarg, 0, 1023);
        else if (option == 'W')
            o->warm_seconds = program_seconds('W', optarg, 0.01, 600);
        else if (option == 's')
            o->seconds = program_seconds('s', optarg, 0.01, 3600);
        else if (option == 'm')
            o->move_kb = (unsigned)program_number('m', optarg, 0, 1 << 20);
        else if (option == 'j')
            o->json = true;
        else
            program_die("usage: idle [-c connections] [-S server cpu] "
                        "[-C client cpu] [-W warm-up] [-s seconds] "
                        "[-m KiB each way before] [-j]");
    }
}

int main(int argc, char **argv)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct options o = {
        .conns = 1, .cpus = {-1, -1}, .warm_seconds = 1, .seconds = 10};
    pid_t pids[2];

    parse_options(&o, argc, argv);
    if (shared == MAP_FAILED)
        program_die("mmap: %s", strerror(errno));
    program_all_descriptors();
    pids[0] = start(o.cpus[0]);
    if (pids[0] == 0) {
        serve(shared);
        return 0;
    }
    await(&shared->port, 5, "starting the server process");
    pids[1] = start(o.cpus[1]);
    if (pids[1] == 0) {
        be_client(shared, &o);
        return 0;
    }
    measure(&o, shared, pids);
    kill(pids[1], SIGUSR1);
    program_reap(pids[1], "client process");
    program_reap(pids[0], "server process");
    return 0;
}
