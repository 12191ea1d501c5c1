/*
 * Recovery is a walk over table words and owner words: what they name is
 * there, all else is free. It needs no log and no order, and may itself be
 * interrupted: it writes only owner words, each to what it would say after a
 * full walk.
 *
 * After a crash there is nothing to repair, as only whole items get named.
 * Repairs are for damaged media and hostile files: an entry that is not valid,
 * lies in the wrong bucket, is named twice, has the key of another one, a
 * broken chain, or a blob that overlaps another one. A table word that cannot
 * be followed is beyond repair.
 */
#include "store/engine/recover.h"

#include "store/engine/grow.h"
#include "store/engine/item.h"
#include "store/engine/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    struct kv *kv;
    struct heap_piece *pieces; /* blobs, segments and pairs found */
    size_t n_pieces;
    size_t max_pieces;
    uint64_t table_bytes; /* of segments and pairs */
};

/* Take a bit out of an owner word in the pool. */
static void forget(struct kv *kv, uint32_t bucket, uint64_t bits)
{
    struct hop_entry *entry = kv_entry(kv, bucket);
    pm_store64(kv->pm, &entry->owner, entry->owner & ~bits);
    pm_flush(kv->pm, &entry->owner, sizeof(entry->owner));
    kv->stats.repaired += (uint64_t)__builtin_popcountll(bits);
}

static int add_piece(struct walk *walk, uint64_t offset, uint64_t len,
                     uint32_t place)
{
    if (walk->n_pieces == walk->max_pieces) {
        size_t max = walk->max_pieces ? walk->max_pieces * 2 : 256;
        struct heap_piece *more = realloc(walk->pieces, max * sizeof(*more));
        if (!more)
            return -ENOMEM;
        walk->pieces = more;
        walk->max_pieces = max;
    }
    walk->pieces[walk->n_pieces++] =
        (struct heap_piece){.offset = offset, .len = len, .place = place};
    return 0;
}

/* A part of the table: in the heap, and not more than the heap in all. */
static int add_part(struct walk *walk, uint64_t offset, uint64_t len)
{
    walk->table_bytes += len;
    if (!heap_covers(&walk->kv->heap, offset, len) ||
        walk->table_bytes > walk->kv->heap.size)
        return -EUCLEAN;
    return add_piece(walk, offset, len, HEAP_NONE);
}

static int take_segment(struct walk *walk, uint64_t *word, uint32_t prefix,
                        uint32_t depth)
{
    struct kv *kv = walk->kv;
    uint64_t offset = (*word & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    uint32_t n = (uint32_t)(*word >> HOP_WORD_PLACES) * 64, number = 0;
    if (n < HOP_SEGMENT_MIN || n > HOP_SEGMENT_MAX || offset % 64 != 0)
        return -EUCLEAN;
    int rc = add_part(walk, offset, n * sizeof(struct hop_entry));
    if (rc == 0)
        rc = hop_deepen(&kv->table, depth);
    if (rc == 0)
        rc = hop_add_segment(&kv->table, (void *)kv_at(kv, offset), n, prefix,
                             depth, &number);
    if (rc == 0)
        rc = lru_add_chunk(&kv->lru, number, n);
    if (rc < 0)
        return rc;
    kv->table.segments[number].word = word;
    hop_enter(&kv->table, number);
    return 0;
}

/* All that a table word names; depth bounds the recursion. */
static int take_word(struct walk *walk, uint64_t *word, uint32_t prefix,
                     uint32_t depth)
{
    if ((*word & HOP_WORD_PAIR) == 0)
        return take_segment(walk, word, prefix, depth);
    uint64_t offset = (*word & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    if (depth == HOP_DEPTH_MAX ||
        (*word & ~HOP_WORD_PAIR) >> HOP_WORD_PLACES != 0)
        return -EUCLEAN;
    int rc = add_part(walk, offset, sizeof(struct hop_pair));
    if (rc < 0)
        return rc;
    struct hop_pair *pair = (void *)kv_at(walk->kv, offset);
    rc = take_word(walk, &pair->word[0], prefix, depth + 1);
    if (rc < 0)
        return rc;
    return take_word(walk, &pair->word[1], prefix | (uint32_t)1 << (31 - depth),
                     depth + 1);
}

/* The pieces of a chain. 1: taken, 0: it is broken, or -ENOMEM. */
static int take_chain(struct walk *walk, uint64_t at, uint64_t len,
                      uint32_t prefix, uint32_t place)
{
    const struct kv *kv = walk->kv;
    struct hop_piece piece;
    for (bool first = true; len > 0; first = false) {
        if (at % HEAP_UNIT != 0 || !heap_covers(&kv->heap, at, sizeof(piece)))
            return 0;
        memcpy(&piece, kv_at(kv, at), sizeof(piece));
        uint64_t size = sizeof(piece) + (uint64_t)piece.len;
        if (piece.len == 0 || piece.len > len ||
            (piece.len < len && size < HOP_PIECE_MIN) ||
            (first && piece.len < prefix) || !heap_covers(&kv->heap, at, size))
            return 0;
        if (add_piece(walk, at, size, place) < 0)
            return -ENOMEM;
        len -= piece.len;
        at = piece.next;
    }
    return at == 0;
}

/* What the entry of a place has in the heap. As take_chain(). */
static int take_blob(struct walk *walk, uint32_t place)
{
    const struct hop_entry *entry = kv_entry(walk->kv, place);
    const struct heap *heap = &walk->kv->heap;
    struct item_blob blob;
    uint64_t len;
    size_t before = walk->n_pieces;
    if (!item_blob(entry, &blob, &len))
        return 1;
    if (len > heap->size)
        return 0;
    if (!blob.chained) {
        if (blob.offset % HEAP_UNIT != 0 ||
            !heap_covers(heap, blob.offset, heap_round(len)))
            return 0;
        return add_piece(walk, blob.offset, len, place) < 0 ? -ENOMEM : 1;
    }
    uint32_t prefix = item_form(entry) == HOP_FAR_CHAIN ? entry->far.klen : 0;
    int rc = take_chain(walk, blob.offset, len, prefix, place);
    if (rc == 0)
        walk->n_pieces = before;
    return rc;
}

static bool same_key(const struct kv *kv, uint32_t a, uint32_t b)
{
    const unsigned char *base = kv->pm->base;
    struct item_text x = item_read(base, kv_entry(kv, a));
    struct item_text y = item_read(base, kv_entry(kv, b));
    return x.klen == y.klen && memcmp(x.key, y.key, x.klen) == 0;
}

/* Whether an earlier name of the bucket, among those kept, has this key. */
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
static int take_item(struct walk *walk, uint32_t bucket, uint64_t kept,
                     uint32_t place)
{
    struct kv *kv = walk->kv;
    const struct hop_entry *entry = kv_entry(kv, place);
    size_t before = walk->n_pieces;
    if (hop_used(&kv->table, place) || !item_valid(entry) ||
        entry->cas >= POOL_CEILING_MAX)
        return 0;
    int rc = take_blob(walk, place);
    if (rc <= 0)
        return rc;
    if (!belongs(kv, bucket, kept, place)) {
        walk->n_pieces = before;
        return 0;
    }
    hop_claim(&kv->table, place);
    lru_insert(&kv->lru, place);
    space_count(kv, place, true);
    if (entry->cas >= kv->next_cas)
        kv->next_cas = entry->cas + 1;
    return 1;
}

static int take_bucket(struct walk *walk, uint32_t bucket)
{
    struct kv *kv = walk->kv;
    uint64_t owner = kv_entry(kv, bucket)->owner, kept = 0;
    for (uint64_t left = owner; left != 0; left &= left - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(left);
        if (bit >= HOP_REACH)
            continue;
        int rc = take_item(walk, bucket, kept,
                           hop_place_at(&kv->table, bucket, bit));
        if (rc < 0)
            return rc;
        if (rc > 0)
            kept |= (uint64_t)1 << bit;
    }
    if (kept != owner)
        forget(kv, bucket, owner & ~kept);
    return 0;
}

static int take_items(struct walk *walk)
{
    const struct hop_table *table = &walk->kv->table;
    for (uint32_t s = 0; s < table->n_segments; s++)
        for (uint32_t i = 0; i < table->segments[s].n; i++) {
            uint32_t bucket = s << HOP_SHIFT | i;
            if (hop_entry(table, bucket)->owner == 0)
                continue;
            int rc = take_bucket(walk, bucket);
            if (rc < 0)
                return rc;
        }
    return 0;
}

/* The heap refused a piece of the item in a place. */
static void drop_item(void *context, uint32_t place)
{
    struct walk *walk = context;
    struct kv *kv = walk->kv;
    if (!hop_used(&kv->table, place))
        return;
    uint32_t bucket = hop_bucket_in(&kv->table, place >> HOP_SHIFT,
                                    item_hash(kv_entry(kv, place)));
    space_count(kv, place, false);
    lru_remove(&kv->lru, place);
    forget(kv, bucket, (uint64_t)1 << hop_distance(&kv->table, bucket, place));
    hop_unclaim(&kv->table, place);
}

static int rebuild_heap(struct walk *walk)
{
    struct kv *kv = walk->kv;
    size_t kept = 0;
    if (!heap_judge(&kv->heap, walk->pieces, walk->n_pieces, drop_item, walk))
        return -EUCLEAN;
    for (size_t i = 0; i < walk->n_pieces; i++) {
        const struct heap_piece *piece = &walk->pieces[i];
        if (piece->place == HEAP_NONE || hop_used(&kv->table, piece->place))
            walk->pieces[kept++] = *piece;
    }
    return heap_rebuild(&kv->heap, walk->pieces, kept);
}

struct age {
    uint64_t cas;
    uint32_t place;
};

static int by_cas(const void *a, const void *b)
{
    const struct age *x = a, *y = b;
    return (x->cas > y->cas) - (x->cas < y->cas);
}

/* When items were used is not known; when they were stored is. */
static int order_list(struct kv *kv)
{
    size_t n = 0;
    struct age *ages = malloc(((size_t)kv->lru.n + 1) * sizeof(*ages));
    if (!ages)
        return -ENOMEM;
    for (uint32_t at = kv->lru.oldest; at != LRU_NONE;
         at = lru_node(&kv->lru, at)->newer)
        ages[n++] = (struct age){kv_entry(kv, at)->cas, at};
    qsort(ages, n, sizeof(*ages), by_cas);
    for (size_t i = 0; i < n; i++) {
        lru_remove(&kv->lru, ages[i].place);
        lru_insert(&kv->lru, ages[i].place);
    }
    free(ages);
    return 0;
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

int recover(struct kv *kv)
{
    struct walk walk = {.kv = kv};
    struct pool_state *state = &kv->pool.header->state;
    uint64_t repaired = kv->stats.repaired;
    int rc = 0;

    kv->next_cas = state->cas_ceiling;
    kv->cas_ceiling = kv->next_cas;
    if (state->root != 0)
        rc = take_word(&walk, &state->root, 0, 0);
    if (rc == 0)
        rc = take_items(&walk);
    if (rc == 0)
        rc = rebuild_heap(&walk);
    free(walk.pieces);
    if (rc == 0 && kv->evict)
        rc = order_list(kv);
    if (rc < 0)
        return rc;
    take_flush(kv);
    bool raise = kv->next_cas > kv->cas_ceiling;
    if (raise) {
        kv->cas_ceiling = kv->next_cas;
        region_set(&kv->region->region, &state->cas_ceiling, kv->cas_ceiling);
    }
    if (!raise && kv->stats.repaired == repaired)
        return 0;
    return pm_fence(kv->pm);
}
