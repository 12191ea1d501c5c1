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
#include <sys/eventfd.h>
#include <time.h>

#include "preload/epoll_private.h"
#include "preload/held_signals.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { KERNEL_LOOK_NS = 10000, ROUSE_LOOKS = 5000 /* of 50 us */ };

/* ---- who is in whom; under the registry lock ---- */

/* Readable for ever: whoever sleeps where this is wakes up. */
static int rouser = -1;

/* Set lock held. */
static void end_rousing(struct epoll_set *set)
{
    set->stale = 0;
    if (!atomic_load(&set->rouses))
        return;
    epoll_kernel_ctl(set, EPOLL_CTL_DEL, rouser, 0, (epoll_data_t){0});
    atomic_store(&set->rouses, false);
}

void epoll_rouse_nobody(struct epoll_set *set)
{
    lock_enter(&set->lock);
    end_rousing(set);
    lock_leave(&set->lock);
}

static void take_out(struct epoll_set *outer, const struct epoll_set *inner)
{
    for (unsigned i = 0; i < atomic_load(&outer->n_inner); i++)
        if (outer->inner[i] == inner) {
            outer->inner[i] = outer->inner[outer->n_inner - 1];
            if (atomic_fetch_sub(&outer->n_inner, 1) == 1)
                epoll_rouse_nobody(outer); /* nothing to know of */
            return;
        }
}

/* Registry and set locks held. False: they do not wake. */
static bool rouse(struct epoll_set *set)
{
    epoll_data_t cookie = {.ptr = (void *)&epoll_rouse_cookie};

    set->stale = atomic_load(&set->sleepers);
    if (set->stale == 0)
        end_rousing(set);
    if (atomic_load(&set->rouses) || set->stale == 0)
        return true;
    atomic_store(&set->object.plain, false);
    if (rouser < 0)
        rouser = ours_keep((int)syscall(SYS_eventfd2, 1, EFD_CLOEXEC));
    atomic_store(&set->rouses, true); /* before anybody can see it */
    if (epoll_kernel_ctl(set, EPOLL_CTL_ADD, rouser, EPOLLIN, cookie) == 0)
        return true;
    atomic_store(&set->rouses, false);
    return false;
}

/* Those who did not know wake up one after the other. */
void epoll_roused(struct epoll_set *set, uint32_t nestings)
{
    if (set->stale > 0 && nestings != atomic_load(&set->nestings))
        set->stale--;
    /* One that was just leaving a plain set had been counted as one of them. */
    if (set->stale > atomic_load(&set->sleepers))
        set->stale = atomic_load(&set->sleepers);
    if (set->stale == 0)
        end_rousing(set);
}

void epoll_nest_forked(void)
{
    rouser = -1;
}

/* False: it cannot be seen from there. */
static bool put_in(struct epoll_set *outer, struct epoll_set *inner)
{
    unsigned n = atomic_load(&outer->n_inner);
    struct epoll_set **grown;
    bool roused;

    if (atomic_load(&inner->alone) ||
        (atomic_load(&inner->inside) & SET_CLOSED))
        return true;
    if (atomic_load(&outer->alone) || outer->inherited || n == WATCHED_MOST)
        return false;
    grown = realloc(outer->inner, (n + 1) * sizeof(struct epoll_set *));
    if (grown == NULL)
        return false;
    outer->inner = grown;
    grown[n] = inner;
    atomic_store(&outer->object.plain, false);
    lock_enter(&outer->lock);
    atomic_fetch_add(&outer->nestings, 1);
    atomic_store(&outer->n_inner, n + 1);
    roused = rouse(outer);
    lock_leave(&outer->lock);
    return roused;
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
                if (open && !inner->inherited && !atomic_load(&inner->alone))
                    epoll_kernel_ctl(o, EPOLL_CTL_DEL, inner->epfd, 0, none);
            }
}

/* ---- what the set's bell has to say ---- */

static uint64_t news_of(const struct epoll_reg *reg)
{
    struct stream *s = &reg->endpoint->stream;

    return 1 + stream_news_pinned(s) + atomic_load(&s->refused) +
           ((uint64_t)atomic_load(&s->told) << 32);
}

bool epoll_is_fresh(const struct epoll_reg *reg)
{
    return reg->news_rung != news_of(reg);
}

/*
 * Is there something for an epoll_wait on it, and is there news? If it is told
 * here, it is not news any more.
 */
static bool has_events(struct epoll_set *set, bool tell, bool *news)
{
    bool ready, again;

    *news = false;
    if (atomic_load(&set->n_managed) == 0)
        return false;
    do {
        epoll_lock_to_look(set);
        ready = false;
        for (unsigned i = 0; i < set->n_hot; i++) {
            struct epoll_reg *reg = set->hot[i];
            uint64_t now = news_of(reg); /* before the look */

            if (epoll_events_of(reg, true) == 0)
                continue;
            ready = true;
            *news |= reg->news_rung != now;
            if (tell)
                reg->news_rung = now;
        }
        again = !ready && set->contended;
        lock_leave(&set->lock);
        if (again)
            sched_yield();
    } while (again);
    return ready;
}

void epoll_untell(struct epoll_set *set)
{
    if (atomic_load(&set->watchers) > 0)
        for (unsigned i = 0; i < set->n_hot; i++)
            set->hot[i]->news_rung = 0;
}

static bool is_rung(const struct waiter *waiter)
{
    char c;

    return kernel_recv(waiter->bell, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* The rings were for nothing that is still there. */
static void quieten(struct epoll_set *set)
{
    struct waiter *waiter = set->waiter;

    if (waiter == NULL)
        return; /* a handler forked meanwhile: in the child */
    lock_enter(&set->lock);
    bell_drain(waiter->bell);
    epoll_untell(set);
    epoll_arm_sleepers(set);
    for (unsigned i = 0; i < set->n_hot; i++)
        epoll_want_room(set->hot[i]);
    lock_leave(&set->lock);
    if (set->wake_fd >= 0)
        epoll_hear_devices(set);
    full_fence();
}

/*
 * Who asked for edges of the set has one when there is news, and not before. A
 * bell that is full does not ring: it is emptied first.
 */
static void settle(struct epoll_set *set)
{
    struct waiter *waiter = set->waiter; /* none in the child of a fork */
    bool news;

    if (!atomic_load(&set->bell_in) || waiter == NULL)
        return;
    if (!has_events(set, true, &news)) {
        quieten(set);
        if (!has_events(set, true, &news))
            return;
    }
    if (news)
        bell_drain(waiter->bell);
    if (news || !is_rung(waiter))
        waiter_ring(waiter->id);
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
 * Registry lock held. Those in the outer one and, from `first` on, in those of
 * the list, which grows meanwhile. Returns one for which there is no place.
 */
static struct epoll_set *gather(struct epoll_watch *w, struct epoll_set *outer,
                                unsigned first)
{
    while (outer != NULL) {
        for (unsigned i = 0; i < atomic_load(&outer->n_inner); i++) {
            struct epoll_set *inner = outer->inner[i];

            if (atomic_load(&inner->alone) || have(w, inner))
                continue;
            if (w->n == WATCHED_MOST)
                return inner;
            if (!epoll_set_enter(inner))
                continue; /* it is just being closed */
            epoll_set_is_watched(inner);
            w->nestings += atomic_load(&inner->nestings);
            w->set[w->n++] = inner;
        }
        outer = first < w->n ? w->set[first++] : NULL;
    }
    return NULL;
}

/* What is left out goes to the kernel, and then the next one, if there is. */
void epoll_watch_add(struct epoll_watch *w, struct epoll_set *set, bool itself)
{
    struct epoll_set *left_out = NULL;
    unsigned first = w->n;

    if (have(w, set) || (itself && atomic_load(&set->alone)))
        return; /* whoever is alone has only such sets in it */
    if (itself && w->n == WATCHED_MOST) {
        epoll_set_to_kernel(set);
        return;
    }
    if (itself && !epoll_set_enter(set))
        return;
    if (itself && !atomic_load(&set->watched)) {
        epoll_registry_lock();
        epoll_set_is_watched(set);
        epoll_registry_unlock();
    }
    w->nestings += atomic_load(&set->nestings);
    if (itself)
        w->set[w->n++] = set;
    while (left_out != NULL || atomic_load(&set->n_inner) != 0) {
        if (left_out != NULL)
            epoll_set_to_kernel(left_out);
        epoll_registry_lock();
        left_out = gather(w, set, first);
        epoll_registry_unlock();
        if (left_out == NULL)
            break;
    }
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

bool epoll_watch_has_news(const struct epoll_watch *w)
{
    bool news = false;

    for (unsigned i = 0; i < w->n && !news; i++)
        has_events(w->set[i], false, &news);
    return news;
}

bool epoll_watch_is_plain(const struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        if (!atomic_load(&w->set[i]->object.plain))
            return false;
    return true;
}

void epoll_watch_sleep(const struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        epoll_sleeps(w->set[i], false);
}

void epoll_watch_awake(const struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        epoll_woke(w->set[i]);
}

/*
 * What wakes those who do not know of a set in this one would be seen from
 * outside: nobody looks before they are awake. But one that has left its sleep
 * by a jump never comes, and one whose handler runs may take its time: then the
 * set is the kernel's, of which nobody has to know.
 */
static void let_others_wake(struct epoll_set *set)
{
    static const struct timespec t = {0, 50000};

    for (int looks = 0; atomic_load(&set->rouses); looks++) {
        if (looks >= ROUSE_LOOKS || epoll_is_stale_here(set)) {
            epoll_set_to_kernel(set);
            epoll_rouse_nobody(set); /* also if another thread was at it */
        }
        nanosleep(&t, NULL);
    }
}

void epoll_watch_let_wake(const struct epoll_watch *w)
{
    for (unsigned i = 0; i < w->n; i++)
        let_others_wake(w->set[i]);
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

/*
 * The kernel's part first: it is where the inner sets are. Every other time it
 * leaves a place for a stream of the set itself.
 */
static int look(struct epoll_set *set, const struct epoll_watch *w,
                struct epoll_event *events, int max)
{
    uint32_t since = atomic_load(&set->object.takeovers);
    int places = max, n = 0, more;
    bool news;

    if (set->turns++ % 2 != 0 && has_events(set, false, &news))
        places--;
    let_others_wake(set);
    epoll_watch_let_wake(w);
    epoll_watch_settle(w);
    if (places > 0)
        n = epoll_ask_kernel(set, events, places);
    if (n < 0 || n == max)
        return n;
    more = epoll_collect(set, events + n, max - n, n > 0 ? &since : NULL);
    return n + more;
}

static int kernel_has(struct epoll_set *set, const struct timespec *wait,
                      const sigset_t *mask)
{
    struct pollfd p = {.fd = set->epfd, .events = POLLIN};
    int rc = REAL(ppoll)(&p, 1, wait, mask);

    return rc < 0 ? -errno : rc;
}

static bool spin(struct epoll_set *set, const struct epoll_watch *w,
                 struct spin *s, uint64_t limit)
{
    static const struct timespec none;
    struct waiter *waiter = set->waiter;
    uint64_t kernel_ns;
    bool hit = false, news;

    for (unsigned i = 0; i < w->n && waiter == NULL; i++)
        waiter = w->set[i]->waiter;
    s->began_ns = 0;
    if (limit == 0 || waiter == NULL || !spin_begin(s, waiter, limit))
        return false;
    kernel_ns = s->looked_ns;
    do {
        hit = epoll_watch_has_news(w) || has_events(set, false, &news);
        if (!hit && s->looked_ns - kernel_ns >= KERNEL_LOOK_NS) {
            kernel_ns = s->looked_ns;
            hit = kernel_has(set, &none, NULL) > 0;
        }
    } while (!hit && spin_round(s, false));
    spin_end(s, waiter, limit, hit);
    return hit;
}

/*
 * In poll: it takes no event that would then have to be looked at again. What
 * of the bells matters there, edges being edges, the kernel knows.
 */
static int doze(struct epoll_set *set, const struct epoll_watch *w,
                uint64_t until_ns, const sigset_t *mask)
{
    pid_t pid = process.pid;
    struct timespec t;
    bool news;
    int rc = 0;

    epoll_watch_sleep(w);
    epoll_sleeps(set, true);
    epoll_watch_settle(w);
    if (epoll_watch_is_whole(w, set) && !has_events(set, false, &news)) {
        stats_count(STATS_SLEEP);
        rc = kernel_has(set, clock_left(until_ns, &t), mask);
    }
    if (process.pid != pid)
        return rc; /* a handler forked: nobody is counted in the child */
    if (atomic_load(&set->bell_in))
        quieten(set);
    epoll_woke(set);
    epoll_watch_awake(w);
    return rc;
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
        signals_hold(held); /* one before the next look would be lost */
        if (!spin(set, &w, &s, limit)) {
            n = doze(set, &w, until_ns, signals_mask(held, mask));
            if (process.pid != pid)
                return n < 0 ? n : 0;
            if (s.began_ns != 0)
                spin_slept(&s, s.waiter, limit);
        }
        if (n >= 0)
            n = look(set, &w, events, max);
    }
    epoll_watch_end(&w);
    return n;
}
