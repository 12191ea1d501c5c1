/* The state of an engine, worked out from its pool when it is opened. */
#ifndef STORE_ENGINE_RECOVER_H
#define STORE_ENGINE_RECOVER_H

#include "store/engine/engine_state.h"

/*
 * Needs the region, commit list, empty table, heap and list. Takes in every
 * item that is whole; a name of anything else is taken out of its owner word,
 * durably, and counted as repaired. believe: a summary, if there is one; a
 * table that is not where it says that something is cannot be followed. 0 or
 * -errno.
 */
int recover(struct kv *kv, bool believe);

/*
 * A pool that was closed in order is open before all of it has been looked at
 * (kv->recovery.active). Some of the rest, below a millisecond; all of it, 0 or
 * -errno; a segment that is needed now, while recovery is active. What fails,
 * for want of memory only, makes the pool fail.
 */
void recover_step(struct kv *kv);
int recover_finish(struct kv *kv);
void recover_segment(struct kv *kv, uint32_t number);

#endif
