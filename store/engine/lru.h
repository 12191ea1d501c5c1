/*
 * Which items were used last, in memory only: it costs no fence and is
 * forgotten at close. Items are named by their place in the table.
 *
 * A touch of an item that is among the newest eighth changes nothing, so that
 * hot items cost no list work; with few items the order is exact.
 */
#ifndef STORE_ENGINE_LRU_H
#define STORE_ENGINE_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LRU_NONE UINT32_MAX

struct lru_node {
    uint32_t newer; /* place, or LRU_NONE; itself: not in the list */
    uint32_t older;
    uint32_t seq; /* of the last move to the front; wraps */
    uint32_t pin; /* the engine's: epoch in which the value was borrowed */
};

struct lru {
    struct lru_node *nodes; /* one per place */
    uint32_t newest;
    uint32_t oldest;
    uint32_t n;   /* items in the list */
    uint32_t seq; /* of the newest */
};

/* 0 or -ENOMEM. */
int lru_init(struct lru *lru, size_t places);
void lru_fini(struct lru *lru);

static inline bool lru_contains(const struct lru *lru, uint32_t place)
{
    return lru->nodes[place].newer != place;
}

/* As the newest; its pin is 0. */
void lru_insert(struct lru *lru, uint32_t place);
void lru_touch(struct lru *lru, uint32_t place);
void lru_remove(struct lru *lru, uint32_t place);

/* The item went to another place: order and pin go with it. */
void lru_move(struct lru *lru, uint32_t from, uint32_t to);

/* Whether a was used before b. */
bool lru_before(const struct lru *lru, uint32_t a, uint32_t b);

#endif
