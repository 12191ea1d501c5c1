/*
 * usage: turns SECONDS
 *
 * More threads wait on a stream, one after the other, than it has places for
 * those that it wakes: in each turn a new reader, which waits for one byte,
 * and a new writer, which waits for room, begin at the same time. Each takes
 * the place of one that waits no more, never that of the other.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/e2e/support/plain.h"

enum { MORE_THAN_ROOM = 12288, STUCK_S = 10 };

static int near_end, far_end;

static void *reads(void *arg)
{
    char c;

    (void)arg;
    if (recv(near_end, &c, 1, 0) != 1)
        die("recv");
    return NULL;
}

static void *writes(void *arg)
{
    static const char zeros[MORE_THAN_ROOM];

    (void)arg;
    if (send(near_end, zeros, sizeof(zeros), MSG_NOSIGNAL) !=
        (ssize_t)sizeof(zeros))
        die("send");
    return NULL;
}

static void take(size_t bytes)
{
    static char buf[MORE_THAN_ROOM];
    ssize_t rc;

    while (bytes > 0) {
        rc = recv(far_end, buf, bytes, 0);
        if (rc <= 0)
            die("recv at the far end");
        bytes -= (size_t)rc;
    }
}

int main(int argc, char **argv)
{
    unsigned long turns = 0;
    pthread_t reader, writer;
    uint64_t until;

    if (argc != 2)
        die("usage: turns SECONDS");
    time_limit(STUCK_S + (unsigned)atoi(argv[1]));
    tcp_pair("4", 0, &near_end, &far_end);
    until = now_ms() + 1000 * strtoull(argv[1], NULL, 10);
    for (; now_ms() < until; turns++) {
        if (pthread_create(&reader, NULL, reads, NULL) != 0 ||
            pthread_create(&writer, NULL, writes, NULL) != 0)
            die("pthread_create");
        take(MORE_THAN_ROOM);
        if (send(far_end, "", 1, MSG_NOSIGNAL) != 1)
            die("send");
        pthread_join(reader, NULL);
        pthread_join(writer, NULL);
    }
    fprintf(stderr, "%lu turns\n", turns);
    printf("all were woken\n");
    return 0;
}
