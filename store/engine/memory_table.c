/*
 * Chain i of 2^depth has the hashes whose upper bits are i; while the table
 * doubles, old chain i has those of the new ones 2i and 2i+1 until it is its
 * turn.
 */
#include "store/engine/memory_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_DEPTH 6
#define LAST_DEPTH  32 /* bits of a cursor */
#define SPLIT_STEP  4  /* old chains per insertion; more than 1 suffices */

int memory_table_init(struct memory_table *table)
{
    *table = (struct memory_table){.depth = FIRST_DEPTH};
    TAILQ_INIT(&table->used);
    table->chains =
        calloc((size_t)1 << FIRST_DEPTH, sizeof(struct memory_item *));
    return table->chains ? 0 : -ENOMEM;
}

void memory_table_fini(struct memory_table *table)
{
    struct memory_item *item;
    while ((item = TAILQ_FIRST(&table->used)) != NULL) {
        TAILQ_REMOVE(&table->used, item, use);
        free(item);
    }
    free(table->chains);
    free(table->old);
}

uint64_t memory_table_bytes(const struct memory_table *table)
{
    uint64_t chains = (uint64_t)1 << table->depth;
    if (table->old)
        chains += chains / 2;
    return chains * sizeof(struct memory_item *);
}

static struct memory_item **chain_of(const struct memory_table *table,
                                     uint64_t hash)
{
    if (table->old) {
        uint64_t i = hash >> (65 - table->depth);
        if (i >= table->split)
            return &table->old[i];
    }
    return &table->chains[hash >> (64 - table->depth)];
}

struct memory_item **memory_table_find(const struct memory_table *table,
                                       uint64_t hash, const void *key,
                                       size_t klen)
{
    struct memory_item **link = chain_of(table, hash);
    for (; *link; link = &(*link)->next)
        if ((*link)->hash == hash && (*link)->klen == klen &&
            memcmp((*link)->bytes, key, klen) == 0)
            break;
    return link;
}

/* Without memory for it the chains get longer, that is all. */
static void begin_doubling(struct memory_table *table)
{
    if (table->depth == LAST_DEPTH)
        return;
    struct memory_item **more =
        calloc((size_t)2 << table->depth, sizeof(struct memory_item *));
    if (!more)
        return;
    table->old = table->chains;
    table->chains = more;
    table->split = 0;
    table->depth++;
}

static void split_some(struct memory_table *table)
{
    uint64_t n_old = (uint64_t)1 << (table->depth - 1);
    for (int i = 0; i < SPLIT_STEP && table->split < n_old; i++) {
        struct memory_item *item = table->old[table->split++], *next;
        for (; item; item = next) {
            struct memory_item **chain = chain_of(table, item->hash);
            next = item->next;
            item->next = *chain;
            *chain = item;
        }
    }
    if (table->split < n_old)
        return;
    free(table->old);
    table->old = NULL;
}

void memory_table_insert(struct memory_table *table, struct memory_item *item)
{
    if (table->old)
        split_some(table);
    else if (table->n >> table->depth != 0)
        begin_doubling(table);
    struct memory_item **chain = chain_of(table, item->hash);
    item->next = *chain;
    *chain = item;
    TAILQ_INSERT_HEAD(&table->used, item, use);
    table->n++;
}

struct memory_item *memory_table_remove(struct memory_table *table,
                                        struct memory_item **link)
{
    struct memory_item *item = *link;
    *link = item->next;
    TAILQ_REMOVE(&table->used, item, use);
    table->n--;
    return item;
}

void memory_table_touch(struct memory_table *table, struct memory_item *item)
{
    if (TAILQ_FIRST(&table->used) == item)
        return;
    TAILQ_REMOVE(&table->used, item, use);
    TAILQ_INSERT_HEAD(&table->used, item, use);
}

struct memory_item **memory_table_chain(const struct memory_table *table,
                                        uint64_t cursor, uint64_t *next)
{
    uint64_t hash = cursor << 32;
    unsigned depth = table->depth;
    if (table->old && hash >> (65 - depth) >= table->split)
        depth--;
    *next = ((cursor >> (32 - depth)) + 1) << (32 - depth);
    if (*next > UINT32_MAX)
        *next = 0;
    return chain_of(table, hash);
}
