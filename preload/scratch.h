/*
 * Memory for the length of one call. Not malloc(3)'s: who may be called in a
 * signal handler may have interrupted that in the midst of it.
 */
#ifndef PRELOAD_SCRATCH_H
#define PRELOAD_SCRATCH_H

#include <stddef.h>

/* NULL when there is none. Any thread, also in a signal handler. */
void *scratch_get(size_t size);
/* Of the same size. */
void scratch_put(void *at, size_t size);

#endif
