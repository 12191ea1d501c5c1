/*
 * What a pool that is closed in order leaves for the next open: how much is in
 * it, and which of its grains are empty.
 */
#ifndef STORE_ENGINE_SUMMARY_H
#define STORE_ENGINE_SUMMARY_H

#include "store/engine/heap.h"
#include "store/pm/pool.h"

struct summary_counts {
    uint64_t items;
    uint64_t bytes;    /* keys and values of items */
    uint64_t expiring; /* items with an exptime */
};

/* Of a pool that was clean: false when there is none that counts. */
bool summary_read(const struct pool *pool, struct summary_counts *counts);

/* The space of the pool, after summary_read(): empty grains are free, all else
 * is hidden. 0 or -errno. */
int summary_areas(const struct pool *pool, struct heap *heap);

/* Durable with the fence of pool_close(). cas: the ceiling that is left. */
void summary_write(const struct pool *pool, const struct heap *heap,
                   const struct summary_counts *counts, uint64_t cas);

#endif
