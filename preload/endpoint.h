/*
 * A TCP socket of the application: its stream, and what POSIX adds to it
 * (blocking, time-outs, MSG_ flags, several descriptors, epoll membership).
 *
 * Endpoints come from memory that is never unmapped and are reused late, so a
 * thread that lost a race with close() finds an endpoint and not a hole.
 */
#ifndef PRELOAD_ENDPOINT_H
#define PRELOAD_ENDPOINT_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "config/rules.h"
#include "preload/family.h"
#include "preload/fd_table.h"
#include "preload/stats_layout.h"
#include "transport/backend.h"
#include "transport/loop.h"
#include "transport/stream/stream.h"

struct epoll_reg;

enum endpoint_state {
    ENDPOINT_NEW,
    ENDPOINT_LISTENING,
    ENDPOINT_CONNECTED, /* or on its way: the kernel knows */
};

/* What the helper is asked to do. */
enum {
    WORK_MEET = 1,
    WORK_PROGRESS = 2,
    WORK_CLOSE = 4,
    WORK_RETURN = 8,
    WORK_LISTEN = 16, /* let peers find us where it was accepted */
    WORK_LET_GO = 32, /* no thread of the application touches it any more */
    WORK_REFUSED = 64 /* a signal handler's write, see below */
};

struct endpoint {
    struct object object; /* first */
    _Atomic int fds;      /* descriptors of the application */
    _Atomic int inside;   /* threads in managed calls that wait, and close() */
    _Atomic bool left;    /* its last descriptor was closed */
    _Atomic bool freed;   /* who still asks for something comes too late */
    _Atomic bool nonblocking;
    _Atomic bool ineligible;  /* stays on TCP for good; `why` says so */
    _Atomic bool held;        /* the same, until the administrator lets go */
    _Atomic bool shared;      /* the same, while another process holds it */
    _Atomic bool set_shared;  /* the same, while its epoll set is another's */
    struct holding holders;   /* in the family's count */
    bool kept_by_exec;        /* a number of it is not closed by exec */
    _Atomic uint32_t visited; /* see each_endpoint() */
    _Atomic bool given; /* perhaps to others: one holder for all of them */
    int state;
    sa_family_t family;
    _Atomic int32_t countdown; /* calls until the next attempt to go up */
    struct stream stream;
    struct stream_bytes bytes;
    uint64_t inode;
    uint64_t rcvtimeo_ns, sndtimeo_ns; /* 0: for ever; or ENDPOINT_NO_TIME */
    bool needs_kernel; /* an option says so; on a listener: of its children */

    _Atomic uint64_t watch; /* 4 x 16 bits: waiters; under stream.rx */
    struct epoll_reg *regs; /* under the registry lock */
    struct stats_row *row;  /* in the statistics segment, or NULL */
    struct stream_settings settings;
    struct lock proof_lock;
    struct proof_log *proof; /* the first bytes; NULL: not kept */

    /* the helper's */
    _Atomic unsigned work;
    _Atomic bool queued;
    _Atomic bool in_hand;        /* it works on it just now */
    struct endpoint *next_asked; /* in the helper's queue: even a free one */
    struct endpoint *next;       /* of those that are free */
    struct meeting meeting;
    struct watch tcp;
    struct timer timer;
    struct connection_name name;
    struct sockaddr_storage local, peer;
    const char *at_transport;   /* those of the list not tried yet */
    struct backend *tried_with; /* the last one that was */
    const char *tried_name;
    enum reason why_not; /* of those so far, the most telling one */
    bool tried;
    unsigned soon;           /* tries that came soon after one that failed */
    unsigned breaks;         /* of its links, not forgiven yet */
    uint64_t broke_ns;       /* the last one */
    struct proof_log *shown; /* a copy for the meeting under way */
    bool announced;          /* of a listening one: peers may find us there */
    bool waited;             /* its rule's own upgrade_after has passed */
    bool known;              /* name, addresses and settings are filled in */
    bool closing;            /* the application has closed it */
    bool let_go;             /* and its thread is done with it */
    bool kept;               /* stream.fd is a private descriptor of ours */
    bool detached;           /* stream.fd may be another file's by now */
    unsigned failures;       /* of the rendezvous, in a row */
    unsigned attempts;       /* to go up, in a row */
    uint32_t returns_seen, ups_seen;
    uint64_t not_before_ns;
    uint64_t linger_until_ns; /* close() waits for what TCP has to send */
    LIST_ENTRY(endpoint) all; /* those with the helper's interest */
    bool in_all;
};

/* A time-out below zero, which Linux takes as none: the call never waits. */
#define ENDPOINT_NO_TIME UINT64_C(1)

static inline struct endpoint *endpoint_of(struct stream *s)
{
    return (struct endpoint *)((char *)s - offsetof(struct endpoint, stream));
}

/* It may not leave TCP now; `why` says so. */
static inline bool endpoint_stays(struct endpoint *e)
{
    return atomic_load(&e->ineligible) || atomic_load(&e->held) ||
           atomic_load(&e->shared) || atomic_load(&e->set_shared);
}

/* The helper has nothing to do with it: its last user may free it. */
static inline bool endpoint_is_alone(struct endpoint *e)
{
    return !atomic_load(&e->queued) && !atomic_load(&e->in_hand) && !e->in_all;
}

/* A new socket of the application; NULL when memory is out. */
struct endpoint *endpoint_create(int fd, int family, bool nonblocking,
                                 enum endpoint_state state, bool initiator);
/* The call that moved them was on TCP; total: bytes of that way, with them. */
void endpoint_note_proof(struct endpoint *e, bool out, const struct iovec *iov,
                         int n, size_t len, uint64_t total);
/* Nobody will ask for its first bytes any more. */
void endpoint_forget_proof(struct endpoint *e);
/* The last user is gone; it may be said twice, by those who raced for it. */
void endpoint_free(struct endpoint *e);
void endpoint_pool_after_fork(void);
/* connect() succeeded or is under way. */
void endpoint_connected(struct endpoint *e);
/* One more call was made, of n bytes: perhaps it is time to go up. */
void endpoint_grown_up(struct endpoint *e);

/* Calls until the next attempt, after so many that failed in a row. */
int32_t endpoint_calls_after(unsigned failures);

/* When the rules are asked for a connection; set once at start-up. */
struct endpoint_first {
    uint64_t calls;          /* the least upgrade_after of setting and rules */
    uint32_t bytes_per_call; /* so many bytes count as one more call */
};
extern struct endpoint_first endpoint_first;
void endpoint_plan_first(void);

static inline void endpoint_called(struct endpoint *e, size_t n)
{
    int32_t cost;

    if (atomic_load_explicit(&e->countdown, memory_order_relaxed) <= 0)
        return;
    n /= endpoint_first.bytes_per_call;
    cost = n < 1 << 20 ? 1 + (int32_t)n : 1 << 20;
    if (__builtin_expect(atomic_fetch_sub_explicit(
                             &e->countdown, cost, memory_order_relaxed) <= cost,
                         0))
        endpoint_grown_up(e);
}

/*
 * The managed forms of read and write; the bare ones are the intercepted
 * calls' own. Result: bytes or -errno; SIGPIPE has been raised where due.
 */
ssize_t endpoint_recv(struct endpoint *e, const struct iovec *iov, int n,
                      int flags);
ssize_t endpoint_send(struct endpoint *e, const struct iovec *iov, int n,
                      int flags);
/* The peer last ran on this CPU: it needs it. */
bool endpoint_peer_is_here(struct endpoint *e);
/* A write that may not wait could not take it all: epoll owes an event. */
void endpoint_write_refused(struct endpoint *e);

/*
 * A call that waits is not undone by close() or dup2() in another thread: it
 * goes on with the file, as in the kernel, and the last one to leave closes.
 * False: closed already.
 */
bool endpoint_enter(struct endpoint *e);
void endpoint_leave(struct endpoint *e);
/* Inside it this thread is armed at the peer (NULL: at none), and no more. */
void endpoint_armed(struct endpoint *e, struct peer *peer, unsigned waiter);
void endpoint_disarm(struct endpoint *e, struct peer *peer, unsigned waiter);
/* Calls that this thread has left by longjmp(3) are counted no more. */
void endpoint_leave_stale(void);
/* Once, before the first thread waits. 0 or a negative errno. */
int endpoint_places_start(void);
/* In the child of a fork. */
void endpoint_forget_places(void);

/*
 * Asks the kernel what is set on the file, and notes what calls on a link need
 * to know of it. False: it has to stay on TCP. All locks of the stream held.
 */
bool endpoint_options_allow(struct endpoint *e);
/* While a setting is changed and noted nobody asks for it. The result is for
 * the unlock: not in a handler in the midst of its thread's own call. */
bool endpoint_options_lock(struct endpoint *e);
void endpoint_options_unlock(struct endpoint *e, bool locked);
/* SO_RCVTIMEO or SO_SNDTIMEO as below. */
uint64_t endpoint_time_of(const struct timeval *t);

/*
 * Have this waiter woken for the stream; with no place left it takes that of a
 * thread that waits for nothing. False: there is no room for it.
 */
bool endpoint_watch(struct endpoint *e, unsigned waiter);
/* The same for the calling thread, between waiter_begin() and waiter_end(). */
bool endpoint_watch_here(struct endpoint *e, unsigned waiter);
void endpoint_unwatch(struct endpoint *e, unsigned waiter);

/* Close of one descriptor, by how(arg), which does it; returns its result. */
int endpoint_close(struct endpoint *e, int fd, int (*how)(void *arg),
                   void *arg);
/*
 * The same for a stream on a link whose last number becomes another file's:
 * how(arg) sees to that, and to the row. False: not this one, nothing was done.
 */
bool endpoint_replace(struct endpoint *e, int fd, int (*how)(void *arg),
                      void *arg, int *rc);
/* That number will soon be another file's; the stream has others. */
void endpoint_leave_number(struct endpoint *e, int fd);

/* It stays, but perhaps not for good: brought back, and nothing wished then. */
void endpoint_settle(struct endpoint *e, enum reason why);
/* Stays on TCP from now on. Brings it back first, at most for the limit. */
void endpoint_banish(struct endpoint *e, enum reason why);

extern const struct stream_calls endpoint_stream_calls;

#endif
