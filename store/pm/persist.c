/*
 * The policies behind persist.h, and the only user of libpmem.
 *
 * PM_PMEM writes cache lines back and fences. PM_SYNC remembers the pages that
 * were flushed and calls msync for them at the fence; the order between two
 * fences is thus the same as with PM_PMEM. PM_PROCESS stores, and orders the
 * compiler only. After a failed msync nobody knows which pages the kernel has
 * given up, so the error is kept and returned for ever.
 */
#include "store/pm/persist.h"

#include "store/pm/large_pages.h"

#include <assert.h>
#include <errno.h>
#include <libpmem.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_SHIFT 12
#define PAGES_MAX  4096 /* more than that: msync everything */
#define SMALL_COPY 64   /* bytes */

static bool inside(const struct pm *pm, const void *at, size_t len)
{
    const unsigned char *p = at;
    return p >= pm->base && len <= pm->size &&
           (size_t)(p - pm->base) <= pm->size - len;
}

static void plain_store64(struct pm *pm, uint64_t *at, uint64_t value)
{
    assert(inside(pm, at, sizeof(*at)) && (uintptr_t)at % 8 == 0);
    (void)pm;
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

/* Word by word: what has just been put together in such words can be read at
 * once; wider loads would wait for all stores before them, write-backs too. */
static void copy_words(uint64_t *at, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        __atomic_store_n(&at[i], from[i], __ATOMIC_RELAXED);
    pmem_flush(at, n * sizeof(*at));
}

static void pmem_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    assert(inside(pm, at, len));
    (void)pm;
    if (len <= SMALL_COPY && (((uintptr_t)at | (uintptr_t)from | len) & 7) == 0)
        copy_words(at, from, len / 8);
    else
        pmem_memcpy(at, from, len, PMEM_F_MEM_NODRAIN);
}

static void pmem_writeback(struct pm *pm, const void *at, size_t len)
{
    assert(inside(pm, at, len));
    (void)pm;
    pmem_flush(at, len);
}

static int pmem_fence(struct pm *pm)
{
    (void)pm;
    pmem_drain();
    return 0;
}

static void note_pages(struct pm *pm, const void *at, size_t len)
{
    size_t off = (size_t)((const unsigned char *)at - pm->base);
    assert(inside(pm, at, len));
    if (len == 0)
        return;
    size_t last = (off + len - 1) >> PAGE_SHIFT;
    for (size_t page = off >> PAGE_SHIFT; page <= last; page++) {
        if (pm->n_pages > PAGES_MAX)
            return;
        if (pm->n_pages > 0 && pm->n_pages <= PAGES_MAX &&
            pm->pages[pm->n_pages - 1] == page)
            continue;
        if (pm->n_pages < PAGES_MAX)
            pm->pages[pm->n_pages] = page;
        pm->n_pages++;
    }
}

static void sync_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    memcpy(at, from, len);
    note_pages(pm, at, len);
}

static int by_number(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;
    return (x > y) - (x < y);
}

static int sync_range(struct pm *pm, size_t first, size_t n)
{
    if (pm->sync(pm->base + (first << PAGE_SHIFT), n << PAGE_SHIFT, MS_SYNC) ==
        0)
        return 0;
    return errno ? -errno : -EIO;
}

static int sync_fence(struct pm *pm)
{
    size_t n = pm->n_pages;
    pm->n_pages = 0;
    if (n > PAGES_MAX)
        return sync_range(pm, 0, pm->size >> PAGE_SHIFT);
    qsort(pm->pages, n, sizeof(*pm->pages), by_number);
    for (size_t i = 0; i < n;) {
        size_t first = pm->pages[i], end = first + 1;
        for (i++; i < n && pm->pages[i] <= end; i++)
            end = pm->pages[i] + 1;
        int rc = sync_range(pm, first, end - first);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void process_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    assert(inside(pm, at, len));
    (void)pm;
    memcpy(at, from, len);
}

static void process_flush(struct pm *pm, const void *at, size_t len)
{
    (void)pm;
    (void)at;
    (void)len;
}

/* A killed process's stores are in the page cache in program order. */
static int process_fence(struct pm *pm)
{
    (void)pm;
    atomic_signal_fence(memory_order_seq_cst);
    return 0;
}

static const struct pm_ops pmem_ops = {.name = "pmem",
                                       .store64 = plain_store64,
                                       .copy = pmem_copy,
                                       .filled = pmem_writeback,
                                       .flush = pmem_writeback,
                                       .fence = pmem_fence};
static const struct pm_ops sync_ops = {.name = "sync",
                                       .store64 = plain_store64,
                                       .copy = sync_copy,
                                       .filled = note_pages,
                                       .flush = note_pages,
                                       .fence = sync_fence};
static const struct pm_ops process_ops = {.name = "process",
                                          .store64 = plain_store64,
                                          .copy = process_copy,
                                          .filled = process_flush,
                                          .flush = process_flush,
                                          .fence = process_fence};

static const struct pm_ops *ops_of(enum pm_policy policy)
{
    return policy == PM_PMEM   ? &pmem_ops
           : policy == PM_SYNC ? &sync_ops
                               : &process_ops;
}

const char *pm_policy_name(enum pm_policy policy)
{
    return policy == PM_AUTO ? "default" : ops_of(policy)->name;
}

/* At a place of the kernel's choice, or over what room_of() has set aside. */
static void *map_shared(void *at, int fd, size_t size, off_t from, bool sync)
{
    int flags = sync ? MAP_SHARED_VALIDATE | MAP_SYNC : MAP_SHARED;
    if (at)
        flags |= MAP_FIXED;
    return mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, from);
}

/* Only what can be mapped with MAP_SYNC keeps its metadata in step with its
 * bytes. The policies that do not ask what the medium is do not try. */
static void *map_file(struct pm *pm, void *at, int fd, off_t from, size_t size)
{
    if (pm->policy == PM_AUTO || pm->policy == PM_PMEM) {
        void *base = map_shared(at, fd, size, from, true);
        if (base != MAP_FAILED) {
            pm->persistent = true;
            return base;
        }
    }
    void *base = map_shared(at, fd, size, from, false);
    if (base != MAP_FAILED && pm->policy != PM_SYNC && pm->policy != PM_PROCESS)
        pm->persistent = pm->forced = pmem_is_pmem(base, size);
    return base;
}

/* Addresses without memory for room bytes; whole large pages. */
static void *room_of(size_t room, size_t *len)
{
    if (room > SIZE_MAX / 2) /* nowhere are so many addresses */
        return NULL;
    *len = room + LARGE_PAGE;
    void *at = mmap(NULL, *len, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    size_t skip = (LARGE_PAGE - (uintptr_t)at % LARGE_PAGE) % LARGE_PAGE;
    if (skip > 0)
        munmap(at, skip);
    *len -= skip;
    return (unsigned char *)at + skip;
}

static int choose_policy(struct pm *pm, enum pm_policy policy)
{
    if (policy == PM_PMEM && !pm->persistent)
        return -ENOTSUP;
    if (policy == PM_AUTO)
        policy = pm->persistent ? PM_PMEM : PM_PROCESS;
    if (policy == PM_SYNC) {
        pm->pages = malloc(PAGES_MAX * sizeof(*pm->pages));
        if (!pm->pages)
            return -ENOMEM;
    }
    pm->policy = policy;
    return 0;
}

int pm_map_room(struct pm *pm, int fd, size_t size, size_t room,
                enum pm_policy policy, const struct pm_hook *hook)
{
    *pm = (struct pm){.size = size, .sync = msync, .policy = policy};
    assert(size > 0 && size % ((size_t)1 << PAGE_SHIFT) == 0);
    unsigned char *at = room_of(room > size ? room : size, &pm->room);
    if (!at)
        return -ENOMEM;
    if (map_file(pm, at, fd, 0, size) == MAP_FAILED) {
        int rc = -errno;
        munmap(at, pm->room);
        return rc;
    }
    pm->base = at;
    int rc = choose_policy(pm, policy);
    if (rc < 0) {
        pm_unmap(pm);
        return rc;
    }
    pm->native = ops_of(pm->policy);
    pm->ops = hook ? hook->ops : pm->native;
    pm->context = hook ? hook->context : NULL;
    return 0;
}

int pm_map(struct pm *pm, int fd, size_t size, enum pm_policy policy,
           const struct pm_hook *hook)
{
    return pm_map_room(pm, fd, size, size, policy, hook);
}

int pm_extend(struct pm *pm, int fd, size_t size)
{
    assert(size >= pm->size && size % ((size_t)1 << PAGE_SHIFT) == 0);
    if (size > pm->room)
        return -ENOMEM;
    if (size == pm->size)
        return 0;
    bool sync = pm->policy == PM_PMEM && !pm->forced;
    if (map_shared(pm->base + pm->size, fd, size - pm->size, (off_t)pm->size,
                   sync) == MAP_FAILED)
        return -errno;
    pm->size = size;
    return 0;
}

void pm_unmap(struct pm *pm)
{
    if (pm->base)
        munmap(pm->base, pm->room);
    free(pm->pages);
    pm->base = NULL;
    pm->pages = NULL;
}

int pm_share(struct pm *pm, const struct pm *of)
{
    size_t *pages = NULL;
    if (of->policy == PM_SYNC) {
        pages = malloc(PAGES_MAX * sizeof(*pages));
        if (!pages)
            return -ENOMEM;
    }
    *pm = *of;
    pm->pages = pages;
    pm->n_pages = 0;
    pm->fences = pm->flushed = 0;
    return 0;
}

void pm_unshare(struct pm *pm)
{
    free(pm->pages);
    *pm = (struct pm){0};
}

int pm_fence(struct pm *pm)
{
    if (pm->error == 0) {
        pm->fences++;
        pm->error = pm->ops->fence(pm);
    }
    return pm->error;
}
