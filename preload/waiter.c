/*
 * See waiter.h.
 */
#include "preload/waiter.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/fd_table.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/lock.h"
#include "transport/pause.h"
#include "transport/transport.h"

enum {
    PAUSE_NS = 2000,   /* then give the CPU away at each look */
    BUDGET_LEAST = 16, /* of the limit: 1/16th */
    YIELDS_ON_ONE_CPU = 4
};

/*
 * By id, and never freed: a wake that comes late finds the id's next owner,
 * whom it wakes in vain, and not a hole.
 */
static struct waiter pool[WAITERS_MAX];
static _Atomic bool taken[WAITERS_MAX];
static struct lock waiters_lock;
static unsigned next_id = 1;
static pthread_key_t self_key;
static pthread_once_t self_once = PTHREAD_ONCE_INIT;
static __thread struct waiter *self
    __attribute__((tls_model("initial-exec")));

static unsigned take_id(void)
{
    unsigned id = 0;

    lock_take(&waiters_lock);
    for (unsigned i = 0; i < WAITERS_MAX - 1; i++) {
        unsigned at = 1 + (next_id - 1 + i) % (WAITERS_MAX - 1);

        if (!atomic_load(&taken[at])) {
            id = at;
            next_id = at + 1;
            break;
        }
    }
    if (id != 0) {
        atomic_store(&pool[id].asleep, 0);
        atomic_store(&pool[id].busy, 0);
        atomic_store(&taken[id], true);
    }
    lock_give(&waiters_lock);
    return id;
}

struct waiter *waiter_create(bool of_thread)
{
    unsigned id = take_id();
    struct waiter *w = &pool[id];

    if (id == 0)
        return NULL;
    w->id = id;
    atomic_store(&w->of_thread, of_thread);
    w->budget_ns = UINT32_MAX;
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
    self = NULL;
    waiter_destroy(arg);
}

static void make_key(void)
{
    pthread_key_create(&self_key, thread_ends);
}

struct waiter *waiter_self(void)
{
    if (self != NULL)
        return self;
    pthread_once(&self_once, make_key);
    self = waiter_create(true);
    if (self != NULL)
        pthread_setspecific(self_key, self);
    return self;
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
            atomic_store(&taken[id], false);
        }
    }
    lock_init(&waiters_lock);
    self = NULL;
}

/* ---- spinning ---- */

static unsigned long bit(int number)
{
    return 1ul << (number - 1);
}

/* The kernel's mask is one word; libc's sigset_t begins with it. */
static void block_signals(struct spin *spin)
{
    unsigned long all = ~(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) |
                          bit(SIGILL) | bit(SIGTRAP) | bit(SIGABRT) |
                          bit(SIGSYS));

    spin->blocked = syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all,
                            &spin->mask, sizeof(all)) == 0;
}

bool spin_restore(struct spin *spin)
{
    unsigned long pending = 0;

    if (!spin->blocked)
        return false;
    spin->blocked = false;
    syscall(SYS_rt_sigpending, &pending, sizeof(pending));
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &spin->mask, NULL,
            sizeof(spin->mask));
    return (pending & ~spin->mask) != 0;
}

const sigset_t *spin_mask(const struct spin *spin, const sigset_t *own)
{
    return own != NULL || !spin->blocked ? own
                                         : (const sigset_t *)&spin->mask;
}

bool spin_begin(struct spin *spin, struct waiter *waiter, uint64_t limit_ns)
{
    uint64_t now, budget = waiter->budget_ns;

    spin->counted = false;
    spin->rounds = 0;
    spin->began_ns = 0;
    spin->blocked = false;
    if (limit_ns == 0)
        return false;
    block_signals(spin);
    if (budget > limit_ns)
        budget = limit_ns;
    /* One CPU less than we have; with one CPU one thread may look, too: the
     * peer may well run on another (here tells). */
    if (atomic_fetch_add(&process.spinners, 1) + 1 < (int)process.cpus ||
        atomic_load(&process.spinners) == 1)
        spin->counted = true;
    else
        atomic_fetch_sub(&process.spinners, 1);
    now = clock_ns();
    spin->began_ns = now;
    spin->pause_until_ns = spin->counted ? now + PAUSE_NS : 0;
    spin->until_ns = now + budget;
    spin->looked_ns = now;
    return true;
}

bool spin_round(struct spin *spin, bool here)
{
    spin->rounds++;
    if (!spin->counted || here) {
        /* The peer needs this very CPU, or somebody else does. */
        sched_yield();
        if (spin->rounds >= YIELDS_ON_ONE_CPU)
            return false;
        return clock_ns() < spin->until_ns;
    }
    if (spin->pause_until_ns != 0) {
        cpu_pause();
        if (spin->rounds % 8 != 0)
            return true;
        spin->looked_ns = clock_ns();
        if (spin->looked_ns >= spin->pause_until_ns)
            spin->pause_until_ns = 0;
        return spin->looked_ns < spin->until_ns;
    }
    sched_yield();
    spin->looked_ns = clock_ns();
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
    if (spin->counted)
        atomic_fetch_sub(&process.spinners, 1);
    spin->counted = false;
    if (hit)
        set_budget(waiter, limit_ns, true);
    stats_count(hit ? STATS_SPIN_HIT : STATS_SPIN_MISSED);
}

void spin_slept(const struct spin *spin, struct waiter *waiter,
                uint64_t limit_ns)
{
    if (limit_ns != 0)
        set_budget(waiter, limit_ns,
                   clock_ns() - spin->began_ns < 2 * limit_ns);
}
