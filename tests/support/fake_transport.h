/*
 * A wire: two links of one process over plain memory, with a channel between
 * them, all of whose timing and failures the test decides.
 *
 * The sender's ring and the receiver's are different memory, as between
 * hosts. A commit lands at once, or when the test calls fake_land(); after a
 * break nothing lands. Messages wait in a queue until fake_deliver().
 *
 * As memory between two hosts' processes a wire may be a device: what was
 * committed and had not landed is lost with the process that wrote it. Else
 * all of it has landed when fake_peer_gone() makes peer_alive() false.
 */
#ifndef TESTS_SUPPORT_FAKE_TRANSPORT_H
#define TESTS_SUPPORT_FAKE_TRANSPORT_H

#include "transport/control_message.h"
#include "transport/transport.h"

enum { FAKE_MESSAGES = 64, FAKE_RING_MOST = 1 << 17 };

struct fake_wire;

struct fake_link {
    struct link link; /* first */
    struct peer peer;
    struct fake_wire *wire;
    int side;
    bool in_use;
    bool aborted; /* what this end has said */
    bool wants_room;
    uint64_t committed, released;                /* what this end has said */
    uint64_t visible_commit, visible_release;    /* what of it has landed */
    struct control_message queue[FAKE_MESSAGES]; /* said by this end */
    unsigned n_messages, at_message;
};

struct fake_wire {
    struct fake_link end[2];
    uint8_t *ring[2][2]; /* [sender][its copy, the receiver's memory] */
    bool by_hand;        /* commits and releases land by fake_land() */
    bool device;         /* not memory: see above */
    bool broken;         /* nothing lands any more */
    bool channel_dead;   /* nothing can be said any more */
    bool gone[2];        /* this end's process has died */
    unsigned operations; /* start, commit and release so far */
    unsigned break_at;   /* broken from this operation on; 0 never */
    unsigned starts;
    /* What a peer that breaks the rules would have us see: [side] */
    bool lie[2];
    uint64_t lie_commit[2], lie_release[2];
    void (*message)(void *owner, const struct control_message *m);
};

/* size: of each ring, a power of two. */
void fake_wire_start(struct fake_wire *w, uint32_t size, bool by_hand,
                     bool device);
/* Hands out end[side] to a stream. */
struct link *fake_link_take(struct fake_wire *w, int side, void *owner);

/* Up to n bytes of what `side` has committed, and its releases. */
void fake_land(struct fake_wire *w, int side, uint64_t n);
/* The next message that `side` has sent. False: there is none. */
bool fake_deliver(struct fake_wire *w, int side);
unsigned fake_messages(const struct fake_wire *w, int side);
/* The channel ends; lose: with what `side` has sent. */
void fake_channel_end(struct fake_wire *w, bool lose0, bool lose1);
/* The process of `side` died. */
void fake_peer_gone(struct fake_wire *w, int side);

extern const struct transport_ops fake_ops, fake_device_ops;

#endif
