/*
 * One item: how key, value and the rest lie in an entry and, when they do not
 * fit there, in a blob. Nothing here knows where entries are or when they
 * count.
 */
#ifndef STORE_ENGINE_ITEM_H
#define STORE_ENGINE_ITEM_H

#include "store/engine/hop_layout.h"
#include "store/pm/persist.h"

#include <stdbool.h>

/* Borrowed from the pool. */
struct item_text {
    const uint8_t *key;
    const uint8_t *value;
    uint32_t klen; /* bytes */
    uint32_t vlen; /* bytes */
};

/* The bytes of a value, in two parts so that append needs no buffer. */
struct item_value {
    const void *head;
    const void *tail;
    uint32_t head_len;
    uint32_t tail_len;
};

struct item_meta {
    uint64_t cas;
    uint32_t exptime;
    uint32_t flags;
    uint32_t tag;
};

/* The meta word as commit.h sees it. */
static inline uint64_t item_meta_word(uint32_t exptime, uint32_t flags)
{
    return (uint64_t)flags << 32 | exptime;
}

/* Bytes of blob that such an item needs; 0: it fits into the entry. */
uint64_t item_blob_size(uint32_t klen, uint32_t vlen);

/* Bytes in front of the value in a blob. */
uint32_t item_blob_prefix(uint32_t klen);

/* The entry is an item whose parts lie within [begin, end) of the pool and
 * whose check byte is right. */
bool item_valid(const struct hop_entry *entry, uint64_t begin, uint64_t end);

/* Of a valid entry. base: start of the pool. */
struct item_text item_read(const unsigned char *base,
                           const struct hop_entry *entry);

/* Offset and length of a valid entry's blob; false: it has none. */
bool item_blob(const struct hop_entry *entry, uint64_t *offset, uint64_t *len);

/*
 * Write an item into an entry that nothing durable names; the owner word stays
 * as it is. blob: offset of item_blob_size() bytes, or 0 for none. value NULL:
 * len bytes of the value are in the blob and flushed already. Durable after
 * the next fence.
 */
void item_write(struct pm *pm, struct hop_entry *entry, uint64_t blob,
                const void *key, uint32_t klen, const struct item_value *value,
                uint32_t len, const struct item_meta *meta);

/* Copy an item, with another meta word, into such an entry. */
void item_move(struct pm *pm, struct hop_entry *to,
               const struct hop_entry *from, uint64_t meta_word);

#endif
