/*
 * A client and a server that stay for many programs: two processes, each with
 * or without the library, that make a program's steps by turns.
 */
#ifndef TESTS_DIFFERENTIAL_PAIR_H
#define TESTS_DIFFERENTIAL_PAIR_H

#include <sys/types.h>

#include "tests/differential/shared.h"

enum { SHARED_FD = 900 };

struct pair {
    enum mode mode;
    struct shared *shared; /* NULL: not started */
    int fd;
    pid_t pid[2];
    uint32_t rounds;
};

/* Where the libraries are, and how much slower this machine is. */
struct pair_setup {
    const char *library, *breaking;
    unsigned slow;
};

enum pair_result {
    PAIR_DONE, /* to its end, or to the first step that differs */
    PAIR_HUNG, /* at shared->turn; the pair is gone */
    PAIR_DIED  /* likewise */
};

/*
 * Starts the pair if it is not there. expected: the kernel's run of the same
 * program (its shared->seen and state), NULL in the mode "kernel".
 */
enum pair_result pair_run(struct pair *pair, const struct pair_setup *setup,
                          const struct program *program,
                          const struct shared *expected);
void pair_end(struct pair *pair);
/* Maps the memory of a pair in an actor. */
struct shared *pair_attach(int fd);
const char *mode_name(enum mode mode);

#endif
