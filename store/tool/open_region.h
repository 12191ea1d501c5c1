/* A pool file opened by the engine, for the sub-commands that change it. */
#ifndef STORE_TOOL_OPEN_REGION_H
#define STORE_TOOL_OPEN_REGION_H

#include "store/engine/engine.h"

/*
 * As kv_region_open(); what is committed is durable: on persistent memory, else
 * by msync. fresh: nothing of worth is in the file, so that it is enough when
 * it is durable in the end. -EBUSY names who has it open.
 */
int open_region(const char *path, const struct kv_region_options *options,
                bool fresh, struct kv_region **out, char *error,
                size_t error_size);

/* As kv_region_close(), and everything is durable. A sentence only where that
 * fails. */
int close_region(struct kv_region *region, const char *path, char *error,
                 size_t error_size);

/* After what was done with it: the same if rc is 0, else it is only closed and
 * rc stays. */
int end_region(struct kv_region *region, const char *path, int rc, char *error,
               size_t error_size);

#endif
