/*
 * What shm.c (links), shm_arena.c (their memory), shm_channel.c (messages),
 * shm_meet.c (rendezvous) and shm_backend.c (the instance) share.
 */
#ifndef TRANSPORT_BACKEND_SHM_PRIVATE_H
#define TRANSPORT_BACKEND_SHM_PRIVATE_H

#include <sys/queue.h>

#include "transport/backend/shm.h"
#include "transport/backend/shm_layout.h"
#include "transport/control_message.h"
#include "transport/lock.h"

enum { SHM_BUCKETS = 1024, SHM_EARLY = 4096 };

/* Addresses for arenas, a quarter of what a process has: 4,000 arenas or so. */
#define SHM_MAPPED_MOST (UINT64_C(32) << 40)

struct channel;

/* Memory shared with one peer, or a part of it. */
struct arena {
    struct peer peer; /* first: what transport.h calls it */
    _Atomic int refs;
    struct shm *shm;
    struct shm_header *base;
    uint64_t size;
    int side; /* 0: we are its host */
    uint32_t id, ring_size;
    struct channel *_Atomic channel; /* NULL once it is gone */
    _Atomic bool alive;              /* the peer's process, as far as known */
    bool lost; /* host: the guest has said that it could not take it */
    uint64_t bell_token; /* the peer's */
    int ringer;
    struct arena *next;
    struct shm_link *link[SHM_LINKS]; /* helper only */
    uint8_t busy[SHM_LINKS];          /* host: who still uses the slot */
    bool stretched[SHM_LINKS];        /* host: a ring of that use was */
    uint64_t counted[SHM_LINKS];      /* bytes, of one that we have left */
    _Atomic(void *) owner[SHM_LINKS]; /* for marks */
};

enum { SLOT_MINE = 1, SLOT_PEER = 2 };

struct shm_link {
    struct link link;
    struct shm *shm;
    struct shm_link_words *words;
    unsigned idx;
    int side;
    uint32_t ring_size;
    unsigned stretched, laps; /* of its ring; and as fast as for the next */
    uint64_t lap_ns;          /* when `wrote` was last at `stretch_at` */
    uint64_t released;        /* `release` at the last fence after it */
    bool rests;               /* its rings do not count as memory */
    unsigned asked;           /* PINGs without an answer yet; helper only */
    _Atomic uint32_t cpu;
};

struct served_address {
    uint8_t family, addr[16];
    uint16_t port;
};

/* A process that we have met: a SOCK_SEQPACKET connection. */
struct channel {
    struct watch watch;
    struct shm *shm;
    struct channel *next;
    uint64_t serial;       /* no other one of this process has or had it */
    struct lock lock;      /* of what is unsent, and so of the order */
    struct unsent *unsent; /* a ring: what found no room in the socket */
    unsigned unsent_size, first_unsent, n_unsent;
    _Atomic bool dead;
    bool greeted;       /* a HELLO or WELCOME has named its bell */
    bool calls;         /* it has said HELLO: it connects to us */
    bool drains;        /* inside channel_drain() */
    bool met;           /* a link was made over it */
    struct timer timer; /* until then: it is closed */
    uint32_t pid;
    uint64_t bell_token;
    int room; /* of the socket, bytes as SIOCOUTQ counts them */
    _Atomic int64_t under_way; /* of those, at most */
    unsigned unanswered;       /* HELLOs of ours */
    uint64_t answered_ns;
    uint32_t next_arena;
    struct arena *arenas;
    unsigned n_served, at_served;
    struct served_address served[8]; /* where it has accepted connections */
    struct served_address called;    /* where we found it */
    uint64_t called_ns;
};

/* A HELLO whose stream is not ready to meet yet. */
struct early_hello {
    struct channel *channel; /* NULL: free */
    uint32_t number;
    uint64_t until_ns;
    struct hello_body body;
};

/* An address that was asked about: is it one of this host's? */
struct known_address {
    uint8_t family, addr[16];
    bool local;
    uint64_t until_ns; /* addresses come and go; 0: an empty place */
};

struct shm {
    struct backend backend; /* first */
    _Atomic int refs;       /* its user's, and one of each arena */
    struct loop *loop;
    struct backend_config config;
    const struct link_events *events;
    uint32_t pid; /* ours */
    struct channel *channels;
    uint64_t last_serial;
    struct meeting *meetings[SHM_BUCKETS]; /* by key */
    struct early_hello early[SHM_EARLY];
    uint64_t early_key[SHM_EARLY];
    unsigned at_early, n_early;
    TAILQ_HEAD(, meeting) named;   /* by `bound_ns` */
    TAILQ_HEAD(, meeting) waiting; /* for a name, or for room in a channel */
    unsigned n_named;
    struct timer turn;       /* of who waits */
    _Atomic uint64_t mapped; /* bytes of addresses, of all arenas */
    _Atomic uint64_t links;  /* and places that a peer has not left */
    _Atomic uint64_t memory; /* of rings; any thread may stretch one */
    struct known_address known[16];
    unsigned at_known;
};

extern const struct transport_ops shm_ops;

static inline struct shm *shm_of(const struct meeting *m)
{
    return (struct shm *)m->backend;
}

/* shm_backend.c */
void shm_put(struct shm *shm); /* any thread */

/* shm_arena.c */
int arena_host(struct channel *channel, uint32_t ring_size, struct arena **out,
               int *fd);
int arena_guest(struct channel *channel, int fd, uint32_t id,
                struct arena **out);
struct shm_link *link_take(struct arena *peer, unsigned idx);
int arena_free_slot(struct arena *peer);
void arena_leave_slot(struct arena *peer, unsigned idx, uint8_t who);
void arena_put(struct arena *peer); /* any thread */

/* shm_channel.c */
/* Closed when no link has been made over it in the time of a rendezvous. */
struct channel *channel_open(struct shm *shm, int fd, uint32_t pid);
void channel_met(struct channel *channel);
void channel_close(struct channel *channel);
/*
 * -EPIPE: the channel is dead. -EMFILE: it has to wait, and no descriptor was
 * left to keep `fd` meanwhile; the channel goes on without the message.
 */
int channel_send(struct channel *channel, const struct control_message *m,
                 const struct hello_body *body, int fd);
void channel_drain(struct channel *channel);
/*
 * More than half of what may be under way is, or the peer has many of our
 * HELLOs to answer: do not begin anything.
 */
bool channel_is_crowded(struct channel *channel);

/* shm_user.c: by what the kernel says of who connected fd, or listened. */
bool channel_user_allowed(struct shm *shm, int fd, uint32_t *pid);

/* shm_meet.c */
void meeting_start(struct backend *backend, struct meeting *meeting);
void meeting_cancel(struct meeting *meeting);
/* What a channel hands over to the rendezvous */
void meet_hello(struct channel *channel, const struct control_message *m,
                const struct hello_body *body);
void meet_welcome(struct channel *channel, const struct control_message *m,
                  const struct hello_body *body);
void meet_refused(struct channel *channel, const struct control_message *m);
void meet_channel_gone(struct channel *channel);
/* What the names ask the rendezvous for */
bool meet_say_hello(struct meeting *m, struct channel *channel);
/* The channel was opened to ask who accepted this connection. */
void meet_called(struct meeting *m, struct channel *channel);
void meet_fail(struct meeting *m, enum reason why);
enum asked { ASKED_NOBODY, ASKED_LATER, ASKED_SOMEBODY };
/* Somebody known who serves that address; LATER: their channels are full. */
enum asked meet_ask_known(struct meeting *m);

/* shm_names.c. Those with a meeting may finish it, but not names_leave(). */
void names_seek(struct meeting *m);  /* the connecting end */
void names_offer(struct meeting *m); /* the accepting end */
void names_leave(struct meeting *m);
void names_wait_to_ask(struct meeting *m);
/* Somebody who serves the address has become known. */
void names_ask_instead(struct shm *shm, const struct connection_name *name);
void names_on_turn(struct timer *timer);

#endif
