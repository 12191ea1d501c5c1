/*
 * What an open front over shards is made of. Private to the room; users look
 * at engine.h.
 *
 * shared.c opens, closes and routes; shared_calls.c has the operations.
 * Locks: one per shard, never two at once, but to grow all of them, in the
 * order of their numbers, and never while a callback runs;
 * that of the list of callbacks that run is the innermost.
 */
#ifndef STORE_ENGINE_SHARED_H
#define STORE_ENGINE_SHARED_H

#include "store/engine/watch.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

struct shared_shard {
    alignas(64) pthread_mutex_t lock;
    struct kv *kv;
    uint32_t now; /* unix seconds, what kv was told last */
};

/* A thread inside a callback; it lies on that thread's stack. */
struct shared_caller {
    LIST_ENTRY(shared_caller) link;
    pthread_t thread;
    bool missing;             /* about a miss, or else about evictions */
    uint32_t depth;           /* of the note that is being told */
    struct watch_notes notes; /* still to be told; the thread's own */
};

struct kv_shared {
    struct kv_region *region; /* NULL: in memory */
    struct shared_shard *shards;
    uint32_t n;
    bool batch;
    uint64_t room; /* bytes that the file may grow to */
    uint64_t seed; /* of the hash that chooses the shard */
    _Atomic uint32_t now;
    kv_evicted *evicted;
    void *evicted_context;
    kv_missed *missed;
    void *missed_context;
    pthread_mutex_t callers_lock;
    LIST_HEAD(, shared_caller) callers;
};

/* Which shard has a key. */
uint32_t shared_number(const struct kv_shared *shared, const void *key,
                       size_t klen);

/* A shard, locked, with the time of day. */
struct shared_shard *shared_enter_number(struct kv_shared *shared,
                                         uint32_t number);

/* The same, that of a key. */
struct shared_shard *shared_enter(struct kv_shared *shared, const void *key,
                                  size_t klen);

/*
 * The operation is done, with that result; changed: it is made durable, unless
 * changes come in batches. Unlocks, then tells who was evicted. The result for
 * the caller.
 */
enum kv_result shared_leave(struct kv_shared *shared,
                            struct shared_shard *shard, bool changed,
                            enum kv_result result);

/* Nothing was found, no lock is held: ask. False: look again; *lent else. */
bool shared_ask(struct kv_shared *shared, const void *key, size_t klen,
                struct kv_item *lent);

#endif
