/*
 * A table that grows, and shrinks: a segment that is getting full is written
 * anew, as a larger one or as two, into free space, and then one table word
 * changes; a sparse one is written anew smaller, or as one with its sibling. No
 * key is read and nothing else touched, so that it takes some tens of
 * microseconds whatever the table's size.
 */
#ifndef STORE_ENGINE_GROW_H
#define STORE_ENGINE_GROW_H

#include "store/engine/engine_state.h"

#define GROW_FULL_PART   8 /* this part of a segment is left free */
#define GROW_SPARSE_PART 4 /* with less than that in use it is sparse */

/* Whether a segment is so full that it should be written anew before the next
 * item is put into it. */
static inline bool grow_is_due(const struct kv *kv, uint32_t segment)
{
    const struct hop_segment *s = hop_segment(&kv->table, segment);
    return s->n_used >= s->n - s->n / GROW_FULL_PART;
}

/* Whether so little of it is left that it could be smaller. */
static inline bool grow_is_sparse(const struct kv *kv, uint32_t segment)
{
    const struct hop_segment *s = hop_segment(&kv->table, segment);
    return s->n > HOP_SEGMENT_MIN && s->n_used <= s->n / GROW_SPARSE_PART;
}

/*
 * Write it anew, smaller, or as one with its sibling. As grow_segment();
 * KV_NO_SPACE also where there is nothing to be gained. Two more fences.
 */
enum kv_result grow_smaller(struct kv *kv, uint32_t segment);

/*
 * Write it anew, larger or as two. Commits what is pending; items change their
 * places (kv->moves). KV_OK; KV_NO_SPACE: no room, the segment stays as it is;
 * KV_IO.
 */
enum kv_result grow_segment(struct kv *kv, uint32_t segment);

/* The first segment of a pool that has none. */
enum kv_result grow_first(struct kv *kv);

/* A table word that names a segment; the one that names a pair. */
static inline uint64_t grow_segment_word(uint64_t offset, uint32_t n)
{
    return (uint64_t)(n / 64) << HOP_WORD_PLACES | offset / HOP_WORD_UNIT;
}

static inline uint64_t grow_pair_word(uint64_t offset)
{
    return HOP_WORD_PAIR | offset / HOP_WORD_UNIT;
}

#endif
