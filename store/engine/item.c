/* The forms of an item, chains of pieces, and the check byte over an entry. */
#include "store/engine/item.h"

#include <assert.h>
#include <string.h>

#define CONTENT offsetof(struct hop_entry, cas)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "all numbers of a pool are little endian"
#endif

/* Words of an entry. */
enum { WORD_CAS = 1, WORD_META, WORD_HEAD, WORD_BYTES, WORDS = 8 };
#define CHECK_SHIFT 56 /* of the check byte in WORD_HEAD */

static inline uint64_t add_word(uint64_t sum, uint64_t word)
{
    return (sum ^ word) * 0x9e3779b97f4a7c15u ^ sum >> 29;
}

/* Never 0, so that an empty line is no item. */
static uint8_t check_of(const uint64_t words[WORDS])
{
    uint64_t sum = 0;
    sum = add_word(sum, words[WORD_CAS]);
    sum = add_word(sum, words[WORD_HEAD] & ~(UINT64_MAX << CHECK_SHIFT));
    for (int i = WORD_BYTES; i < WORDS; i++)
        sum = add_word(sum, words[i]);
    return (uint8_t)(sum >> 56 | 1);
}

static enum hop_form form_of(uint32_t klen, uint32_t vlen)
{
    if (klen <= HOP_INLINE && vlen <= HOP_INLINE - klen)
        return HOP_INLINE_ITEM;
    return klen <= HOP_NEAR_KEY ? HOP_NEAR_ITEM : HOP_FAR_ITEM;
}

uint64_t item_blob_size(uint32_t klen, uint32_t vlen)
{
    enum hop_form form = form_of(klen, vlen);
    return form == HOP_INLINE_ITEM ? 0
           : form == HOP_NEAR_ITEM ? vlen
                                   : (uint64_t)klen + vlen;
}

uint32_t item_blob_prefix(uint32_t klen)
{
    return klen <= HOP_NEAR_KEY ? 0 : klen;
}

bool item_valid(const struct hop_entry *entry)
{
    uint64_t words[WORDS];
    memcpy(words, entry, sizeof(words));
    if (entry->check != check_of(words))
        return false;
    switch (item_form(entry)) {
    case HOP_INLINE_ITEM:
        return entry->vlen <= HOP_INLINE - item_klen(entry);
    case HOP_NEAR_ITEM:
        return item_klen(entry) <= HOP_NEAR_KEY;
    case HOP_NEAR_CHAIN:
        return item_klen(entry) <= HOP_NEAR_KEY && entry->near.vlen > 0;
    case HOP_FAR_ITEM:
    case HOP_FAR_CHAIN:
        return entry->far.klen > HOP_NEAR_KEY;
    default:
        return false;
    }
}

struct item_text item_read(const unsigned char *base,
                           const struct hop_entry *entry)
{
    enum hop_form form = item_form(entry);
    switch (form) {
    case HOP_INLINE_ITEM:
        return (struct item_text){entry->bytes, entry->bytes + item_klen(entry),
                                  item_klen(entry), entry->vlen};
    case HOP_NEAR_ITEM:
    case HOP_NEAR_CHAIN:
        return (struct item_text){
            entry->near.key,
            form == HOP_NEAR_CHAIN ? NULL : base + entry->near.offset,
            item_klen(entry), entry->near.vlen};
    case HOP_FAR_ITEM:
        return (struct item_text){base + entry->far.offset,
                                  base + entry->far.offset + entry->far.klen,
                                  entry->far.klen, entry->far.vlen};
    default:
        assert(form == HOP_FAR_CHAIN);
        return (struct item_text){base + entry->far.offset +
                                      sizeof(struct hop_piece),
                                  NULL, entry->far.klen, entry->far.vlen};
    }
}

bool item_blob(const struct hop_entry *entry, struct item_blob *blob,
               uint64_t *len)
{
    enum hop_form form = item_form(entry);
    if (form == HOP_INLINE_ITEM)
        return false;
    blob->chained = form >= HOP_NEAR_CHAIN;
    if (form == HOP_NEAR_ITEM || form == HOP_NEAR_CHAIN) {
        blob->offset = entry->near.offset;
        *len = entry->near.vlen;
    } else {
        blob->offset = entry->far.offset;
        *len = (uint64_t)entry->far.klen + entry->far.vlen;
    }
    return true;
}

struct item_source item_value_source(const unsigned char *base,
                                     const struct hop_entry *entry)
{
    struct item_text text = item_read(base, entry);
    struct item_source source = {.bytes = text.value, .len = text.vlen};
    if (item_form(entry) == HOP_NEAR_CHAIN) {
        source.chain = entry->near.offset;
    } else if (item_form(entry) == HOP_FAR_CHAIN) {
        source.chain = entry->far.offset;
        source.skip = entry->far.klen;
    }
    return source;
}

void item_runs_begin(struct item_runs *runs, const unsigned char *base,
                     const struct item_source *source)
{
    *runs = (struct item_runs){.base = base,
                               .next = source->chain,
                               .skip = source->skip,
                               .left = source->len,
                               .chained = source->chain != 0,
                               .bytes = source->bytes};
}

bool item_runs_next(struct item_runs *runs)
{
    if (!runs->chained && runs->left > 0) {
        runs->len = runs->left;
        runs->left = 0;
        return true;
    }
    while (runs->left > 0 && runs->next != 0) {
        const struct hop_piece *piece = (const void *)(runs->base + runs->next);
        uint32_t pass = runs->skip < piece->len ? runs->skip : piece->len;
        runs->bytes = (const uint8_t *)(piece + 1) + pass;
        runs->len = piece->len - pass;
        if (runs->len > runs->left)
            runs->len = runs->left;
        runs->skip -= pass;
        runs->left -= runs->len;
        runs->next = piece->next;
        if (runs->len > 0)
            return true;
    }
    return false;
}

/* Where the bytes of a blob go, run after run. */
struct writer {
    struct pm *pm;
    struct item_runs to;
    uint64_t used; /* bytes of this run */
};

static void writer_begin(struct writer *w, struct pm *pm,
                         const struct item_blob *blob, uint64_t len)
{
    struct item_source source = {.bytes = pm->base + blob->offset,
                                 .len = (uint32_t)len,
                                 .chain = blob->chained ? blob->offset : 0};
    w->pm = pm;
    w->used = 0;
    item_runs_begin(&w->to, pm->base, &source);
    w->to.left = len; /* may need more than 32 bits */
    item_runs_next(&w->to);
}

static void writer_put(struct writer *w, const void *bytes, uint64_t len)
{
    const uint8_t *from = bytes;
    while (len > 0) {
        if (w->used == w->to.len) {
            bool more = item_runs_next(&w->to);
            assert(more);
            (void)more;
            w->used = 0;
        }
        uint64_t n = w->to.len - w->used < len ? w->to.len - w->used : len;
        pm_copy(w->pm, w->pm->base + (w->to.bytes - w->pm->base) + w->used,
                from, n);
        w->used += n;
        from += n;
        len -= n;
    }
}

static void writer_put_source(struct writer *w,
                              const struct item_source *source)
{
    struct item_runs runs;
    item_runs_begin(&runs, w->pm->base, source);
    while (item_runs_next(&runs))
        writer_put(w, runs.bytes, runs.len);
}

static void write_blob(struct pm *pm, const struct item_blob *blob,
                       const void *key, uint32_t klen,
                       const struct item_value *value, uint64_t len)
{
    struct writer w;
    uint32_t prefix = item_blob_prefix(klen);
    writer_begin(&w, pm, blob, prefix + len);
    writer_put(&w, key, prefix);
    if (!value)
        return;
    writer_put_source(&w, &value->head);
    writer_put_source(&w, &value->tail);
}

static void copy_value(const struct pm *pm, uint8_t *to,
                       const struct item_source *source)
{
    struct item_runs runs;
    if (source->chain == 0) {
        if (source->len > 0)
            memcpy(to, source->bytes, source->len);
        return;
    }
    item_runs_begin(&runs, pm->base, source);
    while (item_runs_next(&runs)) {
        memcpy(to, runs.bytes, runs.len);
        to += runs.len;
    }
}

/* Form, length of a short key, length of an inline value. */
static uint64_t head_of(enum hop_form form, uint32_t klen, uint32_t vlen)
{
    return (uint64_t)form << 45 | (uint64_t)klen << 40 | (uint64_t)vlen << 48;
}

/* Bytes 32 to 63 of an entry, and what the head says about them. */
static uint64_t compose(const struct pm *pm, void *bytes,
                        const struct item_blob *blob, const void *key,
                        uint32_t klen, const struct item_value *value,
                        uint32_t len)
{
    if (blob->offset == 0) {
        uint8_t *to = bytes;
        memcpy(to, key, klen);
        copy_value(pm, to + klen, &value->head);
        copy_value(pm, to + klen + value->head.len, &value->tail);
        return head_of(HOP_INLINE_ITEM, klen - 1, len);
    }
    if (klen <= HOP_NEAR_KEY) {
        struct hop_near near = {.offset = blob->offset, .vlen = len};
        memcpy(near.key, key, klen);
        memcpy(bytes, &near, sizeof(near));
        return head_of(blob->chained ? HOP_NEAR_CHAIN : HOP_NEAR_ITEM, klen - 1,
                       0);
    }
    struct hop_far far = {.offset = blob->offset, .klen = klen, .vlen = len};
    memcpy(bytes, &far, sizeof(far));
    return head_of(blob->chained ? HOP_FAR_CHAIN : HOP_FAR_ITEM, 0, 0);
}

/* The entry is put together in whole words: see copy_words() in persist.c. */
void item_write(struct pm *pm, struct hop_entry *entry,
                const struct item_blob *blob, const void *key, uint32_t klen,
                const struct item_value *value, uint32_t len,
                const struct item_meta *meta)
{
    uint64_t words[WORDS] = {0};
    uint64_t head =
        compose(pm, &words[WORD_BYTES], blob, key, klen, value, len);
    words[WORD_CAS] = meta->cas;
    words[WORD_META] = item_meta_word(meta->exptime, meta->flags);
    head |= meta->hash >> 32 | (meta->hash >> 24 & 0xff) << 32;
    words[WORD_HEAD] = head;
    words[WORD_HEAD] |= (uint64_t)check_of(words) << CHECK_SHIFT;
    if (blob->offset != 0)
        write_blob(pm, blob, key, klen, value, len);
    pm_copy(pm, (unsigned char *)entry + CONTENT, &words[WORD_CAS],
            sizeof(words) - CONTENT);
}

void item_move(struct pm *pm, struct hop_entry *to,
               const struct hop_entry *from, uint64_t meta_word)
{
    struct hop_entry image = *from;
    image.meta = meta_word;
    pm_copy(pm, (unsigned char *)to + CONTENT,
            (const unsigned char *)&image + CONTENT, sizeof(image) - CONTENT);
}
