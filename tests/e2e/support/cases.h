/*
 * Programs of many small cases: each gets a process and a settled connection
 * of its own, and prints what every call said. The output on kernel TCP and
 * under the library has to be the same, line for line; compare_cases in
 * tests/e2e/lib.inc sees to that, and looks at the counters as `path` asks.
 */
#ifndef TESTS_E2E_SUPPORT_CASES_H
#define TESTS_E2E_SUPPORT_CASES_H

#include <stddef.h>
#include <sys/types.h>

#include "tests/e2e/support/plain.h"

/* What the library's counters have to say of the case's connection. */
enum path {
    GOES_UP, /* it was on a link */
    STAYS,   /* and no call brought it back */
    RETURNS, /* and one did */
    UNSEEN   /* never was: the library must not even try */
};

struct test_case {
    const char *name;
    void (*run)(void);
    enum path path;
};

extern int a, b; /* of the case's connection: the client, the server */

/* argv[1], if there is one, names the only case to run. Returns for main. */
int run_cases(const struct test_case *cases, size_t n, int argc, char **argv);

/* "  what: rc ERROR", the error only where there is one. */
void said(const char *what, ssize_t rc);
/* What poll says of it, besides. */
void show_events(const char *what, int fd);
/* Reads to the end and says how much there was. */
void read_all(const char *what, int fd);
/* Some words each way, and time for the library to move the stream. */
void settle_pair(int c, int d);
/* Echoes words of four bytes until one begins with "last", which stays. */
void echo_words(int fd, char *word);
/* The bytes arrive in this order at the other end, and say so. */
void talk(const char *word, int from, int to);

#endif
