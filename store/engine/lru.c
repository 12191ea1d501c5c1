/* A doubly linked list through chunks of nodes. */
#include "store/engine/lru.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_BITS       8
#define CLASSES_OF_POWER (1u << CLASS_BITS)
#define LONG_AGO         (1u << 30) /* moves: above an eighth of all places */

void lru_init(struct lru *lru, bool ordered)
{
    *lru = (struct lru){
        .newest = LRU_NONE, .oldest = LRU_NONE, .ordered = ordered};
}

static struct lru_chunk **chunk_at(const struct lru *lru, uint32_t chunk)
{
    return &lru->blocks[chunk / LRU_BLOCK]->chunks[chunk % LRU_BLOCK];
}

void lru_fini(struct lru *lru)
{
    for (uint32_t i = 0; i < lru->n_blocks * LRU_BLOCK; i++)
        lru_drop_chunk(lru, i);
    for (uint32_t i = 0; i < lru->n_blocks; i++)
        free(lru->blocks[i]);
    free(lru->blocks);
    free(lru->marks);
    lru->marks = NULL;
    lru->blocks = NULL;
    lru->n_blocks = 0;
}

/* Room for this number; what is there does not move. */
static int add_blocks(struct lru *lru, uint32_t chunk)
{
    while (chunk / LRU_BLOCK >= lru->n_blocks) {
        if (lru->n_blocks == lru->max_blocks) {
            uint32_t want = lru->max_blocks ? lru->max_blocks * 2 : 16;
            struct lru_block **more =
                realloc(lru->blocks, want * sizeof(struct lru_block *));
            if (!more)
                return -ENOMEM;
            lru->blocks = more;
            lru->max_blocks = want;
        }
        lru->blocks[lru->n_blocks] = calloc(1, sizeof(struct lru_block));
        if (!lru->blocks[lru->n_blocks])
            return -ENOMEM;
        lru->n_blocks++;
    }
    return 0;
}

int lru_add_chunk(struct lru *lru, uint32_t chunk, uint32_t n)
{
    if (add_blocks(lru, chunk) < 0)
        return -ENOMEM;
    struct lru_chunk *made = calloc(1, sizeof(*made));
    if (!made)
        return -ENOMEM;
    *chunk_at(lru, chunk) = made;
    made->pins = calloc(n, sizeof(*made->pins));
    if (lru->ordered)
        made->nodes = calloc(n, sizeof(*made->nodes));
    if (made->pins && (made->nodes || !lru->ordered))
        return 0;
    lru_drop_chunk(lru, chunk);
    return -ENOMEM;
}

void lru_drop_chunk(struct lru *lru, uint32_t chunk)
{
    struct lru_chunk **at = chunk_at(lru, chunk);
    if (!*at)
        return;
    free((*at)->pins);
    free((*at)->nodes);
    free(*at);
    *at = NULL;
}

static void set_here(struct lru *lru, uint32_t place, bool here)
{
    uint32_t idx = place & (LRU_CHUNK - 1);
    uint64_t bit = (uint64_t)1 << idx % 64;
    uint64_t *word = &lru_chunk(lru, place)->here[idx / 64];
    *word = here ? *word | bit : *word & ~bit;
}

/* Older than the one, newer than the other of two neighbours. */
static void link_between(struct lru *lru, uint32_t place, uint32_t newer,
                         uint32_t older, uint32_t seq)
{
    *lru_node(lru, place) =
        (struct lru_node){.newer = newer, .older = older, .seq = seq};
    if (newer != LRU_NONE)
        lru_node(lru, newer)->older = place;
    else
        lru->newest = place;
    if (older != LRU_NONE)
        lru_node(lru, older)->newer = place;
    else
        lru->oldest = place;
}

static void link_newest(struct lru *lru, uint32_t place)
{
    if (lru->ordered)
        link_between(lru, place, LRU_NONE, lru->newest, ++lru->seq);
}

static void unlink_node(struct lru *lru, uint32_t place)
{
    if (!lru->ordered)
        return;
    const struct lru_node *node = lru_node(lru, place);
    if (node->newer != LRU_NONE)
        lru_node(lru, node->newer)->older = node->older;
    else
        lru->newest = node->older;
    if (node->older != LRU_NONE)
        lru_node(lru, node->older)->newer = node->newer;
    else
        lru->oldest = node->newer;
}

void lru_insert(struct lru *lru, uint32_t place)
{
    set_here(lru, place, true);
    link_newest(lru, place);
    lru->n++;
}

void lru_touch(struct lru *lru, uint32_t place)
{
    if (!lru->ordered || lru->seq - lru_node(lru, place)->seq <= lru->n / 8)
        return;
    unlink_node(lru, place);
    link_newest(lru, place);
}

void lru_remove(struct lru *lru, uint32_t place)
{
    unlink_node(lru, place);
    set_here(lru, place, false);
    lru->n--;
}

void lru_clear(struct lru *lru)
{
    lru->newest = LRU_NONE;
    lru->oldest = LRU_NONE;
    lru->n = 0;
}

void lru_move(struct lru *lru, uint32_t from, uint32_t to)
{
    *lru_pin(lru, to) = *lru_pin(lru, from);
    set_here(lru, from, false);
    set_here(lru, to, true);
    if (!lru->ordered)
        return;
    struct lru_node *node = lru_node(lru, to);
    *node = *lru_node(lru, from);
    if (node->newer != LRU_NONE)
        lru_node(lru, node->newer)->older = to;
    else
        lru->newest = to;
    if (node->older != LRU_NONE)
        lru_node(lru, node->older)->newer = to;
    else
        lru->oldest = to;
}

uint32_t lru_oldest(struct lru *lru)
{
    if (!lru->marks || lru->n == 0)
        return lru->oldest >= LRU_MARK ? LRU_NONE : lru->oldest;
    uint32_t at = LRU_MARK + lru->first;
    for (; at >= LRU_MARK; at = lru_node(lru, at)->newer)
        lru->first = at - LRU_MARK;
    return at;
}

int lru_open_classes(struct lru *lru)
{
    if (!lru->ordered)
        return 0;
    lru->marks = calloc(LRU_CLASSES, sizeof(*lru->marks));
    if (!lru->marks)
        return -ENOMEM;
    lru->first = LRU_CLASSES - 1;
    lru->seq = 0;
    for (uint32_t i = 0; i < LRU_CLASSES; i++)
        link_newest(lru, LRU_MARK + i);
    lru->seq = LONG_AGO; /* whoever is touched becomes one of the newest */
    return 0;
}

/* Of ages 1 to 511 the last ones; then 256 for each power of two. */
static uint32_t class_of(uint64_t age)
{
    unsigned shift = age < CLASSES_OF_POWER
                         ? 0
                         : 63 - CLASS_BITS - (unsigned)__builtin_clzll(age);
    uint64_t n = (uint64_t)shift * CLASSES_OF_POWER + (age >> shift);
    return n < LRU_CLASSES ? LRU_CLASSES - 1 - (uint32_t)n : 0;
}

void lru_insert_aged(struct lru *lru, uint32_t place, uint64_t age)
{
    if (!lru->marks) {
        lru_insert(lru, place);
        return;
    }
    uint32_t class = class_of(age);
    if (class < lru->first)
        lru->first = class;
    set_here(lru, place, true);
    link_between(lru, place, lru->marks[class].newer, LRU_MARK + class, class);
    lru->n++;
}

void lru_close_classes(struct lru *lru)
{
    if (!lru->marks)
        return;
    for (uint32_t i = 0; i < LRU_CLASSES; i++)
        unlink_node(lru, LRU_MARK + i);
    free(lru->marks);
    lru->marks = NULL;
}

bool lru_before(const struct lru *lru, uint32_t a, uint32_t b)
{
    return lru->seq - lru_node(lru, a)->seq > lru->seq - lru_node(lru, b)->seq;
}
