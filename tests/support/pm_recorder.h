/*
 * Records every write to a pool, so that a test can build the images that a
 * crash could have left.
 *
 * A store is in flight until a fence that follows its flush. A crash keeps any
 * subset of the stores in flight, in units of 8 bytes, whether flushed or not
 * (a line may be evicted at any time). recorder_image() builds one such image.
 * The recorder also compares the pool with what it was told: a store past
 * persist.h is noticed at the next fence.
 *
 * It can leave out what it should do, to prove that a test would notice.
 */
#ifndef TESTS_SUPPORT_PM_RECORDER_H
#define TESTS_SUPPORT_PM_RECORDER_H

#include "store/pm/persist.h"

#define RECORDER_MAX 65536 /* units in flight */

enum recorder_fault {
    FAULT_NONE,
    FAULT_NO_FIRST_FENCE,  /* every odd fence does nothing */
    FAULT_NO_SECOND_FENCE, /* every even fence does nothing */
    FAULT_NO_COPY_FLUSH,   /* copied bytes are not written back */
    FAULT_NO_FILLED_FLUSH, /* nor bytes filled by others */
    FAULT_NO_WORD_FLUSH,   /* nor words of the table */
    FAULT_NO_STATE_FLUSH   /* nor words of the header */
};

struct recorder_unit {
    uint32_t idx; /* of the 8 bytes in the pool */
    bool flushed;
    uint64_t value;
};

struct recorder {
    struct pm_hook hook; /* hand it to kv_open_hooked() */
    struct pm *pm;       /* known after the first call */
    uint64_t *durable;   /* what survives for certain */
    uint64_t *view;      /* what the program sees */
    struct recorder_unit *flight;
    size_t n_flight;
    size_t words; /* of the pool */
    unsigned long fences;
    unsigned long flushes;
    bool started; /* fences counted for faults, points reported */
    bool past_us; /* a store did not come through persist.h */
    enum recorder_fault fault;
    /* Called before each fence: the crash may happen here. */
    void (*point)(void *context, struct recorder *recorder);
    void *context;
};

/* path: the pool as it is now; all of it is durable. False: no memory. */
bool recorder_init(struct recorder *recorder, const char *path);
void recorder_fini(struct recorder *recorder);

/* From now on faults happen and points are reported. */
void recorder_start(struct recorder *recorder);

/* The pool after a crash that keeps those units in flight whose keep[] is set;
 * out has words * 8 bytes. */
void recorder_image(const struct recorder *recorder, const unsigned char *keep,
                    uint64_t *out);

#endif
