/*
 * See overlay.h.
 *
 * A reader never asks the kernel for more than what is missing of the current
 * record, so it cannot swallow a raw byte behind RAW.
 */
#include "transport/stream/overlay.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

enum { KERNEL_ESTABLISHED = 1 }; /* TCP_ESTABLISHED of netinet/tcp.h */

void overlay_put_record(struct stream *s, const struct control_record *r)
{
    if (s->out_done == s->out_have)
        s->out_done = s->out_have = 0;
    record_encode(r, s->record_out + s->out_have);
    s->out_have += RECORD_SIZE;
}

/*
 * Neither Nagle nor TCP_CORK may keep a record back. Setting the option sends
 * what waits; it is taken back at once, so the application's choice stands.
 */
static void push(struct stream *s)
{
    int on = 1, was = 0, waits = 1;
    socklen_t len = sizeof(was);

    if (s->tcp->ioctl(s->fd, SIOCOUTQNSD, &waits) == 0 && waits == 0)
        return;
    if (s->tcp->getsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &was, &len) < 0)
        return;
    s->tcp->setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (!was)
        s->tcp->setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &was, sizeof(was));
}

int overlay_flush(struct stream *s)
{
    bool any = s->out_done < s->out_have;

    while (s->out_done < s->out_have) {
        ssize_t n = s->tcp->send(s->fd, s->record_out + s->out_done,
                                 s->out_have - s->out_done,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        s->out_done += (unsigned)n;
        s->extra_out += (uint64_t)n;
    }
    s->out_done = s->out_have = 0;
    if (any)
        push(s);
    return 0;
}

int overlay_repeat(struct stream *s)
{
    struct byte_ring *tx = &s->link->tx;

    while (s->h.backlog < s->h.wrote) {
        uint64_t left = s->h.wrote - s->h.backlog;
        uint32_t idx = (uint32_t)s->h.backlog & (tx->span - 1);
        ssize_t n;

        if (left > tx->span - idx)
            left = tx->span - idx;
        n = s->tcp->send(s->fd, tx->bytes + idx, left,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        s->h.backlog += (uint64_t)n;
        s->extra_out += (uint64_t)n;
    }
    return 0;
}

/*
 * The beginning of a record of this stream, as far as it is here? Only then is
 * its rest worth waiting for.
 */
static bool may_be_record(const struct stream *s)
{
    uint8_t expected[RECORD_SIZE];
    size_t len = s->in_have < RECORD_PREFIX ? s->in_have : RECORD_PREFIX;

    record_encode(&(struct control_record){.tag = s->h.tag_in}, expected);
    return memcmp(s->record_in, expected, len) == 0;
}

int overlay_get_record(struct stream *s, struct control_record *r)
{
    while (s->in_have < RECORD_SIZE) {
        ssize_t n = s->tcp->recv(s->fd, s->record_in + s->in_have,
                                 RECORD_SIZE - s->in_have, MSG_DONTWAIT);

        if (n == -EINTR)
            continue;
        if (n == 0 && s->in_have > 0)
            return -EBADMSG;
        if (n <= 0)
            return (int)n;
        s->in_have += (unsigned)n;
        s->extra_in += (uint64_t)n;
        if (!may_be_record(s))
            return -EBADMSG;
    }
    s->in_have = 0;
    return record_decode(s->record_in, r) < 0 ? -EBADMSG : 1;
}

static ssize_t recv_now(struct stream *s, uint8_t *buf, size_t n, int flags)
{
    ssize_t rc;

    do
        rc = s->tcp->recv(s->fd, buf, n, MSG_DONTWAIT | flags);
    while (rc == -EINTR);
    return rc;
}

/*
 * 1 the rest of SWITCH lies there; 0 it may become one; or as
 * overlay_look_switch(). A part of it is taken and kept: the kernel may have no
 * room for the rest as long as a few bytes of a large buffer lie unread.
 */
static int compare_switch(struct stream *s)
{
    uint8_t seen[RECORD_SIZE], expected[RECORD_SIZE];
    size_t have = s->in_have;
    struct control_record r;
    ssize_t n, took;
    int unread = 0;

    /* An error stays where it is as long as a part waits for its rest. */
    if (have > 0 &&
        (s->tcp->ioctl(s->fd, FIONREAD, &unread) < 0 || unread == 0))
        return 0;
    handover_expected_switch(&s->h, &r);
    record_encode(&r, expected);
    n = recv_now(s, seen, RECORD_SIZE - have, MSG_PEEK);
    if (n < 0)
        return (int)n;
    if (n == 0 || memcmp(seen, expected + have, (size_t)n) != 0)
        return -EBADMSG;
    if (have + (size_t)n == RECORD_SIZE)
        return 1;
    took = recv_now(s, s->record_in + have, (size_t)n, 0);
    if (took < 0)
        return (int)took;
    s->in_have += (unsigned)took;
    s->extra_in += (uint64_t)took;
    return took == n ? 0 : -EBADMSG; /* somebody else reads here, too */
}

int overlay_look_switch(struct stream *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLRDHUP};
    int rc = compare_switch(s);

    if (rc != 0)
        return rc;
    /* The beginning of one, or bytes of the application that look like it. */
    if (s->h.channel_dead && s->link != NULL && s->link->ops->started != NULL &&
        !s->link->ops->started(s->link, s->h.epoch))
        return -EBADMSG;
    /* Does anything still come behind it? */
    if (s->tcp->poll(&p, 1, 0) != 1)
        return -EAGAIN;
    rc = compare_switch(s);
    if (rc != 0)
        return rc;
    /*
     * A reset may have cut a record; a FIN comes after bytes that are raw.
     * POLLERR is gone once somebody was told the error; POLLHUP stays, but
     * comes of two FINs as well, one each way.
     */
    if ((p.revents & POLLERR) || ((p.revents & POLLHUP) && !s->h.fin_sent))
        return -ECONNRESET;
    return -EBADMSG;
}

int overlay_get_switch(struct stream *s)
{
    uint8_t seen[RECORD_SIZE];
    int rc = overlay_look_switch(s);
    ssize_t n;

    if (rc != 1)
        return rc;
    n = recv_now(s, seen, RECORD_SIZE - s->in_have, 0);
    if (n < 0)
        return (int)n;
    if (s->in_have + (size_t)n != RECORD_SIZE)
        return -EBADMSG; /* somebody else reads here, too */
    s->in_have = 0;
    s->extra_in += (uint64_t)n;
    return 1;
}

void overlay_give_back(struct stream *s)
{
    struct byte_ring kept = {s->kept, KEPT_SIZE, KEPT_SIZE};

    ring_put(&kept, s->h.took, s->record_in, s->in_have);
    s->h.have = s->h.took + s->in_have;
    s->has_kept = true;
    s->in_have = 0;
}

void overlay_linger_set(struct stream *s)
{
    struct linger reset = {1, 0};
    socklen_t len = sizeof(s->linger);

    if (s->linger_changed)
        return;
    if (s->tcp->getsockopt(s->fd, SOL_SOCKET, SO_LINGER, &s->linger, &len) < 0)
        memset(&s->linger, 0, sizeof(s->linger));
    s->tcp->setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    s->linger_changed = true;
}

void overlay_linger_restore(struct stream *s)
{
    if (!s->linger_changed)
        return;
    s->tcp->setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &s->linger,
                       sizeof(s->linger));
    s->linger_changed = false;
}

static bool get_info(struct stream *s, struct tcp_info *info)
{
    socklen_t len = sizeof(*info);

    return s->tcp->getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

/* The first and the last look agree, so nothing moved between. */
static bool look_at_out(struct stream *s, struct tcp_info *info, int *unsent)
{
    for (int tries = 0; tries < 3; tries++) {
        int before = -1;

        if (s->tcp->ioctl(s->fd, SIOCOUTQ, &before) < 0 || !get_info(s, info) ||
            s->tcp->ioctl(s->fd, SIOCOUTQ, unsent) < 0)
            return false;
        if (before == *unsent)
            break;
    }
    return true;
}

/*
 * The kernel counts the SYN of the connecting end as one acknowledged byte
 * (seen on Linux 6.1 to 6.18), and nothing on the accepting end.
 */
enum reason overlay_why_not_up(struct stream *s)
{
    struct tcp_info info;
    uint64_t out = s->h.wrote - s->link_bytes_out + s->extra_out;
    uint64_t in = s->h.took - s->link_bytes_in + s->extra_in;
    int unsent = 0, unread = 0;

    if (!look_at_out(s, &info, &unsent) ||
        info.tcpi_state != KERNEL_ESTABLISHED)
        return REASON_HALF_CLOSED;
    if (info.tcpi_bytes_acked + (uint64_t)unsent - (s->h.initiator ? 1 : 0) !=
        out)
        return REASON_FOREIGN_BYTES;
    for (int tries = 0; tries < 5; tries++) {
        if (s->tcp->ioctl(s->fd, FIONREAD, &unread) < 0)
            return REASON_HALF_CLOSED;
        if (info.tcpi_bytes_received - (uint64_t)unread == in)
            return REASON_NONE;
        if (!get_info(s, &info))
            return REASON_HALF_CLOSED;
    }
    return REASON_FOREIGN_BYTES;
}

/*
 * The kernel's count, in which a FIN is one byte (tcp_rcv_nxt_update of
 * Linux): another holder of the connection may have read what is missing here.
 */
bool overlay_repeat_is_cut(struct stream *s)
{
    struct tcp_info info;
    uint64_t due = s->h.repeat_end - s->link_bytes_in + s->extra_in;

    if (s->h.took >= s->h.repeat_end || atomic_load(&s->shut_rd))
        return false;
    return !get_info(s, &info) || info.tcpi_bytes_received < due + 1;
}

void overlay_reset(struct stream *s)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    s->tcp->connect(s->fd, &none, sizeof(none));
}
