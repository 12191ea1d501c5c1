/*
 * The happy path costs nothing here: a free place is in reach and a free
 * extent fits. Otherwise, in this order: what was retired is made free by a
 * commit, stale items are removed, entries are displaced, the least recently
 * used are evicted; each step ends in a commit, since nothing is reusable
 * before a durable word has let go of it.
 */
#include "store/engine/space.h"

#include "config/log.h"
#include "store/engine/item.h"

#include <assert.h>
#include <string.h>

#define OPERATION_WORDS 8  /* more than any operation adds */
#define RESERVE_SHARE   64 /* this part of the heap is kept free in a cache */
#define PLACES_SHARE    8  /* and this part of the table */
#define RESERVE_STEP    64 /* evictions per turn for that at most */
#define PLACE_TRIES     256

enum kv_result space_commit(struct kv *kv)
{
    if (kv->failed)
        return KV_IO;
    if (kv->commit.n > 0) {
        int rc = commit_run(&kv->commit);
        if (rc < 0) {
            log_error("the pool has failed: %s; nothing is stored any more, "
                      "restart on good storage",
                      strerror(-rc));
            kv->failed = true;
            return KV_IO;
        }
    }
    hop_settle(&kv->table);
    heap_settle(&kv->heap, kv->epoch);
    kv->moves++;
    return KV_OK;
}

enum kv_result space_begin(struct kv *kv)
{
    if (kv->failed)
        return KV_IO;
    if (commit_room(&kv->commit) < OPERATION_WORDS ||
        kv->table.n_retired > HOP_RETIRED_MAX - OPERATION_WORDS)
        return space_commit(kv);
    return KV_OK;
}

bool space_is_stale(struct kv *kv, uint32_t place)
{
    return kv_expired(kv, (uint32_t)kv_meta(kv, place)) ||
           kv_flushed(kv, kv_entry(kv, place)->cas);
}

void space_count(struct kv *kv, uint32_t place, bool here)
{
    struct item_text text = item_read(kv->region.pm.base, kv_entry(kv, place));
    uint64_t expiring = (uint32_t)kv_meta(kv, place) != 0;
    if (here) {
        kv->stats.items++;
        kv->stats.bytes += text.klen + text.vlen;
        kv->expiring += expiring;
    } else {
        kv->stats.items--;
        kv->stats.bytes -= text.klen + text.vlen;
        kv->expiring -= expiring;
    }
}

void space_retire_blob(struct kv *kv, uint32_t place)
{
    uint64_t offset, len;
    if (item_blob(kv_entry(kv, place), &offset, &len))
        heap_retire(&kv->heap, offset, len, kv->lru.nodes[place].pin);
}

void space_remove(struct kv *kv, uint32_t bucket, uint32_t place)
{
    space_count(kv, place, false);
    space_retire_blob(kv, place);
    lru_remove(&kv->lru, place);
    hop_unlink(&kv->table, bucket, place);
    kv->moves++;
}

static uint32_t bucket_of(const struct kv *kv, uint32_t place)
{
    struct item_text text = item_read(kv->region.pm.base, kv_entry(kv, place));
    return hop_bucket(&kv->table, kv_hash(kv, text.key, text.klen));
}

static void remove_counted(struct kv *kv, uint32_t place)
{
    if (space_is_stale(kv, place))
        kv->stats.reclaimed++;
    else
        kv->stats.evictions++;
    space_remove(kv, bucket_of(kv, place), place);
}

void space_sweep(struct kv *kv, uint64_t n)
{
    for (; n > 0; n--) {
        uint32_t place = kv->sweep_place;
        kv->sweep_place = (place + 1) & kv->table.mask;
        if (kv->sweep_left > 0)
            kv->sweep_left--;
        if (!lru_contains(&kv->lru, place) || !space_is_stale(kv, place))
            continue;
        if (commit_room(&kv->commit) < OPERATION_WORDS ||
            kv->table.n_retired > HOP_RETIRED_MAX - OPERATION_WORDS)
            if (space_commit(kv) != KV_OK)
                return;
        kv->stats.reclaimed++;
        space_remove(kv, bucket_of(kv, place), place);
    }
}

/* All of the table, at most once a second. */
static void sweep_all(struct kv *kv)
{
    bool due =
        kv->sweep_left > 0 || (kv->expiring > 0 && kv->swept_at != kv->now);
    if (!due)
        return;
    kv->swept_at = kv->now;
    space_sweep(kv, (uint64_t)kv->table.mask + 1);
}

/* Evict until so many bytes wait for the next commit. False: nothing left. */
static bool evict_bytes(struct kv *kv, uint64_t bytes)
{
    uint64_t before = kv->heap.retired_bytes;
    bool any = false;
    while (kv->lru.oldest != LRU_NONE &&
           kv->heap.retired_bytes - before < bytes) {
        if (space_begin(kv) != KV_OK)
            return false;
        if (kv->heap.retired_bytes < before) /* that was a commit */
            before = kv->heap.retired_bytes;
        remove_counted(kv, kv->lru.oldest);
        any = true;
    }
    return any;
}

enum kv_result space_blob(struct kv *kv, uint64_t len, uint64_t *offset)
{
    bool swept = false;
    enum kv_result result;

    if (heap_round(len) > kv->heap.end - kv->heap.begin)
        return KV_TOO_LARGE;
    for (;;) {
        *offset = heap_alloc(&kv->heap, len);
        if (*offset != 0)
            return KV_OK;
        if (kv->heap.retired == HEAP_NONE) {
            if (!swept) {
                sweep_all(kv);
                swept = true;
            } else if (!kv->evict || !evict_bytes(kv, heap_round(len))) {
                return kv->failed ? KV_IO : KV_NO_SPACE;
            }
        }
        result = space_commit(kv);
        if (result != KV_OK)
            return result;
    }
}

static void move_item(struct kv *kv, const struct hop_move *move)
{
    item_move(&kv->region.pm, kv_entry(kv, move->to), kv_entry(kv, move->from),
              kv_meta(kv, move->from));
    lru_move(&kv->lru, move->from, move->to);
    hop_swap(&kv->table, move->bucket, move->from, move->to);
    kv->stats.displacements++;
}

/* Remove a stale item that the bucket reaches, or in cache mode the one that
 * was used least recently. False: neither. */
static bool clear_place(struct kv *kv, uint32_t bucket)
{
    uint32_t victim = HOP_NONE;
    for (uint32_t i = 0; i < HOP_REACH; i++) {
        uint32_t place = (bucket + i) & kv->table.mask;
        if (!lru_contains(&kv->lru, place))
            continue;
        if (space_is_stale(kv, place)) {
            victim = place;
            break;
        }
        if (kv->evict &&
            (victim == HOP_NONE || lru_before(&kv->lru, place, victim)))
            victim = place;
    }
    if (victim == HOP_NONE)
        return false;
    remove_counted(kv, victim);
    return true;
}

enum kv_result space_place(struct kv *kv, uint32_t bucket, uint32_t *place)
{
    struct hop_move move;
    for (int tries = 0; tries < PLACE_TRIES; tries++) {
        *place = hop_free_place(&kv->table, bucket);
        if (*place != HOP_NONE)
            return KV_OK;
        if (kv->table.n_retired == 0) {
            if (hop_find_move(&kv->table, bucket, &move))
                move_item(kv, &move);
            else if (!clear_place(kv, bucket))
                return KV_NO_SPACE;
        }
        enum kv_result result = space_commit(kv);
        if (result != KV_OK)
            return result;
    }
    return KV_NO_SPACE;
}

static bool has_reserve(const struct kv *kv)
{
    uint64_t size = kv->heap.end - kv->heap.begin;
    uint64_t places = (uint64_t)kv->table.mask + 1;
    return kv->heap.free_bytes + kv->heap.retired_bytes >=
               size / RESERVE_SHARE &&
           kv->stats.items <= places - places / PLACES_SHARE;
}

void space_keep_reserve(struct kv *kv)
{
    for (int i = 0; i < RESERVE_STEP && !has_reserve(kv); i++) {
        if (kv->lru.oldest == LRU_NONE || space_begin(kv) != KV_OK)
            return;
        remove_counted(kv, kv->lru.oldest);
    }
}
