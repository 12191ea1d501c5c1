/*
 * Spins beside a limit on CPU time. Where a control group limits what its
 * processes use, a spin takes from what their work needs, and once that is used
 * up they all stand still until the period (100 ms, mostly) is over. So threads
 * spin with what is left over alone: in each fifth of a period as long as the
 * use of the whole group so far leaves a quarter of the limit free. When the
 * group was stopped all the same, they spin half as long.
 *
 * Any thread, also in a signal handler. Without a limit: a load and a branch,
 * and once a second a look whether there is one.
 */
#ifndef PRELOAD_SPIN_QUOTA_H
#define PRELOAD_SPIN_QUOTA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ns that may be spun until the next look; INT64_MAX: no limit. */
extern _Atomic int64_t spin_quota_allowed;
extern _Atomic uint64_t spin_quota_next_ns;

void spin_quota_look(uint64_t now_ns);
/* In the child: who looked just then is not here. */
void spin_quota_after_fork(void);

static inline bool spin_quota_is_used_up(void)
{
    return atomic_load_explicit(&spin_quota_allowed, memory_order_relaxed) <= 0;
}

/* Is it time for spin_quota_look()? */
static inline bool spin_quota_is_due(uint64_t now_ns)
{
    return __builtin_expect(
        now_ns >=
            atomic_load_explicit(&spin_quota_next_ns, memory_order_relaxed),
        0);
}

/* 0: none. */
static inline uint64_t spin_quota_left(void)
{
    int64_t left =
        atomic_load_explicit(&spin_quota_allowed, memory_order_relaxed);

    return left > 0 ? (uint64_t)left : 0;
}

static inline void spin_quota_spent(uint64_t ns)
{
    if (__builtin_expect(
            atomic_load_explicit(&spin_quota_allowed, memory_order_relaxed) !=
                INT64_MAX,
            0))
        atomic_fetch_sub(&spin_quota_allowed, (int64_t)ns);
}

/* What is left over, told step by step; spin_quota.c keeps one. */
struct spin_share {
    uint64_t limit_ns, each_ns;         /* so much may be used in so long */
    uint64_t throttled, used_ns, at_ns; /* at the last step */
    uint64_t share_ns;                  /* to spin with until the next step */
};

/* The group's use so far, and how often it was stopped. Returns share_ns. */
uint64_t spin_share_step(struct spin_share *s, uint64_t now_ns,
                         uint64_t used_ns, uint64_t throttled);

#endif
