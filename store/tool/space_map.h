/*
 * Which bytes of a region are in use, by units of HEAP_UNIT: a bit each, in
 * memory that costs only what is touched.
 */
#ifndef STORE_TOOL_SPACE_MAP_H
#define STORE_TOOL_SPACE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct space_map {
    uint64_t *bits;
    size_t bytes; /* of bits */
};

/* For so many bytes. 0 or -ENOMEM. */
int space_map_init(struct space_map *map, uint64_t size);
void space_map_fini(struct space_map *map);

/* Whole units that contain these bytes; len 0 counts as one unit. False, and
 * nothing has changed: some of them are taken already. *work grows by what
 * that cost. */
bool space_map_take(struct space_map *map, uint64_t at, uint64_t len,
                    uint64_t *work);
void space_map_give(struct space_map *map, uint64_t at, uint64_t len);

/* From at on, before end: the next byte that is, or is not, taken; end when
 * there is none. Both are on a unit. */
uint64_t space_map_next(const struct space_map *map, uint64_t at, uint64_t end,
                        bool taken);

#endif
