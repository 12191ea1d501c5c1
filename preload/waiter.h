/*
 * Waiters: threads and epoll sets that may sleep, each with an id and a bell.
 *
 * Sleeping loses no wake-up: waiter_will_sleep(), arm at the peers, full
 * fence, look once more; only then sleep on the bell. Whoever has news stores
 * them, makes a full fence, and takes `asleep` (or the peer's armed word)
 * before it rings.
 */
#ifndef PRELOAD_WAITER_H
#define PRELOAD_WAITER_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct waiter {
    alignas(64) _Atomic uint32_t asleep;
    _Atomic uint32_t busy; /* waiting for something: keep its id watched */
    unsigned id;
    int bell;
    _Atomic bool of_thread;
    uint32_t budget_ns;           /* of its next spin; adapts */
    _Atomic uint64_t no_yield_ns; /* until then a yield is too dear */
    _Atomic uint8_t dear_yields;  /* of the last eight: a bit each */
    _Atomic bool rare;            /* the last sleep without spin was long */
};

/* Once, before the first thread asks for its own. 0 or a negative errno. */
int waiters_start(void);
/* NULL when there are no ids or descriptors left. */
struct waiter *waiter_create(bool of_thread);
void waiter_destroy(struct waiter *waiter);
/*
 * The calling thread's own; NULL as above. Also in a signal handler, wherever
 * it has interrupted its thread.
 */
struct waiter *waiter_self(void);
/*
 * Around each call of a thread's that waits, from before it asks to be watched
 * for: who is not in one may lose its place to another (endpoint_watch()).
 * True: this is a signal handler, in the midst of its thread's own call. What
 * rang there for that call is rung once more at the end of this one; so it is
 * after a call that was left by longjmp(3), in vain.
 */
bool waiter_begin(struct waiter *waiter);
void waiter_end(struct waiter *waiter, bool nested);
/* Is this id a thread that waits for nothing now? */
bool waiter_is_idle(unsigned id);
/* Local news for that waiter. */
void waiter_wake(unsigned id);
/* Ring whatever it does: it may sleep in a plain kernel wait. */
void waiter_ring(unsigned id);
/* In the child of a fork. */
void waiters_forget(void);

/* ---- spinning ---- */

/*
 * A spin is bounded by the waiter's budget, at most the limit. It halves when
 * what was waited for came long after the spin, and grows when the spin was
 * worth it or would have been, had it been longer: two ends that wake each
 * other find back to looking. At most one spinner per CPU but one.
 *
 * After a moment each look is followed by sched_yield(2). Beside a program that
 * computes that may cost a whole slice of the scheduler's (EEVDF moves who
 * yields behind it: milliseconds, where a sleep costs microseconds). When
 * half of them do, there is none for a hundred times as long.
 */
struct spin {
    struct waiter *waiter;
    uint64_t began_ns, until_ns, pause_until_ns, looked_ns;
    unsigned rounds;
    bool counted;
};

/*
 * The first looks, before what costs a system call: as long as spin_glance()
 * says so. They are a few; with a limit of 0 they are all there are, and take
 * as long as a ring of ours does (bell_ring_ns), 3 to 12 us: less than the
 * sleep and the wake-up that they save if they find something. None if the
 * peer is `here`; with a limit of 0 none after a sleep of half a millisecond
 * and more, either: who waits for what comes rarely sleeps at once.
 */
void spin_first(struct spin *spin, struct waiter *waiter, uint64_t limit_ns,
                bool here);
bool spin_glance(struct spin *spin);

/* False: no spin. Hold the signals before (held_signals.h). */
bool spin_begin(struct spin *spin, struct waiter *waiter, uint64_t limit_ns);
/* Wait a little; `here`: the peer runs on this CPU. False: time to sleep. */
bool spin_round(struct spin *spin, bool here);
void spin_end(struct spin *spin, struct waiter *waiter, uint64_t limit_ns,
              bool hit);
/* After the sleep that followed a spin without a hit (began_ns is not 0). */
void spin_slept(const struct spin *spin, struct waiter *waiter,
                uint64_t limit_ns);

#endif
