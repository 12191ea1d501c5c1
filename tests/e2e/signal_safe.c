/*
 * usage: signal_safe [CASE]
 *
 * poll and select in a signal handler, which may have interrupted malloc(3)
 * (signal-safety(7)): they take nothing from it, however long the list is.
 */
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

enum { MANY = 100 };

void *__libc_malloc(size_t size);

static volatile sig_atomic_t in_handler, taken;

/* The program's own, which libraries call as well. */
__attribute__((visibility("default"))) void *malloc(size_t size)
{
    if (in_handler && gettid() == getpid())
        taken++;
    return __libc_malloc(size);
}

static struct pollfd list[MANY];
static volatile int fds[MANY];
static volatile sig_atomic_t n; /* of these */

static void by_poll(void)
{
    for (int i = 0; i < n; i++)
        list[i] = (struct pollfd){fds[i], POLLIN, 0};
    said("poll", poll(list, (nfds_t)n, 0));
    said("in a moment", poll(list, (nfds_t)n, 5));
}

static void by_select(void)
{
    struct timeval moment = {0, 5000};
    int last = 0;
    fd_set in;

    FD_ZERO(&in);
    for (int i = 0; i < n; i++) {
        FD_SET(fds[i], &in);
        last = fds[i] > last ? fds[i] : last;
    }
    said("select", select(last + 1, &in, NULL, NULL, &moment));
    FD_ZERO(&in);
    FD_SET(b, &in);
    said("pselect",
         pselect(b + 1, &in, NULL, NULL, &(struct timespec){0, 0}, NULL));
}

static void (*volatile look)(void);

static void handle(int number)
{
    (void)number;
    in_handler = 1;
    look();
    in_handler = 0;
}

static void looks(void (*how)(void))
{
    signal(SIGUSR1, handle);
    look = how;
    until_moved(a, b);
    fds[0] = b;
    for (int i = 1; i < MANY; i++)
        fds[i] = dup(0);
    for (int i = 0; i < 3; i++) {
        n = i == 1 ? MANY : 1;
        if (i == 2)
            put(a, "x");
        raise(SIGUSR1);
    }
    printf("  taken %d\n", (int)taken);
}

static void polls(void)
{
    looks(by_poll);
}

static void selects(void)
{
    looks(by_select);
}

static const struct test_case cases[] = {
    {"polls", polls, STAYS},
    {"selects", selects, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
