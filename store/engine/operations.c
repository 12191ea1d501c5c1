/*
 * The client's operations on items.
 *
 * A change writes the new item into a free place and a free blob, then turns
 * one owner word: the old item, if any, loses its bit where the new one gets
 * its own. Before that nothing of the old item is touched, so a failure on the
 * way leaves it as it was, and a reader who borrowed it keeps it.
 */
#include "config/log.h"
#include "store/engine/durable.h"
#include "store/engine/engine_state.h"
#include "store/engine/grow.h"
#include "store/engine/hop_look.h"
#include "store/engine/item.h"
#include "store/engine/number.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_TEXT 4096 /* bytes; a longer value is on the heap */

/* Where a key is, or would be. */
struct found {
    const void *key;
    uint32_t klen;
    uint64_t hash;
    uint32_t place; /* HOP_NONE: absent */
    uint32_t spare; /* a free place, until kv->moves changes; or HOP_NONE */
    uint64_t moves; /* what it was then */
};

/* A new item for a key. */
struct change {
    struct item_value value;
    uint32_t len; /* bytes of the value */
    uint32_t flags;
    uint32_t exptime;
    struct item_blob blob; /* a reservation that holds the value already */
    uint64_t flushed;      /* bytes of lines, of that value */
    enum kv_kind kind;     /* a plain put: KV_KIND_INSERT, whoever is there */
};

/* Who asks: only a get counts why it missed, only a store needs a new place. */
enum lookup { LOOKUP_GET, LOOKUP_CHANGE, LOOKUP_STORE };

static void find(struct kv *kv, const void *key, size_t klen,
                 enum lookup lookup, struct found *out)
{
    out->key = key;
    out->klen = (uint32_t)klen;
    out->hash = kv_hash(kv, key, klen);
    if (kv->lru.ordered)
        __builtin_prefetch(
            lru_node(&kv->lru, hop_bucket(&kv->table, out->hash)));
    if (kv->recovery.active)
        recover_segment(kv, hop_segment_of(&kv->table, out->hash));
    out->moves = kv->moves;
    out->spare = HOP_NONE;
    if (lookup == LOOKUP_STORE)
        out->spare = hop_fetch(&kv->table, out->hash);
    out->place = hop_find(&kv->table, out->hash, key, klen);
    if (out->place == HOP_NONE || !space_is_stale(kv, out->place))
        return;
    if (lookup == LOOKUP_GET) {
        if (kv_flushed(kv, kv_entry(kv, out->place)->cas))
            kv->stats.get_flushed++;
        else
            kv->stats.get_expired++;
    }
    kv->stats.reclaimed++;
    space_remove(kv, out->place, KV_KIND_EXPIRE);
    out->place = HOP_NONE;
}

static bool key_fits(size_t klen)
{
    return klen >= 1 && klen <= KV_MAX_KEY;
}

/* The key's entry, for calls that need one; counts the gets. */
static enum kv_result find_entry(struct kv *kv, const void *key, size_t klen,
                                 enum lookup lookup, struct found *out)
{
    if (!key_fits(klen))
        return KV_MISS;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, lookup, out);
    bool miss = out->place == HOP_NONE;
    if (lookup == LOOKUP_GET) {
        kv->stats.get_misses += miss;
        kv->stats.get_hits += !miss;
    }
    return miss ? KV_MISS : KV_OK;
}

void durable_hint(struct kv *kv, const void *key, size_t klen, bool store)
{
    if (key_fits(klen))
        hop_hint(&kv->table, kv_hash(kv, key, klen), store);
}

/* A copy of a value in an entry, whose place need not wait for its reader. */
static inline enum kv_result lend_copy(struct kv *kv,
                                       const struct hop_entry *entry,
                                       size_t klen, uint64_t meta,
                                       struct kv_item *out)
{
    const unsigned char *copy =
        borrow_put(&kv->borrow, entry->bytes, sizeof(entry->bytes));
    if (!copy)
        return KV_NO_SPACE;
    *out = (struct kv_item){.value = copy + klen,
                            .len = entry->vlen,
                            .flags = (uint32_t)(meta >> 32),
                            .exptime = (uint32_t)meta,
                            .cas = entry->cas};
    return KV_OK;
}

static enum kv_result lend(struct kv *kv, uint32_t place, struct kv_item *out)
{
    const struct hop_entry *entry = kv_entry(kv, place);
    lru_touch(&kv->lru, place);
    if (item_form(entry) == HOP_INLINE_ITEM)
        return lend_copy(kv, entry, item_klen(entry), kv_meta(kv, place), out);
    *lru_pin(&kv->lru, place) = kv->epoch;
    durable_item(kv, place, out);
    return KV_OK;
}

static enum kv_result get_rare(struct kv *kv, const void *key, size_t klen,
                               struct kv_item *out)
{
    struct found f;
    enum kv_result result = find_entry(kv, key, klen, LOOKUP_GET, &f);
    return result == KV_OK ? lend(kv, f.place, out) : result;
}

/* What follows a miss of all caches is what waits for it, so it is little:
 * all that is rare is elsewhere. */
enum kv_result durable_get(struct kv *kv, const void *key, size_t klen,
                           struct kv_item *out)
{
    if (!key_fits(klen) || kv->failed || kv->recovery.active)
        return get_rare(kv, key, klen, out);
    uint64_t hash = kv_hash(kv, key, klen);
    if (kv->lru.ordered)
        __builtin_prefetch(lru_node(&kv->lru, hop_bucket(&kv->table, hash)));
    struct hop_found f = hop_look(&kv->table, hash, key, klen);
    if (!f.entry) {
        kv->stats.get_misses++;
        return KV_MISS;
    }
    uint64_t meta = commit_read_loose(&kv->commit, &f.entry->meta);
    if (kv_expired(kv, (uint32_t)meta) || kv_flushed(kv, f.entry->cas))
        return get_rare(kv, key, klen, out);
    kv->stats.get_hits++;
    if (kv->lru.ordered || item_form(f.entry) != HOP_INLINE_ITEM)
        return lend(kv, f.place, out);
    return lend_copy(kv, f.entry, klen, meta, out);
}

enum kv_result durable_exists(struct kv *kv, const void *key, size_t klen)
{
    struct found f;
    return find_entry(kv, key, klen, LOOKUP_CHANGE, &f);
}

enum kv_result durable_read(struct kv *kv, const void *key, size_t klen,
                            bool used, size_t from, void *buffer, size_t size,
                            struct kv_item *out)
{
    struct found f;
    enum kv_result result =
        find_entry(kv, key, klen, used ? LOOKUP_GET : LOOKUP_CHANGE, &f);
    if (result != KV_OK)
        return result;
    if (used)
        lru_touch(&kv->lru, f.place);
    durable_item(kv, f.place, out);
    durable_copy_value(kv, out, from, buffer, size);
    out->value = NULL;
    out->chain = 0;
    return KV_OK;
}

static void raise_ceiling(struct kv *kv)
{
    uint64_t left = POOL_CEILING_MAX - kv->cas_ceiling;
    assert(left > 0);
    if (left <= POOL_CEILING_STEP)
        log_warn("pool %s gives its last %llu cas ids; nothing can be stored "
                 "after them",
                 kv->region->region.path, (unsigned long long)left);
    kv->cas_ceiling += left < POOL_CEILING_STEP ? left : POOL_CEILING_STEP;
    durable_set(kv, &kv->pool.header->state.cas_ceiling, kv->cas_ceiling);
}

static uint64_t take_cas(struct kv *kv)
{
    if (kv->next_cas == kv->cas_ceiling)
        raise_ceiling(kv);
    return kv->next_cas++;
}

/* Give the place to the bucket, once the commit makes it so. */
static void publish(struct kv *kv, const struct found *f, uint32_t place,
                    const struct change *change, bool inlined)
{
    uint32_t bucket = hop_bucket(&kv->table, f->hash);
    if (f->place != HOP_NONE) {
        space_count(kv, f->place, false);
        space_retire_blob(kv, f->place);
        lru_remove(&kv->lru, f->place);
        hop_swap(&kv->table, bucket, f->place, place);
    } else {
        hop_link(&kv->table, bucket, place, f->hash);
    }
    lru_insert(&kv->lru, place);
    if (!inlined)
        *lru_pin(&kv->lru, place) = 0;
    space_count_new(kv, (uint64_t)f->klen + change->len, change->exptime != 0);
}

/* On failure a reservation in the change stays the caller's. */
static enum kv_result replace(struct kv *kv, struct found *f,
                              const struct change *change, uint64_t *cas)
{
    uint64_t size = item_blob_size(f->klen, change->len);
    struct item_blob blob = change->blob;
    enum kv_result result;
    uint32_t place = f->spare;

    if (kv->next_cas == POOL_CEILING_MAX)
        return KV_NO_SPACE;
    if (blob.offset == 0 && size > 0) {
        result = space_blob(kv, size, item_blob_prefix(f->klen), false, &blob);
        if (result != KV_OK)
            return result;
    }
    if (place == HOP_NONE || kv->moves != f->moves ||
        grow_is_due(kv, place >> HOP_SHIFT))
        result = space_place(kv, f->hash, &place);
    else
        result = KV_OK;
    if (result != KV_OK) {
        if (change->blob.offset == 0 && blob.offset != 0)
            space_free_blob(kv, &blob, size);
        return result;
    }
    if (kv->moves != f->moves)
        f->place = hop_find(&kv->table, f->hash, f->key, f->klen);
    struct item_meta meta = {.cas = take_cas(kv),
                             .hash = f->hash,
                             .exptime = change->exptime,
                             .flags = change->flags};
    enum kv_kind kind = change->kind;
    if (kind == KV_KIND_INSERT && f->place != HOP_NONE)
        kind = KV_KIND_REPLACE;
    uint64_t before = kv->pm->flushed - change->flushed;
    /* Noted first: the place may be the bucket's own, and a line that is
     * being written back is slow to read. */
    publish(kv, f, place, change, size == 0);
    item_write(kv->pm, kv_entry(kv, place), &blob, f->key, f->klen,
               change->blob.offset ? NULL : &change->value, change->len, &meta);
    costs_note(&kv->costs, kind, kv->pm->flushed - before,
               (uint64_t)f->klen + change->len);
    kv->stats.pieces += blob.chained;
    if (cas)
        *cas = meta.cas;
    return KV_OK;
}

static enum kv_result judge(const struct kv *kv, enum kv_mode mode,
                            const struct found *f, uint64_t cas)
{
    bool present = f->place != HOP_NONE;
    if (!present)
        return mode == KV_CAS                     ? KV_MISS
               : mode == KV_SET || mode == KV_ADD ? KV_OK
                                                  : KV_NOT_STORED;
    if (mode == KV_ADD)
        return KV_NOT_STORED;
    if ((mode == KV_CAS || cas != 0) && kv_entry(kv, f->place)->cas != cas)
        return KV_EXISTS;
    return KV_OK;
}

/* Put the old value beside the new one. old: kept, as a place may be reused
 * while room is made; a blob is kept by a pin. */
static enum kv_result join(struct kv *kv, const struct found *f, bool append,
                           struct change *change, uint8_t old[HOP_INLINE])
{
    const struct hop_entry *entry = kv_entry(kv, f->place);
    struct item_source kept = item_value_source(kv->pm->base, entry);
    struct item_source added = change->value.head;
    uint64_t meta = kv_meta(kv, f->place);
    uint64_t len = (uint64_t)kept.len + change->len;

    if (len > kv->max_value)
        return KV_TOO_LARGE;
    if (item_form(entry) == HOP_INLINE_ITEM) {
        memcpy(old, kept.bytes, kept.len);
        kept.bytes = old;
    } else {
        *lru_pin(&kv->lru, f->place) = kv->epoch;
    }
    lru_touch(&kv->lru, f->place);
    change->value.head = append ? kept : added;
    change->value.tail = append ? added : kept;
    change->len = (uint32_t)len;
    change->exptime = (uint32_t)meta;
    change->flags = (uint32_t)(meta >> 32);
    return KV_OK;
}

static enum kv_result store(struct kv *kv, enum kv_mode mode, const void *key,
                            size_t klen, uint64_t cas, struct change *change,
                            uint64_t *cas_out)
{
    uint8_t old[HOP_INLINE];
    struct found f;
    if (!key_fits(klen))
        return KV_TOO_LARGE;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, LOOKUP_STORE, &f);
    result = judge(kv, mode, &f, cas);
    if (result != KV_OK)
        return result;
    if (mode == KV_APPEND || mode == KV_PREPEND) {
        change->blob.offset = 0;
        change->kind = KV_KIND_JOIN;
        result = join(kv, &f, mode == KV_APPEND, change, old);
        if (result != KV_OK)
            return result;
    }
    return replace(kv, &f, change, cas_out);
}

enum kv_result durable_store(struct kv *kv, enum kv_mode mode, const void *key,
                             size_t klen, uint32_t flags, uint32_t exptime,
                             uint64_t cas, const void *value, size_t len,
                             uint64_t *cas_out)
{
    if (len > kv->max_value)
        return KV_TOO_LARGE;
    struct change change; /* a compiler clears all of it by a slow "rep stos" */
    change.value.head =
        (struct item_source){.bytes = value, .len = (uint32_t)len};
    change.value.tail = (struct item_source){0};
    change.len = (uint32_t)len;
    change.flags = flags;
    change.exptime = exptime;
    change.blob = (struct item_blob){0};
    change.flushed = 0;
    change.kind = KV_KIND_INSERT;
    return store(kv, mode, key, klen, cas, &change, cas_out);
}

static uint64_t reserved_size(const struct kv_reservation *reservation)
{
    return (uint64_t)reservation->prefix + reservation->len;
}

static struct item_blob reserved_blob(const struct kv_reservation *reservation)
{
    return (struct item_blob){reservation->offset, reservation->buffer == NULL};
}

/* The place of the value, which follows the key. */
static struct item_source
reserved_value(const struct kv_reservation *reservation)
{
    struct item_source source = {.bytes = reservation->buffer,
                                 .len = reservation->len};
    if (!reservation->buffer) {
        source.chain = reservation->offset;
        source.skip = reservation->prefix;
    }
    return source;
}

/* What the heap has given for it. */
static uint64_t reserved_space(const struct kv *kv,
                               const struct kv_reservation *reservation)
{
    uint64_t sum = 0;
    if (reservation->buffer)
        return heap_round(reserved_size(reservation));
    for (uint64_t at = reservation->offset; at != 0;) {
        const struct hop_piece *piece = (const void *)kv_at(kv, at);
        sum += heap_round(sizeof(*piece) + piece->len);
        at = piece->next;
    }
    return sum;
}

enum kv_result durable_reserve(struct kv *kv, size_t klen, size_t len,
                               struct kv_reservation *out)
{
    struct item_blob blob;
    if (!key_fits(klen) || len > kv->max_value)
        return KV_TOO_LARGE;
    uint32_t prefix = item_blob_prefix((uint32_t)klen);
    enum kv_result result = space_begin(kv);
    if (result == KV_OK)
        result = space_blob(kv, prefix + len, prefix, false, &blob);
    if (result != KV_OK)
        return result;
    *out = (struct kv_reservation){
        .len = (uint32_t)len, .prefix = prefix, .offset = blob.offset};
    if (!blob.chained)
        out->buffer = kv_at(kv, blob.offset + prefix);
    kv->reserved_bytes += reserved_space(kv, out);
    kv->n_reserved++;
    return KV_OK;
}

void *durable_reserved(const struct kv *kv,
                       const struct kv_reservation *reservation, size_t from,
                       size_t *room)
{
    struct item_source source = reserved_value(reservation);
    struct item_runs runs;
    uint64_t at = 0;
    item_runs_begin(&runs, kv->pm->base, &source);
    while (item_runs_next(&runs)) {
        if (from < at + runs.len) {
            *room = at + runs.len - from;
            return kv_at(kv, (uint64_t)(runs.bytes - kv->pm->base)) +
                   (from - at);
        }
        at += runs.len;
    }
    *room = 0;
    return NULL;
}

static void end_reservation(struct kv *kv, struct kv_reservation *reservation,
                            uint64_t space, bool keep_space)
{
    struct item_blob blob = reserved_blob(reservation);
    assert(kv->n_reserved > 0);
    kv->reserved_bytes -= space;
    kv->n_reserved--;
    if (!keep_space)
        space_free_blob(kv, &blob, reserved_size(reservation));
    *reservation = (struct kv_reservation){0};
}

/* The bytes are there: begin to make them durable. How many that flushes. */
static uint64_t flush_reserved(struct kv *kv,
                               const struct kv_reservation *reservation)
{
    uint64_t before = kv->pm->flushed;
    struct item_source source = reserved_value(reservation);
    struct item_runs runs;
    item_runs_begin(&runs, kv->pm->base, &source);
    while (item_runs_next(&runs))
        pm_filled(kv->pm, runs.bytes, runs.len);
    return kv->pm->flushed - before;
}

enum kv_result durable_publish(struct kv *kv,
                               struct kv_reservation *reservation,
                               enum kv_mode mode, const void *key, size_t klen,
                               uint32_t flags, uint32_t exptime, uint64_t cas,
                               uint64_t *cas_out)
{
    struct change change = {.value.head = reserved_value(reservation),
                            .len = reservation->len,
                            .flags = flags,
                            .exptime = exptime,
                            .blob = reserved_blob(reservation)};
    uint64_t space = reserved_space(kv, reservation);
    bool joined = mode == KV_APPEND || mode == KV_PREPEND;
    enum kv_result result = KV_TOO_LARGE;
    if (key_fits(klen) &&
        item_blob_prefix((uint32_t)klen) == reservation->prefix) {
        if (!joined)
            change.flushed = flush_reserved(kv, reservation);
        result = store(kv, mode, key, klen, cas, &change, cas_out);
    }
    end_reservation(kv, reservation, space, result == KV_OK && !joined);
    return result;
}

void durable_cancel(struct kv *kv, struct kv_reservation *reservation)
{
    if (kv->failed) { /* what its pieces say is no matter any more */
        kv->n_reserved--;
        *reservation = (struct kv_reservation){0};
        return;
    }
    end_reservation(kv, reservation, reserved_space(kv, reservation), false);
}

enum kv_result durable_delete(struct kv *kv, const void *key, size_t klen)
{
    struct found f;
    enum kv_result result = find_entry(kv, key, klen, LOOKUP_CHANGE, &f);
    if (result != KV_OK)
        return result;
    space_remove(kv, f.place, KV_KIND_DELETE);
    return KV_OK;
}

enum kv_result durable_touch(struct kv *kv, const void *key, size_t klen,
                             uint32_t exptime)
{
    struct found f;
    enum kv_result result = find_entry(kv, key, klen, LOOKUP_CHANGE, &f);
    if (result != KV_OK)
        return result;
    uint64_t meta = kv_meta(kv, f.place);
    kv->expiring -= (uint32_t)meta != 0;
    kv->expiring += exptime != 0;
    lru_touch(&kv->lru, f.place);
    costs_note(&kv->costs, KV_KIND_TOUCH, 0, 0);
    commit_write_loose(&kv->commit, &kv_entry(kv, f.place)->meta,
                       item_meta_word(exptime, (uint32_t)(meta >> 32)));
    return KV_OK;
}

static void copy_value(const struct kv *kv, struct item_source *source,
                       char *text)
{
    struct item_runs runs;
    size_t len = 0;
    item_runs_begin(&runs, kv->pm->base, source);
    for (; item_runs_next(&runs); len += runs.len)
        memcpy(text + len, runs.bytes, runs.len);
}

enum kv_result durable_arith(struct kv *kv, const void *key, size_t klen,
                             bool incr, uint64_t delta, uint64_t *value,
                             uint64_t *cas)
{
    struct found f;
    uint64_t number, meta;
    char small[NUMBER_TEXT], *text = small;
    enum kv_result result = find_entry(kv, key, klen, LOOKUP_STORE, &f);
    if (result != KV_OK)
        return result;
    struct item_source source =
        item_value_source(kv->pm->base, kv_entry(kv, f.place));
    if (source.len == 0 || source.len > NUMBER_VALUE_MOST)
        return KV_NOT_NUMBER;
    if (source.len > sizeof(small) && !(text = malloc(source.len)))
        return KV_NO_SPACE;
    copy_value(kv, &source, text);
    size_t len = number_step_text(text, source.len, incr, delta, &number);
    result = KV_NOT_NUMBER;
    if (len == 0)
        goto out;
    meta = kv_meta(kv, f.place);
    struct change change = {.value.head = {.bytes = text, .len = (uint32_t)len},
                            .len = (uint32_t)len,
                            .flags = (uint32_t)(meta >> 32),
                            .exptime = (uint32_t)meta,
                            .kind = KV_KIND_NUMBER};
    result = replace(kv, &f, &change, cas);
    if (result == KV_OK && value)
        *value = number;
out:
    if (text != small)
        free(text);
    return result;
}
