/*
 * What it costs to take a connection off TCP: a server and a client process
 * open N connections one after the other and exchange just enough messages on
 * each for it to move, with pauses in which the library's own threads come to
 * their turn. The processor time of all threads of both ends, divided by N.
 * The same without the library is what the connections cost anyway.
 *
 * Both ends should sleep as soon as they have nothing to do
 * (FASTSOCK_POLL_USEC=0): what is spent on spinning is no cost of moving.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "bench/support/socket.h"

enum {
    MESSAGE = 64,
    CONNS_MAX = 5000,
    IN_A_ROW = 9,   /* more calls than upgrade_after, at both ends */
    WITH_PAUSES = 4 /* while and after it moves */
};

struct shared {
    atomic_uint port;     /* 0 until the server listens */
    atomic_uint accepted; /* connections so far */
    atomic_uint over;     /* the server may close them all */
};

static int check_fd(int rc, const char *what)
{
    if (rc < 0)
        program_die("%s: %s", what, strerror(-rc));
    return rc;
}

static int *make_fds(unsigned n)
{
    int *fds = calloc(n, sizeof(*fds));

    if (!fds)
        program_die("no memory for %u connections: fewer of them (-c)", n);
    return fds;
}

static void serve(struct shared *shared, unsigned n, int cpu)
{
    int *fds = make_fds(n);
    char buf[MESSAGE];
    uint16_t port = 0;
    int listener;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (cpu >= 0)
        program_pin(cpu);
    listener = check_fd(socket_listen(&port), "listen");
    atomic_store(&shared->port, port);
    for (unsigned i = 0; i < n; i++) {
        fds[i] = check_fd(socket_accept(listener), "accept");
        for (unsigned j = 0; j < IN_A_ROW + WITH_PAUSES; j++) {
            check_fd(socket_recv_all(fds[i], buf, MESSAGE), "read");
            check_fd(socket_send_all(fds[i], buf, MESSAGE), "send");
        }
        atomic_fetch_add(&shared->accepted, 1);
    }
    while (!atomic_load(&shared->over))
        program_sleep_ns(1000000);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
}

static void exchange(int fd, unsigned number)
{
    char sent[MESSAGE], got[MESSAGE];

    memset(sent, 'a' + (int)number, MESSAGE);
    check_fd(socket_send_all(fd, sent, MESSAGE), "send");
    check_fd(socket_recv_all(fd, got, MESSAGE), "read");
    if (memcmp(sent, got, MESSAGE) != 0)
        program_die("a message came back changed");
}

/* True when the last message came past the kernel's TCP. */
static bool use(int fd)
{
    uint64_t kernel = 0;

    for (unsigned i = 0; i < IN_A_ROW; i++)
        exchange(fd, i);
    for (unsigned i = 0; i < WITH_PAUSES; i++) {
        program_sleep_ns(500000);
        kernel = socket_kernel_bytes(fd);
        exchange(fd, i);
    }
    return socket_kernel_bytes(fd) < kernel + MESSAGE;
}

static void measure(struct shared *shared, pid_t server, unsigned n, int cpu,
                    bool json)
{
    uint64_t deadline = program_now_ns() + 5000000000u;
    int *fds = make_fds(n);
    uint64_t used[2];
    unsigned moved = 0;
    char port[8];

    if (cpu >= 0)
        program_pin(cpu);
    while (atomic_load(&shared->port) == 0) {
        if (program_now_ns() > deadline)
            program_die("the server process did not listen within 5 seconds");
        program_sleep_ns(200000);
    }
    snprintf(port, sizeof(port), "%u", atomic_load(&shared->port));
    used[0] = program_cpu_ns(0);
    used[1] = program_cpu_ns(server);
    for (unsigned i = 0; i < n; i++) {
        fds[i] = check_fd(socket_connect("127.0.0.1", port), "connect");
        moved += use(fds[i]);
    }
    program_sleep_ns(1000000);
    used[0] = program_cpu_ns(0) - used[0];
    used[1] = program_cpu_ns(server) - used[1];
    const struct figure figures[] = {
        {"connections", n},
        {"cpu_ns", (double)(used[0] + used[1]) / n},
        {"client_cpu_ns", (double)used[0] / n},
        {"server_cpu_ns", (double)used[1] / n},
        {"kernel_share", 1 - (double)moved / n},
    };
    program_print(figures, sizeof(figures) / sizeof(figures[0]), json);
    atomic_store(&shared->over, 1);
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
    program_reap(server, "server process");
}

int main(int argc, char **argv)
{
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int option, cpus[2] = {-1, -1};
    unsigned conns = 1;
    bool json = false;
    pid_t server;

    while ((option = getopt(argc, argv, "c:S:C:j")) >= 0) {
        if (option == 'c')
            conns = (unsigned)program_number('c', optarg, 1, CONNS_MAX);
        else if (option == 'S' || option == 'C')
            cpus[option == 'C'] =
                (int)program_number((char)option, optarg, 0, 1023);
        else if (option == 'j')
            json = true;
        else
            program_die("usage: upgrade [-c connections] [-S server cpu] "
                        "[-C client cpu] [-j]");
    }
    if (shared == MAP_FAILED)
        program_die("mmap: %s", strerror(errno));
    program_all_descriptors();
    server = fork();
    if (server < 0)
        program_die("fork: %s", strerror(errno));
    if (server == 0) {
        serve(shared, conns, cpus[0]);
        return 0;
    }
    measure(shared, server, conns, cpus[1], json);
    return 0;
}
