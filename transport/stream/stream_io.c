/*
 * The application's side of a managed stream: one try to read or write. What
 * it is ready for is in stream_ready.c.
 *
 * On the link this is the hot path: one lock, a look at one word of the
 * peer's, a copy, a store. Everything else hands the call on to TCP within
 * the limits of the handover.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "transport/pause.h"
#include "transport/stream/overlay.h"
#include "transport/stream/stream_private.h"

enum {
    ANSWER_LINES = 3, /* what a short answer takes */
    LINE = 64,
    PIECE = 16384 /* both ends copy at the same time: see decision 0038 */
};

static size_t length_of(const struct iovec *iov, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

/* Off the link; for TCP, where bare calls count too, see stream_count_in(). */
static void count_in(struct stream *s, uint64_t n)
{
    __atomic_store_n(&s->h.took, s->h.took + n, __ATOMIC_RELAXED);
    atomic_store_explicit(&s->bytes->in, s->h.took, memory_order_relaxed);
    s->link_bytes_in += n;
    atomic_store_explicit(&s->bytes->link_in, s->link_bytes_in,
                          memory_order_relaxed);
}

static bool reaches(const struct stream *s, const struct iovec *iov, int n,
                    size_t skip, size_t len, bool write)
{
    struct reach *reach = s->calls->reach;

    if (reach == NULL)
        return true;
    if (__builtin_expect(n == 1, 1))
        return reach_ok(reach, (char *)iov[0].iov_base + skip, len, write);
    return reach_ok_vector(reach, iov, n, skip, len, write);
}

static void copy_out(struct stream *s, const struct byte_ring *ring,
                     const struct iovec *iov, int n, size_t skip, size_t len)
{
    if (n == 1)
        ring_get(ring, s->h.took, (char *)iov[0].iov_base + skip, len);
    else
        ring_get_iov(ring, s->h.took, iov, n, skip, len);
}

/*
 * Up to len bytes of [took, until) out of the ring. Each piece is released
 * before the next one, if the peer is to have the room.
 */
static ssize_t take(struct stream *s, const struct byte_ring *ring,
                    const struct iovec *iov, int n, size_t len, uint64_t until,
                    int flags, bool release)
{
    uint64_t there = until - s->h.took;
    size_t done = 0;

    if (len > there)
        len = (size_t)there;
    if (!(flags & MSG_TRUNC) && !reaches(s, iov, n, 0, len, true))
        return -EFAULT;
    if (flags & MSG_PEEK) {
        if (!(flags & MSG_TRUNC))
            copy_out(s, ring, iov, n, 0, len);
        return (ssize_t)len;
    }
    while (done < len) {
        size_t piece = len - done < PIECE ? len - done : PIECE;

        if (!(flags & MSG_TRUNC))
            copy_out(s, ring, iov, n, done, piece);
        count_in(s, piece);
        if (release)
            s->link->ops->release(s->link, s->h.took);
        done += piece;
    }
    return (ssize_t)len;
}

/* Who reads a request soon writes an answer: have its lines here by then. */
static void expect_answer(const struct stream *s)
{
    const struct byte_ring *tx = &s->link->tx;
    uint64_t at = __atomic_load_n(&s->h.wrote, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < ANSWER_LINES; i++, at += LINE)
        expect_write(ring_hint(tx, at));
}

static inline void stir(struct stream *s)
{
    if (__builtin_expect(atomic_load_explicit(&s->quiet, memory_order_relaxed),
                         0) &&
        atomic_exchange(&s->quiet, false))
        s->calls->kick(s);
}

/* rx lock held. */
static ssize_t recv_link(struct stream *s, const struct iovec *iov, int n,
                         size_t len, int flags)
{
    ssize_t done;

    if (s->h.landed - s->h.took < len) {
        uint64_t landed;
        int rc = s->link->ops->landed(s->link, s->h.took, s->h.landed, &landed);

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
    done = take(s, &s->link->rx, iov, n, len, s->h.landed, flags, true);
    stir(s);
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
        stream_count_in(s, (size_t)rc);
    if (rc > 0 && s->managed) /* news, and the helper may be late to see it */
        atomic_fetch_add(&s->told, 1);
    return rc;
}

/*
 * Up to `have`: what is left of a link, or bytes that were kept at `arrive`.
 * Behind those TCP goes on, and who only looks shall see that, too.
 */
static ssize_t recv_leftover(struct stream *s, const struct iovec *iov, int n,
                             size_t len, int flags)
{
    struct byte_ring kept = {s->kept, KEPT_SIZE, KEPT_SIZE};
    struct iovec rest;
    ssize_t done, more = 0;
    int unread = 0;

    if (!s->has_kept)
        return take(s, &s->link->rx, iov, n, len, s->h.have, flags, false);
    done = take(s, &kept, iov, n, len, s->h.have, flags, false);
    if ((flags & (MSG_PEEK | MSG_TRUNC)) == MSG_PEEK && n == 1 && done > 0 &&
        s->tcp->ioctl(s->fd, FIONREAD, &unread) == 0 && unread > 0 &&
        (size_t)done < len) {
        rest = (struct iovec){(char *)iov->iov_base + done, len - (size_t)done};
        more = recv_tcp(s, &rest, 1, UINT64_MAX, flags);
    }
    return more > 0 ? done + more : done;
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
    if (rc != 0 || s->in_have > 0 || s->h.took < s->h.repeat_end)
        s->error = ECONNRESET; /* it goes on in a way we cannot follow */
    s->raw_left = false;
    return 0;
}

static ssize_t recv_dead(struct stream *s, const struct iovec *iov, int n,
                         size_t len, int flags)
{
    int error;
    ssize_t rc;

    if ((s->link != NULL || s->has_kept) && s->h.took < s->h.have)
        return recv_leftover(s, iov, n, len, flags);
    if (len == 0 && s->raw_left && s->h.took < s->raw_until)
        return 0; /* it takes none of them */
    rc = s->raw_left ? recv_raw_left(s, iov, n, flags) : 0;
    if (rc > 0)
        return rc;
    error = s->error;
    if (error == EPIPE)
        return 0; /* the end came first, the reset is for writers */
    s->error = 0; /* also for who only looks */
    return error != 0 ? -error : 0;
}

/* Behind the last byte of the ring TCP goes on: as one read would have it. */
static ssize_t recv_rest(struct stream *s, const struct iovec *iov, size_t done,
                         int flags)
{
    struct iovec rest = {NULL, iov->iov_len - done};
    ssize_t rc = 0;

    if (iov->iov_base != NULL) /* as it may be with MSG_TRUNC */
        rest.iov_base = (char *)iov->iov_base + done;
    if (rest.iov_len > 0 && stream_unread(s) > 0)
        rc = stream_recv(s, &rest, 1, flags);
    return (ssize_t)done + (rc > 0 ? rc : 0);
}

ssize_t stream_recv(struct stream *s, const struct iovec *iov, int n, int flags)
{
    size_t len = length_of(iov, n);
    bool boundary = false, leftover = false; /* it was the last of it */
    ssize_t rc;

    if (flags & MSG_PEEK)
        atomic_store_explicit(&s->peeks, true, memory_order_relaxed);
#ifdef PLANT_PEEK_CONSUMES
    flags &= ~MSG_PEEK;
#endif
    if (stream_take(s, &s->rx) < 0)
        return -EDEADLK; /* a signal handler inside its own call */
    switch (handover_rx_mode(&s->h)) {
    case RX_LINK:
        rc = recv_link(s, iov, n, len, flags);
        break;
    case RX_LEFTOVER:
        rc = recv_leftover(s, iov, n, len, flags);
        boundary = leftover = s->h.took == s->h.have;
        break;
    case RX_RAW:
        rc = recv_tcp(s, iov, n, UINT64_MAX, flags);
        boundary = handover_offer_due(&s->h);
        if (rc != 0 || len == 0)
            break;
        s->h.fin_seen = true;
        if (overlay_repeat_is_cut(s)) {
            rc = -ECONNRESET;
            s->h.repeat_end = 0; /* told once, as errors are */
        }
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
        (atomic_load_explicit(&s->shut_rd, memory_order_relaxed) ||
         (stream_was_ended(s) && handover_ended(&s->h))))
        rc = 0;
    lock_give(&s->rx);
    if (rc == -EPROTO) {
        stream_abort(s, REASON_PEER_RULE);
        return stream_in_handler(s) ? -ECONNRESET
                                    : stream_recv(s, iov, n, flags);
    }
    if (boundary) {
        bool moved = stream_progress(s);

        if (stream_awaits_helper(s))
            s->calls->kick(s);
        if (moved && rc == -EAGAIN)
            return stream_recv(s, iov, n, flags);
        if (leftover)
            s->calls->kick(s); /* it is on TCP now */
        if (leftover && rc > 0 && n == 1)
            return recv_rest(s, iov, (size_t)rc, flags);
    }
    return rc;
}

/* What is copied at once of `len` bytes; no more than up to `stretch_at`. */
static inline size_t piece_of(struct link *link, uint64_t wrote, size_t len)
{
    uint64_t until;

    if (__builtin_expect(link->stretch_at == wrote, 0) &&
        link->ops->stretch != NULL)
        link->ops->stretch(link);
    until = link->stretch_at - wrote; /* large if that is behind */
    if (len > PIECE)
        len = PIECE;
    return until - 1 < len ? (size_t)until : len;
}

/* tx lock held. */
static ssize_t send_link(struct stream *s, const struct iovec *iov, int n,
                         size_t skip, size_t len)
{
    struct byte_ring *tx = &s->link->tx;
    uint64_t room = tx->size - (s->h.wrote - s->h.freed);
    uint64_t took = __atomic_load_n(&s->h.took, __ATOMIC_RELAXED);
    size_t done = 0;

    if (s->replied != took && s->link->commits != NULL)
        expect_write(s->link->commits); /* the peer may have looked since */
    s->replied = took;
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
    if (!reaches(s, iov, n, skip, len, false))
        return -EFAULT;
    while (done < len) {
        size_t piece = piece_of(s->link, s->h.wrote, len - done);

        if (n == 1)
            ring_put(tx, s->h.wrote,
                     (const char *)iov[0].iov_base + skip + done, piece);
        else
            ring_put_iov(tx, s->h.wrote, iov, n, skip + done, piece);
        __atomic_store_n(&s->h.wrote, s->h.wrote + piece, __ATOMIC_RELAXED);
        s->link->ops->commit(s->link, s->h.wrote);
        done += piece;
    }
    s->link_bytes_out += len;
    atomic_store_explicit(&s->bytes->out, s->h.wrote, memory_order_relaxed);
    atomic_store_explicit(&s->bytes->link_out, s->link_bytes_out,
                          memory_order_relaxed);
    stir(s);
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
        stream_count_out(s, (size_t)rc);
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

    if (stream_take(s, &s->tx) < 0)
        return -EDEADLK; /* a signal handler inside its own call */
    if (atomic_load_explicit(&s->shut_wr, memory_order_relaxed) ||
        s->leave_said) {
        rc = s->h.stage == STAGE_DEAD ? send_dead(s, len) : -EPIPE;
#ifdef PLANT_EAGAIN_FOR_EPIPE
        rc = -EAGAIN;
#endif
        lock_give(&s->tx);
        return rc;
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
        return stream_in_handler(s) ? -ECONNRESET
                                    : stream_send(s, iov, n, skip, flags);
    }
    return rc;
}
