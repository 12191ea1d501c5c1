/*
 * The functions of the durable engine; each does what the public call of its
 * name in engine.h promises.
 */
#ifndef STORE_ENGINE_DURABLE_H
#define STORE_ENGINE_DURABLE_H

#include "store/engine/engine_ops.h"

extern const struct kv_ops durable_ops;

int durable_close(struct kv *kv);
void durable_fail(struct kv *kv);
int durable_grow(struct kv *kv, uint64_t more, char *error, size_t error_size);
void durable_set_time(struct kv *kv, uint32_t now);
void durable_hint(struct kv *kv, const void *key, size_t klen, bool store);
enum kv_result durable_get(struct kv *kv, const void *key, size_t klen,
                           struct kv_item *out);
enum kv_result durable_read(struct kv *kv, const void *key, size_t klen,
                            bool used, size_t from, void *buffer, size_t size,
                            struct kv_item *out);
enum kv_result durable_exists(struct kv *kv, const void *key, size_t klen);
bool durable_next_run(const struct kv *kv, const struct kv_item *item,
                      struct kv_run *run);
size_t durable_copy_value(const struct kv *kv, const struct kv_item *item,
                          size_t from, void *to, size_t len);
void durable_unpin_all(struct kv *kv);
enum kv_result durable_hold(struct kv *kv, const void *key, size_t klen,
                            struct kv_item *out);
void durable_release(struct kv *kv, struct kv_item *item);
enum kv_result durable_store(struct kv *kv, enum kv_mode mode, const void *key,
                             size_t klen, uint32_t flags, uint32_t exptime,
                             uint64_t cas, const void *value, size_t len,
                             uint64_t *cas_out);
enum kv_result durable_reserve(struct kv *kv, size_t klen, size_t len,
                               struct kv_reservation *out);
enum kv_result durable_publish(struct kv *kv,
                               struct kv_reservation *reservation,
                               enum kv_mode mode, const void *key, size_t klen,
                               uint32_t flags, uint32_t exptime, uint64_t cas,
                               uint64_t *cas_out);
void *durable_reserved(const struct kv *kv,
                       const struct kv_reservation *reservation, size_t from,
                       size_t *room);
void durable_cancel(struct kv *kv, struct kv_reservation *reservation);
enum kv_result durable_delete(struct kv *kv, const void *key, size_t klen);
enum kv_result durable_touch(struct kv *kv, const void *key, size_t klen,
                             uint32_t exptime);
enum kv_result durable_arith(struct kv *kv, const void *key, size_t klen,
                             bool incr, uint64_t delta, uint64_t *value,
                             uint64_t *cas);
enum kv_result durable_flush_all(struct kv *kv, uint32_t when);
enum kv_result durable_commit(struct kv *kv);
bool durable_catch_up(struct kv *kv);
void durable_stats(const struct kv *kv, struct kv_statistics *out);
void durable_costs(const struct kv *kv, struct kv_cost out[KV_KINDS]);
uint64_t durable_scan(struct kv *kv, uint64_t cursor, kv_visit *visit,
                      void *context);

/* The item in a place; nothing is borrowed. */
void durable_item(struct kv *kv, uint32_t place, struct kv_item *out);

/* The item in a place is evicted: note it for the callback. */
void durable_note_evicted(struct kv *kv, uint32_t place);

/* Write one of the pool's own words; durable after the next fence. */
void durable_set(struct kv *kv, uint64_t *word, uint64_t value);

#endif
