/*
 * One program in every mode, and what came of it; and the smallest program
 * that still differs.
 */
#ifndef TESTS_DIFFERENTIAL_JUDGE_H
#define TESTS_DIFFERENTIAL_JUDGE_H

#include "tests/differential/pair.h"

enum verdict {
    VERDICT_SAME,
    VERDICT_DIFFERS,
    VERDICT_ONCE,    /* it differed, and then not once in many runs */
    VERDICT_UNSTABLE /* the kernel itself does not say the same each time */
};

struct tally {
    uint64_t programs, runs, same, differs, once, unstable;
    uint64_t up;     /* runs with both ends in which a stream left TCP */
    uint64_t both;   /* of so many */
    uint64_t broke;  /* runs in which a link broke */
    uint64_t breaks; /* of so many that were to break one */
    uint64_t not_up, edges_again, added_up, tries, link_bytes;
};

struct judge {
    struct pair pair[MODES];
    struct pair_setup setup;
    unsigned modes;  /* bits */
    unsigned reruns; /* of what differs */
    struct tally tally;
    bool show; /* every step, also of programs that are the same */
    /* of the last one that differed */
    enum mode mode;
    uint32_t at;
    enum pair_result how;
    struct outcome expected[STEPS_MOST], seen[STEPS_MOST];
    uint32_t differed, ran;
};

void judge_init(struct judge *j, const struct pair_setup *setup);
void judge_fini(struct judge *j);
/* The program in all modes of j->modes; stops at the first that differs. */
enum verdict judge_program(struct judge *j, const struct program *p);
/* What differed, in words: steps, expected and seen. */
void judge_explain(const struct judge *j, const struct program *p, FILE *out);
/* Takes steps away as long as it differs in j->mode. */
void judge_minimise(struct judge *j, struct program *p);

#endif
