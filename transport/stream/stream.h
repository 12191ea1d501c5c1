/*
 * One connection, whatever carries it: kernel TCP, a link, or a handover
 * between the two.
 *
 * Two paths lead through a stream. While `guard` is clear its bytes are on
 * TCP and a call is *bare*: the caller enters with stream_bare_enter(), makes
 * the application's own kernel call, counts with stream_count(), and leaves.
 * While `guard` is set calls are *managed*: stream_recv() and stream_send()
 * try once, never wait, and answer -EAGAIN; who wants to wait asks
 * stream_wait_for() what to sleep on.
 *
 * Locks, in this order: stage, rx, tx. A stage changes only under all three;
 * TCP is read under rx and written under tx, bare calls excepted. Whoever
 * calls stream_progress() moves the protocol on; the helper thread does it
 * for streams whose application is elsewhere.
 *
 * All functions return 0, bytes, or -errno. Any thread may call anything
 * unless it says otherwise.
 */
#ifndef TRANSPORT_STREAM_STREAM_H
#define TRANSPORT_STREAM_STREAM_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "transport/lock.h"
#include "transport/pause.h"
#include "transport/reach.h"
#include "transport/stream/handover.h"
#include "transport/stream/kernel_calls.h"
#include "transport/transport.h"

struct stream;

/* What a stream tells its owner. Called with the stream's locks held, but for
 * `wake`: who is woken takes them at once. */
struct stream_calls {
    void (*wake)(struct stream *s);             /* readiness may be another */
    void (*changed)(struct stream *s);          /* before it; NULL: no matter */
    void (*managed)(struct stream *s, bool on); /* stage left RAW, is RAW */
    void (*kick)(struct stream *s);             /* helper: stream_progress() */
    struct reach *reach; /* for addresses of strangers; NULL: there are none */
    /* Streams may have to return at any moment; NULL: they do not. */
    const _Atomic bool *careful;
    /*
     * The owner wants it on TCP. Asked when the guard is set: who wants that
     * sets what is asked here first, and then looks at the guard, so one of the
     * two sees the other. NULL: never.
     */
    bool (*stays)(struct stream *s);
};

/* Bytes so far, for people; each written under the lock of its direction. */
struct stream_bytes {
    _Atomic uint64_t out, in;           /* of the application, all carriers */
    _Atomic uint64_t link_out, link_in; /* of those, over links */
};

enum { KEPT_SIZE = 64 }; /* a power of two, and more than RECORD_SIZE */

enum stream_wish { WISH_NONE, WISH_RETURN, WISH_CLOSE, WISH_LEAVE };

struct stream {
    _Atomic uint32_t guard; /* calls are managed */
    _Atomic uint32_t bare;  /* threads inside bare kernel calls */
    struct lock rx, tx, stage;
    struct handover h;
    struct link *link;
    struct stream_bytes *bytes;
    const struct tcp_calls *tcp;
    const struct stream_calls *calls;
    int fd;

    _Atomic uint32_t told;    /* wake-ups so far; changes with each */
    _Atomic bool wake_due;    /* told, and not woken: who unlocks does it */
    _Atomic uint32_t refused; /* writes so far that wanted more room */
    _Atomic uint32_t again;   /* how often old bytes were told as news */
    _Atomic bool up_wanted;   /* the last bare call to leave kicks the helper */
    _Atomic bool shut_wr, shut_rd;
    _Atomic unsigned shut_due; /* 1 << how: asked for by a signal handler */
    _Atomic bool peeks;  /* the application looks at bytes before it takes */
    _Atomic bool quiet;  /* who moves a byte on the link kicks the helper */
    bool managed;        /* the owner was told so */
    bool fin_due;        /* shutdown(SHUT_WR) when TCP is free for it */
    bool willing_due;    /* BUSY was said because of a bare call */
    bool propose_again;  /* the peer said WILLING */
    bool linger_changed; /* the socket has {1,0}, the application's is kept */
    bool reset_seen;     /* TCP is gone, the verdict is due */
    /* Epochs, 0 none: */
    uint32_t suspect;  /* other bytes were seen where SWITCH is due */
    uint32_t asked;    /* the peer was asked about them */
    uint32_t answered; /* and has answered */
    bool leave_said;   /* END + LEAVING, and then nothing but FIN */
    bool raw_left;     /* DEAD, and TCP may hold bytes up to raw_until */
    bool swallow;      /* one more write succeeds, as after a FIN */
    /* It ended in a reset that no application asked for (over a device that
     * is not known: each reset). Who counts it clears it. */
    _Atomic bool broken;
    bool link_broken; /* it carries nothing more; no way up with it */
    struct linger linger;
    uint64_t reset_until_ns;
    uint64_t fin_until_ns; /* not 0: back on TCP but for the peer's FIN */
    uint64_t raw_until;
    int error; /* for the next read or write, once */
    enum stream_wish wish;
    enum reason wish_why;
    enum reason why; /* where it is, and why */
    uint64_t since_ns;

    uint64_t seen_wrote, seen_took;         /* at the last stream_rest() */
    uint64_t link_bytes_out, link_bytes_in; /* not on TCP */
    uint64_t extra_out, extra_in;           /* on TCP besides the raw ones */
    /* `took` at the last write on the link. The peer looks at the line of
     * commit() all the time: only the first answer to a read asks for it. */
    uint64_t replied;
    uint8_t record_in[RECORD_SIZE];
    /* Of the application, up to `have`; a ring, at their offsets. */
    uint8_t kept[KEPT_SIZE];
    bool has_kept;
    uint8_t record_out[6 * RECORD_SIZE];
    unsigned in_have, out_have, out_done;
    uint64_t hold_ns;
    uint32_t ups, returns;
};

/* tcp: &tcp_calls_kernel, or a stand-in. */
void stream_init(struct stream *s, int fd, bool initiator,
                 const struct tcp_calls *tcp, const struct stream_calls *calls,
                 struct stream_bytes *bytes);

/* ---- bare ---- */

void stream_bare_left_last(struct stream *s);

/* False: the stream is managed now. True: leave again after the count. */
static inline bool stream_bare_enter(struct stream *s)
{
    if (__builtin_expect(
            atomic_load_explicit(&s->guard, memory_order_acquire) != 0, 0))
        return false;
    atomic_fetch_add(&s->bare, 1); /* and a full fence before the look */
    if (__builtin_expect(atomic_load(&s->guard) == 0, 1))
        return true;
    if (atomic_fetch_sub(&s->bare, 1) == 1 && atomic_load(&s->up_wanted))
        stream_bare_left_last(s);
    return false;
}

static inline void stream_bare_leave(struct stream *s)
{
    uint32_t inside = atomic_fetch_sub(&s->bare, 1);

    if (inside == 1 && __builtin_expect(atomic_load(&s->up_wanted), 0))
        stream_bare_left_last(s);
    else if (__builtin_expect(inside == 0, 0))
        atomic_store(&s->bare, 0); /* forked in a handler, we are the child */
}

/* Both return how many it has been in all. */
static inline uint64_t stream_count_in(struct stream *s, size_t n)
{
    uint64_t took = __atomic_add_fetch(&s->h.took, n, __ATOMIC_RELAXED);

    atomic_store_explicit(&s->bytes->in, took, memory_order_relaxed);
    return took;
}

static inline uint64_t stream_count_out(struct stream *s, size_t n)
{
    uint64_t wrote = __atomic_add_fetch(&s->h.wrote, n, __ATOMIC_RELAXED);

    atomic_store_explicit(&s->bytes->out, wrote, memory_order_relaxed);
    return wrote;
}

/* ---- managed ---- */

enum { STREAM_HELD = -EINPROGRESS }; /* a write: not now, but soon */

/*
 * flags: MSG_PEEK, MSG_TRUNC (drop the bytes). 0 is end of stream. -EDEADLK: a
 * signal handler in the midst of its own thread's call; waiting is no use.
 */
ssize_t stream_recv(struct stream *s, const struct iovec *iov, int n,
                    int flags);
/* The bytes after the first `skip`. */
ssize_t stream_send(struct stream *s, const struct iovec *iov, int n,
                    size_t skip, int flags);

/* Bytes are carried by the link right now (a hint, no lock). */
static inline bool stream_is_up(const struct stream *s)
{
    return atomic_load_explicit(&s->h.stage, memory_order_relaxed) == STAGE_UP;
}

/* POLLIN POLLOUT POLLRDHUP POLLHUP POLLERR, as poll(2) would say. */
short stream_ready(struct stream *s);
/*
 * The same, and a number that changes with all that is news to a reader,
 * without a lock: the caller holds something that `managed(s, false)` waits
 * for, so the link stays. POLLNVAL: the stream is changing; let go, ask again.
 */
short stream_ready_pinned(struct stream *s);
/*
 * It has left its link less than ns ago, and is on its way: what is not ready
 * as it moves may be when it has. To be asked before stream_ready(). No lock.
 */
bool stream_settles(const struct stream *s, uint64_t ns);
uint64_t stream_news_pinned(struct stream *s);

/* Some looks at others before those two: what they read comes meanwhile. */
static inline void stream_expect_look_pinned(const struct stream *s)
{
    const struct link *link = s->link;

    if (stream_is_up(s) && link != NULL && link->arrives != NULL)
        expect_read(link->arrives);
}

/* What is unread is news once more; nothing happens if all was read. */
void stream_tell_unread(struct stream *s);
/* Bytes that a read would give now; bytes not yet taken by the peer. */
int stream_unread(struct stream *s);
int stream_unsent(struct stream *s);

/*
 * What to sleep on, for `events`, besides the waiter's own bell: the events
 * to poll on the kernel socket (0: do not), and the peer at which it is armed
 * now, with a reference, or NULL. Asks the link for room where that is waited
 * for. Make a full fence and look once more before the sleep.
 */
short stream_wait_for(struct stream *s, short events, unsigned waiter,
                      struct peer **peer);

/*
 * A write took less than it was given, and nobody waits here: counts that in
 * `refused` and asks the link to say when there is room. Look once more
 * afterwards: it may be there by now.
 */
void stream_write_refused(struct stream *s);

/* A writer has been held long enough. */
void stream_hold_expired(struct stream *s);
int stream_shutdown(struct stream *s, int how);
/* What SO_ERROR says on TCP, or of a stream that is gone: once, then 0. */
int stream_take_error(struct stream *s);
/* A call that moved bytes before it was told: the next one is told. */
void stream_keep_error(struct stream *s, int error);

/* ---- up and down ---- */

/* Helper. Takes a link; from then on stream_try_up() may work. */
void stream_set_link(struct stream *s, struct link *link);
/*
 * Helper. Row 1 for the initiator; -EBUSY and the reason in `why`; -EAGAIN
 * when the channel has no room yet.
 */
int stream_try_up(struct stream *s);
/* Helper, accepting end: WILLING is due as soon as no call is in the kernel. */
void stream_be_willing(struct stream *s);
/* Helper. A message of the channel, or its end. */
void stream_message(struct stream *s, const struct control_message *m,
                    enum reason refuse);
/*
 * Helper, after a kick: a PROPOSE has waited until all before it was read, so
 * now it is to be answered; `refuse` as it would be for a new one.
 */
bool stream_owes_answer(struct stream *s);
void stream_answer(struct stream *s, enum reason refuse);
void stream_channel_dead(struct stream *s);
/* Helper. The link carries nothing more: back to TCP by its copy. */
void stream_link_broken(struct stream *s, enum reason why);
/* Ask for the way back to TCP; done when stream_on_tcp() says so. */
/* WISH_NONE takes it back. */
void stream_wish(struct stream *s, enum stream_wish wish, enum reason why);
bool stream_on_tcp(struct stream *s);
/* Nothing but the peer's FIN is waited for: it is to be looked at soon. */
bool stream_awaits_fin(const struct stream *s);
/*
 * Helper, after each progress: if at `arrive` lies something else, a CANCEL
 * explains it, or abort.
 */
void stream_check_foreign(struct stream *s);
/* Nothing can be saved: reset the connection. */
void stream_abort(struct stream *s, enum reason why);
/* Do all that can be done now. Returns true if anything changed. */
bool stream_progress(struct stream *s);
/* Helper: no other bytes on TCP than those we know of? */
bool stream_counts_match(struct stream *s);
/*
 * Helper, now and then while streams are up: one on whose link nothing has
 * moved since the last time gives memory back. True: something has moved, so
 * ask again; false: there is no need before the next kick.
 */
bool stream_rest(struct stream *s);
/* Helper, after a kick: the link is in use again. */
void stream_stir(struct stream *s);
/* Helper, in stage RAW or DEAD: give the link back. */
void stream_drop_link(struct stream *s);

/* ---- stream_state.c for stream_io.c, and back ---- */

bool stream_awaits_helper(struct stream *s);
void stream_lock_all(struct stream *s);
void stream_unlock_all(struct stream *s);

/*
 * Is the calling thread inside already? Then this is a signal handler, and who
 * holds another of the locks may wait for the one that its thread holds.
 */
static inline bool stream_is_mine(struct stream *s)
{
    return lock_is_mine(&s->stage) || lock_is_mine(&s->rx) ||
           lock_is_mine(&s->tx);
}

/*
 * A signal handler in the midst of a call of ours: it may not wait, nor do what
 * needs more than one lock. To be asked before the first lock of a call.
 */
static inline bool stream_in_handler(struct stream *s)
{
    return lock_entered > 0 || stream_is_mine(s);
}

/* One of the three locks. -EDEADLK: not in such a handler, unless it is free.
 */
static inline int stream_take(struct stream *s, struct lock *lock)
{
    if (__builtin_expect(lock_try(lock), 1))
        return 0;
    return stream_in_handler(s) ? -EDEADLK : lock_take(lock);
}

#endif
