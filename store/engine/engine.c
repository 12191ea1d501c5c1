/*
 * Opening, closing, the clock, flushing, the commit of a turn, and telling.
 *
 * Order at open: the region is mapped and marked as in use; table, heap and
 * list are set up empty; recovery fills them. Nothing is written between the
 * mark and the first operation but repairs.
 */
#include "store/engine/engine.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/engine_state.h"
#include "store/engine/item.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES_PER_ENTRY                                                        \
    192 /* of pool, at least, for one place in the table                       \
         */
#define VALUE_DEFAULT (1u << 20) /* bytes */
#define SWEEP_STEP    8          /* places per commit */
#define FIRST_EPOCH   2          /* so that a pin of 0 holds nothing */

static uint64_t places_for(uint64_t size)
{
    uint64_t n = REGION_PLACES_MIN;
    while (n * 2 * BYTES_PER_ENTRY <= size && n < REGION_PLACES_MAX)
        n *= 2;
    return n;
}

static enum pm_policy policy_of(enum kv_durability durability)
{
    switch (durability) {
    case KV_DURABILITY_PMEM:
        return PM_PMEM;
    case KV_DURABILITY_SYNC:
        return PM_SYNC;
    case KV_DURABILITY_PROCESS:
        return PM_PROCESS;
    default:
        return PM_AUTO;
    }
}

static int check_options(const char *path, const struct kv_options *options,
                         char *error, size_t error_size)
{
    if (options->max_value > KV_MAX_VALUE) {
        snprintf(error, error_size,
                 "%s: values of at most %u bytes are possible, %u were asked "
                 "for",
                 path, KV_MAX_VALUE, options->max_value);
        return -EINVAL;
    }
    if (options->size != 0 && options->size < KV_MIN_POOL) {
        snprintf(error, error_size,
                 "%s: a pool has at least %d bytes, %llu were asked for", path,
                 KV_MIN_POOL, (unsigned long long)options->size);
        return -EINVAL;
    }
    return 0;
}

static int open_parts(struct kv *kv)
{
    const struct region_header *header = kv->region.header;
    unsigned char *base = kv->region.pm.base;
    uint64_t places = header->table.size / sizeof(struct hop_entry);
    int rc = hop_init(&kv->table, &kv->commit,
                      (struct hop_entry *)(base + header->table.offset), base,
                      places);
    if (rc < 0)
        return rc;
    rc = lru_init(&kv->lru, places);
    if (rc < 0)
        goto undo_table;
    rc = heap_init(&kv->heap, header->heap.offset,
                   header->heap.offset + header->heap.size);
    if (rc < 0)
        goto undo_heap;
    rc = recover(kv);
    if (rc < 0)
        goto undo_heap;
    return 0;

undo_heap:
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
undo_table:
    hop_fini(&kv->table);
    return rc;
}

static void tell_open(const struct kv *kv, const char *path,
                      const struct kv_options *options)
{
    if (options->durability == KV_DURABILITY_DEFAULT &&
        kv->region.pm.policy == PM_PROCESS)
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
             kv->region.created     ? "new"
             : kv->region.was_clean ? "closed in order"
                                    : "recovered after a crash");
}

int kv_open_hooked(const char *path, const struct kv_options *options,
                   const struct pm_hook *hook, struct kv **out, char *error,
                   size_t error_size)
{
    struct region_options region = {.size = options->size,
                                    .table_size = places_for(options->size) *
                                                  sizeof(struct hop_entry),
                                    .policy = policy_of(options->durability),
                                    .hook = hook};
    int rc = check_options(path, options, error, error_size);
    if (rc < 0)
        return rc;
    struct kv *kv = calloc(1, sizeof(*kv));
    if (!kv) {
        snprintf(error, error_size, "%s: no memory", path);
        return -ENOMEM;
    }
    rc = region_open(&kv->region, path, &region, error, error_size);
    if (rc < 0)
        goto free_kv;
    kv->evict = options->evict;
    kv->max_value = options->max_value ? options->max_value : VALUE_DEFAULT;
    kv->epoch = FIRST_EPOCH;
    commit_init(&kv->commit, &kv->region.pm);
    borrow_init(&kv->borrow);
    rc = open_parts(kv);
    if (rc < 0) {
        snprintf(error, error_size, "%s cannot be recovered: %s", path,
                 strerror(-rc));
        goto undo_region;
    }
#ifdef FASTSOCK_TEST
    char fault[128];
    if (audit(kv, fault, sizeof(fault)) == -EUCLEAN) {
        log_error("audit after open: %s", fault);
        abort();
    }
#endif
    tell_open(kv, path, options);
    *out = kv;
    return 0;

undo_region:
    region_close(&kv->region, false);
free_kv:
    free(kv);
    return rc;
}

int kv_open(const char *path, const struct kv_options *options, struct kv **out,
            char *error, size_t error_size)
{
    return kv_open_hooked(path, options, NULL, out, error, error_size);
}

int kv_close(struct kv *kv)
{
    if (!kv)
        return 0;
    assert(kv->n_reserved == 0);
    bool clean = space_commit(kv) == KV_OK;
    if (clean)
        region_set(&kv->region, &kv->region.header->state.cas_ceiling,
                   kv->next_cas);
    int rc = region_close(&kv->region, clean);
    borrow_fini(&kv->borrow);
    heap_fini(&kv->heap);
    lru_fini(&kv->lru);
    hop_fini(&kv->table);
    free(kv);
    return rc;
}

/* Write the flush record that does not count and make it the one that will. */
static void set_flush(struct kv *kv, uint64_t mark, uint64_t when)
{
    struct region_state *state = &kv->region.header->state;
    uint32_t slot = (uint32_t)!state->flush_live;
    region_set(&kv->region, &state->flush[slot].mark, mark);
    region_set(&kv->region, &state->flush[slot].when, when);
    commit_write(&kv->commit, &state->flush_live, slot);
    kv->flush_slot = slot;
    kv->flush_mark = mark;
    kv->flush_when = when;
}

static void flush_now(struct kv *kv)
{
    set_flush(kv, kv->next_cas, 0);
    kv->sweep_left = (uint64_t)kv->table.mask + 1;
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
        flush_now(kv);
    else
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
    out->pool_size = kv->region.header->size;
    out->table_entries = (uint64_t)kv->table.mask + 1;
    out->heap_size = kv->heap.end - kv->heap.begin;
    out->heap_free = kv->heap.free_bytes;
    out->commits = kv->commit.runs;
    out->cas = kv->next_cas;
    out->durability = pm_policy_name(kv->region.pm.policy);
    out->was_clean = kv->region.was_clean;
    out->max_value = kv->max_value;
}

void kv_each(struct kv *kv, kv_visit *visit, void *context)
{
    for (uint64_t i = 0; i <= kv->table.mask; i++) {
        uint32_t place = (uint32_t)i;
        if (!lru_contains(&kv->lru, place) || space_is_stale(kv, place))
            continue;
        const struct hop_entry *entry = kv_entry(kv, place);
        struct item_text text = item_read(kv->region.pm.base, entry);
        uint64_t meta = kv_meta(kv, place);
        struct kv_item item = {.value = text.value,
                               .len = text.vlen,
                               .flags = (uint32_t)(meta >> 32),
                               .exptime = (uint32_t)meta,
                               .cas = entry->cas};
        if (!visit(context, text.key, text.klen, &item))
            return;
    }
}
