/*
 * Rendezvous on one host: how two ends of a TCP connection find out that both
 * carry the library.
 *
 * The connecting end says HELLO, the accepting end WELCOME, over the channel
 * of two processes that know each other, or over a new one that a name led to
 * (shm_names.c). An accepting end that is asked before it is ready keeps the
 * question for a while. A HELLO is said only while the channel has room, and
 * few of those before it wait for their answer: what a peer has no room for is
 * kept, but not without end. An answer is followed only on a channel on which
 * its question was asked.
 */
#include "transport/backend/shm_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    NAMES_DELAY_NS = 3000000, /* for an answer on a known channel */
    CALL_NS = 10000000,       /* for one on a new channel; twice for two... */
    CALLS_DOUBLE = 6,         /* so often, at most */
    LOST_MOST = 16,           /* arenas that a guest could not take */
    PATIENCE = 10 /* times as long with a process that has the library */
};

/* A channel on which a meeting has said HELLO. */
struct question {
    struct question *next;
    uint64_t serial; /* of the channel, which may be gone */
};

/* FNV-1a of the address pair; not 0. */
static uint64_t key_of(uint8_t family, const uint8_t server[16],
                       const uint8_t client[16], uint16_t server_port,
                       uint16_t client_port)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325) ^ family;

    for (int i = 0; i < 16; i++)
        key = (key ^ server[i]) * UINT64_C(0x100000001b3);
    for (int i = 0; i < 16; i++)
        key = (key ^ client[i]) * UINT64_C(0x100000001b3);
    key = (key ^ server_port) * UINT64_C(0x100000001b3);
    key = (key ^ client_port) * UINT64_C(0x100000001b3);
    return key | 1;
}

static uint64_t key_of_name(const struct connection_name *n)
{
    return key_of(n->family, n->server, n->client, n->server_port,
                  n->client_port);
}

static uint64_t key_of_body(const struct hello_body *b)
{
    return key_of(b->family, b->addr_server, b->addr_client, b->port_server,
                  b->port_client);
}

static struct meeting **bucket_of(struct shm *shm, uint64_t key)
{
    return &shm->meetings[(key >> 32) % SHM_BUCKETS];
}

/* False: a call is under way, so the counts may be others soon. */
static bool body_of(const struct meeting *m, struct hello_body *b)
{
    bool settled;

    memset(b, 0, sizeof(*b));
    settled = m->counts(m->owner, &b->wrote, &b->took);
    b->bell = shm_of(m)->config.bell_token;
    b->pid = shm_of(m)->pid;
    b->ring_size = m->ring_size;
    b->version_low = b->version_high = CONTROL_VERSION;
    b->family = m->name.family;
    memcpy(b->addr_server, m->name.server, 16);
    memcpy(b->addr_client, m->name.client, 16);
    b->port_server = m->name.server_port;
    b->port_client = m->name.client_port;
    return settled;
}

static bool same_name(const struct connection_name *n,
                      const struct hello_body *b)
{
    return n->family == b->family && n->server_port == b->port_server &&
           n->client_port == b->port_client &&
           memcmp(n->server, b->addr_server, 16) == 0 &&
           memcmp(n->client, b->addr_client, 16) == 0;
}

static bool has_asked(const struct meeting *m, const struct channel *channel)
{
    const struct question *q = m->with;

    while (q != NULL && q->serial != channel->serial)
        q = q->next;
    return q != NULL;
}

static bool note_asked(struct meeting *m, const struct channel *channel)
{
    struct question *q;

    if (has_asked(m, channel))
        return true;
    q = malloc(sizeof(*q));
    if (q == NULL)
        return false;
    q->serial = channel->serial;
    q->next = m->with;
    m->with = q;
    return true;
}

static void forget_asked(struct meeting *m)
{
    struct question *q = m->with, *next;

    for (; q != NULL; q = next) {
        next = q->next;
        free(q);
    }
    m->with = NULL;
}

void meeting_cancel(struct meeting *m)
{
    struct meeting **at;

    if (!m->active)
        return;
    m->active = false;
    forget_asked(m);
    names_leave(m);
    loop_timer_clear(shm_of(m)->loop, &m->timer);
    for (at = bucket_of(shm_of(m), m->key); *at != m; at = &(*at)->next)
        ;
    *at = m->next;
    m->backend = NULL;
}

static void finish(struct meeting *m, struct link *link, enum reason why)
{
    meeting_cancel(m);
    m->done(m, link, why);
}

void meet_fail(struct meeting *m, enum reason why)
{
    finish(m, NULL, m->why != REASON_NONE ? m->why : why);
}

/*
 * Both ends counted the same bytes, as far as can be told in passing: the peer
 * may well have read what a thread of ours is only about to count.
 */
static bool counts_fit(const struct meeting *m, const struct hello_body *b)
{
    uint64_t wrote, took;

    return !m->counts(m->owner, &wrote, &took) || b->took <= wrote;
}

static bool may_have_link(struct shm *shm, uint32_t ring_size)
{
    return shm->links < shm->config.max_links &&
           shm->memory + shm_link_size(ring_size) <= shm->config.max_memory;
}

static void refuse(struct channel *channel, uint32_t number, enum reason why)
{
    struct control_message m = {
        .type = MESSAGE_REFUSE, .number = number, .reason = why};

    channel_send(channel, &m, NULL, -1);
}

/*
 * An arena of ours with a free slot, a new one if need be. One that the guest
 * could not take is let be, as long as they are few.
 */
static struct arena *room_for_link(struct channel *channel, uint32_t ring_size,
                                   int *slot)
{
    struct control_message m = {.type = MESSAGE_RINGS, .number = ring_size};
    struct arena *p;
    int fd, rc, lost = 0;

    for (p = channel->arenas; p != NULL; p = p->next)
        if (p->side == 0 && p->lost && lost < LOST_MOST) {
            lost++;
        } else if (p->side == 0 && p->ring_size == ring_size) {
            *slot = arena_free_slot(p);
            if (*slot >= 0)
                return p;
        }
    if (channel->next_arena > UINT16_MAX ||
        arena_host(channel, ring_size, &p, &fd) < 0)
        return NULL;
    m.link = p->id << 16;
    rc = channel_send(channel, &m, NULL, fd);
    kernel_close(fd);
    if (rc == -EMFILE) {
        channel->arenas = p->next;
        arena_put(p);
        return NULL;
    }
    *slot = 0;
    return p;
}

/* The accepting end says yes. */
static void welcome(struct meeting *m, struct channel *channel, uint32_t number,
                    const struct hello_body *theirs)
{
    struct control_message reply = {.type = MESSAGE_WELCOME, .number = number};
    struct shm *shm = shm_of(m);
    struct shm_link *l = NULL;
    struct hello_body ours;
    struct arena *p;
    int slot;

    if (!counts_fit(m, theirs)) {
        refuse(channel, number, REASON_FOREIGN_BYTES);
        meet_fail(m, REASON_FOREIGN_BYTES);
        return;
    }
    if (!may_have_link(shm, m->ring_size)) {
        refuse(channel, number, REASON_LIMIT);
        meet_fail(m, REASON_LIMIT);
        return;
    }
    p = room_for_link(channel, m->ring_size, &slot);
    if (p != NULL)
        l = link_take(p, (unsigned)slot);
    if (l == NULL) {
        refuse(channel, number, REASON_NO_MEMORY);
        meet_fail(m, REASON_NO_MEMORY);
        return;
    }
    l->link.owner = m->owner;
    atomic_store(&p->owner[slot], m->owner);
    channel_met(channel);
    if (!body_of(m, &ours))
        reply.reason = REASON_BARE_READ;
    reply.link = p->id << 16 | (uint32_t)slot;
    channel_send(channel, &reply, &ours, -1);
    finish(m, &l->link, (enum reason)reply.reason);
}

static struct meeting *find_meeting(struct shm *shm,
                                    const struct hello_body *body)
{
    uint64_t key = key_of_body(body);

    for (struct meeting *m = *bucket_of(shm, key); m != NULL; m = m->next)
        if (m->key == key && !m->initiator && same_name(&m->name, body))
            return m;
    return NULL;
}

void meet_hello(struct channel *channel, const struct control_message *msg,
                const struct hello_body *body)
{
    struct shm *shm = channel->shm;
    struct meeting *m = find_meeting(shm, body);
    struct early_hello *e;

    channel->calls = true;
    if (body->version_low > CONTROL_VERSION ||
        body->version_high < CONTROL_VERSION) {
        refuse(channel, (uint32_t)msg->number, REASON_VERSION);
        return;
    }
    if (m != NULL) {
        welcome(m, channel, (uint32_t)msg->number, body);
        return;
    }
    e = &shm->early[shm->at_early];
    shm->early_key[shm->at_early] = key_of_body(body);
    shm->at_early = (shm->at_early + 1) % SHM_EARLY;
    if (shm->n_early < SHM_EARLY)
        shm->n_early++;
    e->channel = channel;
    e->number = (uint32_t)msg->number;
    e->until_ns = clock_ns() + PATIENCE * shm->config.meet_ns;
    e->body = *body;
}

static struct meeting *by_number(struct shm *shm, uint64_t number)
{
    struct meeting *m = shm->meetings[number % SHM_BUCKETS];

    while (m != NULL && (!m->initiator || m->number != number))
        m = m->next;
    return m;
}

/*
 * One that nobody else can tell, and no other meeting has; not 0. It leads to
 * the bucket of the key.
 */
static uint32_t new_number(struct shm *shm, const struct meeting *m)
{
    uint32_t bucket = (uint32_t)(bucket_of(shm, m->key) - shm->meetings);
    uint32_t number;

    do {
        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
            number = (uint32_t)clock_ns();
        number = number / SHM_BUCKETS * SHM_BUCKETS + bucket;
    } while (number == 0 || by_number(shm, number) != NULL);
    return number;
}

/* Who asked this on that channel; NULL: nobody, or not any more. */
static struct meeting *who_asked(const struct channel *channel, uint64_t number)
{
    struct meeting *m = by_number(channel->shm, number);

    return m != NULL && has_asked(m, channel) ? m : NULL;
}

static bool same_server(const struct served_address *a,
                        const struct connection_name *name)
{
    return a->family == name->family && a->port == name->server_port &&
           memcmp(a->addr, name->server, 16) == 0;
}

static struct served_address server_of(const struct connection_name *name)
{
    struct served_address a = {.family = name->family,
                               .port = name->server_port};

    memcpy(a.addr, name->server, 16);
    return a;
}

static bool serves(const struct channel *channel,
                   const struct connection_name *name)
{
    for (unsigned i = 0; i < channel->n_served; i++)
        if (same_server(&channel->served[i], name))
            return true;
    return false;
}

/* Remember whom to ask first for the next connection to that address. */
static void remember(struct channel *channel, const struct meeting *m)
{
    unsigned i = channel->at_served;

    if (serves(channel, &m->name))
        return;
    channel->served[i] = server_of(&m->name);
    channel->at_served = (i + 1) % 8;
    if (channel->n_served < 8)
        channel->n_served++;
    names_ask_instead(channel->shm, &m->name);
}

void meet_called(struct meeting *m, struct channel *channel)
{
    channel->called = server_of(&m->name);
    channel->called_ns = clock_ns();
}

/* Why a WELCOME cannot be followed; REASON_NONE: it can. */
static enum reason welcome_fault(struct meeting *m, struct arena *p,
                                 uint32_t idx, const struct hello_body *body)
{
    if (p == NULL)
        return REASON_NO_MEMORY; /* it was offered and could not be mapped */
    if (idx >= SHM_LINKS || p->link[idx] != NULL || !same_name(&m->name, body))
        return REASON_PEER_RULE;
    if (!counts_fit(m, body))
        return REASON_FOREIGN_BYTES;
    return may_have_link(shm_of(m), p->ring_size) ? REASON_NONE : REASON_LIMIT;
}

void meet_welcome(struct channel *channel, const struct control_message *msg,
                  const struct hello_body *body)
{
    struct meeting *m = who_asked(channel, msg->number);
    uint32_t idx = msg->link & 0xffff;
    struct control_message bye = {
        .type = MESSAGE_BYE, .link = msg->link, .stream = 1};
    struct arena *p = channel->arenas;
    struct shm_link *l = NULL;
    enum reason why;

    while (p != NULL && (p->side != 1 || p->id != msg->link >> 16))
        p = p->next;
    why = m != NULL ? welcome_fault(m, p, idx, body) : REASON_NONE;
    if (m != NULL && why == REASON_NONE) {
        l = link_take(p, idx);
        why = REASON_NO_MEMORY;
    }
    if (l == NULL) {
        if (p == NULL)
            bye.reason = REASON_NO_MEMORY;
        channel_send(channel, &bye, NULL, -1);
        if (m != NULL)
            meet_fail(m, why);
        return;
    }
    l->link.owner = m->owner;
    atomic_store(&p->owner[idx], m->owner);
    channel_met(channel);
    remember(channel, m);
    finish(m, &l->link,
           msg->reason == REASON_BARE_READ ? REASON_BARE_READ : REASON_NONE);
}

void meet_refused(struct channel *channel, const struct control_message *msg)
{
    struct meeting *m = who_asked(channel, msg->number);

    if (m != NULL)
        meet_fail(m, reason_from(msg->reason));
}

void meet_channel_gone(struct channel *channel)
{
    for (unsigned i = 0; i < channel->shm->n_early; i++)
        if (channel->shm->early[i].channel == channel)
            channel->shm->early[i].channel = NULL;
}

bool meet_say_hello(struct meeting *m, struct channel *channel)
{
    struct control_message hello = {.type = MESSAGE_HELLO, .number = m->number};
    struct hello_body body;

    if (!note_asked(m, channel))
        return false;
    body_of(m, &body);
    channel->unanswered++;
    return channel_send(channel, &hello, &body, -1) == 0;
}

static void on_timer(struct timer *timer)
{
    struct meeting *m = timer->arg;

    if (m->named || clock_ns() >= m->until_ns) {
        meet_fail(m, REASON_NO_PEER_LIBRARY);
        return;
    }
    m->named = true;
    loop_timer_set(shm_of(m)->loop, timer, m->until_ns);
    if (m->initiator)
        names_seek(m);
    else
        names_offer(m);
}

/*
 * Somebody was called there who has not answered yet: it may be the one to
 * ask. A channel is a descriptor, so the more of them wait, the longer it takes
 * until one more is opened; a helper may just have no CPU.
 */
static bool is_called(struct shm *shm, const struct connection_name *name)
{
    uint64_t latest = 0;
    unsigned n = 0;

    for (struct channel *c = shm->channels; c != NULL; c = c->next)
        if (!c->greeted && same_server(&c->called, name)) {
            n++;
            if (c->called_ns > latest)
                latest = c->called_ns;
        }
    if (n > CALLS_DOUBLE)
        n = CALLS_DOUBLE;
    return n > 0 && clock_ns() < latest + ((uint64_t)CALL_NS << (n - 1));
}

/* HELLO on the channels of processes known to serve that address. */
enum asked meet_ask_known(struct meeting *m)
{
    enum asked asked = ASKED_NOBODY;

    for (struct channel *c = shm_of(m)->channels; c != NULL; c = c->next) {
        if (!serves(c, &m->name))
            continue;
        if (!channel_is_crowded(c) && meet_say_hello(m, c))
            asked = ASKED_SOMEBODY;
        else if (asked == ASKED_NOBODY && !atomic_load(&c->dead))
            asked = ASKED_LATER;
    }
    if (asked == ASKED_NOBODY && is_called(shm_of(m), &m->name))
        asked = ASKED_LATER;
    if (asked == ASKED_SOMEBODY) {
        m->until_ns = clock_ns() + PATIENCE * shm_of(m)->config.meet_ns;
        m->named = false;
        loop_timer_set(shm_of(m)->loop, &m->timer, clock_ns() + NAMES_DELAY_NS);
    }
    return asked;
}

static bool asked_already(struct meeting *m)
{
    uint64_t now = clock_ns();

    for (unsigned i = 0; i < shm_of(m)->n_early; i++) {
        struct early_hello *e = &shm_of(m)->early[i];
        struct channel *channel = e->channel;

        if (shm_of(m)->early_key[i] != m->key || channel == NULL ||
            e->until_ns < now || !same_name(&m->name, &e->body))
            continue;
        e->channel = NULL;
        welcome(m, channel, e->number, &e->body);
        return true;
    }
    return false;
}

/*
 * The accepting end. Who has connected to us before says HELLO without a name,
 * and it may be one of them again: a name is only for who does not.
 */
static void await_hello(struct meeting *m)
{
    struct channel *c = shm_of(m)->channels;

    if (asked_already(m))
        return;
    while (c != NULL && !c->calls)
        c = c->next;
    if (c == NULL) {
        names_offer(m);
        return;
    }
    m->named = false;
    loop_timer_set(shm_of(m)->loop, &m->timer, clock_ns() + NAMES_DELAY_NS);
}

void meeting_start(struct backend *backend, struct meeting *m)
{
    struct shm *shm = (struct shm *)backend;
    uint64_t now = clock_ns();

    m->backend = backend;
    m->active = true;
    m->named = true;
    m->why = REASON_NONE;
    m->listener.fd = -1;
    m->listener.added = false;
    m->waits = m->asks = false;
    m->with = NULL;
    m->until_ns = now + shm->config.meet_ns;
    m->timer.expired = on_timer;
    m->timer.arg = m;
    m->key = key_of_name(&m->name);
    m->number = m->initiator ? new_number(shm, m) : 0;
    m->next = *bucket_of(shm, m->key);
    *bucket_of(shm, m->key) = m;
    loop_timer_set(shm->loop, &m->timer, m->until_ns);
    if (!m->initiator) {
        await_hello(m);
        return;
    }
    switch (meet_ask_known(m)) {
    case ASKED_SOMEBODY:
        return;
    case ASKED_LATER:
        names_wait_to_ask(m);
        return;
    case ASKED_NOBODY:
        names_seek(m);
        return;
    }
}
