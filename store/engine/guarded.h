/*
 * Stores whose file may be cut short under them: a fault inside of a call
 * fails the store, as any other error of its medium does.
 */
#ifndef STORE_ENGINE_GUARDED_H
#define STORE_ENGINE_GUARDED_H

#include "store/engine/engine_state.h"
#include "store/pm/guard.h"

/* A table of functions of its own in front of the store's. */
struct guarded {
    struct kv_ops ops;
    const struct kv_ops *plain;
    const struct guard *guard;
    const char *path; /* the region's */
    bool told;        /* in the log */
};

/* What the options say, for the mapping of a region that was just opened. 0 or
 * -errno with a sentence. */
int guarded_region(struct kv_region *region, enum kv_guard guard, char *error,
                   size_t error_size);

/* Guard the calls on a store of a guarded region. 0 or -ENOMEM. */
int guarded_calls(struct kv *kv);

/* A fault that has happened in the region, in words. False: none. */
bool guarded_lost(const struct kv_region *region, char *error,
                  size_t error_size);

#endif
