/*
 * The items of the engine in memory: by key in chains, by use in a list.
 *
 * Chains are ordered by the hash's upper bits, so that a walk by hash goes on
 * where it stopped, whatever happened in between. When there are more items
 * than chains the number of chains doubles; the old ones are emptied a few per
 * insertion, so that no call pays for all. Nothing here knows what an item
 * means.
 */
#ifndef STORE_ENGINE_MEMORY_TABLE_H
#define STORE_ENGINE_MEMORY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/* One allocation; the key, then the value lie in bytes. */
struct memory_item {
    struct memory_item *next; /* in its chain, or among the retired */
    TAILQ_ENTRY(memory_item) use;
    uint64_t hash;
    uint64_t cas;
    uint32_t exptime; /* unix seconds, 0 = never */
    uint32_t flags;
    uint32_t len;       /* bytes of value */
    uint32_t epoch;     /* in which it was borrowed last; 0: never */
    uint32_t holds;     /* calls of release that are to come */
    uint32_t klen : 31; /* bytes of key */
    uint32_t gone : 1;  /* in the table no more */
    unsigned char bytes[];
};

TAILQ_HEAD(memory_list, memory_item);

struct memory_table {
    struct memory_item **chains; /* 2^depth; by the hash's upper bits */
    struct memory_item **old;    /* half as many, on their way; or NULL */
    uint64_t split;              /* of the old ones these are empty */
    unsigned depth;
    uint64_t n;              /* items */
    struct memory_list used; /* the last used one first */
};

/* 0 or -ENOMEM. */
int memory_table_init(struct memory_table *table);

/* Frees all items too. */
void memory_table_fini(struct memory_table *table);

/* Bytes of the chains. */
uint64_t memory_table_bytes(const struct memory_table *table);

/* Where the item with this key is linked; what it points at is NULL when there
 * is none. Good until the next insertion or removal. */
struct memory_item **memory_table_find(const struct memory_table *table,
                                       uint64_t hash, const void *key,
                                       size_t klen);

/* Its key is not in the table. Grows it when there is memory. */
void memory_table_insert(struct memory_table *table, struct memory_item *item);

/* Take out the item that is linked there. It is the caller's then. */
struct memory_item *memory_table_remove(struct memory_table *table,
                                        struct memory_item **link);

/* It was used just now. */
void memory_table_touch(struct memory_table *table, struct memory_item *item);

/*
 * The chain at a cursor, 0 to 2^32-1, and the cursor of the next one, 0 after
 * the last. An item that is there all the time is in exactly one chain of a
 * whole walk from 0 to 0.
 */
struct memory_item **memory_table_chain(const struct memory_table *table,
                                        uint64_t cursor, uint64_t *next);

#endif
