/*
 * usage: told_once CONNECTIONS
 *
 * Bytes come on young connections, and are read much later, while the library
 * takes the connections out of the kernel. Another one in the set is always
 * ready, and so are many descriptors that are not sockets, so that the kernel
 * takes its time: one epoll_wait(2) reports a registration once. Prints how
 * often one was in a list twice: who reads then for each event gets EAGAIN for
 * the second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { BYTES = 16, AFTER_US = 600, OTHERS = 200, EVENTS = OTHERS + 8 };

static void add(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
        die("EPOLL_CTL_ADD: %s", strerror(errno));
}

static unsigned times(const struct epoll_event *events, int n, int fd)
{
    unsigned found = 0;

    for (int i = 0; i < n; i++)
        found += events[i].data.fd == fd;
    return found;
}

/* For that time: how many lists have it twice. The last one has it once. */
static unsigned lists(int set, int fd, unsigned us)
{
    uint64_t until = now_us() + us;
    struct epoll_event events[EVENTS];
    unsigned twice = 0;
    int n;

    do {
        n = epoll_wait(set, events, EVENTS, 0);
        twice += times(events, n, fd) > 1;
    } while (now_us() < until);
    return twice;
}

/* A byte for each write; the other end is told, and reads none of them yet. */
static unsigned one_connection(int set)
{
    char bytes[BYTES];
    unsigned twice = 0;
    int end[2];

    tcp_pair("4", 0, &end[0], &end[1]);
    add(set, end[0]);
    for (int i = 0; i < BYTES; i++) {
        if (write(end[1], "x", 1) != 1)
            die("write: %s", strerror(errno));
        twice += lists(set, end[0], AFTER_US);
        if (i % 2 == 1 && read(end[0], bytes, 1) != 1)
            die("read: %s", strerror(errno));
    }
    for (int got = 0, n; got < BYTES / 2; got += n)
        if ((n = (int)read(end[0], bytes, sizeof(bytes))) <= 0)
            die("read: %s", strerror(errno));
    close(end[0]);
    close(end[1]);
    return twice;
}

int main(int argc, char **argv)
{
    unsigned connections = argc == 2 ? (unsigned)atoi(argv[1]) : 0;
    int set = epoll_create1(EPOLL_CLOEXEC), busy[2];
    unsigned twice = 0;

    if (connections == 0)
        die("usage: told_once CONNECTIONS");
    time_limit(100);
    tcp_pair("4", 0, &busy[0], &busy[1]);
    add(set, busy[0]);
    for (int i = 0; i < 100; i++) {
        char byte;

        if (write(busy[1], "x", 1) != 1 ||
            (i > 0 && read(busy[0], &byte, 1) != 1))
            die("the busy connection: %s", strerror(errno));
        usleep(200);
    }
    for (int i = 0; i < OTHERS; i++)
        add(set, eventfd(1, EFD_CLOEXEC));
    for (unsigned i = 0; i < connections; i++)
        twice += one_connection(set);
    printf("%u lists with one of them twice\n", twice);
    return twice != 0;
}
