/*
 * usage: one_way lt|et|mod|oneshot|lt-norm|et-norm CONNECTIONS BYTES [REST]
 *
 * Bytes go one way only: a writer fills its connections and waits in epoll for
 * room, the reader, another process, takes them one connection after the
 * other. Nothing but room wakes the writer. "mod" asks for room anew after
 * each full write, as nginx does. At first both rest for so many ms, 150 if not
 * said otherwise. "-norm": room goes by its other name.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { MOST = 300, PIECE = 50000, LIMIT_S = 40, ROOM_MS = 8000 };

static struct {
    int fd;
    uint64_t out;
} conn[MOST];

static unsigned n, rest_ms = 150;
static uint64_t bytes;

static void read_all(int listener)
{
    static uint8_t buf[PIECE];

    for (unsigned i = 0; i < n; i++) {
        conn[i].fd = accept(listener, NULL, NULL);
        if (conn[i].fd < 0 || write(conn[i].fd, "", 1) != 1)
            die("accept: %s", strerror(errno));
    }
    sleep_ms(rest_ms);
    for (unsigned i = 0; i < n; i++) {
        uint64_t in = 0;
        ssize_t rc;

        while ((rc = read(conn[i].fd, buf, sizeof(buf))) > 0) {
            if (pattern_check(i, in, buf, (size_t)rc) >= 0)
                die("connection %u: wrong bytes", i);
            in += (uint64_t)rc;
            if (in % 7 == 0)
                sleep_ms(1); /* the writer gets to its end, and sleeps */
        }
        if (rc < 0 || in != bytes)
            die("connection %u ended after %llu bytes", i,
                (unsigned long long)in);
    }
}

/* As much as goes in. False: all has been written. */
static bool fill(unsigned i)
{
    static uint8_t buf[PIECE];

    while (conn[i].out < bytes) {
        uint64_t len = bytes - conn[i].out;
        ssize_t rc;

        if (len > sizeof(buf))
            len = sizeof(buf);
        pattern_fill(i, conn[i].out, buf, (size_t)len);
        rc = write(conn[i].fd, buf, (size_t)len);
        if (rc < 0 && errno == EAGAIN)
            return true;
        if (rc <= 0)
            die("write: %s", strerror(errno));
        conn[i].out += (uint64_t)rc;
    }
    close(conn[i].fd);
    return false;
}

static void add(int set, int op, const char *mode, unsigned i)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP,
                                .data.u32 = i};

    if (strcmp(mode, "lt") == 0)
        event.events = EPOLLOUT;
    else if (strcmp(mode, "lt-norm") == 0)
        event.events = EPOLLWRNORM;
    else if (strcmp(mode, "et-norm") == 0)
        event.events = EPOLLWRNORM | EPOLLET;
    else if (strcmp(mode, "oneshot") == 0)
        event.events = EPOLLOUT | EPOLLONESHOT;
    else
        event.events |= EPOLLET;
    if (epoll_ctl(set, op, conn[i].fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void write_all(uint16_t port, const char *mode)
{
    bool again = strcmp(mode, "mod") == 0 || strcmp(mode, "oneshot") == 0;
    struct epoll_event events[16];
    int set = epoll_create1(0);
    unsigned left = n;
    char hello;

    for (unsigned i = 0; i < n; i++) {
        conn[i].fd = tcp_connect("4", port);
        if (read(conn[i].fd, &hello, 1) != 1)
            die("no greeting");
    }
    sleep_ms(rest_ms);
    for (unsigned i = 0; i < n; i++) {
        make_nonblocking(conn[i].fd);
        add(set, EPOLL_CTL_ADD, mode, i);
    }
    while (left > 0) {
        int got = epoll_wait(set, events, 16, ROOM_MS);

        if (got <= 0)
            die("room was not reported, %u connections are left", left);
        for (int k = 0; k < got; k++) {
            unsigned i = events[k].data.u32;

            if (!(events[k].events & (EPOLLOUT | EPOLLWRNORM)))
                continue;
            if (!fill(i))
                left--;
            else if (again)
                add(set, EPOLL_CTL_MOD, mode, i);
        }
    }
}

int main(int argc, char **argv)
{
    uint16_t port;
    int listener;
    pid_t reader;

    time_limit(LIMIT_S);
    if (argc < 4 || argc > 5)
        die("usage: one_way MODE CONNECTIONS BYTES [REST]");
    n = (unsigned)atoi(argv[2]);
    bytes = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        rest_ms = (unsigned)atoi(argv[4]);
    if (n == 0 || n > MOST)
        die("1 to %d connections", MOST);
    listener = tcp_listen("4", &port);
    reader = fork_limited(LIMIT_S);
    if (reader == 0) {
        read_all(listener);
        exit(0);
    }
    close(listener);
    write_all(port, argv[1]);
    if (child_status(reader) != 0)
        die("the reader failed");
    printf("%u connections, %llu bytes each\n", n, (unsigned long long)bytes);
    return 0;
}
