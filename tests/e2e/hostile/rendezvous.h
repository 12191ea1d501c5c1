/*
 * The rendezvous as a program without the library may speak it, so that it can
 * break every rule. See transport/backend/shm_meet.c.
 */
#ifndef TESTS_E2E_HOSTILE_RENDEZVOUS_H
#define TESTS_E2E_HOSTILE_RENDEZVOUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/backend/shm.h"
#include "transport/backend/shm_layout.h"
#include "transport/control_message.h"

struct hostile_peer {
    int tcp, channel;
    struct connection_name name;
    uint8_t *arena;
    size_t size;
    struct shm_link_words *words;
    uint8_t *out_ring, *in_ring;
    uint32_t ring_size, link;
    uint64_t bell, tag_in, tag_out, chance;
};

extern struct hostile_peer p;

/* Of p.tcp, which is connected to that port. */
void set_name(uint16_t port);
/* The server binds the name when it likes: asks until then. */
void open_channel(void);
void say(struct control_message *m, const struct hello_body *body, int fd);
/* False: nothing within 2 s, or no message. *fd only if one came. */
bool hear(struct control_message *m, struct hello_body *body, int *fd);
void hello(void);
void map_arena(int fd);
/* Until the server has said WELCOME. */
void meet(void);

/* hoards.c: takes what there is, and holds it until it is killed. */
void callers(void);
void huge(void);
/* Closes its connections and never says BYE, until it is refused. */
void no_bye(void);

#endif
