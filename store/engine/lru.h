/*
 * Which items were used last, in memory only: it costs no fence and is
 * forgotten at close. Items are named by their place in the table; the nodes
 * of one segment's places are one chunk.
 *
 * A touch of an item that is among the newest eighth changes nothing, so that
 * hot items cost no list work; with few items the order is exact. A store that
 * never evicts keeps no order, only who is there.
 *
 * Items of an earlier run come back in any order, while others are used: each
 * goes to its class of ages, between two marks in the list. Classes get wider
 * with age, as the buckets of an HDR histogram do: the last 512 items stored
 * are in their order, all others within 0.4 % of their age.
 */
#ifndef STORE_ENGINE_LRU_H
#define STORE_ENGINE_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LRU_NONE        UINT32_MAX
#define LRU_CHUNK_SHIFT 11 /* place: chunk << 11 | number in it */
#define LRU_CHUNK       (1u << LRU_CHUNK_SHIFT)
#define LRU_CLASSES     14080u                     /* of ages below 2^62 */
#define LRU_MARK        (UINT32_MAX - LRU_CLASSES) /* and above: no places */

struct lru_node {
    uint32_t newer; /* place, or LRU_NONE */
    uint32_t older;
    uint32_t seq; /* of the last move to the front; wraps */
};

/* The places of one segment. */
struct lru_chunk {
    uint64_t here[LRU_CHUNK / 64]; /* one bit per place: in the list */
    uint32_t *pins; /* the engine's: epoch in which a value was borrowed */
    struct lru_node *nodes; /* NULL: no order is kept */
};

#define LRU_BLOCK 256u /* chunks */

struct lru_block {
    struct lru_chunk *chunks[LRU_BLOCK]; /* NULL: none of that number */
};

struct lru {
    struct lru_block **blocks; /* they never move */
    uint32_t n_blocks;
    uint32_t max_blocks;
    uint32_t newest;
    uint32_t oldest;
    uint32_t n;             /* items in the list */
    uint32_t seq;           /* of the newest */
    bool ordered;           /* else newest and oldest are LRU_NONE */
    struct lru_node *marks; /* of the classes, the oldest first, or NULL */
    uint32_t first;         /* no item is in an older class than this one */
};

void lru_init(struct lru *lru, bool ordered);
void lru_fini(struct lru *lru);

/* Nodes for n places, LRU_CHUNK at most. 0 or -ENOMEM. */
int lru_add_chunk(struct lru *lru, uint32_t chunk, uint32_t n);

/* None of its places is in the list. */
void lru_drop_chunk(struct lru *lru, uint32_t chunk);

static inline struct lru_chunk *lru_chunk(const struct lru *lru, uint32_t place)
{
    uint32_t chunk = place >> LRU_CHUNK_SHIFT;
    return lru->blocks[chunk / LRU_BLOCK]->chunks[chunk % LRU_BLOCK];
}

/* Only of a list that is ordered. */
static inline struct lru_node *lru_node(const struct lru *lru, uint32_t place)
{
    if (place >= LRU_MARK)
        return &lru->marks[place - LRU_MARK];
    return &lru_chunk(lru, place)->nodes[place & (LRU_CHUNK - 1)];
}

static inline uint32_t *lru_pin(const struct lru *lru, uint32_t place)
{
    return &lru_chunk(lru, place)->pins[place & (LRU_CHUNK - 1)];
}

static inline bool lru_contains(const struct lru *lru, uint32_t place)
{
    uint32_t idx = place & (LRU_CHUNK - 1);
    return lru_chunk(lru, place)->here[idx / 64] >> idx % 64 & 1;
}

/* As the newest; its pin is what it was. */
void lru_insert(struct lru *lru, uint32_t place);
void lru_touch(struct lru *lru, uint32_t place);
void lru_remove(struct lru *lru, uint32_t place);

/* As if no item were in the list. Who was in it is inserted again. */
void lru_clear(struct lru *lru);

/* LRU_NONE: there is no item. */
uint32_t lru_oldest(struct lru *lru);

/*
 * From now on items of an earlier run come in, each with how many items were
 * stored since it was, 1 or more; the list is empty. Until all are. 0 or
 * -ENOMEM.
 */
int lru_open_classes(struct lru *lru);
void lru_insert_aged(struct lru *lru, uint32_t place, uint64_t age);
void lru_close_classes(struct lru *lru);

/* The item went to another place: order and pin go with it. */
void lru_move(struct lru *lru, uint32_t from, uint32_t to);

/* Whether a was used before b. */
bool lru_before(const struct lru *lru, uint32_t a, uint32_t b);

#endif
