/*
 * Memory for the length of one call. Not malloc(3)'s: who may be called in a
 * signal handler may have interrupted that in the midst of it.
 */
#ifndef PRELOAD_SCRATCH_H
#define PRELOAD_SCRATCH_H

#include <stddef.h>
#include <sys/mman.h>

#include "preload/kernel.h"

/* NULL when there is none. */
static inline void *scratch_get(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at != MAP_FAILED ? at : NULL;
}

static inline void scratch_put(void *at, size_t size)
{
    REAL(munmap)(at, size);
}

#endif
