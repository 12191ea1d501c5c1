/*
 * Receive credits, and the number that goes with a write: arithmetic for
 * transports whose receiver has to keep a buffer ready for each arrival.
 *
 * A window counts one kind of arrival in both directions, all numbers from
 * the beginning of the connection: what we sent and the peer says it has
 * seen; what we have seen and told the peer. Pure; the owner orders calls,
 * but `seen` may be counted by another thread.
 */
#ifndef TRANSPORT_BACKEND_WINDOW_H
#define TRANSPORT_BACKEND_WINDOW_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct window {
    uint32_t size; /* arrivals that may be under way in each direction */
    _Atomic uint64_t sent, returned; /* returned <= sent <= returned + size */
    _Atomic uint64_t seen;
    uint64_t told; /* of them, in the last CREDIT */
};

static inline bool window_open(const struct window *w)
{
    return atomic_load_explicit(&w->sent, memory_order_relaxed) -
               atomic_load_explicit(&w->returned, memory_order_relaxed) <
           w->size;
}

/* Counted before it is sent. */
static inline void window_send(struct window *w)
{
    atomic_fetch_add(&w->sent, 1);
}

/* It could not be sent after all. */
static inline void window_unsend(struct window *w)
{
    atomic_fetch_sub(&w->sent, 1);
}

/* The peer has seen `upto`. -EPROTO when it cannot have. */
static inline int window_return(struct window *w, uint64_t upto)
{
    if (upto < atomic_load(&w->returned) || upto > atomic_load(&w->sent))
        return -EPROTO;
    atomic_store_explicit(&w->returned, upto, memory_order_relaxed);
    return 0;
}

static inline void window_see(struct window *w)
{
    atomic_fetch_add_explicit(&w->seen, 1, memory_order_relaxed);
}

/* The peer should be told. Half a window: at most two CREDITs are unseen. */
static inline bool window_due(const struct window *w)
{
    return atomic_load_explicit(&w->seen, memory_order_relaxed) - w->told >=
           w->size / 2;
}

/* What the CREDIT that is sent now says. */
static inline uint64_t window_tell(struct window *w)
{
    w->told = atomic_load_explicit(&w->seen, memory_order_relaxed);
    return w->told;
}

/* The number of a piece: 9 bits of link index, 23 bits of length. */
enum { PIECE_LINKS = 512, PIECE_LENGTH_MOST = (1 << 23) - 1 };

static inline uint32_t piece_make(uint32_t idx, uint32_t len)
{
    return idx << 23 | len;
}

static inline uint32_t piece_index(uint32_t piece)
{
    return piece >> 23;
}

static inline uint32_t piece_length(uint32_t piece)
{
    return piece & PIECE_LENGTH_MOST;
}

/*
 * The next piece of [posted, wrote) in a ring of `size`: it ends at the end
 * of the ring, and is at most `most` so that the receiver can begin early.
 */
static inline uint32_t piece_next(uint64_t posted, uint64_t wrote,
                                  uint32_t size, uint32_t most)
{
    uint64_t len = wrote - posted;
    uint32_t to_end = size - ((uint32_t)posted & (size - 1));

    if (len > to_end)
        len = to_end;
    return len > most ? most : (uint32_t)len;
}

/*
 * A piece arrived. On 0, *landed includes it. -EPROTO if it is empty or goes
 * beyond what the sender can know to be free: landed + len <= took + size.
 */
static inline int piece_land(uint64_t took, uint32_t size, uint32_t len,
                             uint64_t *landed)
{
    if (len == 0 || *landed + len > took + size)
        return -EPROTO;
    *landed += len;
    return 0;
}

#endif
