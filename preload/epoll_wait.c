/*
 * epoll_wait over streams on links and kernel descriptors at once.
 *
 * A turn looks at the hot registrations, then, every few hits and every few
 * microseconds of spinning, at the kernel's set without waiting, so neither
 * side starves the other. When there is nothing it climbs down the ladder:
 * look, pause, yield, arm, look once more, sleep in the kernel's own
 * epoll_wait, whose members are the kernel descriptors and our bell.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/epoll_private.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/pause.h"

enum {
    HITS_PER_KERNEL_LOOK = 8,
    KERNEL_LOOK_NS = 10000,
    HOT_ENOUGH = 64,   /* beyond this, quiet registrations become cold */
    QUIET_ENOUGH = 64, /* scans without an event */
    QUICK_LOOKS = 24
};

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR &&
                  POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP,
              "poll and epoll name the same bits");

/* What epoll would report for it now; 0 is nothing. Set lock held. */
static uint32_t events_of(struct epoll_reg *reg, bool peek)
{
    struct stream *s = &reg->endpoint->stream;
    uint32_t told = atomic_load_explicit(&s->told, memory_order_relaxed);
    uint32_t ready = (uint16_t)stream_ready_pinned(s);
    uint32_t hit = ready & (reg->events | EPOLLERR | EPOLLHUP);
    uint64_t arrived;
    bool edge;

    if (ready & POLLNVAL) {
        reg->set->contended = true;
        return 0;
    }
    if (!(ready & EPOLLOUT))
        reg->out_seen = false;
    if (hit == 0 || reg->disarmed)
        return 0;
    if (!(reg->events & EPOLLET))
        return hit;
    arrived = stream_arrived_pinned(s);
    edge = told != reg->told_seen || arrived != reg->arrived_seen ||
           ((hit & EPOLLOUT) && !reg->out_seen);
    if (!edge || peek)
        return edge ? hit : 0;
    reg->told_seen = told;
    reg->arrived_seen = arrived;
    reg->out_seen = ready & EPOLLOUT;
    return hit;
}

/* Is there anything for warm_up()? Set lock held. */
static bool is_marked(const struct epoll_set *set)
{
    if (atomic_load_explicit(&set->promote, memory_order_relaxed))
        return true;
    for (unsigned i = 0; i < set->n_peers; i++)
        if (peer_ops(set->peers[i].peer)
                ->peer_has_mark(set->peers[i].peer, set->waiter->id))
            return true;
    return false;
}

/*
 * Marks of cold registrations, and those that were promoted by name. The lists
 * walked here change under the registry lock, which comes before the set's.
 */
static void warm_up(struct epoll_set *set)
{
    epoll_registry_lock();
    lock_take(&set->lock);
    for (unsigned i = 0; i < set->n_peers; i++) {
        struct peer *peer = set->peers[i].peer;
        struct endpoint *e;

        while ((e = peer_ops(peer)->peer_next_mark(peer, set->waiter->id)) !=
               NULL)
            for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
                if (r->set == set && r->managed)
                    epoll_make_hot(set, r);
    }
    if (atomic_exchange(&set->promote, false))
        for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
            if (r->managed && r->promote) {
                r->promote = false;
                epoll_make_hot(set, r);
            }
    lock_give(&set->lock);
    epoll_registry_unlock();
}

/* A registration that has been quiet while many others are hot. */
static void cool_down(struct epoll_set *set, struct epoll_reg *reg)
{
    struct link *link = reg->endpoint->stream.link;

    if (link == NULL)
        return;
    link->ops->set_marked(link, set->waiter->id, true);
    epoll_make_cold(set, reg);
    /* It may have come just before the mark was asked for. */
    if (stream_ready_pinned(&reg->endpoint->stream) &
        (POLLNVAL |
         ((reg->events | EPOLLERR | EPOLLHUP) & ~(uint32_t)EPOLLOUT)))
        epoll_make_hot(set, reg);
}

static int collect_once(struct epoll_set *set, struct epoll_event *events,
                        int max)
{
    bool cooled = false;
    unsigned at;
    int n = 0;

    lock_take(&set->lock);
    set->contended = false;
    if (__builtin_expect(set->n_hot < atomic_load(&set->n_managed), 0) &&
        is_marked(set)) {
        lock_give(&set->lock);
        warm_up(set);
        lock_take(&set->lock);
    }
    at = set->rotate;
    for (unsigned i = 0; i < set->n_hot && n < max; i++) {
        struct epoll_reg *reg;
        uint32_t hit;

        if (at >= set->n_hot)
            at = 0;
        reg = set->hot[at++];
        hit = events_of(reg, false);
        if (hit == 0) {
            if (set->n_hot > HOT_ENOUGH && ++reg->quiet_scans > QUIET_ENOUGH) {
                cool_down(set, reg);
                cooled = true;
            }
            continue;
        }
        reg->quiet_scans = 0;
        events[n].events = hit;
        events[n++].data = reg->data;
        if (reg->events & EPOLLONESHOT)
            reg->disarmed = true;
    }
    set->rotate = at;
    /* What became cold moved others about: not all have been looked at. */
    if (n == 0 && (set->contended || cooled))
        n = -EAGAIN;
    lock_give(&set->lock);
    return n;
}

/* Whoever changes a stream holds its lock and then wants the set's: let go. */
static int collect(struct epoll_set *set, struct epoll_event *events, int max)
{
    int n;

    while ((n = collect_once(set, events, max)) == -EAGAIN)
        sched_yield();
    return n;
}

/* A device has something for links of the set, or of others in the process. */
static void hear_devices(struct epoll_set *set)
{
    lock_take(&set->lock);
    for (unsigned i = 0; i < set->n_peers; i++) {
        struct peer *peer = set->peers[i].peer;

        if (!set->peers[i].wakes)
            continue;
        peer_ops(peer)->peer_arm(peer, set->waiter->id, false);
        if (set->sleepers > 0)
            peer_ops(peer)->peer_arm(peer, set->waiter->id, true);
    }
    lock_give(&set->lock);
}

/* Takes our bell out of what the kernel reported. */
int epoll_set_without_bell(struct epoll_set *set, struct epoll_event *events,
                           int n)
{
    int kept = 0;

    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == (const void *)&epoll_bell_cookie) {
            /* Another thread may have drained it before us. */
            if (set->waiter != NULL)
                bell_drain(set->waiter->bell);
            continue;
        }
        if (events[i].data.ptr == (const void *)&epoll_wake_cookie) {
            hear_devices(set);
            continue;
        }
        events[kept++] = events[i];
    }
    return kept;
}

static int ask_kernel(struct epoll_set *set, int epfd,
                      struct epoll_event *events, int max)
{
    int n = (int)syscall(SYS_epoll_pwait, epfd, events, max, 0, NULL, 8);

    set->hits = 0;
    return n < 0 ? -errno : epoll_set_without_bell(set, events, n);
}

static int sleep_in_kernel(struct epoll_set *set, int epfd,
                           struct epoll_event *events, int max, int64_t left_ns,
                           const sigset_t *mask)
{
    int64_t ms = left_ns < 0 ? -1 : (left_ns + 999999) / 1000000;
    int n;

    if (ms > INT_MAX)
        ms = INT_MAX;
    stats_count(STATS_SLEEP);
    n = REAL(epoll_pwait)(epfd, events, max, (int)ms, mask);
    return n < 0 ? -errno : epoll_set_without_bell(set, events, n);
}

/*
 * Several threads may sleep on one set and its one bell. While any of them
 * does, the bell stays armed; who wakes up and leaves something behind rings
 * for the next one.
 */
static void arm(struct epoll_set *set, bool on)
{
    bool leaving = !on, pass_on = false;

    lock_take(&set->lock);
    set->sleepers += on ? 1 : -1;
    on = set->sleepers > 0;
    atomic_store(&set->waiter->asleep, on);
    for (unsigned i = 0; i < set->n_peers; i++)
        peer_ops(set->peers[i].peer)
            ->peer_arm(set->peers[i].peer, set->waiter->id, on);
    full_fence();
    set->contended = false;
    if (leaving && on)
        for (unsigned i = 0; i < set->n_hot && !pass_on; i++)
            pass_on = events_of(set->hot[i], true) != 0 || set->contended;
    lock_give(&set->lock);
    if (pass_on)
        waiter_ring(set->waiter->id);
}

/* The peer of the first hot link last ran here: it needs this CPU. */
static bool peer_is_here(struct epoll_set *set)
{
    bool here = false;

    lock_take(&set->lock);
    if (set->n_hot > 0) {
        struct link *link = set->hot[0]->endpoint->stream.link;

        here = link != NULL && link->ops->peer_is_here(link, cpu_now());
    }
    lock_give(&set->lock);
    return here;
}

/* > 0 events, 0 nothing within the budget, or -errno of the kernel's set. */
static int look_for_a_while(struct epoll_set *set, int epfd,
                            struct epoll_event *events, int max,
                            struct spin *spin)
{
    uint64_t limit = set->poll_ns, kernel_ns;
    bool here = peer_is_here(set);
    int n = 0;

    spin->began_ns = 0;
    spin->blocked = false;
    for (int i = 0; i < QUICK_LOOKS && !here && limit != 0; i++) {
        n = collect(set, events, max);
        if (n != 0)
            return n;
        cpu_pause();
    }
    if (!spin_begin(spin, set->waiter, limit))
        return 0;
    kernel_ns = spin->looked_ns;
    do {
        n = collect(set, events, max);
        if (n == 0 && spin->looked_ns - kernel_ns >= KERNEL_LOOK_NS) {
            kernel_ns = spin->looked_ns;
            n = ask_kernel(set, epfd, events, max);
        }
    } while (n == 0 && spin_round(spin, here));
    spin_end(spin, set->waiter, limit, n != 0);
    return n;
}

static int64_t time_left(uint64_t until_ns)
{
    uint64_t now;

    if (until_ns == UINT64_MAX)
        return -1;
    now = clock_ns();
    return now < until_ns ? (int64_t)(until_ns - now) : 0;
}

/* Events of streams are there; now and then the kernel's are added. */
static int with_kernel(struct epoll_set *set, int epfd,
                       struct epoll_event *events, int n, int max)
{
    int more;

    if (++set->hits < HITS_PER_KERNEL_LOOK || n == max)
        return n;
    more = ask_kernel(set, epfd, events + n, max - n);
    return more > 0 ? n + more : n;
}

/* One round with streams in the set. 0: nothing came, ask again. */
static int wait_round(struct epoll_set *set, int epfd,
                      struct epoll_event *events, int max, uint64_t until_ns,
                      const sigset_t *mask)
{
    int n = collect(set, events, max);
    struct spin spin;

    if (n > 0)
        return with_kernel(set, epfd, events, n, max);
    if (until_ns <= 1)
        return ask_kernel(set, epfd, events, max);
    n = look_for_a_while(set, epfd, events, max, &spin);
    if (n != 0) {
        spin_restore(&spin);
        return n > 0 ? with_kernel(set, epfd, events, n, max) : n;
    }
    arm(set, true);
    n = collect(set, events, max);
    if (n == 0)
        n = sleep_in_kernel(set, epfd, events, max, time_left(until_ns),
                            spin_mask(&spin, mask));
    if (spin.began_ns != 0)
        spin_slept(&spin, set->waiter, set->poll_ns);
    arm(set, false);
    spin_restore(&spin);
    return n;
}

/* The kernel alone: no stream of the set is on a link. */
static int wait_kernel(struct epoll_set *set, int epfd,
                       struct epoll_event *events, int max, uint64_t until_ns,
                       int64_t timeout_ns, const sigset_t *mask)
{
    uint64_t spin_ns = process.settings.poll_kernel_usec * 1000;
    int64_t left = timeout_ns;
    int n;

    if (spin_ns != 0 && timeout_ns != 0) {
        uint64_t stop = clock_ns() + spin_ns;

        do {
            n = (int)syscall(SYS_epoll_pwait, epfd, events, max, 0, mask, 8);
            if (n != 0)
                goto done;
        } while (clock_ns() < stop && clock_ns() < until_ns &&
                 atomic_load(&set->n_managed) == 0);
        left = time_left(until_ns);
    }
    if (left > 0)
        left = (left + 999999) / 1000000;
    n = REAL(epoll_pwait)(epfd, events, max,
                          left > INT_MAX ? INT_MAX : (int)left, mask);
done:
    if (n < 0)
        return -errno;
    if (atomic_load_explicit(&set->bell_in, memory_order_relaxed))
        n = epoll_set_without_bell(set, events, n);
    return n;
}

int epoll_set_wait(struct epoll_set *set, int epfd, struct epoll_event *events,
                   int max, int64_t timeout_ns, const sigset_t *mask)
{
    uint64_t until = UINT64_MAX;
    int n;

    if (timeout_ns == 0)
        until = 1;
    else if (timeout_ns > 0)
        until = clock_ns() + (uint64_t)timeout_ns;
    if (max <= 0 || events == NULL)
        return REAL(epoll_pwait)(epfd, events, max, 0, mask) < 0 ? -errno : 0;
    for (;;) {
        if (atomic_load_explicit(&set->n_managed, memory_order_acquire) == 0)
            n = wait_kernel(set, epfd, events, max, until,
                            until == UINT64_MAX ? -1 : time_left(until), mask);
        else
            n = wait_round(set, epfd, events, max, until, mask);
        if (n != 0 || until <= 1 ||
            (until != UINT64_MAX && clock_ns() >= until))
            return n;
    }
}
