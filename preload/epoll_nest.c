/*
 * See epoll_set.h: sets that are waited for in another set, in poll or select.
 *
 * The kernel finds such a set ready when one of its own members is, and the
 * set's bell is one. So who looks at it makes the bell say what its streams
 * say (settle()), and who sleeps is counted as one that sleeps in the set.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>

#include "preload/epoll_private.h"
#include "preload/held_signals.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { KERNEL_LOOK_NS = 10000, RINGS_PER_SLEEPER = 8 };

/* ---- who is in whom; under the registry lock ---- */

static void take_out(struct epoll_set *outer, const struct epoll_set *inner)
{
    for (unsigned i = 0; i < atomic_load(&outer->n_inner); i++)
        if (outer->inner[i] == inner) {
            outer->inner[i] = outer->inner[outer->n_inner - 1];
            atomic_fetch_sub(&outer->n_inner, 1);
            return;
        }
}

/*
 * False: it cannot be seen from there. Who sleeps in the outer one already is
 * not counted in the inner one: a ring wakes them all, one after the other.
 */
static bool put_in(struct epoll_set *outer, struct epoll_set *inner)
{
    unsigned n = atomic_load(&outer->n_inner);
    struct epoll_set **grown;
    bool rouse, done = false;

    if (atomic_load(&inner->alone))
        return true;
    if (atomic_load(&outer->alone) || n == WATCHED_MOST)
        return false;
    grown = realloc(outer->inner, (n + 1) * sizeof(struct epoll_set *));
    if (grown == NULL)
        return false;
    outer->inner = grown;
    grown[n] = inner;
    atomic_store(&outer->object.plain, false);
    lock_enter(&outer->lock);
    rouse = atomic_load(&outer->sleepers) > 0;
    if (!rouse || epoll_put_bell_in(outer)) {
        atomic_fetch_add(&outer->nestings, 1);
        atomic_store(&outer->n_inner, n + 1);
        outer->stale = atomic_load(&outer->sleepers);
        outer->rings = RINGS_PER_SLEEPER * outer->stale;
        done = true;
    }
    lock_leave(&outer->lock);
    if (done && rouse)
        waiter_ring(outer->waiter->id);
    return done;
}

/* A thread that left its sleep by a jump is counted for ever: not for ever. */
bool epoll_wakes_next(struct epoll_set *set, uint32_t nestings)
{
    if (set->stale > 0 && nestings != atomic_load(&set->nestings))
        set->stale--;
    if (set->stale > 0 && --set->rings <= 0)
        set->stale = 0;
    return set->stale > 0;
}

int epoll_set_ctl_set(struct epoll_set *outer, int op, int fd,
                      struct epoll_set *inner, struct epoll_event *event)
{
    bool seen = true;
    int rc = 0;

    epoll_registry_lock();
    if (syscall(SYS_epoll_ctl, outer->epfd, op, fd, event) < 0)
        rc = -errno;
    if (rc == 0 && op == EPOLL_CTL_ADD)
        seen = put_in(outer, inner);
    if (rc == 0 && op == EPOLL_CTL_DEL)
        take_out(outer, inner);
    epoll_registry_unlock();
    if (!seen)
        epoll_set_to_kernel(inner);
    return rc;
}

void epoll_nest_forget(struct epoll_set *inner, bool open)
{
    epoll_data_t none = {0};

    for (struct epoll_set *o = epoll_all_sets; o != NULL; o = o->next)
        for (unsigned i = 0; i < atomic_load(&o->n_inner); i++)
            if (o->inner[i] == inner) {
                take_out(o, inner);
                /* Those inside will have it open a while longer. */
                if (open && atomic_load(&inner->inside) > 0 &&
                    !inner->inherited)
                    epoll_kernel_ctl(o, EPOLL_CTL_DEL, inner->epfd, 0, none);
            }
}

/* ---- what the set's bell has to say ---- */

/* Is something there for an epoll_wait on it? And which news it is. */
static bool has_events(struct epoll_set *set, uint64_t *news)
{
    bool ready, again;

    if (atomic_load(&set->n_managed) == 0)
        return false;
    do {
        lock_enter(&set->lock);
        if (set->n_hot < atomic_load(&set->n_managed) && epoll_is_marked(set)) {
            lock_leave(&set->lock);
            epoll_warm_up(set);
            lock_enter(&set->lock);
        }
        set->contended = ready = false;
        *news = 0;
        for (unsigned i = 0; i < set->n_hot; i++) {
            struct stream *s = &set->hot[i]->endpoint->stream;
            uint64_t of = stream_news_pinned(s) + atomic_load(&s->refused) +
                          atomic_load(&s->told);

            if (epoll_events_of(set->hot[i], true) == 0)
                continue;
            ready = true;
            *news += of + 1;
        }
        again = !ready && set->contended;
        lock_leave(&set->lock);
        if (again)
            sched_yield();
    } while (again);
    return ready;
}

static bool is_rung(const struct epoll_set *set)
{
    char c;

    return kernel_recv(set->waiter->bell, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* The rings were for nothing that is still there. */
static void quieten(struct epoll_set *set)
{
    lock_enter(&set->lock);
    bell_drain(set->waiter->bell);
    epoll_arm_sleepers(set);
    for (unsigned i = 0; i < set->n_hot; i++)
        epoll_want_room(set->hot[i]);
    lock_leave(&set->lock);
    if (set->wake_fd >= 0)
        epoll_hear_devices(set);
    full_fence();
}

/* Who asked for edges of the set has one when there is news, and not before. */
static void settle(struct epoll_set *set)
{
    uint64_t news;

    if (!atomic_load(&set->bell_in))
        return;
    if (!has_events(set, &news)) {
        quieten(set);
        if (!has_events(set, &news))
            return;
    }
    if (news != set->news_rung || !is_rung(set))
        waiter_ring(set->waiter->id);
    set->news_rung = news;
}

/* ---- watching several ---- */

static bool have(const struct epoll_watch *w, const struct epoll_set *set)
{
    for (unsigned i = 0; i < w->n; i++)
        if (w->set[i] == set)
            return true;
    return false;
}

/*
 * Registry lock held; outer is in the list, or waited in. Returns one for which
 * there is no place, or NULL.
 */
static struct epoll_set *gather(struct epoll_watch *w, struct epoll_set *outer)
{
    struct epoll_set *left_out = NULL;

    w->nestings += atomic_load(&outer->nestings);
    for (unsigned i = 0; i < atomic_load(&outer->n_inner); i++) {
        struct epoll_set *inner = outer->inner[i];

        if (atomic_load(&inner->alone) || have(w, inner))
            continue;
        if (w->n == WATCHED_MOST)
            return inner;
        atomic_fetch_add(&inner->inside, 1); /* it is listed: not closed yet */
        w->set[w->n++] = inner;
        if (left_out == NULL)
            left_out = gather(w, inner);
    }
    return left_out;
}

void epoll_watch_add(struct epoll_watch *w, struct epoll_set *set, bool itself)
{
    struct epoll_set *left_out = NULL;

    if (have(w, set) || atomic_load(&set->alone))
        return; /* whoever is alone has only such sets in it */
    if (itself && w->n < WATCHED_MOST) {
        if (!epoll_set_enter(set))
            return;
        w->set[w->n++] = set;
    } else if (itself) {
        left_out = set;
    }
    epoll_registry_lock();
    if (left_out == NULL)
        left_out = gather(w, set);
    epoll_registry_unlock();
    if (left_out != NULL)
        epoll_set_to_kernel(left_out);
}

void epoll_watch_end(struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        epoll_set_leave(w->set[i]);
    w->n = w->nestings = 0;
}

void epoll_watch_settle(const struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        settle(w->set[i]);
}

bool epoll_watch_has_events(const struct epoll_watch *w)
{
    uint64_t news;

    for (unsigned i = 0; i < w->n; i++)
        if (has_events(w->set[i], &news))
            return true;
    return false;
}

void epoll_watch_sleep(struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        w->slept[i] = epoll_sleeps(w->set[i]);
}

/* What was news while it was armed for has been rung for, or will be. */
void epoll_watch_awake(const struct epoll_watch *w)
{
    uint64_t news;

    for (unsigned i = 0; i < w->n; i++) {
        if (has_events(w->set[i], &news))
            w->set[i]->news_rung = news;
        epoll_woke(w->set[i], w->slept[i]);
    }
}

uint64_t epoll_watch_poll_ns(const struct epoll_watch *w)
{
    uint64_t most = 0;

    for (unsigned i = 0; i < w->n; i++)
        if (atomic_load(&w->set[i]->n_managed) != 0 &&
            w->set[i]->poll_ns > most)
            most = w->set[i]->poll_ns;
    return most;
}

static uint32_t nestings_of(const struct epoll_watch *w,
                            const struct epoll_set *outer)
{
    uint32_t n = outer != NULL ? atomic_load(&outer->nestings) : 0;

    for (unsigned i = 0; i < w->n; i++)
        n += atomic_load(&w->set[i]->nestings);
    return n;
}

bool epoll_watch_is_whole(const struct epoll_watch *w,
                          const struct epoll_set *outer)
{
    return nestings_of(w, outer) == w->nestings;
}

/* ---- a wait in a set with others in it ---- */

/* The kernel's part first: it is where the inner sets are; or in turns. */
static int look(struct epoll_set *set, const struct epoll_watch *w,
                struct epoll_event *events, int max)
{
    uint32_t since;
    int n, more;

    if (set->hits++ % 2 != 0) {
        n = epoll_collect(set, events, max, NULL);
        if (n != 0)
            return n;
    }
    since = atomic_load(&set->object.takeovers);
    epoll_watch_settle(w);
    n = epoll_ask_kernel(set, events, max);
    if (n < 0 || n == max)
        return n;
    more = epoll_collect(set, events + n, max - n, n > 0 ? &since : NULL);
    return n + more;
}

static bool kernel_has(struct epoll_set *set, const struct timespec *wait,
                       const sigset_t *mask, int *error)
{
    struct pollfd p = {.fd = set->epfd, .events = POLLIN};
    int rc = REAL(ppoll)(&p, 1, wait, mask);

    *error = rc < 0 ? -errno : 0;
    return rc > 0;
}

static bool spin(struct epoll_set *set, const struct epoll_watch *w,
                 struct spin *s, uint64_t limit, struct held_signals *held)
{
    static const struct timespec none;
    struct waiter *waiter = set->waiter;
    uint64_t kernel_ns, news;
    bool hit = false;
    int error;

    for (unsigned i = 0; i < w->n && waiter == NULL; i++)
        waiter = w->set[i]->waiter;
    s->began_ns = 0;
    if (limit == 0 || waiter == NULL)
        return false;
    signals_hold(held);
    if (!spin_begin(s, waiter, limit))
        return false;
    kernel_ns = s->looked_ns;
    do {
        hit = epoll_watch_has_events(w) || has_events(set, &news);
        if (!hit && s->looked_ns - kernel_ns >= KERNEL_LOOK_NS) {
            kernel_ns = s->looked_ns;
            hit = kernel_has(set, &none, NULL, &error);
        }
    } while (!hit && spin_round(s, false));
    spin_end(s, waiter, limit, hit);
    return hit;
}

/* In poll: it takes no event that would then have to be looked at again. */
static int doze(struct epoll_set *set, struct epoll_watch *w, uint64_t until_ns,
                const sigset_t *mask)
{
    uint64_t news, now = clock_ns();
    pid_t pid = process.pid;
    uint32_t nestings;
    struct timespec t;
    int error = 0;

    if (until_ns != UINT64_MAX) {
        now = now < until_ns ? until_ns - now : 0;
        t.tv_sec = (time_t)(now / 1000000000u);
        t.tv_nsec = (long)(now % 1000000000u);
    }
    epoll_watch_sleep(w);
    nestings = epoll_sleeps(set);
    if (epoll_watch_is_whole(w, set) && !epoll_watch_has_events(w) &&
        !has_events(set, &news)) {
        stats_count(STATS_SLEEP);
        kernel_has(set, until_ns == UINT64_MAX ? NULL : &t, mask, &error);
    }
    if (process.pid != pid)
        return error; /* a handler forked: nobody is counted in the child */
    if (atomic_load(&set->bell_in))
        quieten(set);
    epoll_woke(set, nestings);
    epoll_watch_awake(w);
    return error;
}

int epoll_wait_over(struct epoll_set *set, struct epoll_event *events, int max,
                    uint64_t until_ns, const sigset_t *mask,
                    struct held_signals *held)
{
    struct epoll_watch w = {.n = 0};
    pid_t pid = process.pid;
    uint64_t limit;
    struct spin s;
    int n;

    epoll_watch_add(&w, set, false);
    limit = epoll_watch_poll_ns(&w);
    if (atomic_load(&set->n_managed) != 0 && set->poll_ns > limit)
        limit = set->poll_ns;
    n = look(set, &w, events, max);
    if (n == 0 && until_ns > 1) {
        if (!spin(set, &w, &s, limit, held)) {
            n = doze(set, &w, until_ns, signals_mask(held, mask));
            if (process.pid != pid)
                return n;
            if (s.began_ns != 0)
                spin_slept(&s, s.waiter, limit);
        }
        if (n == 0)
            n = look(set, &w, events, max);
    }
    epoll_watch_end(&w);
    return n;
}
