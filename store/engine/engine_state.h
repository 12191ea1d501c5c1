/*
 * What the open durable engine is made of. Private to the room and its tests;
 * users look at engine.h.
 *
 * Who does what: calls.c the public calls, operations.c the client's
 * operations, value.c the bytes of a value, space.c room for them and the
 * commit, grow.c a table that grows, costs.c what they cost, recover.c the
 * state at open, audit.c the proof that table, heap and list agree, engine.c
 * the rest.
 */
#ifndef STORE_ENGINE_ENGINE_STATE_H
#define STORE_ENGINE_ENGINE_STATE_H

#include "store/engine/borrow.h"
#include "store/engine/commit.h"
#include "store/engine/costs.h"
#include "store/engine/engine_ops.h"
#include "store/engine/hash.h"
#include "store/engine/heap.h"
#include "store/engine/hold.h"
#include "store/engine/hop_table.h"
#include "store/engine/lru.h"
#include "store/engine/summary.h"
#include "store/pm/pool.h"

struct kv_region {
    struct region region;
    bool by_default;     /* nobody asked for a durability */
    struct guard *guard; /* of its mapping; NULL: it is not guarded */
};

/* What opening has left to do; recover.c. */
struct recovery {
    bool active;
    uint32_t next;               /* number of the segment to look at next */
    uint64_t places;             /* of all that nobody has looked into */
    uint64_t cas_end;            /* no item has this cas id, or a higher one */
    uint64_t newest;             /* highest cas id found */
    struct summary_counts told;  /* when the pool was closed */
    struct summary_counts found; /* in the segments looked into */
};

struct kv {
    struct kv_head head;
    struct kv_region *region;
    struct pm *pm;    /* the region's, or our own */
    struct pm own_pm; /* for a thread that has this pool only */
    struct pool pool;
    bool own_region; /* opened with the pool, closed with it */
    struct hop_table table;
    struct heap heap;
    struct lru lru;
    struct borrow borrow;
    struct holds holds;
    bool evict;
    bool contiguous;      /* no chains are made */
    bool failed;          /* a commit did not succeed: KV_IO for ever */
    uint32_t max_value;   /* bytes */
    uint32_t now;         /* unix seconds */
    uint32_t epoch;       /* of borrowed values: grows per turn; see pins */
    uint32_t flush_slot;  /* which flush record counts, or will */
    uint32_t swept_at;    /* second of the last look at the whole table */
    uint32_t sweep_place; /* where the next look begins */
    uint32_t sparse;      /* a segment that could be smaller, or HOP_NONE */
    uint64_t sweep_left;  /* places that may hold flushed items */
    uint64_t sweep_due;   /* places to look at before a store is full */
    uint64_t expiring;    /* items with an exptime */
    uint64_t seed;        /* of the hash of keys */
    uint64_t next_cas;
    uint64_t cas_ceiling; /* the one in the pool */
    uint64_t flush_mark;  /* items with a cas below it are gone */
    uint64_t flush_when;  /* unix seconds of a flush to come, 0 = none */
    uint64_t moves;       /* grows when items may have changed place or gone */
    uint64_t reserved_bytes; /* of the heap: reservations, held orphans */
    uint64_t n_reserved;
    struct kv_statistics stats; /* those that are counted */
    struct recovery recovery;
    struct commit commit;
    struct costs costs;
};

/* kv_region_open(), kv_open() with a table of functions in front of every write
 * to the pool. */
int kv_region_open_hooked(const char *path,
                          const struct kv_region_options *options,
                          const struct pm_hook *hook, struct kv_region **out,
                          char *error, size_t error_size);
int kv_open_hooked(const char *path, const struct kv_options *options,
                   const struct pm_hook *hook, struct kv **out, char *error,
                   size_t error_size);

static inline uint64_t kv_hash(const struct kv *kv, const void *key,
                               size_t klen)
{
    return hash_key(kv->seed, key, klen);
}

static inline struct hop_entry *kv_entry(const struct kv *kv, uint32_t place)
{
    return hop_entry(&kv->table, place);
}

/* An address in the region. */
static inline unsigned char *kv_at(const struct kv *kv, uint64_t offset)
{
    return kv->pm->base + offset;
}

/* exptime and flags as they will be after the commit. */
static inline uint64_t kv_meta(struct kv *kv, uint32_t place)
{
    return commit_read_loose(&kv->commit, &kv_entry(kv, place)->meta);
}

static inline bool kv_expired(const struct kv *kv, uint32_t exptime)
{
    return exptime != 0 && exptime <= kv->now;
}

static inline bool kv_flushed(const struct kv *kv, uint64_t cas)
{
    return cas < kv->flush_mark;
}

#endif
