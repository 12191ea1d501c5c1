/*
 * The same-host transport: rings in shared memory, doorbells, and the
 * rendezvous that finds out whether the other end of a TCP connection
 * carries the library too.
 *
 * One struct shm serves one process. All of this header is called by the
 * helper thread alone; the operations of a link are those of transport.h.
 */
#ifndef TRANSPORT_BACKEND_SHM_H
#define TRANSPORT_BACKEND_SHM_H

#include <stdint.h>
#include <sys/types.h>

#include "transport/loop.h"
#include "transport/transport.h"

struct shm;

struct shm_config {
    uint64_t bell_token; /* of this process's doorbells */
    int ringer;          /* borrowed: the socket that rings others */
    uint64_t max_memory; /* bytes of rings */
    uint64_t max_links;
    uint64_t meet_ns;    /* how long one rendezvous may take */
    const uint32_t *users; /* uids that may be a peer besides our own */
    unsigned n_users;
};

/* The address pair of a connection, the same seen from both ends. */
struct connection_name {
    uint8_t family; /* 4 or 6; IPv4-mapped counts as 4 */
    uint8_t server[16], client[16];
    uint16_t server_port, client_port;
};

/*
 * One attempt to meet the other end; embedded in its owner. `done` is called
 * once, from the helper, unless meeting_cancel() comes first: with a link
 * (then `why` is REASON_NONE), or with NULL and the reason.
 */
struct meeting {
    struct connection_name name;
    bool initiator;
    uint32_t ring_size; /* wanted by the accepting end */
    void *owner;
    /* False: a call is under way and not counted yet. */
    bool (*counts)(void *owner, uint64_t *wrote, uint64_t *took);
    void (*done)(struct meeting *meeting, struct link *link, enum reason why);
    /* shm's own from here on */
    struct shm *shm;
    struct meeting *next;
    struct watch listener;
    struct timer timer;
    uint32_t number;
    uint64_t until_ns;
    bool active, named;
    enum reason why;
};

int shm_create(struct loop *loop, const struct shm_config *config,
               const struct link_events *events, struct shm **out);
/* Ends all channels; links must have been freed. */
void shm_destroy(struct shm *shm);

void meeting_start(struct shm *shm, struct meeting *meeting);
void meeting_cancel(struct meeting *meeting);

/* For the tests: the abstract name of a meeting, its length returned. */
int meeting_address(const struct connection_name *name, char kind,
                    char out[108]);

#endif
