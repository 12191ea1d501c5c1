/*
 * Reading, writing and waiting on a managed stream as POSIX has it.
 *
 * A blocking call tries, looks at the link for a while (the ladder of
 * docs/epoll.md), arms its waiter, looks once more and sleeps in
 * poll(2) on its bell and, while bytes may come by TCP, on the socket.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "preload/endpoint.h"
#include "preload/epoll_set.h"
#include "preload/handlers.h"
#include "preload/held_signals.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/spread.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/bell.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

/* What one blocking call carries from wait to wait. */
struct call {
    bool inside;           /* counted in the endpoint */
    bool nested;           /* see waiter_begin() */
    struct waiter *waiter; /* which has begun, or NULL */
    struct held_signals held;
};

static bool is_ready(struct endpoint *e, short events)
{
    return stream_ready(&e->stream) & (events | POLLERR | POLLHUP);
}

bool endpoint_peer_is_here(struct endpoint *e)
{
    enum spread_place place;

    if (lock_take(&e->stream.rx) < 0)
        return false;
    place = spread_look(e->stream.link, e->stream.h.initiator);
    lock_give(&e->stream.rx);
    return spread_is_here(place);
}

/* Look for a while. True: it is ready. */
static bool spin_for(struct endpoint *e, short events, struct waiter *w,
                     struct spin *spin, struct held_signals *held)
{
    uint64_t limit = e->settings.poll_usec * 1000;
    bool here, hit = false;

    spin->began_ns = 0;
    if (!stream_is_up(&e->stream))
        return false;
    here = endpoint_peer_is_here(e);
    spin_first(spin, w, limit, here);
    while (spin_glance(spin))
        if (is_ready(e, events))
            return true;
    if (limit == 0)
        return false;
    signals_hold(held);
    if (!spin_begin(spin, w, limit))
        return false;
    do {
        hit = is_ready(e, events) || !stream_is_up(&e->stream);
    } while (!hit && spin_round(spin, here));
    spin_end(spin, w, limit, hit);
    return hit;
}

/*
 * A plain recv is restarted after signals just as theirs is, whichever handler
 * runs. But one that runs as the ring ends it is not noticed.
 */
static int recv_on_bell(struct waiter *w, struct held_signals *held)
{
    bool interrupted = signals_wait(held);
    char ring;

    signals_release(held);
    if (interrupted) {
        errno = EINTR;
        return -1;
    }
    return (int)REAL(recv)(w->bell, &ring, 1, MSG_PEEK);
}

static int sleep_for(struct endpoint *e, short events, struct waiter *w,
                     uint64_t until_ns, uint32_t told, bool begun,
                     struct held_signals *held)
{
    enum handlers handlers = handlers_kind();
    struct pollfd p[3] = {{.fd = w->bell, .events = POLLIN},
                          {.fd = e->stream.fd},
                          {.fd = -1, .events = POLLIN}};
    struct timespec left;
    const struct timespec *wait = NULL;
    struct peer *peer;
    int rc = 0;
    short tcp;

    signals_hold(held);
    atomic_store(&w->asleep, 1);
    tcp = stream_wait_for(&e->stream, events, w->id, &peer);
    endpoint_armed(e, peer, w->id);
    if (peer != NULL)
        p[2].fd = peer_wake_fd(peer);
    full_fence();
    p[1].events = tcp;
    if (tcp == 0)
        p[1].fd = -1;
    if (until_ns != 0)
        wait = clock_left(until_ns, &left);
    if (!is_ready(e, events) && told == atomic_load(&e->stream.told)) {
        stats_count(STATS_SLEEP);
        if (tcp != 0 || wait != NULL || p[2].fd >= 0 || begun ||
            handlers != HANDLERS_OF_BOTH_KINDS)
            rc = REAL(ppoll)(p, 3, wait, signals_mask(held, NULL));
        else
            rc = recv_on_bell(w, held);
        if (rc < 0)
            rc = -errno;
        else if (rc == 0)
            rc = -ETIMEDOUT;
    }
    atomic_store(&w->asleep, 0);
    endpoint_disarm(e, peer, w->id);
    bell_drain(w->bell);
    if (rc == -EINTR && until_ns == 0 && !begun && handlers_restart(handlers) &&
        handlers_restart(handlers_kind()))
        return 0;
    return rc < 0 ? rc : 0;
}

static void call_waits(struct call *call, struct waiter *w)
{
    if (call->waiter == w)
        return;
    call->nested = waiter_begin(w);
    call->waiter = w;
}

/*
 * 0: try again; -EAGAIN: the time is up; -EINTR; or another error. begun: the
 * call has moved bytes already, so that nothing will restart it.
 */
static int wait_for(struct endpoint *e, short events, uint64_t until_ns,
                    bool begun, struct call *call)
{
    uint32_t told = atomic_load(&e->stream.told);
    struct waiter *w = waiter_self();
    struct spin spin;
    int rc;

    /* A signal handler cannot wait for what its own thread holds. */
    if (stream_in_handler(&e->stream))
        return -EAGAIN;
    if (begun && signals_wait(&call->held))
        return -EINTR;
    if (is_ready(e, events))
        return 0;
    if (w != NULL)
        call_waits(call, w);
    if (w == NULL || !endpoint_watch_here(e, w->id)) {
        /* No way to be woken: this stream goes back to TCP for good. */
        endpoint_banish(e, REASON_LIMIT);
        return 0;
    }
    if (spin_for(e, events, w, &spin, &call->held))
        return 0;
    rc = sleep_for(e, events, w, until_ns, told, begun, &call->held);
    if (spin.began_ns != 0)
        spin_slept(&spin, w, e->settings.poll_usec * 1000);
    if (rc == -ETIMEDOUT)
        return -EAGAIN;
    return rc;
}

/* wait_for() of a call that is inside from its first wait on. */
static int wait_inside(struct endpoint *e, short events, uint64_t until_ns,
                       bool begun, struct call *call)
{
    if (call->inside)
        signals_hold(&call->held);
    else if (!endpoint_enter(e))
        return -EBADF;
    call->inside = true;
    return wait_for(e, events, until_ns, begun, call);
}

static void call_ends(struct endpoint *e, struct call *call)
{
    if (call->waiter != NULL)
        waiter_end(call->waiter, call->nested);
    if (call->inside)
        endpoint_leave(e);
    signals_release(&call->held);
}

/* A recv of no bytes waits as any other, and takes nothing but an error. */
static ssize_t recv_nothing(struct endpoint *e, int flags, bool wait,
                            uint64_t until, struct call *call)
{
    struct iovec none = {.iov_len = 0};
    ssize_t rc;

    for (;;) {
        if (stream_unread(&e->stream) > 0)
            return 0;
        rc = stream_recv(&e->stream, &none, 1, flags);
        if (rc == -EDEADLK)
            return -EAGAIN;
        if (rc != -EAGAIN || !wait)
            return rc;
        rc = wait_inside(e, POLLIN, until, false, call);
        if (rc < 0)
            return rc;
    }
}

static size_t length_of(const struct iovec *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* The part of the vector after its first `done` bytes; returns its length. */
static int rest_of(const struct iovec *iov, int n, size_t done,
                   struct iovec *out, int most)
{
    int k = 0;

    for (int i = 0; i < n && k < most; i++) {
        size_t cut = done < iov[i].iov_len ? done : iov[i].iov_len;

        done -= cut;
        if (iov[i].iov_len == cut)
            continue;
        out[k].iov_base = (char *)iov[i].iov_base + cut;
        out[k++].iov_len = iov[i].iov_len - cut;
    }
    return k;
}

/* So many bytes were moved and then it ended: an error is the next call's. */
static ssize_t some(struct endpoint *e, size_t done, ssize_t rc)
{
    if (rc == -ECONNRESET || rc == -EPIPE)
        stream_keep_error(&e->stream, (int)-rc);
    return (ssize_t)done;
}

static ssize_t recv_inside(struct endpoint *e, const struct iovec *iov, int n,
                           int flags, struct call *call)
{
    bool wait = !(flags & MSG_DONTWAIT) && !atomic_load(&e->nonblocking);
    bool all = (flags & MSG_WAITALL) && !(flags & MSG_PEEK) && wait;
    int pass = flags & (MSG_PEEK | MSG_TRUNC);
    uint64_t until = 0;
    struct iovec part[64];
    size_t done = 0, len = length_of(iov, n);
    ssize_t rc;

#ifdef PLANT_READV_SHORT
    n -= n > 1;
#endif
#ifndef PLANT_RCVTIMEO_IGNORED
    if (wait && e->rcvtimeo_ns != 0)
        until = clock_ns() + e->rcvtimeo_ns;
#endif
    if (len == 0)
        return recv_nothing(e, pass, wait, until, call);
    for (;;) {
        if (done == 0)
            rc = stream_recv(&e->stream, iov, n, pass);
        else
            rc = stream_recv(&e->stream, part, rest_of(iov, n, done, part, 64),
                             pass);
        if (rc > 0) {
            done += (size_t)rc;
            if (!all || done == len)
                return (ssize_t)done;
            continue;
        }
        if (rc == -EDEADLK)
            rc = -EAGAIN, wait = false;
        if (rc != -EAGAIN || !wait)
            return done > 0 ? some(e, done, rc) : rc;
        rc = wait_inside(e, POLLIN | POLLRDHUP, until, done > 0, call);
        if (rc < 0)
            return done > 0 ? (ssize_t)done : rc;
    }
}

ssize_t endpoint_recv(struct endpoint *e, const struct iovec *iov, int n,
                      int flags)
{
    struct call call = {.inside = false};
    ssize_t rc = recv_inside(e, iov, n, flags, &call);

    call_ends(e, &call);
    process_stop_at_end();
    return rc;
}

static ssize_t broken_pipe(int flags)
{
    if (!(flags & MSG_NOSIGNAL) && !process_ends())
        raise(SIGPIPE);
    return -EPIPE;
}

/*
 * A handover is under way. It takes some ten microseconds, so even a
 * non-blocking writer is held, for handover_hold_usec at the most
 * (docs/decisions/0002); then the attempt is given up.
 */
static void hold(struct endpoint *e, struct call *call)
{
    uint64_t until = clock_ns() + process.settings.handover_hold_usec * 1000;
    struct waiter *w = waiter_self();

    if (w != NULL)
        call_waits(call, w);
    if (w != NULL && endpoint_watch_here(e, w->id)) {
        while (handover_tx_mode(&e->stream.h) == TX_HELD ||
               e->stream.out_have != 0) {
            uint32_t told = atomic_load(&e->stream.told);
            struct pollfd p = {.fd = w->bell, .events = POLLIN};

            atomic_store(&w->asleep, 1);
            full_fence();
            if (clock_ns() >= until)
                break;
            if (told == atomic_load(&e->stream.told))
                kernel_poll(&p, 1, 1);
            bell_drain(w->bell);
        }
        atomic_store(&w->asleep, 0);
        bell_drain(w->bell);
    }
    if (handover_tx_mode(&e->stream.h) == TX_HELD)
        stream_hold_expired(&e->stream);
    else if (e->stream.out_have != 0)
        stream_progress(&e->stream);
}

void endpoint_write_refused(struct endpoint *e)
{
    if (__atomic_load_n(&e->regs, __ATOMIC_ACQUIRE) == NULL)
        return;
    if (stream_in_handler(&e->stream)) {
        helper_ask(e, WORK_REFUSED);
        return;
    }
    stream_write_refused(&e->stream);
    if (is_ready(e, POLLOUT))
        epoll_sets_told(e);
}

static ssize_t send_inside(struct endpoint *e, const struct iovec *iov, int n,
                           int flags, struct call *call)
{
    bool wait = !(flags & MSG_DONTWAIT) && !atomic_load(&e->nonblocking);
    size_t done = 0, len = length_of(iov, n);
    uint64_t until = 0;
    ssize_t rc;

    if (wait && e->sndtimeo_ns != 0)
        until = clock_ns() + e->sndtimeo_ns;
    for (;;) {
        rc = stream_send(&e->stream, iov, n, done, flags);
        if (rc >= 0) {
            done += (size_t)rc;
            if (done < len && !wait)
                endpoint_write_refused(e);
            if (done == len || !wait)
                return (ssize_t)done;
            continue;
        }
        if (rc == -EPIPE && atomic_load(&e->left))
            rc = -EBADF; /* another thread closes it */
        if (rc == -EPIPE && done == 0)
            return broken_pipe(flags);
        if (rc == STREAM_HELD && !stream_in_handler(&e->stream)) {
            hold(e, call);
            continue;
        }
        if (rc == -EAGAIN && !wait)
            endpoint_write_refused(e);
        if (rc == -EDEADLK || rc == STREAM_HELD)
            rc = -EAGAIN, wait = false;
        if (rc != -EAGAIN || !wait)
            return done > 0 ? some(e, done, rc) : rc;
        rc = wait_inside(e, POLLOUT, until, done > 0, call);
        if (rc < 0)
            return done > 0 ? (ssize_t)done : rc;
    }
}

ssize_t endpoint_send(struct endpoint *e, const struct iovec *iov, int n,
                      int flags)
{
    struct call call = {.inside = false};
    ssize_t rc = send_inside(e, iov, n, flags, &call);

    call_ends(e, &call);
    process_stop_at_end();
    return rc;
}
