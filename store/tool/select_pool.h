/* The pool that a sub-command works with. */
#ifndef STORE_TOOL_SELECT_POOL_H
#define STORE_TOOL_SELECT_POOL_H

#include "store/tool/survey.h"

/*
 * The slot of the pool with this name; name NULL: the only one, or that called
 * "default". 0 or -ENOENT with a sentence that lists those there are.
 */
int select_pool(const struct survey *survey, const char *name, uint32_t *slot,
                char *error, size_t error_size);

#endif
