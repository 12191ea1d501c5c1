/*
 * The copies that are too long, or too near the end, for the inline forms.
 *
 * Invariant: len <= size, so a copy touches no byte of the ring twice. Callers
 * get len from offsets that ring_landed and ring_freed have checked; a longer
 * one is our own mistake, and aborts in test builds.
 */
#include "transport/byte_ring.h"

#ifdef FASTSOCK_TEST
#define check_length(r, len) assert((len) <= (r)->size)
#else
#define check_length(r, len) ((void)0)
#endif

void ring_put_split(const struct byte_ring *r, uint64_t off, const void *src,
                    size_t len)
{
    uint32_t idx = (uint32_t)off & (r->span - 1);
    size_t head = r->span - idx;

    check_length(r, len);
    if (len == 0)
        return; /* src may be NULL */
    if (head > len)
        head = len;
    memcpy(r->bytes + idx, src, head);
    if (len > head)
        memcpy(r->bytes, (const uint8_t *)src + head, len - head);
}

void ring_get_split(const struct byte_ring *r, uint64_t off, void *dst,
                    size_t len)
{
    uint32_t idx = (uint32_t)off & (r->span - 1);
    size_t head = r->span - idx;

    check_length(r, len);
    if (len == 0)
        return;
    if (head > len)
        head = len;
    memcpy(dst, r->bytes + idx, head);
    if (len > head)
        memcpy((uint8_t *)dst + head, r->bytes, len - head);
}

/* The part of an element that remains after *skip, which it uses up. */
static size_t element_rest(const struct iovec *iov, size_t *skip, size_t most)
{
    size_t rest;

    if (*skip >= iov->iov_len) {
        *skip -= iov->iov_len;
        return 0;
    }
    rest = iov->iov_len - *skip;
    return rest < most ? rest : most;
}

size_t ring_put_iov(const struct byte_ring *r, uint64_t off,
                    const struct iovec *iov, int n, size_t skip, size_t len)
{
    size_t done = 0;

    check_length(r, len);
    for (int i = 0; i < n && done < len; i++) {
        size_t part = element_rest(&iov[i], &skip, len - done);

        if (part == 0)
            continue;
        ring_put(r, off + done, (const uint8_t *)iov[i].iov_base + skip, part);
        done += part;
        skip = 0;
    }
    return done;
}

size_t ring_get_iov(const struct byte_ring *r, uint64_t off,
                    const struct iovec *iov, int n, size_t skip, size_t len)
{
    size_t done = 0;

    check_length(r, len);
    for (int i = 0; i < n && done < len; i++) {
        size_t part = element_rest(&iov[i], &skip, len - done);

        if (part == 0)
            continue;
        ring_get(r, off + done, (uint8_t *)iov[i].iov_base + skip, part);
        done += part;
        skip = 0;
    }
    return done;
}
