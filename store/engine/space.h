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

/* Make what is pending durable and retired space free. KV_OK or KV_IO. */
enum kv_result space_commit(struct kv *kv);

/* Before an operation: the pool works and there is room for its words. */
enum kv_result space_begin(struct kv *kv);

/* len bytes of the heap. KV_OK, KV_TOO_LARGE, KV_NO_SPACE, KV_IO. */
enum kv_result space_blob(struct kv *kv, uint64_t len, uint64_t *offset);

/* A free place that the bucket reaches. KV_OK, KV_NO_SPACE, KV_IO. */
enum kv_result space_place(struct kv *kv, uint32_t bucket, uint32_t *place);

/* Remove an item; whoever borrowed its value keeps it. bucket: of its key. */
void space_remove(struct kv *kv, uint32_t bucket, uint32_t place);

/* Account for an item that is new in its place, or no longer there. */
void space_count(struct kv *kv, uint32_t place, bool here);

/* Retire the blob of the item in a place, if it has one. */
void space_retire_blob(struct kv *kv, uint32_t place);

/* Whether the item is expired or flushed. */
bool space_is_stale(struct kv *kv, uint32_t place);

/* Look at n places and remove stale items. */
void space_sweep(struct kv *kv, uint64_t n);

/* Cache mode: evict until there is some room in reserve, so that the commit
 * that follows frees it for the next turn without fences of its own. */
void space_keep_reserve(struct kv *kv);

#endif
