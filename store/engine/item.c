/* The three forms of an item, and the check byte over an entry. */
#include "store/engine/item.h"

#include <assert.h>
#include <string.h>

#define CONTENT offsetof(struct hop_entry, cas)

/* Never 0, so that an empty line is no item. */
static uint8_t check_of(const struct hop_entry *entry)
{
    uint64_t words[8], sum = 0;
    memcpy(words, entry, sizeof(words));
    words[3] &= UINT64_MAX >> 8; /* without the check byte itself */
    for (int i = 1; i < 8; i++)
        if (i != 2)
            sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15u ^ sum >> 29;
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

static bool in_pool(uint64_t offset, uint64_t len, uint64_t begin, uint64_t end)
{
    return offset >= begin && offset <= end && len <= end - offset;
}

bool item_valid(const struct hop_entry *entry, uint64_t begin, uint64_t end)
{
    if (entry->check != check_of(entry))
        return false;
    switch (entry->form) {
    case HOP_INLINE_ITEM:
        return entry->klen >= 1 && entry->klen <= HOP_INLINE &&
               entry->vlen <= HOP_INLINE - entry->klen;
    case HOP_NEAR_ITEM:
        return entry->klen >= 1 && entry->klen <= HOP_NEAR_KEY &&
               in_pool(entry->near.offset, entry->near.vlen, begin, end);
    case HOP_FAR_ITEM:
        return entry->far.klen > HOP_NEAR_KEY && entry->far.klen <= 255 &&
               in_pool(entry->far.offset,
                       (uint64_t)entry->far.klen + entry->far.vlen, begin, end);
    default:
        return false;
    }
}

struct item_text item_read(const unsigned char *base,
                           const struct hop_entry *entry)
{
    switch (entry->form) {
    case HOP_INLINE_ITEM:
        return (struct item_text){entry->bytes, entry->bytes + entry->klen,
                                  entry->klen, entry->vlen};
    case HOP_NEAR_ITEM:
        return (struct item_text){entry->near.key, base + entry->near.offset,
                                  entry->klen, entry->near.vlen};
    default:
        assert(entry->form == HOP_FAR_ITEM);
        return (struct item_text){base + entry->far.offset,
                                  base + entry->far.offset + entry->far.klen,
                                  entry->far.klen, entry->far.vlen};
    }
}

bool item_blob(const struct hop_entry *entry, uint64_t *offset, uint64_t *len)
{
    if (entry->form == HOP_INLINE_ITEM)
        return false;
    if (entry->form == HOP_NEAR_ITEM) {
        *offset = entry->near.offset;
        *len = entry->near.vlen;
    } else {
        *offset = entry->far.offset;
        *len = (uint64_t)entry->far.klen + entry->far.vlen;
    }
    return true;
}

static void copy_value(uint8_t *to, const struct item_value *value)
{
    if (value->head_len > 0)
        memcpy(to, value->head, value->head_len);
    if (value->tail_len > 0)
        memcpy(to + value->head_len, value->tail, value->tail_len);
}

static void write_blob(struct pm *pm, uint64_t blob, const void *key,
                       uint32_t klen, const struct item_value *value)
{
    unsigned char *at = pm->base + blob;
    if (klen > HOP_NEAR_KEY) {
        pm_copy(pm, at, key, klen);
        at += klen;
    }
    if (!value)
        return;
    if (value->head_len > 0)
        pm_copy(pm, at, value->head, value->head_len);
    if (value->tail_len > 0)
        pm_copy(pm, at + value->head_len, value->tail, value->tail_len);
}

void item_write(struct pm *pm, struct hop_entry *entry, uint64_t blob,
                const void *key, uint32_t klen, const struct item_value *value,
                uint32_t len, const struct item_meta *meta)
{
    struct hop_entry image = {.cas = meta->cas,
                              .exptime = meta->exptime,
                              .flags = meta->flags,
                              .tag = meta->tag};
    if (blob == 0) {
        image.form = HOP_INLINE_ITEM;
        image.klen = (uint8_t)klen;
        image.vlen = (uint8_t)len;
        memcpy(image.bytes, key, klen);
        copy_value(image.bytes + klen, value);
    } else if (klen <= HOP_NEAR_KEY) {
        image.form = HOP_NEAR_ITEM;
        image.klen = (uint8_t)klen;
        memcpy(image.near.key, key, klen);
        image.near.offset = blob;
        image.near.vlen = len;
    } else {
        image.form = HOP_FAR_ITEM;
        image.far = (struct hop_far){.offset = blob, .klen = klen, .vlen = len};
    }
    image.check = check_of(&image);
    if (blob != 0)
        write_blob(pm, blob, key, klen, value);
    pm_copy(pm, (unsigned char *)entry + CONTENT,
            (const unsigned char *)&image + CONTENT, sizeof(image) - CONTENT);
}

void item_move(struct pm *pm, struct hop_entry *to,
               const struct hop_entry *from, uint64_t meta_word)
{
    struct hop_entry image = *from;
    image.meta = meta_word;
    pm_copy(pm, (unsigned char *)to + CONTENT,
            (const unsigned char *)&image + CONTENT, sizeof(image) - CONTENT);
}
