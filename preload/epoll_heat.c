/*
 * Hot and cold registrations of a set: a turn looks at the hot ones, the cold
 * ones have their links marked when something comes (docs/epoll.md).
 */
#include "preload/epoll_private.h"
#include "transport/pause.h"

enum {
    HOT_ENOUGH = 64,   /* beyond this, quiet registrations become cold */
    QUIET_ENOUGH = 64, /* scans without an event */
    HOT_LEAST = 2,     /* beyond this, those that others leave far behind */
    LEFT_BEHIND = 512  /* scans with events, none of them its own */
};

bool epoll_is_marked(const struct epoll_set *set)
{
    if (atomic_load_explicit(&set->promote, memory_order_relaxed))
        return true;
    for (unsigned i = 0; i < set->n_peers; i++)
        if (peer_ops(set->peers[i].peer)
                ->peer_has_mark(set->peers[i].peer, set->waiter->id))
            return true;
    return false;
}

/* It is hot. Does the link have to mark it for another of the set? */
static void stop_marks(struct epoll_set *set, struct epoll_reg *reg)
{
    struct link *link = reg->endpoint->stream.link;

    for (struct epoll_reg *r = reg->endpoint->regs; r != NULL; r = r->next)
        if (r->set == set && r->managed && !r->hot)
            return;
    if (link != NULL)
        link->ops->set_marked(link, set->waiter->id, false);
}

/*
 * Marks of cold registrations, and those that were promoted by name. The lists
 * walked here change under the registry lock, which comes before the set's.
 */
void epoll_warm_up(struct epoll_set *set)
{
    epoll_registry_lock();
    lock_enter(&set->lock);
    for (unsigned i = 0; i < set->n_peers; i++) {
        struct peer *peer = set->peers[i].peer;
        struct endpoint *e;

        while ((e = peer_ops(peer)->peer_next_mark(peer, set->waiter->id)) !=
               NULL)
            for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
                if (r->set == set && r->managed) {
                    epoll_make_hot(set, r);
                    stop_marks(set, r);
                }
    }
    if (atomic_exchange(&set->promote, false))
        for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
            if (r->managed && r->promote) {
                r->promote = false;
                epoll_make_hot(set, r);
                stop_marks(set, r);
            }
    lock_leave(&set->lock);
    epoll_registry_unlock();
}

/*
 * A registration that waits for room: the peer shall say when there is some.
 * Set lock held; look again afterwards. False: it does not wait for that.
 */
bool epoll_want_room(struct epoll_reg *reg)
{
    struct stream *s = &reg->endpoint->stream;
    struct link *link = s->link;

    if (!(reg->events & WRITABLE) || reg->disarmed || link == NULL ||
        !stream_is_up(s) || (stream_ready_pinned(s) & (POLLOUT | POLLNVAL)))
        return false;
    link->ops->want_room(link);
    return true;
}

/* A registration that was quiet. False: it cannot be marked, so it stays. */
bool epoll_cool_down(struct epoll_set *set, struct epoll_reg *reg)
{
    uint32_t awaited = reg->events | EPOLLERR | EPOLLHUP;
    struct link *link = reg->endpoint->stream.link;

    if (link == NULL)
        return false;
    link->ops->set_marked(link, set->waiter->id, true);
    if (!epoll_want_room(reg))
        awaited &= ~(uint32_t)WRITABLE;
    epoll_make_cold(set, reg);
    full_fence(); /* who tells of an end looks whether it is cold */
    /*
     * It may have come just before the mark was asked for; or another thread's
     * write was refused, and there is room by now, which no mark will tell of.
     */
    if ((stream_ready_pinned(&reg->endpoint->stream) & (POLLNVAL | awaited)) ||
        epoll_events_of(reg, true) != 0)
        epoll_make_hot(set, reg);
    return true;
}

/*
 * A look at a quiet registration costs each event of the others something, a
 * mark each event of its own: it is cold when others have many more. Looks
 * that find nothing cost nobody anything, unless there are many to look at.
 */
bool epoll_is_quiet(struct epoll_set *set, struct epoll_reg *reg)
{
    if (set->n_hot > HOT_ENOUGH && ++reg->quiet_scans > QUIET_ENOUGH)
        return true;
    return set->n_hot > HOT_LEAST &&
           set->hit_scans - reg->hit_at > LEFT_BEHIND &&
           peer_wake_fd(reg->peer) < 0; /* a device marks what it has seen */
}
