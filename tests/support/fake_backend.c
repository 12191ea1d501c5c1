/*
 * See fake_backend.h.
 *
 * Meeting. The end that connected asks, with what it has counted; the other
 * one, in its own loop, compares and has the link at once; then the first one
 * compares as well, and frees its link when it does not agree. One lock over
 * all instances orders this; callbacks are made without it, except counts().
 *
 * Wires live until the last instance is gone: a callback may free the link
 * whose message is being delivered.
 */
#include "tests/support/fake_backend.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "transport/bell.h"
#include "transport/pause.h"

enum { LISTENING_MOST = 4 };

/* One meeting of one end. */
struct asked {
    struct asked *next;
    struct meeting *meeting;
    bool asks; /* the end that connected: counted what is below */
    bool decided;
    uint64_t wrote, took; /* of this end; once decided: of the other one */
    struct link *link;
    enum reason why;
};

struct instance {
    struct backend backend; /* first */
    struct instance *next;
    struct loop *loop;
    struct backend_config config;
    const struct link_events *events;
    bool device;
    uint64_t number; /* never used again */
    struct watch kick;
    struct asked *asked;
    struct known *known;
    struct wired *wired; /* the ends of its own */
    uint64_t n_links;
    struct sockaddr_in listening[LISTENING_MOST];
};

/* What an instance knows of another one. */
struct known {
    struct fake_peer peer; /* first */
    struct known *next;
    struct instance *at;
    uint64_t whom;
};

/* One wire, and for each end: whose it is, and what its owner was told. */
struct wired {
    struct fake_wire wire; /* first */
    struct wired *older;
    struct instance *at[2];
    struct wired *next[2];
    bool told_broken[2], told_dead[2];
    uint8_t memory[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct instance *instances;
static struct wired *all_wires;
static uint64_t numbers;

static struct instance *of(struct backend *backend)
{
    return (struct instance *)backend;
}

/* Its loop will call ready(). */
static void kick(struct instance *in)
{
    eventfd_write(in->kick.fd, 1);
}

/* ---- wires ---- */

static void ring(struct fake_peer *peer, unsigned waiter)
{
    const struct backend_config *c = &((struct known *)peer)->at->config;

    bell_ring(c->ringer, c->bell_token, waiter);
}

static void under_way(struct fake_peer *peer)
{
    kick(((struct known *)peer)->at);
}

static void freed(struct fake_wire *wire, int side)
{
    struct wired *w = (struct wired *)wire, **at;

    pthread_mutex_lock(&lock);
    for (at = &w->at[side]->wired; *at != NULL && *at != w;
         at = &(*at)->next[(*at)->at[1] == w->at[side]])
        ;
    if (*at != NULL)
        *at = w->next[side];
    w->at[side]->n_links--;
    pthread_mutex_unlock(&lock);
}

static const struct fake_calls calls = {ring, under_way, freed};

static struct fake_peer *peer_between(struct instance *in, struct instance *to)
{
    struct known *k = in->known;

    while (k != NULL && k->whom != to->number)
        k = k->next;
    if (k == NULL) {
        k = calloc(1, sizeof(*k));
        assert(k != NULL);
        k->peer.peer.ops = in->device ? &fake_device_ops : &fake_ops;
        k->peer.calls = &calls;
        k->peer.refs = 1;
        k->at = in;
        k->whom = to->number;
        k->next = in->known;
        in->known = k;
    }
    return &k->peer;
}

static struct wired *wire_between(struct instance *a, struct instance *b,
                                  uint32_t ring_size)
{
    struct wired *w = calloc(1, sizeof(*w) + 4 * (size_t)ring_size);
    struct fake_peer *peer[2] = {peer_between(a, b), peer_between(b, a)};

    assert(w != NULL && a->events->message == b->events->message);
    fake_wire_start_at(&w->wire, ring_size, a->device, a->device, w->memory,
                       peer);
    w->wire.message = a->events->message;
    w->at[0] = a;
    w->at[1] = b;
    a->n_links++;
    b->n_links++;
    w->older = all_wires;
    all_wires = w;
    return w;
}

struct fake_wire *fake_wire_of(struct link *link)
{
    return ((struct fake_link *)link)->wire;
}

void fake_wire_break(struct fake_wire *wire)
{
    struct wired *w = (struct wired *)wire;

    wire->broken = wire->channel_dead = true;
    kick(w->at[0]);
    kick(w->at[1]);
}

/* One thing that has come to this end. False: there is none. */
static bool hand_up(struct wired *w, int side, const struct link_events *events)
{
    struct fake_link *l = &w->wire.end[side];

    fake_land(&w->wire, !side, UINT64_MAX);
    if (w->wire.broken && !w->told_broken[side]) {
        w->told_broken[side] = true;
        events->broken(l->link.owner, REASON_LINK_BROKEN);
        return true;
    }
    if (fake_deliver(&w->wire, !side))
        return true;
    if (!fake_channel_ended(&w->wire, side) || w->told_dead[side])
        return false;
    w->told_dead[side] = true;
    events->channel_dead(l->link.owner);
    return true;
}

static void hand_up_all(struct instance *in)
{
    struct wired *w = in->wired;

    while (w != NULL) {
        int side = w->at[1] == in;

        /* What was handed up may have changed the list. */
        w = hand_up(w, side, in->events) ? in->wired : w->next[side];
    }
}

/* ---- meeting; the lock is held ---- */

static bool same_name(const struct connection_name *a,
                      const struct connection_name *b)
{
    return a->family == b->family && a->server_port == b->server_port &&
           a->client_port == b->client_port &&
           memcmp(a->server, b->server, 16) == 0 &&
           memcmp(a->client, b->client, 16) == 0;
}

static bool listens_at(const struct instance *in,
                       const struct connection_name *name)
{
    for (int i = 0; i < LISTENING_MOST; i++)
        if (in->listening[i].sin_family != 0 &&
            ntohs(in->listening[i].sin_port) == name->server_port &&
            memcmp(&in->listening[i].sin_addr, name->server, 4) == 0)
            return true;
    return false;
}

/* Both ends kept the same first bytes, and enough of them. */
static bool is_proved(const struct proof_log *a, const struct proof_log *b)
{
    static const uint64_t nonce[2][2] = {{1, 2}, {3, 4}};
    uint8_t hash[2][PROOF_SIZE];
    uint32_t n[2];

    for (int way = 0; way < 2; way++)
        n[way] = a->have[way] < b->have[way] ? a->have[way] : b->have[way];
    return proof_make(a, n, nonce[0], nonce[1], 1, hash[0]) == 0 &&
           proof_make(b, n, nonce[0], nonce[1], 1, hash[1]) == 0 &&
           memcmp(hash[0], hash[1], PROOF_SIZE) == 0;
}

static void decide(struct asked *a, struct link *link, enum reason why)
{
    a->decided = true;
    a->link = link;
    a->why = why;
}

/* The end that accepted looks at who asks, and agrees or not. */
static void answer(struct instance *in, struct asked *mine,
                   struct instance *from, struct asked *theirs)
{
    struct meeting *m = mine->meeting, *t = theirs->meeting;
    bool counted = m->counts(m->owner, &mine->wrote, &mine->took);
    enum reason why = REASON_NONE;
    struct wired *w;

    if (in->device && !is_proved(m->proof, t->proof))
        why = REASON_NO_PROOF;
    else if (counted && theirs->took > mine->wrote)
        why = REASON_FOREIGN_BYTES;
    else if (in->n_links >= in->config.max_links ||
             from->n_links >= from->config.max_links)
        why = REASON_LIMIT;
    if (why != REASON_NONE) {
        decide(mine, NULL, why);
        decide(theirs, NULL, why);
    } else {
        w = wire_between(from, in, m->ring_size);
        decide(theirs, fake_link_take(&w->wire, 0, t->owner), why);
        decide(mine, fake_link_take(&w->wire, 1, m->owner), why);
        theirs->wrote = mine->wrote;
        theirs->took = mine->took;
    }
    kick(from);
}

static void look_for_partner(struct instance *in, struct asked *mine)
{
    for (struct instance *o = instances; o != NULL; o = o->next)
        for (struct asked *a = o->asked; a != NULL; a = a->next)
            if (o != in && o->device == in->device && a->asks && !a->decided &&
                same_name(&a->meeting->name, &mine->meeting->name)) {
                answer(in, mine, o, a);
                return;
            }
}

static void ask(struct instance *in, struct asked *a)
{
    struct meeting *m = a->meeting;
    bool anybody = false;

    if (!m->counts(m->owner, &a->wrote, &a->took))
        a->took = 0; /* not comparable just now */
    a->asks = true;
    for (struct instance *o = instances; o != NULL; o = o->next) {
        if (o == in || o->device != in->device)
            continue;
        anybody |= !in->device || listens_at(o, &m->name);
        kick(o);
    }
    if (!anybody)
        decide(a, NULL, REASON_NO_PEER_LIBRARY);
}

static void take_out(struct instance *in, struct asked *a)
{
    struct asked **at = &in->asked;

    while (*at != a)
        at = &(*at)->next;
    *at = a->next;
    loop_timer_clear(in->loop, &a->meeting->timer);
    a->meeting->backend = NULL;
    a->meeting->with = NULL;
}

/* ---- meeting; without the lock ---- */

static void take_in(struct instance *in, struct link *link)
{
    struct wired *w = (struct wired *)fake_wire_of(link);
    int side = w->at[1] == in;

    pthread_mutex_lock(&lock);
    w->next[side] = in->wired;
    in->wired = w;
    pthread_mutex_unlock(&lock);
    kick(in); /* something may have come before */
}

/* The first that is decided ends. False: there is none. */
static bool end_one(struct instance *in)
{
    struct meeting *m;
    struct asked *a;
    uint64_t wrote, took;

    pthread_mutex_lock(&lock);
    for (a = in->asked; a != NULL && !a->decided; a = a->next)
        ;
    if (a != NULL) {
        m = a->meeting;
        take_out(in, a);
    }
    pthread_mutex_unlock(&lock);
    if (a == NULL)
        return false;
    if (a->link != NULL && m->initiator && m->counts(m->owner, &wrote, &took) &&
        a->took > wrote) {
        a->link->ops->free(a->link); /* the other end is told */
        a->link = NULL;
        a->why = REASON_FOREIGN_BYTES;
    }
    if (a->link != NULL)
        take_in(in, a->link);
    m->done(m, a->link, a->why);
    free(a);
    return true;
}

static void ready(struct watch *watch, uint32_t events)
{
    struct instance *in = watch->arg;
    eventfd_t n;

    (void)events;
    eventfd_read(watch->fd, &n);
    pthread_mutex_lock(&lock);
    for (struct asked *a = in->asked; a != NULL; a = a->next) {
        if (a->decided)
            continue;
        if (!a->meeting->initiator)
            look_for_partner(in, a);
        else if (!a->asks)
            ask(in, a);
    }
    pthread_mutex_unlock(&lock);
    while (end_one(in))
        ;
    hand_up_all(in);
}

static void expired(struct timer *timer)
{
    struct meeting *m = timer->arg;
    struct instance *in = of(m->backend);
    struct asked *a = m->with;

    pthread_mutex_lock(&lock);
    if (!a->decided)
        decide(a, NULL, REASON_NO_PEER_LIBRARY);
    pthread_mutex_unlock(&lock);
    kick(in);
}

static void meeting_start(struct backend *backend, struct meeting *m)
{
    struct instance *in = of(backend);
    struct asked *a;

    if (in->device && m->proof == NULL) {
        m->done(m, NULL, REASON_NO_PROOF);
        return;
    }
    a = calloc(1, sizeof(*a));
    assert(a != NULL);
    a->meeting = m;
    m->backend = backend;
    m->with = a;
    m->timer = (struct timer){.expired = expired, .arg = m};
    loop_timer_set(in->loop, &m->timer, clock_ns() + in->config.meet_ns);
    pthread_mutex_lock(&lock);
    a->next = in->asked;
    in->asked = a;
    pthread_mutex_unlock(&lock);
    kick(in);
}

static void meeting_cancel(struct meeting *m)
{
    struct asked *a = m->with;

    if (m->backend == NULL)
        return;
    pthread_mutex_lock(&lock);
    take_out(of(m->backend), a);
    pthread_mutex_unlock(&lock);
    if (a->link != NULL)
        a->link->ops->free(a->link);
    free(a);
}

/* ---- instances ---- */

static int create(struct loop *loop, const struct backend_config *config,
                  const struct link_events *events, bool device,
                  struct backend **out)
{
    struct instance *in = calloc(1, sizeof(*in));
    int rc;

    if (in == NULL)
        return -ENOMEM;
    in->backend.ops = device ? &fake_device_backend : &fake_backend;
    in->loop = loop;
    in->config = *config;
    in->events = events;
    in->device = device;
    in->kick.fd = loop_calls(loop)->keep(eventfd(0, EFD_NONBLOCK));
    in->kick.ready = ready;
    in->kick.arg = in;
    rc = loop_add(loop, &in->kick, EPOLLIN);
    if (rc < 0) {
        loop_calls(loop)->close(in->kick.fd);
        free(in);
        return rc;
    }
    pthread_mutex_lock(&lock);
    in->number = ++numbers;
    in->next = instances;
    instances = in;
    pthread_mutex_unlock(&lock);
    *out = &in->backend;
    return 0;
}

static int create_memory(struct loop *loop, const struct backend_config *config,
                         const struct link_events *events, struct backend **out)
{
    return create(loop, config, events, false, out);
}

static int create_device(struct loop *loop, const struct backend_config *config,
                         const struct link_events *events, struct backend **out)
{
    return create(loop, config, events, true, out);
}

static void free_wires(void)
{
    struct wired *w;

    while ((w = all_wires) != NULL) {
        all_wires = w->older;
        free(w);
    }
}

static void destroy(struct backend *backend)
{
    struct instance *in = of(backend), **at;
    struct known *k;

    if (in == NULL)
        return;
    while (in->asked != NULL)
        meeting_cancel(in->asked->meeting);
    assert(in->wired == NULL);
    pthread_mutex_lock(&lock);
    for (at = &instances; *at != in; at = &(*at)->next)
        ;
    *at = in->next;
    if (instances == NULL)
        free_wires();
    pthread_mutex_unlock(&lock);
    loop_remove(in->loop, &in->kick);
    loop_calls(in->loop)->close(in->kick.fd);
    while ((k = in->known) != NULL) {
        in->known = k->next;
        k->peer.peer.ops->peer_put(&k->peer.peer);
    }
    free(in);
}

static enum reason suits(struct backend *backend,
                         const struct connection_name *name)
{
    (void)backend;
    return name->family == 4 ? REASON_NONE : REASON_NO_ROUTE;
}

static int listen_at(struct backend *backend, const struct sockaddr *address,
                     socklen_t len, bool on)
{
    struct instance *in = of(backend);
    struct sockaddr_in want = {0}, *place = NULL;
    int rc = 0;

    if (len < sizeof(want) || address->sa_family != AF_INET)
        return -EAFNOSUPPORT;
    memcpy(&want, address, sizeof(want));
    pthread_mutex_lock(&lock);
    for (int i = 0; i < LISTENING_MOST; i++) {
        struct sockaddr_in *l = &in->listening[i];

        if (on ? l->sin_family == 0
               : l->sin_port == want.sin_port &&
                     l->sin_addr.s_addr == want.sin_addr.s_addr)
            place = l;
    }
    if (place != NULL && on)
        *place = want;
    else if (place != NULL)
        memset(place, 0, sizeof(*place));
    else
        rc = on ? -ENOSPC : -ENOENT;
    pthread_mutex_unlock(&lock);
    return rc;
}

const struct backend_ops fake_backend = {.name = "fake",
                                         .version = BACKEND_VERSION,
                                         .create = create_memory,
                                         .destroy = destroy,
                                         .suits = suits,
                                         .meeting_start = meeting_start,
                                         .meeting_cancel = meeting_cancel};

const struct backend_ops fake_device_backend = {.name = "fake device",
                                                .version = BACKEND_VERSION,
                                                .create = create_device,
                                                .destroy = destroy,
                                                .suits = suits,
                                                .listen = listen_at,
                                                .meeting_start = meeting_start,
                                                .meeting_cancel =
                                                    meeting_cancel};
