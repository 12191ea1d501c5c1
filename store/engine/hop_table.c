/*
 * Segments, owner words and the bitmaps of used places.
 *
 * A place whose owner bit never became durable is free as soon as it is
 * unlinked; one that a durable word names waits for the commit. That is
 * decided by the word in persistent memory itself.
 */
#include "store/engine/hop_table.h"

#include "store/engine/hop_look.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MARKS_AFTER 64    /* so that all of a neighbourhood is one run */
#define DEEPER_STEP 4096u /* entries of a directory */
#define REACH_MASK  (UINT64_MAX >> (64 - HOP_REACH))

int hop_init(struct hop_table *table, struct commit *commit,
             const unsigned char *base)
{
    *table =
        (struct hop_table){.commit = commit, .base = base, .unused = HOP_NONE};
    table->directory = malloc(sizeof(*table->directory));
    return table->directory ? 0 : -ENOMEM;
}

static void drop_deeper(struct hop_table *table)
{
    free(table->deeper);
    table->deeper = NULL;
    table->n_deeper = 0;
}

void hop_fini(struct hop_table *table)
{
    for (uint32_t i = 0; i < table->n_segments; i++)
        free(hop_segment(table, i)->used);
    for (uint32_t i = 0; i < table->n_blocks; i++)
        free(table->blocks[i]);
    free(table->blocks);
    free(table->directory);
    drop_deeper(table);
    table->blocks = NULL;
    table->directory = NULL;
    table->n_blocks = 0;
    table->n_segments = 0;
}

/* Room for the descriptions of more segments; those there are do not move, so
 * that it takes no longer the more there are. */
static int add_block(struct hop_table *table)
{
    if (table->n_blocks == table->max_blocks) {
        uint32_t want = table->max_blocks ? 2 * table->max_blocks : 16;
        struct hop_segment **more =
            realloc(table->blocks, want * sizeof(struct hop_segment *));
        if (!more)
            return -ENOMEM;
        table->blocks = more;
        table->max_blocks = want;
    }
    struct hop_segment *block = aligned_alloc(
        alignof(struct hop_segment), HOP_BLOCK * sizeof(struct hop_segment));
    if (!block)
        return -ENOMEM;
    table->blocks[table->n_blocks++] = block;
    return 0;
}

/* A number that is not in use; it may be the next new one. */
static int take_number(struct hop_table *table, uint32_t *number)
{
    uint32_t i = table->n_segments;
    if (table->unused != HOP_NONE) {
        *number = table->unused;
        table->unused = hop_segment(table, *number)->prefix;
        return 0;
    }
    if (i == HOP_SEGMENTS)
        return -ENOMEM;
    if (i == table->n_blocks * HOP_BLOCK && add_block(table) < 0)
        return -ENOMEM;
    *number = i;
    return 0;
}

int hop_add_segment(struct hop_table *table, struct hop_entry *entries,
                    uint32_t n, uint32_t prefix, uint32_t depth,
                    uint32_t *number)
{
    assert(n >= HOP_SEGMENT_MIN && n <= HOP_SEGMENT_MAX && n % 64 == 0);
    uint64_t *used = calloc(1, n / 8 + n + MARKS_AFTER);
    if (!used)
        return -ENOMEM;
    int rc = take_number(table, number);
    if (rc < 0) {
        free(used);
        return rc;
    }
    if (*number == table->n_segments)
        table->n_segments++;
    *hop_segment(table, *number) =
        (struct hop_segment){.entries = entries,
                             .used = used,
                             .marks = (uint8_t *)used + n / 8,
                             .n = n,
                             .prefix = prefix,
                             .depth = depth};
    table->live++;
    table->places += n;
    return 0;
}

void hop_drop_segment(struct hop_table *table, uint32_t number)
{
    struct hop_segment *segment = hop_segment(table, number);
    table->places -= segment->n;
    table->live--;
    free(segment->used);
    *segment = (struct hop_segment){.prefix = table->unused};
    table->unused = number;
}

/* Make the deeper directory up to an entry, out of the one there is. */
static void make_deeper(struct hop_table *table, size_t end)
{
    for (size_t i = table->n_deeper; i < end; i += 2)
        table->deeper[i] = table->deeper[i + 1] = table->directory[i / 2];
    table->n_deeper = (uint32_t)end;
}

static int begin_deeper(struct hop_table *table)
{
    if (!table->deeper)
        table->deeper =
            malloc(((size_t)2 << table->depth) * sizeof(*table->deeper));
    return table->deeper ? 0 : -ENOMEM;
}

void hop_prepare(struct hop_table *table)
{
    size_t n = (size_t)2 << table->depth, left = n - table->n_deeper;
    if (table->depth < HOP_DEPTH_MAX && left > 0 && begin_deeper(table) == 0)
        make_deeper(table, table->n_deeper +
                               (left < DEEPER_STEP ? left : DEEPER_STEP));
}

int hop_deepen(struct hop_table *table, uint32_t depth)
{
    assert(depth <= HOP_DEPTH_MAX);
    while (table->depth < depth) {
        if (begin_deeper(table) < 0)
            return -ENOMEM;
        make_deeper(table, (size_t)2 << table->depth);
        free(table->directory);
        table->directory = table->deeper;
        table->deeper = NULL;
        table->n_deeper = 0;
        table->depth++;
    }
    return 0;
}

void hop_enter(struct hop_table *table, uint32_t number)
{
    const struct hop_segment *segment = hop_segment(table, number);
    assert(segment->depth <= table->depth);
    size_t n = (size_t)1 << (table->depth - segment->depth);
    size_t first = table->depth ? segment->prefix >> (32 - table->depth) : 0;
    for (size_t i = first; i < first + n; i++)
        table->directory[i] = number;
    for (size_t i = 2 * first; i < 2 * (first + n) && i < table->n_deeper; i++)
        table->deeper[i] = number;
}

uint32_t hop_next_place(const struct hop_table *table, uint32_t place)
{
    uint32_t segment = place >> HOP_SHIFT;
    if (table->live == 0)
        return HOP_NONE;
    if (place != HOP_NONE && segment < table->n_segments &&
        (place & HOP_INDEX) + 1 < hop_segment(table, segment)->n)
        return place + 1;
    for (segment = place == HOP_NONE ? 0 : segment + 1;; segment++) {
        if (segment >= table->n_segments)
            segment = 0;
        if (hop_segment(table, segment)->entries)
            return segment << HOP_SHIFT;
    }
}

/* The used bits of the 64 places from the idx-th of a segment on. */
static inline uint64_t used_from(const struct hop_segment *segment,
                                 uint32_t idx)
{
    uint32_t word = idx / 64, shift = idx % 64;
    uint32_t next = (word + 1) * 64 < segment->n ? word + 1 : 0;
    return segment->used[word] >> shift | segment->used[next] << 1
                                                              << (63 - shift);
}

uint32_t hop_free_place(const struct hop_table *table, uint32_t bucket)
{
    uint64_t unused = ~used_from(hop_segment(table, bucket >> HOP_SHIFT),
                                 bucket & HOP_INDEX) &
                      REACH_MASK;
    if (unused == 0)
        return HOP_NONE;
    return hop_place_at(table, bucket, (uint32_t)__builtin_ctzll(unused));
}

uint32_t hop_fetch(const struct hop_table *table, uint64_t hash)
{
    uint32_t bucket = hop_bucket(table, hash);
    uint32_t place = hop_free_place(table, bucket);
    __builtin_prefetch(hop_entry(table, bucket), 1);
    if (place != HOP_NONE)
        __builtin_prefetch(hop_entry(table, place), 1);
    return place;
}

/* Not by hop_fetch(): a compiler leaves out the call of a function that only
 * prefetches when nobody uses its result. */
void hop_hint(const struct hop_table *table, uint64_t hash, bool store)
{
    uint32_t bucket = hop_bucket(table, hash);
    const struct hop_entry *likely = hop_likely(
        hop_segment(table, bucket >> HOP_SHIFT), bucket & HOP_INDEX, hash);
    if (likely)
        __builtin_prefetch(likely);
    if (!store)
        return;
    uint32_t place = hop_free_place(table, bucket);
    __builtin_prefetch(hop_entry(table, bucket), 1);
    if (place != HOP_NONE)
        __builtin_prefetch(hop_entry(table, place), 1);
}

static bool is_key(const struct hop_table *table, const struct hop_entry *entry,
                   const void *key, size_t klen)
{
    if (!item_is_far(entry))
        return item_klen(entry) == klen &&
               hop_same_run(entry->bytes, key, klen);
    struct item_text text = item_read(table->base, entry);
    return text.klen == klen && memcmp(text.key, key, klen) == 0;
}

struct hop_found hop_seek(const struct hop_table *table, uint64_t hash,
                          const void *key, size_t klen)
{
    uint32_t number = hop_segment_of(table, hash);
    const struct hop_segment *segment = hop_segment(table, number);
    uint32_t bucket = hop_index(segment, hash);
    const uint8_t *marks = segment->marks + bucket;
    uint8_t mark = hop_mark_of(hash);
    uint64_t near = hop_same_bytes(marks, mark) |
                    (uint64_t)hop_same_bytes(marks + HOP_RUN, mark) << HOP_RUN;
    for (near &= REACH_MASK; near != 0; near &= near - 1) {
        uint32_t idx = bucket + (uint32_t)__builtin_ctzll(near);
        if (idx >= segment->n)
            idx -= segment->n;
        const struct hop_entry *entry = &segment->entries[idx];
        if (item_hash(entry) >> 24 == hash >> 24 &&
            is_key(table, entry, key, klen))
            return (struct hop_found){entry, number << HOP_SHIFT | idx};
    }
    return (struct hop_found){NULL, HOP_NONE};
}

uint32_t hop_find(const struct hop_table *table, uint64_t hash, const void *key,
                  size_t klen)
{
    return hop_look(table, hash, key, klen).place;
}

static void claim(struct hop_segment *s, uint32_t idx)
{
    assert((s->used[idx / 64] >> idx % 64 & 1) == 0);
    s->used[idx / 64] |= (uint64_t)1 << idx % 64;
    s->n_used++;
}

static void unclaim(struct hop_segment *s, uint32_t idx)
{
    assert(s->used[idx / 64] >> idx % 64 & 1);
    s->used[idx / 64] &= ~((uint64_t)1 << idx % 64);
    s->n_used--;
}

static void set_mark(const struct hop_segment *s, uint32_t idx, uint8_t mark)
{
    s->marks[idx] = mark;
    if (idx < MARKS_AFTER)
        s->marks[s->n + idx] = mark;
}

void hop_claim(struct hop_table *table, uint32_t place)
{
    claim(hop_segment(table, place >> HOP_SHIFT), place & HOP_INDEX);
}

void hop_unclaim(struct hop_table *table, uint32_t place)
{
    unclaim(hop_segment(table, place >> HOP_SHIFT), place & HOP_INDEX);
}

void hop_mark(struct hop_table *table, uint32_t place, uint8_t mark)
{
    set_mark(hop_segment(table, place >> HOP_SHIFT), place & HOP_INDEX, mark);
}

/* The bit of a place in a bucket's word, both by their numbers in a segment. */
static uint64_t bit_of(const struct hop_segment *s, uint32_t bucket,
                       uint32_t idx)
{
    uint32_t distance = idx >= bucket ? idx - bucket : idx + s->n - bucket;
    assert(distance < HOP_REACH);
    return (uint64_t)1 << distance;
}

/* The word will no longer have this bit of the place. */
static void retire(struct hop_table *table, struct hop_segment *s,
                   const struct hop_entry *bucket, uint64_t bit, uint32_t place)
{
    uint32_t idx = place & HOP_INDEX;
    set_mark(s, idx, 0);
    commit_drop(table->commit, &s->entries[idx].meta);
    if (bucket->owner & bit) {
        assert(table->n_retired < HOP_RETIRED_MAX);
        table->retired[table->n_retired++] = place;
    } else {
        unclaim(s, idx);
    }
}

void hop_link(struct hop_table *table, uint32_t bucket, uint32_t place,
              uint64_t hash)
{
    struct hop_segment *s = hop_segment(table, bucket >> HOP_SHIFT);
    uint32_t first = bucket & HOP_INDEX, idx = place & HOP_INDEX;
    claim(s, idx);
    set_mark(s, idx, hop_mark_of(hash));
    commit_change(table->commit, &s->entries[first].owner, 0,
                  bit_of(s, first, idx));
}

void hop_swap(struct hop_table *table, uint32_t bucket, uint32_t from,
              uint32_t to)
{
    struct hop_segment *s = hop_segment(table, bucket >> HOP_SHIFT);
    uint32_t first = bucket & HOP_INDEX, idx = to & HOP_INDEX;
    uint64_t old = bit_of(s, first, from & HOP_INDEX);
    claim(s, idx);
    set_mark(s, idx, s->marks[from & HOP_INDEX]);
    commit_change(table->commit, &s->entries[first].owner, old,
                  bit_of(s, first, idx));
    retire(table, s, &s->entries[first], old, from);
}

void hop_unlink(struct hop_table *table, uint32_t bucket, uint32_t place)
{
    struct hop_segment *s = hop_segment(table, bucket >> HOP_SHIFT);
    uint32_t first = bucket & HOP_INDEX;
    uint64_t bit = bit_of(s, first, place & HOP_INDEX);
    commit_change(table->commit, &s->entries[first].owner, bit, 0);
    retire(table, s, &s->entries[first], bit, place);
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
    uint32_t n = hop_segment(table, bucket >> HOP_SHIFT)->n;
    for (uint32_t d = HOP_REACH; d < n; d += 64) {
        uint32_t idx = hop_place_at(table, bucket, d) & HOP_INDEX;
        uint64_t unused =
            ~used_from(hop_segment(table, bucket >> HOP_SHIFT), idx);
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
