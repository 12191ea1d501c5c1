/*
 * See fake_transport.h.
 *
 * All that an end says is changed under the wire's lock; the other end looks
 * at visible_commit and visible_release without it. They are stored before
 * anybody's `armed` is looked at: that order loses no wake-up.
 */
#include "tests/support/fake_transport.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "transport/pause.h"
#include "transport/waiter_ids.h"

static uint8_t memory[4 * FAKE_RING_MOST];

static struct fake_link *of(struct link *link)
{
    return (struct fake_link *)link;
}

static struct fake_peer *peer_of(struct peer *peer)
{
    return (struct fake_peer *)peer;
}

static struct fake_link *opposite(struct fake_link *l)
{
    return &l->wire->end[!l->side];
}

void fake_wire_start_at(struct fake_wire *w, uint32_t size, bool by_hand,
                        bool device, uint8_t *bytes,
                        struct fake_peer *const peer[2])
{
    assert((size & (size - 1)) == 0);
    memset(w, 0, sizeof(*w));
    w->by_hand = by_hand;
    w->device = device;
    for (int side = 0; side < 2; side++) {
        w->ring[side][0] = bytes + (size_t)side * 2 * size;
        w->ring[side][1] = w->ring[side][0] + size;
        memset(w->ring[side][0], 0xee, size);
        memset(w->ring[side][1], 0xdd, size);
    }
    for (int side = 0; side < 2; side++) {
        struct fake_link *l = &w->end[side];

        l->wire = w;
        l->side = side;
        l->link.ops = device ? &fake_device_ops : &fake_ops;
        l->link.peer = peer != NULL ? &peer[side]->peer : &w->own[side].peer;
        l->link.tx.size = l->link.rx.size = size;
        l->link.tx.span = l->link.rx.span = size;
        l->link.tx.bytes = w->ring[side][0];
        l->link.rx.bytes = w->ring[!side][1];
        w->own[side].peer.ops = l->link.ops;
        w->own[side].refs = 1;
    }
}

void fake_wire_start(struct fake_wire *w, uint32_t size, bool by_hand,
                     bool device)
{
    assert(size <= FAKE_RING_MOST);
    fake_wire_start_at(w, size, by_hand, device, memory, NULL);
}

static void peer_get(struct peer *peer)
{
    atomic_fetch_add(&peer_of(peer)->refs, 1);
}

static void peer_put(struct peer *peer)
{
    struct fake_peer *p = peer_of(peer);

    if (atomic_fetch_sub(&p->refs, 1) == 1 && p->calls != NULL)
        free(p);
}

struct link *fake_link_take(struct fake_wire *w, int side, void *owner)
{
    struct fake_link *l = &w->end[side];
    struct fake_peer *p = peer_of(l->link.peer);

    l->link.owner = owner;
    l->in_use = true;
    peer_get(&p->peer);
    lock_take(&p->lock);
    l->next = p->links;
    p->links = l;
    lock_give(&p->lock);
    return &l->link;
}

/* ---- waking; the wire's lock is held ---- */

/* Something has landed at that end. */
static void notify(struct fake_link *l)
{
    struct fake_peer *p = peer_of(l->link.peer);
    uint64_t ids = atomic_load(&l->watchers);

    if (!l->in_use || p->calls == NULL)
        return;
    for (; ids != 0; ids >>= 16) {
        unsigned id = ids & 0xffff;

        if (id == 0 || id >= WAITERS_MAX)
            continue;
        if (waiter_ids_have(atomic_load(&l->markers), id)) {
            lock_take(&p->lock);
            l->news = waiter_ids_with(l->news, id, true);
            lock_give(&p->lock);
        }
        if (atomic_exchange(&p->armed[id], false))
            p->calls->ring(p, id);
    }
}

static void under_way(struct fake_link *to)
{
    struct fake_peer *p = peer_of(to->link.peer);

    if (to->in_use && p->calls != NULL)
        p->calls->under_way(p);
}

static bool is_lost(const struct fake_link *l)
{
    const struct fake_wire *w = l->wire;

    return w->broken && (w->one_way == 0 || (w->one_way >> l->side & 1));
}

static void land_bytes(struct fake_link *l, uint64_t n)
{
    uint32_t mask = l->link.tx.size - 1;
    uint64_t at = atomic_load(&l->visible_commit);

    if (is_lost(l) || at >= l->committed || n == 0)
        return;
    for (; n > 0 && at < l->committed; n--, at++)
        l->wire->ring[l->side][1][at & mask] =
            l->wire->ring[l->side][0][at & mask];
    atomic_store(&l->visible_commit, at);
    notify(opposite(l));
}

/* A writer who has asked is told when a third of his ring is free. */
static void land_release(struct fake_link *l)
{
    struct fake_link *writer = opposite(l);
    uint32_t size = l->link.rx.size;

    if (is_lost(l) || atomic_load(&l->visible_release) == l->released)
        return;
    atomic_store(&l->visible_release, l->released);
    if (writer->wants_room &&
        writer->committed - l->released <= size - size / 3) {
        writer->wants_room = false;
        notify(writer);
    }
}

void fake_land(struct fake_wire *w, int side, uint64_t n)
{
    lock_take(&w->lock);
    land_bytes(&w->end[side], n);
    land_release(&w->end[side]);
    lock_give(&w->lock);
}

/* ---- the operations of a link ---- */

static void operation(struct fake_link *l)
{
    struct fake_wire *w = l->wire;

    if (++w->operations == w->break_at)
        w->broken = true;
    if (!w->by_hand) {
        land_bytes(l, UINT64_MAX);
        land_release(l);
    } else {
        under_way(opposite(l));
    }
}

static void start(struct link *link, uint32_t epoch, uint64_t leave,
                  uint64_t arrive)
{
    struct fake_link *l = of(link);

    lock_take(&l->wire->lock);
    l->committed = leave;
    l->visible_commit = leave;
    l->released = arrive;
    l->visible_release = arrive;
    l->wants_room = false;
    l->epoch = epoch;
    l->wire->starts++;
    operation(l);
    lock_give(&l->wire->lock);
}

static bool started(struct link *link, uint32_t epoch)
{
    struct fake_link *l = of(link);
    bool has;

    lock_take(&l->wire->lock);
    has = opposite(l)->epoch == epoch;
    lock_give(&l->wire->lock);
    return has;
}

static void commit(struct link *link, uint64_t wrote)
{
    struct fake_link *l = of(link);

    lock_take(&l->wire->lock);
    l->committed = wrote;
    operation(l);
    lock_give(&l->wire->lock);
}

static void release(struct link *link, uint64_t took)
{
    struct fake_link *l = of(link);

    lock_take(&l->wire->lock);
    l->released = took;
    operation(l);
    lock_give(&l->wire->lock);
}

static uint64_t seen_commit(struct fake_link *l)
{
    struct fake_wire *w = l->wire;

    return w->lie[!l->side] ? w->lie_commit[!l->side]
                            : opposite(l)->visible_commit;
}

static int landed(struct link *link, uint64_t took, uint64_t before,
                  uint64_t *out)
{
    uint64_t seen = seen_commit(of(link));

    if (seen < before || seen > took + link->rx.size)
        return -EPROTO;
    *out = seen;
    return 0;
}

static int freed(struct link *link, uint64_t before, uint64_t wrote,
                 uint64_t *out)
{
    struct fake_link *l = of(link);
    struct fake_wire *w = l->wire;
    uint64_t seen = w->lie[!l->side] ? w->lie_release[!l->side]
                                     : opposite(l)->visible_release;

    if (seen < before || seen > wrote)
        return -EPROTO;
    *out = seen;
    return 0;
}

static void want_room(struct link *link)
{
    struct fake_link *l = of(link);

    lock_take(&l->wire->lock);
    l->wants_room = true;
    lock_give(&l->wire->lock);
}

static uint64_t arrived(struct link *link)
{
    return seen_commit(of(link));
}

static void watch(struct link *link, uint64_t watchers)
{
    atomic_store(&of(link)->watchers, watchers);
    full_fence();
}

static void set_marked(struct link *link, unsigned waiter, bool on)
{
    struct fake_link *l = of(link);

    atomic_store(&l->markers,
                 waiter_ids_with(atomic_load(&l->markers), waiter, on));
    full_fence();
}

static bool peer_is_here(struct link *link, uint32_t cpu)
{
    (void)link;
    (void)cpu;
    return false;
}

/* Its memory is gone, on both sides of the wire. */
static void rest(struct link *link, bool on)
{
    struct fake_link *l = of(link);

    if (!on)
        return;
    memset(l->wire->ring[l->side][0], 0xe1, link->tx.size);
    memset(l->wire->ring[l->side][1], 0xd2, link->tx.size);
    l->rests++;
}

static void set_aborted(struct link *link)
{
    of(link)->aborted = true;
}

static bool aborted(struct link *link)
{
    return opposite(of(link))->aborted;
}

/* ---- the channel ---- */

/* The wire's lock is held. */
static void put_message(struct fake_link *l, const struct control_message *m)
{
    assert(l->n_messages - l->at_message < FAKE_MESSAGES);
    l->queue[l->n_messages++ % FAKE_MESSAGES] = *m;
    under_way(opposite(l));
}

static int say(struct link *link, struct control_message *message)
{
    struct fake_link *l = of(link);
    bool dead;

    lock_take(&l->wire->lock);
    dead = fake_channel_ended(l->wire, l->side);
    if (!dead)
        put_message(l, message);
    lock_give(&l->wire->lock);
    return dead ? -EPIPE : 0;
}

unsigned fake_messages(const struct fake_wire *w, int side)
{
    return w->end[side].n_messages - w->end[side].at_message;
}

bool fake_channel_ended(const struct fake_wire *w, int side)
{
    return w->channel_dead || w->end[side].ended;
}

/* What the owner has no part in. The wire's lock is held. */
static bool is_internal(struct fake_link *to, const struct control_message *m)
{
    struct control_message ping = {.type = MESSAGE_PING};
    struct control_message pong = {.type = MESSAGE_PONG};

    switch (m->type) {
    case MESSAGE_BYE:
        to->ended = true;
        return true;
    case MESSAGE_PING:
        if (!fake_channel_ended(to->wire, to->side))
            put_message(to, &pong);
        return true;
    case MESSAGE_PONG:
        to->pinged = to->ask_again && !fake_channel_ended(to->wire, to->side);
        to->ask_again = false;
        if (to->pinged)
            put_message(to, &ping);
        return to->pinged;
    default:
        return false;
    }
}

bool fake_deliver(struct fake_wire *w, int side)
{
    struct fake_link *l = &w->end[side], *to = &w->end[!side];
    struct control_message m;
    bool tell;

    lock_take(&w->lock);
    if (l->at_message == l->n_messages) {
        lock_give(&w->lock);
        return false;
    }
    m = l->queue[l->at_message++ % FAKE_MESSAGES];
    land_bytes(l, UINT64_MAX);
    tell = to->in_use && !is_internal(to, &m);
    lock_give(&w->lock);
    if (tell)
        w->message(to->link.owner, &m);
    return true;
}

void fake_channel_end(struct fake_wire *w, bool lose0, bool lose1)
{
    w->channel_dead = true;
    if (lose0)
        w->end[0].at_message = w->end[0].n_messages;
    if (lose1)
        w->end[1].at_message = w->end[1].n_messages;
}

void fake_peer_gone(struct fake_wire *w, int side)
{
    if (!w->device)
        fake_land(w, side, UINT64_MAX);
    else
        w->end[side].committed = w->end[side].visible_commit;
    w->channel_dead = true;
    w->gone[side] = true;
}

/* Over a device nothing that is seen says that there is no more to come. */
static int drain(struct link *link)
{
    struct control_message ping = {.type = MESSAGE_PING};
    struct fake_link *l = of(link);
    struct fake_wire *w = l->wire;

    if (!w->device || fake_channel_ended(w, l->side)) {
        while (fake_deliver(w, !l->side))
            ;
        return fake_channel_ended(w, l->side) ? -EPIPE : 0;
    }
    l->ask_again = l->pinged; /* what it says to the first may be too old */
    if (!l->pinged) {
        l->pinged = true;
        say(link, &ping);
    }
    return -EAGAIN;
}

/* What is known of it through a broken link is nothing. */
static bool peer_alive(struct link *link)
{
    struct fake_link *l = of(link);

    return l->wire->broken || !l->wire->gone[!l->side];
}

static void give_back(struct link *link)
{
    struct control_message bye = {.type = MESSAGE_BYE};
    struct fake_link *l = of(link), **at;
    struct fake_peer *p = peer_of(link->peer);
    struct fake_wire *w = l->wire;

    lock_take(&w->lock);
    l->in_use = false;
    if (!fake_channel_ended(w, l->side) && opposite(l)->in_use)
        put_message(l, &bye);
    lock_give(&w->lock);
    lock_take(&p->lock);
    for (at = &p->links; *at != l; at = &(*at)->next)
        ;
    *at = l->next;
    lock_give(&p->lock);
    if (p->calls != NULL)
        p->calls->freed(w, l->side); /* the wire may be gone now */
    peer_put(&p->peer);
}

/* ---- peers ---- */

static void peer_arm(struct peer *peer, unsigned waiter, bool on)
{
    atomic_store(&peer_of(peer)->armed[waiter], on);
}

/* Takes one mark of that waiter's. */
static struct fake_link *find_mark(struct peer *peer, unsigned waiter,
                                   bool take)
{
    struct fake_peer *p = peer_of(peer);
    struct fake_link *l;

    lock_take(&p->lock);
    for (l = p->links; l != NULL && !waiter_ids_have(l->news, waiter);
         l = l->next)
        ;
    if (l != NULL && take)
        l->news = waiter_ids_with(l->news, waiter, false);
    lock_give(&p->lock);
    return l;
}

static bool peer_has_mark(struct peer *peer, unsigned waiter)
{
    return find_mark(peer, waiter, false) != NULL;
}

static void *peer_next_mark(struct peer *peer, unsigned waiter)
{
    struct fake_link *l = find_mark(peer, waiter, true);

    return l != NULL ? l->link.owner : NULL;
}

static bool delivered(struct link *link, uint64_t wrote)
{
    return of(link)->visible_commit >= wrote;
}

#define FAKE_OPS                                                               \
    .start = start, .commit = commit, .landed = landed, .release = release,    \
    .freed = freed, .want_room = want_room, .arrived = arrived, .rest = rest,  \
    .watch = watch, .set_marked = set_marked, .peer_is_here = peer_is_here,    \
    .set_aborted = set_aborted, .aborted = aborted, .send = say,               \
    .drain = drain, .peer_alive = peer_alive, .free = give_back,               \
    .peer_get = peer_get, .peer_put = peer_put, .peer_arm = peer_arm,          \
    .peer_has_mark = peer_has_mark, .peer_next_mark = peer_next_mark

const struct transport_ops fake_ops = {
    .name = "fake", .started = started, FAKE_OPS};
const struct transport_ops fake_device_ops = {
    .name = "fake device", .delivered = delivered, FAKE_OPS};
