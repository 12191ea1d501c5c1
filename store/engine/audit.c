/* A second opinion: it works out from the items what all else should be. */
#include "store/engine/audit.h"

#include "store/engine/item.h"
#include "store/engine/space.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ledger {
    struct kv *kv;
    struct heap_piece *pieces; /* of the heap, whoever has them */
    size_t n_pieces;
    uint64_t *seen; /* places named */
    uint64_t items;
    uint64_t bytes;
    uint64_t expiring;
    char *error;
    size_t error_size;
};

static int fault(struct ledger *l, const char *what, uint64_t number)
{
    snprintf(l->error, l->error_size, "%s (%llu)", what,
             (unsigned long long)number);
    return -EUCLEAN;
}

static void add(struct ledger *l, uint64_t offset, uint64_t len)
{
    l->pieces[l->n_pieces++] =
        (struct heap_piece){.offset = offset, .len = heap_round(len)};
}

static int audit_item(struct ledger *l, uint32_t bucket, uint32_t place)
{
    struct kv *kv = l->kv;
    const struct hop_entry *entry = kv_entry(kv, place);
    uint64_t offset, len;
    if (l->seen[place / 64] >> place % 64 & 1)
        return fault(l, "a place is named twice", place);
    l->seen[place / 64] |= (uint64_t)1 << place % 64;
    if (!hop_used(&kv->table, place))
        return fault(l, "an item lies in a place that is not used", place);
    if (!lru_contains(&kv->lru, place))
        return fault(l, "an item is not in the list", place);
    if (!item_valid(entry, kv->heap.begin, kv->heap.end))
        return fault(l, "an entry is not valid", place);
    if (entry->cas >= kv->next_cas || kv->next_cas > kv->cas_ceiling)
        return fault(l, "a cas id is not below the next one", entry->cas);
    struct item_text text = item_read(kv->region.pm.base, entry);
    uint64_t hash = kv_hash(kv, text.key, text.klen);
    if (hop_bucket(&kv->table, hash) != bucket)
        return fault(l, "an item is in the wrong bucket", bucket);
    if (hop_find(&kv->table, hash, text.key, text.klen) != place)
        return fault(l, "an item is hidden by another one", place);
    if (item_blob(entry, &offset, &len))
        add(l, offset, len);
    l->items++;
    l->bytes += text.klen + text.vlen;
    l->expiring += (uint32_t)kv_meta(kv, place) != 0;
    return 0;
}

static int audit_table(struct ledger *l)
{
    struct kv *kv = l->kv;
    for (uint64_t b = 0; b <= kv->table.mask; b++) {
        uint64_t owner = hop_owner(&kv->table, (uint32_t)b);
        if (owner >> HOP_REACH)
            return fault(l, "an owner word has a bit too many", b);
        for (; owner != 0; owner &= owner - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(owner);
            int rc = audit_item(l, (uint32_t)b,
                                ((uint32_t)b + bit) & kv->table.mask);
            if (rc < 0)
                return rc;
        }
    }
    for (uint32_t i = 0; i < kv->table.n_retired; i++)
        l->seen[kv->table.retired[i] / 64] |= (uint64_t)1
                                              << kv->table.retired[i] % 64;
    if (memcmp(l->seen, kv->table.used, ((size_t)kv->table.mask + 1) / 8) != 0)
        return fault(l, "a place is used by nothing", 0);
    if (l->items != kv->stats.items || l->items != kv->lru.n)
        return fault(l, "items are miscounted", l->items);
    if (l->bytes != kv->stats.bytes || l->expiring != kv->expiring)
        return fault(l, "bytes or expiring items are miscounted", l->bytes);
    return 0;
}

static void add_list(struct ledger *l, uint32_t list)
{
    const struct heap *heap = &l->kv->heap;
    for (; list != HEAP_NONE; list = heap->extents[list].next)
        add(l, heap->extents[list].offset * HEAP_UNIT,
            heap->extents[list].len * HEAP_UNIT);
}

static int by_offset(const void *a, const void *b)
{
    const struct heap_piece *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int audit_heap(struct ledger *l)
{
    const struct heap *heap = &l->kv->heap;
    uint64_t at = heap->begin, gaps = 0;
    if (heap_check(heap) < 0)
        return fault(l, "the heap contradicts itself", 0);
    add_list(l, heap->retired);
    add_list(l, heap->held);
    if (heap->n_used != l->n_pieces + l->kv->n_reserved)
        return fault(l, "allocations are miscounted", heap->n_used);
    for (uint32_t bin = 0; bin < HEAP_BINS; bin++)
        add_list(l, heap->bins[bin]);
    qsort(l->pieces, l->n_pieces, sizeof(*l->pieces), by_offset);
    for (size_t i = 0; i < l->n_pieces; i++) {
        if (l->pieces[i].offset < at)
            return fault(l, "two pieces of the heap overlap",
                         l->pieces[i].offset);
        gaps += l->pieces[i].offset - at;
        at = l->pieces[i].offset + l->pieces[i].len;
    }
    if (at > heap->end)
        return fault(l, "a piece of the heap ends beyond it", at);
    gaps += heap->end - at;
    if (gaps != l->kv->reserved_bytes)
        return fault(l, "a part of the heap is lost", gaps);
    return 0;
}

int audit(struct kv *kv, char *error, size_t error_size)
{
    struct ledger l = {.kv = kv, .error = error, .error_size = error_size};
    size_t places = (size_t)kv->table.mask + 1;
    int rc = -ENOMEM;

    l.seen = calloc(places / 64, sizeof(*l.seen));
    if (!l.seen)
        return -ENOMEM;
    l.pieces = calloc(places + kv->heap.n_extents, sizeof(*l.pieces));
    if (!l.pieces)
        goto free_seen;
    rc = audit_table(&l);
    if (rc == 0)
        rc = audit_heap(&l);
    free(l.pieces);
free_seen:
    free(l.seen);
    return rc;
}
