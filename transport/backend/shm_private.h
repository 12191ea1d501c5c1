/*
 * What shm.c (links), shm_channel.c (messages), shm_meet.c (rendezvous) and
 * shm_backend.c (the instance) share.
 */
#ifndef TRANSPORT_BACKEND_SHM_PRIVATE_H
#define TRANSPORT_BACKEND_SHM_PRIVATE_H

#include "transport/backend/shm.h"
#include "transport/backend/shm_layout.h"
#include "transport/lock.h"
#include "transport/control_message.h"

struct channel;

/* Memory shared with one peer, or a part of it. */
struct arena {
    struct peer peer; /* first: what transport.h calls it */
    _Atomic int refs;
    struct shm_header *base;
    uint64_t size;
    int side; /* 0: we are its host */
    uint32_t id, ring_size;
    struct channel *_Atomic channel; /* NULL once it is gone */
    _Atomic bool alive;      /* the peer's process, as far as known */
    uint64_t bell_token;     /* the peer's */
    int ringer;
    struct arena *next;
    struct shm_link *link[SHM_LINKS];      /* helper only */
    uint8_t busy[SHM_LINKS];               /* host: who still uses the slot */
    _Atomic(void *) owner[SHM_LINKS];      /* for marks */
};

enum { SLOT_MINE = 1, SLOT_PEER = 2 };

struct shm_link {
    struct link link;
    struct shm *shm;
    struct shm_link_words *words;
    unsigned idx;
    int side;
    uint32_t ring_size;
    uint64_t released; /* `release` at the last fence after it */
    uint32_t cpu;
};

/* A process that we have met: a SOCK_SEQPACKET connection. */
struct channel {
    struct watch watch;
    struct shm *shm;
    struct channel *next;
    struct lock lock; /* of fd against its end, for senders */
    _Atomic bool dead;
    bool greeted; /* a HELLO or WELCOME has named its bell */
    uint32_t pid;
    uint64_t bell_token;
    uint32_t next_arena;
    struct arena *arenas;
    unsigned n_served, at_served;
    struct {
        uint8_t family, addr[16];
        uint16_t port;
    } served[8]; /* addresses it has accepted connections at */
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
    struct loop *loop;
    struct backend_config config;
    const struct link_events *events;
    struct channel *channels;
    struct meeting *meetings;
    struct early_hello early[128];
    unsigned at_early;
    uint32_t next_number;
    uint64_t links, memory;
    struct known_address known[16];
    unsigned at_known;
};

extern const struct transport_ops shm_ops;

/* shm.c */
int arena_host(struct channel *channel, uint32_t ring_size,
               struct arena **out, int *fd);
int arena_guest(struct channel *channel, int fd, uint32_t id,
                struct arena **out);
struct shm_link *link_take(struct arena *peer, unsigned idx);
int arena_free_slot(struct arena *peer);
void arena_put(struct arena *peer);

/* shm_channel.c */
struct channel *channel_open(struct shm *shm, int fd);
void channel_close(struct channel *channel);
int channel_send(struct channel *channel, const struct control_message *m,
                 const struct hello_body *body, int fd);
void channel_drain(struct channel *channel);
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

#endif
