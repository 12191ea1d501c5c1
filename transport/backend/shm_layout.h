/*
 * The arena: memory shared by two processes that have met on one host.
 *
 * One sealed memory file, created by the process that accepted the TCP
 * connection (the host), mapped by both. It has room for many links; a link
 * is an index. Side 0 is the host, side 1 the guest. Every line has one
 * rightful writer, named here, but both can write every byte: each value is
 * read once and checked, and nothing in here is a lock or a pointer.
 *
 *     header | waiters of side 0 | of side 1 | words of all links | all rings
 *     rings = link 0: 0 -> 1 | 1 -> 0 | link 1: 0 -> 1 | ...
 *
 * Each ring has room to stretch; pages that nobody has written to take no
 * memory.
 *
 * Words of neighbouring links lie in different pages, at different places: a
 * cache of the first level has a place for each line of a page, and a dozen
 * lines for each place; and what it fetches ahead in a page would be the
 * neighbour's. But eight links share a page: that is what a link keeps while
 * it rests.
 */
#ifndef TRANSPORT_BACKEND_SHM_LAYOUT_H
#define TRANSPORT_BACKEND_SHM_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "transport/byte_ring.h"
#include "transport/transport.h"

#define SHM_MAGIC UINT64_C(0x414d485353415346) /* "FSASSHMA" */

enum {
    SHM_VERSION = 5,
    SHM_LINKS = 512, /* links of one arena */
    SHM_MARK_WORDS = SHM_LINKS / 64,
    SHM_WORD_PAGES = SHM_LINKS / 8,
    SHM_STRETCHES = 2 /* how often a ring may stretch */
};

/* Written once by the host before the guest sees it. */
struct shm_header {
    uint64_t magic;
    uint32_t version;
    uint32_t ring_size; /* bytes under way in each ring */
    uint32_t links;     /* SHM_LINKS */
    uint32_t waiters;   /* WAITERS_MAX */
    uint8_t reserved[4096 - 24];
};
static_assert(sizeof(struct shm_header) == 4096, "one page");

/* A thread or epoll set of this side. */
struct shm_waiter {
    alignas(64) _Atomic uint32_t armed;    /* set here, taken by the peer */
    alignas(64) _Atomic uint64_t marked;   /* which words below have bits */
    _Atomic uint64_t mark[SHM_MARK_WORDS]; /* set by the peer, taken here */
};
static_assert(sizeof(struct shm_waiter) == 192, "three lines");

/* What one side says about one link. */
struct shm_side {
    alignas(64) _Atomic uint64_t watchers; /* 4 x 16 bits: ring these */
    _Atomic uint64_t markers;              /* 4 x 16 bits: mark these too */
    _Atomic uint32_t cpu;                  /* where this side last ran */
    _Atomic uint32_t aborted;
    _Atomic uint32_t started;               /* epoch of its last SWITCH */
    alignas(64) _Atomic uint32_t want_room; /* set here, taken by the peer */
};
static_assert(sizeof(struct shm_side) == 128, "two lines");

struct shm_link_words {
    struct ring_words direction[2]; /* [side that sends] */
    struct shm_side side[2];
};
static_assert(sizeof(struct shm_link_words) == 512, "eight in a page");
static_assert(SHM_LINKS == 8 * SHM_WORD_PAGES, "and eight in each");

static inline uint64_t shm_waiters_size(void)
{
    return (sizeof(struct shm_waiter) * WAITERS_MAX + 4095) & ~UINT64_C(4095);
}

/*
 * Of a ring that has stretched so often: eight times its size, then four times
 * that, unless it is more than 2 MiB, then 8 MiB.
 */
static inline uint32_t shm_span(uint32_t ring_size, unsigned stretched)
{
    uint32_t times = stretched > 1 ? 32 : 8;
    uint32_t most = stretched > 1 ? 8 << 20 : 2 << 20;

    if (stretched == 0 || ring_size >= most)
        return ring_size;
    return ring_size < most / times ? ring_size * times : most;
}

/* Of a link, together, before its rings stretch. */
static inline uint64_t shm_link_size(uint32_t ring_size)
{
    return sizeof(struct shm_link_words) + 2 * (uint64_t)ring_size;
}

/* Where they are in the arena. */
static inline uint64_t shm_words_at(unsigned idx)
{
    unsigned page = idx % SHM_WORD_PAGES;
    unsigned place = (idx / SHM_WORD_PAGES + idx) % 8;

    return sizeof(struct shm_header) + 2 * shm_waiters_size() +
           page * UINT64_C(4096) + place * sizeof(struct shm_link_words);
}

static inline uint64_t shm_ring_at(unsigned idx, int from, uint32_t ring_size)
{
    return sizeof(struct shm_header) + 2 * shm_waiters_size() +
           SHM_WORD_PAGES * UINT64_C(4096) +
           (2 * (uint64_t)idx + (unsigned)from) *
               shm_span(ring_size, SHM_STRETCHES);
}

static inline uint64_t shm_arena_size(uint32_t ring_size)
{
    return shm_ring_at(SHM_LINKS, 0, ring_size);
}

#endif
