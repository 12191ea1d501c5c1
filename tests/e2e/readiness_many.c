/*
 * usage: readiness_many [CASE]
 *
 * poll and select of as many numbers as there may be.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

enum { MANY = 66000, WORDS = MANY / 64 + 1 };

static void *puts_later(void *arg)
{
    until_asleep(getpid());
    put(a, "x");
    return arg;
}

/* The last of n is the only one that is open. */
static void polls_n(nfds_t n)
{
    struct pollfd *p = calloc(n, sizeof(*p));
    struct timespec t = {3, 0};

    for (nfds_t i = 0; i < n; i++)
        p[i].fd = -1;
    p[n - 1] = (struct pollfd){b, POLLIN, 0};
    for (int i = 0; i < 2; i++) {
        pthread_t writer = run_thread(puts_later, NULL);

        said(i ? "ppoll" : "poll",
             i ? ppoll(p, n, &t, NULL) : poll(p, n, 3000));
        printf("  events %x\n", (unsigned)p[n - 1].revents);
        end_of(writer);
        take(b, 1);
    }
    free(p);
}

static void may_open(rlim_t n)
{
    struct rlimit limit = {n, n};

    said("limit", setrlimit(RLIMIT_NOFILE, &limit));
}

static void polls_many(void)
{
    may_open(MANY + 1000);
    polls_n(MANY);
}

/* No more are allowed, and nothing of the library's own makes it more. */
static void polls_as_many_as_there_may_be(void)
{
    static struct pollfd more[201];

    may_open(200);
    polls_n(200);
    said("one more", poll(more, 201, 0));
}

static void selects_many(void)
{
    static unsigned long in[WORDS];
    struct timeval tv = {3, 0};
    struct timespec t = {3, 0};

    for (int i = 0; i < 2; i++) {
        pthread_t writer = run_thread(puts_later, NULL);
        fd_set *set_in = (fd_set *)in;

        in[b / 64] |= 1ul << b % 64;
        said(i ? "pselect" : "select",
             i ? pselect(MANY, set_in, NULL, NULL, &t, NULL)
               : select(MANY, set_in, NULL, NULL, &tv));
        printf("  %s\n", in[b / 64] ? "in it" : "NOT IN IT");
        end_of(writer);
        take(b, 1);
    }
}

static const struct test_case cases[] = {
    {"polls_many", polls_many, RETURNS},
    {"polls_as_many_as_there_may_be", polls_as_many_as_there_may_be, RETURNS},
    {"selects_many", selects_many, RETURNS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
