/*
 * See reach.h.
 *
 * A page is asked about by system calls that look at it and do nothing else:
 * a change of the signal mask in a way that does not exist reads eight bytes
 * first, and a futex operation that adds nothing to a word needs to write it.
 * For many pages at once there is madvise(2), which says yes with certainty,
 * but no to mappings of devices as well.
 */
#include "transport/reach.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

/* Page 0 is asked about elsewhere than at NULL, which means "no mask". */
enum { PAGE = 1 << REACH_SHIFT, INTO = 64, NO_SUCH_HOW = -1, FEW = 3 };

static bool may_read(uintptr_t page)
{
    int saved = errno;
    bool bad =
        syscall(SYS_rt_sigprocmask, NO_SUCH_HOW, (page << REACH_SHIFT) + INTO,
                NULL, sizeof(uint64_t)) < 0 &&
        errno == EFAULT;

    errno = saved;
    return !bad;
}

static bool may_write(uintptr_t page)
{
    int saved = errno;
    uint32_t own = 0;
    bool bad = syscall(SYS_futex, &own, FUTEX_WAKE_OP_PRIVATE, 0, 0,
                       page << REACH_SHIFT,
                       FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0)) < 0 &&
               errno == EFAULT;

    errno = saved;
    return !bad;
}

static bool is_known(struct reach *r, uintptr_t page, bool write)
{
    uint64_t known = atomic_load_explicit(&r->page[page % REACH_PAGES],
                                          memory_order_relaxed);

    return (known | !write) == (page << 2 | 3);
}

static void learn(struct reach *r, uintptr_t page, bool write)
{
    atomic_store_explicit(&r->page[page % REACH_PAGES], page << 2 | 2 | write,
                          memory_order_relaxed);
}

static bool ask_for_one(struct reach *r, uintptr_t page, bool write)
{
    if (is_known(r, page, write))
        return true;
    if (write ? !may_write(page) : !may_read(page))
        return false;
    learn(r, page, write);
    return true;
}

/* Whether all of them are there; false says nothing. */
static bool ask_for_many(struct reach *r, uintptr_t first, uintptr_t last,
                         bool write)
{
    int saved = errno;
    int rc;

    while (first <= last && is_known(r, first, write))
        first++;
    if (last - first < FEW || first > last)
        return first > last;
    rc = madvise((void *)(first << REACH_SHIFT),
                 (last - first + 1) << REACH_SHIFT,
                 write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
    errno = saved;
    if (rc < 0)
        return false;
    for (; first <= last; first++)
        learn(r, first, write);
    return true;
}

bool reach_ask(struct reach *r, const void *at, size_t len, bool write)
{
    uintptr_t first = (uintptr_t)at >> REACH_SHIFT;
    uintptr_t last = ((uintptr_t)at + len - 1) >> REACH_SHIFT;

    if (len == 0)
        return true;
    if (last < first || last >> (63 - REACH_SHIFT) != 0)
        return false;
    if (ask_for_many(r, first, last, write))
        return true;
    for (uintptr_t page = first; page <= last; page++)
        if (!ask_for_one(r, page, write))
            return false;
    return true;
}

bool reach_ok_vector(struct reach *r, const struct iovec *iov, int n,
                     size_t skip, size_t len, bool write)
{
    for (int i = 0; i < n && len > 0; i++) {
        size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;
        size_t part = iov[i].iov_len - cut;

        skip -= cut;
        if (part > len)
            part = len;
        len -= part;
        if (part > 0 &&
            !reach_ok(r, (char *)iov[i].iov_base + cut, part, write))
            return false;
    }
    return true;
}

void reach_forget(struct reach *r, const void *at, size_t len)
{
    uintptr_t first = (uintptr_t)at >> REACH_SHIFT;
    uintptr_t n = len / PAGE + 2;

    if (n > REACH_PAGES)
        n = REACH_PAGES;
    for (uintptr_t i = 0; i < n; i++)
        atomic_store_explicit(&r->page[(first + i) % REACH_PAGES], 0,
                              memory_order_relaxed);
}
