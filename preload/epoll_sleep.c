/*
 * Who is inside a set, and who sleeps there.
 */
#include <pthread.h>

#include "preload/epoll_private.h"
#include "transport/pause.h"

/*
 * Where this thread is. One that is cancelled in the midst of a wait never
 * comes back; what it would have done then is done as it ends. So it is for
 * one that jumps out.
 */
enum { PLACES = 48 };

static __thread struct {
    struct epoll_set *set;
    uint32_t nestings; /* of the set when it went to sleep */
    bool sleeps, direct;
} places[PLACES] __attribute__((tls_model("initial-exec")));
static __thread unsigned n_places __attribute__((tls_model("initial-exec")));
static __thread bool will_be_told __attribute__((tls_model("initial-exec")));
static pthread_key_t thread_key;

static void thread_ends(void *arg)
{
    (void)arg;
    while (n_places > 0) {
        struct epoll_set *set = places[n_places - 1].set;

        if (places[n_places - 1].sleeps)
            epoll_woke(set);
        epoll_set_leave(set);
    }
}

int epoll_sets_start(void)
{
    return -pthread_key_create(&thread_key, thread_ends);
}

/* A handler before the claim may have left what it had there. */
static void claim_place(unsigned at, struct epoll_set *set)
{
    for (int i = 0; i < 2; i++) {
        places[at].set = set;
        places[at].sleeps = false;
        atomic_signal_fence(memory_order_seq_cst);
        n_places = at + 1;
        atomic_signal_fence(memory_order_seq_cst);
    }
}

static void note_place(struct epoll_set *set)
{
    unsigned at = n_places;

    if (at == PLACES)
        return;
    if (__builtin_expect(!will_be_told, 0))
        will_be_told = pthread_setspecific(thread_key, &places) == 0;
    claim_place(at, set);
}

/* The last place with it. -1: none was left for it. */
static int place_of(const struct epoll_set *set)
{
    int at = (int)n_places - 1;

    while (at >= 0 && places[at].set != set)
        at--;
    return at;
}

static void forget_place(const struct epoll_set *set)
{
    int at = place_of(set);

    for (; at >= 0 && at + 1 < (int)n_places; at++)
        places[at] = places[at + 1];
    if (at >= 0)
        n_places = (unsigned)at;
}

/* The last one out of a closed set ends it. */
void epoll_count_out(struct epoll_set *set)
{
    uint32_t before = atomic_load(&set->inside), after;

    do {
        if ((before & ~SET_MARKS) == 0)
            return; /* in the child of a fork that was made in here */
        after = before - 1;
        if (after == SET_CLOSED)
            after |= SET_ENDED;
    } while (!atomic_compare_exchange_weak(&set->inside, &before, after));
    if (before == (SET_CLOSED | 1))
        epoll_end(set);
}

bool epoll_set_enter(struct epoll_set *set)
{
    if (atomic_fetch_add(&set->inside, 1) & SET_CLOSED) {
        epoll_count_out(set);
        return false;
    }
    note_place(set);
    return true;
}

void epoll_set_leave(struct epoll_set *set)
{
    forget_place(set);
    epoll_count_out(set);
}

void epoll_forget_places(void)
{
    n_places = 0;
}

/* ---- who sleeps ---- */

/*
 * Several threads may sleep on one set and its one bell. While any of them
 * does, the bell stays armed; who wakes up and leaves something behind rings
 * for the next one.
 */
static void arm(struct epoll_set *set, bool on)
{
    if (set->waiter == NULL) /* there has never been a stream in it */
        return;
    atomic_store(&set->waiter->asleep, on);
    for (unsigned i = 0; i < set->n_peers; i++)
        peer_ops(set->peers[i].peer)
            ->peer_arm(set->peers[i].peer, set->waiter->id, on);
}

static uint32_t count_sleeper(struct epoll_set *set, bool direct)
{
    uint32_t nestings;

    lock_enter(&set->lock);
    nestings = atomic_load(&set->nestings);
    atomic_fetch_add(&set->sleepers, 1);
    atomic_fetch_add(&set->watchers, !direct);
    arm(set, true);
    for (unsigned i = 0; i < set->n_hot; i++)
        epoll_want_room(set->hot[i]);
    full_fence();
    lock_leave(&set->lock);
    return nestings;
}

/*
 * Set lock held. Who takes events here is rung for whatever is left; who waits
 * for the set from elsewhere, where that would be an edge, for news alone.
 */
static bool is_left_behind(struct epoll_set *set)
{
    bool direct = atomic_load(&set->sleepers) > atomic_load(&set->watchers);

    set->contended = false;
    if (atomic_load(&set->n_managed) == 0)
        return false;
    /* Nobody takes marks while all are looked at anyhow. */
    if (set->n_hot < atomic_load(&set->n_managed) && epoll_is_marked(set))
        return true;
    for (unsigned i = 0; i < set->n_hot; i++)
        if ((epoll_events_of(set->hot[i], true) != 0 &&
             (direct || epoll_is_fresh(set->hot[i]))) ||
            set->contended)
            return true;
    return false;
}

/* In the child of a fork by a handler, in between, nobody is counted. */
static bool uncount_one(struct epoll_set *set)
{
    return atomic_load(&set->sleepers) > 0 &&
           atomic_fetch_sub(&set->sleepers, 1) > 1;
}

static void uncount_sleeper(struct epoll_set *set, bool direct,
                            uint32_t nestings)
{
    bool pass_on, on;

    lock_enter(&set->lock);
    on = uncount_one(set);
    if (!direct && atomic_load(&set->watchers) > 0)
        atomic_fetch_sub(&set->watchers, 1);
    arm(set, on);
    full_fence();
    pass_on = on && is_left_behind(set);
    epoll_roused(set, nestings);
    lock_leave(&set->lock);
    if (pass_on)
        waiter_ring(set->waiter->id);
}

void epoll_arm_sleepers(struct epoll_set *set)
{
    if (atomic_load(&set->sleepers) != 0)
        arm(set, true);
}

bool epoll_is_stale_here(const struct epoll_set *set)
{
    for (unsigned i = 0; i < n_places; i++)
        if (places[i].set == set && places[i].sleeps &&
            places[i].nestings != atomic_load(&set->nestings))
            return true;
    return false;
}

void epoll_sleeps(struct epoll_set *set, bool direct)
{
    int at = place_of(set);
    uint32_t nestings = count_sleeper(set, direct || at < 0);

    if (at < 0)
        return;
    places[at].nestings = nestings;
    places[at].direct = direct;
    places[at].sleeps = true;
}

void epoll_woke(struct epoll_set *set)
{
    int at = place_of(set);

    /* Without a place: as one that knows of all nestings. */
    uncount_sleeper(set, at < 0 || places[at].direct,
                    at < 0 ? atomic_load(&set->nestings) : places[at].nestings);
    if (at >= 0)
        places[at].sleeps = false;
}

/*
 * Who puts something of ours into the set says that it is not plain any more,
 * and then looks for sleepers; who sleeps counts himself and then looks whether
 * it is plain: one of the two sees the other one. The place is claimed before
 * it is filled in, and counts as that of a sleeper only while one is counted: a
 * handler may have a wait of its own, or jump out, at any point.
 */
bool epoll_sleeps_plain(struct epoll_set *set)
{
    unsigned at = n_places;

    if (at == PLACES || !will_be_told)
        return false; /* epoll_set_enter() is for that */
    if (atomic_fetch_add(&set->inside, 1) & SET_CLOSED) {
        epoll_count_out(set);
        return false;
    }
    claim_place(at, set);
    places[at].nestings = 0; /* there has been none while it is plain */
    places[at].direct = true;
    atomic_fetch_add(&set->sleepers, 1);
    places[at].sleeps = true;
    if (atomic_load(&set->object.plain))
        return true;
    /* It has not slept: it knows of what was put in. */
    places[at].nestings = atomic_load(&set->nestings);
    epoll_woke(set);
    epoll_set_leave(set);
    return false;
}

bool epoll_woke_plain(struct epoll_set *set)
{
    unsigned at = n_places - 1;

    if (!atomic_load(&set->object.plain) || at >= PLACES ||
        places[at].set != set) {
        epoll_woke(set);
        return false;
    }
    places[at].sleeps = false;
    uncount_one(set);
    if (atomic_load(&set->object.plain)) {
        n_places = at;
        epoll_count_out(set);
        return true;
    }
    /* Who put another set in just then may have counted this one still. */
    lock_enter(&set->lock);
    epoll_roused(set, atomic_load(&set->nestings));
    lock_leave(&set->lock);
    return false;
}
