/*
 * Recovery is a walk over the owner words: what they name is there, all else
 * is free. It needs no log and no order, and may itself be interrupted: it
 * writes only owner words, each to what it would say after a full walk.
 *
 * After a crash there is nothing to repair, as only whole items get named.
 * Repairs are for damaged media and hostile files: an entry that is not valid,
 * lies in the wrong bucket, is named twice, has the key of another one or a
 * blob that overlaps another blob.
 */
#include "store/engine/recover.h"

#include "store/engine/item.h"
#include "store/engine/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
    struct kv *kv;
    struct heap_piece *pieces; /* blobs found */
    size_t n_pieces;
    size_t max_pieces;
};

/* Take a bit out of an owner word in the pool. */
static void forget(struct kv *kv, uint32_t bucket, uint64_t bits)
{
    struct hop_entry *entry = kv_entry(kv, bucket);
    pm_store64(&kv->region.pm, &entry->owner, entry->owner & ~bits);
    pm_flush(&kv->region.pm, &entry->owner, sizeof(entry->owner));
    kv->stats.repaired += (uint64_t)__builtin_popcountll(bits);
}

static int add_piece(struct walk *walk, uint32_t place)
{
    uint64_t offset, len;
    if (!item_blob(kv_entry(walk->kv, place), &offset, &len))
        return 0;
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

static bool same_key(const struct kv *kv, uint32_t a, uint32_t b)
{
    const unsigned char *base = kv->region.pm.base;
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
            (bucket + (uint32_t)__builtin_ctzll(kept)) & kv->table.mask;
        if (kv_entry(kv, other)->tag == kv_entry(kv, place)->tag &&
            same_key(kv, other, place))
            return true;
    }
    return false;
}

static bool acceptable(struct kv *kv, uint32_t bucket, uint64_t kept,
                       uint32_t place)
{
    const struct hop_entry *entry = kv_entry(kv, place);
    if (hop_used(&kv->table, place) ||
        !item_valid(entry, kv->heap.begin, kv->heap.end) ||
        entry->cas >= REGION_CEILING_MAX)
        return false;
    struct item_text text = item_read(kv->region.pm.base, entry);
    uint64_t hash = kv_hash(kv, text.key, text.klen);
    return text.klen <= KV_MAX_KEY && text.vlen <= KV_MAX_VALUE &&
           hop_bucket(&kv->table, hash) == bucket &&
           hop_tag(hash) == entry->tag && !is_double(kv, bucket, kept, place);
}

static int take_bucket(struct walk *walk, uint32_t bucket)
{
    struct kv *kv = walk->kv;
    uint64_t owner = kv_entry(kv, bucket)->owner, kept = 0;
    for (uint64_t left = owner; left != 0; left &= left - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(left);
        uint32_t place = (bucket + bit) & kv->table.mask;
        if (bit >= HOP_REACH || !acceptable(kv, bucket, kept, place))
            continue;
        kept |= (uint64_t)1 << bit;
        hop_claim(&kv->table, place);
        lru_insert(&kv->lru, place);
        space_count(kv, place, true);
        if (kv_entry(kv, place)->cas >= kv->next_cas)
            kv->next_cas = kv_entry(kv, place)->cas + 1;
        int rc = add_piece(walk, place);
        if (rc < 0)
            return rc;
    }
    if (kept != owner)
        forget(kv, bucket, owner & ~kept);
    return 0;
}

/* The heap refused the blob of the item in a place. */
static void drop_item(void *context, uint32_t place)
{
    struct walk *walk = context;
    struct kv *kv = walk->kv;
    struct item_text text = item_read(kv->region.pm.base, kv_entry(kv, place));
    uint32_t bucket = hop_bucket(&kv->table, kv_hash(kv, text.key, text.klen));
    uint32_t distance = (place - bucket) & kv->table.mask;
    space_count(kv, place, false);
    lru_remove(&kv->lru, place);
    forget(kv, bucket, (uint64_t)1 << distance);
    kv->table.used[place / 64] &= ~((uint64_t)1 << place % 64);
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
         at = kv->lru.nodes[at].newer)
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
    const struct region_state *state = &kv->region.header->state;
    kv->flush_slot = (uint32_t)state->flush_live;
    const struct region_flush *flush = &state->flush[kv->flush_slot];
    kv->flush_mark = flush->mark < kv->next_cas ? flush->mark : kv->next_cas;
    kv->flush_when = flush->when;
    if (kv->flush_mark > 0)
        kv->sweep_left = (uint64_t)kv->table.mask + 1;
}

int recover(struct kv *kv)
{
    struct walk walk = {.kv = kv};
    uint64_t repaired = kv->stats.repaired;
    int rc = 0;

    kv->next_cas = kv->region.header->state.cas_ceiling;
    kv->cas_ceiling = kv->next_cas;
    for (uint64_t b = 0; b <= kv->table.mask && rc == 0; b++)
        if (kv_entry(kv, (uint32_t)b)->owner != 0)
            rc = take_bucket(&walk, (uint32_t)b);
    if (rc == 0)
        rc = heap_rebuild(&kv->heap, walk.pieces, walk.n_pieces, drop_item,
                          &walk);
    free(walk.pieces);
    if (rc == 0 && kv->evict)
        rc = order_list(kv);
    if (rc < 0)
        return rc;
    take_flush(kv);
    bool raise = kv->next_cas > kv->cas_ceiling;
    if (raise) {
        kv->cas_ceiling = kv->next_cas;
        region_set(&kv->region, &kv->region.header->state.cas_ceiling,
                   kv->cas_ceiling);
    }
    if (!raise && kv->stats.repaired == repaired)
        return 0;
    return pm_fence(&kv->region.pm);
}
