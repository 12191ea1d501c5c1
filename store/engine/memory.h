/*
 * The engine in memory: what engine.h promises, but for durability. It is
 * plain, so that it is also what tests hold the durable engine against.
 *
 * memory.c has the operations, memory_room.c what they need room for. An item
 * is one allocation; size in the options bounds items and chains, counted with
 * what malloc() adds.
 */
#ifndef STORE_ENGINE_MEMORY_H
#define STORE_ENGINE_MEMORY_H

#include "store/engine/engine_ops.h"
#include "store/engine/memory_table.h"

struct memory {
    struct kv_head head;
    struct memory_table table;
    struct memory_item *retired[2]; /* borrowed and gone: this turn's, older */
    uint64_t size;                  /* bytes that may be used */
    uint64_t used;                  /* bytes of items, all that are allocated */
    uint64_t seed;                  /* of the hash of keys */
    uint64_t next_cas;
    uint64_t flush_mark; /* items with a cas below it are gone */
    uint64_t flush_when; /* unix seconds of a flush to come, 0 = none */
    uint64_t expiring;   /* items with an exptime */
    uint64_t sweep_at;   /* cursor */
    uint64_t n_reserved;
    uint64_t n_held;
    uint32_t now; /* unix seconds */
    uint32_t swept_at;
    uint32_t epoch; /* grows per turn */
    uint32_t max_value;
    bool evict;
    bool flushed;               /* there may be items below the mark */
    struct kv_statistics stats; /* those that are counted */
};

extern const struct kv_ops memory_ops;

/* As kv_open() with KV_ENGINE_MEMORY; name is for sentences. */
int memory_open(const char *name, const struct kv_options *options,
                struct kv **out, char *error, size_t error_size);

/* What an item takes of size, in bytes. */
uint64_t memory_cost(size_t klen, uint64_t len);

/* Bytes in use. */
uint64_t memory_used(const struct memory *m);

bool memory_is_flushed(const struct memory *m, const struct memory_item *item);

/* Flushed or expired. */
bool memory_is_stale(const struct memory *m, const struct memory_item *item);

/* An item of zeroes but for its lengths; NULL: no memory. There is room. */
struct memory_item *memory_new_item(struct memory *m, size_t klen,
                                    uint32_t len);

/* One that is not in the table. */
void memory_free_item(struct memory *m, struct memory_item *item);

/* What was retired in this turn (0), before it (1). */
void memory_free_retired(struct memory *m, int turn);

/* Account for an item that is in the table now, or no longer. */
void memory_count(struct memory *m, const struct memory_item *item, bool here);

/* Out of the table; freed when nobody reads it any more. */
void memory_drop(struct memory *m, struct memory_item **link);

/* One that is gone and not held: freed when it is borrowed no more. */
void memory_retire(struct memory *m, struct memory_item *item);

/* Make so many bytes free. Items may go. KV_OK, KV_TOO_LARGE, KV_NO_SPACE. */
enum kv_result memory_make_room(struct memory *m, uint64_t bytes);

/* Look at a few chains for items that are stale. */
void memory_sweep_some(struct memory *m);

#endif
