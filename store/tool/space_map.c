/* See space_map.h. */
#include "store/tool/space_map.h"

#include "store/engine/heap.h"

#include <errno.h>
#include <sys/mman.h>

int space_map_init(struct space_map *map, uint64_t size)
{
    map->bytes = (size_t)(size / HEAP_UNIT / 64 + 2) * sizeof(*map->bits);
    void *bits = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    map->bits = bits == MAP_FAILED ? NULL : bits;
    return map->bits ? 0 : -ENOMEM;
}

void space_map_fini(struct space_map *map)
{
    if (map->bits)
        munmap(map->bits, map->bytes);
    map->bits = NULL;
}

/* The bits from `from` to `to` that are in the word of `from`. */
static uint64_t mask_of(uint64_t from, uint64_t to)
{
    uint64_t mask = UINT64_MAX << from % 64;
    if (to / 64 == from / 64)
        mask &= ((uint64_t)1 << to % 64) - 1;
    return mask;
}

static uint64_t next_word(uint64_t unit)
{
    return (unit | 63) + 1;
}

bool space_map_take(struct space_map *map, uint64_t at, uint64_t len,
                    uint64_t *work)
{
    uint64_t from = at / HEAP_UNIT, to = from + heap_round(len) / HEAP_UNIT;
    for (uint64_t u = from; u < to; u = next_word(u)) {
        ++*work;
        if (map->bits[u / 64] & mask_of(u, to))
            return false;
    }
    for (uint64_t u = from; u < to; u = next_word(u))
        map->bits[u / 64] |= mask_of(u, to);
    return true;
}

void space_map_give(struct space_map *map, uint64_t at, uint64_t len)
{
    uint64_t from = at / HEAP_UNIT, to = from + heap_round(len) / HEAP_UNIT;
    for (uint64_t u = from; u < to; u = next_word(u))
        map->bits[u / 64] &= ~mask_of(u, to);
}

uint64_t space_map_next(const struct space_map *map, uint64_t at, uint64_t end,
                        bool taken)
{
    uint64_t u = at / HEAP_UNIT, last = end / HEAP_UNIT;
    while (u < last) {
        uint64_t word = taken ? map->bits[u / 64] : ~map->bits[u / 64];
        word &= mask_of(u, last);
        if (word != 0)
            return ((u & ~(uint64_t)63) + (unsigned)__builtin_ctzll(word)) *
                   HEAP_UNIT;
        u = next_word(u);
    }
    return end;
}
