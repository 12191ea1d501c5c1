/*
 * Rendezvous over a connection between two processes, and the messages that
 * only the helper handles.
 *
 *     client  HELLO    name, counts, how much is kept, nonce   ->
 *             WELCOME  counts, nonce, proof, keys              <-  server
 *             CONFIRM  proof, keys                             ->
 *
 * The accepting end has no link before CONFIRM has shown that the other one
 * saw the same first bytes; the connecting end checks WELCOME likewise. Neither
 * gets larger rings than it wants. A HELLO that comes before its stream wants
 * to meet is kept for a while.
 */
#include "transport/backend/verbs_private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "transport/pause.h"

static void fail(struct meeting *m, enum reason why);

static struct verbs *verbs_of(const struct meeting *m)
{
    return (struct verbs *)m->backend;
}

static bool same_name(const struct connection_name *n,
                      const struct hello_body *b)
{
    return n->family == b->family && n->server_port == b->port_server &&
           n->client_port == b->port_client &&
           memcmp(n->server, b->addr_server, 16) == 0 &&
           memcmp(n->client, b->addr_client, 16) == 0;
}

static void hello_of(const struct meeting *m, struct hello_body *b)
{
    memset(b, 0, sizeof(*b));
    m->counts(m->owner, &b->wrote, &b->took);
    b->ring_size = m->ring_size;
    b->version_low = b->version_high = CONTROL_VERSION;
    b->family = m->name.family;
    memcpy(b->addr_server, m->name.server, 16);
    memcpy(b->addr_client, m->name.client, 16);
    b->port_server = m->name.server_port;
    b->port_client = m->name.client_port;
}

/* As far as can be told in passing: a count of ours may come a bit late. */
static bool counts_fit(const struct meeting *m, const struct hello_body *b)
{
    uint64_t wrote, took;

    return !m->counts(m->owner, &wrote, &took) || b->took <= wrote;
}

static void keys_of(const struct verbs_link *l, struct device_body *d)
{
    d->ring = (uintptr_t)l->link.rx.bytes;
    d->word = (uintptr_t)&l->words->release_in;
    d->key = l->chunk->remote->rkey;
    d->index = l->idx;
}

/* False: no rightful peer has such keys. */
static bool take_keys(struct verbs_link *l, const struct device_body *d)
{
    if (d->index >= VERBS_LINKS || d->key > UINT32_MAX)
        return false;
    l->peer_idx = d->index;
    l->peer_ring = d->ring;
    l->peer_word = d->word;
    l->key = (uint32_t)d->key;
    return true;
}

static void say_bodies(struct verbs_peer *p, struct control_message *m,
                       const struct hello_body *hello,
                       const struct device_body *device)
{
    uint8_t bytes[HELLO_BODY_SIZE + DEVICE_BODY_SIZE];
    uint32_t at = 0;

    if (hello != NULL) {
        hello_encode(hello, bytes);
        at = HELLO_BODY_SIZE;
    }
    device_encode(device, bytes + at);
    verbs_say(p, m, bytes, at + DEVICE_BODY_SIZE);
}

static void say(struct verbs_peer *p, enum message_type type, uint32_t link,
                uint64_t number, enum reason why)
{
    struct control_message m = {.type = type,
                                .link = link,
                                .number = number,
                                .reason = why,
                                .stream = UINT32_MAX};

    verbs_say(p, &m, NULL, 0);
}

/* ---- a meeting's end ---- */

void verbs_meeting_cancel(struct meeting *m)
{
    struct meeting **at;

    if (!m->active)
        return;
    m->active = false;
    if (!m->initiator && m->with != NULL) {
        struct verbs_link *l = m->with;

        say(l->peer, MESSAGE_REFUSE, 0, m->number, REASON_NO_PEER_LIBRARY);
        verbs_link_drop(l);
    }
    m->with = NULL;
    loop_timer_clear(verbs_of(m)->loop, &m->timer);
    for (at = &verbs_of(m)->meetings; *at != m; at = &(*at)->next)
        ;
    *at = m->next;
    m->backend = NULL;
}

static void finish(struct meeting *m, struct link *link, enum reason why)
{
    if (link != NULL)
        m->with = NULL; /* it is the owner's now */
    verbs_meeting_cancel(m);
    m->done(m, link, why);
}

static void fail(struct meeting *m, enum reason why)
{
    finish(m, NULL, m->why != REASON_NONE ? m->why : why);
}

static void hand_over(struct meeting *m, struct verbs_link *l)
{
    l->meeting = NULL;
    l->link.owner = m->owner;
    atomic_store(&l->peer->owner[l->idx], m->owner);
    /* From now on other threads post for it. */
    verbs_lock_tables(l->peer);
    l->ready = true;
    verbs_unlock_tables(l->peer);
    finish(m, &l->link, REASON_NONE);
}

/* ---- the accepting end ---- */

static bool proof_is(const struct meeting *m, const struct verbs_link *l,
                     bool by_server, const uint8_t shown[PROOF_SIZE])
{
    uint8_t ours[PROOF_SIZE], differ = 0;

    if (proof_make(m->proof, l->kept, m->nonce, l->nonce, by_server, ours) < 0)
        return false;
    for (int i = 0; i < PROOF_SIZE; i++)
        differ |= ours[i] ^ shown[i];
    return differ == 0;
}

/* Why HELLO cannot be answered with a link. */
static enum reason hello_fault(const struct meeting *m,
                               const struct hello_body *hello,
                               const struct device_body *device,
                               uint32_t kept[2])
{
    if (!counts_fit(m, hello))
        return REASON_FOREIGN_BYTES;
    if (m->proof == NULL)
        return REASON_NO_PROOF;
    for (int way = 0; way < 2; way++) {
        kept[way] = m->proof->have[way];
        if (kept[way] > device->kept[way])
            kept[way] = device->kept[way];
    }
    return kept[0] + kept[1] < PROOF_LEAST ? REASON_NO_PROOF : REASON_NONE;
}

static void welcome(struct meeting *m, struct verbs_peer *p, uint64_t number,
                    const struct hello_body *hello,
                    const struct device_body *device)
{
    struct control_message reply = {
        .type = MESSAGE_WELCOME, .number = number, .stream = UINT32_MAX};
    struct device_body ours = {0};
    struct hello_body counts;
    struct verbs_link *l = NULL;
    uint32_t kept[2], ring_size = m->ring_size;
    enum reason why = hello_fault(m, hello, device, kept);

    if (ring_size > hello->ring_size)
        ring_size = hello->ring_size;
    if (why == REASON_NONE)
        l = verbs_link_make(p, ring_size, &why);
    if (l == NULL) {
        say(p, MESSAGE_REFUSE, 0, number, why);
        fail(m, why);
        return;
    }
    memcpy(l->kept, kept, sizeof(kept));
    memcpy(l->nonce, device->nonce, sizeof(l->nonce));
    l->meeting = m;
    m->with = l;
    m->number = (uint32_t)number;
    memcpy(ours.kept, kept, sizeof(kept));
    memcpy(ours.nonce, m->nonce, sizeof(ours.nonce));
    proof_make(m->proof, kept, m->nonce, l->nonce, 1, ours.proof);
    keys_of(l, &ours);
    hello_of(m, &counts);
    counts.ring_size = l->link.rx.size;
    say_bodies(p, &reply, &counts, &ours);
}

static struct meeting *find_meeting(struct verbs *v,
                                    const struct hello_body *hello)
{
    for (struct meeting *m = v->meetings; m != NULL; m = m->next)
        if (!m->initiator && m->with == NULL && same_name(&m->name, hello))
            return m;
    return NULL;
}

static void on_hello(struct verbs_peer *p, const struct control_message *msg,
                     const struct hello_body *hello,
                     const struct device_body *device)
{
    struct verbs *v = p->verbs;
    struct meeting *m = find_meeting(v, hello);

    if (hello->version_low > CONTROL_VERSION ||
        hello->version_high < CONTROL_VERSION) {
        say(p, MESSAGE_REFUSE, 0, msg->number, REASON_VERSION);
    } else if (m != NULL) {
        welcome(m, p, msg->number, hello, device);
    } else {
        v->early[v->at_early++ % VERBS_EARLY] =
            (struct verbs_early){.peer = p,
                                 .number = msg->number,
                                 .until_ns = clock_ns() + v->config.meet_ns,
                                 .hello = *hello,
                                 .device = *device};
    }
}

static bool asked_already(struct meeting *m)
{
    struct verbs *v = verbs_of(m);
    uint64_t now = clock_ns();

    for (int i = 0; i < VERBS_EARLY; i++) {
        struct verbs_early *e = &v->early[i];
        struct verbs_peer *p = e->peer;

        if (p == NULL || e->until_ns < now || !same_name(&m->name, &e->hello))
            continue;
        e->peer = NULL;
        welcome(m, p, e->number, &e->hello, &e->device);
        return true;
    }
    return false;
}

static void on_confirm(struct verbs_peer *p, const struct control_message *msg,
                       const struct device_body *device)
{
    struct verbs_link *l = msg->link < VERBS_LINKS ? p->link[msg->link] : NULL;
    struct meeting *m = l != NULL ? l->meeting : NULL;
    enum reason why = REASON_NO_PROOF;

    if (m != NULL && proof_is(m, l, false, device->proof) &&
        take_keys(l, device)) {
        hand_over(m, l);
        return;
    }
    /* A stranger, or one who comes too late: the rightful peer may follow. */
    if (m != NULL) {
        m->why = why;
        m->with = NULL;
        verbs_link_drop(l);
    } else {
        why = REASON_NO_PEER_LIBRARY;
    }
    if (m != NULL || l == NULL)
        say(p, MESSAGE_BYE, device->index, 0, why);
}

/* ---- the connecting end ---- */

static struct meeting *by_number(struct verbs_peer *p, uint64_t number)
{
    for (struct meeting *m = p->verbs->meetings; m != NULL; m = m->next)
        if (m->initiator && m->with == p && m->number == number)
            return m;
    return NULL;
}

static enum reason welcome_fault(const struct meeting *m,
                                 const struct hello_body *hello,
                                 const struct device_body *device)
{
    uint8_t ours[PROOF_SIZE], differ = 0;

    if (!same_name(&m->name, hello) || device->index >= VERBS_LINKS ||
        device->key > UINT32_MAX || hello->ring_size > m->ring_size)
        return REASON_PEER_RULE;
    if (!counts_fit(m, hello))
        return REASON_FOREIGN_BYTES;
    if (m->proof == NULL || proof_make(m->proof, device->kept, device->nonce,
                                       m->nonce, 1, ours) < 0)
        return REASON_NO_PROOF;
    for (int i = 0; i < PROOF_SIZE; i++)
        differ |= ours[i] ^ device->proof[i];
    return differ == 0 ? REASON_NONE : REASON_NO_PROOF;
}

static void on_welcome(struct verbs_peer *p, const struct control_message *msg,
                       const struct hello_body *hello,
                       const struct device_body *device)
{
    struct control_message reply = {
        .type = MESSAGE_CONFIRM, .link = device->index, .stream = UINT32_MAX};
    struct meeting *m = by_number(p, msg->number);
    enum reason why = REASON_NO_PEER_LIBRARY;
    struct device_body ours = {0};
    struct verbs_link *l = NULL;

    if (m != NULL)
        why = welcome_fault(m, hello, device);
    if (why == REASON_NONE)
        l = verbs_link_make(p, hello->ring_size, &why);
    if (l == NULL) {
        say(p, MESSAGE_BYE, device->index, 0, why);
        if (m != NULL)
            fail(m, why);
        return;
    }
    take_keys(l, device);
    proof_make(m->proof, device->kept, device->nonce, m->nonce, 0, ours.proof);
    keys_of(l, &ours);
    say_bodies(p, &reply, NULL, &ours);
    hand_over(m, l);
}

static void say_hello(struct meeting *m, struct verbs_peer *p)
{
    struct control_message hello = {
        .type = MESSAGE_HELLO, .number = m->number, .stream = UINT32_MAX};
    struct device_body device = {0};
    struct hello_body counts;

    m->named = true;
    memcpy(device.nonce, m->nonce, sizeof(device.nonce));
    memcpy(device.kept, m->proof->have, sizeof(device.kept));
    hello_of(m, &counts);
    say_bodies(p, &hello, &counts, &device);
}

void verbs_meet_up(struct verbs_peer *p)
{
    for (struct meeting *m = p->verbs->meetings; m != NULL; m = m->next)
        if (m->initiator && m->with == p && !m->named)
            say_hello(m, p);
}

void verbs_meet_forget(struct verbs_peer *p)
{
    for (int i = 0; i < VERBS_EARLY; i++)
        if (p->verbs->early[i].peer == p)
            p->verbs->early[i].peer = NULL;
}

/* `done` may start or cancel meetings: begin again after each. */
void verbs_meet_gone(struct verbs_peer *p, enum reason why)
{
    struct verbs *v = p->verbs;
    struct meeting *m;

    verbs_meet_forget(p);
    for (unsigned i = 0; i < VERBS_LINKS; i++) {
        struct verbs_link *l = p->link[i];

        if (l == NULL || l->meeting == NULL)
            continue;
        l->meeting->with = NULL;
        verbs_link_drop(l);
    }
    do {
        for (m = v->meetings; m != NULL; m = m->next)
            if (m->initiator && m->with == p)
                break;
        if (m != NULL)
            fail(m, why);
    } while (m != NULL);
}

/* Nobody answered in time, or not even a way to ask was found. */
static void on_timer(struct timer *timer)
{
    struct meeting *m = timer->arg;
    const struct verbs_peer *p = m->with; /* of who connects */
    enum reason why = REASON_NONE;

    if (!m->initiator)
        why = verbs_refused(verbs_of(m), &m->name);
    else if (p != NULL && p->stage == VERBS_RESOLVING)
        why = REASON_NO_ROUTE;
    fail(m, why != REASON_NONE ? why : REASON_NO_PEER_LIBRARY);
}

static struct verbs_peer *find_peer(struct verbs *v,
                                    const struct connection_name *n)
{
    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next)
        if (p->served && p->stage != VERBS_DEAD && !atomic_load(&p->failed) &&
            p->n_links < VERBS_LINKS && p->name.family == n->family &&
            p->name.server_port == n->server_port &&
            memcmp(p->name.server, n->server, 16) == 0 &&
            memcmp(p->name.client, n->client, 16) == 0)
            return p;
    return NULL;
}

void verbs_meeting_start(struct backend *backend, struct meeting *m)
{
    struct verbs *v = (struct verbs *)backend;
    enum reason why = backend->ops->suits(backend, &m->name);
    struct verbs_peer *p;

    m->backend = backend;
    m->active = true;
    m->named = false;
    m->with = NULL;
    m->why = REASON_NONE;
    m->number = ++v->next_number;
    m->until_ns = clock_ns() + v->config.meet_ns;
    m->timer.expired = on_timer;
    m->timer.arg = m;
    m->next = v->meetings;
    v->meetings = m;
    loop_timer_set(v->loop, &m->timer, m->until_ns);
    if (why == REASON_NONE &&
        (m->proof == NULL ||
         m->proof->have[0] + m->proof->have[1] < PROOF_LEAST))
        why = REASON_NO_PROOF;
    if (why == REASON_NONE && getrandom(m->nonce, sizeof(m->nonce), 0) < 0)
        why = REASON_INTERNAL;
    if (why != REASON_NONE) {
        fail(m, why);
        return;
    }
    if (!m->initiator) {
        asked_already(m);
        return;
    }
    p = find_peer(v, &m->name);
    if (p == NULL)
        p = verbs_connect(v, &m->name, &why);
    if (p == NULL) {
        fail(m, why);
        return;
    }
    m->with = p;
    if (p->stage == VERBS_UP)
        say_hello(m, p);
}

/* ---- messages ---- */

static void on_bye(struct verbs_peer *p, const struct control_message *msg)
{
    struct verbs_link *l;

    if (msg->link >= VERBS_LINKS)
        return;
    l = p->link[msg->link];
    verbs_slot_clear(p, msg->link, VERBS_SLOT_PEER);
    if (l == NULL)
        return;
    if (l->ready) {
        p->verbs->events->channel_dead(l->link.owner);
    } else if (l->meeting != NULL) {
        struct meeting *m = l->meeting;

        m->with = NULL;
        verbs_link_drop(l);
        /* An end that gave up may have asked once more since. */
        if (msg->reason == REASON_NO_PEER_LIBRARY)
            asked_already(m);
        else
            fail(m, reason_from(msg->reason));
    }
}

static void for_link(struct verbs_peer *p, const struct control_message *msg)
{
    struct verbs_link *l = msg->link < VERBS_LINKS ? p->link[msg->link] : NULL;

    if (l == NULL || !l->ready)
        return;
    if (msg->type == MESSAGE_PING) {
        say(p, MESSAGE_PONG, l->peer_idx, msg->number, REASON_NONE);
        return;
    }
    if (msg->type == MESSAGE_PONG && l->ask_again) {
        verbs_ask(l);
        return;
    }
    if (msg->type == MESSAGE_PONG)
        l->pinged = false;
    p->verbs->events->message(l->link.owner, msg);
}

static void handle(struct verbs_peer *p, const uint8_t *bytes)
{
    const uint8_t *body = bytes + MESSAGE_SIZE;
    struct control_message m;
    struct device_body device = {0};
    struct hello_body hello = {0};
    struct meeting *meeting;
    int rc = message_decode(bytes, MESSAGE_SIZE, &m);

    if (rc == 0 && (m.type == MESSAGE_HELLO || m.type == MESSAGE_WELCOME)) {
        rc = hello_decode(body, HELLO_BODY_SIZE, &hello);
        body += HELLO_BODY_SIZE;
    }
    if (rc == 0 && (m.type == MESSAGE_HELLO || m.type == MESSAGE_WELCOME ||
                    m.type == MESSAGE_CONFIRM))
        rc = device_decode(body, DEVICE_BODY_SIZE, &device);
    if (rc != 0) {
        verbs_fail(p);
        return;
    }
    switch (m.type) {
    case MESSAGE_HELLO:
        on_hello(p, &m, &hello, &device);
        break;
    case MESSAGE_WELCOME:
        on_welcome(p, &m, &hello, &device);
        break;
    case MESSAGE_CONFIRM:
        on_confirm(p, &m, &device);
        break;
    case MESSAGE_REFUSE:
        meeting = by_number(p, m.number);
        if (meeting != NULL)
            fail(meeting, reason_from(m.reason));
        break;
    case MESSAGE_BYE:
        on_bye(p, &m);
        break;
    default:
        for_link(p, &m);
    }
}

/* A message may lead to this being called again: each is taken out first. */
void verbs_inbox(struct verbs_peer *p)
{
    uint8_t bytes[VERBS_MESSAGE];
    bool any = false;
    uint32_t head;

    while ((head = atomic_load(&p->in_head)) != atomic_load(&p->in_tail)) {
        memcpy(bytes, p->inbox[head % VERBS_CONTROL], sizeof(bytes));
        atomic_store(&p->in_head, head + 1);
        window_see(&p->control);
        any = true;
        if (p->stage != VERBS_DEAD)
            handle(p, bytes);
    }
    if (any)
        verbs_kick(p); /* credits may be due */
}
