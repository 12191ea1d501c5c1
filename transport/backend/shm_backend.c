/*
 * The shared-memory transport as its user sees it: made, ended, and asked
 * whether a connection stays on this host.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transport/backend/shm_private.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { KNOWN_NS = 1000000000 };

/* Only an address of this host can be bound. */
static bool can_bind(uint8_t family, const uint8_t addr[16])
{
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    bool v4 = family == 4;
    int fd =
        kernel_socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    if (fd < 0)
        return false;
    memcpy(&in4.sin_addr, addr, 4);
    memcpy(&in6.sin6_addr, addr, 16);
    if (v4)
        rc = kernel_bind(fd, &in4, sizeof(in4));
    else
        rc = kernel_bind(fd, &in6, sizeof(in6));
    kernel_close(fd);
    return rc == 0;
}

static bool is_local(struct shm *shm, uint8_t family, const uint8_t addr[16])
{
    uint64_t now = clock_ns();
    struct known_address *k;

    for (int i = 0; i < 16; i++) {
        k = &shm->known[i];
        if (k->until_ns > now && k->family == family &&
            memcmp(k->addr, addr, 16) == 0)
            return k->local;
    }
    k = &shm->known[shm->at_known++ % 16];
    k->family = family;
    memcpy(k->addr, addr, 16);
    k->local = can_bind(family, addr);
    k->until_ns = now + KNOWN_NS;
    return k->local;
}

static enum reason suits(struct backend *backend,
                         const struct connection_name *n)
{
    struct shm *shm = (struct shm *)backend;

    if (memcmp(n->server, n->client, 16) == 0)
        return REASON_NONE;
    if (n->family == 4 && n->server[0] == 127 && n->client[0] == 127)
        return REASON_NONE;
    return is_local(shm, n->family, n->server) &&
                   is_local(shm, n->family, n->client)
               ? REASON_NONE
               : REASON_OTHER_HOST;
}

static int create(struct loop *loop, const struct backend_config *config,
                  const struct link_events *events, struct backend **out)
{
    struct shm *shm = calloc(1, sizeof(*shm));

    if (shm == NULL)
        return -ENOMEM;
    shm->backend.ops = &fastsock_backend_shm;
    shm->refs = 1;
    shm->loop = loop;
    shm->config = *config;
    shm->events = events;
    shm->pid = (uint32_t)getpid();
    TAILQ_INIT(&shm->named);
    TAILQ_INIT(&shm->waiting);
    shm->turn.expired = names_on_turn;
    shm->turn.arg = shm;
    *out = &shm->backend;
    return 0;
}

void shm_put(struct shm *shm)
{
    if (atomic_fetch_sub(&shm->refs, 1) == 1)
        free(shm);
}

static void destroy(struct backend *backend)
{
    struct shm *shm = (struct shm *)backend;

    if (shm == NULL)
        return;
    for (int i = 0; i < SHM_BUCKETS; i++)
        while (shm->meetings[i] != NULL)
            meeting_cancel(shm->meetings[i]);
    while (shm->channels != NULL)
        channel_close(shm->channels);
    loop_timer_clear(shm->loop, &shm->turn);
    shm_put(shm);
}

const struct backend_ops fastsock_backend_shm = {
    .name = "shm",
    .version = BACKEND_VERSION,
    .create = create,
    .destroy = destroy,
    .suits = suits,
    .meeting_start = meeting_start,
    .meeting_cancel = meeting_cancel,
};
