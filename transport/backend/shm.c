/*
 * Links over an arena: the hot half of the shared-memory transport.
 *
 * The order that loses no wake-up is that of docs/handover.md section 9: we
 * store commit (or release), make a full fence, and look at the peer's
 * waiters; the peer's waiter arms, makes a full fence, and looks at commit.
 * Of the consumer's releases only those that cross a quarter of the ring make
 * the fence. A writer that waits for a third of the ring is woken by one of
 * these unless it found more than a third less a quarter free: see shm_rings().
 */
#include "transport/backend/shm_private.h"

#include <stdlib.h>

#include "transport/bell.h"
#include "transport/pause.h"
#include "transport/shared_memory.h"
#include "transport/waiter_ids.h"

enum {
    MARK_TRIES = 1000,
    LAP_UNREAD = 64 /* a stream is large if more of a ring than this waits */
};

/*
 * A ring stretches once the stream has gone through all of the next span so
 * often in a row, each time in less than `ns`. For the second time it has moved
 * so much (256 MiB) that the page faults of the first lap, 9 ms, are a little.
 */
static const struct {
    unsigned laps;
    uint64_t ns;
} fast[SHM_STRETCHES] = {{1, 100000000}, {32, 12500000}};

static struct shm_link *of(struct link *link)
{
    return (struct shm_link *)link;
}

static struct arena *arena_of(struct peer *peer)
{
    return (struct arena *)peer;
}

static struct shm_waiter *waiters_of(struct arena *p, int side)
{
    char *at = (char *)p->base + sizeof(struct shm_header);

    return (struct shm_waiter *)(at + (uint64_t)side * shm_waiters_size());
}

static void mark_waiter(struct shm_waiter *w, unsigned idx)
{
    uint64_t bit = UINT64_C(1) << (idx & 63);
    uint64_t word = UINT64_C(1) << (idx >> 6);

    if (!(atomic_load(&w->mark[idx >> 6]) & bit))
        atomic_fetch_or(&w->mark[idx >> 6], bit);
    if (!(atomic_load(&w->marked) & word))
        atomic_fetch_or(&w->marked, word);
}

/* After a store that the peer may wait for, and the fence. */
static void notify(struct shm_link *l)
{
    struct arena *p = arena_of(l->link.peer);
    struct shm_side *theirs = &l->words->side[!l->side];
    uint64_t ids =
        atomic_load_explicit(&theirs->watchers, memory_order_relaxed);
    uint64_t markers;

    if (ids == 0)
        return;
    markers = atomic_load_explicit(&theirs->markers, memory_order_relaxed);
    for (; ids != 0; ids >>= 16) {
        unsigned id = ids & 0xffff;
        struct shm_waiter *w;

        if (id == 0 || id >= WAITERS_MAX)
            continue;
        w = waiters_of(p, !l->side) + id;
        if (__builtin_expect(markers != 0, 0) && waiter_ids_have(markers, id))
            mark_waiter(w, l->idx);
        if (atomic_load_explicit(&w->armed, memory_order_relaxed) != 0 &&
            atomic_exchange(&w->armed, 0) != 0)
            bell_ring(p->ringer, p->bell_token, id);
    }
}

static void note_cpu(struct shm_link *l)
{
    uint32_t cpu = cpu_now() + 1;

    if (cpu != atomic_load_explicit(&l->cpu, memory_order_relaxed)) {
        atomic_store_explicit(&l->cpu, cpu, memory_order_relaxed);
        atomic_store_explicit(&l->words->side[l->side].cpu, cpu,
                              memory_order_relaxed);
    }
}

/* tx lock held; at `stretch_at`, or back when nothing is under way. */
static void set_stretched(struct shm_link *l, unsigned stretched)
{
    l->stretched = stretched;
    l->laps = 0;
    ring_set_span(&l->link.tx, shm_span(l->ring_size, stretched));
    /* Before the next commit, which releases it: a reader looks here after. */
    atomic_store_explicit(&l->words->direction[l->side].stretched, stretched,
                          memory_order_relaxed);
}

/* The next time that makes a difference, or 0. */
static unsigned next_stretch(const struct shm_link *l)
{
    for (unsigned i = l->stretched + 1; i <= SHM_STRETCHES; i++)
        if (shm_span(l->ring_size, i) != l->link.tx.span)
            return i;
    return 0;
}

/* The next offset from there on at which it may, or its lap ends. */
static void set_stretch_at(struct shm_link *l, uint64_t from)
{
    unsigned next = next_stretch(l);
    uint32_t span =
        shm_span(l->ring_size, next != 0 ? next : (unsigned)SHM_STRETCHES);

    l->link.stretch_at = ring_stretches_at(from, l->ring_size, span);
}

/*
 * Half of the memory is for links that are yet to come. Each end counts what it
 * has stretched itself, and makes pages of.
 */
static bool may_have(struct shm *shm, uint32_t more)
{
    if (atomic_fetch_add(&shm->memory, more) + more <=
        shm->config.max_memory / 2)
        return true;
    atomic_fetch_sub(&shm->memory, more);
    return false;
}

/*
 * For a fast stream that runs ahead of its reader. Short requests that are
 * answered one by one do better where all of the ring is in the caches of both.
 */
static void shm_stretch(struct link *link)
{
    struct shm_link *l = of(link);
    unsigned next = next_stretch(l);
    uint64_t now = clock_ns(), wrote = link->stretch_at;
    uint64_t release = atomic_load_explicit(
        &l->words->direction[l->side].release, memory_order_relaxed);

    if (next != 0 && now - l->lap_ns < fast[next - 1].ns &&
        wrote - release > l->ring_size / LAP_UNREAD) {
        uint32_t more = shm_span(l->ring_size, next) - link->tx.span;

        if (++l->laps >= fast[next - 1].laps && may_have(l->shm, more))
            set_stretched(l, next);
    } else {
        l->laps = 0;
    }
    l->lap_ns = now;
    set_stretch_at(l, wrote + 1);
}

static void shm_start(struct link *link, uint32_t epoch, uint64_t leave,
                      uint64_t arrive)
{
    struct shm_link *l = of(link);
    struct ring_words *out = &l->words->direction[l->side];
    struct ring_words *in = &l->words->direction[!l->side];

    atomic_store(&l->words->side[l->side].want_room, 0);
    set_stretched(l, l->stretched);
    set_stretch_at(l, leave);
    atomic_store(&out->commit, leave);
    atomic_store(&in->release, arrive);
    atomic_store(&in->looked, arrive);
    l->released = arrive;
    atomic_store(&l->words->side[l->side].started, epoch);
}

static bool shm_started(struct link *link, uint32_t epoch)
{
    struct shm_link *l = of(link);

    return atomic_load(&l->words->side[!l->side].started) == epoch;
}

static void shm_commit(struct link *link, uint64_t wrote)
{
    struct shm_link *l = of(link);

    note_cpu(l);
    atomic_store_explicit(&l->words->direction[l->side].commit, wrote,
                          memory_order_release);
    full_fence();
    notify(l);
}

static int shm_landed(struct link *link, uint64_t took, uint64_t before,
                      uint64_t *landed)
{
    struct shm_link *l = of(link);
    struct ring_words *in = &l->words->direction[!l->side];
    uint64_t commit;
    int rc = ring_landed(in, took, before, l->ring_size, &commit);
    uint32_t stretched, span;

    /* Behind that look: who stretched it said so before. */
    stretched = atomic_load_explicit(&in->stretched, memory_order_relaxed);
    if (rc < 0 || stretched > SHM_STRETCHES)
        return -EPROTO;
    span = shm_span(l->ring_size, stretched);
    if (__builtin_expect(span != link->rx.span, 0))
        ring_set_span(&link->rx, span);
    *landed = commit;
    return 0;
}

static void shm_release(struct link *link, uint64_t took)
{
    struct shm_link *l = of(link);
    struct shm_side *theirs = &l->words->side[!l->side];

    note_cpu(l);
    atomic_store_explicit(&l->words->direction[!l->side].release, took,
                          memory_order_release);
    expect_write(&l->words->direction[l->side].commit); /* of the answer */
    if (took - l->released < l->ring_size / 4)
        return;
    /* The wish is taken only when it can be granted: a writer that looks in
     * vain at less than a third goes to sleep and must find it still there. */
    if (atomic_load_explicit(&l->words->direction[!l->side].commit,
                             memory_order_relaxed) -
            took >
        l->ring_size - l->ring_size / 3)
        return;
    l->released = took;
    atomic_store_explicit(&l->words->direction[!l->side].looked, took,
                          memory_order_release);
    full_fence();
    if (atomic_load_explicit(&theirs->want_room, memory_order_relaxed) &&
        atomic_exchange(&theirs->want_room, 0))
        notify(l);
}

static int shm_freed(struct link *link, uint64_t before, uint64_t wrote,
                     uint64_t *freed)
{
    struct shm_link *l = of(link);

    return ring_freed(&l->words->direction[l->side], before, wrote, freed);
}

static void shm_want_room(struct link *link)
{
    struct shm_link *l = of(link);

    atomic_store(&l->words->side[l->side].want_room, 1);
    full_fence();
}

/*
 * A third is free when all but two thirds of `wrote` were released. The peer
 * looks then if that is a quarter or more behind its last look.
 */
static bool shm_rings(struct link *link, uint64_t wrote)
{
    struct shm_link *l = of(link);
    uint64_t looked = atomic_load_explicit(&l->words->direction[l->side].looked,
                                           memory_order_relaxed);

    return wrote - looked >= l->ring_size - l->ring_size / 3 + l->ring_size / 4;
}

static uint64_t shm_arrived(struct link *link)
{
    struct shm_link *l = of(link);

    return atomic_load_explicit(&l->words->direction[!l->side].commit,
                                memory_order_acquire);
}

static void shm_watch(struct link *link, uint64_t watchers)
{
    struct shm_link *l = of(link);

    atomic_store(&l->words->side[l->side].watchers, watchers);
    full_fence();
}

/* Several sets at once may; a peer that writes here harms its own stream. */
static void shm_set_marked(struct link *link, unsigned waiter, bool on)
{
    struct shm_link *l = of(link);
    struct shm_side *mine = &l->words->side[l->side];
    uint64_t ids = atomic_load(&mine->markers);

    for (int tries = 0; tries < MARK_TRIES; tries++)
        if (atomic_compare_exchange_strong(&mine->markers, &ids,
                                           waiter_ids_with(ids, waiter, on)))
            break;
    full_fence();
}

static bool shm_peer_is_here(struct link *link, uint32_t cpu)
{
    struct shm_link *l = of(link);

    return atomic_load_explicit(&l->words->side[!l->side].cpu,
                                memory_order_relaxed) == cpu + 1;
}

static void shm_set_aborted(struct link *link)
{
    struct shm_link *l = of(link);

    atomic_store(&l->words->side[l->side].aborted, 1);
}

static bool shm_aborted(struct link *link)
{
    struct shm_link *l = of(link);

    return atomic_load(&l->words->side[!l->side].aborted) != 0;
}

static int shm_send(struct link *link, struct control_message *message)
{
    struct shm_link *l = of(link);
    struct channel *channel = arena_of(link->peer)->channel;

    if (channel == NULL)
        return -EPIPE;
    message->link = arena_of(link->peer)->id << 16 | l->idx;
    message->stream = (uint32_t)l->side;
    return channel_send(channel, message, NULL, -1);
}

static bool shm_crowded(struct link *link)
{
    struct channel *channel = arena_of(link->peer)->channel;

    return channel != NULL && channel_is_crowded(channel);
}

/* What the peer has said may still wait, at its end, for room in the socket. */
static int shm_drain(struct link *link)
{
    struct channel *channel = arena_of(link->peer)->channel;
    struct control_message ping = {.type = MESSAGE_PING};

    if (channel == NULL)
        return -EPIPE;
    if (shm_send(link, &ping) == 0)
        of(link)->asked++;
    channel_drain(channel);
    return atomic_load(&channel->dead) ? -EPIPE : -EAGAIN;
}

static bool shm_peer_alive(struct link *link)
{
    return atomic_load(&arena_of(link->peer)->alive);
}

/*
 * Each end gives back the pages of the ring that it writes; a peer does the
 * same with the other one at about the same time, so neither counts.
 */
static void shm_rest(struct link *link, bool on)
{
    struct shm_link *l = of(link);
    struct ring_words *out = &l->words->direction[l->side];

    if (on) {
        memory_give_back(link->tx.bytes, link->tx.span);
        l->shm->memory -= link->tx.span - l->ring_size;
        set_stretched(l, 0);
        set_stretch_at(l, atomic_load(&out->commit));
    }
    if (on != l->rests)
        l->shm->memory += (on ? -2 : 2) * (uint64_t)l->ring_size;
    l->rests = on;
}

static void shm_free(struct link *link)
{
    struct shm_link *l = of(link);
    struct arena *p = arena_of(link->peer);
    struct control_message bye = {.type = MESSAGE_BYE};

    shm_watch(link, 0);
    atomic_store(&l->words->side[l->side].markers, 0);
    shm_send(link, &bye);
    atomic_store(&p->owner[l->idx], NULL);
    p->link[l->idx] = NULL;
    p->stretched[l->idx] |=
        link->tx.span != l->ring_size || link->rx.span != l->ring_size;
    p->counted[l->idx] =
        sizeof(struct shm_link_words) +
        (l->rests ? 0 : l->ring_size + (uint64_t)link->tx.span);
    arena_leave_slot(p, l->idx, SLOT_MINE);
    arena_put(p);
    free(l);
}

static void shm_peer_get(struct peer *peer)
{
    atomic_fetch_add(&arena_of(peer)->refs, 1);
}

static void shm_peer_put(struct peer *peer)
{
    arena_put(arena_of(peer));
}

static void shm_peer_arm(struct peer *peer, unsigned waiter, bool on)
{
    struct arena *arena = arena_of(peer);
    struct shm_waiter *w = waiters_of(arena, arena->side) + waiter;

    atomic_store_explicit(&w->armed, on, memory_order_relaxed);
}

/* A peer may set bits of words that there are not: nobody takes those. */
static uint64_t marked_words(struct shm_waiter *w)
{
    return atomic_load(&w->marked) & ((UINT64_C(1) << SHM_MARK_WORDS) - 1);
}

static bool shm_peer_has_mark(struct peer *peer, unsigned waiter)
{
    struct arena *arena = arena_of(peer);
    struct shm_waiter *w = waiters_of(arena, arena->side) + waiter;

    return marked_words(w) != 0;
}

static void *shm_peer_next_mark(struct peer *peer, unsigned waiter)
{
    struct arena *arena = arena_of(peer);
    struct shm_waiter *w = waiters_of(arena, arena->side) + waiter;

    /* A peer that never stops marking must not hold us here. */
    for (int looks = 0; looks < SHM_LINKS + 2 * SHM_MARK_WORDS; looks++) {
        uint64_t marked = marked_words(w);
        unsigned i;
        uint64_t bits;
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
        owner = atomic_load(
            &arena->owner[i * 64 + (unsigned)__builtin_ctzll(bits)]);
        if (owner != NULL)
            return owner;
    }
    return NULL;
}

const struct transport_ops shm_ops = {
    .name = "shm",
    .start = shm_start,
    .started = shm_started,
    .commit = shm_commit,
    .stretch = shm_stretch,
    .landed = shm_landed,
    .release = shm_release,
    .freed = shm_freed,
    .want_room = shm_want_room,
    .rings = shm_rings,
    .arrived = shm_arrived,
    .watch = shm_watch,
    .set_marked = shm_set_marked,
    .peer_is_here = shm_peer_is_here,
    .set_aborted = shm_set_aborted,
    .aborted = shm_aborted,
    .send = shm_send,
    .crowded = shm_crowded,
    .rest = shm_rest,
    .drain = shm_drain,
    .peer_alive = shm_peer_alive,
    .free = shm_free,
    .peer_get = shm_peer_get,
    .peer_put = shm_peer_put,
    .peer_arm = shm_peer_arm,
    .peer_has_mark = shm_peer_has_mark,
    .peer_next_mark = shm_peer_next_mark,
};
