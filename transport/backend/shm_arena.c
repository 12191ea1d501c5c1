/*
 * Arenas: made by the host, checked by the guest, and the places for links in
 * them. See shm_layout.h. Helper thread only, but for arena_put().
 */
#include "transport/backend/shm_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "transport/kernel_calls.h"
#include "transport/shared_memory.h"

static struct shm_link_words *words_of(struct arena *p, unsigned idx)
{
    return (struct shm_link_words *)((char *)p->base + shm_words_at(idx));
}

static uint8_t *ring_of(struct arena *p, unsigned idx, int from)
{
    return (uint8_t *)p->base + shm_ring_at(idx, from, p->ring_size);
}

/* A place counts as long as either end uses it, and keeps pages there. */
static void uncount(struct arena *p, unsigned idx)
{
    atomic_fetch_sub(&p->shm->links, 1);
    atomic_fetch_sub(&p->shm->memory, p->counted[idx]);
}

void arena_put(struct arena *peer)
{
    if (atomic_fetch_sub(&peer->refs, 1) != 1)
        return;
    for (unsigned i = 0; i < SHM_LINKS; i++)
        if (peer->busy[i] != 0)
            uncount(peer, i); /* the guest never said BYE */
    memory_unmap(peer->base, peer->size);
    atomic_fetch_sub(&peer->shm->mapped, peer->size);
    shm_put(peer->shm);
    free(peer);
}

/*
 * Whoever comes next there knows nothing of more than `ring_size`. At the end
 * of the first of both the other one may still read.
 */
void arena_leave_slot(struct arena *p, unsigned idx, uint8_t who)
{
    if (!(p->busy[idx] & who))
        return;
    p->busy[idx] &= (uint8_t)~who;
    if (p->busy[idx] != 0)
        return;
    uncount(p, idx);
    if (p->side != 0 || !p->stretched[idx])
        return;
    memory_give_back(ring_of(p, idx, 0),
                     2 * (size_t)shm_span(p->ring_size, SHM_STRETCHES));
    p->stretched[idx] = false;
}

static int arena_map(struct channel *channel, int fd, uint64_t size, int side,
                     uint32_t id, uint32_t ring_size, struct arena **out)
{
    struct arena *p = calloc(1, sizeof(*p));
    struct shm *shm = channel->shm;
    void *base;
    int rc = -ENOMEM;

    if (p == NULL)
        return rc;
    if (atomic_fetch_add(&shm->mapped, size) + size <= SHM_MAPPED_MOST)
        rc = memory_map(fd, size, true, &base);
    if (rc < 0) {
        atomic_fetch_sub(&shm->mapped, size);
        free(p);
        return rc;
    }
    atomic_fetch_add(&shm->refs, 1);
    p->peer.ops = &shm_ops;
    p->refs = 1;
    p->shm = shm;
    p->base = base;
    p->size = size;
    p->side = side;
    p->id = id;
    p->ring_size = ring_size;
    p->channel = channel;
    p->alive = true;
    p->bell_token = channel->bell_token;
    p->ringer = shm->config.ringer;
    p->next = channel->arenas;
    channel->arenas = p;
    *out = p;
    return 0;
}

/* A new arena of ours. *fd goes to the guest and is then closed. */
int arena_host(struct channel *channel, uint32_t ring_size, struct arena **out,
               int *fd)
{
    uint64_t size = shm_arena_size(ring_size);
    struct shm_header *h;
    int rc = memory_create("fastsock.arena", size, fd);

    if (rc < 0)
        return rc;
    rc = arena_map(channel, *fd, size, 0, channel->next_arena, ring_size, out);
    if (rc < 0) {
        kernel_close(*fd);
        return rc;
    }
    channel->next_arena++;
    h = (*out)->base;
    h->magic = SHM_MAGIC;
    h->version = SHM_VERSION;
    h->ring_size = ring_size;
    h->links = SHM_LINKS;
    h->waiters = WAITERS_MAX;
    return 0;
}

/*
 * An arena that a peer hosts: every number is checked before it is used. The
 * file is as large as the peer likes, so one that is of no use is not kept.
 */
int arena_guest(struct channel *channel, int fd, uint32_t id,
                struct arena **out)
{
    struct shm_header seen;
    uint64_t n = 0; /* no rightful host needs that many */
    size_t size;
    int rc = memory_check(fd, shm_arena_size(RING_SIZE_LEAST),
                          shm_arena_size(RING_SIZE_MOST), &size);

    if (rc < 0)
        return rc;
    for (struct arena *p = channel->arenas; p != NULL; p = p->next) {
        if (p->side == 1 && p->id == id)
            return -EEXIST;
        n += p->side == 1;
    }
    if (n >= 2 * (channel->shm->config.max_links / SHM_LINKS) + 32)
        return -EDQUOT;
    rc = arena_map(channel, fd, size, 1, id, RING_SIZE_LEAST, out);
    if (rc < 0)
        return rc;
    memcpy(&seen, (*out)->base, 64);
    rc = -EPROTO;
    if (seen.magic == SHM_MAGIC && seen.version == SHM_VERSION &&
        seen.links == SHM_LINKS && seen.waiters == WAITERS_MAX &&
        seen.ring_size >= RING_SIZE_LEAST && seen.ring_size <= RING_SIZE_MOST &&
        (seen.ring_size & (seen.ring_size - 1)) == 0 &&
        size == shm_arena_size(seen.ring_size)) {
        (*out)->ring_size = seen.ring_size;
        if (shm_link_size(seen.ring_size) <= channel->shm->config.max_memory)
            return 0;
        rc = -ENOMEM;
    }
    channel->arenas = (*out)->next;
    arena_put(*out);
    return rc;
}

int arena_free_slot(struct arena *peer)
{
    for (int i = 0; i < SHM_LINKS; i++)
        if (peer->busy[i] == 0)
            return i;
    return -1;
}

struct shm_link *link_take(struct arena *peer, unsigned idx)
{
    struct shm *shm = peer->channel->shm;
    struct shm_link *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return NULL;
    l->shm = shm;
    l->idx = idx;
    l->side = peer->side;
    l->ring_size = peer->ring_size;
    l->words = words_of(peer, idx);
    l->link.ops = &shm_ops;
    l->link.peer = &peer->peer;
    l->link.peer_pid = peer->channel->pid;
    l->link.tx.size = l->link.rx.size = peer->ring_size;
    l->link.tx.span = l->link.rx.span = peer->ring_size;
    l->link.tx.bytes = ring_of(peer, idx, l->side);
    l->link.rx.bytes = ring_of(peer, idx, !l->side);
    l->link.arrives = &l->words->direction[!l->side].commit;
    l->link.commits = &l->words->direction[l->side].commit;
    atomic_store(&l->words->direction[l->side].stretched, 0);
    atomic_store(&l->words->side[l->side].aborted, 0);
    atomic_store(&l->words->side[l->side].started, 0);
    atomic_store(&l->words->side[l->side].watchers, 0);
    atomic_store(&l->words->side[l->side].markers, 0);
    peer->link[idx] = l;
    peer->busy[idx] = SLOT_MINE | (peer->side == 0 ? SLOT_PEER : 0);
    shm->links++;
    shm->memory += shm_link_size(peer->ring_size);
    atomic_fetch_add(&peer->refs, 1);
    return l;
}
