/*
 * The only place that writes persistent memory.
 *
 * A struct pm is one mapped file and the policy that makes its bytes durable.
 * Rules for callers: a store becomes durable at the first pm_fence() after it
 * was flushed; before that it may or may not survive, in units of 8 aligned
 * bytes and in any order. pm_copy() begins the write-back itself; what is
 * stored with pm_store64() needs pm_flush(); what others wrote into the
 * mapping (the kernel, by read()) needs pm_filled().
 *
 * All goes through a table of functions, so that a test can count, record,
 * fail or stop at the nth call. One thread per struct pm.
 */
#ifndef STORE_PM_PERSIST_H
#define STORE_PM_PERSIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pm_policy {
    PM_AUTO,   /* PM_PMEM when the mapping is persistent memory, or PM_PROCESS
                */
    PM_PMEM,   /* cache line write-back and fence: survives power loss */
    PM_SYNC,   /* msync at each fence: survives power loss on any medium */
    PM_PROCESS /* the page cache: survives kill -9 only */
};

struct pm;

struct pm_ops {
    const char *name;
    void (*store64)(struct pm *pm, uint64_t *at, uint64_t value);
    void (*copy)(struct pm *pm, void *at, const void *from, size_t len);
    void (*filled)(struct pm *pm, const void *at, size_t len);
    void (*flush)(struct pm *pm, const void *at, size_t len);
    int (*fence)(struct pm *pm); /* 0 or -errno */
};

/* Calls put in front of a policy's own by a test. */
struct pm_hook {
    const struct pm_ops *ops;
    void *context; /* found again as pm->context */
};

struct pm {
    const struct pm_ops *ops;    /* what is called */
    const struct pm_ops *native; /* the policy's own: a hook calls these */
    void *context;               /* of the hook */
    uint64_t fences;             /* since pm_map() or pm_share() */
    uint64_t flushed;            /* bytes of cache lines, since then */
    unsigned char *base;         /* the mapping */
    size_t size;                 /* bytes, a multiple of the page size */
    size_t room;                 /* bytes of addresses set aside at base */
    bool persistent;             /* the mapping is persistent memory ... */
    bool forced;                 /* ... because the environment says so */
    enum pm_policy policy;       /* never PM_AUTO once mapped */
    int error;                   /* sticky: the first failure, -errno */
    int (*sync)(void *at, size_t len, int flags); /* msync, or a test's */
    size_t *pages;  /* PM_SYNC: numbers of flushed pages, unsorted */
    size_t n_pages; /* in pages; beyond its capacity everything is dirty */
};

/*
 * Map size bytes of the file fd. -ENOTSUP: PM_PMEM was asked for and this is
 * not persistent memory. hook may be NULL. The fd stays the caller's.
 */
int pm_map(struct pm *pm, int fd, size_t size, enum pm_policy policy,
           const struct pm_hook *hook);

/* The same, with addresses for room bytes, so that the mapping can grow. */
int pm_map_room(struct pm *pm, int fd, size_t size, size_t room,
                enum pm_policy policy, const struct pm_hook *hook);

/* Map as many bytes of the file, which has grown; what is mapped stays where
 * it is. -ENOMEM: more than there is room for. */
int pm_extend(struct pm *pm, int fd, size_t size);

void pm_unmap(struct pm *pm);

/*
 * The same mapping for another thread: flushes and fences of one are not those
 * of the other. pm_unshare() comes before pm_unmap() of the first one; size
 * follows the first one's by the caller's hand. 0 or -ENOMEM.
 */
int pm_share(struct pm *pm, const struct pm *of);
void pm_unshare(struct pm *pm);

const char *pm_policy_name(enum pm_policy policy);

/* One aligned word, never torn. Needs pm_flush(). */
static inline void pm_store64(struct pm *pm, uint64_t *at, uint64_t value)
{
    pm->ops->store64(pm, at, value);
}

/* Whatever the policy is: the lines that these bytes touch. */
static inline void pm_count(struct pm *pm, const void *at, size_t len)
{
    uintptr_t first = (uintptr_t)at / 64, end = ((uintptr_t)at + len + 63) / 64;
    pm->flushed += len == 0 ? 0 : (end - first) * 64;
}

/* len bytes; durable after the next fence. */
static inline void pm_copy(struct pm *pm, void *at, const void *from,
                           size_t len)
{
    pm_count(pm, at, len);
    pm->ops->copy(pm, at, from, len);
}

/* len bytes that somebody else stored here; durable after the next fence. */
static inline void pm_filled(struct pm *pm, const void *at, size_t len)
{
    pm_count(pm, at, len);
    pm->ops->filled(pm, at, len);
}

static inline void pm_flush(struct pm *pm, const void *at, size_t len)
{
    pm_count(pm, at, len);
    pm->ops->flush(pm, at, len);
}

/* 0, or -errno for this and every later call: the pool is lost to us. */
int pm_fence(struct pm *pm);

#endif
