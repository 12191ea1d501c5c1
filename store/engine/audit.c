/* A second opinion: it works out from the items what all else should be. */
#include "store/engine/audit.h"

#include "store/engine/item.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part of the heap that is in use. */
struct piece {
    uint64_t offset; /* bytes from the start of the region */
    uint64_t len;    /* bytes */
};

struct ledger {
    struct kv *kv;
    struct piece *pieces; /* of the heap, whoever has them */
    size_t n_pieces;
    size_t max_pieces;
    uint64_t *seen; /* places named, by number */
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

static int add(struct ledger *l, uint64_t offset, uint64_t len)
{
    if (l->n_pieces == l->max_pieces) {
        size_t max = l->max_pieces ? 2 * l->max_pieces : 1024;
        struct piece *more = realloc(l->pieces, max * sizeof(*more));
        if (!more)
            return -ENOMEM;
        l->pieces = more;
        l->max_pieces = max;
    }
    l->pieces[l->n_pieces++] =
        (struct piece){.offset = offset, .len = heap_round(len)};
    return 0;
}

/* The pieces of an item's blob make up its length. */
static int audit_blob(struct ledger *l, uint32_t place)
{
    const struct kv *kv = l->kv;
    struct item_blob blob;
    uint64_t len;
    if (!item_blob(kv_entry(kv, place), &blob, &len))
        return 0;
    if (!blob.chained)
        return add(l, blob.offset, len);
    while (blob.offset != 0) {
        const struct hop_piece *piece = (const void *)kv_at(kv, blob.offset);
        if (piece->len == 0 || piece->len > len)
            return fault(l, "a chain has a wrong length", place);
        int rc = add(l, blob.offset, sizeof(*piece) + piece->len);
        if (rc < 0)
            return rc;
        len -= piece->len;
        blob.offset = piece->next;
    }
    return len == 0 ? 0 : fault(l, "a chain is too short", place);
}

static int audit_item(struct ledger *l, uint32_t bucket, uint32_t place)
{
    struct kv *kv = l->kv;
    const struct hop_entry *entry = kv_entry(kv, place);
    if (l->seen[place / 64] >> place % 64 & 1)
        return fault(l, "a place is named twice", place);
    l->seen[place / 64] |= (uint64_t)1 << place % 64;
    if (!hop_used(&kv->table, place))
        return fault(l, "an item lies in a place that is not used", place);
    if (!lru_contains(&kv->lru, place))
        return fault(l, "an item is not in the list", place);
    if (!item_valid(entry))
        return fault(l, "an entry is not valid", place);
    if (entry->cas >= kv->next_cas || kv->next_cas > kv->cas_ceiling)
        return fault(l, "a cas id is not below the next one", entry->cas);
    struct item_text text = item_read(kv->pm->base, entry);
    uint64_t hash = kv_hash(kv, text.key, text.klen);
    if (hop_bucket(&kv->table, hash) != bucket)
        return fault(l, "an item is in the wrong bucket", bucket);
    if (hop_find(&kv->table, hash, text.key, text.klen) != place)
        return fault(l, "an item is hidden by another one", place);
    l->items++;
    l->bytes += text.klen + text.vlen;
    l->expiring += (uint32_t)kv_meta(kv, place) != 0;
    return audit_blob(l, place);
}

static int audit_bucket(struct ledger *l, uint32_t bucket)
{
    const struct hop_table *table = &l->kv->table;
    uint64_t owner = hop_owner(table, bucket);
    if (owner >> HOP_REACH)
        return fault(l, "an owner word has a bit too many", bucket);
    for (; owner != 0; owner &= owner - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(owner);
        int rc = audit_item(l, bucket, hop_place_at(table, bucket, bit));
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool is_seen(const struct ledger *l, uint32_t place)
{
    return l->seen[place / 64] >> place % 64 & 1;
}

/* Its places are used when an item or the next commit has them. */
static int audit_segment(struct ledger *l, uint32_t number)
{
    const struct hop_segment *s = hop_segment(&l->kv->table, number);
    uint32_t n_used = 0;
    int rc = add(l, (uint64_t)((unsigned char *)s->entries - l->kv->pm->base),
                 s->n * sizeof(struct hop_entry));
    for (uint32_t i = 0; i < s->n && rc == 0; i++)
        rc = audit_bucket(l, number << HOP_SHIFT | i);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < l->kv->table.n_retired; i++) {
        uint32_t place = l->kv->table.retired[i];
        if (place >> HOP_SHIFT == number)
            l->seen[place / 64] |= (uint64_t)1 << place % 64;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        uint32_t place = number << HOP_SHIFT | i;
        n_used += is_seen(l, place);
        if (hop_used(&l->kv->table, place) != is_seen(l, place))
            return fault(l, "a place is used by nothing", place);
        if ((s->marks[i] != 0) != lru_contains(&l->kv->lru, place))
            return fault(l, "a place and its mark disagree", place);
    }
    return n_used == s->n_used ? 0 : fault(l, "places are miscounted", number);
}

/* The table words lead to the segments that the directory has. */
static int audit_word(struct ledger *l, const uint64_t *word, uint32_t prefix,
                      uint32_t depth, uint32_t *n)
{
    struct kv *kv = l->kv;
    uint64_t value = commit_read(&kv->commit, word);
    uint64_t offset = (value & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    uint32_t number = hop_segment_of(&kv->table, (uint64_t)prefix << 32);
    const struct hop_segment *s = hop_segment(&kv->table, number);
    if ((value & HOP_WORD_PAIR) == 0) {
        ++*n;
        if (s->word != word || s->prefix != prefix || s->depth != depth ||
            s->entries != (void *)kv_at(kv, offset) ||
            s->n != (value >> HOP_WORD_PLACES) * 64)
            return fault(l, "a table word and a segment differ", number);
        return 0;
    }
    const struct hop_pair *pair = (const void *)kv_at(kv, offset);
    int rc = add(l, offset, sizeof(*pair));
    if (rc == 0)
        rc = audit_word(l, &pair->word[0], prefix, depth + 1, n);
    if (rc < 0)
        return rc;
    return audit_word(l, &pair->word[1], prefix | (uint32_t)1 << (31 - depth),
                      depth + 1, n);
}

static int audit_table(struct ledger *l)
{
    struct kv *kv = l->kv;
    uint32_t live = 0;
    int rc = audit_word(l, &kv->pool.header->state.root, 0, 0, &live);
    if (rc == 0 && live != kv->table.live)
        return fault(l, "a segment has no table word", live);
    for (uint32_t i = 0; i < kv->table.n_segments && rc == 0; i++)
        if (hop_segment(&kv->table, i)->entries)
            rc = audit_segment(l, i);
    if (rc < 0)
        return rc;
    if (l->items != kv->stats.items || l->items != kv->lru.n)
        return fault(l, "items are miscounted", l->items);
    if (l->bytes != kv->stats.bytes || l->expiring != kv->expiring)
        return fault(l, "bytes or expiring items are miscounted", l->bytes);
    return 0;
}

static int add_list(struct ledger *l, uint32_t list)
{
    const struct heap *heap = &l->kv->heap;
    int rc = 0;
    for (; list != HEAP_NONE && rc == 0; list = heap_extent(heap, list)->next)
        rc = add(l, heap_extent(heap, list)->offset * HEAP_UNIT,
                 heap_extent(heap, list)->len * HEAP_UNIT);
    return rc;
}

static int by_offset(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The bytes of an area that no piece has; the sorted pieces go on at *i. */
static int audit_area(struct ledger *l, const struct heap_area *area, size_t *i,
                      uint64_t *gaps)
{
    uint64_t at = area->begin;
    for (; *i < l->n_pieces && l->pieces[*i].offset < area->end; ++*i) {
        if (l->pieces[*i].offset < at)
            return fault(l, "two pieces of the heap overlap",
                         l->pieces[*i].offset);
        *gaps += l->pieces[*i].offset - at;
        at = l->pieces[*i].offset + l->pieces[*i].len;
    }
    if (at > area->end)
        return fault(l, "a piece of the heap ends beyond it", at);
    *gaps += area->end - at;
    return 0;
}

static int audit_heap(struct ledger *l)
{
    const struct heap *heap = &l->kv->heap;
    uint64_t gaps = 0;
    size_t i = 0, used;
    if (heap_check(heap) < 0)
        return fault(l, "the heap contradicts itself", 0);
    int rc = add_list(l, heap->retired);
    if (rc == 0)
        rc = add_list(l, heap->held);
    used = l->n_pieces;
    for (uint32_t bin = 0; bin < HEAP_BINS && rc == 0; bin++)
        rc = add_list(l, heap->bins[bin]);
    if (rc < 0)
        return rc;
    qsort(l->pieces, l->n_pieces, sizeof(*l->pieces), by_offset);
    for (size_t a = 0; a < heap->n_areas && rc == 0; a++)
        rc = audit_area(l, &heap->areas[a], &i, &gaps);
    if (rc < 0)
        return rc;
    if (i != l->n_pieces)
        return fault(l, "a piece of the heap lies outside", i);
    if (gaps != l->kv->reserved_bytes)
        return fault(l, "a part of the heap is lost", gaps);
    if (l->kv->n_reserved + l->kv->holds.n == 0 && heap->n_used != used)
        return fault(l, "allocations are miscounted", heap->n_used);
    return 0;
}

int audit(struct kv *kv, char *error, size_t error_size)
{
    struct ledger l = {.kv = kv, .error = error, .error_size = error_size};
    int rc = recover_rest(kv);
    if (rc < 0)
        return rc;
    size_t numbers = (size_t)kv->table.n_segments << HOP_SHIFT;

    l.seen = calloc(numbers / 64 + 1, sizeof(*l.seen));
    if (!l.seen)
        return -ENOMEM;
    rc = audit_table(&l);
    if (rc == 0)
        rc = audit_heap(&l);
    free(l.pieces);
    free(l.seen);
    return rc;
}
