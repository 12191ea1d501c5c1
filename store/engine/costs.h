/*
 * What the operations of a pool cost its medium, by their kind.
 *
 * Contents are flushed within an operation and are its own. The two fences of
 * a commit, and the lines of its words, belong to all operations that it makes
 * durable: each has written one word, so each has the same part of it. What
 * makes room (an eviction, a displacement, a segment written anew) is an
 * operation of its own. A get is in no count, as it writes nothing.
 *
 * A put is mostly among puts of its kind, and stores between two fences cost
 * time. So operations of one kind that follow each other are one run: all
 * commits within it are its own, and nothing is shared out before it ends.
 */
#ifndef STORE_ENGINE_COSTS_H
#define STORE_ENGINE_COSTS_H

#include "store/engine/commit.h"
#include "store/engine/engine.h"

struct costs {
    const struct commit *commit;
    enum kv_kind kind; /* of the run that is under way: */
    bool mixed;        /* what was before it in this turn is not durable yet */
    uint64_t n;        /* operations */
    uint64_t durable;  /* so many of them are */
    uint64_t stored;   /* bytes of keys and values */
    uint64_t flushed;  /* bytes of lines of contents */
    uint64_t runs;     /* of the commit, and its lines, from which on all ... */
    uint64_t lines;    /* ... are of this run */
    struct kv_cost of[KV_KINDS]; /* of runs that have ended */
    uint64_t pending[KV_KINDS];  /* operations of these, not durable yet */
};

void costs_init(struct costs *costs, const struct commit *commit);

/* From now on they are of another kind. */
void costs_turn_to(struct costs *costs, enum kv_kind kind);

/* One more operation, with the bytes that it has flushed by itself. */
static inline void costs_note(struct costs *costs, enum kv_kind kind,
                              uint64_t flushed, uint64_t stored)
{
    if (costs->kind != kind)
        costs_turn_to(costs, kind);
    costs->n++;
    costs->flushed += flushed;
    costs->stored += stored;
}

/* A commit that several runs have. */
void costs_share(struct costs *costs);

/* All of the turn is durable. */
static inline void costs_settle(struct costs *costs)
{
    costs->durable = costs->n;
    if (costs->mixed)
        costs_share(costs);
}

/* As kv_costs() tells them. */
void costs_tell(const struct costs *costs, struct kv_cost out[KV_KINDS]);

/* Of all that store a value: how many, and their bytes; durable or not. */
void costs_stored(const struct costs *costs, uint64_t *items, uint64_t *bytes);

#endif
