/* What heap.c and heap_hidden.c know of each other. */
#ifndef STORE_ENGINE_HEAP_PRIVATE_H
#define STORE_ENGINE_HEAP_PRIVATE_H

#include "store/engine/heap.h"

/* Room to describe what n_used allocations may leave behind. 0 or -ENOMEM. */
int heap_reserve(struct heap *heap, uint64_t n_used);

/* An extent for this space, in units; there is one, by heap_reserve(). */
uint32_t heap_take_extent(struct heap *heap, uint64_t offset, uint64_t len);

/* What the extent describes is in use no more. */
void heap_release(struct heap *heap, uint32_t i);

/* A sorted list of areas: whether one of them has all these bytes; one more,
 * 0, -EINVAL or -ENOMEM. */
bool heap_area_covers(const struct heap_area *areas, size_t n, uint64_t offset,
                      uint64_t len);
int heap_add_area(struct heap_area **list, size_t *n, uint64_t begin,
                  uint64_t end);

/* Whether heap_reveal() has still to look at this unit. */
bool heap_is_hidden(const struct heap *heap, uint64_t unit);

/* The space is the pool's from now on. 0, -EINVAL or -ENOMEM. */
int heap_own(struct heap *heap, uint64_t begin, uint64_t end);

#endif
