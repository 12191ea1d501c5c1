/*
 * usage: held TURNS
 *
 * A handler interrupts a thread that waits in recv(2), sends it the byte it
 * waits for, and then writes to a young connection while the library moves
 * that one, so that the write is held for a moment: recv has to return.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { STUCK_S = 30, WRITE_US = 4000 };

static int near_end, far_end, young, other_end;

static void on_signal(int number)
{
    uint64_t until = now_us() + WRITE_US;
    char c;

    (void)number;
    if (send(far_end, "", 1, MSG_NOSIGNAL) != 1)
        die("send");
    while (now_us() < until) {
        if (send(young, "", 1, MSG_NOSIGNAL) != 1)
            die("send to the young one");
        recv(other_end, &c, 1, MSG_DONTWAIT);
    }
}

static void nothing(int number)
{
    (void)number;
}

static void *interrupts(void *thread)
{
    sleep_ms(2); /* it sleeps by then, mostly */
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sigaction restart = {.sa_handler = on_signal,
                                .sa_flags = SA_RESTART};
    struct sigaction interrupt = {.sa_handler = nothing};
    pthread_t self = pthread_self(), other;
    ssize_t rc;
    char c;

    if (argc != 2)
        die("usage: held TURNS");
    time_limit(STUCK_S);
    sigaction(SIGUSR1, &restart, NULL);
    sigaction(SIGUSR2, &interrupt, NULL); /* now there are both kinds */
    tcp_pair("4", 0, &near_end, &far_end);
    for (int i = 0; i < 20; i++)
        if (send(far_end, "", 1, 0) != 1 || recv(near_end, &c, 1, 0) != 1)
            die("the first bytes");
    time_to_move();
    for (int i = 0; i < atoi(argv[1]); i++) {
        tcp_pair("4", 0, &young, &other_end);
        if (pthread_create(&other, NULL, interrupts, &self) != 0)
            die("pthread_create");
        do /* the library is not sure which handler ran */
            rc = recv(near_end, &c, 1, 0);
        while (rc < 0 && errno == EINTR);
        if (rc != 1)
            die("recv: %s", strerror(errno));
        pthread_join(other, NULL);
        close(young);
        close(other_end);
    }
    printf("all were told\n");
    return 0;
}
