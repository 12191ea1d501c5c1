/*
 * Registered memory: chunks of links of one ring size, each registered at
 * once. The first chunk of a connection has room for one link, each further
 * one for twice as many, so that a single stream locks little and many
 * streams register seldom.
 *
 *     words of all links | rx of link 0, 1, ... | tx of link 0, 1, ...
 *     `---- the peer writes here: remote -----'   `- local: read only -'
 *
 * Words are in the local part as well, as the source of what we write. A
 * forked child has none of this memory.
 *
 * All of it belongs to one peer and is registered in that peer's protection
 * domain: a key leads nowhere on the queue pair of another.
 *
 * What is registered counts for `max_memory`, used or not. A place is free when
 * both ends have left it. Chunks that nobody uses stay for the peer's next
 * links until the memory is wanted, by that peer or another one.
 */
#include "transport/backend/verbs_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

uint64_t verbs_link_size(uint32_t ring_size)
{
    return 2 * (uint64_t)ring_size + sizeof(struct verbs_words);
}

static size_t words_size(unsigned links)
{
    return (links * sizeof(struct verbs_words) + 4095) & ~(size_t)4095;
}

static enum reason why_not(int error)
{
    struct rlimit limit;

    if (error != ENOMEM)
        return REASON_LIMIT;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
        limit.rlim_cur != RLIM_INFINITY)
        return REASON_MEMLOCK;
    return REASON_NO_MEMORY;
}

static uint64_t chunk_counts(const struct verbs_chunk *c)
{
    return c->links * verbs_link_size(c->ring_size);
}

static void chunk_free(struct verbs_chunk *c)
{
    if (c->local != NULL)
        ibv_dereg_mr(c->local);
    if (c->remote != NULL)
        ibv_dereg_mr(c->remote);
    if (c->base != NULL)
        munmap(c->base, c->size);
    free(c);
}

static struct verbs_chunk *chunk_make(struct ibv_pd *pd, uint32_t ring_size,
                                      unsigned links, enum reason *why)
{
    size_t words = words_size(links), rings = (size_t)links * ring_size;
    struct verbs_chunk *c = calloc(1, sizeof(*c));

    *why = REASON_NO_MEMORY;
    if (c == NULL)
        return NULL;
    c->ring_size = ring_size;
    c->links = links;
    c->size = words + 2 * rings;
    c->base = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->base == MAP_FAILED) {
        c->base = NULL;
        goto free_chunk;
    }
    madvise(c->base, c->size, MADV_DONTFORK);
    c->remote = ibv_reg_mr(pd, c->base, words + rings,
                           IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    if (c->remote != NULL)
        c->local = ibv_reg_mr(pd, c->base, c->size, IBV_ACCESS_LOCAL_WRITE);
    if (c->local != NULL)
        return c;
    *why = why_not(errno);
free_chunk:
    chunk_free(c);
    return NULL;
}

/* Messages of the connection, before any link. */
enum reason verbs_buffers_make(struct verbs_peer *p, size_t size)
{
    p->buffers = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->buffers == MAP_FAILED) {
        p->buffers = NULL;
        return REASON_NO_MEMORY;
    }
    p->buffers_size = size;
    madvise(p->buffers, size, MADV_DONTFORK);
    p->buffers_mr = ibv_reg_mr(p->pd, p->buffers, size, IBV_ACCESS_LOCAL_WRITE);
    return p->buffers_mr != NULL ? REASON_NONE : why_not(errno);
}

void verbs_buffers_free(struct verbs_peer *p)
{
    if (p->buffers_mr != NULL)
        ibv_dereg_mr(p->buffers_mr);
    if (p->buffers != NULL)
        munmap(p->buffers, p->buffers_size);
    p->buffers_mr = NULL;
    p->buffers = NULL;
}

static void chunk_remove(struct verbs_peer *p, struct verbs_chunk **at)
{
    struct verbs_chunk *c = *at;

    *at = c->next;
    p->verbs->memory -= chunk_counts(c);
    chunk_free(c);
}

void verbs_chunks_free(struct verbs_peer *p)
{
    while (p->chunks != NULL)
        chunk_remove(p, &p->chunks);
}

/* Nor does the device read from it any more. */
static bool is_idle(const struct verbs_peer *p, const struct verbs_chunk *c)
{
    return c->used == 0 && (int32_t)(atomic_load(&p->done) - c->last) >= 0;
}

static bool fits(const struct verbs *v, uint64_t size)
{
    return v->memory + size <= v->config.max_memory;
}

/* What is idle gives way. */
static bool make_fit(struct verbs *v, uint64_t size)
{
    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next) {
        struct verbs_chunk **at = &p->chunks;

        while (*at != NULL && !fits(v, size))
            if (is_idle(p, *at))
                chunk_remove(p, at);
            else
                at = &(*at)->next;
    }
    return fits(v, size);
}

/* A chunk with a free place. */
static struct verbs_chunk *chunk_find(struct verbs_peer *p, uint32_t ring_size,
                                      enum reason *why)
{
    struct verbs *v = p->verbs;
    struct verbs_chunk *c;
    unsigned links = 1;

    for (c = p->chunks; c != NULL; c = c->next) {
        if (c->ring_size != ring_size)
            continue;
        if (c->used != (UINT64_C(1) << c->links) - 1)
            return c;
        if (links < 2 * c->links)
            links = 2 * c->links;
    }
    if (links > VERBS_CHUNK_LINKS)
        links = VERBS_CHUNK_LINKS;
    while (links > 1 && !fits(v, links * verbs_link_size(ring_size)))
        links /= 2;
    *why = REASON_LIMIT;
    if (!make_fit(v, links * verbs_link_size(ring_size)))
        return NULL;
    c = chunk_make(p->pd, ring_size, links, why);
    if (c == NULL && links > 1)
        c = chunk_make(p->pd, ring_size, 1, why);
    if (c != NULL) {
        c->next = p->chunks;
        p->chunks = c;
        v->memory += chunk_counts(c);
    }
    return c;
}

static int slot_find(const struct verbs_peer *p)
{
    for (int i = 0; i < VERBS_LINKS; i++)
        if (p->slot[i].users == 0)
            return i;
    return -1;
}

static void place_rings(struct verbs_link *l)
{
    struct verbs_chunk *c = l->chunk;
    uint8_t *rx = c->base + words_size(c->links);
    uint8_t *tx = rx + (size_t)c->links * c->ring_size;

    l->words = (struct verbs_words *)c->base + l->place;
    l->link.rx.bytes = rx + (size_t)l->place * c->ring_size;
    l->link.tx.bytes = tx + (size_t)l->place * c->ring_size;
    l->link.rx.size = l->link.tx.size = c->ring_size;
    l->link.rx.span = l->link.tx.span = c->ring_size;
    atomic_store(&l->words->release_in, 0);
    atomic_store(&l->words->release_out, 0);
}

struct verbs_link *verbs_link_make(struct verbs_peer *p, uint32_t ring_size,
                                   enum reason *why)
{
    struct verbs *v = p->verbs;
    int idx = slot_find(p);
    struct verbs_chunk *c;
    struct verbs_link *l;

    *why = REASON_LIMIT;
    if (idx < 0 || v->links >= v->config.max_links)
        return NULL;
    c = chunk_find(p, ring_size, why);
    if (c == NULL)
        return NULL;
    *why = REASON_NO_MEMORY;
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return NULL;
    l->link.ops = &verbs_ops;
    l->link.peer = &p->peer;
    l->peer = p;
    l->idx = (unsigned)idx;
    l->chunk = c;
    l->place = (unsigned)__builtin_ctzll(~c->used);
    c->used |= UINT64_C(1) << l->place;
    place_rings(l);
    p->slot[idx].users = VERBS_SLOT_MINE | VERBS_SLOT_PEER;
    p->slot[idx].place = (uint8_t)l->place;
    p->slot[idx].chunk = c;
    verbs_lock_tables(p);
    p->link[idx] = l;
    verbs_unlock_tables(p);
    atomic_fetch_add(&p->refs, 1);
    p->n_links++;
    v->links++;
    *why = REASON_NONE;
    return l;
}

/* Nobody reads or writes through the slot any more: it may be used again. */
void verbs_slot_clear(struct verbs_peer *p, unsigned idx, uint8_t who)
{
    p->slot[idx].users &= (uint8_t)~who;
    if (p->slot[idx].users != 0 || p->slot[idx].chunk == NULL)
        return;
    p->slot[idx].chunk->used &= ~(UINT64_C(1) << p->slot[idx].place);
    p->slot[idx].chunk = NULL;
}

void verbs_link_drop(struct verbs_link *l)
{
    struct verbs_peer *p = l->peer;
    struct verbs *v = p->verbs;

    verbs_lock_tables(p);
    p->link[l->idx] = NULL;
    l->chunk->last = p->posted;
    atomic_store(&p->owner[l->idx], NULL);
    verbs_unlock_tables(p);
    v->links--;
    p->n_links--;
    verbs_slot_clear(p, l->idx, VERBS_SLOT_MINE);
    free(l);
    if (p->n_links == 0 && atomic_load(&p->failed))
        verbs_tell(v); /* the connection can be released */
    verbs_peer_put(p);
}
