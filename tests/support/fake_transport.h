/*
 * A wire: two links of one process over plain memory, with a channel between
 * them, all of whose timing and failures the test decides.
 *
 * The sender's ring and the receiver's are different memory, as between
 * hosts. A commit lands at once, or when the test calls fake_land(); after a
 * break nothing lands. Messages wait in a queue until fake_deliver(), and are
 * behind the bytes that were committed before them.
 *
 * As memory between two hosts' processes a wire may be a device: what was
 * committed and had not landed is lost with the process that wrote it, and
 * what the other end has said has to be asked for (drain). Else all of it has
 * landed when fake_peer_gone() makes peer_alive() false.
 *
 * It keeps the contract of transport.h, threads and sleepers included, and is
 * held to it by tests/contract/check_fake.c; two instances that meet and get
 * wires are in fake_backend.h.
 */
#ifndef TESTS_SUPPORT_FAKE_TRANSPORT_H
#define TESTS_SUPPORT_FAKE_TRANSPORT_H

#include "transport/control_message.h"
#include "transport/lock.h"
#include "transport/transport.h"

enum { FAKE_MESSAGES = 64, FAKE_RING_MOST = 1 << 17 };

struct fake_wire;
struct fake_peer;

/* What a wire asks of who made it; under the wire's lock, but for `freed`. */
struct fake_calls {
    /* A waiter of the process that this is a peer of. */
    void (*ring)(struct fake_peer *peer, unsigned waiter);
    /* Something is on its way to that process. */
    void (*under_way)(struct fake_peer *peer);
    void (*freed)(struct fake_wire *wire, int side);
};

/* What a process knows of another one: which of its own waiters are armed. */
struct fake_peer {
    struct peer peer;               /* first */
    const struct fake_calls *calls; /* NULL: nobody sleeps; else of malloc() */
    _Atomic int refs;
    _Atomic bool armed[WAITERS_MAX];
    struct lock lock;        /* of what is below, and of `news` */
    struct fake_link *links; /* to that process */
};

struct fake_link {
    struct link link; /* first */
    struct fake_wire *wire;
    struct fake_link *next; /* of the peer's */
    int side;
    bool in_use;
    bool ended;   /* the other end has said BYE */
    bool aborted; /* what this end has said */
    bool wants_room;
    uint32_t epoch;                     /* that was started last */
    bool pinged, ask_again;             /* drain() waits for PONG */
    _Atomic uint64_t watchers, markers; /* four ids of 16 bits each */
    uint64_t news;                      /* ids of which marks are set */
    uint64_t committed, released;       /* what this end has said */
    unsigned rests;                     /* times its memory was given back */
    _Atomic uint64_t visible_commit, visible_release; /* has landed of it */
    struct control_message queue[FAKE_MESSAGES];      /* said by this end */
    unsigned n_messages, at_message;
};

struct fake_wire {
    struct lock lock; /* of what both ends say */
    struct fake_link end[2];
    struct fake_peer own[2]; /* of a wire that nobody lent peers to */
    uint8_t *ring[2][2];     /* [sender][its copy, the receiver's memory] */
    bool by_hand;            /* commits and releases land by fake_land() */
    bool device;             /* not memory: see above */
    bool broken;             /* nothing lands any more */
    unsigned one_way;        /* but that of the other end; 1 << side */
    bool channel_dead;       /* nothing can be said any more */
    bool gone[2];            /* this end's process has died */
    unsigned operations;     /* start, commit and release so far */
    unsigned break_at;       /* broken from this operation on; 0 never */
    unsigned starts;
    /* What a peer that breaks the rules would have us see: [side] */
    bool lie[2];
    uint64_t lie_commit[2], lie_release[2];
    void (*message)(void *owner, const struct control_message *m);
};

/* size: of each ring, a power of two. One such wire at a time. */
void fake_wire_start(struct fake_wire *w, uint32_t size, bool by_hand,
                     bool device);
/* The same in 4 * size bytes of the caller's, between two peers of his. */
void fake_wire_start_at(struct fake_wire *w, uint32_t size, bool by_hand,
                        bool device, uint8_t *memory,
                        struct fake_peer *const peer[2]);
/* Hands out end[side] to a stream. */
struct link *fake_link_take(struct fake_wire *w, int side, void *owner);

/* Up to n bytes of what `side` has committed, and its releases. */
void fake_land(struct fake_wire *w, int side, uint64_t n);
/* The next message that `side` has sent. False: there is none. */
bool fake_deliver(struct fake_wire *w, int side);
unsigned fake_messages(const struct fake_wire *w, int side);
/* The channel ends; lose: with what `side` has sent. */
void fake_channel_end(struct fake_wire *w, bool lose0, bool lose1);
/* No message comes to `side` any more but those that are under way. */
bool fake_channel_ended(const struct fake_wire *w, int side);
/* The process of `side` died. */
void fake_peer_gone(struct fake_wire *w, int side);

extern const struct transport_ops fake_ops, fake_device_ops;

#endif
