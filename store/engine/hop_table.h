/*
 * The hash table in persistent memory: hopscotch over neighbourhoods of
 * HOP_REACH places, committed by one owner word per bucket.
 *
 * Which places are in use is derived: a place is used when an owner word names
 * it, and until the commit that took the name away is durable ("retired"). All
 * changes of owner words go through the commit list, so a crash sees the old
 * word or the new one. Buckets and places are the same numbers, modulo size.
 */
#ifndef STORE_ENGINE_HOP_TABLE_H
#define STORE_ENGINE_HOP_TABLE_H

#include "store/engine/commit.h"
#include "store/engine/hop_layout.h"

#include <stdbool.h>

#define HOP_NONE        UINT32_MAX
#define HOP_RETIRED_MAX 4096 /* places between two commits */
#define HOP_SEARCH      4096 /* places looked at for a free one */

struct hop_table {
    struct commit *commit;
    const unsigned char *base; /* of the pool: for keys in blobs */
    struct hop_entry *entries; /* in the pool */
    uint32_t mask;             /* number of entries - 1 */
    uint32_t n_retired;
    uint64_t *used; /* one bit per place: owned or retired */
    uint32_t retired[HOP_RETIRED_MAX];
};

/* A move that brings a free place nearer: from becomes free after a commit. */
struct hop_move {
    uint32_t bucket;
    uint32_t from;
    uint32_t to;
};

/* n: a power of two, 128 to 2^31. 0 or -ENOMEM. Nothing is used yet. */
int hop_init(struct hop_table *table, struct commit *commit,
             struct hop_entry *entries, const unsigned char *base, uint64_t n);
void hop_fini(struct hop_table *table);

static inline uint32_t hop_bucket(const struct hop_table *table, uint64_t hash)
{
    return (uint32_t)hash & table->mask;
}

static inline uint32_t hop_tag(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

static inline bool hop_used(const struct hop_table *table, uint32_t place)
{
    return table->used[place / 64] >> place % 64 & 1;
}

/* The owner word as it will be after the commit. */
static inline uint64_t hop_owner(const struct hop_table *table, uint32_t bucket)
{
    return commit_read(table->commit, &table->entries[bucket].owner);
}

/* The place of the item with this key, or HOP_NONE. */
uint32_t hop_find(const struct hop_table *table, uint64_t hash, const void *key,
                  size_t klen);

/* A free place that the bucket reaches, or HOP_NONE. */
uint32_t hop_free_place(const struct hop_table *table, uint32_t bucket);

/* A place is used from now on, without a word written: when opening. */
void hop_claim(struct hop_table *table, uint32_t place);

/* The place now belongs to the bucket; its contents have been written. */
void hop_link(struct hop_table *table, uint32_t bucket, uint32_t place);

/* In one word: the bucket owns to and no longer from. */
void hop_swap(struct hop_table *table, uint32_t bucket, uint32_t from,
              uint32_t to);

void hop_unlink(struct hop_table *table, uint32_t bucket, uint32_t place);

/* The commit is durable: retired places are free. */
void hop_settle(struct hop_table *table);

/* The bucket reaches no free place: find the move that brings one nearest.
 * False: there is none. Copy the entry, hop_swap(), commit, try again. */
bool hop_find_move(const struct hop_table *table, uint32_t bucket,
                   struct hop_move *out);

#endif
