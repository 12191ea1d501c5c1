/* Whether table, heap, list and counters tell the same story. */
#ifndef STORE_ENGINE_AUDIT_H
#define STORE_ENGINE_AUDIT_H

#include "store/engine/engine_state.h"

/*
 * Every item valid, in its bucket, in the list and named once; no two blobs or
 * free extents overlap, and together they are the whole heap; counters right.
 * 0, -ENOMEM, or -EUCLEAN with a sentence in *error. Slow: for tests.
 */
int audit(struct kv *kv, char *error, size_t error_size);

#endif
