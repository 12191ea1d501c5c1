/* Operations on a front: find the shard, do it there, leave. */
#include "store/engine/shared.h"

#include "store/engine/batch.h"

#include <string.h>

static enum kv_result get(struct kv_shared *shared, const void *key,
                          size_t klen, size_t from, void *buffer, size_t size,
                          struct kv_item *out)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    enum kv_result result =
        kv_read(shard->kv, key, klen, from, buffer, size, out);
    return shared_leave(shared, shard, false, result);
}

enum kv_result kv_shared_get(struct kv_shared *shared, const void *key,
                             size_t klen, size_t from, void *buffer,
                             size_t size, struct kv_item *out)
{
    struct kv_item lent;
    enum kv_result result = get(shared, key, klen, from, buffer, size, out);
    if (result != KV_MISS || !shared->missed)
        return result;
    if (!shared_ask(shared, key, klen, &lent))
        return get(shared, key, klen, from, buffer, size, out);
    if (from < lent.len && size > 0)
        memcpy(buffer, (const char *)lent.value + from,
               lent.len - from < size ? lent.len - from : size);
    if (out) {
        *out = lent;
        out->value = NULL;
    }
    return KV_OK;
}

static enum kv_result hold(struct kv_shared *shared, const void *key,
                           size_t klen, struct kv_item *out)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    enum kv_result result = kv_hold(shard->kv, key, klen, out);
    if (result == KV_OK) {
        out->shard = (uint32_t)(shard - shared->shards);
        kv_unpin_all(shard->kv);
    }
    return shared_leave(shared, shard, false, result);
}

enum kv_result kv_shared_hold(struct kv_shared *shared, const void *key,
                              size_t klen, struct kv_item *out)
{
    struct kv_item lent;
    enum kv_result result = hold(shared, key, klen, out);
    if (result != KV_MISS || !shared->missed)
        return result;
    shared_ask(shared, key, klen, &lent);
    return hold(shared, key, klen, out);
}

void kv_shared_release(struct kv_shared *shared, struct kv_item *item)
{
    struct shared_shard *shard = &shared->shards[item->shard];
    pthread_mutex_lock(&shard->lock);
    kv_release(shard->kv, item);
    pthread_mutex_unlock(&shard->lock);
}

bool kv_shared_next_run(const struct kv_shared *shared,
                        const struct kv_item *item, struct kv_run *run)
{
    return kv_next_run(shared->shards[item->shard].kv, item, run);
}

enum kv_result kv_shared_exists(struct kv_shared *shared, const void *key,
                                size_t klen)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    return shared_leave(shared, shard, false, kv_exists(shard->kv, key, klen));
}

enum kv_result kv_shared_store(struct kv_shared *shared, enum kv_mode mode,
                               const void *key, size_t klen, uint32_t flags,
                               uint32_t exptime, uint64_t cas,
                               const void *value, size_t len, uint64_t *cas_out)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    return shared_leave(shared, shard, true,
                        kv_store(shard->kv, mode, key, klen, flags, exptime,
                                 cas, value, len, cas_out));
}

enum kv_result kv_shared_store_batch(struct kv_shared *shared,
                                     struct kv_put *batch, size_t n)
{
    struct kv_put *first[KV_MAX_SHARDS] = {NULL};
    for (size_t i = n; i > 0; i--) {
        struct kv_put *put = &batch[i - 1];
        uint32_t number = shared_number(shared, put->key, put->klen);
        put->next = first[number];
        first[number] = put;
    }
    for (uint32_t i = 0; i < shared->n; i++) {
        if (!first[i])
            continue;
        struct shared_shard *shard = shared_enter_number(shared, i);
        batch_store(shard->kv, first[i]);
        if (shared_leave(shared, shard, true, KV_OK) != KV_OK)
            batch_fail(first[i]);
    }
    return batch_result(batch, n);
}

enum kv_result kv_shared_delete(struct kv_shared *shared, const void *key,
                                size_t klen)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    return shared_leave(shared, shard, true, kv_delete(shard->kv, key, klen));
}

enum kv_result kv_shared_touch(struct kv_shared *shared, const void *key,
                               size_t klen, uint32_t exptime)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    return shared_leave(shared, shard, true,
                        kv_touch(shard->kv, key, klen, exptime));
}

enum kv_result kv_shared_arith(struct kv_shared *shared, const void *key,
                               size_t klen, bool incr, uint64_t delta,
                               uint64_t *value, uint64_t *cas)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    return shared_leave(
        shared, shard, true,
        kv_arith(shard->kv, key, klen, incr, delta, value, cas));
}

enum kv_result kv_shared_run(struct kv_shared *shared, const void *key,
                             size_t klen, kv_shared_call *call, void *context)
{
    struct shared_shard *shard = shared_enter(shared, key, klen);
    enum kv_result result = call(context, shard->kv);
    kv_unpin_all(shard->kv);
    return shared_leave(shared, shard, true, result);
}

void kv_shared_set_time(struct kv_shared *shared, uint32_t now)
{
    atomic_store_explicit(&shared->now, now, memory_order_relaxed);
}

/* Do one thing on each shard; the first result that is not KV_OK. */
static enum kv_result each(struct kv_shared *shared,
                           enum kv_result (*call)(struct kv *kv, uint32_t when),
                           uint32_t when)
{
    uint32_t now = atomic_load_explicit(&shared->now, memory_order_relaxed);
    enum kv_result first = KV_OK;
    for (uint32_t i = 0; i < shared->n; i++) {
        struct shared_shard *shard = &shared->shards[i];
        pthread_mutex_lock(&shard->lock);
        kv_set_time(shard->kv, now);
        shard->now = now;
        enum kv_result result =
            shared_leave(shared, shard, true, call(shard->kv, when));
        first = first == KV_OK ? result : first;
    }
    return first;
}

static enum kv_result commit(struct kv *kv, uint32_t when)
{
    (void)when;
    return kv_commit(kv);
}

enum kv_result kv_shared_commit(struct kv_shared *shared)
{
    return each(shared, commit, 0);
}

enum kv_result kv_shared_flush_all(struct kv_shared *shared, uint32_t when)
{
    return each(shared, kv_flush_all, when);
}

static void add_statistics(struct kv_statistics *sum,
                           const struct kv_statistics *one)
{
    sum->items += one->items;
    sum->total_items += one->total_items;
    sum->bytes += one->bytes;
    sum->pool_size += one->pool_size;
    sum->table_entries += one->table_entries;
    sum->heap_size += one->heap_size;
    sum->heap_free += one->heap_free;
    sum->evictions += one->evictions;
    sum->reclaimed += one->reclaimed;
    sum->get_hits += one->get_hits;
    sum->get_misses += one->get_misses;
    sum->get_expired += one->get_expired;
    sum->get_flushed += one->get_flushed;
    sum->commits += one->commits;
    sum->displacements += one->displacements;
    sum->growths += one->growths;
    sum->shrinks += one->shrinks;
    sum->pieces += one->pieces;
    sum->repaired += one->repaired;
    sum->scan_left += one->scan_left;
    sum->total_bytes += one->total_bytes;
    sum->fences += one->fences;
    sum->flushed += one->flushed;
    sum->cas = sum->cas > one->cas ? sum->cas : one->cas;
    sum->was_clean = sum->was_clean && one->was_clean;
    sum->durability = one->durability;
    sum->max_value = one->max_value;
}

void kv_shared_stats(struct kv_shared *shared, struct kv_statistics *out)
{
    struct kv_statistics one;
    *out = (struct kv_statistics){.was_clean = true};
    for (uint32_t i = 0; i < shared->n; i++) {
        struct shared_shard *shard = &shared->shards[i];
        pthread_mutex_lock(&shard->lock);
        kv_stats(shard->kv, &one);
        pthread_mutex_unlock(&shard->lock);
        add_statistics(out, &one);
    }
}

void kv_shared_costs(struct kv_shared *shared, struct kv_cost out[KV_KINDS])
{
    struct kv_cost one[KV_KINDS];
    memset(out, 0, sizeof(one));
    for (uint32_t i = 0; i < shared->n; i++) {
        struct shared_shard *shard = &shared->shards[i];
        pthread_mutex_lock(&shard->lock);
        kv_costs(shard->kv, one);
        pthread_mutex_unlock(&shard->lock);
        for (unsigned kind = 0; kind < KV_KINDS; kind++) {
            out[kind].n += one[kind].n;
            out[kind].stored += one[kind].stored;
            out[kind].flushed += one[kind].flushed;
            out[kind].fences += one[kind].fences;
        }
    }
}

uint32_t kv_shared_shards(const struct kv_shared *shared)
{
    return shared->n;
}

uint64_t kv_shared_scan(struct kv_shared *shared, uint64_t cursor,
                        kv_visit *visit, void *context)
{
    uint64_t i = cursor >> 32;
    if (i >= shared->n)
        return 0;
    struct shared_shard *shard = &shared->shards[i];
    pthread_mutex_lock(&shard->lock);
    uint64_t next = kv_scan(shard->kv, cursor & UINT32_MAX, visit, context);
    pthread_mutex_unlock(&shard->lock);
    if (next == 0)
        return i + 1 < shared->n ? (i + 1) << 32 : 0;
    return i << 32 | next;
}
