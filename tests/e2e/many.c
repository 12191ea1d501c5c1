/*
 * usage: many PORT CONNECTIONS SEED ROUNDS GOFILE
 *
 * Many connections to an echo server, most of them idle: in each round a few
 * at random send and wait for their echo, in one epoll set with edges. Before
 * that all of them say a word now and then, until the file is there: a
 * connection leaves TCP while it is used.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { MOST = 10000, PIECE = 300 };

static struct {
    int fd;
    uint64_t out, in;
} conn[MOST];

static void take(int set, unsigned n, unsigned awaited)
{
    struct epoll_event events[16];
    uint8_t buf[PIECE];
    uint64_t missing = awaited;

    while (missing > 0) {
        int got = epoll_wait(set, events, 16, 5000);

        if (got <= 0)
            die("no event, %llu bytes are missing",
                (unsigned long long)missing);
        for (int i = 0; i < got; i++) {
            uint64_t at = events[i].data.u64;
            ssize_t rc;

            if (at >= n)
                die("an event of nobody");
            while ((rc = read(conn[at].fd, buf, sizeof(buf))) > 0) {
                if (pattern_check(at, conn[at].in, buf, (size_t)rc) >= 0)
                    die("connection %llu: wrong bytes", (unsigned long long)at);
                conn[at].in += (uint64_t)rc;
                missing -= (uint64_t)rc;
            }
            if (rc == 0 || errno != EAGAIN)
                die("connection %llu ended", (unsigned long long)at);
        }
    }
}

static void put(uint64_t at, size_t len)
{
    uint8_t buf[PIECE];

    pattern_fill(at, conn[at].out, buf, len);
    if (write(conn[at].fd, buf, len) != (ssize_t)len)
        die("write");
    conn[at].out += len;
}

static void a_word_of_each(int set, unsigned n)
{
    enum { AT_ONCE = 50 };

    for (unsigned at = 0; at < n; at += AT_ONCE) {
        unsigned some = n - at < AT_ONCE ? n - at : AT_ONCE;

        for (unsigned i = 0; i < some; i++)
            put(at + i, 1);
        take(set, n, some);
    }
}

int main(int argc, char **argv)
{
    uint64_t chance, total = 0, kernel = 0;
    unsigned n, rounds;
    int set;

    if (argc < 6 || (n = (unsigned)atoi(argv[2])) > MOST || n == 0)
        die("usage: many PORT CONNECTIONS SEED ROUNDS GOFILE");
    time_limit(240);
    chance = strtoull(argv[3], NULL, 10);
    rounds = (unsigned)atoi(argv[4]);
    set = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = i};

        conn[i].fd = tcp_connect("4", (uint16_t)atoi(argv[1]));
        make_nonblocking(conn[i].fd);
        epoll_ctl(set, EPOLL_CTL_ADD, conn[i].fd, &event);
    }
    while (access(argv[5], F_OK) < 0) {
        a_word_of_each(set, n);
        sleep_ms(100);
    }
    for (unsigned round = 0; round < rounds; round++) {
        unsigned some = 1 + (unsigned)random_below(&chance, 5), awaited = 0;

        for (unsigned k = 0; k < some; k++) {
            uint64_t at = random_below(&chance, n);
            size_t len = 1 + random_below(&chance, PIECE);

            put(at, len);
            awaited += (unsigned)len;
        }
        take(set, n, awaited);
        total += awaited;
    }
    for (unsigned i = 0; i < n; i++) {
        kernel += kernel_sent(conn[i].fd);
        close(conn[i].fd);
    }
    printf("bytes %llu kernel_sent %llu\n", (unsigned long long)total,
           (unsigned long long)kernel);
    return 0;
}
