/*
 * One TCP connection between two processes of this machine, forked before
 * they open anything: messages to and fro, or one way as fast as they go. With
 * -u it is a pair of Unix sockets: the shortest way that the kernel has.
 *
 * Ping-pong measures the round trip of one message, which comes back
 * unchanged or the program fails. A stream is counted where it arrives,
 * between two moments both processes know; its bytes follow a pattern whose
 * period fits no message, checked at both ends of each read (-x: everywhere).
 */
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
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support/histogram.h"
#include "bench/support/program.h"
#include "bench/support/socket.h"

enum {
    SIZE_MAX_MESSAGE = 4 << 20,
    READ_SIZE = 256 << 10,
    PERIOD = 4032, /* of the pattern: keeps lines aligned, fits no size */
    BYTES_PER_LOOK = 64 << 10 /* sent between two looks at the clock */
};

struct options {
    bool stream;
    bool epoll;
    bool check_all;
    bool local; /* Unix sockets */
    bool json;
    size_t size;
    int server_cpu; /* -1: wherever */
    int client_cpu;
    double warm_seconds;
    double seconds;
};

/* Between the two processes; plain fields are read after the child's end. */
struct shared {
    atomic_uint port;  /* 0 until the server listens */
    uint64_t begin_ns; /* of the measurement; set before the fork */
    uint64_t end_ns;
    uint64_t received; /* by the server of a stream, in that time */
    uint64_t received_by_kernel;
    double received_seconds;
};

struct end {
    int fd;
    int epoll; /* -1: blocking reads */
};

static struct end open_end(int fd, bool epoll)
{
    struct end e = {.fd = fd, .epoll = -1};
    struct epoll_event event = {.events = EPOLLIN};

    if (fd < 0)
        program_die("cannot connect the two processes: %s", strerror(-fd));
    if (!epoll)
        return e;
    e.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (e.epoll < 0 || epoll_ctl(e.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        program_die("epoll: %s", strerror(errno));
    return e;
}

/* Bytes read, 0 at the end of the stream; dies on failure. */
static size_t receive(struct end *e, void *buf, size_t size)
{
    struct epoll_event event;
    ssize_t n;

    do {
        n = e->epoll < 0 ? 1 : epoll_wait(e->epoll, &event, 1, -1);
        if (n > 0)
            n = read(e->fd, buf, size);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        program_die("read: %s", strerror(errno));
    return (size_t)n;
}

/* False when the stream ended before the first byte. */
static bool receive_all(struct end *e, char *buf, size_t size)
{
    size_t have = 0;

    while (have < size) {
        size_t n = receive(e, buf + have, size - have);

        if (n == 0 && have == 0)
            return false;
        if (n == 0)
            program_die("the connection ended inside a message");
        have += n;
    }
    return true;
}

static void transmit(struct end *e, const void *buf, size_t size)
{
    int rc = socket_send_all(e->fd, buf, size);

    if (rc < 0)
        program_die("send: %s", strerror(-rc));
}

static void *allocate(size_t size)
{
    void *p = malloc(size);

    if (!p)
        program_die("no memory for %zu bytes: a smaller message (-b)", size);
    memset(p, 0, size);
    return p;
}

static void fill_pattern(char *buf, size_t size)
{
    for (size_t i = 0; i < size; i++)
        buf[i] = (char)((i % PERIOD) * 2654435761u >> 13);
}

static void serve_echo(struct end *e, const struct options *o)
{
    char *buf = allocate(o->size);

    while (receive_all(e, buf, o->size))
        transmit(e, buf, o->size);
    free(buf);
}

static void check_piece(const char *buf, size_t len, const char *pattern,
                        uint64_t off, bool all)
{
    size_t edge = len < 8 ? len : 8;
    size_t first = all ? len : edge;

    for (size_t i = 0; i < first; i += PERIOD) {
        size_t n = first - i < PERIOD ? first - i : PERIOD;

        if (memcmp(buf + i, pattern + (off + i) % PERIOD, n) != 0)
            program_die("wrong bytes at offset %llu of the stream",
                        (unsigned long long)(off + i));
    }
    if (memcmp(buf + len - edge, pattern + (off + len - edge) % PERIOD, edge))
        program_die("wrong bytes before offset %llu of the stream",
                    (unsigned long long)(off + len));
}

static void serve_stream(struct end *e, const struct options *o,
                         struct shared *shared)
{
    char *buf = allocate(READ_SIZE);
    char *pattern = allocate(2 * PERIOD);
    uint64_t off = 0, off_begin = 0, kernel = 0, begin = 0, end = 0;
    size_t n;

    fill_pattern(pattern, 2 * PERIOD);
    while ((n = receive(e, buf, READ_SIZE)) > 0) {
        uint64_t now = program_now_ns();

        check_piece(buf, n, pattern, off, o->check_all);
        off += n;
        if (!begin && now >= shared->begin_ns) {
            begin = now;
            off_begin = off;
            kernel = socket_kernel_bytes(e->fd);
        } else if (begin && !end && now >= shared->end_ns) {
            end = now;
            shared->received = off - off_begin;
            shared->received_by_kernel = socket_kernel_bytes(e->fd) - kernel;
            shared->received_seconds = (double)(end - begin) / 1e9;
        }
    }
    free(pattern);
    free(buf);
}

/* The server's end of the only connection. */
static int accept_one(struct shared *shared)
{
    uint16_t port = 0;
    int listener = socket_listen(&port);
    int fd;

    if (listener < 0)
        program_die("cannot listen on 127.0.0.1: %s", strerror(-listener));
    atomic_store(&shared->port, port);
    fd = socket_accept(listener);
    close(listener);
    return fd;
}

/* fd: this end of a pair of Unix sockets, -1 without -u. */
static void serve(const struct options *o, struct shared *shared, int fd)
{
    struct end e;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (o->server_cpu >= 0)
        program_pin(o->server_cpu);
    e = open_end(fd < 0 ? accept_one(shared) : fd, o->epoll);
    if (o->stream)
        serve_stream(&e, o, shared);
    else
        serve_echo(&e, o);
    close(e.fd);
}

/* Processor time of both ends since the last call. */
static void lap(uint64_t cpu[2], pid_t server)
{
    cpu[0] = program_cpu_ns(0) - cpu[0];
    cpu[1] = program_cpu_ns(server) - cpu[1];
}

static void send_stream(struct end *e, const struct options *o,
                        const struct shared *shared, pid_t server,
                        uint64_t cpu[2])
{
    size_t per_look = o->size < BYTES_PER_LOOK ? BYTES_PER_LOOK / o->size : 1;
    char *buf = allocate(o->size + PERIOD);
    uint64_t off = 0, now = program_now_ns();
    bool measuring = false;

    fill_pattern(buf, o->size + PERIOD);
    while (now < shared->end_ns) {
        for (size_t i = 0; i < per_look; i++) {
            transmit(e, buf + off % PERIOD, o->size);
            off += o->size;
        }
        now = program_now_ns();
        if (!measuring && now >= shared->begin_ns) {
            measuring = true;
            lap(cpu, server);
        }
    }
    lap(cpu, server);
    /* The receiver closes its account at the first read after the end. */
    program_sleep_ns(2000000);
    transmit(e, buf + off % PERIOD, 1);
    free(buf);
}

static void play(struct end *e, const struct options *o,
                 const struct shared *shared, pid_t server, uint64_t cpu[2],
                 struct histogram *h, double *share)
{
    char *sent = allocate(o->size), *got = allocate(o->size);
    uint64_t now = program_now_ns(), kernel = 0;
    bool measuring = false;

    fill_pattern(sent, o->size);
    while (now < shared->end_ns) {
        uint64_t before = now;

        transmit(e, sent, o->size);
        if (!receive_all(e, got, o->size))
            program_die("the other end closed the connection");
        now = program_now_ns();
        if (memcmp(sent, got, o->size) != 0)
            program_die("a message came back changed");
        sent[h->n % o->size]++;
        histogram_add(h, now - before, 1);
        if (!measuring && now >= shared->begin_ns) {
            measuring = true;
            histogram_clear(h);
            lap(cpu, server);
            kernel = socket_kernel_bytes(e->fd);
        }
    }
    lap(cpu, server);
    if (h->n == 0)
        program_die("measured nothing: longer (-s)");
    kernel = socket_kernel_bytes(e->fd) - kernel;
    *share = (double)kernel / ((double)h->n * (double)o->size);
    free(got);
    free(sent);
}

static void print_pingpong(const struct histogram *h, const uint64_t cpu[2],
                           double share, bool json)
{
    const struct figure figures[] = {
        {"round_trips", (double)h->n},
        {"per_second", 1e9 * (double)h->n / (double)h->sum},
        {"mean_ns", histogram_mean(h)},
        {"p50_ns", histogram_quantile(h, 0.5)},
        {"p99_ns", histogram_quantile(h, 0.99)},
        {"p999_ns", histogram_quantile(h, 0.999)},
        {"max_ns", (double)h->max},
        {"client_cpu_ns", (double)cpu[0] / (double)h->n},
        {"server_cpu_ns", (double)cpu[1] / (double)h->n},
        {"kernel_share", share},
    };

    program_print(figures, sizeof(figures) / sizeof(figures[0]), json);
}

static void print_stream(const struct options *o, const struct shared *shared,
                         const uint64_t cpu[2])
{
    double bytes = (double)shared->received;
    double messages = bytes / (double)o->size;

    if (shared->received == 0)
        program_die("measured nothing: longer (-s)");
    const struct figure figures[] = {
        {"bytes", bytes},
        {"mb_per_second", bytes / 1e6 / shared->received_seconds},
        {"per_second", messages / shared->received_seconds},
        {"client_cpu_ns", (double)cpu[0] / messages},
        {"server_cpu_ns", (double)cpu[1] / messages},
        {"kernel_share", (double)shared->received_by_kernel / bytes},
    };
    program_print(figures, sizeof(figures) / sizeof(figures[0]), o->json);
}

/* The client's end of the only connection. */
static int connect_one(struct shared *shared)
{
    uint64_t deadline = program_now_ns() + 5000000000u;
    char port[8];

    while (atomic_load(&shared->port) == 0) {
        if (program_now_ns() > deadline)
            program_die("the server process did not listen within 5 seconds");
        program_sleep_ns(200000);
    }
    snprintf(port, sizeof(port), "%u", atomic_load(&shared->port));
    return socket_connect("127.0.0.1", port);
}

static void measure(const struct options *o, struct shared *shared,
                    pid_t server, int fd)
{
    static struct histogram latency;
    uint64_t cpu[2] = {0};
    double share;
    struct end e;

    if (o->client_cpu >= 0)
        program_pin(o->client_cpu);
    e = open_end(fd < 0 ? connect_one(shared) : fd, o->epoll);
    if (o->stream)
        send_stream(&e, o, shared, server, cpu);
    else
        play(&e, o, shared, server, cpu, &latency, &share);
    close(e.fd);
    program_reap(server, "server process");
    if (o->stream)
        print_stream(o, shared, cpu);
    else
        print_pingpong(&latency, cpu, share, o->json);
}

static bool parse_word(char option, const char *text, const char *no,
                       const char *yes)
{
    if (strcmp(text, yes) != 0 && strcmp(text, no) != 0)
        program_die("-%c expects %s or %s, got \"%s\"", option, no, yes, text);
    return strcmp(text, yes) == 0;
}

static void parse_options(struct options *o, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "m:w:b:S:C:W:s:xuj")) >= 0) {
        if (option == 'm')
            o->stream = parse_word('m', optarg, "pingpong", "stream");
        else if (option == 'w')
            o->epoll = parse_word('w', optarg, "read", "epoll");
        else if (option == 'b')
            o->size = (size_t)program_number('b', optarg, 1, SIZE_MAX_MESSAGE);
        else if (option == 'S')
            o->server_cpu = (int)program_number('S', optarg, 0, 1023);
        else if (option == 'C')
            o->client_cpu = (int)program_number('C', optarg, 0, 1023);
        else if (option == 'W')
            o->warm_seconds = program_seconds('W', optarg, 0, 600);
        else if (option == 's')
            o->seconds = program_seconds('s', optarg, 0.01, 3600);
        else if (option == 'x')
            o->check_all = true;
        else if (option == 'u')
            o->local = true;
        else if (option == 'j')
            o->json = true;
        else
            program_die("usage: pingpong [-m pingpong|stream] [-w read|epoll] "
                        "[-b message size] [-S server cpu] [-C client cpu] "
                        "[-W warm-up seconds] [-s seconds] [-x] [-u] [-j]");
    }
}

int main(int argc, char **argv)
{
    struct options o = {.size = 64,
                        .server_cpu = -1,
                        .client_cpu = -1,
                        .warm_seconds = 0.3,
                        .seconds = 1};
    struct shared *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int pair[2] = {-1, -1};
    pid_t server;

    parse_options(&o, argc, argv);
    if (shared == MAP_FAILED)
        program_die("mmap: %s", strerror(errno));
    if (o.local && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        program_die("socketpair: %s", strerror(errno));
    shared->begin_ns = program_now_ns() + (uint64_t)(o.warm_seconds * 1e9);
    shared->end_ns = shared->begin_ns + (uint64_t)(o.seconds * 1e9);
    server = fork();
    if (server < 0)
        program_die("fork: %s", strerror(errno));
    if (o.local)
        close(pair[server != 0]);
    if (server == 0) {
        serve(&o, shared, pair[1]);
        return 0;
    }
    measure(&o, shared, server, pair[0]);
    return 0;
}
