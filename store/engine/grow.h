/*
 * A table that grows: a segment that is getting full is written anew, as a
 * larger one or as two, into free space, and then one table word changes. No
 * key is read and no other segment touched, so that it takes some ten
 * microseconds whatever the table's size.
 */
#ifndef STORE_ENGINE_GROW_H
#define STORE_ENGINE_GROW_H

#include "store/engine/engine_state.h"

/* Whether a segment is so full that it should be written anew before the next
 * item is put into it. */
bool grow_is_due(const struct kv *kv, uint32_t segment);

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
