/*
 * Copies of small values that a caller of kv_get() has borrowed. A value that
 * lies in its entry is copied here, so that the entry's place need not wait
 * for readers. What is put in one turn stays until the end of the next one.
 */
#ifndef STORE_ENGINE_BORROW_H
#define STORE_ENGINE_BORROW_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct borrow_chunk;

struct borrow {
    unsigned char *at;           /* where the next copy goes ... */
    unsigned char *end;          /* ... if it ends before; NULL: nowhere */
    struct borrow_chunk *now;    /* this turn's, the one in use first */
    struct borrow_chunk *before; /* the last turn's */
    struct borrow_chunk *spare;  /* at most one, empty */
};

void borrow_init(struct borrow *borrow);
void borrow_fini(struct borrow *borrow);

/* Room for 64 bytes at least. False: no memory. */
bool borrow_more(struct borrow *borrow);

/* A copy of len bytes, at most 64; NULL: no memory. */
static inline const void *borrow_put(struct borrow *borrow, const void *bytes,
                                     size_t len)
{
    if ((size_t)(borrow->end - borrow->at) <= len && !borrow_more(borrow))
        return NULL;
    void *copy = borrow->at;
    memcpy(copy, bytes, len);
    borrow->at += len;
    return copy;
}

/* The turn is over: what was put before it is given back. */
void borrow_turn(struct borrow *borrow);

/* Everything is given back. */
void borrow_clear(struct borrow *borrow);

#endif
