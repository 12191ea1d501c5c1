/*
 * fastsock doctor: what each transport finds on this machine, or in a saved
 * tree of another one, and what is missing.
 *
 * Every finding is a line: ok, missing or hint, a subject, a sentence. The
 * files that are read may hold anything: what is printed is ASCII, and what
 * is read is bounded.
 */
#ifndef PRELOAD_FASTSOCK_DOCTOR_H
#define PRELOAD_FASTSOCK_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "config/settings.h"

enum doctor_mark { DOCTOR_OK, DOCTOR_MISSING, DOCTOR_HINT };

enum { DOCTOR_WHY_MAX = 128, DOCTOR_LIST_MAX = 512 };

/* One transport's verdict. */
struct doctor_verdict {
    bool usable;
    char why[DOCTOR_WHY_MAX];      /* not usable: the first thing missing */
    char through[DOCTOR_LIST_MAX]; /* "rxa (10.7.0.1)", or "" */
};

struct doctor {
    FILE *out;
    int root; /* folder that stands for /, or AT_FDCWD: this machine */
    const struct settings *settings;
    struct doctor_verdict shm, verbs;
};

/* Examines everything, prints it with the verdicts; true: the first of the
 * setting `transports` is usable. */
bool doctor_examine(struct doctor *doctor);

/* ---- for the parts ---- */

void doctor_say(struct doctor *doctor, enum doctor_mark mark,
                const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As doctor_say(DOCTOR_MISSING), and the transport is not usable for `why`. */
void doctor_lacks(struct doctor_verdict *verdict, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Is it this machine, and no saved tree? Then things can be tried. */
bool doctor_live(const struct doctor *doctor);

void doctor_examine_rdma(struct doctor *doctor);
void doctor_examine_memory(struct doctor *doctor);
void doctor_examine_host(struct doctor *doctor);

#endif
