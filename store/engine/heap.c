/*
 * Free extents in bins by size, eight bins per power of two; a search looks
 * into the first bin in which every extent is large enough. A freed piece is
 * joined with free neighbours at once: both ends of every free extent are in
 * one hash table.
 *
 * Invariant: there is room for 2 * n_used + n_areas + 1 extents, and one more
 * for each that was freed while space is hidden. There are at most n_used +
 * n_areas free extents and n_used retired or held ones, so that freeing needs
 * no memory; only what takes or adds space asks for more. What is freed beside
 * hidden space has no neighbour that counts; without memory it is hidden again.
 */
#include "store/engine/heap.h"

#include "store/engine/heap_private.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SUB_BITS 3u  /* 2^3 bins per power of two */
#define LOOK_MAX 256 /* extents tried in a bin where some are too small */

static uint32_t bin_of(uint64_t units)
{
    if (units < 1u << (SUB_BITS + 1))
        return (uint32_t)units;
    uint32_t log = 63u - (uint32_t)__builtin_clzll(units);
    uint32_t sub =
        (uint32_t)(units >> (log - SUB_BITS)) & ((1u << SUB_BITS) - 1);
    return ((log - SUB_BITS + 1) << SUB_BITS) + sub;
}

/* The first bin whose extents all have at least so many units. */
static uint32_t bin_above(uint64_t units)
{
    if (units < 1u << (SUB_BITS + 1))
        return (uint32_t)units;
    uint32_t log = 63u - (uint32_t)__builtin_clzll(units);
    return bin_of(units + ((uint64_t)1 << (log - SUB_BITS)) - 1);
}

static uint64_t edge_at(const struct heap *heap, uint32_t edge)
{
    const struct heap_extent *e = heap_extent(heap, edge >> 1);
    return edge & 1 ? e->offset + e->len : e->offset;
}

static size_t edge_home(const struct heap *heap, uint64_t at, uint32_t upper)
{
    return (size_t)((at * 2 + upper) * 0x9e3779b97f4a7c15u >> 32) &
           heap->edge_mask;
}

static void edge_add(struct heap *heap, uint32_t edge)
{
    size_t idx = edge_home(heap, edge_at(heap, edge), edge & 1);
    while (heap->edges[idx] != 0)
        idx = (idx + 1) & heap->edge_mask;
    heap->edges[idx] = edge + 1;
}

/* Index of the edge of that kind at that unit, or SIZE_MAX. */
static size_t edge_find(const struct heap *heap, uint64_t at, uint32_t upper)
{
    size_t idx = edge_home(heap, at, upper);
    for (; heap->edges[idx] != 0; idx = (idx + 1) & heap->edge_mask) {
        uint32_t edge = heap->edges[idx] - 1;
        if ((edge & 1) == upper && edge_at(heap, edge) == at)
            return idx;
    }
    return SIZE_MAX;
}

/* Close the gap, so that chains need no mark where something was. */
static void edge_remove(struct heap *heap, uint64_t at, uint32_t upper)
{
    size_t mask = heap->edge_mask;
    size_t gap = edge_find(heap, at, upper);
    assert(gap != SIZE_MAX);
    for (size_t idx = (gap + 1) & mask; heap->edges[idx] != 0;
         idx = (idx + 1) & mask) {
        uint32_t edge = heap->edges[idx] - 1;
        size_t want = edge_home(heap, edge_at(heap, edge), edge & 1);
        if (((idx - want) & mask) >= ((idx - gap) & mask)) {
            heap->edges[gap] = heap->edges[idx];
            gap = idx;
        }
    }
    heap->edges[gap] = 0;
}

static void make_free(struct heap *heap, uint32_t i)
{
    struct heap_extent *e = heap_extent(heap, i);
    uint32_t bin = bin_of(e->len);
    e->prev = HEAP_NONE;
    e->next = heap->bins[bin];
    if (e->next != HEAP_NONE)
        heap_extent(heap, e->next)->prev = i;
    heap->bins[bin] = i;
    heap->filled[bin / 64] |= (uint64_t)1 << bin % 64;
    edge_add(heap, i << 1);
    edge_add(heap, i << 1 | 1);
    heap->free_bytes += e->len * HEAP_UNIT;
}

static void unmake_free(struct heap *heap, uint32_t i)
{
    struct heap_extent *e = heap_extent(heap, i);
    uint32_t bin = bin_of(e->len);
    if (e->next != HEAP_NONE)
        heap_extent(heap, e->next)->prev = e->prev;
    if (e->prev != HEAP_NONE)
        heap_extent(heap, e->prev)->next = e->next;
    else
        heap->bins[bin] = e->next;
    if (heap->bins[bin] == HEAP_NONE)
        heap->filled[bin / 64] &= ~((uint64_t)1 << bin % 64);
    edge_remove(heap, e->offset, 0);
    edge_remove(heap, e->offset + e->len, 1);
    heap->free_bytes -= e->len * HEAP_UNIT;
}

static void drop_extent(struct heap *heap, uint32_t i)
{
    heap_extent(heap, i)->next = heap->unused;
    heap->unused = i;
}

uint32_t heap_take_extent(struct heap *heap, uint64_t offset, uint64_t len)
{
    uint32_t i = heap->unused;
    if (i == HEAP_NONE) {
        assert(heap->n_touched < heap->n_blocks * HEAP_BLOCK);
        i = heap->n_touched++;
    } else {
        heap->unused = heap_extent(heap, i)->next;
    }
    *heap_extent(heap, i) = (struct heap_extent){.offset = offset, .len = len};
    return i;
}

/* A larger table of edges; few of the extents are free, and in it. */
static int grow_edges(struct heap *heap, size_t want)
{
    uint32_t *edges = calloc(want, sizeof(*edges));
    if (!edges)
        return -ENOMEM;
    free(heap->edges);
    heap->edges = edges;
    heap->edge_mask = want - 1;
    for (uint32_t bin = 0; bin < HEAP_BINS; bin++)
        for (uint32_t i = heap->bins[bin]; i != HEAP_NONE;
             i = heap_extent(heap, i)->next) {
            edge_add(heap, i << 1);
            edge_add(heap, i << 1 | 1);
        }
    return 0;
}

static int add_block(struct heap *heap)
{
    if (heap->n_blocks == heap->max_blocks) {
        uint32_t want = heap->max_blocks ? heap->max_blocks * 2 : 16;
        struct heap_extent **more =
            realloc(heap->blocks, want * sizeof(struct heap_extent *));
        if (!more)
            return -ENOMEM;
        heap->blocks = more;
        heap->max_blocks = want;
    }
    struct heap_extent *block = malloc(HEAP_BLOCK * sizeof(*block));
    if (!block)
        return -ENOMEM;
    heap->blocks[heap->n_blocks++] = block;
    return 0;
}

/* Both tables grow without copying what is in use, so that it takes no longer
 * the more there is. */
int heap_reserve(struct heap *heap, uint64_t n_used)
{
    uint64_t need = 2 * n_used + heap->n_areas + heap->hidden.n_freed + 1;
    if (need > UINT32_MAX / 4)
        return -ENOMEM;
    while ((uint64_t)heap->n_blocks * HEAP_BLOCK < need) {
        size_t edges = heap->edges ? heap->edge_mask + 1 : 0;
        size_t want = 2 * ((size_t)heap->n_blocks + 1) * HEAP_BLOCK;
        if (edges < want && grow_edges(heap, edges ? 2 * edges : want) < 0)
            return -ENOMEM;
        if (add_block(heap) < 0)
            return -ENOMEM;
    }
    return 0;
}

int heap_init(struct heap *heap)
{
    *heap = (struct heap){
        .unused = HEAP_NONE, .retired = HEAP_NONE, .held = HEAP_NONE};
    for (size_t i = 0; i < HEAP_BINS; i++)
        heap->bins[i] = HEAP_NONE;
    return heap_reserve(heap, 0);
}

void heap_fini(struct heap *heap)
{
    free(heap->areas);
    for (uint32_t i = 0; i < heap->n_blocks; i++)
        free(heap->blocks[i]);
    free(heap->blocks);
    free(heap->edges);
    free(heap->hidden.areas);
    free(heap->hidden.used);
    heap->hidden = (struct heap_hidden){0};
    heap->areas = NULL;
    heap->blocks = NULL;
    heap->n_blocks = 0;
    heap->edges = NULL;
}

/* The number of areas that begin at or before offset. */
static size_t areas_until(const struct heap_area *areas, size_t n,
                          uint64_t offset)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (areas[middle].begin <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool heap_area_covers(const struct heap_area *areas, size_t n, uint64_t offset,
                      uint64_t len)
{
    size_t i = areas_until(areas, n, offset);
    return i > 0 && offset <= areas[i - 1].end &&
           len <= areas[i - 1].end - offset;
}

bool heap_covers(const struct heap *heap, uint64_t offset, uint64_t len)
{
    return heap_area_covers(heap->areas, heap->n_areas, offset, len);
}

int heap_add_area(struct heap_area **list, size_t *n, uint64_t begin,
                  uint64_t end)
{
    size_t i = areas_until(*list, *n, begin);
    struct heap_area *areas = realloc(*list, (*n + 1) * sizeof(*areas));
    if (!areas)
        return -ENOMEM;
    *list = areas;
    if ((i > 0 && areas[i - 1].end > begin) || (i < *n && areas[i].begin < end))
        return -EINVAL;
    bool below = i > 0 && areas[i - 1].end == begin;
    bool above = i < *n && areas[i].begin == end;
    if (below && above) {
        areas[i - 1].end = areas[i].end;
        --*n;
        memmove(&areas[i], &areas[i + 1], (*n - i) * sizeof(*areas));
    } else if (below) {
        areas[i - 1].end = end;
    } else if (above) {
        areas[i].begin = begin;
    } else {
        memmove(&areas[i + 1], &areas[i], (*n - i) * sizeof(*areas));
        areas[i] = (struct heap_area){begin, end};
        ++*n;
    }
    return 0;
}

/* The space is the pool's from now on. */
int heap_own(struct heap *heap, uint64_t begin, uint64_t end)
{
    if (begin == 0 || begin % HEAP_UNIT || end % HEAP_UNIT || begin >= end)
        return -EINVAL;
    int rc =
        heap_reserve(heap, heap->n_used + 1); /* for the area and its extent */
    if (rc == 0)
        rc = heap_add_area(&heap->areas, &heap->n_areas, begin, end);
    if (rc == 0)
        heap->size += end - begin;
    return rc;
}

int heap_add(struct heap *heap, uint64_t begin, uint64_t end)
{
    int rc = heap_own(heap, begin, end);
    if (rc < 0)
        return rc;
    heap->n_used++;
    heap_free(heap, begin, end - begin);
    return 0;
}

/* A free extent of at least so many units, or HEAP_NONE. */
static uint32_t search(const struct heap *heap, uint64_t units)
{
    uint32_t bin = bin_above(units);
    for (uint32_t word = bin / 64; word < HEAP_BINS / 64; word++) {
        uint64_t set = heap->filled[word];
        if (word == bin / 64)
            set &= ~(uint64_t)0 << bin % 64;
        if (set != 0)
            return heap->bins[word * 64 + (uint32_t)__builtin_ctzll(set)];
    }
    uint32_t i = heap->bins[bin_of(units)];
    for (int tries = 0; i != HEAP_NONE && tries < LOOK_MAX; tries++) {
        if (heap_extent(heap, i)->len >= units)
            return i;
        i = heap_extent(heap, i)->next;
    }
    return HEAP_NONE;
}

/* Take units from a free extent's lower end. */
static uint64_t take_from(struct heap *heap, uint32_t i, uint64_t units)
{
    struct heap_extent *e = heap_extent(heap, i);
    uint64_t offset = e->offset;
    unmake_free(heap, i);
    e->offset += units;
    e->len -= units;
    if (e->len > 0)
        make_free(heap, i);
    else
        drop_extent(heap, i);
    heap->n_used++;
    return offset * HEAP_UNIT;
}

uint64_t heap_alloc(struct heap *heap, uint64_t len)
{
    if (len > heap->size)
        return 0;
    uint64_t units = heap_round(len) / HEAP_UNIT;
    if (heap_reserve(heap, heap->n_used + 1) < 0)
        return 0;
    uint32_t i = search(heap, units);
    return i == HEAP_NONE ? 0 : take_from(heap, i, units);
}

uint64_t heap_alloc_lines(struct heap *heap, uint64_t len)
{
    if (heap_reserve(heap, heap->n_used + 2) < 0)
        return 0;
    uint64_t offset = heap_alloc(heap, len + HEAP_UNIT);
    if (offset == 0)
        return 0;
    bool odd = offset % (2 * HEAP_UNIT) != 0;
    heap->n_used++; /* the unit too many */
    heap_free(heap, odd ? offset : offset + len, HEAP_UNIT);
    return odd ? offset + HEAP_UNIT : offset;
}

uint64_t heap_alloc_some(struct heap *heap, uint64_t len, uint64_t *got)
{
    uint64_t units = heap_round(len) / HEAP_UNIT;
    if (heap_reserve(heap, heap->n_used + 1) < 0)
        return 0;
    uint32_t i = HEAP_NONE;
    for (uint32_t word = HEAP_BINS / 64; word-- > 0 && i == HEAP_NONE;)
        if (heap->filled[word] != 0)
            i = heap->bins[word * 64 + 63 -
                           (uint32_t)__builtin_clzll(heap->filled[word])];
    if (i == HEAP_NONE)
        return 0;
    if (heap_extent(heap, i)->len < units)
        units = heap_extent(heap, i)->len;
    *got = units * HEAP_UNIT < len ? units * HEAP_UNIT : len;
    return take_from(heap, i, units);
}

/* Room for one that may have hidden space on both sides. */
static bool one_more(struct heap *heap)
{
    heap->hidden.n_freed++;
    if (heap_reserve(heap, heap->n_used) == 0)
        return true;
    heap->hidden.n_freed--;
    return false;
}

/* The extent describes free space: join it with its neighbours. */
void heap_release(struct heap *heap, uint32_t i)
{
    struct heap_extent *e = heap_extent(heap, i);
    if (heap_is_hidden(heap, e->offset) && !one_more(heap)) {
        heap_untell(heap, e->offset * HEAP_UNIT, e->len * HEAP_UNIT);
        drop_extent(heap, i);
        return;
    }
    size_t below = edge_find(heap, e->offset, 1);
    if (below != SIZE_MAX) {
        uint32_t other = (heap->edges[below] - 1) >> 1;
        unmake_free(heap, other);
        e->offset = heap_extent(heap, other)->offset;
        e->len += heap_extent(heap, other)->len;
        drop_extent(heap, other);
    }
    size_t above = edge_find(heap, e->offset + e->len, 0);
    if (above != SIZE_MAX) {
        uint32_t other = (heap->edges[above] - 1) >> 1;
        unmake_free(heap, other);
        e->len += heap_extent(heap, other)->len;
        drop_extent(heap, other);
    }
    make_free(heap, i);
    heap->n_used--;
}

void heap_free(struct heap *heap, uint64_t offset, uint64_t len)
{
    heap_release(heap, heap_take_extent(heap, offset / HEAP_UNIT,
                                        heap_round(len) / HEAP_UNIT));
}

void heap_retire(struct heap *heap, uint64_t offset, uint64_t len, uint32_t pin)
{
    uint32_t i =
        heap_take_extent(heap, offset / HEAP_UNIT, heap_round(len) / HEAP_UNIT);
    heap_extent(heap, i)->pin = pin;
    heap_extent(heap, i)->next = heap->retired;
    heap->retired = i;
    heap->retired_bytes += heap_round(len);
}

/* Release what no reader holds of a list; the rest is held. */
static void release_list(struct heap *heap, uint32_t list, uint32_t epoch)
{
    while (list != HEAP_NONE) {
        uint32_t i = list;
        struct heap_extent *e = heap_extent(heap, i);
        list = e->next;
        if (epoch - e->pin <= 1) { /* modulo 2^32 */
            e->next = heap->held;
            heap->held = i;
        } else {
            heap->retired_bytes -= e->len * HEAP_UNIT;
            heap_release(heap, i);
        }
    }
}

void heap_unpin(struct heap *heap, uint32_t epoch)
{
    uint32_t list = heap->held;
    heap->held = HEAP_NONE;
    release_list(heap, list, epoch);
}

void heap_settle(struct heap *heap, uint32_t epoch)
{
    uint32_t list = heap->retired;
    heap_unpin(heap, epoch);
    heap->retired = HEAP_NONE;
    release_list(heap, list, epoch);
}

void heap_each_free(const struct heap *heap, uint64_t least,
                    void (*visit)(void *context, uint64_t begin, uint64_t end),
                    void *context)
{
    for (uint32_t bin = bin_of(least / HEAP_UNIT); bin < HEAP_BINS; bin++)
        for (uint32_t i = heap->bins[bin]; i != HEAP_NONE;
             i = heap_extent(heap, i)->next) {
            const struct heap_extent *e = heap_extent(heap, i);
            if (e->len * HEAP_UNIT >= least)
                visit(context, e->offset * HEAP_UNIT,
                      (e->offset + e->len) * HEAP_UNIT);
        }
}

static int check_free(const struct heap *heap, uint32_t i)
{
    const struct heap_extent *e = heap_extent(heap, i);
    if (e->len == 0 ||
        !heap_covers(heap, e->offset * HEAP_UNIT, e->len * HEAP_UNIT))
        return -EUCLEAN;
    size_t low = edge_find(heap, e->offset, 0);
    size_t high = edge_find(heap, e->offset + e->len, 1);
    if (low == SIZE_MAX || high == SIZE_MAX ||
        heap->edges[low] != (i << 1) + 1 || heap->edges[high] != (i << 1) + 2)
        return -EUCLEAN;
    /* A free neighbour should have been joined. */
    if (edge_find(heap, e->offset, 1) != SIZE_MAX ||
        edge_find(heap, e->offset + e->len, 0) != SIZE_MAX)
        return -EUCLEAN;
    return 0;
}

int heap_check(const struct heap *heap)
{
    uint64_t bytes = 0;
    for (uint32_t bin = 0; bin < HEAP_BINS; bin++) {
        bool filled = heap->filled[bin / 64] >> bin % 64 & 1;
        if (filled != (heap->bins[bin] != HEAP_NONE))
            return -EUCLEAN;
        for (uint32_t i = heap->bins[bin]; i != HEAP_NONE;
             i = heap_extent(heap, i)->next) {
            bytes += heap_extent(heap, i)->len * HEAP_UNIT;
            if (bin_of(heap_extent(heap, i)->len) != bin ||
                check_free(heap, i) < 0)
                return -EUCLEAN;
        }
    }
    return bytes == heap->free_bytes ? 0 : -EUCLEAN;
}
