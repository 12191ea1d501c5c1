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
#include "preload/held_signals.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/spread.h"
#include "preload/stats.h"
#include "transport/bell.h"
#include "transport/pause.h"

enum {
    HITS_PER_KERNEL_LOOK = 8,
    KERNEL_LOOK_NS = 10000,
    LOOK_AHEAD = 7, /* registrations: a line takes as long to come */
    OWN_EVENTS = 3, /* at once, in the kernel's set: bell, device, rouser */
    EVENTS_MOST = INT_MAX / sizeof(struct epoll_event) /* EP_MAX_EVENTS */
};

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR &&
                  POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP,
              "poll and epoll name the same bits");

uint32_t epoll_events_of(struct epoll_reg *reg, bool peek)
{
    struct stream *s = &reg->endpoint->stream;
    uint32_t told = atomic_load_explicit(&s->told, memory_order_relaxed);
    /* Before the look: what it does not know yet is news later. */
    uint32_t refused = atomic_load_explicit(&s->refused, memory_order_acquire);
    uint64_t news = reg->events & EPOLLET ? stream_news_pinned(s) : 0;
    bool settles =
        (reg->events & WRITABLE) && !stream_is_up(s) &&
        stream_settles(s, process.settings.handover_hold_usec * 1000);
    uint32_t ready = (uint16_t)stream_ready_pinned(s);
    uint32_t hit = ready & (reg->events | EPOLLERR | EPOLLHUP);
    bool edge;

    if (ready & POLLNVAL) {
        reg->set->contended = true;
        return 0;
    }
    if (!(ready & EPOLLOUT))
        reg->out_seen = false;
    if (hit == 0 || reg->disarmed) {
        if (settles && !reg->disarmed)
            reg->set->unsettled = true;
        return 0;
    }
    if (!(reg->events & EPOLLET))
        return hit;
    if (hit & READABLE)
        news = stream_news_pinned(s); /* all of it is told now */
#ifdef PLANT_EDGE_TOO_FEW
    if (reg->news_seen != 0 && told == reg->told_seen)
        reg->news_seen = news;
#endif
    edge =
        told != reg->told_seen ||
        (news != reg->news_seen && (reg->events & READABLE)) ||
        ((hit & WRITABLE) && (!reg->out_seen || refused != reg->refused_seen));
    if (!edge || peek)
        return edge ? hit : 0;
#ifdef PLANT_EDGE_TOO_OFTEN
    told -= news != reg->news_seen;
#endif
    reg->told_seen = told;
    reg->news_seen = news;
    reg->out_seen = ready & EPOLLOUT;
    reg->refused_seen = refused;
    return hit;
}

/* But for those that were the kernel's at *asked, if it is not NULL. */
static int collect_once(struct epoll_set *set, struct epoll_event *events,
                        int max, const uint32_t *asked)
{
    bool cooled = false;
    unsigned at;
    int n = 0;

    epoll_lock_to_look(set);
    at = set->rotate;
    for (unsigned i = 0; i < set->n_hot && n < max; i++) {
        struct epoll_reg *reg;
        uint32_t hit;

        if (at >= set->n_hot)
            at = 0;
        reg = set->hot[at++];
        if (at + LOOK_AHEAD < set->n_hot)
            stream_expect_look_pinned(
                &set->hot[at + LOOK_AHEAD]->endpoint->stream);
        if (asked != NULL && epoll_is_taken_since(reg, *asked))
            continue;
        hit = epoll_events_of(reg, false);
        if (hit == 0) {
            if (epoll_is_quiet(set, reg))
                cooled |= epoll_cool_down(set, reg);
            continue;
        }
        reg->quiet_scans = 0;
        reg->hit_at = set->hit_scans;
        events[n].events = hit;
        events[n++].data = reg->data;
#ifndef PLANT_ONESHOT_STAYS
        if (reg->events & EPOLLONESHOT)
            reg->disarmed = true;
#endif
    }
    set->rotate = at;
    set->hit_scans += n > 0;
    /* What became cold moved others about: not all have been looked at. */
    if (n == 0 && (set->contended || cooled))
        n = -EAGAIN;
    lock_leave(&set->lock);
    return n;
}

/* Whoever changes a stream holds its lock and then wants the set's: let go. */
int epoll_collect(struct epoll_set *set, struct epoll_event *events, int max,
                  const uint32_t *asked)
{
    int n;

    while ((n = collect_once(set, events, max, asked)) == -EAGAIN)
        sched_yield();
    return n;
}

static int collect(struct epoll_set *set, struct epoll_event *events, int max)
{
    return epoll_collect(set, events, max, NULL);
}

/* A device has something for links of the set, or of others in the process. */
void epoll_hear_devices(struct epoll_set *set)
{
    lock_enter(&set->lock);
    for (unsigned i = 0; i < set->n_peers; i++) {
        struct peer *peer = set->peers[i].peer;

        if (!set->peers[i].wakes)
            continue;
        peer_ops(peer)->peer_arm(peer, set->waiter->id, false);
        if (atomic_load(&set->sleepers) > 0)
            peer_ops(peer)->peer_arm(peer, set->waiter->id, true);
    }
    lock_leave(&set->lock);
}

/*
 * A ring belongs to a thread that sleeps, and it goes on for all of them
 * (epoll_woke()): one that only looks in passing leaves it to them.
 */
static void drain(struct epoll_set *set, bool slept)
{
    if (set->waiter == NULL)
        return;
    lock_enter(&set->lock);
    if (slept || atomic_load(&set->sleepers) == 0) {
        bell_drain(set->waiter->bell);
        epoll_untell(set);
    }
    lock_leave(&set->lock);
}

static int without_bell(struct epoll_set *set, struct epoll_event *events,
                        int n, bool slept, uint32_t since)
{
    int kept = 0;

    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == (const void *)&epoll_bell_cookie) {
            drain(set, slept); /* another thread may have done so before us */
            continue;
        }
        if (events[i].data.ptr == (const void *)&epoll_wake_cookie) {
            epoll_hear_devices(set);
            continue;
        }
        if (events[i].data.ptr == (const void *)&epoll_rouse_cookie ||
            events[i].data.ptr == (const void *)&epoll_parked_cookie)
            continue;
        events[kept++] = events[i];
    }
    epoll_mark_spent(set, events, kept, since);
    return kept;
}

int epoll_set_without_bell(struct epoll_set *set, struct epoll_event *events,
                           int n, uint32_t since)
{
    return without_bell(set, events, n, false, since);
}

int epoll_ask_kernel(struct epoll_set *set, struct epoll_event *events, int max)
{
    int n = 0, own = 0;

    set->hits = 0;
    /*
     * What is our own may have taken the place of what is not. Of one that is
     * parked it tells once.
     */
    while (own <= OWN_EVENTS && n == 0) {
        uint32_t since = epoll_takeovers(set);
        int all =
            (int)syscall(SYS_epoll_pwait, set->epfd, events, max, 0, NULL, 8);

        if (all < 0)
            return -errno;
        n = epoll_set_without_bell(set, events, all, since);
        if (all < max)
            break;
        own += events[0].data.ptr != (const void *)&epoll_parked_cookie;
    }
    return n;
}

/* One call of epoll_wait in any of its forms. */
struct call {
    uint64_t until_ns; /* 1: it does not wait; UINT64_MAX: for ever */
    bool fine;         /* its time is not in whole milliseconds */
    const sigset_t *mask;
    struct held_signals held;
};

/*
 * The program's own kind of call: a filter of system calls may not let another
 * one pass. -1 is for ever.
 */
static int sleep_for(struct epoll_set *set, struct epoll_event *events, int max,
                     int64_t left_ns, const struct call *call)
{
    const sigset_t *mask = signals_mask(&call->held, call->mask);
    struct timespec t = {left_ns / 1000000000, left_ns % 1000000000};
    int64_t ms = left_ns < 0 ? -1 : (left_ns + 999999) / 1000000;
    int n;

    if (call->fine && kernel.epoll_pwait2 != NULL) {
        n = kernel.epoll_pwait2(set->epfd, events, max, &t, mask);
        if (n >= 0 || errno != ENOSYS)
            return n < 0 ? -errno : n;
    }
    if (ms > INT_MAX)
        ms = INT_MAX;
    n = REAL(epoll_pwait)(set->epfd, events, max, (int)ms, mask);
    return n < 0 ? -errno : n;
}

static int64_t time_left(uint64_t until_ns)
{
    uint64_t now;

    if (until_ns == UINT64_MAX)
        return -1;
    now = clock_ns();
    return now < until_ns ? (int64_t)(until_ns - now) : 0;
}

static int sleep_in_kernel(struct epoll_set *set, struct epoll_event *events,
                           int max, const struct call *call)
{
    uint32_t since = epoll_takeovers(set);
    int n;

    stats_count(STATS_SLEEP);
    n = sleep_for(set, events, max, time_left(call->until_ns), call);
    return n < 0 ? n : without_bell(set, events, n, true, since);
}

/* The peer of the first hot link last ran here: it needs this CPU. */
static bool peer_is_here(struct epoll_set *set)
{
    enum spread_place place = SPREAD_APART;

    lock_enter(&set->lock);
    if (set->n_hot > 0) {
        struct stream *s = &set->hot[0]->endpoint->stream;

        place = spread_look(s->link, s->h.initiator);
    }
    lock_leave(&set->lock);
    return spread_is_here(place);
}

/* > 0 events, 0 nothing within the budget, or -errno of the kernel's set. */
static int look_for_a_while(struct epoll_set *set, struct epoll_event *events,
                            int max, struct spin *spin,
                            struct held_signals *held)
{
    uint64_t limit = set->poll_ns, kernel_ns;
    bool here = peer_is_here(set);
    int n = 0;

    spin_first(spin, set->waiter, limit, here);
    while (spin_glance(spin)) {
        n = collect(set, events, max);
        if (n != 0)
            return n;
    }
    if (limit == 0)
        return 0;
    signals_hold(held);
    if (!spin_begin(spin, set->waiter, limit))
        return 0;
    kernel_ns = spin->looked_ns;
    do {
        n = collect(set, events, max);
        if (n == 0 && spin->looked_ns - kernel_ns >= KERNEL_LOOK_NS) {
            kernel_ns = spin->looked_ns;
            n = epoll_ask_kernel(set, events, max);
        }
    } while (n == 0 && spin_round(spin, here));
    spin_end(spin, set->waiter, limit, n != 0);
    return n;
}

/*
 * What is ready. Now and then the kernel's descriptors come first, so that
 * streams which are always ready leave them a place; mostly they do not.
 */
static int collect_fairly(struct epoll_set *set, struct epoll_event *events,
                          int max)
{
    uint32_t since = epoll_takeovers(set);
    int n = 0, more;

    if (set->hits >= HITS_PER_KERNEL_LOOK) {
        n = epoll_ask_kernel(set, events, max);
        if (n < 0 || n == max)
            return n;
    }
    /* A list has nobody twice: who left the kernel meanwhile may be in it. */
    more = epoll_collect(set, events + n, max - n, n > 0 ? &since : NULL);
    if (more > 0)
        set->hits++;
    return n + more;
}

/*
 * A signal handler forked in the midst of the wait, and this is the child: the
 * set has no waiter any more, and nobody who sleeps.
 */
static bool is_forked(pid_t before)
{
    return __builtin_expect(process.pid != before, 0);
}

/*
 * After a sleep. What it was for is mostly there: signals are held only if one
 * look does not find it.
 */
static int collect_again(struct epoll_set *set, struct epoll_event *events,
                         int max, struct held_signals *held)
{
    int n = set->hits < HITS_PER_KERNEL_LOOK && !held->on
                ? collect_once(set, events, max, NULL)
                : 0;

    if (n > 0) {
        set->hits++;
        return n;
    }
    signals_hold(held);
    return 0;
}

/* One round with streams in the set. 0: nothing came, ask again. */
static int wait_round(struct epoll_set *set, struct epoll_event *events,
                      int max, struct call *call, bool again)
{
    int n = again ? collect_again(set, events, max, &call->held) : 0;
    pid_t pid = process.pid;
    struct spin spin;

    if (n == 0)
        n = collect_fairly(set, events, max);
    if (n != 0)
        return n;
    if (call->until_ns <= 1)
        return epoll_ask_kernel(set, events, max);
    n = look_for_a_while(set, events, max, &spin, &call->held);
    if (n != 0) {
        set->hits++;
        return n;
    }
    epoll_sleeps(set, true);
    n = collect(set, events, max);
    if (n != 0)
        set->hits++; /* on a busy CPU they may always come this late */
    else if (!epoll_has_inner(set))
        n = sleep_in_kernel(set, events, max, call);
    if (is_forked(pid))
        return n;
    if (spin.began_ns != 0)
        spin_slept(&spin, set->waiter, set->poll_ns);
    epoll_woke(set);
    return n;
}

/*
 * Sleeps in a set without streams. One may come meanwhile and the bell wakes
 * but one of the sleepers: the others are counted, so that they are armed for
 * and rings are passed on to them. 0: ask again.
 */
static int sleep_bare(struct epoll_set *set, struct epoll_event *events,
                      int max, int64_t left_ns, const struct call *call)
{
    uint32_t since = epoll_takeovers(set);
    pid_t pid = process.pid;
    int n = 0;

    epoll_sleeps(set, true);
    if (atomic_load(&set->n_managed) == 0 && !epoll_has_inner(set)) {
        n = sleep_for(set, events, max, left_ns, call);
        n = n < 0 ? n : without_bell(set, events, n, true, since);
    }
    if (!is_forked(pid))
        epoll_woke(set);
    return n;
}

/* The kernel alone: no stream of the set is on a link. */
static int wait_kernel(struct epoll_set *set, struct epoll_event *events,
                       int max, struct call *call)
{
    uint64_t spin_ns = process.settings.poll_kernel_usec * 1000;
    uint32_t since = epoll_takeovers(set);
    int64_t left = time_left(call->until_ns);
    int n;

    if (spin_ns != 0 && left != 0) {
        uint64_t stop = clock_ns() + spin_ns;

        signals_hold(&call->held);
        do {
            n = (int)syscall(SYS_epoll_pwait, set->epfd, events, max, 0, NULL,
                             8);
            if (n != 0)
                goto done;
        } while (clock_ns() < stop && clock_ns() < call->until_ns &&
                 atomic_load(&set->n_managed) == 0);
        left = time_left(call->until_ns);
    }
    if (left != 0)
        return sleep_bare(set, events, max, left, call);
    n = REAL(epoll_pwait)(set->epfd, events, max, 0,
                          signals_mask(&call->held, call->mask));
done:
    if (n <= 0)
        return n < 0 ? -errno : 0;
    /* Another process may have put a bell in, or the number is another's. */
    n = epoll_set_without_bell(set, events, n, since);
    return n != 0 ? n : epoll_ask_kernel(set, events, max);
}

/*
 * A stream may have moved past a wait that looks at both sides; and one that is
 * on its way back is not writable for a moment, handover_hold_usec at most.
 */
static bool look_once_more(struct epoll_set *set, uint32_t *moves)
{
    uint32_t before = *moves;
    bool unsettled;

    lock_enter(&set->lock); /* until it is where it belongs */
    *moves = atomic_load(&set->moves);
    unsettled = set->unsettled && atomic_load(&set->n_managed) != 0;
    lock_leave(&set->lock);
    if (*moves != before)
        return true;
    if (unsettled)
        sched_yield();
    return unsettled;
}

int epoll_set_wait(struct epoll_set *set, struct epoll_event *events, int max,
                   int64_t timeout_ns, const sigset_t *mask)
{
    uint32_t moves = atomic_load(&set->moves);
    struct call call = {.until_ns = UINT64_MAX, .mask = mask};
    bool again = false;
    int n;

    if (timeout_ns == 0)
        call.until_ns = 1;
    else if (timeout_ns > 0)
        call.until_ns = clock_ns() + (uint64_t)timeout_ns;
    call.fine = timeout_ns > 0 && timeout_ns % 1000000 != 0;
    if (max <= 0 || max > EVENTS_MOST || events == NULL)
        return REAL(epoll_pwait)(set->epfd, events, max, 0, mask) < 0 ? -errno
                                                                      : 0;
    if (!reach_ok(&process.reach, events, sizeof(*events), true))
        return -EFAULT; /* the kernel would wait for the first one */
    for (;; again = true) {
        if (atomic_load_explicit(&set->lingering, memory_order_relaxed) != NULL)
            epoll_end_lingering(set);
        if (epoll_has_inner(set)) {
            if (again)
                signals_hold(&call.held);
            n = epoll_wait_over(set, events, max, call.until_ns, mask,
                                &call.held);
        } else if (atomic_load_explicit(&set->n_managed,
                                        memory_order_acquire) != 0) {
            n = wait_round(set, events, max, &call, again);
        } else {
            if (again)
                signals_hold(&call.held);
            n = wait_kernel(set, events, max, &call);
        }
        if (n != 0)
            break;
        if (call.until_ns <= 1 ||
            (call.until_ns != UINT64_MAX && clock_ns() >= call.until_ns)) {
            if (!look_once_more(set, &moves))
                break;
            call.until_ns = 1;
        }
    }
    signals_release(&call.held);
    return n;
}

int epoll_set_wait_plain(struct epoll_set *set, struct epoll_event *events,
                         int max, int timeout_ms)
{
    uint64_t began = timeout_ms > 0 ? clock_ns() : 0;
    uint32_t since = epoll_takeovers(set);
    int64_t left = timeout_ms;
    pid_t pid = process.pid;
    int n = 0;

    if (epoll_sleeps_plain(set)) {
        n = REAL(epoll_wait)(set->epfd, events, max, timeout_ms);
        n = n < 0 ? -errno : n;
        if (is_forked(pid) || epoll_woke_plain(set))
            return n;
        /* A stream went up meanwhile, or another set was put in. */
        if (n > 0)
            n = without_bell(set, events, n, true, since);
        if (n == 0 && timeout_ms > 0)
            left -= (int64_t)((clock_ns() - began) / 1000000);
    } else if (!epoll_set_enter(set)) {
        return -EBADF; /* it is just being closed */
    }
    if (n == 0)
        n = epoll_set_wait(set, events, max,
                           timeout_ms < 0 ? -1
                           : left > 0     ? left * 1000000
                                          : 0,
                           NULL);
    epoll_set_leave(set);
    return n;
}
