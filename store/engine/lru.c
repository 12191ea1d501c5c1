/* A doubly linked list through chunks of nodes. */
#include "store/engine/lru.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void lru_init(struct lru *lru, bool ordered)
{
    *lru = (struct lru){
        .newest = LRU_NONE, .oldest = LRU_NONE, .ordered = ordered};
}

void lru_fini(struct lru *lru)
{
    for (uint32_t i = 0; i < lru->n_chunks; i++)
        free(lru->chunks[i]);
    free(lru->chunks);
    lru->chunks = NULL;
    lru->n_chunks = 0;
}

int lru_add_chunk(struct lru *lru, uint32_t chunk, uint32_t n)
{
    if (chunk >= lru->n_chunks) {
        uint32_t want = lru->n_chunks ? lru->n_chunks * 2 : 16;
        while (want <= chunk)
            want *= 2;
        struct lru_node **chunks =
            realloc(lru->chunks, want * sizeof(struct lru_node *));
        if (!chunks)
            return -ENOMEM;
        memset(chunks + lru->n_chunks, 0,
               (want - lru->n_chunks) * sizeof(struct lru_node *));
        lru->chunks = chunks;
        lru->n_chunks = want;
    }
    struct lru_node *nodes = malloc(n * sizeof(*nodes));
    if (!nodes)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        nodes[i] = (struct lru_node){.newer = chunk << LRU_CHUNK_SHIFT | i};
    lru->chunks[chunk] = nodes;
    return 0;
}

void lru_drop_chunk(struct lru *lru, uint32_t chunk)
{
    free(lru->chunks[chunk]);
    lru->chunks[chunk] = NULL;
}

static void link_newest(struct lru *lru, uint32_t place)
{
    struct lru_node *node = lru_node(lru, place);
    node->newer = LRU_NONE;
    node->seq = ++lru->seq;
    if (!lru->ordered)
        return;
    node->older = lru->newest;
    if (lru->newest != LRU_NONE)
        lru_node(lru, lru->newest)->newer = place;
    else
        lru->oldest = place;
    lru->newest = place;
}

static void unlink_node(struct lru *lru, const struct lru_node *node)
{
    if (!lru->ordered)
        return;
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
    lru_node(lru, place)->pin = 0;
    link_newest(lru, place);
    lru->n++;
}

void lru_touch(struct lru *lru, uint32_t place)
{
    if (!lru->ordered || lru->seq - lru_node(lru, place)->seq <= lru->n / 8)
        return;
    unlink_node(lru, lru_node(lru, place));
    link_newest(lru, place);
}

void lru_remove(struct lru *lru, uint32_t place)
{
    unlink_node(lru, lru_node(lru, place));
    lru_node(lru, place)->newer = place;
    lru->n--;
}

void lru_move(struct lru *lru, uint32_t from, uint32_t to)
{
    struct lru_node *node = lru_node(lru, to);
    *node = *lru_node(lru, from);
    lru_node(lru, from)->newer = from;
    if (!lru->ordered)
        return;
    if (node->newer != LRU_NONE)
        lru_node(lru, node->newer)->older = to;
    else
        lru->newest = to;
    if (node->older != LRU_NONE)
        lru_node(lru, node->older)->newer = to;
    else
        lru->oldest = to;
}

bool lru_before(const struct lru *lru, uint32_t a, uint32_t b)
{
    return lru->seq - lru_node(lru, a)->seq > lru->seq - lru_node(lru, b)->seq;
}
