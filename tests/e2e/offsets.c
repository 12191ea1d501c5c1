/*
 * usage: offsets FIRST LAST return|up [wait]
 *
 * For each offset from FIRST to LAST a connection on which both ends send at
 * the same time: that many bytes, then the stream leaves TCP (up) or comes
 * back to it (return), while more bytes are sent in both directions; then up
 * and down again. Every byte is checked at both ends. With "wait" single bytes
 * go back and forth before each return, until none of them goes by TCP: over a
 * device a stream is up some time after its first bytes.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { AFTER = 6000, BUFFER = 16384 };

static const char *six;
static unsigned now_at;
static const char *_Atomic now_doing = "before that";

struct end_of {
    int fd;
    uint64_t seed_out, seed_in, first;
    uint64_t out, in, until;
    pthread_t writer, reader;
};

static void *writes(void *arg)
{
    struct end_of *e = arg;
    uint8_t buf[BUFFER];
    uint64_t chance = e->seed_out;

    while (e->out < e->until) {
        size_t n = 1 + random_below(&chance, 700);
        ssize_t rc;

        if (n > e->until - e->out)
            n = (size_t)(e->until - e->out);
        pattern_fill(e->seed_out, e->out, buf, n);
        rc = send(e->fd, buf, n, MSG_NOSIGNAL);
        if (rc <= 0)
            die("send at %llu", (unsigned long long)e->out);
        e->out += (uint64_t)rc;
    }
    return NULL;
}

static void *reads(void *arg)
{
    struct end_of *e = arg;
    uint8_t buf[BUFFER];
    uint64_t chance = e->seed_in;

    while (e->in < e->until) {
        size_t n = 1 + random_below(&chance, 900);
        ssize_t rc;

        if (n > e->until - e->in)
            n = (size_t)(e->until - e->in);
        rc = recv(e->fd, buf, n, 0);
        if (rc <= 0)
            die("recv at %llu gave %zd", (unsigned long long)e->in, rc);
        if (pattern_check(e->seed_in, e->in, buf, (size_t)rc) >= 0)
            die("wrong byte in [%llu, +%zd)", (unsigned long long)e->in, rc);
        e->in += (uint64_t)rc;
    }
    return NULL;
}

static void start(struct end_of *e, uint64_t bytes)
{
    e->until += bytes;
    if (pthread_create(&e->writer, NULL, writes, e) != 0 ||
        pthread_create(&e->reader, NULL, reads, e) != 0)
        die("pthread_create");
}

static void stop(struct end_of *e)
{
    pthread_join(e->writer, NULL);
    pthread_join(e->reader, NULL);
}

static void both(struct end_of *ends, uint64_t bytes, bool returns)
{
    if (bytes > 1)
        now_doing = returns ? "on the way back" : "before that";
    for (int i = 0; i < 2; i++)
        start(&ends[i], bytes);
    if (returns)
        spawn_true();
    for (int i = 0; i < 2; i++)
        stop(&ends[i]);
}

static uint64_t sent_by_tcp(const struct end_of *ends)
{
    return kernel_sent(ends[0].fd) + kernel_sent(ends[1].fd);
}

static void until_up(struct end_of *ends, unsigned ms, bool waits)
{
    uint64_t before;

    now_doing = "on the way up";
    sleep_ms(ms);
    while (waits) {
        before = sent_by_tcp(ends);
        both(ends, 1, false);
        if (sent_by_tcp(ends) == before)
            return;
        sleep_ms(ms);
    }
}

static void one_offset(unsigned offset, bool returns, bool waits)
{
    struct end_of ends[2] = {
        {.seed_out = offset * 2 + 1, .seed_in = offset * 2},
        {.seed_out = offset * 2, .seed_in = offset * 2 + 1}};

    tcp_pair(offset & 1 || waits ? "4" : six, 0, &ends[0].fd, &ends[1].fd);
    if (returns)
        until_up(ends, 4, waits);
    both(ends, offset, false);
    both(ends, AFTER, returns);
    for (int round = 0; round < 2; round++) {
        until_up(ends, 3, waits);
        both(ends, AFTER + offset, true);
    }
    for (int i = 0; i < 2; i++) {
        shutdown(ends[i].fd, SHUT_WR);
        if (recv(ends[!i].fd, &(char){0}, 1, 0) != 0)
            die("offset %u: no end", offset);
    }
    close(ends[0].fd);
    close(ends[1].fd);
}

static void too_late(int number)
{
    signal(number, SIG_DFL);
    alarm(5);
    die("not done in time: offset %u, %s", now_at, now_doing);
}

int main(int argc, char **argv)
{
    unsigned last;

    if (argc < 4)
        die("usage: offsets FIRST LAST return|up [wait]");
    last = (unsigned)atoi(argv[2]);
    six = six_if_here();
    signal(SIGALRM, too_late);
    for (unsigned at = (unsigned)atoi(argv[1]); at <= last; at++) {
        now_at = at;
        time_limit(10);
        one_offset(at, strcmp(argv[3], "return") == 0, argc > 4);
    }
    return 0;
}
