/*
 * The application's side of a managed stream: one try to read or write,
 * readiness, and what to sleep on.
 *
 * On the link this is the hot path: one lock, a look at one word of the
 * peer's, a copy, a store. Everything else hands the call on to TCP within
 * the limits of the handover.
 */
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "transport/pause.h"
#include "transport/stream/overlay.h"
#include "transport/stream/stream.h"

enum { ANSWER_LINES = 3, LINE = 64 }; /* what a short answer takes */

static size_t length_of(const struct iovec *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

static void count_in(struct stream *s, uint64_t n, bool link)
{
    __atomic_store_n(&s->h.took, s->h.took + n, __ATOMIC_RELAXED);
    atomic_store_explicit(&s->bytes->in, s->h.took, memory_order_relaxed);
    if (link) {
        s->link_bytes_in += n;
        atomic_store_explicit(&s->bytes->link_in, s->link_bytes_in,
                              memory_order_relaxed);
    }
}

/* Up to len bytes of [took, until) out of the ring. */
static ssize_t take(struct stream *s, const struct iovec *iov, int n,
                    size_t len, uint64_t until, int flags)
{
    uint64_t there = until - s->h.took;

    if (len > there)
        len = (size_t)there;
    if (!(flags & MSG_TRUNC)) {
        if (n == 1)
            ring_get(&s->link->rx, s->h.took, iov[0].iov_base, len);
        else
            ring_get_iov(&s->link->rx, s->h.took, iov, n, 0, len);
    }
    if (!(flags & MSG_PEEK))
        count_in(s, len, true);
    return (ssize_t)len;
}

/* Who reads a request soon writes an answer: have its lines here by then. */
static void expect_answer(const struct stream *s)
{
    const struct byte_ring *tx = &s->link->tx;
    uint64_t at = __atomic_load_n(&s->h.wrote, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < ANSWER_LINES; i++, at += LINE)
        expect_write(tx->bytes + (at & (tx->size - 1)));
}

/* rx lock held. */
static ssize_t recv_link(struct stream *s, const struct iovec *iov, int n,
                         size_t len, int flags)
{
    ssize_t done;

    if (s->h.landed - s->h.took < len) {
        uint64_t landed;
        int rc = s->link->ops->landed(s->link, s->h.took, s->h.landed,
                                      &landed);

        if (rc < 0 || (s->h.end != HANDOVER_NONE && landed > s->h.end))
            return -EPROTO;
        __atomic_store_n(&s->h.landed, landed, __ATOMIC_RELAXED);
    }
    if (s->h.landed == s->h.took) {
        if (handover_eof(&s->h) ||
            atomic_load_explicit(&s->shut_rd, memory_order_relaxed))
            return 0;
        return -EAGAIN;
    }
    expect_answer(s);
    done = take(s, iov, n, len, s->h.landed, flags);
    if (!(flags & MSG_PEEK))
        s->link->ops->release(s->link, s->h.took);
    return done;
}

static ssize_t recv_tcp(struct stream *s, const struct iovec *iov, int n,
                        uint64_t limit, int flags)
{
    struct iovec part[16];
    struct msghdr msg = {.msg_iov = (struct iovec *)iov,
                         .msg_iovlen = (size_t)n};
    ssize_t rc;

    if (limit != UINT64_MAX) {
        int k = 0;

        for (; k < n && k < 16 && limit > 0; k++) {
            part[k] = iov[k];
            if (part[k].iov_len > limit)
                part[k].iov_len = (size_t)limit;
            limit -= part[k].iov_len;
        }
        msg.msg_iov = part;
        msg.msg_iovlen = (size_t)k;
    }
    rc = s->tcp->recvmsg(s->fd, &msg, flags | MSG_DONTWAIT);
    if (rc > 0 && !(flags & MSG_PEEK))
        count_in(s, (uint64_t)rc, false);
    return rc;
}

/* What TCP delivered before it failed. 0: nothing, or nothing for us. */
static ssize_t recv_raw_left(struct stream *s, const struct iovec *iov, int n,
                             int flags)
{
    bool more = s->h.took < s->raw_until;
    ssize_t rc;
    char c;

    do {
        if (more)
            rc = recv_tcp(s, iov, n, s->raw_until - s->h.took, flags);
        else
            rc = s->tcp->recv(s->fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);
    } while (rc == -EINTR);
    if (rc > 0 && more)
        return rc;
    if (rc != 0 || s->h.took < s->h.repeat_end)
        s->error = ECONNRESET; /* it goes on in a way we cannot follow */
    s->raw_left = false;
    return 0;
}

static ssize_t recv_dead(struct stream *s, const struct iovec *iov, int n,
                         size_t len, int flags)
{
    int error;
    ssize_t rc;

    if (s->link != NULL && s->h.took < s->h.have)
        return take(s, iov, n, len, s->h.have, flags);
    rc = s->raw_left ? recv_raw_left(s, iov, n, flags) : 0;
    if (rc > 0)
        return rc;
    error = s->error;
    if (!(flags & MSG_PEEK))
        s->error = 0;
    return error != 0 ? -error : 0;
}

ssize_t stream_recv(struct stream *s, const struct iovec *iov, int n,
                    int flags)
{
    size_t len = length_of(iov, n);
    bool boundary = false;
    ssize_t rc;

    if (flags & MSG_PEEK)
        atomic_store_explicit(&s->peeks, true, memory_order_relaxed);
    if (lock_take(&s->rx) < 0)
        return -EDEADLK; /* a signal handler inside its own call */
    switch (handover_rx_mode(&s->h)) {
    case RX_LINK:
        rc = recv_link(s, iov, n, len, flags);
        break;
    case RX_LEFTOVER:
        rc = take(s, iov, n, len, s->h.have, flags);
        boundary = s->h.took == s->h.have;
        break;
    case RX_RAW:
        rc = recv_tcp(s, iov, n, UINT64_MAX, flags);
        if (rc != 0 || len == 0)
            break;
        s->h.fin_seen = true;
        if (s->h.took < s->h.repeat_end)
            rc = -ECONNRESET; /* the repeat was cut short */
        break;
    case RX_LIMITED:
        rc = -EAGAIN;
        if (handover_rx_limit(&s->h) > 0)
            rc = recv_tcp(s, iov, n, handover_rx_limit(&s->h), flags);
        boundary = handover_at_arrive(&s->h);
        break;
    case RX_DEAD:
        rc = recv_dead(s, iov, n, len, flags);
        break;
    default:
        rc = -EAGAIN;
    }
    if (rc == -EAGAIN &&
        atomic_load_explicit(&s->shut_rd, memory_order_relaxed))
        rc = 0;
    lock_give(&s->rx);
    if (rc == -EPROTO) {
        stream_abort(s, REASON_PEER_RULE);
        return stream_recv(s, iov, n, flags);
    }
    if (boundary) {
        bool moved = stream_progress(s);

        if (handover_at_arrive(&s->h))
            s->calls->kick(s);
        if (moved && rc == -EAGAIN)
            return stream_recv(s, iov, n, flags);
    }
    return rc;
}

/* tx lock held. */
static ssize_t send_link(struct stream *s, const struct iovec *iov, int n,
                         size_t skip, size_t len)
{
    struct byte_ring *tx = &s->link->tx;
    uint64_t room = tx->size - (s->h.wrote - s->h.freed);

    /* Early enough that ready_link() need not look at the peer's line, too. */
    if (room < len || room - len < tx->size / 2) {
        uint64_t freed;

        if (s->link->ops->freed(s->link, s->h.freed, s->h.wrote, &freed) < 0)
            return -EPROTO;
        __atomic_store_n(&s->h.freed, freed, __ATOMIC_RELAXED);
        room = tx->size - (s->h.wrote - freed);
        if (room == 0)
            return -EAGAIN;
        if (len > room)
            len = (size_t)room;
    }
    if (n == 1)
        ring_put(tx, s->h.wrote, (const char *)iov[0].iov_base + skip, len);
    else
        len = ring_put_iov(tx, s->h.wrote, iov, n, skip, len);
    __atomic_store_n(&s->h.wrote, s->h.wrote + len, __ATOMIC_RELAXED);
    s->link_bytes_out += len;
    s->link->ops->commit(s->link, s->h.wrote);
    atomic_store_explicit(&s->bytes->out, s->h.wrote, memory_order_relaxed);
    atomic_store_explicit(&s->bytes->link_out, s->link_bytes_out,
                          memory_order_relaxed);
    return (ssize_t)len;
}

static ssize_t send_tcp(struct stream *s, const struct iovec *iov, int n,
                        size_t skip, int flags)
{
    struct iovec part[64];
    struct msghdr msg = {.msg_iov = part};
    ssize_t rc;
    int k = 0;

    /* A record that TCP has not taken yet goes first. */
    if (s->out_have != 0) {
        rc = overlay_flush(s);
        if (rc < 0)
            return rc;
        s->calls->kick(s); /* the epoch may be over now */
    }
    for (int i = 0; i < n && k < 64; i++) {
        size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;

        skip -= cut;
        if (iov[i].iov_len == cut)
            continue;
        part[k].iov_base = (char *)iov[i].iov_base + cut;
        part[k++].iov_len = iov[i].iov_len - cut;
    }
    msg.msg_iovlen = (size_t)k;
    rc = s->tcp->sendmsg(s->fd, &msg,
                         (flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc > 0) {
        if (s->h.stage == STAGE_REPEATING)
            s->h.backlog += (uint64_t)rc;
        __atomic_store_n(&s->h.wrote, s->h.wrote + (uint64_t)rc,
                         __ATOMIC_RELAXED);
        atomic_store_explicit(&s->bytes->out, s->h.wrote,
                              memory_order_relaxed);
    }
    return rc;
}

/* The peer has left: the first write succeeds, as it does after a FIN. */
static ssize_t send_after_fin(struct stream *s, const struct iovec *iov, int n,
                              size_t skip, int flags)
{
    ssize_t rc;

    do
        rc = send_tcp(s, iov, n, skip, flags);
    while (s->swallow && rc == -ECONNRESET); /* told once, then EPIPE */
    if (s->swallow && rc == -EPIPE)
        rc = (ssize_t)(length_of(iov, n) - skip);
    if (rc > 0)
        s->swallow = false;
    return rc;
}

static ssize_t send_dead(struct stream *s, size_t len)
{
    int error = s->error;

    if (s->swallow && !atomic_load(&s->shut_wr)) {
        s->swallow = false; /* the kernel would only learn by its RST */
        return (ssize_t)len;
    }
    s->error = 0;
    return error != 0 ? -error : -EPIPE;
}

ssize_t stream_send(struct stream *s, const struct iovec *iov, int n,
                    size_t skip, int flags)
{
    size_t len = length_of(iov, n) - skip;
    ssize_t rc;

    if (lock_take(&s->tx) < 0)
        return -EDEADLK; /* a signal handler inside its own call */
    if (atomic_load_explicit(&s->shut_wr, memory_order_relaxed) ||
        s->leave_said) {
        lock_give(&s->tx);
        return -EPIPE;
    }
    switch (handover_tx_mode(&s->h)) {
    case TX_LINK:
        rc = len == 0 ? 0 : send_link(s, iov, n, skip, len);
        break;
    case TX_RAW:
        if (s->h.stage == STAGE_UP)
            rc = send_after_fin(s, iov, n, skip, flags);
        else
            rc = send_tcp(s, iov, n, skip, flags);
        break;
    case TX_HELD:
        rc = STREAM_HELD;
        break;
    case TX_DEAD:
        rc = send_dead(s, len);
        break;
    default:
        rc = -EAGAIN;
    }
    lock_give(&s->tx);
    if (rc == -EPROTO) {
        stream_abort(s, REASON_PEER_RULE);
        return stream_send(s, iov, n, skip, flags);
    }
    return rc;
}

static short kernel_ready(struct stream *s, short events)
{
    struct pollfd p = {.fd = s->fd, .events = events};

    return s->tcp->poll(&p, 1, 0) == 1 ? p.revents : 0;
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
        expect_read(link->rx.bytes + (took & (link->rx.size - 1)));
    }
    if (__builtin_expect(atomic_load_explicit(&s->shut_rd,
                                              memory_order_relaxed),
                         0)) {
        ready |= POLLIN | POLLRDNORM | POLLRDHUP;
        if (atomic_load(&s->shut_wr))
            ready |= POLLHUP;
    }
    if (__builtin_expect(s->h.end != HANDOVER_NONE, 0)) {
        ready |= POLLRDHUP;
        if (took == s->h.end)
            ready |= POLLIN | POLLRDNORM;
        if (atomic_load(&s->shut_wr))
            ready |= POLLHUP;
    }
    if (atomic_load_explicit(&s->shut_wr, memory_order_relaxed))
        return ready | POLLOUT | POLLWRNORM;
    if (link->tx.size - (wrote - freed) < link->tx.size / 2)
        link->ops->freed(link, freed, wrote, &freed);
    if (link->tx.size - (wrote - freed) >= link->tx.size / 3)
        ready |= POLLOUT | POLLWRNORM;
    return ready;
}

/* Stage lock held: everything that is not simply the link. */
static short ready_slow(struct stream *s)
{
    short ready = 0;

    switch (handover_rx_mode(&s->h)) {
    case RX_LEFTOVER:
        ready |= POLLIN | POLLRDNORM;
        if (s->h.left_at != HANDOVER_NONE)
            ready |= POLLRDHUP;
        break;
    case RX_LIMITED:
        if (handover_rx_limit(&s->h) == 0)
            break;
        ready |= kernel_ready(s, POLLIN | POLLRDNORM);
        break;
    case RX_RAW:
        ready |= kernel_ready(s, POLLIN | POLLRDNORM | POLLRDHUP);
        break;
    case RX_LINK:
        ready |= ready_link(s);
        break;
    case RX_DEAD:
        ready |= POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLRDHUP;
        if (s->error != 0)
            ready |= POLLERR | POLLHUP;
        else if (!s->swallow && (s->link == NULL || s->h.took >= s->h.have))
            ready |= POLLHUP;
        return ready;
    default:
        break;
    }
    switch (handover_tx_mode(&s->h)) {
    case TX_HELD:
        ready |= POLLOUT | POLLWRNORM; /* the write itself may wait a bit */
        break;
    case TX_RAW:
        if (s->out_have == 0)
            ready |= kernel_ready(s, POLLOUT | POLLWRNORM) &
                     (POLLOUT | POLLWRNORM | POLLERR | POLLHUP);
        if (s->h.stage == STAGE_UP && s->swallow)
            ready = (ready & ~(POLLERR | POLLHUP)) | POLLOUT | POLLWRNORM;
        break;
    default:
        break;
    }
    return ready;
}

short stream_ready_pinned(struct stream *s)
{
    short ready;

    if (stream_is_up(s) && !s->h.fin_seen)
        return ready_link(s);
    /* Who holds it may wait for what the caller holds. */
    if (!lock_try(&s->stage))
        return POLLNVAL;
    ready = ready_slow(s);
    lock_give(&s->stage);
    return ready;
}

short stream_ready(struct stream *s)
{
    short ready;

    if (!stream_is_up(s) || s->h.fin_seen) {
        if (lock_take(&s->stage) < 0)
            return 0;
        ready = ready_slow(s);
        lock_give(&s->stage);
        return ready;
    }
    if (lock_take(&s->rx) < 0)
        return 0;
    ready = ready_link(s);
    lock_give(&s->rx);
    return ready;
}

uint64_t stream_arrived_pinned(struct stream *s)
{
    struct link *link = s->link;

    return link != NULL ? link->ops->arrived(link) : 0;
}

int stream_unread(struct stream *s)
{
    uint64_t there = 0, landed;
    int kernel = 0;

    lock_take(&s->rx);
    switch (handover_rx_mode(&s->h)) {
    case RX_LINK:
        landed = s->h.landed;
        s->link->ops->landed(s->link, s->h.took, s->h.landed, &landed);
        there = landed - s->h.took;
        break;
    case RX_LEFTOVER:
        there = s->h.have - s->h.took;
        break;
    case RX_DEAD:
        there = s->h.have > s->h.took ? s->h.have - s->h.took : 0;
        break;
    case RX_LIMITED:
    case RX_RAW:
        s->tcp->ioctl(s->fd, FIONREAD, &kernel);
        there = (uint64_t)kernel;
        if (handover_rx_mode(&s->h) == RX_LIMITED &&
            there > handover_rx_limit(&s->h))
            there = handover_rx_limit(&s->h);
        break;
    default:
        break;
    }
    lock_give(&s->rx);
    return there > INT32_MAX ? INT32_MAX : (int)there;
}

int stream_unsent(struct stream *s)
{
    uint64_t left = 0, freed;
    int kernel = 0;

    lock_take(&s->tx);
    if (handover_tx_mode(&s->h) == TX_LINK) {
        freed = s->h.freed;
        s->link->ops->freed(s->link, s->h.freed, s->h.wrote, &freed);
        left = s->h.wrote - freed;
        /* The half of the ring that stands for the peer's own buffer. */
        left -= left < s->link->tx.size / 2 ? left : s->link->tx.size / 2;
    } else {
        s->tcp->ioctl(s->fd, SIOCOUTQ, &kernel);
        left = (uint64_t)kernel;
        if (s->h.stage == STAGE_REPEATING)
            left += s->h.wrote - s->h.backlog;
    }
    lock_give(&s->tx);
    return left > INT32_MAX ? INT32_MAX : (int)left;
}

short stream_wait_for(struct stream *s, short events, struct peer **peer)
{
    short kernel = 0;

    *peer = NULL;
    lock_take(&s->stage);
    switch (handover_rx_mode(&s->h)) {
    case RX_RAW:
        kernel |= events & (POLLIN | POLLRDNORM | POLLRDHUP | POLLPRI);
        break;
    case RX_LIMITED:
        if (handover_rx_limit(&s->h) > 0)
            kernel |= events & (POLLIN | POLLRDNORM);
        break;
    default:
        break;
    }
    if (handover_tx_mode(&s->h) == TX_RAW && s->out_have == 0)
        kernel |= events & (POLLOUT | POLLWRNORM);
    if (s->h.stage == STAGE_UP && s->link != NULL) {
        *peer = s->link->peer;
        s->link->ops->peer_get(*peer);
        if (events & (POLLOUT | POLLWRNORM))
            s->link->ops->want_room(s->link);
    }
    lock_give(&s->stage);
    return kernel;
}
