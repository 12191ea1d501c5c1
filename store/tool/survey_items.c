/*
 * Owner words and what they name.
 *
 * Each named entry is judged alone, then in its bucket, where of two items with
 * one key the later one is kept; then its bytes are taken. When some of them
 * are taken already, all is decided once more in the order of cas ids: of two
 * items that claim the same bytes the later one is true, since it was stored
 * when the other one had gone.
 */
#include "store/tool/survey_private.h"

#include "store/engine/engine.h"
#include "store/engine/hash.h"
#include "store/engine/heap.h"
#include "store/pm/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char drop[] = "the item is dropped";

/* One item of a bucket. */
struct named {
    const struct hop_entry *entry;
    unsigned bit;
    struct item_text text;
};

/* Why an item is none. */
struct verdict {
    enum damage_kind kind;
    const char *what;
};

static const struct verdict fine = {DAMAGE_KINDS, NULL};

static uint64_t offset_of(const struct survey *s, const void *at)
{
    return (uint64_t)((const unsigned char *)at - s->view->base);
}

/* Steps that lead nowhere are counted over the whole survey: a hostile file
 * may not make it endless. */
static bool has_patience(const struct survey *s)
{
    return s->work < ((uint64_t)1 << 24) + s->view->size / HEAP_UNIT * 16;
}

static struct verdict judge_chain(const struct survey_pool *pool, uint64_t at,
                                  uint64_t len, uint32_t prefix)
{
    static const struct verdict broken = {
        DAMAGE_CHAIN, "the pieces of an item are not as they were written"};
    struct survey *s = pool->survey;
    struct hop_piece piece;
    uint64_t steps = 0;
    for (bool first = true; len > 0; first = false) {
        if (at % HEAP_UNIT != 0 || !survey_covers(pool, at, sizeof(piece)) ||
            !has_patience(s))
            goto broken;
        memcpy(&piece, s->view->base + at, sizeof(piece));
        uint64_t size = sizeof(piece) + (uint64_t)piece.len;
        if (piece.len == 0 || piece.len > len ||
            (piece.len < len && size < HOP_PIECE_MIN) ||
            (first && piece.len < prefix) || !survey_covers(pool, at, size))
            goto broken;
        len -= piece.len;
        at = piece.next;
        steps++;
    }
    s->work += steps;
    return at == 0 ? fine : broken;

broken:
    s->work += steps;
    return broken;
}

/* What the entry has outside of itself is in the pool. */
static struct verdict judge_blob(const struct survey_pool *pool,
                                 const struct hop_entry *entry)
{
    static const struct verdict outside = {
        DAMAGE_EXTENT, "the bytes of an item are not in the pool"};
    struct item_blob blob;
    uint64_t len;
    if (!item_blob(entry, &blob, &len))
        return fine;
    if (len > pool->space)
        return outside;
    if (blob.chained)
        return judge_chain(pool, blob.offset, len,
                           item_form(entry) == HOP_FAR_CHAIN ? entry->far.klen
                                                             : 0);
    if (blob.offset % HEAP_UNIT != 0 ||
        !survey_covers(pool, blob.offset, heap_round(len)))
        return outside;
    return fine;
}

/* As recovery has it, but for a ceiling that it would refuse. */
static uint64_t cas_end(const struct survey_pool *pool)
{
    uint64_t end = pool_cas_end(&pool->header->state);
    return end < POOL_CEILING_MAX ? end : POOL_CEILING_MAX;
}

/* An entry that this bucket of this segment names. */
static struct verdict judge(const struct survey_pool *pool,
                            const struct survey_segment *segment,
                            uint32_t bucket, struct named *named)
{
    static const struct verdict not_valid = {
        DAMAGE_ENTRY, "an entry does not match its check byte or form"};
    static const struct verdict cas = {
        DAMAGE_ENTRY, "an entry has a cas id that is never given"};
    static const struct verdict too_long = {
        DAMAGE_ENTRY, "an entry is longer than any item may be"};
    static const struct verdict elsewhere = {
        DAMAGE_KEY, "an item has another key than its entry, or is in a bucket "
                    "that is not its own"};
    const struct hop_entry *entry = named->entry;
    if (!item_valid(entry))
        return not_valid;
    if (entry->cas >= cas_end(pool))
        return cas;
    struct verdict verdict = judge_blob(pool, entry);
    if (verdict.what)
        return verdict;
    named->text = item_read(pool->survey->view->base, entry);
    if (named->text.klen > KV_MAX_KEY || named->text.vlen > KV_MAX_VALUE)
        return too_long;
    uint64_t hash = hash_key(pool->seed, named->text.key, named->text.klen);
    if (hash >> 24 != item_hash(entry) >> 24 ||
        !survey_in_segment(segment->prefix, segment->depth, hash) ||
        survey_bucket(segment, hash) != bucket)
        return elsewhere;
    return fine;
}

/* Take, or give back, what the entry has outside of itself. Only the first max
 * pieces. The number of them that were taken. */
static size_t walk_blob(struct survey *s, const struct hop_entry *entry,
                        bool take, size_t max, bool *all)
{
    struct item_blob blob;
    uint64_t len;
    size_t n = 0;
    *all = true;
    if (!item_blob(entry, &blob, &len))
        return 0;
    for (uint64_t at = blob.offset; n < max && (n == 0 || at != 0); n++) {
        const struct hop_piece *piece = (const void *)(s->view->base + at);
        uint64_t size = blob.chained ? sizeof(*piece) + piece->len : len;
        if (!take)
            space_map_give(&s->space, at, size);
        else if (!space_map_take(&s->space, at, size, &s->work)) {
            *all = false;
            return n;
        }
        at = blob.chained ? piece->next : 0;
    }
    return n;
}

static bool take_blob(struct survey *s, const struct hop_entry *entry)
{
    bool all, given;
    size_t n = walk_blob(s, entry, true, SIZE_MAX, &all);
    if (all)
        return true;
    s->work += n;
    walk_blob(s, entry, false, n, &given);
    return false;
}

static void tell_item(const struct survey_pool *pool, const struct verdict *v,
                      const struct hop_entry *entry)
{
    struct survey *s = pool->survey;
    survey_tell(s, pool, v->kind, offset_of(s, entry), 1, drop, "%s", v->what);
}

static bool same_key(const struct named *a, const struct named *b)
{
    return item_hash(a->entry) == item_hash(b->entry) &&
           a->text.klen == b->text.klen &&
           memcmp(a->text.key, b->text.key, a->text.klen) == 0;
}

/* Of two items with one key only the later one; the number that is left. */
static unsigned drop_doubles(const struct survey_pool *pool,
                             struct named *named, unsigned n)
{
    static const struct verdict twice = {
        DAMAGE_TWICE, "an older item of a key that is there again"};
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned k = 0;
        while (k < kept && !same_key(&named[k], &named[i]))
            k++;
        if (k == kept) {
            named[kept++] = named[i];
            continue;
        }
        bool newer = named[i].entry->cas > named[k].entry->cas;
        tell_item(pool, &twice, newer ? named[k].entry : named[i].entry);
        if (newer)
            named[k] = named[i];
    }
    return kept;
}

/* What the words outside of an entry say that nobody reads. Only once it is
 * known who has these bytes. */
static bool look_at_strays(void *context, const struct survey_pool *pool,
                           const struct hop_entry *entry)
{
    struct survey *s = context;
    struct item_blob blob;
    uint64_t len;
    if (!item_blob(entry, &blob, &len) || !blob.chained)
        return true;
    for (uint64_t at = blob.offset; at != 0;) {
        const struct hop_piece *piece = (const void *)(s->view->base + at);
        uint64_t word = at + offsetof(struct hop_piece, len);
        if (piece->zero != 0) {
            survey_tell(s, pool, DAMAGE_STRAY, word, 0, "they become zero",
                        "reserved bytes of a piece are not zero");
            fixes_word(s->fixes, s->view, word, piece->len);
        }
        at = piece->next;
    }
    return true;
}

static uint64_t look_at_names(struct survey_pool *pool,
                              const struct survey_segment *segment,
                              uint32_t bucket, uint64_t owner)
{
    struct survey *s = pool->survey;
    struct named named[HOP_REACH];
    unsigned n = 0;
    uint64_t kept = 0;
    for (; owner != 0; owner &= owner - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(owner);
        named[n].bit = bit;
        named[n].entry =
            survey_entry(s, segment->at, (bucket + bit) % segment->n);
        struct verdict verdict = judge(pool, segment, bucket, &named[n]);
        if (verdict.what)
            tell_item(pool, &verdict, named[n].entry);
        else
            n++;
    }
    if (n > 1)
        n = drop_doubles(pool, named, n);
    for (unsigned i = 0; i < n; i++) {
        const struct hop_entry *entry = named[i].entry;
        kept |= (uint64_t)1 << named[i].bit;
        pool->items++;
        pool->chained += item_chained(entry);
        if (!take_blob(s, entry))
            pool->conflicts++;
        if (entry->cas > pool->max_cas)
            pool->max_cas = entry->cas;
    }
    return kept;
}

static void look_at_bucket(struct survey_pool *pool,
                           const struct survey_segment *segment,
                           uint32_t bucket)
{
    struct survey *s = pool->survey;
    const struct hop_entry *entry = survey_entry(s, segment->at, bucket);
    uint64_t owner = entry->owner, names = owner;
    if (owner == 0)
        return;
    if (owner >> HOP_REACH) {
        survey_tell(s, pool, DAMAGE_OWNER, offset_of(s, entry), 0,
                    "the bit is cleared",
                    "the owner word of a bucket names a place too far");
        names &= ((uint64_t)1 << HOP_REACH) - 1;
    }
    names = look_at_names(pool, segment, bucket, names);
    fixes_word(s->fixes, s->view, offset_of(s, entry), names);
}

/* An item that is left, with its bucket. */
struct kept {
    uint64_t cas;
    uint64_t entry_at;
    uint64_t owner_at;
    uint32_t bit;
};

static int newest_first(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    if (x->cas != y->cas)
        return x->cas < y->cas ? 1 : -1;
    return (x->entry_at > y->entry_at) - (x->entry_at < y->entry_at);
}

static size_t list_kept(const struct survey_pool *pool, struct kept *list)
{
    const struct survey *s = pool->survey;
    size_t n = 0;
    for (size_t i = 0; i < pool->n_segments; i++) {
        const struct survey_segment *segment = &pool->segments[i];
        for (uint32_t b = 0; b < segment->n; b++) {
            const struct hop_entry *bucket = survey_entry(s, segment->at, b);
            uint64_t owner = bucket->owner;
            for (; owner != 0; owner &= owner - 1) {
                uint32_t bit = (uint32_t)__builtin_ctzll(owner);
                const struct hop_entry *entry =
                    survey_entry(s, segment->at, (b + bit) % segment->n);
                list[n++] = (struct kept){entry->cas, offset_of(s, entry),
                                          offset_of(s, bucket), bit};
            }
        }
    }
    return n;
}

/* Only the table is taken. */
static void take_table_only(struct survey_pool *pool)
{
    struct survey *s = pool->survey;
    for (size_t i = 0; i < pool->n_parts; i++)
        space_map_give(&s->space, pool->parts[i].offset, pool->parts[i].size);
    for (size_t i = 0; i < pool->n_pairs; i++)
        space_map_take(&s->space, pool->pairs[i].offset, pool->pairs[i].size,
                       &s->work);
    for (size_t i = 0; i < pool->n_segments; i++)
        space_map_take(&s->space, pool->segments[i].at,
                       pool->segments[i].n * sizeof(struct hop_entry),
                       &s->work);
}

static int resolve_conflicts(struct survey_pool *pool)
{
    static const struct verdict overlap = {
        DAMAGE_OVERLAP, "an item has bytes that the table or a later item "
                        "has"};
    struct survey *s = pool->survey;
    struct kept *list = malloc((pool->items + 1) * sizeof(*list));
    if (!list)
        return -ENOMEM;
    size_t n = list_kept(pool, list);
    qsort(list, n, sizeof(*list), newest_first);
    take_table_only(pool);
    s->work = 0;
    for (size_t i = 0; i < n; i++) {
        const struct hop_entry *entry = survey_entry(s, list[i].entry_at, 0);
        if (has_patience(s) && take_blob(s, entry))
            continue;
        tell_item(pool, &overlap, entry);
        fixes_word(s->fixes, s->view, list[i].owner_at,
                   view_word(s->view, list[i].owner_at) &
                       ~((uint64_t)1 << list[i].bit));
        pool->items--;
    }
    free(list);
    return 0;
}

int survey_items(struct survey_pool *pool)
{
    struct survey *s = pool->survey;
    struct progress progress;
    progress_begin(&progress, "checked", pool->places, s->lines);
    for (size_t i = 0; i < pool->n_segments; i++) {
        const struct survey_segment *segment = &pool->segments[i];
        for (uint32_t b = 0; b < segment->n; b++)
            look_at_bucket(pool, segment, b);
        progress_add(&progress, segment->n);
    }
    progress_end(&progress);
    int rc = pool->conflicts > 0 ? resolve_conflicts(pool) : 0;
    if (rc == 0 && pool->chained > 0)
        survey_each(pool, look_at_strays, s);
    return rc;
}

void survey_each(const struct survey_pool *pool, survey_visit *visit,
                 void *context)
{
    for (size_t i = 0; i < pool->n_segments; i++) {
        const struct survey_segment *segment = &pool->segments[i];
        for (uint32_t b = 0; b < segment->n; b++) {
            uint64_t owner = survey_entry(pool->survey, segment->at, b)->owner;
            for (; owner != 0; owner &= owner - 1) {
                uint32_t place =
                    (b + (uint32_t)__builtin_ctzll(owner)) % segment->n;
                if (!visit(context, pool,
                           survey_entry(pool->survey, segment->at, place)))
                    return;
            }
        }
    }
}

bool survey_flushed(const struct survey_pool *pool,
                    const struct hop_entry *entry, uint64_t now)
{
    const struct pool_state *state = &pool->header->state;
    const struct pool_flush *flush = &state->flush[state->flush_live & 1];
    return entry->cas < flush->mark || (flush->when != 0 && flush->when <= now);
}
