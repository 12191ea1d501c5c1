/*
 * The log of all that one struct pm was told: every store with its bytes,
 * every flush, every fence, in order, each with the place in the program that
 * asked for it. What a crash may leave is worked out from the log afterwards
 * (explore.h), so one run of a script serves any number of images and mutants.
 *
 * A word is 8 aligned bytes, numbered from the start of the mapping. Call
 * sites are return addresses: all between a call of persist.h and the test has
 * to be compiled with frame pointers.
 */
#ifndef TESTS_CRASH_RECORDER_H
#define TESTS_CRASH_RECORDER_H

#include "store/pm/persist.h"

enum event_kind {
    EVENT_STORE, /* needs a flush */
    EVENT_COPY,  /* a store that is flushed at once */
    EVENT_FLUSH,
    EVENT_FENCE,
    EVENT_OP,   /* first: number of the operation that begins */
    EVENT_ACK,  /* first: operations below it are acknowledged */
    EVENT_LOOK, /* crashes from here to EVENT_SKIP are of interest */
    EVENT_SKIP,
    EVENT_MAKING,  /* kv_open() with a size begins on an empty file */
    EVENT_EMPTY,   /* kv_region_open() has returned, there is no pool yet */
    EVENT_OPENING, /* kv_open() begins */
    EVENT_OPENED,  /* it has returned */
    EVENT_CLOSING, /* kv_close() begins */
    EVENT_CLOSED   /* it has returned */
};

struct event {
    uint32_t kind;
    uint32_t site;  /* of sites_add(), or 0 */
    uint32_t first; /* word; a number with marks */
    uint32_t n;     /* words */
    size_t data;    /* of stores: where in words[] the new words begin */
};

struct sites;

struct recorder {
    struct pm_hook hook; /* for whoever opens the pool */
    struct sites *sites; /* NULL: call sites are not wanted */
    bool keep_base;      /* keep base and view */
    struct event *events;
    size_t n_events, max_events;
    uint64_t *words;
    size_t n_words, max_words;
    uint64_t *base;  /* the pool before events[0] */
    uint64_t *view;  /* the pool as the log says it is now */
    size_t size;     /* words of base and view; 0: not attached yet */
    struct pm *pm;   /* the last one that called */
    bool past_us;    /* a store did not come through persist.h */
    bool fail_fence; /* the next fence fails, and is not in the log */
};

/* sites is borrowed and may be NULL. */
void recorder_init(struct recorder *recorder, struct sites *sites,
                   bool keep_base);
void recorder_fini(struct recorder *recorder);

/* Forget all events; the pool as it is now is the base. */
void recorder_restart(struct recorder *recorder);

/* The same, but the base is the pool when the next call comes. */
void recorder_detach(struct recorder *recorder);

void recorder_mark(struct recorder *recorder, enum event_kind kind,
                   uint32_t number);

/* Bytes that the test itself stored into the mapping. */
void recorder_wrote(struct recorder *recorder, const void *at, size_t len);

/* Compare the pool with what was recorded; sets past_us. */
void recorder_compare(struct recorder *recorder);

#endif
