/* A doubly linked list through an array. */
#include "store/engine/lru.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20) /* spares misses in a big list */

int lru_init(struct lru *lru, size_t places)
{
    *lru = (struct lru){.newest = LRU_NONE, .oldest = LRU_NONE};
    size_t bytes =
        (places * sizeof(*lru->nodes) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (bytes == HUGE_PAGE) { /* small: no page of its own */
        lru->nodes = calloc(places, sizeof(*lru->nodes));
    } else {
        lru->nodes = aligned_alloc(HUGE_PAGE, bytes);
        if (lru->nodes)
            madvise(lru->nodes, bytes, MADV_HUGEPAGE);
    }
    if (!lru->nodes)
        return -ENOMEM;
    for (size_t i = 0; i < places; i++)
        lru->nodes[i] = (struct lru_node){.newer = (uint32_t)i};
    return 0;
}

void lru_fini(struct lru *lru)
{
    free(lru->nodes);
    lru->nodes = NULL;
}

static void link_newest(struct lru *lru, uint32_t place)
{
    struct lru_node *node = &lru->nodes[place];
    node->newer = LRU_NONE;
    node->older = lru->newest;
    node->seq = ++lru->seq;
    if (lru->newest != LRU_NONE)
        lru->nodes[lru->newest].newer = place;
    else
        lru->oldest = place;
    lru->newest = place;
}

static void unlink_node(struct lru *lru, const struct lru_node *node)
{
    if (node->newer != LRU_NONE)
        lru->nodes[node->newer].older = node->older;
    else
        lru->newest = node->older;
    if (node->older != LRU_NONE)
        lru->nodes[node->older].newer = node->newer;
    else
        lru->oldest = node->newer;
}

void lru_insert(struct lru *lru, uint32_t place)
{
    lru->nodes[place].pin = 0;
    link_newest(lru, place);
    lru->n++;
}

void lru_touch(struct lru *lru, uint32_t place)
{
    if (lru->seq - lru->nodes[place].seq <= lru->n / 8)
        return;
    unlink_node(lru, &lru->nodes[place]);
    link_newest(lru, place);
}

void lru_remove(struct lru *lru, uint32_t place)
{
    unlink_node(lru, &lru->nodes[place]);
    lru->nodes[place].newer = place;
    lru->n--;
}

void lru_move(struct lru *lru, uint32_t from, uint32_t to)
{
    struct lru_node *node = &lru->nodes[to];
    *node = lru->nodes[from];
    if (node->newer != LRU_NONE)
        lru->nodes[node->newer].older = to;
    else
        lru->newest = to;
    if (node->older != LRU_NONE)
        lru->nodes[node->older].newer = to;
    else
        lru->oldest = to;
    lru->nodes[from].newer = from;
}

bool lru_before(const struct lru *lru, uint32_t a, uint32_t b)
{
    return lru->seq - lru->nodes[a].seq > lru->seq - lru->nodes[b].seq;
}
