/*
 * The happy path costs nothing here: a free place is in reach and a free
 * extent fits. Otherwise, in this order: what was retired is made free by a
 * commit, small free extents are linked to a chain, stale items are removed,
 * entries are displaced, the table grows, the least recently used are evicted;
 * each step ends in a commit, since nothing is reusable before a durable word
 * has let go of it.
 */
#include "store/engine/space.h"

#include "config/log.h"
#include "store/engine/durable.h"
#include "store/engine/grow.h"
#include "store/engine/item.h"
#include "store/engine/recover.h"

#include <assert.h>
#include <string.h>

#define RESERVE_SHARE 64 /* this part of the heap is kept free in a cache */
#define PLACES_SHARE  8  /* and this part of the table */
#define RESERVE_STEP  64 /* evictions per turn for that at most */
#define EVICT_AHEAD   (16u << 10) /* bytes */
#define SWEEP_AHEAD   1024        /* places: some ten microseconds */
#define EVICT_STEPS   8           /* of what a value needs, after the first */
#define PLACE_TRIES   256
#define PIECE_MIN     512  /* bytes of a piece, but of the last one */
#define PIECES_MAX    4096 /* of one value */

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
        costs_settle(&kv->costs);
    }
    hop_settle(&kv->table);
    heap_settle(&kv->heap, kv->epoch);
    kv->moves++;
    return KV_OK;
}

void space_count(struct kv *kv, uint32_t place, bool here)
{
    uint64_t bytes = item_bytes(kv_entry(kv, place));
    uint64_t expiring = (uint32_t)kv_meta(kv, place) != 0;
    if (here) {
        kv->stats.items++;
        kv->stats.bytes += bytes;
        kv->expiring += expiring;
    } else {
        kv->stats.items--;
        kv->stats.bytes -= bytes;
        kv->expiring -= expiring;
    }
}

/* The pieces of a blob, as the heap knows them. */
static bool next_piece(const struct kv *kv, struct item_blob *blob,
                       uint64_t *len, uint64_t *offset, uint64_t *size)
{
    if (blob->offset == 0)
        return false;
    *offset = blob->offset;
    *size = *len;
    blob->offset = 0;
    if (blob->chained) {
        const struct hop_piece *piece = (const void *)kv_at(kv, *offset);
        *size = sizeof(*piece) + piece->len;
        blob->offset = piece->next;
    }
    return true;
}

/* Somebody holds it: it is retired when he gives it back. */
static bool is_held(struct kv *kv, const struct item_blob *blob, uint64_t len)
{
    struct hold *hold = holds_find(&kv->holds, blob->offset);
    struct item_blob left = *blob;
    uint64_t offset, size;
    if (!hold)
        return false;
    hold->orphan = true;
    while (next_piece(kv, &left, &len, &offset, &size))
        kv->reserved_bytes += heap_round(size);
    return true;
}

void space_retire_orphan(struct kv *kv, const struct hold *hold)
{
    struct item_blob blob = {hold->offset, hold->chained};
    uint64_t offset, len = hold->len, size;
    while (next_piece(kv, &blob, &len, &offset, &size)) {
        kv->reserved_bytes -= heap_round(size);
        heap_retire(&kv->heap, offset, size, kv->epoch);
    }
}

void space_retire_blob(struct kv *kv, uint32_t place)
{
    struct item_blob blob;
    uint64_t offset, len, size;
    if (item_form(kv_entry(kv, place)) == HOP_INLINE_ITEM ||
        !item_blob(kv_entry(kv, place), &blob, &len))
        return;
    if (kv->holds.n > 0 && is_held(kv, &blob, len))
        return;
    while (next_piece(kv, &blob, &len, &offset, &size))
        heap_retire(&kv->heap, offset, size, *lru_pin(&kv->lru, place));
}

void space_free_blob(struct kv *kv, const struct item_blob *blob, uint64_t len)
{
    struct item_blob left = *blob;
    uint64_t offset, size;
    while (next_piece(kv, &left, &len, &offset, &size))
        heap_free(&kv->heap, offset, size);
}

static uint32_t bucket_of(const struct kv *kv, uint32_t place)
{
    return hop_bucket_in(&kv->table, place >> HOP_SHIFT,
                         item_hash(kv_entry(kv, place)));
}

void space_remove(struct kv *kv, uint32_t place, enum kv_kind why)
{
    costs_note(&kv->costs, why, 0, 0);
    space_count(kv, place, false);
    space_retire_blob(kv, place);
    lru_remove(&kv->lru, place);
    hop_unlink(&kv->table, bucket_of(kv, place), place);
    kv->moves++;
    if (grow_is_sparse(kv, place >> HOP_SHIFT))
        kv->sparse = place >> HOP_SHIFT;
}

static void remove_counted(struct kv *kv, uint32_t place)
{
    bool stale = space_is_stale(kv, place);
    if (stale) {
        kv->stats.reclaimed++;
    } else {
        kv->stats.evictions++;
        if (kv->head.watch)
            durable_note_evicted(kv, place);
    }
    space_remove(kv, place, stale ? KV_KIND_EXPIRE : KV_KIND_EVICT);
}

void space_sweep(struct kv *kv, uint64_t n)
{
    if (!hop_exists(&kv->table, kv->sweep_place))
        kv->sweep_place = hop_next_place(&kv->table, kv->sweep_place);
    for (; n > 0; n--) {
        uint32_t place = kv->sweep_place;
        kv->sweep_place = hop_next_place(&kv->table, place);
        if (kv->sweep_left > 0)
            kv->sweep_left--;
        if (!lru_contains(&kv->lru, place) || !space_is_stale(kv, place))
            continue;
        if (commit_room(&kv->commit) < SPACE_WORDS ||
            kv->table.n_retired > HOP_RETIRED_MAX - SPACE_WORDS)
            if (space_commit(kv) != KV_OK)
                return;
        kv->stats.reclaimed++;
        space_remove(kv, place, KV_KIND_EXPIRE);
    }
}

/*
 * Some places of the table more, and all of them once a second. False: that has
 * been done.
 */
static bool sweep_further(struct kv *kv)
{
    if (kv->expiring > 0 && kv->swept_at != kv->now) {
        kv->swept_at = kv->now;
        kv->sweep_due = kv->table.places;
    }
    if (kv->sweep_due < kv->sweep_left)
        kv->sweep_due = kv->sweep_left;
    if (kv->sweep_due == 0)
        return false;
    uint64_t n = kv->sweep_due < SWEEP_AHEAD ? kv->sweep_due : SWEEP_AHEAD;
    kv->sweep_due -= n;
    space_sweep(kv, n);
    return true;
}

/* Evict until so many bytes wait for the next commit. False: nothing left. */
static bool evict_bytes(struct kv *kv, uint64_t bytes)
{
    uint64_t gone = 0;
    bool any = false;
    while (gone < bytes && lru_oldest(&kv->lru) != LRU_NONE) {
        if (space_begin(kv) != KV_OK)
            return false;
        uint64_t before = kv->heap.retired_bytes;
        remove_counted(kv, lru_oldest(&kv->lru));
        gone += kv->heap.retired_bytes - before;
        any = true;
    }
    return any;
}

/* Write a piece's head, and its place into the piece before it. Nothing is
 * flushed: the bytes that follow a head begin in its line, and will be. */
static void link_piece(struct kv *kv, struct item_blob *blob, uint64_t *last,
                       uint64_t at, uint64_t got)
{
    struct hop_piece piece = {.len = (uint32_t)(got - sizeof(piece))};
    uint64_t words[2];
    memcpy(words, &piece, sizeof(words));
    for (size_t i = 0; i < 2; i++)
        pm_store64(kv->pm, (uint64_t *)(void *)kv_at(kv, at) + i, words[i]);
    if (*last == 0)
        blob->offset = at;
    else
        pm_store64(kv->pm, (uint64_t *)(void *)kv_at(kv, *last), at);
    *last = at;
}

/* Link free extents, the largest first. False: not enough of them. */
static bool make_chain(struct kv *kv, uint64_t len, uint32_t klen,
                       struct item_blob *blob)
{
    const uint64_t head = sizeof(struct hop_piece);
    uint64_t left = len, last = 0, got;
    *blob = (struct item_blob){.chained = true};
    if (kv->contiguous || kv->heap.free_bytes < len)
        return false;
    for (int n = 0; n < PIECES_MAX; n++) {
        uint64_t at = n == 0 ? 0 : heap_alloc(&kv->heap, left + head);
        got = left + head;
        if (at == 0) /* no hole that fits: the largest */
            at = heap_alloc_some(&kv->heap, left + head, &got);
        if (at == 0)
            break;
        link_piece(kv, blob, &last, at, got);
        if (got == left + head)
            return true;
        if (got < PIECE_MIN || (n == 0 && got - head < klen))
            break;
        left -= got - head;
    }
    space_free_blob(kv, blob, len);
    blob->offset = 0;
    return false;
}

static bool try_blob(struct kv *kv, uint64_t len, uint32_t klen, bool whole,
                     struct item_blob *blob)
{
    blob->chained = false;
    blob->offset = heap_alloc(&kv->heap, len);
    if (blob->offset != 0)
        return true;
    return !whole && len > 0 && kv->heap.retired == HEAP_NONE &&
           !recover_pays(kv) && make_chain(kv, len, klen, blob);
}

/*
 * Before all of it has been looked at: a cache evicts once, of what it has
 * seen, and for some puts at a time, as each eviction costs a commit. For what
 * does not fit then the space may be in what is hidden.
 */
static enum kv_result look_further(struct kv *kv, uint64_t len, bool *evicted)
{
    if (!recover_pays(kv) && !*evicted && heap_round(len) <= EVICT_AHEAD &&
        evict_bytes(kv, EVICT_AHEAD)) {
        *evicted = true;
        return space_commit(kv);
    }
    return recover_rest(kv) < 0 ? KV_IO : KV_OK;
}

enum kv_result space_blob(struct kv *kv, uint64_t len, uint32_t klen,
                          bool whole, struct item_blob *blob)
{
    uint64_t more = heap_round(len); /* later less: holes grow together */
    bool swept = false, evicted = false;
    enum kv_result result;

    if (heap_round(len) > kv->heap.size)
        return KV_TOO_LARGE;
    while (!try_blob(kv, len, klen, whole, blob)) {
        if (kv->heap.retired != HEAP_NONE) {
            result = space_commit(kv);
        } else if (kv->recovery.active) {
            result = look_further(kv, len, &evicted);
        } else {
            /* A cache has another way; a store refuses for want of all. */
            if ((!swept || !kv->evict) && sweep_further(kv))
                swept = true;
            else if (!kv->evict || !evict_bytes(kv, more))
                return kv->failed ? KV_IO : KV_NO_SPACE;
            else
                more = heap_round(len) / EVICT_STEPS + 1;
            result = space_commit(kv);
        }
        if (result != KV_OK)
            return result;
    }
    return KV_OK;
}

static void move_item(struct kv *kv, const struct hop_move *move)
{
    uint64_t before = kv->pm->flushed;
    item_move(kv->pm, kv_entry(kv, move->to), kv_entry(kv, move->from),
              kv_meta(kv, move->from));
    costs_note(&kv->costs, KV_KIND_DISPLACE, kv->pm->flushed - before, 0);
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
        uint32_t place = hop_place_at(&kv->table, bucket, i);
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

/* One step towards a free place for the bucket; a commit must follow. */
static enum kv_result make_place(struct kv *kv, uint32_t bucket)
{
    struct hop_move move;
    if (hop_find_move(&kv->table, bucket, &move)) {
        move_item(kv, &move);
        return KV_OK;
    }
    enum kv_result result = grow_segment(kv, bucket >> HOP_SHIFT);
    if (result != KV_NO_SPACE)
        return result;
    return clear_place(kv, bucket) ? KV_OK : KV_NO_SPACE;
}

enum kv_result space_place(struct kv *kv, uint64_t hash, uint32_t *place)
{
    enum kv_result result;
    if (grow_is_due(kv, hop_segment_of(&kv->table, hash)) &&
        grow_segment(kv, hop_segment_of(&kv->table, hash)) == KV_IO)
        return KV_IO;
    for (int tries = 0; tries < PLACE_TRIES; tries++) {
        uint32_t bucket = hop_bucket(&kv->table, hash);
        *place = hop_free_place(&kv->table, bucket);
        if (*place != HOP_NONE)
            return KV_OK;
        result = kv->table.n_retired == 0 ? make_place(kv, bucket) : KV_OK;
        if (result == KV_OK)
            result = space_commit(kv);
        if (result != KV_OK)
            return result;
    }
    return KV_NO_SPACE;
}

static bool has_reserve(const struct kv *kv)
{
    uint64_t places = kv->table.places;
    return kv->heap.free_bytes + kv->heap.retired_bytes >=
               kv->heap.size / RESERVE_SHARE &&
           kv->stats.items <= places - places / PLACES_SHARE;
}

void space_keep_reserve(struct kv *kv)
{
    for (int i = 0; i < RESERVE_STEP && !has_reserve(kv); i++) {
        uint32_t oldest = lru_oldest(&kv->lru);
        if (oldest == LRU_NONE || space_begin(kv) != KV_OK)
            return;
        remove_counted(kv, oldest);
    }
}
