/*
 * Opening and closing a pool, the clock, flushing, the commit of a turn, and
 * telling.
 *
 * Order at open: the pool is marked as in use; table, heap and list are set up
 * empty; recovery fills them. Nothing is written between the mark and the
 * first operation but repairs, and the first segment of a new pool.
 */
#include "store/engine/engine.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/engine_state.h"
#include "store/engine/grow.h"
#include "store/engine/item.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_DEFAULT (1u << 20) /* bytes */
#define SWEEP_STEP    8          /* places per commit */
#define FIRST_EPOCH   2          /* so that a pin of 0 holds nothing */

static int open_heap(struct kv *kv)
{
    int rc = heap_init(&kv->heap);
    for (size_t i = 0; i < kv->pool.n_parts && rc == 0; i++) {
        const struct region_part *part = &kv->pool.parts[i];
        rc = heap_add(&kv->heap, part->offset, part->offset + part->size);
    }
    return rc;
}

static int open_parts(struct kv *kv)
{
    int rc = hop_init(&kv->table, &kv->commit, kv->pm->base);
    if (rc < 0)
        return rc;
    lru_init(&kv->lru, kv->evict);
    rc = open_heap(kv);
    if (rc == 0)
        rc = recover(kv);
    if (rc == 0 && kv->table.live == 0 && grow_first(kv) != KV_OK)
        rc = -ENOSPC;
    if (rc == 0)
        return 0;
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
    return rc;
}

static void tell_open(const struct kv *kv, const char *path, bool by_default)
{
    if (by_default && kv->pm->policy == PM_PROCESS)
        log_warn("pool %s is not on persistent memory: what is stored survives "
                 "a killed process but not a power loss; --durability sync "
                 "survives both",
                 path);
    if (kv->stats.repaired > 0)
        log_warn("pool %s was damaged: %llu entries were not whole and are "
                 "gone",
                 path, (unsigned long long)kv->stats.repaired);
    log_info("pool %s: %llu items, %s", path,
             (unsigned long long)kv->stats.items,
             kv->region->region.created ? "new"
             : kv->pool.was_clean       ? "closed in order"
                                        : "recovered after a crash");
}

static int refuse_recovery(const struct kv *kv, int rc, char *error,
                           size_t error_size)
{
    const char *path = kv->region->region.path;
    if (rc == -EUCLEAN)
        snprintf(error, error_size,
                 "%s is damaged: the table of its pool leads nowhere; restore "
                 "it from a copy",
                 path);
    else
        snprintf(error, error_size, "%s cannot be recovered: %s", path,
                 strerror(-rc));
    return rc == -EUCLEAN ? -EINVAL : rc;
}

static struct kv *new_kv(struct kv_region *region,
                         const struct kv_options *options)
{
    struct kv *kv = calloc(1, sizeof(*kv));
    if (!kv)
        return NULL;
    kv->region = region;
    kv->pm = &region->region.pm;
    kv->evict = options->evict;
    kv->contiguous = options->contiguous;
    kv->max_value = options->max_value ? options->max_value : VALUE_DEFAULT;
    kv->epoch = FIRST_EPOCH;
    commit_init(&kv->commit, kv->pm);
    borrow_init(&kv->borrow);
    return kv;
}

#ifdef FASTSOCK_TEST
static void audit_or_abort(struct kv *kv)
{
    char fault[128];
    if (audit(kv, fault, sizeof(fault)) == -EUCLEAN) {
        log_error("audit after open: %s", fault);
        abort();
    }
}
#endif

int kv_pool_open(struct kv_region *region, const char *name,
                 const struct kv_options *options, struct kv **out, char *error,
                 size_t error_size)
{
    if (options->max_value > KV_MAX_VALUE)
        return region_refuse(region->region.path, error, error_size, -EINVAL,
                             "can have values of at most %u bytes, %u were "
                             "asked for",
                             KV_MAX_VALUE, options->max_value);
    struct kv *kv = new_kv(region, options);
    if (!kv)
        return region_refuse(region->region.path, error, error_size, -ENOMEM,
                             "cannot be opened: no memory");
    int rc = pool_open(&kv->pool, &region->region, name, error, error_size);
    if (rc < 0)
        goto free_kv;
    memcpy(&kv->seed, kv->pool.header->seed, sizeof(kv->seed));
    rc = open_parts(kv);
    if (rc < 0) {
        rc = refuse_recovery(kv, rc, error, error_size);
        goto undo_pool;
    }
#ifdef FASTSOCK_TEST
    audit_or_abort(kv);
#endif
    tell_open(kv, region->region.path, region->by_default);
    *out = kv;
    return 0;

undo_pool:
    pool_close(&kv->pool, false);
free_kv:
    free(kv);
    return rc;
}

int kv_close(struct kv *kv)
{
    if (!kv)
        return 0;
    assert(kv->n_reserved == 0);
    bool clean = space_commit(kv) == KV_OK;
    if (clean)
        region_set(&kv->region->region, &kv->pool.header->state.cas_ceiling,
                   kv->next_cas);
    int rc = pool_close(&kv->pool, clean);
    borrow_fini(&kv->borrow);
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
    if (kv->own_region) {
        int closed = kv_region_close(kv->region);
        rc = rc < 0 ? rc : closed;
    }
    free(kv);
    return rc;
}

int kv_pool_grow(struct kv *kv, uint64_t more, char *error, size_t error_size)
{
    struct region_part *added;
    size_t n;
    int rc = pool_grow(&kv->pool, more, &added, &n, error, error_size);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = heap_add(&kv->heap, added[i].offset,
                      added[i].offset + added[i].size);
    free(added);
    if (rc < 0) /* it is the pool's; the next open finds it */
        return region_refuse(kv->region->region.path, error, error_size, rc,
                             "has grown, but not all of it can be used before "
                             "it is opened again: %s",
                             strerror(-rc));
    return 0;
}

/* Write the flush record that does not count and make it the one that will. */
static void set_flush(struct kv *kv, uint64_t mark, uint64_t when)
{
    struct region *region = &kv->region->region;
    struct pool_state *state = &kv->pool.header->state;
    uint32_t slot = (uint32_t)!state->flush_live;
    region_set(region, &state->flush[slot].mark, mark);
    region_set(region, &state->flush[slot].when, when);
    commit_write(&kv->commit, &state->flush_live, slot);
    kv->flush_slot = slot;
    kv->flush_mark = mark;
    kv->flush_when = when;
}

/* Committed by itself: an item that goes because of it must not be gone after
 * a crash that undoes it. */
static enum kv_result flush_now(struct kv *kv)
{
    set_flush(kv, kv->next_cas, 0);
    kv->sweep_left = kv->table.places;
    return space_commit(kv);
}

void kv_set_time(struct kv *kv, uint32_t now)
{
    kv->now = now;
    if (kv->flush_when != 0 && kv->flush_when <= now &&
        space_begin(kv) == KV_OK)
        flush_now(kv);
}

enum kv_result kv_flush_all(struct kv *kv, uint32_t when)
{
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    if (when <= kv->now)
        return flush_now(kv);
    set_flush(kv, kv->flush_mark, when);
    return KV_OK;
}

void kv_unpin_all(struct kv *kv)
{
    kv->epoch += 2;
    borrow_clear(&kv->borrow);
    heap_unpin(&kv->heap, kv->epoch);
}

enum kv_result kv_commit(struct kv *kv)
{
    if (kv->commit.n > 0 && !kv->failed) {
        if (kv->sweep_left > 0 || kv->expiring > 0)
            space_sweep(kv, SWEEP_STEP);
        if (kv->evict)
            space_keep_reserve(kv);
    }
    kv->epoch++;
    borrow_turn(&kv->borrow);
    return space_commit(kv);
}

void kv_stats(const struct kv *kv, struct kv_statistics *out)
{
    *out = kv->stats;
    out->pool_size =
        kv->own_region ? kv->region->region.header->size : kv->pool.size;
    out->table_entries = kv->table.places;
    out->heap_size = kv->heap.size;
    out->heap_free = kv->heap.free_bytes;
    out->commits = kv->commit.runs;
    out->cas = kv->next_cas;
    out->durability = pm_policy_name(kv->pm->policy);
    out->was_clean = kv->pool.was_clean;
    out->max_value = kv->max_value;
}

static bool visit_place(struct kv *kv, uint32_t place, kv_visit *visit,
                        void *context)
{
    if (!lru_contains(&kv->lru, place) || space_is_stale(kv, place))
        return true;
    const struct hop_entry *entry = kv_entry(kv, place);
    struct item_text text = item_read(kv->pm->base, entry);
    struct item_source source = item_value_source(kv->pm->base, entry);
    uint64_t meta = kv_meta(kv, place);
    struct kv_item item = {.value = text.value,
                           .len = text.vlen,
                           .flags = (uint32_t)(meta >> 32),
                           .exptime = (uint32_t)meta,
                           .cas = entry->cas,
                           .chain = source.chain,
                           .skip = source.skip};
    return visit(context, text.key, text.klen, &item);
}

uint64_t kv_scan(struct kv *kv, uint64_t cursor, kv_visit *visit, void *context)
{
    if (cursor > UINT32_MAX)
        return 0;
    uint32_t number = hop_segment_of(&kv->table, cursor << 32);
    const struct hop_segment *s = &kv->table.segments[number];
    uint64_t next = s->prefix + ((uint64_t)1 << (32 - s->depth));
    for (uint32_t i = 0; i < s->n; i++)
        if (!visit_place(kv, number << HOP_SHIFT | i, visit, context))
            return 0;
    return next > UINT32_MAX ? 0 : next;
}

void kv_each(struct kv *kv, kv_visit *visit, void *context)
{
    uint64_t cursor = 0;
    do {
        cursor = kv_scan(kv, cursor, visit, context);
    } while (cursor != 0);
}
