/*
 * Copies of small values that a caller of kv_get() has borrowed. A value that
 * lies in its entry is copied here, so that the entry's place need not wait
 * for readers. What is put in one turn stays until the end of the next one.
 */
#ifndef STORE_ENGINE_BORROW_H
#define STORE_ENGINE_BORROW_H

#include <stddef.h>

struct borrow_chunk;

struct borrow {
    struct borrow_chunk *now;    /* this turn's, the one in use first */
    struct borrow_chunk *before; /* the last turn's */
    struct borrow_chunk *spare;  /* at most one, empty */
};

void borrow_init(struct borrow *borrow);
void borrow_fini(struct borrow *borrow);

/* A copy of len bytes, at most 64; NULL: no memory. */
const void *borrow_put(struct borrow *borrow, const void *bytes, size_t len);

/* The turn is over: what was put before it is given back. */
void borrow_turn(struct borrow *borrow);

/* Everything is given back. */
void borrow_clear(struct borrow *borrow);

#endif
