/*
 * Room for items: the commit itself, places, blobs, sweeping and eviction.
 *
 * Any of these but space_take() and space_remove() may commit what is pending,
 * move items to other places and, in cache mode, remove some: kv->moves tells
 * the caller that what he found must be looked up again. Committing early is
 * always allowed, as each operation's words are added together.
 */
#ifndef STORE_ENGINE_SPACE_H
#define STORE_ENGINE_SPACE_H

#include "store/engine/engine_state.h"
#include "store/engine/item.h"

#define SPACE_WORDS 8 /* more than any operation adds to a commit */

/* Make what is pending durable and retired space free. KV_OK or KV_IO. */
enum kv_result space_commit(struct kv *kv);

/* Before an operation: the pool works and there is room for its words. */
static inline enum kv_result space_begin(struct kv *kv)
{
    if (kv->failed)
        return KV_IO;
    if (commit_room(&kv->commit) < SPACE_WORDS ||
        kv->table.n_retired > HOP_RETIRED_MAX - SPACE_WORDS)
        return space_commit(kv);
    return KV_OK;
}

/* Room for a blob of len bytes, of which the first klen are in one run. Where
 * whole is set, or the pool is contiguous, it is no chain. KV_OK,
 * KV_TOO_LARGE, KV_NO_SPACE, KV_IO. */
enum kv_result space_blob(struct kv *kv, uint64_t len, uint32_t klen,
                          bool whole, struct item_blob *blob);

/* The same of a blob that was held when its item went. */
void space_retire_orphan(struct kv *kv, const struct hold *hold);

/* Room that nothing durable names is free again. */
void space_free_blob(struct kv *kv, const struct item_blob *blob, uint64_t len);

/* A free place that the key's bucket reaches. The table may grow. KV_OK,
 * KV_NO_SPACE, KV_IO. */
enum kv_result space_place(struct kv *kv, uint64_t hash, uint32_t *place);

/* Remove an item; whoever borrowed its value keeps it. why: the kind of
 * operation that this is. */
void space_remove(struct kv *kv, uint32_t place, enum kv_kind why);

/* Account for an item that is new in its place, or no longer there. */
void space_count(struct kv *kv, uint32_t place, bool here);

/* The same for one that has just been written: a line that is being written
 * back is slow to read. */
static inline void space_count_new(struct kv *kv, uint64_t bytes, bool expires)
{
    kv->stats.items++;
    kv->stats.bytes += bytes;
    kv->expiring += expires;
}

/* Retire the blob of the item in a place, if it has one. */
void space_retire_blob(struct kv *kv, uint32_t place);

/* Whether the item is expired or flushed. */
static inline bool space_is_stale(struct kv *kv, uint32_t place)
{
    return kv_expired(kv, (uint32_t)kv_meta(kv, place)) ||
           kv_flushed(kv, kv_entry(kv, place)->cas);
}

/* Look at n places and remove stale items. */
void space_sweep(struct kv *kv, uint64_t n);

/* Cache mode: evict until there is some room in reserve, so that the commit
 * that follows frees it for the next turn without fences of its own. */
void space_keep_reserve(struct kv *kv);

#endif
