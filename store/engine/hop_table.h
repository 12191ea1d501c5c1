/*
 * The hash table in persistent memory: a directory of segments, each of them
 * hopscotch over neighbourhoods of HOP_REACH places, committed by one owner
 * word per bucket.
 *
 * A key's hash says where it is: bits 63 down choose the segment, as many as
 * it is deep; bits 24 to 39 the bucket in it, in proportion. Buckets and
 * places have the same numbers: segment << HOP_SHIFT | number in it.
 *
 * Look-ups go by marks[], in memory: a byte of each item's hash at its place.
 * So they touch no line of the pool but those of entries that are likely right.
 *
 * Which places are in use is derived: a place is used when an owner word names
 * it, and until the commit that took the name away is durable ("retired"). All
 * changes of owner words go through the commit list, so a crash sees the old
 * word or the new one. How a table grows is grow.h's business.
 */
#ifndef STORE_ENGINE_HOP_TABLE_H
#define STORE_ENGINE_HOP_TABLE_H

#include "store/engine/commit.h"
#include "store/engine/hop_layout.h"

#include <stdalign.h>
#include <stdbool.h>

#define HOP_NONE  UINT32_MAX
#define HOP_SHIFT 11
#define HOP_INDEX (HOP_SEGMENT_MAX - 1)
/* That have numbers; those above are of marks in the list of uses (lru.h). */
#define HOP_SEGMENTS    ((1u << (32 - HOP_SHIFT)) - 8)
#define HOP_RETIRED_MAX 4096 /* places between two commits */
#define HOP_BLOCK_SHIFT 8    /* 2^8 segments are described in one block */
#define HOP_BLOCK       (1u << HOP_BLOCK_SHIFT)

static_assert(1u << HOP_SHIFT == HOP_SEGMENT_MAX, "places have numbers");

/* On a cache line of its own, as a look-up needs it. */
struct hop_segment {
    alignas(
        64) struct hop_entry *entries; /* NULL: a number that is not in use */
    uint64_t *used;                    /* one bit per place: owned or retired */
    uint8_t *marks;  /* per place: hop_mark_of(), or 0: no item; the
                      * first ones once more after the last */
    uint64_t *word;  /* in the pool: the table word that names it */
    uint32_t n;      /* places */
    uint32_t n_used; /* bits set in used[] */
    uint32_t prefix; /* its hash bits, from bit 31 down */
    uint32_t depth;  /* how many of them */
    bool pending;    /* the owner's: its items are not known yet */
};

struct hop_table {
    struct commit *commit;
    const unsigned char *base;   /* of the region: for keys in blobs */
    struct hop_segment **blocks; /* of HOP_BLOCK; they never move */
    uint32_t n_blocks;
    uint32_t max_blocks;
    uint32_t n_segments; /* numbers given so far, unused ones included */
    uint32_t unused;     /* list of numbers, linked by prefix, or HOP_NONE */
    uint32_t live;       /* segments in use */
    uint64_t places;     /* of all segments */
    uint32_t *directory; /* by the hash's highest bits: number of a segment */
    uint32_t depth;      /* bits of it */
    uint32_t *deeper;  /* a directory of one bit more, or NULL: the part ... */
    uint32_t n_deeper; /* ... of it that is made already */
    uint32_t n_retired;
    uint32_t retired[HOP_RETIRED_MAX];
};

/* A move that brings a free place nearer: from becomes free after a commit. */
struct hop_move {
    uint32_t bucket;
    uint32_t from;
    uint32_t to;
};

/* Without segments. 0 or -ENOMEM. */
int hop_init(struct hop_table *table, struct commit *commit,
             const unsigned char *base);
void hop_fini(struct hop_table *table);

/* A segment with nothing used and a number of its own, which no hash finds
 * yet. n: HOP_SEGMENT_MIN to _MAX, a multiple of 64. 0 or -ENOMEM. */
int hop_add_segment(struct hop_table *table, struct hop_entry *entries,
                    uint32_t n, uint32_t prefix, uint32_t depth,
                    uint32_t *number);
void hop_drop_segment(struct hop_table *table, uint32_t number);

/* The directory is at least so deep. 0 or -ENOMEM. */
int hop_deepen(struct hop_table *table, uint32_t depth);

/* Make some of a directory of one bit more, so that hop_deepen() need not make
 * all of it in one pause. */
void hop_prepare(struct hop_table *table);

/* Hashes with the segment's bits find it from now on. The directory is deep
 * enough already. */
void hop_enter(struct hop_table *table, uint32_t number);

static inline struct hop_segment *hop_segment(const struct hop_table *table,
                                              uint32_t number)
{
    return &table->blocks[number >> HOP_BLOCK_SHIFT][number & (HOP_BLOCK - 1)];
}

static inline uint32_t hop_segment_of(const struct hop_table *table,
                                      uint64_t hash)
{
    return table->directory[table->depth ? hash >> (64 - table->depth) : 0];
}

/* The number of the hash's bucket in a segment. */
static inline uint32_t hop_index(const struct hop_segment *segment,
                                 uint64_t hash)
{
    return ((uint32_t)(hash >> 24) & 0xffff) * segment->n >> 16;
}

static inline uint32_t hop_bucket_in(const struct hop_table *table,
                                     uint32_t segment, uint64_t hash)
{
    return segment << HOP_SHIFT | hop_index(hop_segment(table, segment), hash);
}

static inline uint32_t hop_bucket(const struct hop_table *table, uint64_t hash)
{
    return hop_bucket_in(table, hop_segment_of(table, hash), hash);
}

static inline struct hop_entry *hop_entry(const struct hop_table *table,
                                          uint32_t place)
{
    return &hop_segment(table, place >> HOP_SHIFT)->entries[place & HOP_INDEX];
}

/* The place so many places on, round the segment's end. */
static inline uint32_t hop_place_at(const struct hop_table *table,
                                    uint32_t place, uint32_t distance)
{
    uint32_t n = hop_segment(table, place >> HOP_SHIFT)->n;
    uint32_t idx = (place & HOP_INDEX) + distance;
    return (place & ~HOP_INDEX) | (idx < n ? idx : idx - n);
}

/* Whether there is a place of that number. */
static inline bool hop_exists(const struct hop_table *table, uint32_t place)
{
    uint32_t segment = place >> HOP_SHIFT;
    return segment < table->n_segments &&
           (place & HOP_INDEX) < hop_segment(table, segment)->n;
}

/* How far place is from bucket, in one segment. */
static inline uint32_t hop_distance(const struct hop_table *table,
                                    uint32_t bucket, uint32_t place)
{
    uint32_t n = hop_segment(table, place >> HOP_SHIFT)->n;
    return place >= bucket ? place - bucket : place + n - bucket;
}

static inline bool hop_used(const struct hop_table *table, uint32_t place)
{
    uint32_t idx = place & HOP_INDEX;
    return hop_segment(table, place >> HOP_SHIFT)->used[idx / 64] >> idx % 64 &
           1;
}

/* The owner word as it will be after the commit. */
static inline uint64_t hop_owner(const struct hop_table *table, uint32_t bucket)
{
    return commit_read(table->commit, &hop_entry(table, bucket)->owner);
}

/* What marks[] says of an item with this hash, of which bits 24 to 63 count. */
static inline uint8_t hop_mark_of(uint64_t hash)
{
    uint8_t mark = (uint8_t)((hash >> 24) * 0x9e3779b97f4a7c15u >> 56);
    return mark ? mark : 1;
}

/* An item is in this place, or with 0 no longer, as look-ups see it. */
void hop_mark(struct hop_table *table, uint32_t place, uint8_t mark);

/* The next place by number that there is, after the last one the first; from
 * HOP_NONE the first. HOP_NONE: there are none. */
uint32_t hop_next_place(const struct hop_table *table, uint32_t place);

/* Begin to load what a look-up, or a store, of this hash will need later. */
void hop_hint(const struct hop_table *table, uint64_t hash, bool store);

/* Begin to load the lines that a store of an item with this hash will write:
 * its stores and write-backs would wait for them one after the other. Gives the
 * hop_free_place() that the hash has now. */
uint32_t hop_fetch(const struct hop_table *table, uint64_t hash);

/* The place of the item with this key, or HOP_NONE. */
uint32_t hop_find(const struct hop_table *table, uint64_t hash, const void *key,
                  size_t klen);

/* A free place that the bucket reaches, or HOP_NONE. */
uint32_t hop_free_place(const struct hop_table *table, uint32_t bucket);

/* A place is used from now on, or no more, without a word written. */
void hop_claim(struct hop_table *table, uint32_t place);
void hop_unclaim(struct hop_table *table, uint32_t place);

/* The place now belongs to the bucket; an item with that hash has been written
 * there. */
void hop_link(struct hop_table *table, uint32_t bucket, uint32_t place,
              uint64_t hash);

/* In one word: the bucket owns to and no longer from. The hash is the same. */
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
