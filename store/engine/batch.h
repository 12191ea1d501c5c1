/*
 * Puts that come together, as a list through their private links.
 */
#ifndef STORE_ENGINE_BATCH_H
#define STORE_ENGINE_BATCH_H

#include "store/engine/engine.h"

/* Carry out a list in its order; nothing is committed. Each gets its result. */
void batch_store(struct kv *kv, struct kv_put *first);

/* They could not be made durable: that is the result of each. */
void batch_fail(struct kv_put *first);

/* Of an array: the first result that is no KV_OK. */
enum kv_result batch_result(const struct kv_put *batch, size_t n);

#endif
