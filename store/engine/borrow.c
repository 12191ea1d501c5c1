/* Chunks filled from the start; one empty chunk is kept for the next turn. */
#include "store/engine/borrow.h"

#include <stdlib.h>

#define CHUNK_BYTES 16384

struct borrow_chunk {
    struct borrow_chunk *next;
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

static void leave_now(struct borrow *borrow)
{
    borrow->now = NULL;
    borrow->at = NULL;
    borrow->end = NULL;
}

void borrow_clear(struct borrow *borrow)
{
    drop(borrow, &borrow->before);
    drop(borrow, &borrow->now);
    leave_now(borrow);
}

void borrow_fini(struct borrow *borrow)
{
    borrow_clear(borrow);
    free(borrow->spare);
    borrow->spare = NULL;
}

bool borrow_more(struct borrow *borrow)
{
    struct borrow_chunk *chunk = borrow->spare;
    borrow->spare = NULL;
    if (!chunk)
        chunk = malloc(sizeof(*chunk));
    if (!chunk)
        return false;
    chunk->next = borrow->now;
    borrow->now = chunk;
    borrow->at = chunk->bytes;
    borrow->end = chunk->bytes + CHUNK_BYTES;
    return true;
}

void borrow_turn(struct borrow *borrow)
{
    drop(borrow, &borrow->before);
    borrow->before = borrow->now;
    leave_now(borrow);
}
