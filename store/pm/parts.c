/* See parts.h. */
#include "store/pm/parts.h"

#include <errno.h>
#include <stdlib.h>

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int parts_of(const struct region *region, uint64_t *grains, uint64_t n,
             uint64_t head, struct region_part **out, size_t *n_out)
{
    uint64_t grain = region->header->grain;
    struct region_part *parts = malloc(n * sizeof(*parts));
    size_t k = 0;
    if (!parts)
        return -ENOMEM;
    qsort(grains, n, sizeof(*grains), by_number);
    for (uint64_t i = 0; i < n; i++) {
        struct region_part part = {region_grain_at(region, grains[i]), grain};
        if (grains[i] == head) {
            part.offset += POOL_HEADER_SIZE;
            part.size -= POOL_HEADER_SIZE;
        }
        if (part.size == 0)
            continue;
        if (k > 0 && parts[k - 1].offset + parts[k - 1].size == part.offset)
            parts[k - 1].size += part.size;
        else
            parts[k++] = part;
    }
    *out = parts;
    *n_out = k;
    return 0;
}
