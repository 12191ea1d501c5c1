/*
 * Recovery is a walk over table words and owner words: what they name is
 * there, all else is free. It needs no log and no order, and may itself be
 * interrupted: it writes only owner words, each to what it would say after a
 * full walk.
 *
 * First the tree of table words, then segment after segment; each tells the
 * heap what its items have there, and at last the rest is revealed as free. A
 * pool that was closed in order serves before the segments have been looked
 * into: one that is needed is taken at once, the others in the commits that
 * follow (recover_step()). Until all are, new space comes out of grains that
 * were empty when the pool was closed (summary.h), and of what is deleted or
 * evicted.
 *
 * After a crash there is nothing to repair, as only whole items get named.
 * Repairs are for damaged media and hostile files: an entry that is not valid,
 * lies in the wrong bucket, is named twice, has the key of another one, a
 * broken chain, or a blob that overlaps another one. A table word that cannot
 * be followed is beyond repair.
 */
#include "store/engine/recover.h"

#include "config/log.h"
#include "store/engine/durable.h"
#include "store/engine/grow.h"
#include "store/engine/item.h"
#include "store/engine/space.h"
#include "store/engine/summary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define REVEAL_STEP 8192 /* effort of heap_reveal() in one step */

/* Take a bit out of an owner word in the pool. */
static void forget(struct kv *kv, uint32_t bucket, uint64_t bits)
{
    struct hop_entry *entry = kv_entry(kv, bucket);
    pm_store64(kv->pm, &entry->owner, entry->owner & ~bits);
    pm_flush(kv->pm, &entry->owner, sizeof(entry->owner));
    kv->stats.repaired += (uint64_t)__builtin_popcountll(bits);
}

/* A part of the table: whole, in the heap, over no other one. */
static int take_part(struct kv *kv, uint64_t offset, uint64_t len)
{
    int rc = heap_tell(&kv->heap, offset, len);
    return rc > 0 ? 0 : rc < 0 ? rc : -EUCLEAN;
}

static int take_segment(struct kv *kv, uint64_t *word, uint32_t prefix,
                        uint32_t depth)
{
    uint64_t offset = (*word & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    uint32_t n = (uint32_t)(*word >> HOP_WORD_PLACES) * 64, number = 0;
    if (n < HOP_SEGMENT_MIN || n > HOP_SEGMENT_MAX || offset % 64 != 0)
        return -EUCLEAN;
    int rc = take_part(kv, offset, n * sizeof(struct hop_entry));
    if (rc == 0)
        rc = hop_deepen(&kv->table, depth);
    if (rc == 0)
        rc = hop_add_segment(&kv->table, (void *)kv_at(kv, offset), n, prefix,
                             depth, &number);
    if (rc == 0)
        rc = lru_add_chunk(&kv->lru, number, n);
    if (rc < 0)
        return rc;
    hop_segment(&kv->table, number)->word = word;
    hop_segment(&kv->table, number)->pending = true;
    kv->recovery.places += n;
    hop_enter(&kv->table, number);
    return 0;
}

/* All that a table word names; depth bounds the recursion. */
static int take_word(struct kv *kv, uint64_t *word, uint32_t prefix,
                     uint32_t depth)
{
    if ((*word & HOP_WORD_PAIR) == 0)
        return take_segment(kv, word, prefix, depth);
    uint64_t offset = (*word & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    if (depth == HOP_DEPTH_MAX ||
        (*word & ~HOP_WORD_PAIR) >> HOP_WORD_PLACES != 0)
        return -EUCLEAN;
    int rc = take_part(kv, offset, sizeof(struct hop_pair));
    if (rc < 0)
        return rc;
    struct hop_pair *pair = (void *)kv_at(kv, offset);
    rc = take_word(kv, &pair->word[0], prefix, depth + 1);
    if (rc < 0)
        return rc;
    return take_word(kv, &pair->word[1], prefix | (uint32_t)1 << (31 - depth),
                     depth + 1);
}

/* Take back what was told of a blob: all of it, or its first pieces. */
static void untake_blob(struct kv *kv, const struct hop_entry *entry,
                        uint32_t pieces)
{
    struct item_blob blob;
    uint64_t len;
    if (!item_blob(entry, &blob, &len))
        return;
    if (!blob.chained) {
        heap_untell(&kv->heap, blob.offset, len);
        return;
    }
    for (uint32_t i = 0; i < pieces && blob.offset != 0; i++) {
        const struct hop_piece *piece = (const void *)kv_at(kv, blob.offset);
        heap_untell(&kv->heap, blob.offset, sizeof(*piece) + piece->len);
        blob.offset = piece->next;
    }
}

/* The pieces of a chain. 1: taken, 0: it is broken, or -ENOMEM; *n: how many
 * were told. */
static int take_chain(struct kv *kv, uint64_t at, uint64_t len, uint32_t prefix,
                      uint32_t *n)
{
    struct hop_piece piece;
    for (; len > 0; ++*n) {
        if (at % HEAP_UNIT != 0 || !heap_covers(&kv->heap, at, sizeof(piece)))
            return 0;
        memcpy(&piece, kv_at(kv, at), sizeof(piece));
        uint64_t size = sizeof(piece) + (uint64_t)piece.len;
        if (piece.len == 0 || piece.len > len ||
            (piece.len < len && size < HOP_PIECE_MIN) ||
            (*n == 0 && piece.len < prefix))
            return 0;
        int rc = heap_tell(&kv->heap, at, size);
        if (rc <= 0)
            return rc;
        len -= piece.len;
        at = piece.next;
    }
    return at == 0;
}

/* What an entry has in the heap. As take_chain(). */
static int take_blob(struct kv *kv, const struct hop_entry *entry)
{
    struct item_blob blob;
    uint64_t len;
    uint32_t n = 0;
    if (!item_blob(entry, &blob, &len))
        return 1;
    if (len > kv->heap.size)
        return 0;
    if (!blob.chained)
        return heap_tell(&kv->heap, blob.offset, len);
    uint32_t prefix = item_form(entry) == HOP_FAR_CHAIN ? entry->far.klen : 0;
    int rc = take_chain(kv, blob.offset, len, prefix, &n);
    if (rc <= 0)
        untake_blob(kv, entry, n);
    return rc;
}

static bool same_key(const struct kv *kv, uint32_t a, uint32_t b)
{
    const unsigned char *base = kv->pm->base;
    struct item_text x = item_read(base, kv_entry(kv, a));
    struct item_text y = item_read(base, kv_entry(kv, b));
    return x.klen == y.klen && memcmp(x.key, y.key, x.klen) == 0;
}

/* Whether another name of the bucket, among those kept, has this key. */
static bool is_double(const struct kv *kv, uint32_t bucket, uint64_t kept,
                      uint32_t place)
{
    for (; kept != 0; kept &= kept - 1) {
        uint32_t other =
            hop_place_at(&kv->table, bucket, (uint32_t)__builtin_ctzll(kept));
        if (item_hash(kv_entry(kv, other)) == item_hash(kv_entry(kv, place)) &&
            same_key(kv, other, place))
            return true;
    }
    return false;
}

/* Its blob is known to be in the heap. */
static bool belongs(struct kv *kv, uint32_t bucket, uint64_t kept,
                    uint32_t place)
{
    const struct hop_entry *entry = kv_entry(kv, place);
    struct item_text text = item_read(kv->pm->base, entry);
    if (text.klen > KV_MAX_KEY || text.vlen > KV_MAX_VALUE)
        return false;
    uint64_t hash = kv_hash(kv, text.key, text.klen);
    return hash >> 24 == item_hash(entry) >> 24 &&
           hop_bucket(&kv->table, hash) == bucket &&
           !is_double(kv, bucket, kept, place);
}

/* 1: an item that is whole, 0: none, or -ENOMEM. */
static int take_item(struct kv *kv, uint32_t bucket, uint64_t kept,
                     uint32_t place)
{
    struct recovery *r = &kv->recovery;
    const struct hop_entry *entry = kv_entry(kv, place);
    if (hop_used(&kv->table, place) || !item_valid(entry) ||
        entry->cas >= r->cas_end)
        return 0;
    int rc = take_blob(kv, entry);
    if (rc <= 0)
        return rc;
    if (!belongs(kv, bucket, kept, place)) {
        untake_blob(kv, entry, UINT32_MAX);
        return 0;
    }
    hop_claim(&kv->table, place);
    hop_mark(&kv->table, place, hop_mark_of(item_hash(entry)));
    lru_insert_aged(&kv->lru, place, r->cas_end - entry->cas);
    r->found.items++;
    r->found.bytes += item_bytes(entry);
    r->found.expiring += entry->exptime != 0;
    if (entry->cas > r->newest)
        r->newest = entry->cas;
    if (entry->cas >= kv->next_cas)
        kv->next_cas = entry->cas + 1;
    return 1;
}

/* Of the places that a bucket names the one with the highest cas id: of two
 * items with one key, or the same bytes, the later one is true. */
static unsigned newest(const struct kv *kv, uint32_t bucket, uint64_t names)
{
    unsigned best = (unsigned)__builtin_ctzll(names);
    uint64_t most = 0;
    if ((names & (names - 1)) == 0)
        return best;
    for (; names != 0; names &= names - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(names);
        uint32_t place = hop_place_at(&kv->table, bucket, bit);
        if (kv_entry(kv, place)->cas > most) {
            most = kv_entry(kv, place)->cas;
            best = bit;
        }
    }
    return best;
}

static int take_bucket(struct kv *kv, uint32_t bucket)
{
    uint64_t owner = kv_entry(kv, bucket)->owner, kept = 0;
    uint64_t left = owner & (((uint64_t)1 << HOP_REACH) - 1);
    while (left != 0) {
        unsigned bit = newest(kv, bucket, left);
        left &= ~((uint64_t)1 << bit);
        int rc =
            take_item(kv, bucket, kept, hop_place_at(&kv->table, bucket, bit));
        if (rc < 0)
            return rc;
        if (rc > 0)
            kept |= (uint64_t)1 << bit;
    }
    if (kept != owner)
        forget(kv, bucket, owner & ~kept);
    return 0;
}

/* Nobody has looked into this segment, and nobody may before it is done. */
static int take_items(struct kv *kv, uint32_t number)
{
    struct hop_segment *s = hop_segment(&kv->table, number);
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->entries[i].owner == 0)
            continue;
        int rc = take_bucket(kv, number << HOP_SHIFT | i);
        if (rc < 0)
            return rc;
    }
    s->pending = false;
    kv->recovery.places -= s->n;
    return 0;
}

/* The next segment that is pending. False: none is. */
static bool next_pending(struct kv *kv, uint32_t *number)
{
    struct recovery *r = &kv->recovery;
    while (r->next < kv->table.n_segments &&
           !hop_segment(&kv->table, r->next)->pending)
        r->next++;
    *number = r->next;
    return r->next < kv->table.n_segments;
}

/* When items were used is not known; when they were stored is. */
static int order_list(struct kv *kv)
{
    uint32_t at = kv->lru.oldest, next;
    lru_clear(&kv->lru);
    int rc = lru_open_classes(&kv->lru);
    for (; at != LRU_NONE && rc == 0; at = next) {
        next = lru_node(&kv->lru, at)->newer;
        lru_insert_aged(&kv->lru, at,
                        kv->recovery.newest + 1 - kv_entry(kv, at)->cas);
    }
    lru_close_classes(&kv->lru);
    return rc;
}

static void take_flush(struct kv *kv)
{
    const struct pool_state *state = &kv->pool.header->state;
    kv->flush_slot = (uint32_t)state->flush_live;
    const struct pool_flush *flush = &state->flush[kv->flush_slot];
    kv->flush_mark = flush->mark < kv->next_cas ? flush->mark : kv->next_cas;
    kv->flush_when = flush->when;
    if (kv->flush_mark > 0)
        kv->sweep_left = kv->table.places;
}

/* All has been looked at: what was told at close was so, or now is. */
static int end_recovery(struct kv *kv)
{
    struct recovery *r = &kv->recovery;
    struct pool_state *state = &kv->pool.header->state;
    bool raise = kv->next_cas > kv->cas_ceiling;
    kv->stats.items += r->found.items - r->told.items;
    kv->stats.bytes += r->found.bytes - r->told.bytes;
    kv->expiring += r->found.expiring - r->told.expiring;
    if (kv->flush_mark > 0)
        kv->sweep_left = kv->table.places;
    lru_close_classes(&kv->lru);
    r->active = false;
    if (raise) {
        kv->cas_ceiling = kv->next_cas;
        durable_set(kv, &state->cas_ceiling, kv->cas_ceiling);
    }
    return raise || kv->stats.repaired > 0 ? pm_fence(kv->pm) : 0;
}

static int take_some(struct kv *kv, uint64_t effort)
{
    uint32_t number;
    if (next_pending(kv, &number))
        return take_items(kv, number);
    int rc = heap_reveal(&kv->heap, effort);
    return rc == 0 ? end_recovery(kv) : rc < 0 ? rc : 0;
}

static void fail(struct kv *kv, int rc)
{
    log_error("opening the pool cannot be completed: %s; nothing is stored any "
              "more",
              strerror(-rc));
    kv->failed = true;
}

void recover_step(struct kv *kv)
{
    int rc =
        kv->recovery.active && !kv->failed ? take_some(kv, REVEAL_STEP) : 0;
    if (rc < 0)
        fail(kv, rc);
    else if (!kv->recovery.active)
        log_info("pool %s: all of it has been looked at, %llu items, %llu "
                 "dropped",
                 kv->region->region.path, (unsigned long long)kv->stats.items,
                 (unsigned long long)kv->stats.repaired);
}

unsigned recover_tell_ms = 2000;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void tell_progress(const struct kv *kv, uint64_t *told)
{
    uint64_t all = kv->table.places, left = kv->recovery.places;
    uint64_t now = now_ms();
    if (left == 0 || now - *told < recover_tell_ms)
        return;
    *told = now;
    log_warn("pool %s: %llu %% of it has been looked at, %llu items",
             kv->region->region.path,
             (unsigned long long)((all - left) * 100 / all),
             (unsigned long long)kv->recovery.found.items);
}

static int look_at_all(struct kv *kv)
{
    uint64_t told = now_ms();
    int rc = 0;
    for (; kv->recovery.active && rc == 0; tell_progress(kv, &told))
        rc = take_some(kv, UINT64_MAX);
    return rc;
}

int recover_rest(struct kv *kv)
{
    int rc = kv->failed ? -EIO : look_at_all(kv);
    if (rc < 0 && !kv->failed)
        fail(kv, rc);
    return rc;
}

void recover_segment(struct kv *kv, uint32_t number)
{
    if (!hop_segment(&kv->table, number)->pending || kv->failed)
        return;
    int rc = take_items(kv, number);
    if (rc < 0)
        fail(kv, rc);
}

static int hide_all(struct kv *kv)
{
    int rc = 0;
    for (size_t i = 0; i < kv->pool.n_parts && rc == 0; i++) {
        const struct region_part *part = &kv->pool.parts[i];
        rc = heap_hide(&kv->heap, part->offset, part->offset + part->size);
    }
    return rc;
}

int recover(struct kv *kv, bool believe)
{
    struct pool_state *state = &kv->pool.header->state;
    struct recovery *r = &kv->recovery;
    bool known = believe && kv->pool.was_clean && state->root != 0 &&
                 region_is_whole(&kv->region->region) &&
                 summary_read(&kv->pool, &r->told);

    *r = (struct recovery){.active = true,
                           .told = r->told,
                           .cas_end = known ? state->cas_ceiling
                                            : pool_cas_end(state)};
    kv->next_cas = state->cas_ceiling;
    kv->cas_ceiling = kv->next_cas;
    int rc = known ? summary_areas(&kv->pool, &kv->heap) : hide_all(kv);
    if (rc == 0 && state->root != 0)
        rc = take_word(kv, &state->root, 0, 0);
    if (rc == 0 && known)
        rc = lru_open_classes(&kv->lru);
    if (rc < 0)
        return rc;
    take_flush(kv);
    if (known) {
        kv->stats.items = r->told.items;
        kv->stats.bytes = r->told.bytes;
        kv->expiring = r->told.expiring;
        return 0;
    }
    r->told = (struct summary_counts){0};
    rc = look_at_all(kv);
    return rc == 0 && kv->evict ? order_list(kv) : rc;
}
