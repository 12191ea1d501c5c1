/* The state of an engine, worked out from its pool when it is opened. */
#ifndef STORE_ENGINE_RECOVER_H
#define STORE_ENGINE_RECOVER_H

#include "store/engine/engine_state.h"

#ifdef FASTSOCK_TEST
#define RECOVER_AT_ONCE 0u /* so that small pools have it all, too */
#else
#define RECOVER_AT_ONCE 65536u /* places, about 10 ms */
#endif

/*
 * Needs the region, commit list, empty table, heap and list. Takes in every
 * item that is whole; a name of anything else is taken out of its owner word,
 * durably, and counted as repaired. believe: a summary, if there is one; a
 * table that is not where it says that something is cannot be followed. 0 or
 * -errno.
 */
int recover(struct kv *kv, bool believe);

/* Looking at all of a pool that takes longer is told so often, as a warning:
 * nothing is served meanwhile. */
extern unsigned recover_tell_ms;

/*
 * A pool that was closed in order is open before all of it has been looked at
 * (kv->recovery.active). Some of the rest, below a millisecond; all of it, 0 or
 * -errno; a segment that is needed now, while recovery is active. What fails,
 * for want of memory only, makes the pool fail.
 */
void recover_step(struct kv *kv);
int recover_rest(struct kv *kv);
void recover_segment(struct kv *kv, uint32_t number);

/* There is no room in what is known: look at all the rest now? A cache evicts
 * instead, unless so few places are left that nobody notices. */
static inline bool recover_pays(const struct kv *kv)
{
    return kv->recovery.active &&
           (!kv->evict || kv->recovery.places <= RECOVER_AT_ONCE);
}

#endif
