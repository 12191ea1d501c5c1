/*
 * The application's side of a managed stream: what it is ready for, and what
 * to sleep on.
 */
#include "transport/pause.h"
#include "transport/stream/stream_private.h"

static short kernel_ready(struct stream *s, short events)
{
    struct pollfd p = {.fd = s->fd, .events = events};

    return s->tcp->poll(&p, 1, 0) == 1 ? p.revents : 0;
}

/* Enough to write, or so much that nobody rings when there is more. */
static bool has_room(struct link *link, uint64_t wrote, uint64_t freed)
{
    uint32_t size = link->tx.size;
    uint64_t room = size - (wrote - freed);

    if (__builtin_expect(room >= size / 3, 1))
        return true;
    return room > size / 3 - size / 4 && link->ops->rings != NULL &&
           !link->ops->rings(link, wrote);
}

/* On the link: two words of the peer's and nothing else. */
static short ready_link(struct stream *s)
{
    uint64_t took = __atomic_load_n(&s->h.took, __ATOMIC_RELAXED);
    uint64_t wrote = __atomic_load_n(&s->h.wrote, __ATOMIC_RELAXED);
    uint64_t freed = __atomic_load_n(&s->h.freed, __ATOMIC_RELAXED);
    struct link *link = s->link;
    short ready = 0;

    if (link == NULL)
        return POLLIN | POLLOUT; /* it has just changed: look again */
    if (link->ops->arrived(link) != took) {
        ready |= POLLIN | POLLRDNORM;
        expect_read(ring_hint(&link->rx, took));
    }
    if (__builtin_expect(
            atomic_load_explicit(&s->shut_rd, memory_order_relaxed), 0)) {
        ready |= POLLIN | POLLRDNORM | POLLRDHUP;
        if (atomic_load(&s->shut_wr))
            ready |= POLLHUP;
    }
    if (__builtin_expect(s->h.end != HANDOVER_NONE, 0)) {
#ifndef PLANT_RDHUP_MISSING
        ready |= POLLRDHUP;
#endif
        if (took == s->h.end)
            ready |= POLLIN | POLLRDNORM;
        if (atomic_load(&s->shut_wr))
            ready |= POLLHUP;
    }
    if (atomic_load_explicit(&s->shut_wr, memory_order_relaxed))
        return ready | POLLOUT | POLLWRNORM;
    if (link->tx.size - (wrote - freed) < link->tx.size / 2)
        link->ops->freed(link, freed, wrote, &freed);
    if (has_room(link, wrote, freed))
        ready |= POLLOUT | POLLWRNORM;
    return ready;
}

/* There are bytes to be read from TCP before the moment of a handover. */
static bool is_before_arrive(const struct stream *s, enum rx_mode rx)
{
    return rx == RX_LIMITED && handover_rx_limit(&s->h) > 0;
}

/* The events that are the kernel's to answer in this stage. */
static short raw_events(const struct stream *s, enum rx_mode rx, bool before)
{
    short raw = handover_end_is_raw(&s->h) ? POLLRDHUP : 0;

    if (rx == RX_RAW)
        raw |= POLLIN | POLLRDNORM | POLLPRI;
    else if (before)
        raw |= POLLIN | POLLRDNORM;
    if (handover_tx_mode(&s->h) == TX_RAW && s->out_have == 0)
        raw |= POLLOUT | POLLWRNORM;
    return raw;
}

/*
 * In one look, as a reset between two would show half of it; and nothing of
 * it while TCP holds something for the protocol, which comes first.
 */
static short ready_raw(struct stream *s, enum rx_mode rx)
{
    bool before = is_before_arrive(s, rx);
    short events = raw_events(s, rx, before);
    short ready = events != 0 ? kernel_ready(s, events) : 0;

    if (!(ready & POLLHUP) || s->h.stage == STAGE_UP ||
        handover_end_is_raw(&s->h))
        return ready;
    return before ? ready | POLLRDHUP : ready & ~(POLLERR | POLLHUP);
}

/*
 * A connection that has ended both ways stays so on the way back to TCP, where
 * the peer's FIN comes last of all.
 */
static short ready_ended(const struct stream *s)
{
    const short ready = POLLOUT | POLLWRNORM | POLLRDHUP | POLLHUP;

    if (!stream_was_ended(s))
        return 0;
    return handover_ended(&s->h) ? ready | POLLIN | POLLRDNORM : ready;
}

/* Stage lock held: everything that is not simply the link. */
static short ready_slow(struct stream *s)
{
    enum rx_mode rx = handover_rx_mode(&s->h);
    short ready = ready_raw(s, rx);

    switch (rx) {
    case RX_LEFTOVER:
        ready |= POLLIN | POLLRDNORM | ready_ended(s);
        if (s->h.left_at != HANDOVER_NONE)
            ready |= POLLRDHUP;
        break;
    case RX_LINK:
        ready |= ready_link(s);
        break;
    case RX_DEAD:
        ready |= POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP;
        if (s->error != 0)
            ready |= POLLERR | POLLHUP;
        else if (!s->swallow)
            ready |= POLLHUP;
        return ready;
    default:
        ready |= ready_ended(s);
        break;
    }
    if (atomic_load(&s->shut_rd)) /* the kernel may not know of it yet */
        ready |= POLLIN | POLLRDNORM | POLLRDHUP |
                 (atomic_load(&s->shut_wr) ? POLLHUP : 0);
    if (handover_tx_mode(&s->h) == TX_HELD)
        ready |= POLLOUT | POLLWRNORM; /* the write itself may wait a bit */
    if (s->h.stage == STAGE_UP && s->h.fin_seen && s->swallow)
        ready = (ready & ~(POLLERR | POLLHUP)) | POLLOUT | POLLWRNORM;
    return ready;
}

static bool fin_was_seen(const struct stream *s)
{
    return atomic_load_explicit(&s->h.fin_seen, memory_order_relaxed);
}

short stream_ready_pinned(struct stream *s)
{
    short ready;

    if (stream_is_up(s) && !fin_was_seen(s))
        return ready_link(s);
    /* Who holds it may wait for what the caller holds. */
    if (!lock_try(&s->stage))
        return POLLNVAL;
    ready = ready_slow(s);
    lock_give(&s->stage);
    return ready;
}

bool stream_settles(const struct stream *s, uint64_t ns)
{
    enum handover_stage stage =
        atomic_load_explicit(&s->h.stage, memory_order_relaxed);

    return stage != STAGE_UP && stage != STAGE_DEAD &&
           s->tcp->now_ns() - __atomic_load_n(&s->since_ns, __ATOMIC_RELAXED) <
               ns;
}

/*
 * In a signal handler. What its own thread holds of this stream keeps the stage
 * as it is; else somebody changes it, and tells when that is done.
 */
static short ready_pinned_by_me(struct stream *s)
{
    if (!stream_is_mine(s))
        return 0;
    return stream_is_up(s) && !fin_was_seen(s) ? ready_link(s) : ready_slow(s);
}

short stream_ready(struct stream *s)
{
    short ready;

    if (stream_is_up(s) && !fin_was_seen(s)) {
        if (stream_take(s, &s->rx) < 0)
            return ready_pinned_by_me(s);
        if (stream_is_up(s)) { /* it may just have left the link */
            ready = ready_link(s);
            lock_give(&s->rx);
            return ready;
        }
        lock_give(&s->rx);
    }
    if (stream_take(s, &s->stage) < 0)
        return ready_pinned_by_me(s);
    ready = ready_slow(s);
    lock_give(&s->stage);
    return ready;
}

uint64_t stream_news_pinned(struct stream *s)
{
    struct link *link = s->link;
    uint32_t again = atomic_load_explicit(&s->again, memory_order_relaxed);

    return again + (link != NULL ? link->ops->arrived(link) : 0);
}

/*
 * Armed before it asks for room: who takes that wish may find, by then, that
 * another thread has used the room, and rings all the same.
 */
short stream_wait_for(struct stream *s, short events, unsigned waiter,
                      struct peer **peer)
{
    bool locked = stream_take(s, &s->stage) == 0;
    enum rx_mode rx;
    short kernel;

    *peer = NULL;
    if (!locked && !stream_is_mine(s)) /* as in ready_pinned_by_me() */
        return 0;
    rx = handover_rx_mode(&s->h);
    kernel = raw_events(s, rx, is_before_arrive(s, rx)) & events;
    if (s->h.stage == STAGE_UP && s->link != NULL) {
        *peer = s->link->peer;
        s->link->ops->peer_get(*peer);
        s->link->ops->peer_arm(*peer, waiter, true);
        if (events & (POLLOUT | POLLWRNORM))
            s->link->ops->want_room(s->link);
    }
    if (locked)
        lock_give(&s->stage);
    return kernel;
}

void stream_write_refused(struct stream *s)
{
    if (stream_take(s, &s->stage) < 0)
        return;
    atomic_fetch_add(&s->refused, 1);
    if (s->h.stage == STAGE_UP && s->link != NULL)
        s->link->ops->want_room(s->link);
    lock_give(&s->stage);
}
