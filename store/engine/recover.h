/* The state of an engine, worked out from its pool when it is opened. */
#ifndef STORE_ENGINE_RECOVER_H
#define STORE_ENGINE_RECOVER_H

#include "store/engine/engine_state.h"

/*
 * Needs the region, commit list, empty table, heap and list. Takes in every
 * item that is whole; a name of anything else is taken out of its owner word,
 * durably, and counted as repaired. 0 or -errno.
 */
int recover(struct kv *kv);

#endif
