/*
 * The public calls on an open store: each goes to the function of its name of
 * the engine that keeps it.
 */
#include "store/engine/engine.h"

#include "store/engine/engine_ops.h"

int kv_close(struct kv *kv)
{
    return kv ? kv_ops_of(kv)->close(kv) : 0;
}

int kv_pool_grow(struct kv *kv, uint64_t more, char *error, size_t error_size)
{
    return kv_ops_of(kv)->grow(kv, more, error, error_size);
}

void kv_set_time(struct kv *kv, uint32_t now)
{
    kv_ops_of(kv)->set_time(kv, now);
}

void kv_hint(struct kv *kv, const void *key, size_t klen, bool store)
{
    if (kv_ops_of(kv)->hint)
        kv_ops_of(kv)->hint(kv, key, klen, store);
}

enum kv_result kv_get(struct kv *kv, const void *key, size_t klen,
                      struct kv_item *out)
{
    return kv_ops_of(kv)->get(kv, key, klen, out);
}

enum kv_result kv_read(struct kv *kv, const void *key, size_t klen, size_t from,
                       void *buffer, size_t size, struct kv_item *out)
{
    struct kv_item item;
    return kv_ops_of(kv)->read(kv, key, klen, true, from, buffer, size,
                               out ? out : &item);
}

enum kv_result kv_attributes(struct kv *kv, const void *key, size_t klen,
                             struct kv_item *out)
{
    return kv_ops_of(kv)->read(kv, key, klen, false, 0, NULL, 0, out);
}

uint64_t kv_count(const struct kv *kv)
{
    struct kv_statistics stats;
    kv_ops_of(kv)->stats(kv, &stats);
    return stats.items;
}

enum kv_result kv_exists(struct kv *kv, const void *key, size_t klen)
{
    return kv_ops_of(kv)->exists(kv, key, klen);
}

bool kv_next_run(const struct kv *kv, const struct kv_item *item,
                 struct kv_run *run)
{
    return kv_ops_of(kv)->next_run(kv, item, run);
}

size_t kv_copy_value(const struct kv *kv, const struct kv_item *item,
                     size_t from, void *to, size_t len)
{
    return kv_ops_of(kv)->copy_value(kv, item, from, to, len);
}

void kv_unpin_all(struct kv *kv)
{
    kv_ops_of(kv)->unpin_all(kv);
}

enum kv_result kv_hold(struct kv *kv, const void *key, size_t klen,
                       struct kv_item *out)
{
    return kv_ops_of(kv)->hold(kv, key, klen, out);
}

void kv_release(struct kv *kv, struct kv_item *item)
{
    kv_ops_of(kv)->release(kv, item);
}

enum kv_result kv_store(struct kv *kv, enum kv_mode mode, const void *key,
                        size_t klen, uint32_t flags, uint32_t exptime,
                        uint64_t cas, const void *value, size_t len,
                        uint64_t *cas_out)
{
    return kv_ops_of(kv)->store(kv, mode, key, klen, flags, exptime, cas, value,
                                len, cas_out);
}

enum kv_result kv_reserve(struct kv *kv, size_t klen, size_t len,
                          struct kv_reservation *out)
{
    return kv_ops_of(kv)->reserve(kv, klen, len, out);
}

enum kv_result kv_publish(struct kv *kv, struct kv_reservation *reservation,
                          enum kv_mode mode, const void *key, size_t klen,
                          uint32_t flags, uint32_t exptime, uint64_t cas,
                          uint64_t *cas_out)
{
    return kv_ops_of(kv)->publish(kv, reservation, mode, key, klen, flags,
                                  exptime, cas, cas_out);
}

void *kv_reserved(const struct kv *kv, const struct kv_reservation *reservation,
                  size_t from, size_t *room)
{
    return kv_ops_of(kv)->reserved(kv, reservation, from, room);
}

void kv_cancel(struct kv *kv, struct kv_reservation *reservation)
{
    kv_ops_of(kv)->cancel(kv, reservation);
}

enum kv_result kv_delete(struct kv *kv, const void *key, size_t klen)
{
    return kv_ops_of(kv)->delete (kv, key, klen);
}

enum kv_result kv_touch(struct kv *kv, const void *key, size_t klen,
                        uint32_t exptime)
{
    return kv_ops_of(kv)->touch(kv, key, klen, exptime);
}

enum kv_result kv_arith(struct kv *kv, const void *key, size_t klen, bool incr,
                        uint64_t delta, uint64_t *value, uint64_t *cas)
{
    return kv_ops_of(kv)->arith(kv, key, klen, incr, delta, value, cas);
}

enum kv_result kv_flush_all(struct kv *kv, uint32_t when)
{
    return kv_ops_of(kv)->flush_all(kv, when);
}

enum kv_result kv_commit(struct kv *kv)
{
    return kv_ops_of(kv)->commit(kv);
}

bool kv_catch_up(struct kv *kv)
{
    return kv_ops_of(kv)->catch_up && kv_ops_of(kv)->catch_up(kv);
}

void kv_stats(const struct kv *kv, struct kv_statistics *out)
{
    kv_ops_of(kv)->stats(kv, out);
}

uint64_t kv_scan(struct kv *kv, uint64_t cursor, kv_visit *visit, void *context)
{
    return kv_ops_of(kv)->scan(kv, cursor, visit, context);
}

void kv_each(struct kv *kv, kv_visit *visit, void *context)
{
    uint64_t cursor = 0;
    do {
        cursor = kv_scan(kv, cursor, visit, context);
    } while (cursor != 0);
}
