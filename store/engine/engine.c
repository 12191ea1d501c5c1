/*
 * Opening and closing a pool, the clock, flushing, holding, the commit of a
 * turn, and telling.
 *
 * Order at open: the pool is marked as in use; table, heap and list are set up
 * empty; recovery fills them. Nothing is written between the mark and the
 * first operation but repairs, and the first segment of a new pool.
 */
#include "store/engine/engine.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/durable.h"
#include "store/engine/engine_state.h"
#include "store/engine/grow.h"
#include "store/engine/guarded.h"
#include "store/engine/item.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"
#include "store/engine/watch.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_DEFAULT (1u << 20) /* bytes */
#define SWEEP_STEP    8          /* places per commit */
#define FIRST_EPOCH   2          /* so that a pin of 0 holds nothing */

static int try_parts(struct kv *kv, bool believe)
{
    int rc = hop_init(&kv->table, &kv->commit, kv->pm->base);
    if (rc < 0)
        return rc;
    lru_init(&kv->lru, kv->evict);
    rc = heap_init(&kv->heap);
    if (rc == 0)
        rc = recover(kv, believe);
    if (rc == 0 && kv->table.live == 0 && grow_first(kv) != KV_OK)
        rc = -ENOSPC;
    if (rc == 0)
        return 0;
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
    return rc;
}

static int open_parts(struct kv *kv)
{
    int rc = try_parts(kv, true);
    return rc == -EUCLEAN ? try_parts(kv, false) : rc;
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
             : kv->recovery.active ? "closed in order; it serves at once, what "
                                     "is free is looked up meanwhile"
             : kv->pool.was_clean  ? "closed in order"
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
    kv->head.ops = &durable_ops;
    kv->region = region;
    kv->pm = &region->region.pm;
    if (options->own_thread) {
        if (pm_share(&kv->own_pm, &region->region.pm) < 0) {
            free(kv);
            return NULL;
        }
        kv->pm = &kv->own_pm;
    }
    kv->evict = options->evict;
    kv->contiguous = options->contiguous;
    kv->max_value = options->max_value ? options->max_value : VALUE_DEFAULT;
    kv->epoch = FIRST_EPOCH;
    kv->sparse = HOP_NONE;
    commit_init(&kv->commit, kv->pm);
    costs_init(&kv->costs, &kv->commit);
    borrow_init(&kv->borrow);
    holds_init(&kv->holds);
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

/* A fault on the way leaves memory that is not the pool's: it is freed. */
static int open_in_frame(struct kv *kv)
{
    struct guard_frame frame;
    if (sigsetjmp(frame.back, 0) != 0) {
        heap_fini(&kv->heap);
        lru_fini(&kv->lru);
        hop_fini(&kv->table);
        return -EIO;
    }
    guard_enter(&frame, kv->region->guard);
    int rc = open_parts(kv);
    guard_leave(&frame);
    return rc;
}

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
    if (rc < 0) {
        rc = guarded_lost(region, error, error_size) ? -EIO : rc;
        goto free_kv;
    }
    memcpy(&kv->seed, kv->pool.header->seed, sizeof(kv->seed));
    rc = region->guard ? open_in_frame(kv) : open_parts(kv);
    bool is_lost = guarded_lost(region, error, error_size);
    if (rc < 0) {
        rc = is_lost ? -EIO : refuse_recovery(kv, rc, error, error_size);
        goto undo_pool;
    }
    if (is_lost) {
        rc = -EIO;
        goto undo_parts;
    }
#ifdef FASTSOCK_TEST
    if (!kv->recovery.active)
        audit_or_abort(kv);
#endif
    rc = region->guard ? guarded_calls(kv) : 0;
    if (rc < 0) {
        region_refuse(region->region.path, error, error_size, rc,
                      "cannot be opened: no memory");
        goto undo_parts;
    }
    tell_open(kv, region->region.path, region->by_default);
    *out = kv;
    return 0;

undo_parts:
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
undo_pool:
    pool_close(&kv->pool, false);
free_kv:
    pm_unshare(&kv->own_pm);
    free(kv);
    return rc;
}

void durable_fail(struct kv *kv)
{
    kv->failed = true;
}

/* It is whole before anything says that the pool was closed in order: what is
 * not, is damage. */
static int leave_summary(struct kv *kv)
{
    struct summary_counts counts = {.items = kv->stats.items,
                                    .bytes = kv->stats.bytes,
                                    .expiring = kv->expiring};
    durable_unpin_all(kv);
    summary_write(&kv->pool, &kv->heap, &counts, kv->next_cas);
    int rc = pm_fence(&kv->region->region.pm);
    /* Flushed with clean, which is in its line. */
    if (rc == 0)
        pm_store64(kv->pm, &kv->pool.header->state.cas_ceiling, kv->next_cas);
    return rc;
}

int durable_close(struct kv *kv)
{
    assert(kv->failed || (kv->n_reserved == 0 && kv->holds.n == 0));
    bool clean = space_commit(kv) == KV_OK && leave_summary(kv) == 0;
    int rc = pool_close(&kv->pool, clean);
    borrow_fini(&kv->borrow);
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
    pm_unshare(&kv->own_pm);
    if (kv->own_region) {
        int closed = kv_region_close(kv->region);
        rc = rc < 0 ? rc : closed;
    }
    free(kv);
    return rc;
}

int durable_grow(struct kv *kv, uint64_t more, char *error, size_t error_size)
{
    struct region_part *added;
    size_t n;
    int rc = pool_grow(&kv->pool, more, &added, &n, error, error_size);
    if (rc < 0)
        return rc;
    kv->own_pm.size = kv->region->region.pm.size;
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

void durable_set(struct kv *kv, uint64_t *word, uint64_t value)
{
    pm_store64(kv->pm, word, value);
    pm_flush(kv->pm, word, sizeof(*word));
}

/* Write the flush record that does not count and make it the one that will. */
static void set_flush(struct kv *kv, uint64_t mark, uint64_t when)
{
    struct pool_state *state = &kv->pool.header->state;
    uint32_t slot = (uint32_t)!state->flush_live;
    struct pool_flush *flush = &state->flush[slot];
    uint64_t before = kv->pm->flushed;
    pm_store64(kv->pm, &flush->mark, mark);
    pm_store64(kv->pm, &flush->when, when);
    pm_flush(kv->pm, flush, sizeof(*flush));
    commit_write(&kv->commit, &state->flush_live, slot);
    costs_note(&kv->costs, KV_KIND_FLUSH, kv->pm->flushed - before, 0);
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

void durable_set_time(struct kv *kv, uint32_t now)
{
    kv->now = now;
    if (kv->flush_when != 0 && kv->flush_when <= now &&
        space_begin(kv) == KV_OK)
        flush_now(kv);
}

enum kv_result durable_flush_all(struct kv *kv, uint32_t when)
{
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    if (when <= kv->now)
        return flush_now(kv);
    set_flush(kv, kv->flush_mark, when);
    return KV_OK;
}

void durable_unpin_all(struct kv *kv)
{
    kv->epoch += 2;
    borrow_clear(&kv->borrow);
    heap_unpin(&kv->heap, kv->epoch);
}

/* The blob of an item that was found: where the value lies, less the key. */
static struct item_blob blob_of(const struct kv *kv, size_t klen,
                                const struct kv_item *item)
{
    const unsigned char *value = item->value;
    if (!value)
        return (struct item_blob){item->chain, true};
    return (struct item_blob){(uint64_t)(value - kv->pm->base) -
                                  item_blob_prefix((uint32_t)klen),
                              false};
}

enum kv_result durable_hold(struct kv *kv, const void *key, size_t klen,
                            struct kv_item *out)
{
    struct kv_item item;
    struct hold *hold;
    enum kv_result result = durable_get(kv, key, klen, &item);
    if (result != KV_OK)
        return result;
    uint64_t size = item_blob_size((uint32_t)klen, item.len);
    if (size == 0) {
        hold = holds_copy(&kv->holds, item.value, item.len);
        item.value = hold ? hold->bytes : NULL;
    } else {
        struct item_blob blob = blob_of(kv, klen, &item);
        hold = holds_blob(&kv->holds, blob.offset, size, blob.chained);
    }
    if (!hold)
        return KV_NO_SPACE;
    item.held = hold;
    *out = item;
    return KV_OK;
}

void durable_release(struct kv *kv, struct kv_item *item)
{
    struct hold *hold = item->held;
    item->held = NULL;
    if (!holds_drop(&kv->holds, hold))
        return;
    if (hold->orphan && !kv->failed)
        space_retire_orphan(kv, hold);
    free(hold);
}

/* The segment that became sparse last; one in a turn. */
static void shrink(struct kv *kv)
{
    uint32_t segment = kv->sparse;
    kv->sparse = HOP_NONE;
    if (!kv->failed && hop_exists(&kv->table, segment << HOP_SHIFT))
        grow_smaller(kv, segment);
}

enum kv_result durable_commit(struct kv *kv)
{
    if (kv->commit.n > 0 && !kv->failed) {
        if (kv->sweep_left > 0 || kv->expiring > 0)
            space_sweep(kv, SWEEP_STEP);
        if (kv->evict && !kv->recovery.active) /* what is free is not known */
            space_keep_reserve(kv);
    }
    if (kv->sparse != HOP_NONE)
        shrink(kv);
    kv->epoch++;
    borrow_turn(&kv->borrow);
    enum kv_result result = space_commit(kv);
    if (kv->recovery.active)
        recover_step(kv);
    return result;
}

bool durable_catch_up(struct kv *kv)
{
    if (kv->recovery.active)
        recover_step(kv);
    return kv->recovery.active && !kv->failed;
}

void durable_stats(const struct kv *kv, struct kv_statistics *out)
{
    *out = kv->stats;
    costs_stored(&kv->costs, &out->total_items, &out->total_bytes);
    out->pool_size =
        kv->own_region ? kv->region->region.header->size : kv->pool.size;
    out->table_entries = kv->table.places;
    out->heap_size = kv->heap.size;
    out->heap_free = kv->heap.free_bytes;
    out->commits = kv->commit.runs;
    out->fences = kv->pm->fences;
    out->flushed = kv->pm->flushed;
    out->cas = kv->next_cas;
    out->durability = pm_policy_name(kv->pm->policy);
    out->was_clean = kv->pool.was_clean;
    out->max_value = kv->max_value;
    out->scan_left = kv->recovery.active ? kv->recovery.places + 1 : 0;
}

void durable_costs(const struct kv *kv, struct kv_cost out[KV_KINDS])
{
    costs_tell(&kv->costs, out);
}

void durable_item(struct kv *kv, uint32_t place, struct kv_item *out)
{
    const struct hop_entry *entry = kv_entry(kv, place);
    struct item_source source = item_value_source(kv->pm->base, entry);
    uint64_t meta = kv_meta(kv, place);
    *out = (struct kv_item){.value = source.bytes,
                            .len = source.len,
                            .flags = (uint32_t)(meta >> 32),
                            .exptime = (uint32_t)meta,
                            .cas = entry->cas,
                            .chain = source.chain,
                            .skip = source.skip};
}

void durable_note_evicted(struct kv *kv, uint32_t place)
{
    struct item_text text = item_read(kv->pm->base, kv_entry(kv, place));
    struct kv_item item;
    durable_item(kv, place, &item);
    void *room = watch_note(kv->head.watch, text.key, text.klen, &item);
    if (room)
        durable_copy_value(kv, &item, 0, room, item.len);
}

static bool visit_place(struct kv *kv, uint32_t place, kv_visit *visit,
                        void *context)
{
    struct kv_item item;
    if (!lru_contains(&kv->lru, place) || space_is_stale(kv, place))
        return true;
    struct item_text text = item_read(kv->pm->base, kv_entry(kv, place));
    durable_item(kv, place, &item);
    return visit(context, text.key, text.klen, &item);
}

uint64_t durable_scan(struct kv *kv, uint64_t cursor, kv_visit *visit,
                      void *context)
{
    if (cursor > UINT32_MAX)
        return 0;
    uint32_t number = hop_segment_of(&kv->table, cursor << 32);
    const struct hop_segment *s = hop_segment(&kv->table, number);
    uint64_t next = s->prefix + ((uint64_t)1 << (32 - s->depth));
    if (kv->recovery.active)
        recover_segment(kv, number);
    for (uint32_t i = 0; i < s->n; i++)
        /* Segments may have become one since: part of it was visited. */
        if (s->entries[i].tag >= cursor &&
            !visit_place(kv, number << HOP_SHIFT | i, visit, context))
            return 0;
    return next > UINT32_MAX ? 0 : next;
}

const struct kv_ops durable_ops = {.name = "durable",
                                   .close = durable_close,
                                   .fail = durable_fail,
                                   .grow = durable_grow,
                                   .set_time = durable_set_time,
                                   .hint = durable_hint,
                                   .get = durable_get,
                                   .read = durable_read,
                                   .exists = durable_exists,
                                   .next_run = durable_next_run,
                                   .copy_value = durable_copy_value,
                                   .unpin_all = durable_unpin_all,
                                   .hold = durable_hold,
                                   .release = durable_release,
                                   .store = durable_store,
                                   .reserve = durable_reserve,
                                   .publish = durable_publish,
                                   .reserved = durable_reserved,
                                   .cancel = durable_cancel,
                                   .delete = durable_delete,
                                   .touch = durable_touch,
                                   .arith = durable_arith,
                                   .flush_all = durable_flush_all,
                                   .commit = durable_commit,
                                   .catch_up = durable_catch_up,
                                   .stats = durable_stats,
                                   .costs = durable_costs,
                                   .scan = durable_scan};
