/*
 * usage: crowd THREADS REST
 *
 * One process writes to many threads of another, each of which waits at a
 * connection of its own, while none of them gets to run: all have to be woken.
 * At first they rest for so many ms.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { MOST = 600, STUCK_S = 40 };

static int fd[MOST];
static unsigned rest_ms;

/* The first byte comes while they rest, the second is the one waited for. */
static void *waits(void *arg)
{
    int *mine = arg;
    char c;

    sleep_ms(rest_ms);
    for (int i = 0; i < 2; i++)
        if (recv(*mine, &c, 1, 0) != 1 || send(*mine, &c, 1, 0) != 1)
            die("a thread: %s", strerror(errno));
    return NULL;
}

static void be_crowd(uint16_t port, int n)
{
    pthread_t thread[MOST];

    time_limit(STUCK_S);
    for (int i = 0; i < n; i++) {
        fd[i] = tcp_connect("4", port);
        if (pthread_create(&thread[i], NULL, waits, &fd[i]) != 0)
            die("pthread_create");
    }
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    exit(0);
}

static void answered(int n)
{
    char c;

    for (int i = 0; i < n; i++)
        if (recv(fd[i], &c, 1, 0) != 1)
            die("no answer from %d: %s", i, strerror(errno));
}

static void send_all(int n)
{
    for (int i = 0; i < n; i++)
        if (send(fd[i], "", 1, MSG_NOSIGNAL) != 1)
            die("send: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    int n = argc == 3 ? atoi(argv[1]) : 0, status;
    uint16_t port;
    int listener;
    pid_t crowd;

    if (n < 1 || n > MOST)
        die("usage: crowd THREADS REST");
    time_limit(STUCK_S);
    rest_ms = (unsigned)atoi(argv[2]);
    listener = tcp_listen("4", &port);
    crowd = fork();
    if (crowd == 0)
        be_crowd(port, n);
    for (int i = 0; i < n; i++)
        fd[i] = accept(listener, NULL, NULL);
    send_all(n);
    answered(n);
    sleep_ms(200); /* they sleep again */
    kill(crowd, SIGSTOP);
    waitpid(crowd, &status, WUNTRACED);
    send_all(n);
    kill(crowd, SIGCONT);
    answered(n);
    if (waitpid(crowd, &status, 0) != crowd || status != 0)
        die("the crowd ended with %d", status);
    printf("all were woken\n");
    return 0;
}
