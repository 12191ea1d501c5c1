/*
 * The operations of a link: the stream's side of an RDMA connection.
 *
 * Bytes are put into a registered ring of ours and written from there into
 * the peer's, with a number that makes a completion there: memory is never
 * looked at to learn of bytes, since a device may write them in any order.
 * The one word that is looked at, `release`, is a single store.
 */
#include "transport/backend/verbs_private.h"

#include <string.h>

#include "transport/pause.h"
#include "transport/waiter_ids.h"

static struct verbs_link *of(struct link *link)
{
    return (struct verbs_link *)link;
}

static struct verbs_peer *peer_of(struct peer *peer)
{
    return (struct verbs_peer *)peer;
}

static void look(struct verbs_link *l)
{
    verbs_poll(l->peer->device, false);
}

static void pend_and_kick(struct verbs_link *l)
{
    verbs_pend(l);
    verbs_kick(l->peer);
    if (atomic_load_explicit(&l->peer->starved, memory_order_relaxed))
        look(l); /* what completed makes room to post */
}

/* What is under way of an earlier epoch has been cut or has landed. */
static void link_start(struct link *link, uint32_t epoch, uint64_t leave,
                       uint64_t arrive)
{
    struct verbs_link *l = of(link);

    (void)epoch; /* nobody can look at this host's memory to see it */
    atomic_store(&l->asked, false);
    atomic_store(&l->want_due, false);
    atomic_store(&l->peer_wants, false);
    atomic_store(&l->landed, arrive);
    atomic_store(&l->took, arrive);
    l->told = arrive;
    atomic_store(&l->start_at, leave);
    atomic_store(&l->wrote, leave);
}

static void link_commit(struct link *link, uint64_t wrote)
{
    struct verbs_link *l = of(link);

    atomic_store_explicit(&l->wrote, wrote, memory_order_release);
    pend_and_kick(l);
}

static int link_landed(struct link *link, uint64_t took, uint64_t before,
                       uint64_t *landed)
{
    struct verbs_link *l = of(link);
    uint64_t n = atomic_load_explicit(&l->landed, memory_order_acquire);

    if (n == before) {
        look(l);
        n = atomic_load_explicit(&l->landed, memory_order_acquire);
    }
    if (atomic_load_explicit(&l->fault, memory_order_relaxed) || n < before ||
        n > took + link->rx.size)
        return -EPROTO;
    *landed = n;
    return 0;
}

/*
 * The peer hears of it in steps of an eighth of the ring, when the ring is
 * empty, and when it has asked and a third is free.
 */
static void link_release(struct link *link, uint64_t took)
{
    struct verbs_link *l = of(link);
    uint64_t landed = atomic_load_explicit(&l->landed, memory_order_relaxed);
    bool post = took - l->told >= link->rx.size / 8 || took == landed;

    atomic_store(&l->took, took);
    full_fence();
    if (atomic_load_explicit(&l->peer_wants, memory_order_relaxed) &&
        atomic_load(&l->landed) - took <= link->rx.size - link->rx.size / 3 &&
        atomic_exchange(&l->peer_wants, false)) {
        atomic_store(&l->room_due, true);
        post = true;
    }
    if (!post || (took == l->told && !atomic_load(&l->room_due)))
        return;
    l->told = took;
    atomic_store(&l->word_due, true);
    pend_and_kick(l);
}

static int link_freed(struct link *link, uint64_t before, uint64_t wrote,
                      uint64_t *freed)
{
    struct verbs_link *l = of(link);
    uint64_t start = atomic_load_explicit(&l->start_at, memory_order_relaxed);
    uint64_t word =
        atomic_load_explicit(&l->words->release_in, memory_order_acquire);

    if (word == before || word < start) {
        look(l);
        word =
            atomic_load_explicit(&l->words->release_in, memory_order_acquire);
    }
    if (word < start)
        word = start; /* still what an earlier epoch left there */
    if (word < before || word > wrote)
        return -EPROTO;
    *freed = word;
    return 0;
}

static void link_want_room(struct link *link)
{
    struct verbs_link *l = of(link);

    if (!atomic_exchange(&l->asked, true)) {
        atomic_store(&l->want_due, true);
        pend_and_kick(l);
    }
    full_fence();
}

static uint64_t link_arrived(struct link *link)
{
    struct verbs_link *l = of(link);
    uint64_t n = atomic_load_explicit(&l->landed, memory_order_acquire);

    if (n == atomic_load_explicit(&l->took, memory_order_relaxed)) {
        look(l);
        n = atomic_load_explicit(&l->landed, memory_order_acquire);
    }
    return n;
}

static void link_watch(struct link *link, uint64_t watchers)
{
    atomic_store(&of(link)->watchers, watchers);
    full_fence();
}

/* Several sets at once may. */
static void link_set_marked(struct link *link, unsigned waiter, bool on)
{
    struct verbs_link *l = of(link);
    uint64_t ids = atomic_load(&l->markers);

    while (!atomic_compare_exchange_weak(&l->markers, &ids,
                                         waiter_ids_with(ids, waiter, on)))
        ;
    full_fence();
}

static bool link_peer_is_here(struct link *link, uint32_t cpu)
{
    (void)link;
    (void)cpu;
    return false;
}

/* The end of a killed peer is a reset anyhow: see delivered(). */
static void link_set_aborted(struct link *link)
{
    (void)link;
}

static bool link_aborted(struct link *link)
{
    (void)link;
    return false;
}

static int link_send(struct link *link, struct control_message *message)
{
    struct verbs_link *l = of(link);

    message->link = l->peer_idx;
    message->stream = l->idx;
    return verbs_say(l->peer, message, NULL, 0);
}

int verbs_ask(struct verbs_link *l)
{
    struct control_message ping = {.type = MESSAGE_PING};

    l->pinged = true;
    l->ask_again = false;
    return link_send(&l->link, &ping);
}

/* Nothing that has come says that nothing more is on its way. */
static int link_drain(struct link *link)
{
    struct verbs_link *l = of(link);
    struct verbs_peer *p = l->peer;
    uint32_t idx = l->idx;
    bool failed;

    l->ask_again = l->pinged; /* what it says to the first may be too old */
    atomic_fetch_add(&p->refs, 1);
    verbs_poll(p->device, true);
    verbs_inbox(p);
    failed = atomic_load(&p->failed) || p->link[idx] != l;
    if (!failed && !l->pinged)
        failed = verbs_ask(l) < 0;
    verbs_peer_put(p);
    return failed ? -EPIPE : -EAGAIN;
}

static bool link_peer_alive(struct link *link)
{
    struct verbs_peer *p = of(link)->peer;

    return !(atomic_load(&p->gone) && atomic_load(&p->receives) == 0);
}

static bool link_delivered(struct link *link, uint64_t wrote)
{
    struct verbs_link *l = of(link);
    struct verbs_peer *p = l->peer;

    for (int looks = 0; looks < 2; looks++) {
        if (wrote <= atomic_load(&l->start_at))
            return true;
        if (atomic_load(&l->posted) >= wrote &&
            (int32_t)(atomic_load(&p->done) - atomic_load(&l->last)) > 0)
            return true;
        if (looks == 0) {
            atomic_store(&l->sync_due, true);
            pend_and_kick(l);
            look(l);
        }
    }
    return false;
}

static void link_free(struct link *link)
{
    struct verbs_link *l = of(link);
    struct verbs_peer *p = l->peer;
    struct control_message bye = {
        .type = MESSAGE_BYE, .link = l->peer_idx, .stream = l->idx};

    atomic_fetch_add(&p->refs, 1);
    verbs_link_drop(l); /* nothing is posted for it any more */
    verbs_say(p, &bye, NULL, 0);
    verbs_peer_put(p);
}

static void link_peer_get(struct peer *peer)
{
    atomic_fetch_add(&peer_of(peer)->refs, 1);
}

static void link_peer_put(struct peer *peer)
{
    verbs_peer_put(peer_of(peer));
}

static void link_peer_arm(struct peer *peer, unsigned waiter, bool on)
{
    struct verbs_peer *p = peer_of(peer);
    struct verbs_waiter *w = &p->waiter[waiter];
    struct verbs_device *d = p->device;

    atomic_store(&w->armed, on);
    if (atomic_exchange(&w->asleep, on) != (uint32_t)on)
        atomic_fetch_add(&d->sleepers, on ? 1u : UINT32_MAX);
    /* Taken before it sleeps, an old event does not wake it for nothing. */
    verbs_take_event(d);
    if (on)
        verbs_poll(d, true);
}

static bool link_peer_has_mark(struct peer *peer, unsigned waiter)
{
    struct verbs_waiter *w = &peer_of(peer)->waiter[waiter];

    return atomic_load_explicit(&w->marked, memory_order_acquire) != 0;
}

static void *link_peer_next_mark(struct peer *peer, unsigned waiter)
{
    struct verbs_peer *p = peer_of(peer);
    struct verbs_waiter *w = &p->waiter[waiter];

    /* A peer that never stops sending must not hold us here. */
    for (int looks = 0; looks < VERBS_LINKS + 2 * VERBS_MARK_WORDS; looks++) {
        uint64_t marked = atomic_load(&w->marked), bits;
        unsigned i;
        void *owner;

        if (marked == 0)
            return NULL;
        i = (unsigned)__builtin_ctzll(marked);
        bits = atomic_load(&w->mark[i]);
        if (bits == 0) {
            atomic_fetch_and(&w->marked, ~(UINT64_C(1) << i));
            if (atomic_load(&w->mark[i]) != 0)
                atomic_fetch_or(&w->marked, UINT64_C(1) << i);
            continue;
        }
        bits &= -bits;
        atomic_fetch_and(&w->mark[i], ~bits);
        owner =
            atomic_load(&p->owner[i * 64 + (unsigned)__builtin_ctzll(bits)]);
        if (owner != NULL)
            return owner;
    }
    return NULL;
}

static int link_peer_wake_fd(struct peer *peer)
{
    return peer_of(peer)->verbs->wake_fd;
}

const struct transport_ops verbs_ops = {
    .name = "verbs",
    .start = link_start,
    .commit = link_commit,
    .landed = link_landed,
    .release = link_release,
    .freed = link_freed,
    .want_room = link_want_room,
    .arrived = link_arrived,
    .watch = link_watch,
    .set_marked = link_set_marked,
    .peer_is_here = link_peer_is_here,
    .set_aborted = link_set_aborted,
    .aborted = link_aborted,
    .send = link_send,
    .drain = link_drain,
    .peer_alive = link_peer_alive,
    .delivered = link_delivered,
    .free = link_free,
    .peer_get = link_peer_get,
    .peer_put = link_peer_put,
    .peer_arm = link_peer_arm,
    .peer_has_mark = link_peer_has_mark,
    .peer_next_mark = link_peer_next_mark,
    .peer_wake_fd = link_peer_wake_fd,
};
