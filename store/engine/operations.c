/*
 * The client's operations on items.
 *
 * A change writes the new item into a free place and a free blob, then turns
 * one owner word: the old item, if any, loses its bit where the new one gets
 * its own. Before that nothing of the old item is touched, so a failure on the
 * way leaves it as it was, and a reader who borrowed it keeps it.
 */
#include "store/engine/engine_state.h"
#include "store/engine/item.h"
#include "store/engine/number.h"
#include "store/engine/space.h"

#include <assert.h>
#include <string.h>

#define CAS_STEP    ((uint64_t)1 << 20) /* ids per store of the ceiling */
#define NUMBER_TEXT 4096 /* bytes; a longer value is no number to us */

/* Where a key is, or would be. */
struct found {
    const void *key;
    uint32_t klen;
    uint32_t bucket;
    uint64_t hash;
    uint32_t place; /* HOP_NONE: absent */
};

/* A new item for a key. */
struct change {
    struct item_value value;
    uint32_t len; /* bytes of the value */
    uint32_t flags;
    uint32_t exptime;
    uint64_t blob; /* a reservation that holds the value already, or 0 */
};

/* Who asks: only a get counts why it missed. */
enum lookup { LOOKUP_GET, LOOKUP_CHANGE };

static void find(struct kv *kv, const void *key, size_t klen,
                 enum lookup lookup, struct found *out)
{
    out->key = key;
    out->klen = (uint32_t)klen;
    out->hash = kv_hash(kv, key, klen);
    out->bucket = hop_bucket(&kv->table, out->hash);
    __builtin_prefetch(&kv->lru.nodes[out->bucket]);
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
    space_remove(kv, out->bucket, out->place);
    out->place = HOP_NONE;
}

static bool key_fits(size_t klen)
{
    return klen >= 1 && klen <= KV_MAX_KEY;
}

enum kv_result kv_get(struct kv *kv, const void *key, size_t klen,
                      struct kv_item *out)
{
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, LOOKUP_GET, &f);
    if (f.place == HOP_NONE)
        return KV_MISS;
    const struct hop_entry *entry = kv_entry(kv, f.place);
    struct item_text text = item_read(kv->region.pm.base, entry);
    uint64_t meta = kv_meta(kv, f.place);
    const void *value = text.value;
    if (entry->form == HOP_INLINE_ITEM) {
        value = borrow_put(&kv->borrow, text.value, text.vlen);
        if (!value)
            return KV_NO_SPACE;
    } else {
        kv->lru.nodes[f.place].pin = kv->epoch;
    }
    lru_touch(&kv->lru, f.place);
    *out = (struct kv_item){.value = value,
                            .len = text.vlen,
                            .flags = (uint32_t)(meta >> 32),
                            .exptime = (uint32_t)meta,
                            .cas = entry->cas};
    return KV_OK;
}

static uint64_t take_cas(struct kv *kv)
{
    if (kv->next_cas == kv->cas_ceiling) {
        kv->cas_ceiling += CAS_STEP;
        region_set(&kv->region, &kv->region.header->state.cas_ceiling,
                   kv->cas_ceiling);
    }
    return kv->next_cas++;
}

/* The new item is written: give its place to the bucket. */
static void publish(struct kv *kv, const struct found *f, uint32_t place)
{
    if (f->place != HOP_NONE) {
        space_count(kv, f->place, false);
        space_retire_blob(kv, f->place);
        lru_remove(&kv->lru, f->place);
        hop_swap(&kv->table, f->bucket, f->place, place);
    } else {
        hop_link(&kv->table, f->bucket, place);
    }
    lru_insert(&kv->lru, place);
    space_count(kv, place, true);
    kv->stats.total_items++;
}

/* On failure a reservation in the change stays the caller's. */
static enum kv_result replace(struct kv *kv, struct found *f,
                              const struct change *change, uint64_t *cas)
{
    uint64_t size = item_blob_size(f->klen, change->len);
    uint64_t moves = kv->moves;
    uint64_t blob = change->blob;
    uint32_t place;

    if (blob == 0 && size > 0) {
        enum kv_result result = space_blob(kv, size, &blob);
        if (result != KV_OK)
            return result;
    }
    enum kv_result result = space_place(kv, f->bucket, &place);
    if (result != KV_OK) {
        if (change->blob == 0 && blob != 0)
            heap_free(&kv->heap, blob, size);
        return result;
    }
    if (kv->moves != moves)
        f->place = hop_find(&kv->table, f->hash, f->key, f->klen);
    struct item_meta meta = {.cas = take_cas(kv),
                             .exptime = change->exptime,
                             .flags = change->flags,
                             .tag = hop_tag(f->hash)};
    item_write(&kv->region.pm, kv_entry(kv, place), blob, f->key, f->klen,
               change->blob ? NULL : &change->value, change->len, &meta);
    publish(kv, f, place);
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
    struct item_text text = item_read(kv->region.pm.base, entry);
    uint64_t meta = kv_meta(kv, f->place);
    const void *value = change->value.head;
    uint64_t len = (uint64_t)text.vlen + change->len;

    if (len > kv->max_value)
        return KV_TOO_LARGE;
    if (entry->form == HOP_INLINE_ITEM) {
        memcpy(old, text.value, text.vlen);
        text.value = old;
    } else {
        kv->lru.nodes[f->place].pin = kv->epoch;
    }
    lru_touch(&kv->lru, f->place);
    if (append)
        change->value =
            (struct item_value){text.value, value, text.vlen, change->len};
    else
        change->value =
            (struct item_value){value, text.value, change->len, text.vlen};
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
    find(kv, key, klen, LOOKUP_CHANGE, &f);
    result = judge(kv, mode, &f, cas);
    if (result != KV_OK)
        return result;
    if (mode == KV_APPEND || mode == KV_PREPEND) {
        change->blob = 0;
        result = join(kv, &f, mode == KV_APPEND, change, old);
        if (result != KV_OK)
            return result;
    }
    return replace(kv, &f, change, cas_out);
}

enum kv_result kv_store(struct kv *kv, enum kv_mode mode, const void *key,
                        size_t klen, uint32_t flags, uint32_t exptime,
                        uint64_t cas, const void *value, size_t len,
                        uint64_t *cas_out)
{
    if (len > kv->max_value)
        return KV_TOO_LARGE;
    struct change change = {.value = {.head = value, .head_len = (uint32_t)len},
                            .len = (uint32_t)len,
                            .flags = flags,
                            .exptime = exptime};
    return store(kv, mode, key, klen, cas, &change, cas_out);
}

static uint64_t reserved_size(const struct kv_reservation *reservation)
{
    return (uint64_t)reservation->prefix + reservation->len;
}

enum kv_result kv_reserve(struct kv *kv, size_t klen, size_t len,
                          struct kv_reservation *out)
{
    uint64_t offset;
    if (!key_fits(klen) || len > kv->max_value)
        return KV_TOO_LARGE;
    uint32_t prefix = item_blob_prefix((uint32_t)klen);
    enum kv_result result = space_begin(kv);
    if (result == KV_OK)
        result = space_blob(kv, prefix + len, &offset);
    if (result != KV_OK)
        return result;
    *out =
        (struct kv_reservation){.buffer = kv->region.pm.base + offset + prefix,
                                .len = (uint32_t)len,
                                .prefix = prefix,
                                .offset = offset};
    kv->reserved_bytes += heap_round(reserved_size(out));
    kv->n_reserved++;
    return KV_OK;
}

static void end_reservation(struct kv *kv, struct kv_reservation *reservation,
                            bool keep_space)
{
    assert(kv->n_reserved > 0);
    kv->reserved_bytes -= heap_round(reserved_size(reservation));
    kv->n_reserved--;
    if (!keep_space)
        heap_free(&kv->heap, reservation->offset, reserved_size(reservation));
    *reservation = (struct kv_reservation){0};
}

enum kv_result kv_publish(struct kv *kv, struct kv_reservation *reservation,
                          enum kv_mode mode, const void *key, size_t klen,
                          uint32_t flags, uint32_t exptime, uint64_t cas,
                          uint64_t *cas_out)
{
    struct change change = {
        .value = {.head = reservation->buffer, .head_len = reservation->len},
        .len = reservation->len,
        .flags = flags,
        .exptime = exptime,
        .blob = reservation->offset};
    bool joined = mode == KV_APPEND || mode == KV_PREPEND;
    enum kv_result result = KV_TOO_LARGE;
    if (key_fits(klen) &&
        item_blob_prefix((uint32_t)klen) == reservation->prefix) {
        if (!joined && reservation->len > 0)
            pm_filled(&kv->region.pm, reservation->buffer, reservation->len);
        result = store(kv, mode, key, klen, cas, &change, cas_out);
    }
    end_reservation(kv, reservation, result == KV_OK && !joined);
    return result;
}

void kv_cancel(struct kv *kv, struct kv_reservation *reservation)
{
    end_reservation(kv, reservation, false);
}

enum kv_result kv_delete(struct kv *kv, const void *key, size_t klen)
{
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, LOOKUP_CHANGE, &f);
    if (f.place == HOP_NONE)
        return KV_MISS;
    space_remove(kv, f.bucket, f.place);
    return KV_OK;
}

enum kv_result kv_touch(struct kv *kv, const void *key, size_t klen,
                        uint32_t exptime)
{
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, LOOKUP_CHANGE, &f);
    if (f.place == HOP_NONE)
        return KV_MISS;
    uint64_t meta = kv_meta(kv, f.place);
    kv->expiring -= (uint32_t)meta != 0;
    kv->expiring += exptime != 0;
    lru_touch(&kv->lru, f.place);
    commit_write(&kv->commit, &kv_entry(kv, f.place)->meta,
                 item_meta_word(exptime, (uint32_t)(meta >> 32)));
    return KV_OK;
}

enum kv_result kv_arith(struct kv *kv, const void *key, size_t klen, bool incr,
                        uint64_t delta, uint64_t *value, uint64_t *cas)
{
    struct found f;
    uint64_t number, meta;
    char text[NUMBER_TEXT];
    if (!key_fits(klen))
        return KV_MISS;
    enum kv_result result = space_begin(kv);
    if (result != KV_OK)
        return result;
    find(kv, key, klen, LOOKUP_CHANGE, &f);
    if (f.place == HOP_NONE)
        return KV_MISS;
    struct item_text old = item_read(kv->region.pm.base, kv_entry(kv, f.place));
    if (old.vlen > NUMBER_TEXT || !number_read(old.value, old.vlen, &number))
        return KV_NOT_NUMBER;
    number = number_step(number, incr, delta);
    size_t len = number_write(number, text);
    if (len < old.vlen) {
        memset(text + len, ' ', old.vlen - len);
        len = old.vlen;
    }
    meta = kv_meta(kv, f.place);
    struct change change = {.value = {.head = text, .head_len = (uint32_t)len},
                            .len = (uint32_t)len,
                            .flags = (uint32_t)(meta >> 32),
                            .exptime = (uint32_t)meta};
    result = replace(kv, &f, &change, cas);
    if (result == KV_OK && value)
        *value = number;
    return result;
}
