/*
 * usage: one_shots CONNECTIONS
 *
 * Bytes come one by one on young connections whose ends are registered with
 * EPOLLONESHOT, while the library takes them out of the kernel: epoll(7) tells
 * once, and then not again before EPOLL_CTL_MOD. Prints how many bytes were
 * told twice, or never.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { BYTES = 16, AFTER_US = 250 };

static uint64_t seed = 1;

static int ctl(int set, int op, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.fd = fd};

    return epoll_ctl(set, op, fd, &event);
}

/* How often it is told within that time. */
static unsigned told(int set, unsigned us)
{
    uint64_t until = now_us() + us;
    struct epoll_event event;
    unsigned n = 0;

    do
        n += epoll_wait(set, &event, 1, 0) > 0;
    while (now_us() < until);
    return n;
}

static void one_byte(int set, const int end[2], unsigned *twice,
                     unsigned *never)
{
    struct epoll_event event;
    char byte = 'x';
    unsigned n = told(set, (unsigned)random_below(&seed, AFTER_US));

    if (n != 0)
        die("told of nothing");
    if (write(end[1], &byte, 1) != 1)
        die("write: %s", strerror(errno));
    n = told(set, AFTER_US);
    *twice += n > 1;
    if (n == 0)
        *never += epoll_wait(set, &event, 1, 5000) != 1;
    if (read(end[0], &byte, 1) != 1)
        die("read: %s", strerror(errno));
    if (ctl(set, EPOLL_CTL_MOD, end[0]) < 0)
        die("EPOLL_CTL_MOD: %s", strerror(errno));
}

static void one_connection(unsigned *twice, unsigned *never)
{
    int set = epoll_create1(EPOLL_CLOEXEC), end[2];

    tcp_pair("4", 0, &end[0], &end[1]);
    for (int i = 0; i < 2; i++)
        if (ctl(set, EPOLL_CTL_ADD, end[i]) < 0)
            die("EPOLL_CTL_ADD: %s", strerror(errno));
    for (int i = 0; i < BYTES; i++)
        one_byte(set, end, twice, never);
    close(end[0]);
    close(end[1]);
    close(set);
}

int main(int argc, char **argv)
{
    unsigned connections = argc == 2 ? (unsigned)atoi(argv[1]) : 0;
    unsigned twice = 0, never = 0;

    if (connections == 0)
        die("usage: one_shots CONNECTIONS");
    time_limit(100);
    for (unsigned i = 0; i < connections; i++)
        one_connection(&twice, &never);
    printf("%u twice, %u never\n", twice, never);
    return twice + never != 0;
}
