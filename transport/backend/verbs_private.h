/*
 * What the files of the RDMA transport share:
 *   verbs.c          the instance, what is told to the helper
 *   verbs_device.c   a device, its completion queue and who is woken by it
 *   verbs_queue.c    one connection's queues: what is posted, what completes
 *   verbs_link.c     the operations of transport.h
 *   verbs_memory.c   registered memory and the slots of links
 *   verbs_connect.c  connections, by rdma_cm
 *   verbs_meet.c     rendezvous and the messages of the helper
 *
 * Threads. Three locks, each held for moments only: poll_lock of a device for
 * reading its completion queue, queue_lock of a peer for posting, event_lock
 * of a device for its completion channel. An application thread only tries
 * them; who finds one taken leaves a note (`again`, `work`, `event_due`) that
 * its holder reads after it has given the lock back. The tables of links and
 * peers change under poll_lock and queue_lock. Everything else is the helper's.
 */
#ifndef TRANSPORT_BACKEND_VERBS_PRIVATE_H
#define TRANSPORT_BACKEND_VERBS_PRIVATE_H

#include <rdma/rdma_cma.h>

#include "transport/backend/verbs.h"
#include "transport/backend/window.h"
#include "transport/control_message.h"
#include "transport/lock.h"

enum {
    VERBS_LINKS = PIECE_LINKS, /* of one connection */
    VERBS_MARK_WORDS = VERBS_LINKS / 64,
    VERBS_DATA = 128,   /* pieces under way, each way */
    VERBS_CONTROL = 32, /* messages under way, each way */
    VERBS_CREDITS = 8,  /* CREDIT messages, which need no credit */
    VERBS_RECVS = VERBS_DATA + VERBS_CONTROL + VERBS_CREDITS,
    VERBS_SEND_BUFFERS = VERBS_CONTROL + VERBS_CREDITS,
    VERBS_SENDS = 192, /* slots of the send queue */
    VERBS_SENDS_DATA = VERBS_SENDS - VERBS_SEND_BUFFERS - 8,
    VERBS_SIGNAL_EVERY = VERBS_SENDS / 8,
    VERBS_MESSAGE = 256,    /* bytes of a message buffer */
    VERBS_PIECE = 1 << 18,  /* bytes of one write at most */
    VERBS_OUTBOX = 2048,    /* messages waiting to be sent */
    VERBS_PEERS = 256,      /* connections of one device */
    VERBS_CHUNK_LINKS = 16, /* links registered at once at most */
};

struct verbs;
struct verbs_peer;

/* A thread or epoll set that may sleep. */
struct verbs_waiter {
    _Atomic uint32_t armed;
    _Atomic uint32_t asleep; /* counted in device->sleepers */
    _Atomic uint64_t marked;
    _Atomic uint64_t mark[VERBS_MARK_WORDS];
};

struct verbs_device {
    _Atomic int refs; /* of this memory: the instance and each peer */
    struct verbs *verbs;
    struct verbs_device *next;
    struct ibv_context *context; /* librdmacm's */
    struct ibv_comp_channel *channel;
    struct ibv_cq *cq; /* NULL once it is closed; changes under all locks */
    int cq_used;       /* entries that its peers can fill */
    struct lock poll_lock, event_lock;
    _Atomic bool again, event_due;
    _Atomic uint32_t polls;    /* by application threads */
    _Atomic uint32_t sleepers; /* waiters that are armed */
    struct watch events, async;
    struct timer later;
    uint32_t seen_polls;
    uint16_t next_id;
    struct verbs_peer *peer[VERBS_PEERS]; /* by id % VERBS_PEERS */
};

/* Registered memory for some links of one ring size. */
struct verbs_chunk {
    struct verbs_chunk *next;
    uint8_t *base; /* words, then rx rings, then tx rings */
    size_t size;
    struct ibv_mr *remote; /* words and rx: the peer writes them */
    struct ibv_mr *local;  /* tx, and words that are written from */
    uint32_t ring_size;
    unsigned links;
    uint64_t used; /* bit per link */
    uint32_t last; /* send slots used when a link last left it */
};

/* One cache line each: [0] written by the peer, [64] written from. */
struct verbs_words {
    alignas(64) _Atomic uint64_t release_in;
    alignas(64) _Atomic uint64_t release_out;
};

struct verbs_link {
    struct link link;
    struct verbs_peer *peer;
    struct verbs_chunk *chunk;
    unsigned idx, place; /* of the connection; of the chunk */
    struct verbs_words *words;
    struct meeting *meeting; /* the accepting end's, until CONFIRM */
    bool ready;              /* keys are known, the owner has it */
    /* the peer's end */
    uint32_t peer_idx, key;
    uint64_t peer_ring, peer_word;
    /* sending: wrote by the stream, posted under queue_lock */
    _Atomic uint64_t wrote, start_at, posted;
    _Atomic uint32_t last; /* send slot of the last piece */
    /* receiving: landed under poll_lock, took by the stream */
    _Atomic uint64_t landed, took;
    uint64_t told; /* release: at the last word that was asked for */
    _Atomic bool fault;
    /* what the next flush says about this link */
    _Atomic bool word_due, want_due, room_due, sync_due;
    _Atomic bool asked;      /* WANT was said and not answered */
    _Atomic bool peer_wants; /* the peer's WANT is not answered */
    _Atomic uint64_t watchers, markers;
    bool pinged, ask_again; /* helper: drain() waits for PONG */
    /* rendezvous: what the proof is over */
    uint32_t kept[2];
    uint64_t nonce[2]; /* the client's */
};

struct verbs_out {
    _Atomic uint32_t turn; /* == position: free; == position + 1: filled */
    struct control_message message;
    uint8_t *body; /* owned; NULL: none */
    uint32_t body_size;
};

enum verbs_stage { VERBS_RESOLVING, VERBS_CONNECTING, VERBS_UP, VERBS_DEAD };

/* Another process: one reliable connection. */
struct verbs_peer {
    struct peer peer; /* first */
    _Atomic int refs;
    struct verbs *verbs;
    struct verbs_device *device;
    struct verbs_peer *next;
    struct rdma_cm_id *cm;
    uint16_t id; /* in wr_id of everything that we post */
    enum verbs_stage stage;
    enum reason why;     /* it failed */
    _Atomic bool up;     /* the queue pair takes requests */
    _Atomic bool failed; /* it takes none any more */
    _Atomic bool gone;   /* the other process hung up */
    bool established;
    bool served; /* `name` is an address that it accepts at */
    struct connection_name name;
    bool charged; /* its entries are counted in cq_used */
    /* posting; under queue_lock but for what is atomic */
    struct lock queue_lock;
    _Atomic bool work, starved;
    uint32_t posted, signalled; /* send slots used, the last signalled */
    _Atomic uint32_t done;      /* send slots given back */
    uint32_t buffers_posted;
    _Atomic uint32_t buffers_done;
    struct window data, control;
    _Atomic uint64_t pending[VERBS_MARK_WORDS]; /* links with something due */
    struct verbs_out *out;
    _Atomic uint32_t out_tail;
    uint32_t out_head;
    /* arriving; under poll_lock but for what is atomic */
    _Atomic uint32_t receives; /* posted and not completed */
    uint8_t (*inbox)[VERBS_MESSAGE];
    _Atomic uint32_t in_tail, in_head;
    bool touched;
    /* memory */
    struct ibv_pd *pd; /* its own: no other peer's key is good in it */
    uint8_t *buffers;  /* VERBS_RECVS, then VERBS_SEND_BUFFERS */
    size_t buffers_size;
    struct ibv_mr *buffers_mr;
    struct verbs_chunk *chunks;
    struct verbs_link *link[VERBS_LINKS];
    struct {
        uint8_t users, place;      /* who still uses it */
        struct verbs_chunk *chunk; /* and where it is */
    } slot[VERBS_LINKS];
    _Atomic(void *) owner[VERBS_LINKS]; /* for marks */
    struct verbs_waiter *waiter;        /* WAITERS_MAX */
    unsigned n_links;
};

enum { VERBS_SLOT_MINE = 1, VERBS_SLOT_PEER = 2 };

struct verbs_listener {
    struct verbs_listener *next;
    struct rdma_cm_id *cm;
    struct sockaddr_storage address;
    unsigned uses;
};

/* A HELLO whose stream is not ready to meet yet. */
struct verbs_early {
    struct verbs_peer *peer; /* NULL: free */
    uint64_t number, until_ns;
    struct hello_body hello;
    struct device_body device;
};

enum { VERBS_EARLY = 128 };

/* The last connection that was refused: its meetings here will learn why. */
struct verbs_refusal {
    struct sockaddr_storage here, there;
    enum reason why; /* NONE: there was none */
    uint64_t until_ns;
};

struct verbs {
    struct backend backend; /* first */
    struct loop *loop;
    struct backend_config config;
    const struct link_events *events;
    int wake_fd;       /* epoll of all completion channels */
    struct watch tell; /* an eventfd: look at all peers */
    _Atomic bool told;
    struct rdma_event_channel *cm;
    struct watch cm_watch;
    struct verbs_device *devices;
    struct verbs_peer *peers;
    struct verbs_listener *listeners;
    struct meeting *meetings;
    struct verbs_early early[VERBS_EARLY];
    unsigned at_early;
    struct verbs_refusal refusal;
    uint32_t next_number;
    uint64_t links, memory; /* memory: of all chunks, used or not */
};

extern const struct transport_ops verbs_ops;

/* verbs.c */
int verbs_keep(struct verbs *v, int *fd);
void verbs_tell(struct verbs *v);

/* verbs_device.c */
int verbs_device_for(struct verbs *v, struct ibv_context *context,
                     struct verbs_device **out);
void verbs_device_close(struct verbs_device *d);
void verbs_device_put(struct verbs_device *d);
int verbs_device_admit(struct verbs_peer *p);
void verbs_device_leave(struct verbs_peer *p);
/* Reads what completed; `must`: what is there now is read by somebody. */
void verbs_poll(struct verbs_device *d, bool must);
void verbs_take_event(struct verbs_device *d);
void verbs_lock_tables(struct verbs_peer *p);
void verbs_unlock_tables(struct verbs_peer *p);

/* verbs_queue.c */
int verbs_queue_init(struct verbs_peer *p);
void verbs_queue_fini(struct verbs_peer *p);
int verbs_queue_receive(struct verbs_peer *p);
void verbs_kick(struct verbs_peer *p);
void verbs_pend(struct verbs_link *l);
void verbs_fail(struct verbs_peer *p);
/* verbs_link.c: PING; what the link says to it is awaited. 0 or -errno */
int verbs_ask(struct verbs_link *l);
int verbs_say(struct verbs_peer *p, struct control_message *m,
              const uint8_t *body, uint32_t body_size);
void verbs_completed(struct verbs_device *d, const struct ibv_wc *wc);
void verbs_notify(struct verbs_link *l);

/* verbs_memory.c */
struct verbs_link *verbs_link_make(struct verbs_peer *p, uint32_t ring_size,
                                   enum reason *why);
/* Its slot is free once the peer has said BYE, too. */
void verbs_link_drop(struct verbs_link *l);
void verbs_slot_clear(struct verbs_peer *p, unsigned idx, uint8_t who);
void verbs_chunks_free(struct verbs_peer *p);
enum reason verbs_buffers_make(struct verbs_peer *p, size_t size);
void verbs_buffers_free(struct verbs_peer *p);
uint64_t verbs_link_size(uint32_t ring_size);

/* verbs_connect.c */
struct verbs_peer *verbs_connect(struct verbs *v,
                                 const struct connection_name *name,
                                 enum reason *why);
int verbs_listen(struct backend *backend, const struct sockaddr *address,
                 socklen_t len, bool on);
void verbs_listen_end(struct verbs *v);
/* Why the other end of that connection was refused lately, or NONE. */
enum reason verbs_refused(const struct verbs *v,
                          const struct connection_name *name);
void verbs_cm_ready(struct watch *watch, uint32_t events);
void verbs_bury(struct verbs_peer *p, enum reason why);
void verbs_release(struct verbs_peer *p);
void verbs_peer_put(struct verbs_peer *p);

/* verbs_meet.c */
void verbs_meeting_start(struct backend *backend, struct meeting *m);
void verbs_meeting_cancel(struct meeting *m);
void verbs_meet_up(struct verbs_peer *p);
void verbs_meet_gone(struct verbs_peer *p, enum reason why);
/* What it asked and nobody has answered. */
void verbs_meet_forget(struct verbs_peer *p);
/* Handles the messages that arrived; drops them once it is VERBS_DEAD. */
void verbs_inbox(struct verbs_peer *p);

#endif
