/*
 * A transport as its user sees it: how two ends meet and get a link.
 *
 * Everything here is called by the helper thread alone, and every call back
 * comes from it; none of it waits. What it opens it moves out of the
 * application's way (loop_calls of its loop). The operations of a link are
 * those of transport.h.
 *
 * A backend that needs a library of its own is a module: an object opened at
 * run time that exports one `const struct backend_ops`, named
 * fastsock_backend_<name>. It is refused when its `version` is not ours.
 */
#ifndef TRANSPORT_BACKEND_H
#define TRANSPORT_BACKEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "transport/loop.h"
#include "transport/proof.h"
#include "transport/transport.h"

enum { BACKEND_VERSION = 2 };

struct backend_config {
    uint64_t bell_token; /* of this process's doorbells */
    int ringer;          /* borrowed: the socket that rings */
    uint64_t max_memory; /* bytes of rings */
    uint64_t max_links;
    uint64_t meet_ns;      /* how long one rendezvous may take */
    const uint32_t *users; /* uids that may be a peer besides our own */
    unsigned n_users;
};

/* The address pair of a connection, the same seen from both ends. */
struct connection_name {
    uint8_t family; /* 4 or 6; IPv4-mapped counts as 4 */
    uint8_t server[16], client[16];
    uint16_t server_port, client_port;
};

/* What every backend's instance begins with. */
struct backend {
    const struct backend_ops *ops;
};

/*
 * One attempt to meet the other end; embedded in its owner. `done` is called
 * once unless meeting_cancel() comes first: with a link (then `why` is
 * REASON_NONE, or REASON_BARE_READ: the accepting end is not to be asked before
 * it says WILLING), or with NULL and the reason.
 */
struct meeting {
    struct connection_name name;
    bool initiator;     /* this end called connect */
    uint32_t ring_size; /* wanted by the accepting end */
    void *owner;
    /* False: a call is under way and not counted yet. */
    bool (*counts)(void *owner, uint64_t *wrote, uint64_t *took);
    /* The first bytes of the connection; NULL: they were not kept. */
    const struct proof_log *proof;
    void (*done)(struct meeting *meeting, struct link *link, enum reason why);
    /* the backend's own from here on */
    struct backend *backend; /* NULL: none is under way */
    struct meeting *next;
    uint64_t key; /* of its name */
    TAILQ_ENTRY(meeting) line;
    struct watch listener;
    struct timer timer;
    void *with; /* whom it is being negotiated with, or who was asked */
    uint32_t number;
    uint64_t until_ns, bound_ns;
    bool active, named, waits, asks;
    uint64_t nonce[2];
    enum reason why;
};

struct backend_ops {
    const char *name; /* as in the setting `transports` */
    uint32_t version; /* BACKEND_VERSION */

    /* 0 or -errno. The config is copied, `users` borrowed. */
    int (*create)(struct loop *loop, const struct backend_config *config,
                  const struct link_events *events, struct backend **out);
    /* Ends all channels; links must have been freed. */
    void (*destroy)(struct backend *backend);

    /* REASON_NONE, or why no connection of that name can be carried here. */
    enum reason (*suits)(struct backend *backend,
                         const struct connection_name *name);
    /*
     * The application accepts connections at this address, or no longer (then
     * nobody new is met there). NULL: not needed. 0 or -errno.
     */
    int (*listen)(struct backend *backend, const struct sockaddr *address,
                  socklen_t len, bool on);

    void (*meeting_start)(struct backend *backend, struct meeting *meeting);
    void (*meeting_cancel)(struct meeting *meeting);
};

#endif
