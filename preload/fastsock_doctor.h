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
#include <stdint.h>
#include <stdio.h>

#include "config/settings.h"

enum doctor_mark { DOCTOR_OK, DOCTOR_MISSING, DOCTOR_HINT };

enum { DOCTOR_WHY_MAX = 192, DOCTOR_LIST_MAX = 512 };

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

/*
 * Examines everything and prints it with the verdicts. True: the first of
 * the setting transports is usable.
 */
bool doctor_examine(struct doctor *doctor);

/* ---- for the parts ---- */

/* Is it this machine, and no saved tree? Then things can be tried. */
bool doctor_live(const struct doctor *doctor);

/* A line. */
void doctor_say(struct doctor *doctor, enum doctor_mark mark,
                const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The transport is not usable; the first reason stays. */
void doctor_lacks(struct doctor_verdict *verdict, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Adds one to `list`, separated by ", "; what does not fit is left out. */
void doctor_list(char *list, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void doctor_examine_memory(struct doctor *doctor);
void doctor_examine_rdma(struct doctor *doctor);
void doctor_examine_devices(struct doctor *doctor);
void doctor_examine_host(struct doctor *doctor);

/* Bytes that the RDMA transport locks for the first stream to a peer, and
 * for each further one, without what a driver locks for its queues. */
uint64_t doctor_locked_first(uint64_t ring_size);
uint64_t doctor_locked_next(uint64_t ring_size);

/* How many numbers are in "0-3,8"; 0 if it is no such list. */
unsigned doctor_count_list(const char *list);

#endif
