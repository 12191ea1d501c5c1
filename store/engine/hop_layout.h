/*
 * The table in persistent memory: words that name segments, and their entries.
 * An entry is one cache line. The owner word speaks about the bucket at this
 * place, all other fields about the item that is stored in this place, which
 * may belong to any of the 62 buckets before, round the segment's end.
 *
 * Who writes: the table writes owner, meta and table words, in a commit only;
 * item.c composes bytes 8 to 63 of a place that no durable owner word names,
 * grow.c whole segments that no durable table word names.
 */
#ifndef STORE_ENGINE_HOP_LAYOUT_H
#define STORE_ENGINE_HOP_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define HOP_REACH    63 /* places of a bucket's neighbourhood, its own first */
#define HOP_INLINE   32 /* bytes of key and value that fit into an entry */
#define HOP_NEAR_KEY 16 /* bytes of a key that stays in the entry */

#define HOP_SEGMENT_MIN 128u  /* places */
#define HOP_SEGMENT_MAX 2048u /* places */
#define HOP_DEPTH_MAX   24u   /* hash bits that choose a segment */

#define HOP_PIECE_MIN   64u /* bytes of a piece, but of the last one */
#define HOP_WORD_PAIR   ((uint64_t)1 << 63)
#define HOP_WORD_PLACES 52  /* shift of a segment's places / 64 */
#define HOP_WORD_UNIT   32u /* bytes: of the offset in a table word */
#define HOP_WORD_OFFSET (((uint64_t)1 << HOP_WORD_PLACES) - 1)

/* Two table words: for hash bits 0 and 1. */
struct hop_pair {
    uint64_t word[2];
    uint8_t zero[16];
};

/* The first piece of a blob's chain, and each that follows, begins so. */
struct hop_piece {
    uint64_t next; /* offset of the next piece, 0 in the last */
    uint32_t len;  /* bytes of the blob that follow here */
    uint32_t zero;
};

enum hop_form {
    HOP_FREE = 0,
    HOP_INLINE_ITEM = 1, /* key and value in bytes[] */
    HOP_NEAR_ITEM = 2,   /* key in near.key, value at near.offset */
    HOP_FAR_ITEM = 3,    /* key, then value, at far.offset */
    HOP_NEAR_CHAIN = 4,  /* as near, the value in pieces */
    HOP_FAR_CHAIN = 5    /* as far, in pieces, the key in the first */
};

struct hop_near {
    uint8_t key[HOP_NEAR_KEY];
    uint64_t offset; /* of the value, from the start of the region */
    uint32_t vlen;   /* bytes */
    uint32_t zero;
};

struct hop_far {
    uint64_t offset; /* of the key, from the start of the region */
    uint32_t klen;   /* bytes, HOP_NEAR_KEY+1 and more */
    uint32_t vlen;   /* bytes */
    uint8_t zero[16];
};

struct hop_entry {
    uint64_t owner; /* bit i: place + i belongs to this bucket; bit 63 is 0.
                     * THE commit word */
    uint64_t cas;
    union {
        struct {
            uint32_t exptime; /* unix seconds, 0 = never */
            uint32_t flags;   /* the client's */
        };
        uint64_t meta; /* both as one word, so that touch is one store */
    };
    uint32_t tag;  /* bits 32 to 63 of the key's hash */
    uint8_t spot;  /* bits 24 to 31 of it */
    uint8_t shape; /* enum hop_form << 5, and klen - 1 but in far forms */
    uint8_t vlen;  /* bytes; inline form only */
    uint8_t check; /* over bytes 8 to 63 without 16 to 23 and itself */
    union {
        uint8_t bytes[HOP_INLINE];
        struct hop_near near;
        struct hop_far far;
    };
};

static_assert(sizeof(struct hop_entry) == 64, "one cache line");
static_assert(offsetof(struct hop_entry, cas) == 8, "layout");
static_assert(offsetof(struct hop_entry, meta) == 16, "layout");
static_assert(offsetof(struct hop_entry, exptime) == 16, "lower half of meta");
static_assert(offsetof(struct hop_entry, flags) == 20, "upper half of meta");
static_assert(offsetof(struct hop_entry, tag) == 24, "layout");
static_assert(offsetof(struct hop_entry, spot) == 28, "layout");
static_assert(offsetof(struct hop_entry, check) == 31, "layout");
static_assert(offsetof(struct hop_entry, bytes) == 32, "layout");
static_assert(offsetof(struct hop_entry, near.key) == 32, "as inline keys");
static_assert(sizeof(struct hop_near) == 32, "fits");
static_assert(sizeof(struct hop_far) == 32, "fits");
static_assert(sizeof(struct hop_pair) == 32, "one unit of the heap");
static_assert(sizeof(struct hop_piece) == 16, "layout");

#endif
