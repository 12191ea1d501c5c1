/*
 * The space of grains, in parts.
 */
#ifndef STORE_PM_PARTS_H
#define STORE_PM_PARTS_H

#include "store/pm/region.h"

#define NO_GRAIN UINT64_MAX

/* n grains as parts in the order of their offsets, neighbours joined, in an
 * array that the caller frees. head: the grain whose first page is the pool's
 * header, or NO_GRAIN. grains is sorted here. 0 or -ENOMEM. */
int parts_of(const struct region *region, uint64_t *grains, uint64_t n,
             uint64_t head, struct region_part **out, size_t *n_out);

#endif
