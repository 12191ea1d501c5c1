/*
 * See waiter.h.
 */
#include "preload/waiter.h"

#include <pthread.h>
#include <sched.h>

#include "preload/fd_table.h"
#include "preload/process.h"
#include "preload/spin_quota.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/pause.h"
#include "transport/transport.h"

enum {
    QUICK_LOOKS = 24,       /* before a spin */
    GLANCE_LEAST_NS = 3000, /* instead of a spin */
    GLANCE_MOST_NS = 12000,
    RARE_NS = 500000,  /* for a sleep: no glance after it */
    PAUSE_NS = 2000,   /* then give the CPU away at each look */
    BUDGET_LEAST = 16, /* of the limit: 1/16th */
    YIELDS_ON_ONE_CPU = 4,
    DEAR_NS = 500000, /* for a yield: somebody else computed meanwhile */
    DEAR_MOST = 4,    /* of the last eight */
    DEAR_FOR = 100    /* times as long there is none */
};

/*
 * By id, and never freed: a wake that comes late finds the id's next owner,
 * whom it wakes in vain, and not a hole.
 */
static struct waiter pool[WAITERS_MAX];
static _Atomic bool taken[WAITERS_MAX];
static _Atomic unsigned next_id = 1;
static pthread_key_t self_key;
static __thread struct waiter *_Atomic self
    __attribute__((tls_model("initial-exec")));

/* Without a lock: a signal handler may be in the midst of its thread's. */
static unsigned take_id(void)
{
    unsigned first = atomic_load(&next_id);

    for (unsigned i = 0; i < WAITERS_MAX - 1; i++) {
        unsigned id = 1 + (first - 1 + i) % (WAITERS_MAX - 1);

        if (!atomic_exchange(&taken[id], true)) {
            atomic_store(&next_id, id + 1);
            return id;
        }
    }
    return 0;
}

struct waiter *waiter_create(bool of_thread)
{
    unsigned id = take_id();
    struct waiter *w = &pool[id];

    if (id == 0)
        return NULL;
    w->id = id;
    atomic_store(&w->asleep, 0);
    atomic_store(&w->busy, 0);
    atomic_store(&w->of_thread, of_thread);
    w->budget_ns = UINT32_MAX;
    atomic_store(&w->dear_yields, 0);
    atomic_store(&w->no_yield_ns, 0);
    atomic_store(&w->rare, false);
    w->bell = ours_keep(bell_open(process.bell_token, id));
    if (w->bell < 0) {
        atomic_store(&taken[id], false);
        return NULL;
    }
    return w;
}

void waiter_destroy(struct waiter *waiter)
{
    if (waiter == NULL)
        return;
    ours_close(waiter->bell);
    atomic_store(&taken[waiter->id], false);
}

static void thread_ends(void *arg)
{
    atomic_store(&self, NULL);
    waiter_destroy(arg);
}

int waiters_start(void)
{
    return -pthread_key_create(&self_key, thread_ends);
}

struct waiter *waiter_self(void)
{
    struct waiter *mine = atomic_load_explicit(&self, memory_order_relaxed);
    struct waiter *made;

    if (mine != NULL)
        return mine;
    made = waiter_create(true);
    /* A handler in the midst of this has made one: that is ours. */
    if (made != NULL && !atomic_compare_exchange_strong(&self, &mine, made)) {
        waiter_destroy(made);
        return mine;
    }
    if (made != NULL)
        pthread_setspecific(self_key, made);
    return made;
}

bool waiter_begin(struct waiter *waiter)
{
    return atomic_exchange(&waiter->busy, 1) != 0;
}

void waiter_end(struct waiter *waiter, bool nested)
{
    if (atomic_load(&self) != waiter)
        return; /* in the child of a fork: the parent's */
    if (nested)
        waiter_ring(waiter->id); /* so that it looks again */
    else
        atomic_store(&waiter->busy, 0);
}

bool waiter_is_idle(unsigned id)
{
    return id >= WAITERS_MAX || !atomic_load(&taken[id]) ||
           (atomic_load(&pool[id].of_thread) &&
            atomic_load(&pool[id].busy) == 0);
}

void waiter_ring(unsigned id)
{
    bell_ring(process.ringer, process.bell_token, id);
}

void waiter_wake(unsigned id)
{
    full_fence();
    if (id < WAITERS_MAX && atomic_exchange(&pool[id].asleep, 0) != 0)
        waiter_ring(id);
}

void waiters_forget(void)
{
    for (unsigned id = 1; id < WAITERS_MAX; id++) {
        if (atomic_load(&taken[id])) {
            ours_close(pool[id].bell);
            pool[id].bell = -1; /* who forked in a handler still drains it */
            atomic_store(&taken[id], false);
        }
    }
    atomic_store(&self, NULL);
}

/* ---- spinning ---- */

/* As long as the ring takes that it saves the peer (decision 0045). */
static uint64_t glance_ns(void)
{
    uint64_t ring = atomic_load_explicit(&bell_ring_ns, memory_order_relaxed);

    if (ring < GLANCE_LEAST_NS)
        return GLANCE_LEAST_NS;
    return ring < GLANCE_MOST_NS ? ring : GLANCE_MOST_NS;
}

void spin_first(struct spin *spin, struct waiter *waiter, uint64_t limit_ns,
                bool here)
{
    spin->waiter = waiter;
    spin->counted = false;
    spin->began_ns = 0;
    spin->until_ns = 0;
    spin->rounds = here ? QUICK_LOOKS : 0;
    if (here || (limit_ns != 0 && !spin_quota_is_used_up()))
        return;
    spin->began_ns = clock_ns();
    if (atomic_load_explicit(&waiter->rare, memory_order_relaxed))
        spin->rounds = QUICK_LOOKS;
    else
        spin->until_ns = spin->began_ns + glance_ns();
}

/* By time, with the clock looked at every fourth time, or so many. */
bool spin_glance(struct spin *spin)
{
    unsigned n = spin->rounds++;

    if (spin->until_ns == 0 ? n >= QUICK_LOOKS
                            : n % 4 == 3 && clock_ns() >= spin->until_ns)
        return false;
    if (n > 0)
        cpu_pause();
    return true;
}

bool spin_begin(struct spin *spin, struct waiter *waiter, uint64_t limit_ns)
{
    uint64_t now, left, budget = waiter->budget_ns;

    spin->waiter = waiter;
    spin->counted = false;
    spin->rounds = 0;
    spin->began_ns = 0;
    if (limit_ns == 0)
        return false;
    now = clock_ns();
    if (spin_quota_is_due(now)) {
        spin_quota_look(now);
        now = clock_ns();
    }
    spin->began_ns = now;
    left = spin_quota_left();
    if (left == 0)
        return false;
    if (budget > limit_ns)
        budget = limit_ns;
    if (budget > left)
        budget = left;
    /* One CPU less than we have; with one CPU one thread may look, too: the
     * peer may well run on another (here tells). */
    if (atomic_fetch_add(&process.spinners, 1) + 1 < (int)process.cpus ||
        atomic_load(&process.spinners) == 1)
        spin->counted = true;
    else
        atomic_fetch_sub(&process.spinners, 1);
    if (spin->counted)
        stats_spinners(1);
    spin->pause_until_ns = spin->counted ? now + PAUSE_NS : 0;
    spin->until_ns = now + budget;
    spin->looked_ns = now;
    return true;
}

static bool may_yield(const struct spin *spin)
{
    return spin->looked_ns >= atomic_load_explicit(&spin->waiter->no_yield_ns,
                                                   memory_order_relaxed);
}

static void yield(struct spin *spin)
{
    struct waiter *w = spin->waiter;
    uint64_t before = spin->looked_ns, lost;
    uint8_t dear = atomic_load_explicit(&w->dear_yields, memory_order_relaxed);

    sched_yield();
    spin->looked_ns = clock_ns();
    lost = spin->looked_ns - before;
    if (dear == 0 && lost < DEAR_NS)
        return;
    dear = (uint8_t)(dear << 1 | (lost >= DEAR_NS));
    atomic_store_explicit(&w->dear_yields, dear, memory_order_relaxed);
    if (lost >= DEAR_NS && __builtin_popcount(dear) >= DEAR_MOST)
        atomic_store(&w->no_yield_ns, spin->looked_ns + DEAR_FOR * lost);
}

/* A few looks, and then one at the clock. */
static void pause_once(struct spin *spin)
{
    cpu_pause();
    if (spin->rounds % 8 == 0)
        spin->looked_ns = clock_ns();
}

bool spin_round(struct spin *spin, bool here)
{
    spin->rounds++;
    if (!spin->counted || here) {
        /* The peer needs this very CPU, or somebody else does. */
        if (!may_yield(spin))
            return false;
        yield(spin);
        if (spin->rounds >= YIELDS_ON_ONE_CPU)
            return false;
    } else if (spin->looked_ns < spin->pause_until_ns || !may_yield(spin)) {
        pause_once(spin);
    } else {
        yield(spin);
    }
    return spin->looked_ns < spin->until_ns;
}

static void set_budget(struct waiter *waiter, uint64_t limit_ns, bool more)
{
    uint64_t budget = waiter->budget_ns;

    if (budget > limit_ns)
        budget = limit_ns;
    budget = more ? 2 * budget + 1000 : budget / 2;
    if (budget > limit_ns)
        budget = limit_ns;
    if (budget < limit_ns / BUDGET_LEAST)
        budget = limit_ns / BUDGET_LEAST;
    waiter->budget_ns = budget > UINT32_MAX ? UINT32_MAX : (uint32_t)budget;
}

void spin_end(struct spin *spin, struct waiter *waiter, uint64_t limit_ns,
              bool hit)
{
    uint64_t ns = spin->looked_ns - spin->began_ns;

    if (spin->counted) {
        atomic_fetch_sub(&process.spinners, 1);
        stats_spinners(-1);
    }
    spin->counted = false;
    if (hit)
        set_budget(waiter, limit_ns, true);
    spin_quota_spent(ns);
    stats_spun(hit, ns,
               waiter->budget_ns < limit_ns ? waiter->budget_ns
                                            : (uint32_t)limit_ns);
}

void spin_slept(const struct spin *spin, struct waiter *waiter,
                uint64_t limit_ns)
{
    uint64_t now = clock_ns();

    if (limit_ns != 0)
        set_budget(waiter, limit_ns, now - spin->began_ns < 2 * limit_ns);
    atomic_store_explicit(&waiter->rare, now >= spin->began_ns + RARE_NS,
                          memory_order_relaxed);
}
