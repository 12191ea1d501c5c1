/* A bit for each unit, until all that is in use has been told. */
#include "store/engine/heap.h"

#include "store/engine/heap_private.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define PAGE_WORDS 512
#define RUN_COST   64 /* of a free run, when a unit costs 1/64 */

/* Whether heap_reveal() has still to look at this unit. */
bool heap_is_hidden(const struct heap *heap, uint64_t unit)
{
    const struct heap_hidden *h = &heap->hidden;
    return h->areas && unit >= h->at &&
           heap_area_covers(h->areas, h->n_areas, unit * HEAP_UNIT, HEAP_UNIT);
}

/* Some bits of the word that holds bit i: as many of n as are in it. */
static uint64_t bits_of_word(uint64_t i, uint64_t n, uint64_t *step)
{
    *step = 64 - i % 64 < n ? 64 - i % 64 : n;
    return (UINT64_MAX >> (64 - *step)) << i % 64;
}

static void set_bits(struct heap_hidden *h, uint64_t unit, uint64_t n,
                     bool used)
{
    uint64_t step;
    for (uint64_t i = unit - h->first; n > 0; i += step, n -= step) {
        uint64_t mask = bits_of_word(i, n, &step);
        if (used)
            h->used[i / 64] |= mask;
        else
            h->used[i / 64] &= ~mask;
    }
}

static bool any_bit(const struct heap_hidden *h, uint64_t unit, uint64_t n)
{
    uint64_t step, found = 0;
    for (uint64_t i = unit - h->first; n > 0 && !found; i += step, n -= step)
        found = h->used[i / 64] & bits_of_word(i, n, &step);
    return found != 0;
}

/* The first unit from there on that is used, or not; else end. */
static uint64_t next_bit(const struct heap_hidden *h, uint64_t unit,
                         uint64_t end, bool used)
{
    uint64_t i = unit - h->first, last = end - h->first;
    uint64_t step, flip = used ? 0 : UINT64_MAX;
    for (; i < last; i += step) {
        uint64_t word =
            (h->used[i / 64] ^ flip) & bits_of_word(i, last - i, &step);
        if (word != 0)
            return h->first + i / 64 * 64 + (uint64_t)__builtin_ctzll(word);
    }
    return end;
}

int heap_hide(struct heap *heap, uint64_t begin, uint64_t end)
{
    struct heap_hidden *h = &heap->hidden;
    assert(!h->used);
    int rc = heap_own(heap, begin, end);
    return rc < 0 ? rc : heap_add_area(&h->areas, &h->n_areas, begin, end);
}

static int make_bits(struct heap_hidden *h)
{
    if (h->used)
        return 0;
    h->first = h->areas[0].begin / HEAP_UNIT;
    uint64_t n = h->areas[h->n_areas - 1].end / HEAP_UNIT - h->first;
    h->used = calloc(n / 64 + 1, sizeof(*h->used));
    if (!h->used)
        return -ENOMEM;
    /* All its pages now, not a thousand of them in the first step. */
    for (uint64_t i = 0; i <= n / 64; i += PAGE_WORDS)
        ((volatile uint64_t *)h->used)[i] = 0;
    return 0;
}

int heap_tell(struct heap *heap, uint64_t offset, uint64_t len)
{
    struct heap_hidden *h = &heap->hidden;
    uint64_t unit = offset / HEAP_UNIT;
    if (offset % HEAP_UNIT != 0 || len > heap->size ||
        !heap_is_hidden(heap, unit) ||
        !heap_area_covers(h->areas, h->n_areas, offset, heap_round(len)))
        return 0;
    uint64_t n = heap_round(len) / HEAP_UNIT;
    int rc = make_bits(h);
    if (rc == 0)
        rc = heap_reserve(heap, heap->n_used + 1);
    if (rc < 0)
        return rc;
    if (any_bit(h, unit, n))
        return 0;
    set_bits(h, unit, n, true);
    heap->n_used++;
    return 1;
}

void heap_untell(struct heap *heap, uint64_t offset, uint64_t len)
{
    set_bits(&heap->hidden, offset / HEAP_UNIT, heap_round(len) / HEAP_UNIT,
             false);
    heap->n_used--;
}

/* The free units of the next run, at most so many looked at. */
static uint64_t reveal_run(struct heap *heap, uint64_t units)
{
    struct heap_hidden *h = &heap->hidden;
    const struct heap_area *area = &h->areas[h->area];
    uint64_t begin = area->begin / HEAP_UNIT, end = area->end / HEAP_UNIT;
    begin = h->at > begin ? h->at : begin;
    uint64_t stop = end - begin < units ? end : begin + units;
    uint64_t from = next_bit(h, begin, stop, false);
    h->at = next_bit(h, from, stop, true);
    if (h->at == end)
        h->area++;
    if (from < h->at) {
        heap->n_used++;
        heap_release(heap, heap_take_extent(heap, from, h->at - from));
    }
    return h->at - begin;
}

int heap_reveal(struct heap *heap, uint64_t effort)
{
    struct heap_hidden *h = &heap->hidden;
    if (!h->areas)
        return 0;
    int rc = make_bits(h);
    if (rc < 0)
        return rc;
    while (h->area < h->n_areas && effort > 0) {
        uint64_t cost = reveal_run(heap, effort) / 64 + RUN_COST;
        effort -= cost < effort ? cost : effort;
    }
    if (h->area < h->n_areas)
        return 1;
    free(h->areas);
    free(h->used);
    *h = (struct heap_hidden){0};
    return 0;
}
