/*
 * What epoll_life.c (begin and end), epoll_sleep.c (who is inside, who sleeps),
 * epoll_ctl.c (what the program asks for), epoll_set.c (membership),
 * epoll_spent.c (of that, one-shots), epoll_share.c (of that, sets of several
 * processes), epoll_wait.c (events), epoll_heat.c (where they are looked for)
 * and epoll_nest.c (sets in sets) share.
 */
#ifndef PRELOAD_EPOLL_PRIVATE_H
#define PRELOAD_EPOLL_PRIVATE_H

#include "preload/epoll_set.h"
#include "preload/family.h"
#include "preload/held_signals.h"
#include "transport/lock.h"

/* As the kernel names them to whom it tells of bytes, and of room. */
enum { READABLE = EPOLLIN | EPOLLRDNORM, WRITABLE = EPOLLOUT | EPOLLWRNORM };

struct epoll_peer {
    struct peer *peer; /* a reference is held */
    unsigned regs;
    bool wakes; /* by a descriptor: peer_wake_fd() */
};

struct epoll_set {
    struct object object;    /* first */
    _Atomic uint32_t inside; /* threads in calls on it, and marks, below */
    _Atomic int epfd;
    bool kept; /* epfd is a descriptor of ours */
    struct lock lock;
    _Atomic unsigned n_managed;
    _Atomic uint32_t moves; /* of streams to and from the kernel's set */
    _Atomic bool taking;    /* a one-shot out of the kernel, just now */
    _Atomic bool bell_in;   /* the bell is in the kernel's set */
    int wake_fd;            /* and this, which devices wake by; -1: none */
    _Atomic bool alone;     /* the kernel's; see epoll_set_to_kernel() */
    bool inherited;         /* it was there before a fork */
    bool shared;            /* and another has it; under the registry lock */
    struct holding holders;
    _Atomic bool watched; /* in poll or another set; under the registry lock */
    _Atomic bool promote; /* some reg has `promote` set */
    /*
     * Deleted by the program while managed, and still parked in the kernel's
     * set, until it is added again or somebody waits here: some programs do
     * that for each request. Changed under the registry lock.
     */
    struct epoll_reg *_Atomic lingering;
    struct waiter *waiter;
    uint64_t poll_ns;
    struct epoll_reg *regs; /* all, under the registry lock */
    struct epoll_reg **hot; /* looked at each time */
    unsigned n_hot, hot_size, rotate;
    struct epoll_peer *peers;
    unsigned n_peers;
    _Atomic int sleepers; /* threads, in the kernel with or without streams */
    _Atomic int watchers; /* of these, not in epoll_wait on this very set */
    bool contended;       /* a stream was being changed during the last look */
    bool unsettled;       /* one could not be written to as it moves */
    unsigned hits;        /* user-level events since the kernel was asked */
    uint32_t hit_scans;   /* looks that found something */
    struct epoll_set **inner; /* sets in it; under the registry lock */
    _Atomic unsigned n_inner;
    _Atomic uint32_t nestings; /* so far */
    int stale;           /* sleepers who do not know of the last of them */
    _Atomic bool rouses; /* and what wakes them is in the kernel's set */
    uint32_t turns;      /* looks at it while others are in it */
    struct epoll_set *next;
};

/* Its number is closed; the last one to leave has ended it. */
enum { SET_CLOSED = 1 << 30, SET_ENDED = 1 << 29 };
#define SET_MARKS ((uint32_t)(SET_CLOSED | SET_ENDED))

extern const char epoll_bell_cookie, epoll_wake_cookie, epoll_rouse_cookie,
    epoll_parked_cookie;

/* Errors and hang-ups cannot be left out: of them it tells us once. */
enum { EPOLL_PARKED = EPOLLONESHOT | (int)EPOLLET };

extern struct epoll_set *epoll_all_sets; /* under the registry lock */

void epoll_registry_lock(void);
void epoll_registry_unlock(void);
void epoll_registry_init(void); /* in the child of a fork */

/* In the kernel's set; 0 or -errno. */
int epoll_kernel_ctl(struct epoll_set *set, int op, int fd, uint32_t events,
                     epoll_data_t data);
/*
 * Registry lock held, not managed: the program's in the kernel's set again. One
 * that is spent only if that is said.
 */
void epoll_unpark(struct epoll_reg *reg, bool spent_too);
/* Registry lock held: somebody is about to look at it from outside. */
void epoll_set_is_watched(struct epoll_set *set);
/*
 * Into the set's own care. Registry and stream locks held. Whoever sleeps looks
 * when the peer's news ring already, not before.
 */
void epoll_take_over(struct epoll_reg *reg);
/* Registry lock and the stream's held. */
void epoll_drop_reg(struct epoll_reg *reg);
/* Registry lock held. If nothing of ours makes the set ready any more. */
void epoll_take_bell_out(struct epoll_set *set);

/* Set lock held. */
void epoll_make_hot(struct epoll_set *set, struct epoll_reg *reg);
void epoll_make_cold(struct epoll_set *set, struct epoll_reg *reg);
/* Set lock held: is there anything for epoll_warm_up()? */
bool epoll_is_marked(const struct epoll_set *set);
void epoll_warm_up(struct epoll_set *set);
/* Takes the set's lock; those that have something are hot then. */
static inline void epoll_lock_to_look(struct epoll_set *set)
{
    lock_enter(&set->lock);
    set->contended = set->unsettled = false;
    if (__builtin_expect(set->n_hot < atomic_load(&set->n_managed), 0) &&
        epoll_is_marked(set)) {
        lock_leave(&set->lock);
        epoll_warm_up(set);
        lock_enter(&set->lock);
    }
}

/* Set lock held: one that had no event. Should it be cold? Cool it down: */
bool epoll_is_quiet(struct epoll_set *set, struct epoll_reg *reg);
bool epoll_cool_down(struct epoll_set *set, struct epoll_reg *reg);
/* Set lock held: the peer shall say when there is room, if it waits for it. */
bool epoll_want_room(struct epoll_reg *reg);
/*
 * Has the kernel reported this one-shot already? An event that it reports
 * between this look and the removal is told twice.
 */
bool epoll_spent_in_kernel(const struct epoll_reg *reg);
/*
 * The kernel told of these. If there is a one-shot among them that it gave away
 * since the set had taken over so many, it is spent.
 */
void epoll_mark_spent(struct epoll_set *set, const struct epoll_event *events,
                      int n, uint32_t since);
static inline uint32_t epoll_takeovers(const struct epoll_set *set)
{
    return atomic_load(&set->object.takeovers);
}

/* It was the kernel's when the set had taken over so many. */
static inline bool epoll_is_taken_since(const struct epoll_reg *reg,
                                        uint32_t since)
{
    return reg->taken_at != 0 && (int32_t)(reg->taken_at - since) > 0;
}
/* What epoll would report for it now; 0 is nothing. Set lock held. */
uint32_t epoll_events_of(struct epoll_reg *reg, bool peek);
/*
 * Events of streams, but for those that were the kernel's when the set had
 * taken over *asked, if it is not NULL.
 */
int epoll_collect(struct epoll_set *set, struct epoll_event *events, int max,
                  const uint32_t *asked);
int epoll_ask_kernel(struct epoll_set *set, struct epoll_event *events,
                     int max);
void epoll_hear_devices(struct epoll_set *set);
/*
 * Before a sleep of this thread, and after it. Direct: in epoll_wait on this
 * very set; else in what waits for it.
 */
void epoll_sleeps(struct epoll_set *set, bool direct);
void epoll_woke(struct epoll_set *set);
/*
 * The same for a set with nothing of ours in it (object.plain), with entering
 * and leaving it. False: not so; the first one has done nothing then, and after
 * the second one this thread is still inside.
 */
bool epoll_sleeps_plain(struct epoll_set *set);
bool epoll_woke_plain(struct epoll_set *set);
/* One fewer inside. */
void epoll_count_out(struct epoll_set *set);
/* The last one has left a closed set. */
void epoll_end(struct epoll_set *set);
/* In the child of a fork: its thread is nowhere. */
void epoll_forget_places(void);
/*
 * Registry and stream locks held. Does another process have the set? Then the
 * stream does not go up from now on; true if it has to come back for that.
 */
bool epoll_keeps_on_tcp(struct epoll_set *set, struct endpoint *e);
/* Registry lock held. Before a fork: one process more will have it. */
void epoll_share(struct epoll_set *set);
/* This process has closed it. */
void epoll_share_ends(struct epoll_set *set);
/* Set lock held. A sleeper since so many nestings is back. */
void epoll_roused(struct epoll_set *set, uint32_t nestings);
/* There is nothing left that a sleeper would have to know of. */
void epoll_rouse_nobody(struct epoll_set *set);
/*
 * Is this thread counted as one that sleeps there and does not know of the last
 * nesting? It has left that sleep by a jump, or this is a signal handler.
 */
bool epoll_is_stale_here(const struct epoll_set *set);
/* News that the bell has not been rung for. */
bool epoll_is_fresh(const struct epoll_reg *reg);
/* Set lock held: the bell is empty, so it has told nobody who waits elsewhere.
 */
void epoll_untell(struct epoll_set *set);
/* Set lock held. False: no bell can be had, or the kernel's set has no room. */
bool epoll_put_bell_in(struct epoll_set *set);
/* Registry lock and the stream's held. Out of the kernel's set, too. */
void epoll_drop_lingering(struct epoll_reg *reg);
/* What lingers in it has done so for long enough. */
void epoll_end_lingering(struct epoll_set *set);
static inline bool epoll_has_inner(struct epoll_set *set)
{
    return atomic_load(&set->n_inner) != 0 && !atomic_load(&set->alone);
}

/* One round of epoll_wait in a set with others in it. 0: ask again. */
int epoll_wait_over(struct epoll_set *set, struct epoll_event *events, int max,
                    uint64_t until_ns, const sigset_t *mask,
                    struct held_signals *held);
/* Registry lock held: the set is closed; its number is open still. */
void epoll_nest_forget(struct epoll_set *inner, bool open);
/* In the child of a fork. */
void epoll_nest_forked(void);
/* A stream was counted in n_managed: for those who sleep already. */
void epoll_arm_sleepers(struct epoll_set *set);

#endif
