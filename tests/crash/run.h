/*
 * Jobs: a job is one script, run and explored. Workers are processes, one per
 * CPU that this program may use, which share a tally.
 */
#ifndef TESTS_CRASH_RUN_H
#define TESTS_CRASH_RUN_H

#include "tests/crash/explore.h"
#include "tests/crash/script.h"

#define KINDS_MAX 32

struct goal {
    unsigned long images;   /* distinct ones, in all */
    unsigned long per_kind; /* at least, of each kind that there is */
    unsigned seconds;       /* of processor time a worker: more is a failure */
    struct effort effort;
};

struct tally {
    unsigned long jobs;
    unsigned long images;   /* judged */
    unsigned long distinct; /* by hash, over all jobs and workers */
    unsigned long nested;   /* judged, of crashes during recovery */
};

struct totals {
    unsigned long next_job;
    unsigned failed; /* jobs */
    struct tally kinds[KINDS_MAX];
};

/* CPUs that this program may use. */
int run_cpus(void);

/* Start n processes that call work(context, number); wait for them. False:
 * one of them did not end well. */
bool run_workers(int n, void (*work)(void *context, int number), void *context);

/* Shared with children, all zero. NULL: no memory. */
void *run_shared(size_t size);

/*
 * Run and explore one script; its images are added to *tally. A wrong image is
 * kept beside the program, with the sequence that led to it. False: wrong.
 */
bool run_job(const struct script_kind *kind, uint64_t seed,
             const struct effort *effort, struct seen *distinct,
             struct tally *tally);

/* Until the goal is reached. 0, or 1 when something is wrong. */
int run_goal(const struct goal *goal);

/* All mutants, and what became of them. 0, or 1: one survives that nobody has
 * explained. */
int run_mutants(void);

#endif
