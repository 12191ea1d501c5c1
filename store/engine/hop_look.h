/*
 * The look-up itself. It is compiled into who asks: the entry it leads to is
 * mostly in no cache, and the fewer instructions there are around that load,
 * the more look-ups the processor has in flight at once.
 */
#ifndef STORE_ENGINE_HOP_LOOK_H
#define STORE_ENGINE_HOP_LOOK_H

#include "store/engine/hop_table.h"
#include "store/engine/item.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define HOP_NEAR_LINES 2   /* loaded by a look-up before it knows */
#define HOP_RUN        32u /* marks looked at in one go; most items are near */

struct hop_found {
    const struct hop_entry *entry; /* NULL: there is no such item */
    uint32_t place;
};

/* Looks at all that the bucket reaches. */
struct hop_found hop_seek(const struct hop_table *table, uint64_t hash,
                          const void *key, size_t klen);

/* Which of HOP_RUN bytes are this one. */
static inline uint32_t hop_same_bytes(const uint8_t *at, uint8_t byte)
{
#ifdef __SSE2__
    const __m128i *from = (const __m128i *)(const void *)at;
    __m128i all = _mm_set1_epi8((char)byte);
    __m128i a = _mm_cmpeq_epi8(_mm_loadu_si128(from), all);
    __m128i b = _mm_cmpeq_epi8(_mm_loadu_si128(from + 1), all);
    return (uint32_t)_mm_movemask_epi8(a) | (uint32_t)_mm_movemask_epi8(b)
                                                << 16;
#else
    uint32_t same = 0;
    for (unsigned i = 0; i < HOP_RUN; i++)
        same |= (uint32_t)(at[i] == byte) << i;
    return same;
#endif
}

/* Whether two runs of bytes are the same, mostly short ones. */
static inline bool hop_same_run(const void *a, const void *b, size_t len)
{
    uint64_t x, y, u, v;
    if (len < 8 || len > 16)
        return memcmp(a, b, len) == 0;
    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    memcpy(&u, (const char *)a + len - 8, 8);
    memcpy(&v, (const char *)b + len - 8, 8);
    return ((x ^ y) | (u ^ v)) == 0;
}

/* Whether an entry has this key in it, HOP_INLINE bytes at most: the same
 * length and one bit of a form, so not the two of a far item. */
static inline bool hop_has_key(const struct hop_entry *entry, const void *key,
                               size_t klen)
{
    uint32_t form = entry->shape ^ (uint32_t)(klen - 1);
    return (form & (form - 1)) == 0 && hop_same_run(entry->bytes, key, klen);
}

/* The entry that the marks tell of first; NULL: of none that is near. What
 * lies in one they do not tell of may be an old item. */
static inline const struct hop_entry *
hop_likely(const struct hop_segment *segment, uint32_t bucket, uint64_t hash)
{
    uint32_t near = hop_same_bytes(segment->marks + bucket, hop_mark_of(hash));
    if (near == 0)
        return NULL;
    uint32_t idx = bucket + (uint32_t)__builtin_ctz(near);
    return &segment->entries[idx < segment->n ? idx : idx - segment->n];
}

/* As hop_find(). Mostly the first entry with the right mark has the key in it,
 * which then says enough; all else is hop_seek()'s. */
static inline struct hop_found hop_look(const struct hop_table *table,
                                        uint64_t hash, const void *key,
                                        size_t klen)
{
    uint32_t number = hop_segment_of(table, hash);
    const struct hop_segment *segment = hop_segment(table, number);
    const struct hop_entry *entries = segment->entries;
    uint32_t bucket = hop_index(segment, hash);
    for (uint32_t i = 0; i < HOP_NEAR_LINES; i++)
        __builtin_prefetch(&entries[bucket + i]);
    const struct hop_entry *entry = hop_likely(segment, bucket, hash);
    if (__builtin_expect(entry && klen <= HOP_INLINE, 1) &&
        __builtin_expect(hop_has_key(entry, key, klen), 1))
        return (struct hop_found){entry, number << HOP_SHIFT |
                                             (uint32_t)(entry - entries)};
    return hop_seek(table, hash, key, klen);
}

#endif
