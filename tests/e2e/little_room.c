/*
 * usage: little_room
 *
 * A writer finds some room, if not much, and waits for more of it; the reader
 * takes a part of what is there and then no more. The writer is told of room
 * by then, as it would be if it asked again.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

/* Of a ring of 65536: just above two thirds of it, and less than a quarter. */
enum { WRITTEN = 50000, TAKEN = 15000, STUCK_S = 20 };

static int near_end, far_end;
static char bytes[WRITTEN];

static void take(size_t len)
{
    while (len > 0) {
        ssize_t rc = recv(far_end, bytes, len, 0);

        if (rc <= 0)
            die("recv");
        len -= (size_t)rc;
    }
}

static void *waits(void *arg)
{
    struct pollfd p = {.fd = near_end, .events = POLLOUT};

    (void)arg;
    if (poll(&p, 1, -1) != 1)
        die("poll");
    return NULL;
}

int main(void)
{
    pthread_t writer;

    time_limit(STUCK_S);
    tcp_pair("4", 0, &near_end, &far_end);
    if (send(near_end, bytes, 1, 0) != 1)
        die("send");
    take(1);
    time_to_move();
    if (send(near_end, bytes, WRITTEN, 0) != WRITTEN ||
        pthread_create(&writer, NULL, waits, NULL) != 0)
        die("send and wait");
    sleep_ms(200); /* it sleeps */
    take(TAKEN);
    pthread_join(writer, NULL);
    printf("room was told of\n");
    return 0;
}
