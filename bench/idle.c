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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "bench/support/socket.h"

enum { MESSAGE = 64, EVENTS = 64, CONNS_MAX = 20000 };

struct shared {
    atomic_uint port;  /* 0 until the server listens */
    atomic_uint ready; /* 1 when the client has begun to rest */
    double kernel_share;
};

/* What a process has used so far, all its threads together. */
struct usage {
    unsigned long long ticks;
    unsigned long long switches;
    uint64_t cpu_ns;
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
    char buf[MESSAGE];
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

/* Messages over all connections in turn, for so many seconds. */
static uint64_t exchange(const int *fds, unsigned n, double seconds)
{
    uint64_t end = program_now_ns() + (uint64_t)(seconds * 1e9);
    uint64_t bytes = 0;
    char sent[MESSAGE] = "0", got[MESSAGE];

    do {
        for (unsigned i = 0; i < n; i++) {
            sent[bytes / MESSAGE % MESSAGE]++;
            check_fd(socket_send_all(fds[i], sent, MESSAGE), "send");
            check_fd(socket_recv_all(fds[i], got, MESSAGE), "read");
            if (memcmp(sent, got, MESSAGE) != 0)
                program_die("a message came back changed");
            bytes += MESSAGE;
        }
    } while (program_now_ns() < end);
    return bytes;
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

static void be_client(struct shared *shared, unsigned n, double warm)
{
    struct sigaction wake = {.sa_handler = on_signal};
    int *fds = calloc(n, sizeof(*fds));
    uint64_t kernel, moved;
    char port[8];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!fds)
        program_die("no memory for %u connections", n);
    sigaction(SIGUSR1, &wake, NULL);
    snprintf(port, sizeof(port), "%u", atomic_load(&shared->port));
    for (unsigned i = 0; i < n; i++)
        fds[i] = check_fd(socket_connect("127.0.0.1", port), "connect");
    exchange(fds, n, warm);
    kernel = kernel_bytes(fds, n);
    moved = exchange(fds, n, warm / 4);
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

static void measure(const struct shared *shared, pid_t server, pid_t client,
                    double seconds, bool json)
{
    struct usage before[2], after[2];

    program_sleep_ns(1000000000); /* for what goes on after the last byte */
    before[0] = usage_of(server);
    before[1] = usage_of(client);
    program_sleep_ns((uint64_t)(seconds * 1e9));
    after[0] = usage_of(server);
    after[1] = usage_of(client);
    const struct figure figures[] = {
        {"seconds", seconds},
        {"server_ticks", (double)(after[0].ticks - before[0].ticks)},
        {"client_ticks", (double)(after[1].ticks - before[1].ticks)},
        {"server_switches", (double)(after[0].switches - before[0].switches)},
        {"client_switches", (double)(after[1].switches - before[1].switches)},
        {"server_cpu_ns", (double)(after[0].cpu_ns - before[0].cpu_ns)},
        {"client_cpu_ns", (double)(after[1].cpu_ns - before[1].cpu_ns)},
        {"kernel_share", shared->kernel_share},
    };
    program_print(figures, sizeof(figures) / sizeof(figures[0]), json);
}

int main(int argc, char **argv)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct rlimit files;
    double warm = 1, seconds = 10;
    int option, cpus[2] = {-1, -1};
    unsigned conns = 1;
    bool json = false;
    pid_t server, client;

    while ((option = getopt(argc, argv, "c:S:C:W:s:j")) >= 0) {
        if (option == 'c')
            conns = (unsigned)program_number('c', optarg, 1, CONNS_MAX);
        else if (option == 'S' || option == 'C')
            cpus[option == 'C'] =
                (int)program_number((char)option, optarg, 0, 1023);
        else if (option == 'W')
            warm = program_seconds('W', optarg, 0.01, 600);
        else if (option == 's')
            seconds = program_seconds('s', optarg, 0.01, 3600);
        else if (option == 'j')
            json = true;
        else
            program_die("usage: idle [-c connections] [-S server cpu] "
                        "[-C client cpu] [-W warm-up] [-s seconds] [-j]");
    }
    if (shared == MAP_FAILED)
        program_die("mmap: %s", strerror(errno));
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    server = start(cpus[0]);
    if (server == 0) {
        serve(shared);
        return 0;
    }
    await(&shared->port, 5, "starting the server process");
    client = start(cpus[1]);
    if (client == 0) {
        be_client(shared, conns, warm);
        return 0;
    }
    await(&shared->ready, 10 + 2 * warm, "the exchange before the rest");
    measure(shared, server, client, seconds, json);
    kill(client, SIGUSR1);
    program_reap(client, "client process");
    program_reap(server, "server process");
    return 0;
}
