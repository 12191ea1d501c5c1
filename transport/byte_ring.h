/*
 * A ring of bytes in memory that two processes share.
 *
 * Positions are stream offsets: 64 bits, never wrapping, at most 2^63-1. The
 * index of a byte is its offset modulo the span, a power of two: the size at
 * first, more once the ring has stretched. The ring does not know how full it
 * is: the sender keeps `wrote` and `freed`, the receiver `landed` and `took`,
 * each in memory of its own, and the words below are all that they tell each
 * other.
 *
 *     freed <= took <= landed <= wrote <= freed + size
 *
 * A ring that has stretched carries no more than before. But each byte goes
 * where none has been for long, so that its line has left the caches of both
 * CPUs for the one they share, out of which it comes much sooner (decision
 * 0046).
 *
 * The peer can write every byte and all words at any moment. So a word is
 * read once, checked against what this end knows, and only the checked copy is
 * used. Nothing here locks: one thread per direction and side.
 */
#ifndef TRANSPORT_BYTE_RING_H
#define TRANSPORT_BYTE_RING_H

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

struct byte_ring {
    uint8_t *bytes; /* borrowed: the mapping belongs to somebody else */
    uint32_t size;  /* bytes under way at most, a power of two */
    uint32_t span;  /* bytes in use of the memory; ring_set_span() */
};

/* What the ends publish. Zero at the start; memory the peer can write. */
struct ring_words {
    alignas(64) _Atomic uint64_t commit;  /* bytes up to here are visible;
                                             written by the sender only */
    _Atomic uint32_t stretched;           /* so often; likewise */
    alignas(64) _Atomic uint64_t release; /* bytes up to here are consumed;
                                             written by the receiver only */
    _Atomic uint64_t looked; /* the last of those after which the receiver
                                looked for a writer that waits */
};
static_assert(sizeof(struct ring_words) == 128, "two lines, one writer each");
static_assert(offsetof(struct ring_words, release) == 64, "its own line");
static_assert(sizeof(_Atomic uint64_t) == 8, "shared with other processes");

enum { RING_SMALL = 64 }; /* bytes that are copied without a call */

/* Of either direction's lock: what was right a moment ago, to fetch ahead. */
static inline const uint8_t *ring_hint(const struct byte_ring *r, uint64_t off)
{
    uint32_t span = __atomic_load_n(&r->span, __ATOMIC_RELAXED);

    return r->bytes + ((uint32_t)off & (span - 1));
}

static inline void ring_set_span(struct byte_ring *r, uint32_t span)
{
    __atomic_store_n(&r->span, span, __ATOMIC_RELAXED);
}

/*
 * The next offset, from `wrote` on, at which a ring of that size may stretch
 * to span, another power of two. Of the `size` bytes before it each has the
 * same index modulo span and modulo any smaller one: what is under way stays
 * where it is, and a reader may notice sooner or later, but before it reads
 * beyond. It goes back when it is empty: there is no such byte then.
 */
static inline uint64_t ring_stretches_at(uint64_t wrote, uint32_t size,
                                         uint32_t span)
{
    return wrote + ((size - wrote) & (span - 1));
}

/* The general forms of ring_put and ring_get: any length, split at the end. */
void ring_put_split(const struct byte_ring *r, uint64_t off, const void *src,
                    size_t len);
void ring_get_split(const struct byte_ring *r, uint64_t off, void *dst,
                    size_t len);

/*
 * Copies len bytes of the vector, after its first skip bytes, to off. Ends
 * early with the vector. Returns the bytes copied. len <= size.
 */
size_t ring_put_iov(const struct byte_ring *r, uint64_t off,
                    const struct iovec *iov, int n, size_t skip, size_t len);

/* The same out of the ring, into the vector. */
size_t ring_get_iov(const struct byte_ring *r, uint64_t off,
                    const struct iovec *iov, int n, size_t skip, size_t len);

/* At most RING_SMALL bytes, as two copies of a fixed size that may overlap. */
static inline void ring_copy_small(uint8_t *dst, const uint8_t *src, size_t len)
{
    if (len >= 32) {
        memcpy(dst, src, 32);
        memcpy(dst + len - 32, src + len - 32, 32);
    } else if (len >= 16) {
        memcpy(dst, src, 16);
        memcpy(dst + len - 16, src + len - 16, 16);
    } else if (len >= 8) {
        memcpy(dst, src, 8);
        memcpy(dst + len - 8, src + len - 8, 8);
    } else if (len >= 4) {
        memcpy(dst, src, 4);
        memcpy(dst + len - 4, src + len - 4, 4);
    } else if (len > 0) {
        dst[0] = src[0];
        dst[len / 2] = src[len / 2];
        dst[len - 1] = src[len - 1];
    }
}

/* Copies len bytes to off; len <= size. Publishes nothing. */
static inline void ring_put(const struct byte_ring *r, uint64_t off,
                            const void *src, size_t len)
{
    uint32_t idx = (uint32_t)off & (r->span - 1);

    if (len <= RING_SMALL && len <= r->span - idx)
        ring_copy_small(r->bytes + idx, src, len);
    else
        ring_put_split(r, off, src, len);
}

/* Copies len bytes at off out of the ring; len <= size. Releases nothing. */
static inline void ring_get(const struct byte_ring *r, uint64_t off, void *dst,
                            size_t len)
{
    uint32_t idx = (uint32_t)off & (r->span - 1);

    if (len <= RING_SMALL && len <= r->span - idx)
        ring_copy_small(dst, r->bytes + idx, len);
    else
        ring_get_split(r, off, dst, len);
}

/*
 * The receiver's look at `commit`; pairs with the sender's store-release. On
 * 0, *landed is the offset up to which bytes may be read. -EPROTO if the peer
 * went back or past the ring: landed_before <= commit <= took + size.
 */
static inline int ring_landed(const struct ring_words *w, uint64_t took,
                              uint64_t landed_before, uint32_t size,
                              uint64_t *landed)
{
    uint64_t commit = atomic_load_explicit(&w->commit, memory_order_acquire);

    if (commit < landed_before || commit > took + size)
        return -EPROTO;
    *landed = commit;
    return 0;
}

/*
 * The sender's look at `release`; pairs with the receiver's store-release. On
 * 0, the bytes before *freed may be overwritten. -EPROTO if the peer went back
 * or consumed what was not written: freed_before <= release <= wrote.
 */
static inline int ring_freed(const struct ring_words *w, uint64_t freed_before,
                             uint64_t wrote, uint64_t *freed)
{
    uint64_t release = atomic_load_explicit(&w->release, memory_order_acquire);

    if (release < freed_before || release > wrote)
        return -EPROTO;
    *freed = release;
    return 0;
}

#endif
