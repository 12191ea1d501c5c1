/*
 * How many bytes are under way: what FIONREAD and SIOCOUTQ would say, whatever
 * carries the stream.
 */
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

#include "transport/stream/overlay.h"
#include "transport/stream/stream.h"

int stream_unread(struct stream *s)
{
    uint64_t there = 0, landed;
    int kernel = 0;

    if (stream_take(s, &s->rx) < 0)
        return 0; /* a signal handler inside its own call */
    switch (handover_rx_mode(&s->h)) {
    case RX_LINK:
        landed = s->h.landed;
        s->link->ops->landed(s->link, s->h.took, s->h.landed, &landed);
        there = landed - s->h.took;
        break;
    case RX_LEFTOVER:
        if (s->has_kept) /* in front of what TCP holds */
            s->tcp->ioctl(s->fd, FIONREAD, &kernel);
        there = s->h.have - s->h.took + (uint64_t)kernel;
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

void stream_tell_unread(struct stream *s)
{
    bool ended = (stream_ready(s) & POLLRDHUP) && !atomic_load(&s->shut_rd);

    if (!ended && stream_unread(s) <= 0)
        return;
    atomic_fetch_add(&s->again, 1);
    s->calls->wake(s);
}

int stream_unsent(struct stream *s)
{
    uint64_t left = 0, freed;
    int kernel = 0;

    if (stream_take(s, &s->tx) < 0)
        return 0;
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

bool stream_counts_match(struct stream *s)
{
    return overlay_why_not_up(s) == REASON_NONE;
}
