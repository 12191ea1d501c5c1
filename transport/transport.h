/*
 * The contract of a transport: write into the peer's memory, then notify.
 *
 * A peer is another process that we have met. A link is what carries one
 * stream to it: two byte rings and the words that say how far they are
 * filled. The ring `tx` is where this end writes; it is also the copy out of
 * which bytes are repeated on TCP, so it stays readable until link_free().
 * The ring `rx` is where the peer's bytes appear.
 *
 *     stream:  ring_put(tx, wrote) ; commit(wrote')       -> peer's landed()
 *     stream:  ring_get(rx, took)  ; release(took')       -> peer's freed()
 *
 * Threads: commit, stretch, landed, release and freed of one link are each
 * called under the stream's lock of that direction; watch under either; send
 * and free under the stage lock; want_room by anybody. Everything that the peer
 * can write is checked by the backend; -EPROTO means it broke a bound.
 *
 * Waking. A waiter is a thread or an epoll set that may sleep; ids are the
 * process's own, from 1. A link knows up to LINK_WATCHERS of them. Before it
 * sleeps a waiter arms itself at every peer it watches (peer_arm), makes a
 * full fence and looks once more; commit() rings the doorbell of watchers
 * that are armed. A watcher with many links asks to be marked (set_marked):
 * then commit() also sets its link's bit, and peer_next_mark() finds it, so
 * that idle links cost nothing.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/byte_ring.h"
#include "transport/reason.h"

enum { LINK_WATCHERS = 4, WAITERS_MAX = 1024 };

struct link;
struct peer;
struct control_message;

struct transport_ops {
    const char *name;

    /* A new epoch: out at `leave`, in at `arrive`; before our SWITCH. */
    void (*start)(struct link *link, uint32_t epoch, uint64_t leave,
                  uint64_t arrive);
    /*
     * The peer has started that epoch: after its bytes that are seen on TCP
     * were written, or before. NULL: the link does not tell.
     */
    bool (*started)(struct link *link, uint32_t epoch);
    void (*commit)(struct link *link, uint64_t wrote);
    /*
     * So much is written as `stretch_at` says, which it moves on: `tx` may get
     * another span. A copy ends there before the next one. NULL: never.
     */
    void (*stretch)(struct link *link);
    int (*landed)(struct link *link, uint64_t took, uint64_t before,
                  uint64_t *landed);
    void (*release)(struct link *link, uint64_t took);
    int (*freed)(struct link *link, uint64_t before, uint64_t wrote,
                 uint64_t *freed);
    /* Ask for a ring of the doorbell when room appears; look again after. */
    void (*want_room)(struct link *link);
    /*
     * Who waits for room with so much written is rung once a third of the ring
     * is free. Else it cannot be sure of that, and takes the room that there
     * is: more than a third less a quarter. NULL: one is always rung.
     */
    bool (*rings)(struct link *link, uint64_t wrote);
    /* What the peer says it has committed, unchecked: a hint. */
    uint64_t (*arrived)(struct link *link);
    /* All watchers of our end, 16 bits each, 0 is none. */
    void (*watch)(struct link *link, uint64_t watchers);
    void (*set_marked)(struct link *link, unsigned waiter, bool on);
    /* The peer's thread last ran on this CPU. */
    bool (*peer_is_here)(struct link *link, uint32_t cpu);
    /* Say on purpose that this end aborts; not said when killed. */
    void (*set_aborted)(struct link *link);
    bool (*aborted)(struct link *link);

    /*
     * A channel message about the stream of this link, behind all bytes that
     * were committed before; 0 or -errno.
     */
    int (*send)(struct link *link, struct control_message *message);
    /*
     * The peer is behind with reading what was sent: let nothing new begin.
     * NULL: it never is.
     */
    bool (*crowded)(struct link *link);
    /*
     * Read what the channel still holds, now. 0: that was all that the peer
     * said before it wrote what is seen on TCP. -EPIPE when it ended there.
     * -EAGAIN when this takes a question to the peer: a message PONG comes
     * then, behind all that was said before the last such call. The link may
     * be freed by what is read. Helper thread only.
     */
    int (*drain)(struct link *link);
    /*
     * False once the peer's process is known to be gone and all of it that
     * can still land has landed.
     */
    bool (*peer_alive)(struct link *link);
    /*
     * All bytes up to `wrote` are in the peer's memory. NULL: they always are,
     * and stay there when this process is killed. With a device a commit may
     * die with its writer, so the end of a killed peer is never an orderly one.
     */
    bool (*delivered)(struct link *link, uint64_t wrote);
    /*
     * Nothing is in `tx` and nothing was written for a while: its memory is
     * given back, the next bytes get new pages. Off: it is in use again.
     * Helper thread, the stream's lock of that way held; NULL: it stays.
     */
    void (*rest)(struct link *link, bool on);
    /* Done with it; says BYE. Helper thread only. */
    void (*free)(struct link *link);

    /* Peers, from any thread that holds a reference. */
    void (*peer_get)(struct peer *peer);
    void (*peer_put)(struct peer *peer);
    void (*peer_arm)(struct peer *peer, unsigned waiter, bool on);
    bool (*peer_has_mark)(struct peer *peer, unsigned waiter);
    /* Takes one mark and returns its link's owner, or NULL. */
    void *(*peer_next_mark)(struct peer *peer, unsigned waiter);
    /*
     * A descriptor that a sleeping waiter has to watch, level-triggered,
     * beside its bell: readable when something came that nobody has looked
     * at. The same for all peers of a backend. peer_arm(on) looks at what is
     * there and has the device tell of what comes later; peer_arm(off) takes
     * what the device told and passes it on to the waiters that it concerns.
     * NULL: the bell is enough.
     */
    int (*peer_wake_fd)(struct peer *peer);
};

/* What every backend's link begins with. */
struct link {
    const struct transport_ops *ops;
    struct peer *peer;
    struct byte_ring tx, rx;
    uint64_t stretch_at; /* ask stretch() there; behind `wrote`: never */
    /* Lines to have in the cache by then; NULL: none. */
    const void *arrives; /* read by arrived() */
    void *commits;       /* written by commit() */
    void *owner;         /* the stream's owner; set by who asked for the link */
    uint32_t peer_pid;   /* for people: as the kernel told it */
};

/* What every backend's peer begins with. */
struct peer {
    const struct transport_ops *ops;
};

static inline const struct transport_ops *peer_ops(const struct peer *peer)
{
    return peer->ops;
}

/* -1: the bell is enough. */
static inline int peer_wake_fd(struct peer *peer)
{
    const struct transport_ops *ops = peer_ops(peer);

    return ops->peer_wake_fd != NULL ? ops->peer_wake_fd(peer) : -1;
}

/*
 * What a backend calls. All from the helper thread.
 *   message: for the stream of link->owner.
 *   channel_dead: no message will come for this link any more.
 *   broken: the link carries nothing more; what was committed may or may not
 *     have landed. Once; before channel_dead where both have happened.
 */
struct link_events {
    void (*message)(void *owner, const struct control_message *message);
    void (*channel_dead)(void *owner);
    void (*broken)(void *owner, enum reason why);
};

#endif
