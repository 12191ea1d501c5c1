/* Chunks filled from the start; one empty chunk is kept for the next turn. */
#include "store/engine/borrow.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 16384

struct borrow_chunk {
    struct borrow_chunk *next;
    size_t used; /* bytes */
    unsigned char bytes[CHUNK_BYTES];
};

void borrow_init(struct borrow *borrow)
{
    *borrow = (struct borrow){0};
}

static void drop(struct borrow *borrow, struct borrow_chunk **list)
{
    while (*list) {
        struct borrow_chunk *chunk = *list;
        *list = chunk->next;
        if (borrow->spare) {
            free(chunk);
        } else {
            chunk->next = NULL;
            borrow->spare = chunk;
        }
    }
}

void borrow_clear(struct borrow *borrow)
{
    drop(borrow, &borrow->before);
    drop(borrow, &borrow->now);
}

void borrow_fini(struct borrow *borrow)
{
    borrow_clear(borrow);
    free(borrow->spare);
    borrow->spare = NULL;
}

const void *borrow_put(struct borrow *borrow, const void *bytes, size_t len)
{
    struct borrow_chunk *chunk = borrow->now;
    assert(len <= 64);
    if (!chunk || CHUNK_BYTES - chunk->used < len) {
        chunk = borrow->spare;
        borrow->spare = NULL;
        if (!chunk)
            chunk = malloc(sizeof(*chunk));
        if (!chunk)
            return NULL;
        chunk->used = 0;
        chunk->next = borrow->now;
        borrow->now = chunk;
    }
    void *copy = chunk->bytes + chunk->used;
    memcpy(copy, bytes, len);
    chunk->used += len;
    return copy;
}

void borrow_turn(struct borrow *borrow)
{
    drop(borrow, &borrow->before);
    borrow->before = borrow->now;
    borrow->now = NULL;
}
