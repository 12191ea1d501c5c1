/*
 * Segments, owner words and the bitmaps of used places.
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

#define NEXT_LINES 3 /* fetched with the bucket's own */
#define REACH_MASK (UINT64_MAX >> (64 - HOP_REACH))

int hop_init(struct hop_table *table, struct commit *commit,
             const unsigned char *base)
{
    *table =
        (struct hop_table){.commit = commit, .base = base, .unused = HOP_NONE};
    table->directory = malloc(sizeof(*table->directory));
    return table->directory ? 0 : -ENOMEM;
}

void hop_fini(struct hop_table *table)
{
    for (uint32_t i = 0; i < table->n_segments; i++)
        free(table->segments[i].used);
    free(table->segments);
    free(table->directory);
    table->segments = NULL;
    table->directory = NULL;
    table->n_segments = 0;
}

/* A number that is not in use; it may be the next new one. */
static int take_number(struct hop_table *table, uint32_t *number)
{
    uint32_t i = table->n_segments;
    if (table->unused != HOP_NONE) {
        *number = table->unused;
        table->unused = table->segments[*number].prefix;
        return 0;
    }
    if (i == HOP_SEGMENTS)
        return -ENOMEM;
    if (i == table->max_segments) {
        uint32_t want = i ? 2 * i : 16;
        struct hop_segment *more =
            realloc(table->segments, want * sizeof(*more));
        if (!more)
            return -ENOMEM;
        table->segments = more;
        table->max_segments = want;
    }
    *number = i;
    return 0;
}

int hop_add_segment(struct hop_table *table, struct hop_entry *entries,
                    uint32_t n, uint32_t prefix, uint32_t depth,
                    uint32_t *number)
{
    assert(n >= HOP_SEGMENT_MIN && n <= HOP_SEGMENT_MAX && n % 64 == 0);
    uint64_t *used = calloc(n / 64, sizeof(*used));
    if (!used)
        return -ENOMEM;
    int rc = take_number(table, number);
    if (rc < 0) {
        free(used);
        return rc;
    }
    if (*number == table->n_segments)
        table->n_segments++;
    table->segments[*number] = (struct hop_segment){.entries = entries,
                                                    .used = used,
                                                    .n = n,
                                                    .prefix = prefix,
                                                    .depth = depth};
    table->live++;
    table->places += n;
    return 0;
}

void hop_drop_segment(struct hop_table *table, uint32_t number)
{
    struct hop_segment *segment = &table->segments[number];
    table->places -= segment->n;
    table->live--;
    free(segment->used);
    *segment = (struct hop_segment){.prefix = table->unused};
    table->unused = number;
}

int hop_deepen(struct hop_table *table, uint32_t depth)
{
    assert(depth <= HOP_DEPTH_MAX);
    if (depth <= table->depth)
        return 0;
    size_t n = (size_t)1 << table->depth,
           times = (size_t)1 << (depth - table->depth);
    uint32_t *more = malloc(n * times * sizeof(*more));
    if (!more)
        return -ENOMEM;
    for (size_t i = 0; i < n * times; i++)
        more[i] = table->directory[i / times];
    free(table->directory);
    table->directory = more;
    table->depth = depth;
    return 0;
}

void hop_enter(struct hop_table *table, uint32_t number)
{
    const struct hop_segment *segment = &table->segments[number];
    assert(segment->depth <= table->depth);
    size_t n = (size_t)1 << (table->depth - segment->depth);
    size_t first = table->depth ? segment->prefix >> (32 - table->depth) : 0;
    for (size_t i = 0; i < n; i++)
        table->directory[first + i] = number;
}

uint32_t hop_next_place(const struct hop_table *table, uint32_t place)
{
    uint32_t segment = place >> HOP_SHIFT;
    if (table->live == 0)
        return HOP_NONE;
    if (place != HOP_NONE && segment < table->n_segments &&
        (place & HOP_INDEX) + 1 < table->segments[segment].n)
        return place + 1;
    for (segment = place == HOP_NONE ? 0 : segment + 1;; segment++) {
        if (segment >= table->n_segments)
            segment = 0;
        if (table->segments[segment].entries)
            return segment << HOP_SHIFT;
    }
}

static uint64_t bit_of(const struct hop_table *table, uint32_t bucket,
                       uint32_t place)
{
    uint32_t distance = hop_distance(table, bucket, place);
    assert(bucket >> HOP_SHIFT == place >> HOP_SHIFT && distance < HOP_REACH);
    return (uint64_t)1 << distance;
}

static bool is_key(const struct hop_table *table, const struct hop_entry *entry,
                   const void *key, size_t klen)
{
    struct item_text text = item_read(table->base, entry);
    return text.klen == klen && memcmp(text.key, key, klen) == 0;
}

uint32_t hop_find(const struct hop_table *table, uint64_t hash, const void *key,
                  size_t klen)
{
    uint32_t number = hop_segment_of(table, hash);
    const struct hop_segment *segment = &table->segments[number];
    uint32_t bucket = (uint32_t)(hash >> 24 & 0xffff) * segment->n >> 16;
    for (uint32_t i = 1; i <= NEXT_LINES; i++) /* most items are near */
        __builtin_prefetch(&segment->entries[bucket + i]);
    uint64_t owner =
        commit_read(table->commit, &segment->entries[bucket].owner);
    uint64_t want = hash >> 24;
    for (; owner != 0; owner &= owner - 1) {
        uint32_t idx = bucket + (uint32_t)__builtin_ctzll(owner);
        if (idx >= segment->n)
            idx -= segment->n;
        const struct hop_entry *entry = &segment->entries[idx];
        if (item_hash(entry) >> 24 == want && is_key(table, entry, key, klen))
            return number << HOP_SHIFT | idx;
    }
    return HOP_NONE;
}

/* The used bits of the 64 places from first on. */
static uint64_t used_from(const struct hop_table *table, uint32_t first)
{
    const struct hop_segment *segment = &table->segments[first >> HOP_SHIFT];
    uint32_t idx = first & HOP_INDEX, words = segment->n / 64;
    uint32_t word = idx / 64, shift = idx % 64;
    uint64_t low = segment->used[word] >> shift;
    if (shift == 0)
        return low;
    uint32_t next = word + 1 < words ? word + 1 : 0;
    return low | segment->used[next] << (64 - shift);
}

uint32_t hop_free_place(const struct hop_table *table, uint32_t bucket)
{
    uint64_t unused = ~used_from(table, bucket) & REACH_MASK;
    if (unused == 0)
        return HOP_NONE;
    return hop_place_at(table, bucket, (uint32_t)__builtin_ctzll(unused));
}

void hop_claim(struct hop_table *table, uint32_t place)
{
    struct hop_segment *segment = &table->segments[place >> HOP_SHIFT];
    uint32_t idx = place & HOP_INDEX;
    assert(!hop_used(table, place));
    segment->used[idx / 64] |= (uint64_t)1 << idx % 64;
    segment->n_used++;
}

void hop_unclaim(struct hop_table *table, uint32_t place)
{
    struct hop_segment *segment = &table->segments[place >> HOP_SHIFT];
    uint32_t idx = place & HOP_INDEX;
    assert(hop_used(table, place));
    segment->used[idx / 64] &= ~((uint64_t)1 << idx % 64);
    segment->n_used--;
}

static void retire(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    struct hop_entry *entry = hop_entry(table, place);
    commit_drop(table->commit, &entry->meta);
    if (hop_entry(table, bucket)->owner & bit_of(table, bucket, place)) {
        assert(table->n_retired < HOP_RETIRED_MAX);
        table->retired[table->n_retired++] = place;
    } else {
        hop_unclaim(table, place);
    }
}

void hop_link(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    hop_claim(table, place);
    commit_write(table->commit, &hop_entry(table, bucket)->owner,
                 hop_owner(table, bucket) | bit_of(table, bucket, place));
}

void hop_swap(struct hop_table *table, uint32_t bucket, uint32_t from,
              uint32_t to)
{
    uint64_t owner = hop_owner(table, bucket);
    assert(owner & bit_of(table, bucket, from));
    hop_claim(table, to);
    commit_write(table->commit, &hop_entry(table, bucket)->owner,
                 (owner & ~bit_of(table, bucket, from)) |
                     bit_of(table, bucket, to));
    retire(table, bucket, from);
}

void hop_unlink(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    uint64_t owner = hop_owner(table, bucket);
    assert(owner & bit_of(table, bucket, place));
    commit_write(table->commit, &hop_entry(table, bucket)->owner,
                 owner & ~bit_of(table, bucket, place));
    retire(table, bucket, place);
}

void hop_settle(struct hop_table *table)
{
    for (uint32_t i = 0; i < table->n_retired; i++)
        hop_unclaim(table, table->retired[i]);
    table->n_retired = 0;
}

/* How far the nearest free place beyond the bucket's reach is; 0: none. */
static uint32_t free_beyond(const struct hop_table *table, uint32_t bucket)
{
    uint32_t n = table->segments[bucket >> HOP_SHIFT].n;
    for (uint32_t d = HOP_REACH; d < n; d += 64) {
        uint64_t unused = ~used_from(table, hop_place_at(table, bucket, d));
        if (unused == 0)
            continue;
        d += (uint32_t)__builtin_ctzll(unused);
        return d < n ? d : 0;
    }
    return 0;
}

bool hop_find_move(const struct hop_table *table, uint32_t bucket,
                   struct hop_move *out)
{
    uint32_t far = free_beyond(table, bucket);
    uint32_t best = 0; /* how far back the free place would go */
    if (far == 0)
        return false;
    uint32_t to = hop_place_at(table, bucket, far);
    for (uint32_t back = HOP_REACH - 1; back > best; back--) {
        uint32_t other = hop_place_at(table, bucket, far - back);
        uint64_t owner = hop_owner(table, other);
        if (owner == 0)
            continue;
        uint32_t first = (uint32_t)__builtin_ctzll(owner);
        if (first >= back || back - first <= best)
            continue;
        best = back - first;
        *out = (struct hop_move){other, hop_place_at(table, other, first), to};
    }
    return best > 0;
}
