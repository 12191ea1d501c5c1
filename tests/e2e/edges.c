/*
 * usage: edges CONNECTIONS ROUNDS
 *
 * Ping-pong between two processes, each with all its connections in one epoll
 * set, registered once for reading and writing with edges. They are writable
 * all the time, so each arrival has to be told beside that. A busy machine has
 * fewer rounds; the last line says how many bytes went each way.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { MOST = 32, LIMIT_S = 40, ENOUGH_MS = 12000, EDGE_MS = 8000 };

static int fd[MOST];
static unsigned n, rounds;

static void add_all(int set)
{
    for (unsigned i = 0; i < n; i++) {
        struct epoll_event event = {
            .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = i};

        make_nonblocking(fd[i]);
        if (epoll_ctl(set, EPOLL_CTL_ADD, fd[i], &event) < 0)
            die("epoll_ctl: %s", strerror(errno));
    }
}

static void say(unsigned i, char c)
{
    if (write(fd[i], &c, 1) != 1)
        die("write: %s", strerror(errno));
}

/*
 * Answers each byte of each connection; who began does not answer the last,
 * and says "z" for the last but one when there was enough. How many there were.
 */
static uint64_t answer(bool began)
{
    struct epoll_event events[MOST];
    unsigned had[MOST] = {0}, left = n;
    uint64_t until = now_ms() + ENOUGH_MS, all = 0;
    bool last[MOST] = {false};
    int set = epoll_create1(0);

    add_all(set);
    while (left > 0) {
        int got = epoll_wait(set, events, MOST, EDGE_MS);

        if (got <= 0)
            die("no event, %u connections are left", left);
        for (int k = 0; k < got; k++) {
            unsigned i = events[k].data.u32;
            char c;

            if (!(events[k].events & EPOLLIN))
                continue;
            while (had[i] < rounds && read(fd[i], &c, 1) == 1) {
                all++;
                had[i] = last[i] || c == 'z' ? rounds : had[i] + 1;
                if (had[i] == rounds)
                    left--;
                last[i] = began && now_ms() >= until;
                if (!began || had[i] < rounds)
                    say(i, last[i] ? 'z' : 'x');
            }
        }
    }
    return all;
}

int main(int argc, char **argv)
{
    uint16_t port;
    uint64_t all;
    int listener;
    pid_t other;

    time_limit(LIMIT_S);
    if (argc != 3)
        die("usage: edges CONNECTIONS ROUNDS");
    n = (unsigned)atoi(argv[1]);
    rounds = (unsigned)atoi(argv[2]);
    if (n == 0 || n > MOST)
        die("1 to %d connections", MOST);
    listener = tcp_listen("4", &port);
    other = fork_limited(LIMIT_S);
    for (unsigned i = 0; i < n; i++)
        fd[i] =
            other == 0 ? accept(listener, NULL, NULL) : tcp_connect("4", port);
    if (other != 0)
        for (unsigned i = 0; i < n; i++)
            say(i, 'x');
    all = answer(other != 0);
    if (other == 0)
        exit(0);
    if (child_status(other) != 0)
        die("the other process failed");
    printf("%u connections, %llu bytes\n", n, (unsigned long long)all);
    return 0;
}
