/*
 * Owner words and the bitmap of used places.
 *
 * A place whose owner bit never became durable is free as soon as it is
 * unlinked; one that a durable word names waits for the commit. That is
 * decided by the word in persistent memory itself.
 */
#include "store/engine/hop_table.h"

#include "store/engine/item.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REACH_MASK (UINT64_MAX >> (64 - HOP_REACH))

int hop_init(struct hop_table *table, struct commit *commit,
             struct hop_entry *entries, const unsigned char *base, uint64_t n)
{
    assert(n >= 128 && (n & (n - 1)) == 0 && n <= (uint64_t)1 << 31);
    table->commit = commit;
    table->base = base;
    table->entries = entries;
    table->mask = (uint32_t)(n - 1);
    table->n_retired = 0;
    table->used = calloc(n / 64, sizeof(*table->used));
    return table->used ? 0 : -ENOMEM;
}

void hop_fini(struct hop_table *table)
{
    free(table->used);
    table->used = NULL;
}

static uint32_t at(const struct hop_table *table, uint32_t bucket, unsigned bit)
{
    return (bucket + bit) & table->mask;
}

static uint64_t bit_of(const struct hop_table *table, uint32_t bucket,
                       uint32_t place)
{
    uint32_t distance = (place - bucket) & table->mask;
    assert(distance < HOP_REACH);
    return (uint64_t)1 << distance;
}

uint32_t hop_find(const struct hop_table *table, uint64_t hash, const void *key,
                  size_t klen)
{
    uint32_t bucket = hop_bucket(table, hash);
    uint32_t tag = hop_tag(hash);
    uint64_t owner = hop_owner(table, bucket);
    for (; owner != 0; owner &= owner - 1) {
        uint32_t place = at(table, bucket, (unsigned)__builtin_ctzll(owner));
        const struct hop_entry *entry = &table->entries[place];
        if (entry->tag != tag)
            continue;
        struct item_text text = item_read(table->base, entry);
        if (text.klen == klen && memcmp(text.key, key, klen) == 0)
            return place;
    }
    return HOP_NONE;
}

/* The used bits of the 64 places from first on. */
static uint64_t used_from(const struct hop_table *table, uint32_t first)
{
    uint32_t words = (table->mask + 1) / 64;
    uint32_t word = first / 64, shift = first % 64;
    uint64_t low = table->used[word] >> shift;
    if (shift == 0)
        return low;
    return low | table->used[(word + 1) % words] << (64 - shift);
}

uint32_t hop_free_place(const struct hop_table *table, uint32_t bucket)
{
    uint64_t unused = ~used_from(table, bucket) & REACH_MASK;
    if (unused == 0)
        return HOP_NONE;
    return at(table, bucket, (unsigned)__builtin_ctzll(unused));
}

static void set_used(struct hop_table *table, uint32_t place, bool used)
{
    uint64_t bit = (uint64_t)1 << place % 64;
    if (used)
        table->used[place / 64] |= bit;
    else
        table->used[place / 64] &= ~bit;
}

void hop_claim(struct hop_table *table, uint32_t place)
{
    assert(!hop_used(table, place));
    set_used(table, place, true);
}

static void retire(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    struct hop_entry *entry = &table->entries[place];
    commit_drop(table->commit, &entry->meta);
    if (table->entries[bucket].owner & bit_of(table, bucket, place)) {
        assert(table->n_retired < HOP_RETIRED_MAX);
        table->retired[table->n_retired++] = place;
    } else {
        set_used(table, place, false);
    }
}

void hop_link(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    hop_claim(table, place);
    commit_write(table->commit, &table->entries[bucket].owner,
                 hop_owner(table, bucket) | bit_of(table, bucket, place));
}

void hop_swap(struct hop_table *table, uint32_t bucket, uint32_t from,
              uint32_t to)
{
    uint64_t owner = hop_owner(table, bucket);
    assert(owner & bit_of(table, bucket, from));
    hop_claim(table, to);
    commit_write(table->commit, &table->entries[bucket].owner,
                 (owner & ~bit_of(table, bucket, from)) |
                     bit_of(table, bucket, to));
    retire(table, bucket, from);
}

void hop_unlink(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    uint64_t owner = hop_owner(table, bucket);
    assert(owner & bit_of(table, bucket, place));
    commit_write(table->commit, &table->entries[bucket].owner,
                 owner & ~bit_of(table, bucket, place));
    retire(table, bucket, place);
}

void hop_settle(struct hop_table *table)
{
    for (uint32_t i = 0; i < table->n_retired; i++)
        set_used(table, table->retired[i], false);
    table->n_retired = 0;
}

/* The nearest free place beyond the bucket's reach, or HOP_NONE. */
static uint32_t free_beyond(const struct hop_table *table, uint32_t bucket)
{
    uint32_t limit = table->mask < HOP_SEARCH ? table->mask : HOP_SEARCH;
    for (uint32_t d = HOP_REACH; d < limit; d += 64) {
        uint64_t unused = ~used_from(table, at(table, bucket, d));
        if (unused == 0)
            continue;
        d += (uint32_t)__builtin_ctzll(unused);
        return d < limit ? at(table, bucket, d) : HOP_NONE;
    }
    return HOP_NONE;
}

bool hop_find_move(const struct hop_table *table, uint32_t bucket,
                   struct hop_move *out)
{
    uint32_t to = free_beyond(table, bucket);
    uint32_t best = 0; /* how far back the free place would go */
    if (to == HOP_NONE)
        return false;
    for (uint32_t back = HOP_REACH - 1; back > best; back--) {
        uint32_t other = (to - back) & table->mask;
        uint64_t owner = hop_owner(table, other);
        if (owner == 0)
            continue;
        uint32_t first = (uint32_t)__builtin_ctzll(owner);
        if (first >= back || back - first <= best)
            continue;
        best = back - first;
        *out = (struct hop_move){other, at(table, other, first), to};
    }
    return best > 0;
}
