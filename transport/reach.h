/*
 * Does an address of the application's lead anywhere? The kernel answers
 * EFAULT; who copies in its place has to know beforehand.
 *
 * Asking costs a system call per page, so pages that were found good are kept
 * in a small table, and asked about once. Whoever takes pages away or changes
 * what may be done with them says so (reach_forget). What happens past that,
 * such as memory that free() gave back to the kernel, is not noticed.
 *
 * Any thread, no lock; errno is left alone.
 */
#ifndef TRANSPORT_REACH_H
#define TRANSPORT_REACH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { REACH_PAGES = 8192, REACH_SHIFT = 12 };

/* All zero: nothing is known. A page is its number, two and "may be written".
 */
struct reach {
    _Atomic uint64_t page[REACH_PAGES];
};

bool reach_ask(struct reach *r, const void *at, size_t len, bool write);

/* reach_ok(), as far as that is known without asking. */
static inline bool reach_known(const struct reach *r, const void *at,
                               size_t len, bool write)
{
    uintptr_t first = (uintptr_t)at >> REACH_SHIFT;
    uintptr_t last = ((uintptr_t)at + len - 1) >> REACH_SHIFT;
    uint64_t known = atomic_load_explicit(&r->page[first % REACH_PAGES],
                                          memory_order_relaxed);

    return __builtin_expect(
        first == last && (known | !write) == (first << 2 | 3), 1);
}

/* True: len bytes may be read (written, and will be) there. */
static inline bool reach_ok(struct reach *r, const void *at, size_t len,
                            bool write)
{
    return reach_known(r, at, len, write) || reach_ask(r, at, len, write);
}

/* Len bytes of a vector, after its first `skip`. */
bool reach_ok_vector(struct reach *r, const struct iovec *iov, int n,
                     size_t skip, size_t len, bool write);

/* These pages are gone, or different. */
void reach_forget(struct reach *r, const void *at, size_t len);

#endif
