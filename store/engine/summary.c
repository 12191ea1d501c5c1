/* A page that is believed only where all of it fits together. */
#include "store/engine/summary.h"

#include "store/engine/heap_private.h"

#include <stdlib.h>
#include <string.h>

static unsigned char *place_of(const struct pool *pool)
{
    return (unsigned char *)pool->header + POOL_SUMMARY_AT;
}

static uint64_t check_of(const struct pool_summary *s)
{
    return region_sum(&s->cas, sizeof(*s) - offsetof(struct pool_summary, cas));
}

bool summary_read(const struct pool *pool, struct summary_counts *counts)
{
    struct pool_summary s;
    memcpy(&s, place_of(pool), sizeof(s));
    if (s.magic != POOL_SUMMARY_MAGIC || s.check != check_of(&s) ||
        s.cas != pool->header->state.cas_ceiling)
        return false;
    *counts = (struct summary_counts){
        .items = s.items, .bytes = s.bytes, .expiring = s.expiring};
    return true;
}

static int add_grain(const struct pool *pool, struct heap *heap, uint64_t index,
                     uint64_t grain)
{
    const struct pool_summary *s = (const void *)place_of(pool);
    uint64_t begin = region_grain_at(pool->region, grain);
    uint64_t end = begin + pool->region->header->grain;
    if (index == 0)
        begin += POOL_HEADER_SIZE;
    else if (index < s->grains && index < POOL_SUMMARY_GRAINS &&
             s->empty[index / 64] >> index % 64 & 1)
        return heap_add(heap, begin, end);
    return begin < end ? heap_hide(heap, begin, end) : 0;
}

int summary_areas(const struct pool *pool, struct heap *heap)
{
    uint64_t *grains, n;
    int rc = pool_grains(pool, &grains, &n);
    if (rc < 0)
        return rc;
    for (uint64_t i = 0; i < n && rc == 0; i++)
        rc = add_grain(pool, heap, i, grains[i]);
    free(grains);
    const struct pool_summary *s = (const void *)place_of(pool);
    return rc == 0 && s->pieces <= heap->size / HEAP_UNIT
               ? heap_reserve(heap, s->pieces)
               : rc;
}

struct writing {
    const struct region *region;
    uint64_t id; /* of the pool */
    struct pool_summary image;
};

/* All grains that lie in this free space. */
static void note_free(void *context, uint64_t begin, uint64_t end)
{
    struct writing *w = context;
    const struct region_header *h = w->region->header;
    uint64_t last = (end - h->first) / h->grain;
    for (uint64_t g = (begin - h->first + h->grain - 1) / h->grain; g < last;
         g++) {
        uint64_t index = (uint32_t)w->region->words[g];
        if (w->region->words[g] >> 32 == w->id && index < POOL_SUMMARY_GRAINS)
            w->image.empty[index / 64] |= (uint64_t)1 << index % 64;
    }
}

void summary_write(const struct pool *pool, const struct heap *heap,
                   const struct summary_counts *counts, uint64_t cas)
{
    const struct region_slot *slot = &pool->region->slots[pool->slot];
    struct writing w = {.region = pool->region,
                        .id = slot->id,
                        .image = {.magic = POOL_SUMMARY_MAGIC,
                                  .cas = cas,
                                  .items = counts->items,
                                  .bytes = counts->bytes,
                                  .expiring = counts->expiring,
                                  .grains = slot->grains,
                                  .pieces = heap->n_used}};
    heap_each_free(heap, pool->region->header->grain, note_free, &w);
    w.image.check = check_of(&w.image);
    pm_copy(&pool->region->pm, place_of(pool), &w.image, sizeof(w.image));
}
