/*
 * See poll_wait.h.
 *
 * While all streams are bare, this is one kernel call inside their `bare`
 * marks. With managed streams it looks at them itself, at the others through
 * the kernel, climbs down the same ladder as a read, and sleeps in the kernel
 * on a copy of the array: managed streams are replaced by their socket while
 * bytes may still come by TCP, or by nothing, and the bell is added. Epoll sets
 * are the kernel's, which sees their bells (epoll_nest.c).
 */
#include "preload/poll_wait.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "preload/endpoint.h"
#include "preload/epoll_private.h"
#include "preload/held_signals.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/scratch.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/bell.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    SMALL = 64,
    EXTRA = 2,         /* the bell, and what devices wake by */
    CLOSE_LOOKS = 2000 /* at a number that is being closed: 0.1 s */
};

struct poll_work {
    struct pollfd *fds; /* the application's */
    nfds_t n;
    struct pollfd *copy;        /* n + EXTRA */
    struct endpoint **endpoint; /* NULL: the kernel's */
    struct peer **peer;         /* armed, with a reference */
    bool *bare;
    unsigned managed;
    struct epoll_watch sets;
    uint64_t poll_ns;
    bool unsettled;        /* one could not be written to as it moves */
    struct waiter *waiter; /* which has begun, or NULL */
    bool nested;           /* see waiter_begin() */
    struct held_signals held;
};

bool poll_has_endpoints(struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        struct object *o = fds[i].fd < 0 ? NULL : fd_find(fds[i].fd);

        if (o != NULL && o->kind != OBJECT_OURS)
            return true;
    }
    return false;
}

static struct endpoint *connected_at(int fd)
{
    struct endpoint *e = fd < 0 ? NULL : fd_endpoint(fd);

    return e != NULL && e->state == ENDPOINT_CONNECTED ? e : NULL;
}

static struct epoll_set *set_at(int fd)
{
    struct object *o = fd < 0 ? NULL : fd_find(fd);

    return o != NULL && o->kind == OBJECT_EPOLL ? (struct epoll_set *)o : NULL;
}

/* Marks bare streams and counts the managed ones. */
static void enter(struct poll_work *w)
{
    uint64_t of_sets;

    w->managed = 0;
    w->unsettled = false;
    w->poll_ns = 0;
    for (nfds_t i = 0; i < w->n; i++) {
        struct endpoint *e = connected_at(w->fds[i].fd);
        struct epoll_set *set = set_at(w->fds[i].fd);

        w->endpoint[i] = e;
        w->peer[i] = NULL;
        w->bare[i] = false;
        if (set != NULL)
            epoll_watch_add(&w->sets, set, true);
        if (e == NULL)
            continue;
        if (stream_bare_enter(&e->stream)) {
            w->bare[i] = true;
            continue;
        }
        w->managed++;
        if (e->settings.poll_usec * 1000 > w->poll_ns)
            w->poll_ns = e->settings.poll_usec * 1000;
    }
    of_sets = epoll_watch_poll_ns(&w->sets);
    if (of_sets > w->poll_ns)
        w->poll_ns = of_sets;
}

static void leave(struct poll_work *w)
{
    int saved = errno;

    for (nfds_t i = 0; i < w->n; i++)
        if (w->bare[i]) {
            stream_bare_leave(&w->endpoint[i]->stream);
            w->bare[i] = false;
        }
    epoll_watch_end(&w->sets);
    errno = saved;
}

/*
 * Does a number stand for something else by now (dup2)? The kernel looks the
 * numbers up again when it wakes, and does not tell of what was there before;
 * and what it tells of a stream that is managed is not for the application.
 */
static bool have_changed(const struct poll_work *w)
{
    for (nfds_t i = 0; i < w->n; i++)
        if (connected_at(w->fds[i].fd) != w->endpoint[i])
            return true;
    return false;
}

/*
 * A number that is being closed is not ours any more, and for a moment still
 * the kernel's: what it would tell of that socket are our records.
 */
static void let_them_close(const struct poll_work *w)
{
    static const struct timespec t = {0, 50000};

    for (nfds_t i = 0; i < w->n; i++) {
        struct endpoint *e = w->endpoint[i];
        int fd = w->fds[i].fd;

        if (e == NULL || fd_find(fd) != NULL)
            continue;
        for (int k = 0; k < CLOSE_LOOKS && fd_is_same(fd, e->stream.fd); k++)
            nanosleep(&t, NULL);
    }
}

/* revents of the managed streams. Returns how many have any. */
static int look(struct poll_work *w)
{
    uint64_t hold_ns = process.settings.handover_hold_usec * 1000;
    int ready = 0;

    w->unsettled = false;
    for (nfds_t i = 0; i < w->n; i++) {
        struct endpoint *e = w->endpoint[i];
        bool settles;

        if (e == NULL || w->bare[i])
            continue;
        settles = (w->fds[i].events & WRITABLE) && !stream_is_up(&e->stream) &&
                  !stream_in_handler(&e->stream) &&
                  stream_settles(&e->stream, hold_ns);
        w->fds[i].revents =
            stream_ready(&e->stream) & (w->fds[i].events | POLLERR | POLLHUP);
        ready += w->fds[i].revents != 0;
        w->unsettled |= settles && w->fds[i].revents == 0;
    }
    return ready;
}

/* The rest, in the kernel. Adds their revents; returns the count or -errno. */
static int look_kernel(struct poll_work *w, nfds_t extra,
                       const struct timespec *wait, const sigset_t *mask)
{
    int ready = 0;

    if (REAL(ppoll)(w->copy, w->n + extra, wait, mask) < 0)
        return -errno;
    for (nfds_t i = 0; i < w->n; i++) {
        if (w->endpoint[i] != NULL && !w->bare[i])
            continue;
        w->fds[i].revents = w->copy[i].revents;
        ready += w->fds[i].revents != 0;
    }
    return ready;
}

static void make_copy(struct poll_work *w)
{
    for (nfds_t i = 0; i < w->n; i++) {
        w->copy[i] = w->fds[i];
        w->copy[i].revents = 0;
        if (w->endpoint[i] != NULL && !w->bare[i])
            w->copy[i].fd = -1;
    }
}

static int look_at_all(struct poll_work *w)
{
    static const struct timespec none;
    int ready = look(w), rc;

    if (w->managed == w->n)
        return ready;
    epoll_watch_let_wake(&w->sets);
    epoll_watch_settle(&w->sets);
    rc = look_kernel(w, 0, &none, NULL);
    return rc < 0 ? rc : ready + rc;
}

/* The peer of the first managed stream. */
static bool peer_is_here(const struct poll_work *w)
{
    for (nfds_t i = 0; i < w->n; i++)
        if (w->endpoint[i] != NULL && !w->bare[i])
            return endpoint_peer_is_here(w->endpoint[i]);
    return false;
}

static bool spin(struct poll_work *w, struct waiter *waiter, struct spin *s)
{
    bool here = peer_is_here(w), hit = false;
    uint64_t kernel_ns;

    spin_first(s, waiter, w->poll_ns, here);
    while (spin_glance(s))
        if (look(w) > 0)
            return true;
    if (w->poll_ns == 0)
        return false;
    signals_hold(&w->held);
    if (!spin_begin(s, waiter, w->poll_ns))
        return false;
    kernel_ns = s->looked_ns;
    do {
        hit = look(w) > 0 || epoll_watch_has_news(&w->sets);
        if (!hit && w->managed < w->n && s->looked_ns - kernel_ns >= 10000) {
            kernel_ns = s->looked_ns;
            hit = look_at_all(w) != 0;
        }
    } while (!hit && spin_round(s, here));
    spin_end(s, waiter, w->poll_ns, hit);
    return hit;
}

/* One descriptor stands for all devices of all peers of a backend. */
static void arm(struct poll_work *w, struct waiter *waiter)
{
    struct pollfd *wake = &w->copy[w->n + 1];

    w->copy[w->n] = (struct pollfd){.fd = waiter->bell, .events = POLLIN};
    *wake = (struct pollfd){.fd = -1, .events = POLLIN};
    atomic_store(&waiter->asleep, 1);
    for (nfds_t i = 0; i < w->n; i++) {
        struct endpoint *e = w->endpoint[i];
        short tcp;

        if (e == NULL || w->bare[i])
            continue;
        tcp = stream_wait_for(&e->stream, w->fds[i].events, waiter->id,
                              &w->peer[i]);
        if (tcp != 0) {
            w->copy[i].fd = e->stream.fd;
            w->copy[i].events = tcp;
        }
        if (w->peer[i] != NULL && wake->fd < 0)
            wake->fd = peer_wake_fd(w->peer[i]);
    }
    full_fence();
}

static void disarm(struct poll_work *w, struct waiter *waiter)
{
    atomic_store(&waiter->asleep, 0);
    for (nfds_t i = 0; i < w->n; i++)
        if (w->peer[i] != NULL) {
            peer_ops(w->peer[i])->peer_arm(w->peer[i], waiter->id, false);
            peer_ops(w->peer[i])->peer_put(w->peer[i]);
            w->peer[i] = NULL;
        }
    bell_drain(waiter->bell);
}

static bool watch_all(struct poll_work *w, struct waiter *waiter)
{
    for (nfds_t i = 0; i < w->n; i++)
        if (w->endpoint[i] != NULL && !w->bare[i] &&
            !endpoint_watch_here(w->endpoint[i], waiter->id)) {
            endpoint_banish(w->endpoint[i], REASON_LIMIT);
            return false;
        }
    return true;
}

/*
 * Sets, and perhaps bare streams: the kernel sees it all, once the bells of
 * the sets say what their streams do. 0: nothing yet, ask again.
 */
static int wait_sets(struct poll_work *w, uint64_t until, const sigset_t *mask)
{
    bool plain = epoll_watch_is_plain(&w->sets);
    pid_t pid = process.pid;
    struct timespec t;
    int rc;

    make_copy(w);
    if (!plain) {
        rc = look_at_all(w);
        if (rc != 0 || until <= 1)
            return rc;
        signals_hold(&w->held); /* one before the next look would be lost */
    }
    epoll_watch_sleep(&w->sets);
    epoll_watch_settle(&w->sets);
    if (!epoll_watch_is_whole(&w->sets, NULL))
        rc = 0;
    else
        rc = look_kernel(w, 0, clock_left(until, &t),
                         signals_mask(&w->held, mask));
    if (process.pid != pid)
        return rc;
    epoll_watch_awake(&w->sets);
    if (rc < 0 || (plain && epoll_watch_is_plain(&w->sets)))
        return rc;
    make_copy(w);
    return look_at_all(w);
}

/* There is no way to wait for them here: they are the kernel's from now on. */
static void all_to_kernel(struct poll_work *w)
{
    for (nfds_t i = 0; i < w->n; i++)
        if (w->endpoint[i] != NULL && !w->bare[i])
            endpoint_banish(w->endpoint[i], REASON_LIMIT);
    for (unsigned i = 0; i < w->sets.n; i++)
        epoll_set_to_kernel(w->sets.set[i]);
}

/* At least one managed stream. 0: nothing yet, ask again. */
static int wait_managed(struct poll_work *w, uint64_t until,
                        const sigset_t *mask)
{
    struct waiter *waiter = waiter_self();
    struct timespec t;
    struct spin s = {.began_ns = 0};
    int rc;

    make_copy(w);
    rc = look_at_all(w);
    if (rc != 0 || until <= 1)
        return rc;
    if (waiter == NULL) {
        all_to_kernel(w);
        return 0;
    }
    if (w->waiter != waiter) {
        w->nested = waiter_begin(waiter);
        w->waiter = waiter;
    }
    if (watch_all(w, waiter) && !spin(w, waiter, &s)) {
        pid_t pid = process.pid;

        if (w->sets.n > 0)
            signals_hold(&w->held); /* one before the next look would be lost */
        epoll_watch_sleep(&w->sets);
        arm(w, waiter);
        epoll_watch_settle(&w->sets);
        if (look(w) == 0 && epoll_watch_is_whole(&w->sets, NULL)) {
            stats_count(STATS_SLEEP);
            rc = look_kernel(w, EXTRA, clock_left(until, &t),
                             signals_mask(&w->held, mask));
        }
        disarm(w, waiter);
        if (process.pid == pid)
            epoll_watch_awake(&w->sets);
        if (s.began_ns != 0)
            spin_slept(&s, waiter, w->poll_ns);
    }
    if (rc == -EINVAL) { /* with ours they are more than it may have open */
        all_to_kernel(w);
        return 0;
    }
    if (rc < 0)
        return rc;
    make_copy(w);
    return look_at_all(w);
}

static int wait_bare(struct poll_work *w, uint64_t until, const sigset_t *mask)
{
    uint64_t spin_ns = process.settings.poll_kernel_usec * 1000;
    static const struct timespec none;
    struct timespec t;
    int rc;

    if (spin_ns != 0 && until > 1) {
        uint64_t stop = clock_ns() + spin_ns;

        signals_hold(&w->held);
        do
            rc = REAL(ppoll)(w->fds, w->n, &none, NULL);
        while (rc == 0 && clock_ns() < stop && clock_ns() < until);
        if (rc != 0)
            return rc < 0 ? -errno : rc;
    }
    rc = REAL(ppoll)(w->fds, w->n, clock_left(until, &t),
                     signals_mask(&w->held, mask));
    return rc < 0 ? -errno : rc;
}

/*
 * The time is over, or there was none, and nothing is ready: a signal that only
 * the caller's mask lets in ends the call all the same.
 */
static int let_signals_in(const sigset_t *mask)
{
    static const struct timespec none;

    return REAL(ppoll)(NULL, 0, &none, mask) < 0 ? -errno : 0;
}

/*
 * A stream on its way back is not writable for a moment: a poll whose time is
 * over asks again until it is there, for handover_hold_usec at most.
 */
static int wait_until(struct poll_work *w, uint64_t until, const sigset_t *mask)
{
    bool bare;
    int rc;

    for (;;) {
        bool changed;

        enter(w);
        bare = w->managed == 0 && w->sets.n == 0;
        if (bare)
            rc = wait_bare(w, until, mask);
        else if (w->managed == 0 && w->poll_ns == 0)
            rc = wait_sets(w, until, mask);
        else
            rc = wait_managed(w, until, mask);
        changed = rc >= 0 && have_changed(w);
        leave(w);
        if (changed)
            let_them_close(w);
        if (!(changed && rc > 0)) {
            if (rc != 0 || bare)
                break;
            if (until <= 1 || (until != UINT64_MAX && clock_ns() >= until)) {
                if (!w->unsettled)
                    break;
                until = 1;
                sched_yield();
            }
        }
        signals_hold(&w->held);
    }
    if (rc == 0 && !bare && mask != NULL)
        rc = let_signals_in(mask);
    if (w->waiter != NULL)
        waiter_end(w->waiter, w->nested);
    signals_release(&w->held);
    return rc;
}

int poll_wait(struct pollfd *fds, nfds_t n, int64_t timeout_ns,
              const sigset_t *mask)
{
    struct {
        struct pollfd copy[SMALL + EXTRA];
        struct endpoint *endpoint[SMALL];
        struct peer *peer[SMALL];
        bool bare[SMALL];
    } small;
    struct poll_work w = {.fds = fds, .n = n};
    uint64_t until = UINT64_MAX;
    size_t size = (n + EXTRA) * sizeof(struct pollfd) +
                  n * (2 * sizeof(void *) + sizeof(bool));
    void *big = NULL;
    int rc;

    if (timeout_ns == 0)
        until = 1;
    else if (timeout_ns > 0)
        until = clock_ns() + (uint64_t)timeout_ns;
    w.copy = small.copy;
    w.endpoint = small.endpoint;
    w.peer = small.peer;
    w.bare = small.bare;
    if (n > SMALL) {
        big = scratch_get(size);
        if (big == NULL)
            return -ENOMEM;
        w.endpoint = big;
        w.peer = (struct peer **)(w.endpoint + n);
        w.copy = (struct pollfd *)(w.peer + n);
        w.bare = (bool *)(w.copy + n + EXTRA);
    }
    rc = wait_until(&w, until, mask);
    if (big != NULL)
        scratch_put(big, size);
    return rc;
}
