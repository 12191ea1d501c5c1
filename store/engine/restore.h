/* Putting back items that were taken out of a pool, cas ids included. */
#ifndef STORE_ENGINE_RESTORE_H
#define STORE_ENGINE_RESTORE_H

#include "store/engine/engine.h"

/* Whether the pool has given no cas id that counts: it holds no items, and no
 * flush_all is remembered. */
bool restore_is_fresh(const struct kv *kv);

/* kv_store() with KV_SET, but the item gets this cas id, which the pool will
 * not give again. Only while the pool is fresh but for such items.
 * KV_NOT_STORED: no item can have that id. */
enum kv_result restore_item(struct kv *kv, const void *key, size_t klen,
                            uint32_t flags, uint32_t exptime, uint64_t cas,
                            const void *value, size_t len);

#endif
