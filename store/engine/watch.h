/*
 * Callbacks of a store: who was evicted, what was missed.
 *
 * A watched store has a table of functions of its own in front of its
 * engine's, so that one that is not watched pays nothing. The engine notes a
 * copy of each item that it evicts; callbacks run when the call that evicted
 * is done, and so may use the store as they like.
 */
#ifndef STORE_ENGINE_WATCH_H
#define STORE_ENGINE_WATCH_H

#include "store/engine/engine_ops.h"

#include <sys/queue.h>

/* An evicted item, until it is told. */
struct watch_note {
    STAILQ_ENTRY(watch_note) link;
    struct kv_item item;
    uint32_t depth; /* 1, or one more than that of whom a callback was told */
    size_t klen;
    unsigned char bytes[]; /* key, value */
};

STAILQ_HEAD(watch_notes, watch_note);

struct watch {
    struct kv_ops ops;          /* ours, or the ones of plain */
    const struct kv_ops *plain; /* what was there before */
    kv_evicted *evicted;        /* NULL: nobody wants to know */
    void *evicted_context;
    kv_missed *missed;
    void *missed_context;
    struct watch_notes notes;
    uint32_t depth; /* of the note that is being told; 0: none */
    bool missing;   /* a callback about a miss is running */
    bool by_hand;   /* somebody else tells: watch_take() */
};

/*
 * An item is being evicted: a note of it, with item's len bytes of room for the
 * value, which the engine fills in. NULL: nobody wants it, or no memory, and
 * then it goes untold.
 */
void *watch_note(struct watch *watch, const void *key, size_t klen,
                 const struct kv_item *item);

/* Watch a store without telling: notes are taken. 0 or -ENOMEM. */
int watch_by_hand(struct kv *kv);

/* All notes so far, in the order of their evictions; free() each. */
void watch_take(struct kv *kv, struct watch_notes *out);

#endif
