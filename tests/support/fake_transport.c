/*
 * See fake_transport.h.
 */
#include "tests/support/fake_transport.h"

#include <assert.h>
#include <string.h>

static uint8_t memory[4][FAKE_RING_MOST];

static struct fake_link *of(struct link *link)
{
    return (struct fake_link *)link;
}

static struct fake_link *opposite(struct fake_link *l)
{
    return &l->wire->end[!l->side];
}

void fake_wire_start(struct fake_wire *w, uint32_t size, bool by_hand,
                     bool device)
{
    assert(size <= FAKE_RING_MOST && (size & (size - 1)) == 0);
    memset(w, 0, sizeof(*w));
    w->by_hand = by_hand;
    w->device = device;
    for (int side = 0; side < 2; side++) {
        w->ring[side][0] = memory[side * 2];
        w->ring[side][1] = memory[side * 2 + 1];
        memset(w->ring[side][0], 0xee, size);
        memset(w->ring[side][1], 0xdd, size);
    }
    for (int side = 0; side < 2; side++) {
        struct fake_link *l = &w->end[side];

        l->wire = w;
        l->side = side;
        l->peer.ops = device ? &fake_device_ops : &fake_ops;
        l->link.ops = l->peer.ops;
        l->link.peer = &l->peer;
        l->link.tx.size = l->link.rx.size = size;
        l->link.tx.bytes = w->ring[side][0];
        l->link.rx.bytes = w->ring[!side][1];
    }
}

struct link *fake_link_take(struct fake_wire *w, int side, void *owner)
{
    w->end[side].link.owner = owner;
    w->end[side].in_use = true;
    return &w->end[side].link;
}

void fake_land(struct fake_wire *w, int side, uint64_t n)
{
    struct fake_link *l = &w->end[side];
    uint32_t mask = l->link.tx.size - 1;

    if (w->broken)
        return;
    while (n-- > 0 && l->visible_commit < l->committed) {
        uint32_t idx = (uint32_t)l->visible_commit++ & mask;

        w->ring[side][1][idx] = w->ring[side][0][idx];
    }
    l->visible_release = l->released;
}

static void operation(struct fake_link *l)
{
    struct fake_wire *w = l->wire;

    if (++w->operations == w->break_at)
        w->broken = true;
    if (!w->by_hand)
        fake_land(w, l->side, UINT64_MAX);
}

static void start(struct link *link, uint64_t leave, uint64_t arrive)
{
    struct fake_link *l = of(link);

    l->committed = l->visible_commit = leave;
    l->released = l->visible_release = arrive;
    l->wire->starts++;
    operation(l);
}

static void commit(struct link *link, uint64_t wrote)
{
    of(link)->committed = wrote;
    operation(of(link));
}

static void release(struct link *link, uint64_t took)
{
    of(link)->released = took;
    operation(of(link));
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
    of(link)->wants_room = true;
}

static uint64_t arrived(struct link *link)
{
    return seen_commit(of(link));
}

static void watch(struct link *link, uint64_t watchers)
{
    (void)link;
    (void)watchers;
}

static void set_marked(struct link *link, unsigned waiter, bool on)
{
    (void)link;
    (void)waiter;
    (void)on;
}

static bool peer_is_here(struct link *link, uint32_t cpu)
{
    (void)link;
    (void)cpu;
    return false;
}

static void set_aborted(struct link *link)
{
    of(link)->aborted = true;
}

static bool aborted(struct link *link)
{
    return opposite(of(link))->aborted;
}

static int say(struct link *link, struct control_message *message)
{
    struct fake_link *l = of(link);

    if (l->wire->channel_dead)
        return -EPIPE;
    assert(l->n_messages - l->at_message < FAKE_MESSAGES);
    l->queue[l->n_messages++ % FAKE_MESSAGES] = *message;
    return 0;
}

unsigned fake_messages(const struct fake_wire *w, int side)
{
    return w->end[side].n_messages - w->end[side].at_message;
}

bool fake_deliver(struct fake_wire *w, int side)
{
    struct fake_link *l = &w->end[side], *to = &w->end[!side];
    struct control_message m;

    if (l->at_message == l->n_messages)
        return false;
    m = l->queue[l->at_message++ % FAKE_MESSAGES];
    if (to->in_use)
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

static int drain(struct link *link)
{
    struct fake_wire *w = of(link)->wire;

    while (fake_deliver(w, !of(link)->side))
        ;
    return w->channel_dead ? -EPIPE : 0;
}

/* What is known of it through a broken link is nothing. */
static bool peer_alive(struct link *link)
{
    struct fake_link *l = of(link);

    return l->wire->broken || !l->wire->gone[!l->side];
}

static void give_back(struct link *link)
{
    of(link)->in_use = false;
}

static void peer_get(struct peer *peer)
{
    (void)peer;
}

static void peer_arm(struct peer *peer, unsigned waiter, bool on)
{
    (void)peer;
    (void)waiter;
    (void)on;
}

static bool peer_has_mark(struct peer *peer, unsigned waiter)
{
    (void)peer;
    (void)waiter;
    return false;
}

static void *peer_next_mark(struct peer *peer, unsigned waiter)
{
    (void)peer;
    (void)waiter;
    return NULL;
}

static bool delivered(struct link *link, uint64_t wrote)
{
    return of(link)->visible_commit >= wrote;
}

#define FAKE_OPS                                                               \
    .start = start, .commit = commit, .landed = landed, .release = release,    \
    .freed = freed, .want_room = want_room, .arrived = arrived,                \
    .watch = watch, .set_marked = set_marked, .peer_is_here = peer_is_here,    \
    .set_aborted = set_aborted, .aborted = aborted, .send = say,               \
    .drain = drain, .peer_alive = peer_alive, .free = give_back,               \
    .peer_get = peer_get, .peer_put = peer_get, .peer_arm = peer_arm,          \
    .peer_has_mark = peer_has_mark, .peer_next_mark = peer_next_mark

const struct transport_ops fake_ops = {.name = "fake", FAKE_OPS};
const struct transport_ops fake_device_ops = {
    .name = "fake device", .delivered = delivered, FAKE_OPS};
