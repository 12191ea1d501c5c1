/*
 * One item: how key, value and the rest lie in an entry and, when they do not
 * fit there, in a blob, which is one run of bytes or a chain of pieces.
 * Nothing here knows where entries are or when they count.
 */
#ifndef STORE_ENGINE_ITEM_H
#define STORE_ENGINE_ITEM_H

#include "store/engine/hop_layout.h"
#include "store/pm/persist.h"

#include <stdbool.h>

/* Where a blob lies. */
struct item_blob {
    uint64_t offset; /* from the start of the region; 0: there is none */
    bool chained;    /* offset is that of a struct hop_piece */
};

/* Borrowed from the pool. */
struct item_text {
    const uint8_t *key;
    const uint8_t *value; /* NULL: in pieces */
    uint32_t klen;        /* bytes */
    uint32_t vlen;        /* bytes */
};

/* Bytes to be written: a run, or a chain that lies in the pool already. */
struct item_source {
    const void *bytes;
    uint32_t len;   /* bytes */
    uint64_t chain; /* not 0: offset of the piece in which they begin */
    uint32_t skip;  /* bytes of that piece before them */
};

/* A value, in two parts so that append needs no buffer. */
struct item_value {
    struct item_source head;
    struct item_source tail;
};

struct item_meta {
    uint64_t cas;
    uint64_t hash; /* of the key */
    uint32_t exptime;
    uint32_t flags;
};

/* One run of bytes of a blob after the other. */
struct item_runs {
    const unsigned char *base; /* of the region */
    uint64_t next;             /* offset of the next piece, or 0 */
    uint64_t left;             /* bytes after this run */
    uint32_t skip;             /* bytes to pass over before the first run */
    bool chained;
    const uint8_t *bytes; /* this run */
    uint64_t len;
};

static inline enum hop_form item_form(const struct hop_entry *entry)
{
    return (enum hop_form)(entry->shape >> 5);
}

static inline bool item_chained(const struct hop_entry *entry)
{
    return item_form(entry) >= HOP_NEAR_CHAIN;
}

/* The key lies in a blob. */
static inline bool item_is_far(const struct hop_entry *entry)
{
    return item_form(entry) == HOP_FAR_ITEM ||
           item_form(entry) == HOP_FAR_CHAIN;
}

/* Bytes of a key that does not; it is at entry->bytes in all such forms. */
static inline uint32_t item_klen(const struct hop_entry *entry)
{
    return (entry->shape & 31u) + 1;
}

/* Bytes of key and value of a valid entry. */
static inline uint64_t item_bytes(const struct hop_entry *entry)
{
    if (item_form(entry) == HOP_INLINE_ITEM)
        return item_klen(entry) + entry->vlen;
    if (item_is_far(entry))
        return (uint64_t)entry->far.klen + entry->far.vlen;
    return (uint64_t)item_klen(entry) + entry->near.vlen;
}

/* The bits of the key's hash that are in the entry, where they are in it. */
static inline uint64_t item_hash(const struct hop_entry *entry)
{
    return (uint64_t)entry->tag << 32 | (uint64_t)entry->spot << 24;
}

/* The meta word as commit.h sees it. */
static inline uint64_t item_meta_word(uint32_t exptime, uint32_t flags)
{
    return (uint64_t)flags << 32 | exptime;
}

/* Bytes of blob that such an item needs; 0: it fits into the entry. */
uint64_t item_blob_size(uint32_t klen, uint32_t vlen);

/* Bytes in front of the value in a blob. */
uint32_t item_blob_prefix(uint32_t klen);

/* The entry is an item, as far as one can see without its blob: form,
 * lengths and check byte are right. */
bool item_valid(const struct hop_entry *entry);

/* Of a valid entry. base: start of the region. */
struct item_text item_read(const unsigned char *base,
                           const struct hop_entry *entry);

/* The blob of a valid entry and its bytes; false: it has none. */
bool item_blob(const struct hop_entry *entry, struct item_blob *blob,
               uint64_t *len);

/* The value of a valid entry as a source. */
struct item_source item_value_source(const unsigned char *base,
                                     const struct hop_entry *entry);

/* Run after run: begin, then next until it says false. */
void item_runs_begin(struct item_runs *runs, const unsigned char *base,
                     const struct item_source *source);
bool item_runs_next(struct item_runs *runs);

/*
 * Write an item into an entry that nothing durable names; the owner word stays
 * as it is. blob: room for item_blob_size() bytes; of a chain the pieces are
 * linked. value NULL: len bytes of the value are in the blob and flushed
 * already. Durable after the next fence.
 */
void item_write(struct pm *pm, struct hop_entry *entry,
                const struct item_blob *blob, const void *key, uint32_t klen,
                const struct item_value *value, uint32_t len,
                const struct item_meta *meta);

/* Copy an item, with another meta word, into such an entry. */
void item_move(struct pm *pm, struct hop_entry *to,
               const struct hop_entry *from, uint64_t meta_word);

#endif
