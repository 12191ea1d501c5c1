/*
 * Rendezvous on one host: how two ends of a TCP connection find out that both
 * carry the library.
 *
 * The accepting end binds an abstract UNIX name derived from the address pair
 * and the connecting end connects to it. Whoever comes too early must not
 * poll: a connecting end that finds nobody binds a name of its own ("wanted")
 * and the accepting end, once it has bound, pokes that name. Processes that
 * have met ask their channel first. An accepting end that is asked before it
 * is ready keeps the question for a while.
 *
 * Anybody may bind or connect to an abstract name, so each side looks at the
 * kernel's credentials before it says a word.
 */
#include "transport/backend/shm_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "config/log.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { NAMES_DELAY_NS = 3000000 }; /* for an answer on a known channel */

static void fail(struct meeting *m, enum reason why);

static struct shm *shm_of(const struct meeting *m)
{
    return (struct shm *)m->backend;
}

int meeting_address(const struct connection_name *name, char kind,
                    char out[108])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[37];
    char *p = out + 1;
    int n = 0;

    bytes[n++] = name->family;
    for (int i = 0; i < (name->family == 4 ? 4 : 16); i++)
        bytes[n++] = name->server[i];
    bytes[n++] = (uint8_t)(name->server_port >> 8);
    bytes[n++] = (uint8_t)name->server_port;
    for (int i = 0; i < (name->family == 4 ? 4 : 16); i++)
        bytes[n++] = name->client[i];
    bytes[n++] = (uint8_t)(name->client_port >> 8);
    bytes[n++] = (uint8_t)name->client_port;
    memset(out, 0, 108);
    memcpy(p, "fastsock.", 9);
    p += 9;
    *p++ = kind;
    *p++ = '.';
    for (int i = 0; i < n; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    return (int)(p - out);
}

static socklen_t address_of(const struct meeting *m, char kind,
                            struct sockaddr_un *un)
{
    un->sun_family = AF_UNIX;
    return (socklen_t)(sizeof(un->sun_family) +
                       (size_t)meeting_address(&m->name, kind, un->sun_path));
}

static void body_of(const struct meeting *m, struct hello_body *b)
{
    memset(b, 0, sizeof(*b));
    m->counts(m->owner, &b->wrote, &b->took);
    b->bell = shm_of(m)->config.bell_token;
    b->pid = (uint32_t)getpid();
    b->ring_size = m->ring_size;
    b->version_low = b->version_high = CONTROL_VERSION;
    b->family = m->name.family;
    memcpy(b->addr_server, m->name.server, 16);
    memcpy(b->addr_client, m->name.client, 16);
    b->port_server = m->name.server_port;
    b->port_client = m->name.client_port;
}

static bool same_name(const struct connection_name *n,
                      const struct hello_body *b)
{
    return n->family == b->family && n->server_port == b->port_server &&
           n->client_port == b->port_client &&
           memcmp(n->server, b->addr_server, 16) == 0 &&
           memcmp(n->client, b->addr_client, 16) == 0;
}

static void stop_listening(struct meeting *m)
{
    if (m->listener.fd < 0)
        return;
    loop_remove(shm_of(m)->loop, &m->listener);
    loop_calls(shm_of(m)->loop)->close(m->listener.fd);
    m->listener.fd = -1;
}

void meeting_cancel(struct meeting *m)
{
    struct meeting **at;

    if (!m->active)
        return;
    m->active = false;
    stop_listening(m);
    loop_timer_clear(shm_of(m)->loop, &m->timer);
    for (at = &shm_of(m)->meetings; *at != m; at = &(*at)->next)
        ;
    *at = m->next;
    m->backend = NULL;
}

static void finish(struct meeting *m, struct link *link, enum reason why)
{
    meeting_cancel(m);
    m->done(m, link, why);
}

static void fail(struct meeting *m, enum reason why)
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
    struct control_message m = {.type = MESSAGE_REFUSE,
                                .number = number,
                                .reason = why};

    channel_send(channel, &m, NULL, -1);
}

/* An arena of ours with a free slot, a new one if need be. */
static struct arena *room_for_link(struct channel *channel, uint32_t ring_size,
                                  int *slot)
{
    struct control_message m = {.type = MESSAGE_RINGS, .number = ring_size};
    struct arena *p;
    int fd;

    for (p = channel->arenas; p != NULL; p = p->next)
        if (p->side == 0 && p->ring_size == ring_size) {
            *slot = arena_free_slot(p);
            if (*slot >= 0)
                return p;
        }
    if (channel->next_arena > UINT16_MAX ||
        arena_host(channel, ring_size, &p, &fd) < 0)
        return NULL;
    m.link = p->id << 16;
    channel_send(channel, &m, NULL, fd);
    kernel_close(fd);
    *slot = 0;
    return p;
}

/* The accepting end says yes. */
static void welcome(struct meeting *m, struct channel *channel,
                    uint32_t number, const struct hello_body *theirs)
{
    struct control_message reply = {.type = MESSAGE_WELCOME,
                                    .number = number};
    struct shm *shm = shm_of(m);
    struct shm_link *l = NULL;
    struct hello_body ours;
    struct arena *p;
    int slot;

    if (!counts_fit(m, theirs)) {
        refuse(channel, number, REASON_FOREIGN_BYTES);
        fail(m, REASON_FOREIGN_BYTES);
        return;
    }
    if (!may_have_link(shm, m->ring_size)) {
        refuse(channel, number, REASON_LIMIT);
        fail(m, REASON_LIMIT);
        return;
    }
    p = room_for_link(channel, m->ring_size, &slot);
    if (p != NULL)
        l = link_take(p, (unsigned)slot);
    if (l == NULL) {
        refuse(channel, number, REASON_NO_MEMORY);
        fail(m, REASON_NO_MEMORY);
        return;
    }
    l->link.owner = m->owner;
    atomic_store(&p->owner[slot], m->owner);
    body_of(m, &ours);
    reply.link = p->id << 16 | (uint32_t)slot;
    channel_send(channel, &reply, &ours, -1);
    finish(m, &l->link, REASON_NONE);
}

static struct meeting *find_meeting(struct shm *shm,
                                    const struct hello_body *body)
{
    for (struct meeting *m = shm->meetings; m != NULL; m = m->next)
        if (!m->initiator && same_name(&m->name, body))
            return m;
    return NULL;
}

void meet_hello(struct channel *channel, const struct control_message *msg,
                const struct hello_body *body)
{
    struct shm *shm = channel->shm;
    struct meeting *m = find_meeting(shm, body);
    struct early_hello *e;

    if (body->version_low > CONTROL_VERSION ||
        body->version_high < CONTROL_VERSION) {
        refuse(channel, (uint32_t)msg->number, REASON_VERSION);
        return;
    }
    if (m != NULL) {
        welcome(m, channel, (uint32_t)msg->number, body);
        return;
    }
    e = &shm->early[shm->at_early++ % 128];
    e->channel = channel;
    e->number = (uint32_t)msg->number;
    e->until_ns = clock_ns() + shm->config.meet_ns;
    e->body = *body;
}

static struct meeting *by_number(struct shm *shm, uint64_t number)
{
    for (struct meeting *m = shm->meetings; m != NULL; m = m->next)
        if (m->initiator && m->number == number)
            return m;
    return NULL;
}

/* Remember whom to ask first for the next connection to that address. */
static void remember(struct channel *channel, const struct meeting *m)
{
    unsigned i = channel->at_served;

    for (unsigned k = 0; k < channel->n_served; k++)
        if (channel->served[k].family == m->name.family &&
            channel->served[k].port == m->name.server_port &&
            memcmp(channel->served[k].addr, m->name.server, 16) == 0)
            return;
    channel->served[i].family = m->name.family;
    channel->served[i].port = m->name.server_port;
    memcpy(channel->served[i].addr, m->name.server, 16);
    channel->at_served = (i + 1) % 8;
    if (channel->n_served < 8)
        channel->n_served++;
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
    struct meeting *m = by_number(channel->shm, msg->number);
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
        channel_send(channel, &bye, NULL, -1);
        if (m != NULL)
            fail(m, why);
        return;
    }
    l->link.owner = m->owner;
    atomic_store(&p->owner[idx], m->owner);
    remember(channel, m);
    finish(m, &l->link, REASON_NONE);
}

void meet_refused(struct channel *channel, const struct control_message *msg)
{
    struct meeting *m = by_number(channel->shm, msg->number);

    if (m != NULL)
        fail(m, reason_from(msg->reason));
}

void meet_channel_gone(struct channel *channel)
{
    for (int i = 0; i < 128; i++)
        if (channel->shm->early[i].channel == channel)
            channel->shm->early[i].channel = NULL;
}

static void say_hello(struct meeting *m, struct channel *channel)
{
    struct control_message hello = {.type = MESSAGE_HELLO,
                                    .number = m->number};
    struct hello_body body;

    body_of(m, &body);
    channel_send(channel, &hello, &body, -1);
}

/* 0 when a channel now carries our HELLO. */
static int call_on(struct meeting *m)
{
    struct sockaddr_un un;
    socklen_t len = address_of(m, 'm', &un);
    int fd = kernel_socket(AF_UNIX,
                           SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct channel *channel;
    uint32_t pid;
    int rc;

    if (fd < 0)
        return fd;
    rc = kernel_connect(fd, &un, len);
    if (rc < 0) {
        kernel_close(fd);
        return rc;
    }
    if (!channel_user_allowed(shm_of(m), fd, &pid)) {
        m->why = REASON_OTHER_USER;
        kernel_close(fd);
        return -EPERM;
    }
    channel = channel_open(shm_of(m), fd);
    if (channel == NULL)
        return -ENOMEM;
    channel->pid = pid;
    say_hello(m, channel);
    return 0;
}

static void on_wanted(struct watch *watch, uint32_t events)
{
    struct meeting *m = watch->arg;
    int fd = kernel_accept4(watch->fd, SOCK_CLOEXEC);

    (void)events;
    if (fd >= 0)
        kernel_close(fd);
    if (call_on(m) == 0)
        stop_listening(m);
}

static void on_caller(struct watch *watch, uint32_t events)
{
    struct meeting *m = watch->arg;
    struct shm *shm = shm_of(m);
    int fd = kernel_accept4(watch->fd, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct channel *channel;
    uint32_t pid;

    (void)events;
    if (fd < 0)
        return;
    if (!channel_user_allowed(shm, fd, &pid)) {
        m->why = REASON_OTHER_USER;
        kernel_close(fd);
        return;
    }
    channel = channel_open(shm, fd);
    if (channel != NULL)
        channel->pid = pid; /* its HELLO finds the meeting by name */
}

static int listen_as(struct meeting *m, char kind,
                     void (*ready)(struct watch *, uint32_t))
{
    const struct loop_calls *calls = loop_calls(shm_of(m)->loop);
    struct sockaddr_un un;
    socklen_t len = address_of(m, kind, &un);
    int fd = calls->keep(kernel_socket(
        AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int rc;

    if (fd < 0)
        return fd;
    rc = kernel_bind(fd, &un, len);
    if (rc == 0)
        rc = kernel_listen(fd, 8);
    m->listener.fd = fd;
    m->listener.ready = ready;
    m->listener.arg = m;
    if (rc == 0)
        rc = loop_add(shm_of(m)->loop, &m->listener, EPOLLIN);
    if (rc < 0) {
        calls->close(fd);
        m->listener.fd = -1;
    }
    return rc;
}

/* Names: the connecting end. */
static void seek(struct meeting *m)
{
    int rc = call_on(m);

    if (rc == 0)
        return;
    if (rc == -EPERM || listen_as(m, 'w', on_wanted) < 0) {
        fail(m, REASON_NO_PEER_LIBRARY);
        return;
    }
    if (call_on(m) == 0) /* it may have come between the two */
        stop_listening(m);
}

/* Names: the accepting end. */
static void offer(struct meeting *m)
{
    struct sockaddr_un un;
    socklen_t len = address_of(m, 'w', &un);
    int rc = listen_as(m, 'm', on_caller);
    int fd;

    if (rc < 0) {
        fail(m, rc == -EADDRINUSE ? REASON_OTHER_USER : REASON_LIMIT);
        return;
    }
    fd = kernel_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                       0);
    if (fd >= 0) {
        kernel_connect(fd, &un, len);
        kernel_close(fd);
    }
}

static void on_timer(struct timer *timer)
{
    struct meeting *m = timer->arg;

    if (m->named || clock_ns() >= m->until_ns) {
        fail(m, REASON_NO_PEER_LIBRARY);
        return;
    }
    m->named = true;
    loop_timer_set(shm_of(m)->loop, timer, m->until_ns);
    seek(m);
}

/* HELLO on the channels of processes known to serve that address. */
static int ask_known(struct meeting *m)
{
    int asked = 0;

    for (struct channel *c = shm_of(m)->channels; c != NULL; c = c->next)
        for (unsigned i = 0; i < c->n_served; i++)
            if (c->served[i].family == m->name.family &&
                c->served[i].port == m->name.server_port &&
                memcmp(c->served[i].addr, m->name.server, 16) == 0) {
                say_hello(m, c);
                asked++;
                break;
            }
    return asked;
}

static bool asked_already(struct meeting *m)
{
    uint64_t now = clock_ns();

    for (int i = 0; i < 128; i++) {
        struct early_hello *e = &shm_of(m)->early[i];
        struct channel *channel = e->channel;

        if (channel == NULL || e->until_ns < now ||
            !same_name(&m->name, &e->body))
            continue;
        e->channel = NULL;
        welcome(m, channel, e->number, &e->body);
        return true;
    }
    return false;
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
    m->number = ++shm->next_number;
    m->until_ns = now + shm->config.meet_ns;
    m->timer.expired = on_timer;
    m->timer.arg = m;
    m->next = shm->meetings;
    shm->meetings = m;
    if (!m->initiator) {
        loop_timer_set(shm->loop, &m->timer, m->until_ns);
        if (!asked_already(m))
            offer(m);
        return;
    }
    if (ask_known(m) > 0) {
        m->named = false;
        loop_timer_set(shm->loop, &m->timer, now + NAMES_DELAY_NS);
        return;
    }
    loop_timer_set(shm->loop, &m->timer, m->until_ns);
    seek(m);
}
