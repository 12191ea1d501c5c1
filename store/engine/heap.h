/*
 * Space for keys and values that do not fit into an entry.
 *
 * Volatile: which parts of the value area are free is known in memory only and
 * is worked out again at open from what the table reaches, so an allocation
 * costs no fence and a crash leaks nothing. Callers know the length of what
 * they free; nothing is stored beside the bytes.
 *
 * heap_retire() is for space that something durable still names: it is free
 * after the next heap_settle(), called when the commit is durable, unless its
 * pin says that a reader still holds it. Neither it nor heap_free() can fail.
 */
#ifndef STORE_ENGINE_HEAP_H
#define STORE_ENGINE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_UNIT 32u /* bytes; every extent begins and ends on one */
#define HEAP_BINS 512
#define HEAP_NONE UINT32_MAX

/* A piece that is free, retired or held. */
struct heap_extent {
    uint64_t offset; /* in units, from the start of the region */
    uint64_t len;    /* in units */
    uint32_t next;   /* in its bin or list */
    uint32_t prev;   /* in its bin */
    uint32_t pin;    /* of a retired or held one */
};

/* A piece in use: what the table reaches, told to heap_rebuild(). */
struct heap_piece {
    uint64_t offset; /* bytes from the start of the region */
    uint64_t len;    /* bytes */
    uint32_t place;  /* the caller's; HEAP_NONE: part of the table itself */
};

/* Space that belongs to the pool. */
struct heap_area {
    uint64_t begin; /* bytes from the start of the region */
    uint64_t end;
};

struct heap {
    struct heap_area *areas; /* by begin; neighbours are joined */
    size_t n_areas;
    uint64_t size; /* bytes of all areas */
    uint64_t free_bytes;
    uint64_t retired_bytes; /* and held ones */
    uint64_t n_used;        /* allocations, retired and held ones included */
    struct heap_extent *extents;
    uint32_t n_extents; /* allocated; grows with n_used */
    uint32_t unused;    /* list of extents that describe nothing */
    uint32_t retired;   /* list: named by something durable */
    uint32_t held;      /* list: waiting for their reader only */
    uint32_t bins[HEAP_BINS];
    uint64_t filled[HEAP_BINS / 64]; /* which bins are not empty */
    uint32_t *edges; /* hash of both ends of the free extents: 0 or 1 + 2 *
                      * number + (1 for the upper end) */
    size_t edge_mask;
};

/* Without any space. 0 or -ENOMEM. */
int heap_init(struct heap *heap);
void heap_fini(struct heap *heap);

/* The space from begin to end, whole units, is the pool's, and free. 0,
 * -EINVAL or -ENOMEM. */
int heap_add(struct heap *heap, uint64_t begin, uint64_t end);

/* Whether all these bytes are the pool's. */
bool heap_covers(const struct heap *heap, uint64_t offset, uint64_t len);

/*
 * Find the pieces (sorted here) that are out of bounds or overlap another one:
 * refused() is told their places, and that of an item rather than part of
 * the table. False: parts of the table overlap.
 */
bool heap_judge(const struct heap *heap, struct heap_piece *pieces, size_t n,
                void (*refused)(void *context, uint32_t place), void *context);

/* Take the n pieces, judged and sorted, out of a heap that is all free. 0 or
 * -ENOMEM. */
int heap_rebuild(struct heap *heap, const struct heap_piece *pieces, size_t n);

/* Bytes that len bytes take. */
static inline uint64_t heap_round(uint64_t len)
{
    return len == 0 ? HEAP_UNIT : (len + HEAP_UNIT - 1) / HEAP_UNIT * HEAP_UNIT;
}

/* Offset from the start of the region, or 0. */
uint64_t heap_alloc(struct heap *heap, uint64_t len);

/* The same on a cache line; len is a multiple of one. */
uint64_t heap_alloc_lines(struct heap *heap, uint64_t len);

/* As many bytes as one of the largest free extents has, len at most, given
 * back in *got as they were asked for or in whole units. 0: nothing free. */
uint64_t heap_alloc_some(struct heap *heap, uint64_t len, uint64_t *got);

void heap_free(struct heap *heap, uint64_t offset, uint64_t len);
void heap_retire(struct heap *heap, uint64_t offset, uint64_t len,
                 uint32_t pin);

/* What was retired is durably free: release all but what readers hold, that
 * is, pins of this epoch and the one before. */
void heap_settle(struct heap *heap, uint32_t epoch);

/* Readers have let go: look again at what waits for them only. */
void heap_unpin(struct heap *heap, uint32_t epoch);

/* 0, or -EUCLEAN when the free extents contradict themselves. */
int heap_check(const struct heap *heap);

#endif
