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

#define HEAP_UNIT  32u /* bytes; every extent begins and ends on one */
#define HEAP_BINS  512
#define HEAP_NONE  UINT32_MAX
#define HEAP_BLOCK 1024u /* extents */

/* A piece that is free, retired or held. */
struct heap_extent {
    uint64_t offset; /* in units, from the start of the region */
    uint64_t len;    /* in units */
    uint32_t next;   /* in its bin or list */
    uint32_t prev;   /* in its bin */
    uint32_t pin;    /* of a retired or held one */
};

/* Space that belongs to the pool. */
struct heap_area {
    uint64_t begin; /* bytes from the start of the region */
    uint64_t end;
};

/* Space of which it is told, piece by piece, what is in use. */
struct heap_hidden {
    struct heap_area *areas; /* by begin; NULL: there is none */
    size_t n_areas;
    size_t area;      /* the one that is being revealed */
    uint64_t at;      /* unit: what lies below is revealed */
    uint64_t first;   /* unit of the first bit */
    uint64_t n_freed; /* pieces, since there is any */
    uint64_t *used;   /* one bit per unit: it has been told */
};

struct heap {
    struct heap_area *areas; /* by begin; neighbours are joined */
    size_t n_areas;
    uint64_t size; /* bytes of all areas */
    uint64_t free_bytes;
    uint64_t retired_bytes; /* and held ones */
    uint64_t n_used;        /* allocations, retired and held ones included */
    struct heap_extent **blocks; /* of HEAP_BLOCK extents each */
    uint32_t n_blocks;           /* grows with n_used */
    uint32_t max_blocks;
    uint32_t n_touched; /* extents; those above were never used */
    uint32_t unused;    /* list of extents that describe nothing any more */
    uint32_t retired;   /* list: named by something durable */
    uint32_t held;      /* list: waiting for their reader only */
    uint32_t bins[HEAP_BINS];
    uint64_t filled[HEAP_BINS / 64]; /* which bins are not empty */
    uint32_t *edges; /* hash of both ends of the free extents: 0 or 1 + 2 *
                      * number + (1 for the upper end) */
    size_t edge_mask;
    struct heap_hidden hidden;
};

/* The extent of that number. */
static inline struct heap_extent *heap_extent(const struct heap *heap,
                                              uint32_t i)
{
    return &heap->blocks[i / HEAP_BLOCK][i % HEAP_BLOCK];
}

/* Without any space. 0 or -ENOMEM. */
int heap_init(struct heap *heap);
void heap_fini(struct heap *heap);

/* The space from begin to end, whole units, is the pool's, and free. 0,
 * -EINVAL or -ENOMEM. */
int heap_add(struct heap *heap, uint64_t begin, uint64_t end);

/* Whether all these bytes are the pool's. */
bool heap_covers(const struct heap *heap, uint64_t offset, uint64_t len);

/*
 * The space from begin to end is the pool's, but what is in use of it is not
 * known yet. heap_tell() is told of each piece in use; it may be freed, and its
 * space is used again as any other. When all are, heap_reveal() makes free what
 * was never told, some at a time. 0, -EINVAL or -ENOMEM.
 */
int heap_hide(struct heap *heap, uint64_t begin, uint64_t end);

/* 1; 0: not in hidden space, not on a unit, or over another piece; -ENOMEM. */
int heap_tell(struct heap *heap, uint64_t offset, uint64_t len);
void heap_untell(struct heap *heap, uint64_t offset, uint64_t len);

/* Look at some more of it: 64 units cost one, a free run as much as 64 of them.
 * 1: there is more, 0: all is revealed, or -ENOMEM. */
int heap_reveal(struct heap *heap, uint64_t effort);

/* Call visit for each free extent of least bytes and more. */
void heap_each_free(const struct heap *heap, uint64_t least,
                    void (*visit)(void *context, uint64_t begin, uint64_t end),
                    void *context);

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
