/*
 * Connections that live for one request of the memcached protocol: connect,
 * one get, its whole reply, close; one after the other.
 *
 * Each connection leaves a TIME_WAIT behind, so against 127.x.x.x the local
 * address changes every few thousand connections: no port is used twice.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/support/histogram.h"
#include "bench/support/program.h"
#include "bench/support/server.h"
#include "bench/support/socket.h"

enum { CONNS_PER_ADDRESS = 8000 };

static const char request[] = "get bench-connects\r\n";
static const char store[] = "set bench-connects 0 0 4\r\n1234\r\n";
static const char reply[] = "VALUE bench-connects 0 4\r\n1234\r\nEND\r\n";

struct target {
    struct sockaddr_in server;
    in_addr_t local; /* host order; 0: the kernel's choice */
    pid_t pid;
};

/* Another address of 127.0.0.0/8 for each run and each address used up. */
static void choose_local(struct target *t, uint64_t n)
{
    uint32_t x = (uint32_t)getpid() * 64 + (uint32_t)(n / CONNS_PER_ADDRESS);

    if (ntohl(t->server.sin_addr.s_addr) >> 24 == 127)
        t->local = 127u << 24 | 1u << 16 | (x * 2654435761u >> 8 & 0xfffeff);
}

static int open_one(const struct target *t)
{
    struct sockaddr_in local = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(t->local)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        program_die("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (t->local) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&local, sizeof(local)) < 0)
            program_die("cannot use the local address %s: %s",
                        inet_ntoa(local.sin_addr), strerror(errno));
    }
    if (connect(fd, (const struct sockaddr *)&t->server, sizeof(t->server)) < 0)
        program_die("cannot connect: %s; is the server running?",
                    strerror(errno));
    return fd;
}

/* Sends text and expects exactly this answer. */
static void ask(int fd, const char *text, const char *answer)
{
    char got[sizeof(reply)];
    size_t len = strlen(answer);

    if (socket_send_all(fd, text, strlen(text)) < 0 ||
        socket_recv_all(fd, got, len) < 0)
        program_die("the server closed a connection before it had answered");
    if (memcmp(got, answer, len) != 0)
        program_die("wrong reply: expected \"%.*s\"", (int)len - 2, answer);
}

static void report(const struct histogram *h, double seconds,
                   const uint64_t cpu[2], bool json)
{
    const struct figure figures[] = {
        {"connections", (double)h->n},
        {"per_second", (double)h->n / seconds},
        {"p50_ns", histogram_quantile(h, 0.5)},
        {"p99_ns", histogram_quantile(h, 0.99)},
        {"max_ns", (double)h->max},
        {"client_cpu_ns", (double)cpu[0] / (double)h->n},
        {"server_cpu_ns", (double)cpu[1] / (double)h->n},
    };

    program_print(figures, sizeof(figures) / sizeof(figures[0]), json);
}

static void measure(struct target *t, double warm, double seconds, bool json)
{
    static struct histogram latency;
    uint64_t now = program_now_ns(), started = 0, cpu[2] = {0};
    uint64_t begin = now + (uint64_t)(warm * 1e9);
    uint64_t end = begin + (uint64_t)(seconds * 1e9);

    for (uint64_t n = 0; now < end; n++) {
        uint64_t before = now;
        int fd;

        if (n % CONNS_PER_ADDRESS == 0)
            choose_local(t, n);
        fd = open_one(t);
        ask(fd, request, reply);
        close(fd);
        now = program_now_ns();
        if (started) {
            histogram_add(&latency, now - before, 1);
        } else if (now >= begin) {
            started = now;
            cpu[0] = program_cpu_ns(0);
            cpu[1] = t->pid ? program_cpu_ns(t->pid) : 0;
        }
    }
    if (latency.n == 0)
        program_die("measured nothing: longer (-s)");
    cpu[0] = program_cpu_ns(0) - cpu[0];
    cpu[1] = t->pid ? program_cpu_ns(t->pid) - cpu[1] : 0;
    report(&latency, (double)(now - started) / 1e9, cpu, json);
}

int main(int argc, char **argv)
{
    struct target target = {
        .server = {.sin_family = AF_INET,
                   .sin_port = htons(11211),
                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    double warm = 0.2, seconds = 1;
    bool json = false;
    int option, fd;

    while ((option = getopt(argc, argv, "h:p:P:W:s:j")) >= 0) {
        if (option == 'h' &&
            inet_pton(AF_INET, optarg, &target.server.sin_addr) != 1)
            program_die("-h expects an IPv4 address, got \"%s\"", optarg);
        else if (option == 'p')
            target.server.sin_port =
                htons((uint16_t)program_number('p', optarg, 1, 65535));
        else if (option == 'P')
            target.pid = (pid_t)program_number('P', optarg, 1, 1 << 30);
        else if (option == 'W')
            warm = program_seconds('W', optarg, 0, 600);
        else if (option == 's')
            seconds = program_seconds('s', optarg, 0.01, 3600);
        else if (option == 'j')
            json = true;
        else if (option == '?')
            program_die("usage: connects [-h address] [-p port] [-P pid of "
                        "the server] [-W warm-up] [-s seconds] [-j]");
    }
    choose_local(&target, 0);
    fd = open_one(&target);
    if (target.pid)
        server_check(fd, PROTOCOL_MEMCACHED, target.pid);
    ask(fd, store, "STORED\r\n");
    close(fd);
    measure(&target, warm, seconds, json);
    return 0;
}
