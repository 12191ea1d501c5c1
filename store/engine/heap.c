/*
 * Free extents in bins by size, eight bins per power of two; a search looks
 * into the first bin in which every extent is large enough. A freed piece is
 * joined with free neighbours at once: both ends of every free extent are in
 * one hash table.
 *
 * Invariant: n_extents >= 2 * n_used + n_areas + 1. There are at most n_used +
 * n_areas free extents and n_used retired or held ones, so that freeing needs
 * no memory; only what takes or adds space asks for more.
 */
#include "store/engine/heap.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SUB_BITS  3u  /* 2^3 bins per power of two */
#define LOOK_MAX  256 /* extents tried in a bin where some are too small */
#define FIRST_CAP 64u

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
    const struct heap_extent *e = &heap->extents[edge >> 1];
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
    struct heap_extent *e = &heap->extents[i];
    uint32_t bin = bin_of(e->len);
    e->prev = HEAP_NONE;
    e->next = heap->bins[bin];
    if (e->next != HEAP_NONE)
        heap->extents[e->next].prev = i;
    heap->bins[bin] = i;
    heap->filled[bin / 64] |= (uint64_t)1 << bin % 64;
    edge_add(heap, i << 1);
    edge_add(heap, i << 1 | 1);
    heap->free_bytes += e->len * HEAP_UNIT;
}

static void unmake_free(struct heap *heap, uint32_t i)
{
    struct heap_extent *e = &heap->extents[i];
    uint32_t bin = bin_of(e->len);
    if (e->next != HEAP_NONE)
        heap->extents[e->next].prev = e->prev;
    if (e->prev != HEAP_NONE)
        heap->extents[e->prev].next = e->next;
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
    heap->extents[i].next = heap->unused;
    heap->unused = i;
}

static uint32_t take_extent(struct heap *heap, uint64_t offset, uint64_t len)
{
    uint32_t i = heap->unused;
    assert(i != HEAP_NONE);
    heap->unused = heap->extents[i].next;
    heap->extents[i] = (struct heap_extent){.offset = offset, .len = len};
    return i;
}

/* Room to describe what n_used allocations may leave behind. */
static int grow(struct heap *heap, uint64_t n_used)
{
    uint64_t want = heap->n_extents ? heap->n_extents : FIRST_CAP;
    uint64_t need = 2 * n_used + heap->n_areas + 1;
    if (heap->n_extents >= need)
        return 0;
    while (want < need)
        want *= 2;
    if (want > UINT32_MAX / 4)
        return -ENOMEM;
    uint32_t *edges = calloc(want * 4, sizeof(*edges));
    if (!edges)
        return -ENOMEM;
    struct heap_extent *extents =
        realloc(heap->extents, want * sizeof(*extents));
    if (!extents) {
        free(edges);
        return -ENOMEM;
    }
    size_t old = heap->edges ? heap->edge_mask + 1 : 0;
    uint32_t *old_edges = heap->edges;
    heap->extents = extents;
    heap->edges = edges;
    heap->edge_mask = want * 4 - 1;
    for (size_t i = 0; i < old; i++)
        if (old_edges[i] != 0)
            edge_add(heap, old_edges[i] - 1);
    free(old_edges);
    for (uint32_t i = heap->n_extents; i < want; i++)
        drop_extent(heap, i);
    heap->n_extents = (uint32_t)want;
    return 0;
}

int heap_init(struct heap *heap)
{
    *heap = (struct heap){
        .unused = HEAP_NONE, .retired = HEAP_NONE, .held = HEAP_NONE};
    for (size_t i = 0; i < HEAP_BINS; i++)
        heap->bins[i] = HEAP_NONE;
    return grow(heap, 0);
}

void heap_fini(struct heap *heap)
{
    free(heap->areas);
    free(heap->extents);
    free(heap->edges);
    heap->areas = NULL;
    heap->extents = NULL;
    heap->edges = NULL;
}

/* The number of areas that begin at or before offset. */
static size_t areas_until(const struct heap *heap, uint64_t offset)
{
    size_t low = 0, high = heap->n_areas;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (heap->areas[middle].begin <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool heap_covers(const struct heap *heap, uint64_t offset, uint64_t len)
{
    size_t i = areas_until(heap, offset);
    return i > 0 && offset <= heap->areas[i - 1].end &&
           len <= heap->areas[i - 1].end - offset;
}

static int add_area(struct heap *heap, uint64_t begin, uint64_t end)
{
    size_t i = areas_until(heap, begin);
    struct heap_area *areas =
        realloc(heap->areas, (heap->n_areas + 1) * sizeof(*areas));
    if (!areas)
        return -ENOMEM;
    heap->areas = areas;
    if ((i > 0 && areas[i - 1].end > begin) ||
        (i < heap->n_areas && areas[i].begin < end))
        return -EINVAL;
    bool below = i > 0 && areas[i - 1].end == begin;
    bool above = i < heap->n_areas && areas[i].begin == end;
    if (below && above) {
        areas[i - 1].end = areas[i].end;
        heap->n_areas--;
        memmove(&areas[i], &areas[i + 1], (heap->n_areas - i) * sizeof(*areas));
    } else if (below) {
        areas[i - 1].end = end;
    } else if (above) {
        areas[i].begin = begin;
    } else {
        memmove(&areas[i + 1], &areas[i], (heap->n_areas - i) * sizeof(*areas));
        areas[i] = (struct heap_area){begin, end};
        heap->n_areas++;
    }
    return 0;
}

int heap_add(struct heap *heap, uint64_t begin, uint64_t end)
{
    if (begin == 0 || begin % HEAP_UNIT || end % HEAP_UNIT || begin >= end)
        return -EINVAL;
    int rc = grow(heap, heap->n_used + 1); /* for the area and its extent */
    if (rc == 0)
        rc = add_area(heap, begin, end);
    if (rc < 0)
        return rc;
    heap->size += end - begin;
    heap->n_used++;
    heap_free(heap, begin, end - begin);
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct heap_piece *x = a, *y = b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

bool heap_judge(const struct heap *heap, struct heap_piece *pieces, size_t n,
                void (*refused)(void *context, uint32_t place), void *context)
{
    uint64_t at = 0;
    uint32_t last = HEAP_NONE; /* the place of the piece that ends at at */
    if (n > 0)
        qsort(pieces, n, sizeof(*pieces), by_offset);
    for (size_t i = 0; i < n; i++) {
        const struct heap_piece *p = &pieces[i];
        bool inside = p->offset % HEAP_UNIT == 0 && p->len <= heap->size &&
                      heap_covers(heap, p->offset, heap_round(p->len));
        if (inside && p->offset < at && p->place == HEAP_NONE &&
            last != HEAP_NONE) {
            refused(context, last);
        } else if (!inside || p->offset < at) {
            if (p->place == HEAP_NONE)
                return false;
            refused(context, p->place);
            continue;
        }
        at = p->offset + heap_round(p->len);
        last = p->place;
    }
    return true;
}

static void free_gap(struct heap *heap, uint64_t begin, uint64_t end)
{
    if (begin < end)
        make_free(heap, take_extent(heap, begin / HEAP_UNIT,
                                    (end - begin) / HEAP_UNIT));
}

int heap_rebuild(struct heap *heap, const struct heap_piece *pieces, size_t n)
{
    size_t i = 0;
    int rc = grow(heap, n);
    if (rc < 0)
        return rc;
    for (uint32_t bin = 0; bin < HEAP_BINS; bin++)
        while (heap->bins[bin] != HEAP_NONE) {
            uint32_t free_one = heap->bins[bin];
            unmake_free(heap, free_one);
            drop_extent(heap, free_one);
        }
    for (size_t a = 0; a < heap->n_areas; a++) {
        uint64_t at = heap->areas[a].begin;
        for (; i < n && pieces[i].offset < heap->areas[a].end; i++) {
            free_gap(heap, at, pieces[i].offset);
            at = pieces[i].offset + heap_round(pieces[i].len);
        }
        free_gap(heap, at, heap->areas[a].end);
    }
    heap->n_used = n;
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
        if (heap->extents[i].len >= units)
            return i;
        i = heap->extents[i].next;
    }
    return HEAP_NONE;
}

/* Take units from a free extent's lower end. */
static uint64_t take_from(struct heap *heap, uint32_t i, uint64_t units)
{
    struct heap_extent *e = &heap->extents[i];
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
    if (grow(heap, heap->n_used + 1) < 0)
        return 0;
    uint32_t i = search(heap, units);
    return i == HEAP_NONE ? 0 : take_from(heap, i, units);
}

uint64_t heap_alloc_lines(struct heap *heap, uint64_t len)
{
    if (grow(heap, heap->n_used + 2) < 0)
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
    if (grow(heap, heap->n_used + 1) < 0)
        return 0;
    uint32_t i = HEAP_NONE;
    for (uint32_t word = HEAP_BINS / 64; word-- > 0 && i == HEAP_NONE;)
        if (heap->filled[word] != 0)
            i = heap->bins[word * 64 + 63 -
                           (uint32_t)__builtin_clzll(heap->filled[word])];
    if (i == HEAP_NONE)
        return 0;
    if (heap->extents[i].len < units)
        units = heap->extents[i].len;
    *got = units * HEAP_UNIT < len ? units * HEAP_UNIT : len;
    return take_from(heap, i, units);
}

/* The extent describes free space: join it with its neighbours. */
static void release(struct heap *heap, uint32_t i)
{
    struct heap_extent *e = &heap->extents[i];
    size_t below = edge_find(heap, e->offset, 1);
    if (below != SIZE_MAX) {
        uint32_t other = (heap->edges[below] - 1) >> 1;
        unmake_free(heap, other);
        e->offset = heap->extents[other].offset;
        e->len += heap->extents[other].len;
        drop_extent(heap, other);
    }
    size_t above = edge_find(heap, e->offset + e->len, 0);
    if (above != SIZE_MAX) {
        uint32_t other = (heap->edges[above] - 1) >> 1;
        unmake_free(heap, other);
        e->len += heap->extents[other].len;
        drop_extent(heap, other);
    }
    make_free(heap, i);
    heap->n_used--;
}

void heap_free(struct heap *heap, uint64_t offset, uint64_t len)
{
    release(heap,
            take_extent(heap, offset / HEAP_UNIT, heap_round(len) / HEAP_UNIT));
}

void heap_retire(struct heap *heap, uint64_t offset, uint64_t len, uint32_t pin)
{
    uint32_t i =
        take_extent(heap, offset / HEAP_UNIT, heap_round(len) / HEAP_UNIT);
    heap->extents[i].pin = pin;
    heap->extents[i].next = heap->retired;
    heap->retired = i;
    heap->retired_bytes += heap_round(len);
}

/* Release what no reader holds of a list; the rest is held. */
static void release_list(struct heap *heap, uint32_t list, uint32_t epoch)
{
    while (list != HEAP_NONE) {
        uint32_t i = list;
        struct heap_extent *e = &heap->extents[i];
        list = e->next;
        if (epoch - e->pin <= 1) { /* modulo 2^32 */
            e->next = heap->held;
            heap->held = i;
        } else {
            heap->retired_bytes -= e->len * HEAP_UNIT;
            release(heap, i);
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

static int check_free(const struct heap *heap, uint32_t i)
{
    const struct heap_extent *e = &heap->extents[i];
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
             i = heap->extents[i].next) {
            bytes += heap->extents[i].len * HEAP_UNIT;
            if (bin_of(heap->extents[i].len) != bin || check_free(heap, i) < 0)
                return -EUCLEAN;
        }
    }
    return bytes == heap->free_bytes ? 0 : -EUCLEAN;
}
