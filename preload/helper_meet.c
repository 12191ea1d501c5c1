/*
 * Meeting the other end: who and where a connection is, which transports may
 * carry it, and one rendezvous after the other until one of them gives a
 * link. All of it in the helper thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config/log.h"
#include "preload/backends.h"
#include "preload/helper_private.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    AGAIN_NS = 100000000, /* after a failed rendezvous, doubled */
    NOT_YET_NS = 1000000, /* the connection is not made yet */
    SOON_NS = 300000000,  /* the peer may just be opening its device */
    SOON_MOST = 2,
    FAILURES_MOST = 9,
};

/* ---- who and where ---- */

static void fold(const struct sockaddr_storage *a, uint8_t addr[16],
                 uint16_t *port, uint8_t *family)
{
    const struct sockaddr_in *in4 = (const void *)a;
    const struct sockaddr_in6 *in6 = (const void *)a;

    memset(addr, 0, 16);
    if (a->ss_family == AF_INET) {
        *family = 4;
        memcpy(addr, &in4->sin_addr, 4);
        *port = ntohs(in4->sin_port);
    } else if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        *family = 4;
        memcpy(addr, in6->sin6_addr.s6_addr + 12, 4);
        *port = ntohs(in6->sin6_port);
    } else {
        *family = 6;
        memcpy(addr, &in6->sin6_addr, 16);
        *port = ntohs(in6->sin6_port);
    }
}

/*
 * The kernel closes a file only when the last call on it has returned: with one
 * of ours under way (it may have to wait for the socket) the peer would find a
 * closed connection open. So close() takes the locks before, and waits.
 */
static bool ask_kernel(struct endpoint *e)
{
    socklen_t local = sizeof(e->local), peer = sizeof(e->peer);
    struct stat st;
    bool ok;

    stream_lock_all(&e->stream);
    ok = !atomic_load(&e->left) &&
         kernel_getsockname(e->stream.fd, &e->local, &local) == 0 &&
         kernel_getpeername(e->stream.fd, &e->peer, &peer) == 0;
    if (ok && fstat(e->stream.fd, &st) == 0)
        e->inode = st.st_ino;
    stream_unlock_all(&e->stream);
    return ok;
}

/* Names, addresses, rule and settings, once. The reason why not, or NONE. */
static enum reason get_to_know(struct endpoint *e)
{
    struct connection_name *n = &e->name;
    uint8_t family;
    const struct rule *rule;
    bool client = e->stream.h.initiator;

    if (!ask_kernel(e))
        return REASON_NOT_CONNECTED;
    if (e->local.ss_family != AF_INET && e->local.ss_family != AF_INET6)
        return REASON_NOT_TCP;
    fold(client ? &e->peer : &e->local, n->server, &n->server_port, &n->family);
    fold(client ? &e->local : &e->peer, n->client, &n->client_port, &family);
    e->known = true;
    rule =
        rules_match(&process.settings.rules, process.program, client,
                    (struct sockaddr *)&e->local, (struct sockaddr *)&e->peer);
    rule_apply(rule, &process.settings, &e->settings);
    if (!e->settings.accelerate)
        return rule != NULL ? REASON_OFF_BY_RULE : REASON_OFF_BY_SETTING;
    if (n->server_port == n->client_port &&
        memcmp(n->server, n->client, 16) == 0)
        return REASON_NOT_TCP; /* connected to itself */
    return REASON_NONE;
}

void helper_stays(struct endpoint *e, enum reason why)
{
    atomic_store(&e->ineligible, true);
    e->stream.why = why;
    endpoint_forget_proof(e);
    stats_update(e);
}

static void some_more_calls(struct endpoint *e)
{
    atomic_store(&e->countdown, (int32_t)process.settings.upgrade_after + 1);
}

/* ---- addresses at which peers may find us ---- */

static bool same_address(const struct sockaddr_storage *a,
                         const struct sockaddr_storage *b)
{
    uint8_t addr[2][16], family[2];
    uint16_t port[2];

    fold(a, addr[0], &port[0], &family[0]);
    fold(b, addr[1], &port[1], &family[1]);
    return family[0] == family[1] && port[0] == port[1] &&
           memcmp(addr[0], addr[1], 16) == 0;
}

static socklen_t length_of(const struct sockaddr_storage *a)
{
    return a->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                   : sizeof(struct sockaddr_in6);
}

/* 0 or -errno: peers do not find us there, and it is not tried again. */
static int listen_at(struct backend *b, const struct sockaddr_storage *at)
{
    struct listening *free_place = NULL;
    int rc;

    for (int i = 0; i < HELPER_LISTENING; i++) {
        struct listening *l = &helper.listening[i];

        if (l->backend == b && same_address(&l->at, at))
            return l->error;
        if (l->backend == NULL && free_place == NULL)
            free_place = l;
    }
    if (free_place == NULL)
        return 0;
    rc = b->ops->listen(b, (const struct sockaddr *)at, length_of(at), true);
    if (rc < 0)
        log_info("%s: peers cannot find this process (%s)", b->ops->name,
                 strerror(-rc));
    lock_take(&helper.lock);
    free_place->backend = b; /* also after a failure: not tried each time */
    free_place->at = *at;
    free_place->error = rc;
    free_place->ends = false;
    lock_give(&helper.lock);
    return rc;
}

void helper_listen(struct endpoint *e)
{
    const char *at;
    struct backend *b;
    enum reason why;

    if (e->closing || get_to_know(e) != REASON_NONE)
        return;
    for (at = e->settings.transports; *at != '\0';) {
        b = backends_next(&at, &e->name, &why);
        if (b == NULL || b->ops->suits(b, &e->name) != REASON_NONE)
            continue;
        if (b->ops->listen != NULL)
            listen_at(b, &e->local);
        return;
    }
}

void helper_stop_listening(uint16_t port)
{
    bool any = false;

    lock_enter(&helper.lock); /* perhaps this thread's, before a signal */
    for (int i = 0; i < HELPER_LISTENING; i++) {
        struct listening *l = &helper.listening[i];
        uint8_t addr[16], family;
        uint16_t its_port;

        if (l->backend == NULL)
            continue;
        fold(&l->at, addr, &its_port, &family);
        if (its_port == port)
            l->ends = any = true;
    }
    lock_leave(&helper.lock);
    if (any) {
        atomic_store(&helper.some_end, true);
        loop_wake(helper.loop);
    }
}

void helper_end_listening(void)
{
    if (!atomic_exchange(&helper.some_end, false))
        return;
    for (int i = 0; i < HELPER_LISTENING; i++) {
        struct listening *l = &helper.listening[i];

        if (l->backend == NULL || !l->ends)
            continue;
        if (l->error == 0)
            l->backend->ops->listen(l->backend, (struct sockaddr *)&l->at,
                                    length_of(&l->at), false);
        lock_take(&helper.lock);
        l->backend = NULL;
        lock_give(&helper.lock);
    }
}

/* ---- meeting ---- */

static bool counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    struct endpoint *e = owner;
    bool settled =
        atomic_load(&e->stream.bare) == 0 && atomic_load(&e->stream.guard) == 0;

    *wrote = __atomic_load_n(&e->stream.h.wrote, __ATOMIC_RELAXED);
    *took = __atomic_load_n(&e->stream.h.took, __ATOMIC_RELAXED);
    return settled;
}

/* Of several reasons why not, the one that helps people most. */
static int telling(enum reason why)
{
    switch (why) {
    case REASON_NONE:
        return 0;
    case REASON_OTHER_HOST:
        return 1;
    case REASON_NO_DEVICE:
    case REASON_NO_MODULE:
        return 2;
    case REASON_NO_ROUTE:
        return 3;
    case REASON_NO_PROOF:
        return 4;
    case REASON_NO_PEER_LIBRARY:
        return 5;
    default:
        return 6;
    }
}

static void note(struct endpoint *e, const char *transport, enum reason why)
{
    log_debug("fd %d: not over %s: %s", e->stream.fd, transport,
              reason_token(why));
    stats_not_over(e, transport, why);
    if (telling(why) > telling(e->why_not))
        e->why_not = why;
}

static void many_more_calls(struct endpoint *e)
{
    if (e->failures < FAILURES_MOST)
        e->failures++;
    e->not_before_ns = clock_ns() + ((uint64_t)AGAIN_NS << e->failures);
    atomic_store(&e->countdown, endpoint_calls_after(e->failures));
}

/* No transport of the list: some other time, or never. */
static void nobody_met(struct endpoint *e)
{
    bool never =
        !e->tried &&
        (e->why_not == REASON_OTHER_HOST || e->why_not == REASON_NO_DEVICE ||
         e->why_not == REASON_NO_MODULE || e->why_not == REASON_FORK);

    e->stream.why = e->why_not;
    if (e->tried && e->stream.h.initiator && e->soon < SOON_MOST &&
        !e->closing && e->why_not == REASON_NO_PEER_LIBRARY &&
        backend_needs_proof(e->tried_with)) {
        helper_try_again_in(e, (uint64_t)SOON_NS << e->soon++);
        stats_update(e);
        return;
    }
    if (never) {
        helper_stays(e, e->why_not);
    } else {
        if (e->why_not == REASON_NO_PROOF)
            some_more_calls(e); /* with more bytes */
        else
            many_more_calls(e);
        stats_update(e);
    }
    helper_list_out(e); /* at last: a close() may free it from now on */
}

/*
 * A thread of the accepting end is in a call of the kernel: it says when it
 * can be asked.
 */
static void ask_later(struct endpoint *e)
{
    if (e->stream.h.initiator) {
        e->stream.why = REASON_BARE_READ;
        stats_update(e);
    } else {
        stream_be_willing(&e->stream);
        helper_ask(e, WORK_PROGRESS); /* it may have left meanwhile */
    }
}

static void drop_shown(struct endpoint *e)
{
    free(e->shown);
    e->shown = NULL;
    e->meeting.proof = NULL;
}

static void meet_next(struct endpoint *e);

static void met(struct meeting *m, struct link *link, enum reason why)
{
    struct endpoint *e = m->owner;

    drop_shown(e);
    if (link == NULL) {
        note(e, e->tried_name, why);
        meet_next(e);
        return;
    }
    e->failures = 0;
    stats_not_over(e, e->tried_name, REASON_NONE);
    if (!backend_needs_proof(e->tried_with))
        endpoint_forget_proof(e);
    stream_set_link(&e->stream, link);
    lock_take(&e->stream.rx);
    link->ops->watch(link, atomic_load(&e->watch));
    lock_give(&e->stream.rx);
    if (why == REASON_BARE_READ)
        ask_later(e);
    else if (e->stream.h.initiator)
        helper_try_again_in(e, 0);
}

/* What is known by now of the first bytes: the log itself still grows. */
static void show_proof(struct endpoint *e)
{
    lock_take(&e->proof_lock);
    if (e->proof != NULL) {
        e->shown = malloc(sizeof(*e->shown));
        if (e->shown != NULL)
            *e->shown = *e->proof;
    }
    lock_give(&e->proof_lock);
    e->meeting.proof = e->shown;
}

/* Why it cannot be asked for now. The accepting end lets the peer find it. */
static enum reason suits(struct backend *b, struct endpoint *e)
{
    enum reason why = b->ops->suits(b, &e->name);
    int rc = 0;

    if (why == REASON_NONE && b->ops->listen != NULL && !e->stream.h.initiator)
        rc = listen_at(b, &e->local);
    /* No device has that address. */
    if (rc == -ENODEV || rc == -EADDRNOTAVAIL)
        return REASON_NO_ROUTE;
    return why;
}

static void meet_next(struct endpoint *e)
{
    bool stop =
        e->closing || endpoint_stays(e) || atomic_load(&process.no_ups) > 0;
    struct backend *b;
    enum reason why;

    while (!stop && *e->at_transport != '\0') {
        const char *name = e->at_transport;

        b = backends_next(&e->at_transport, &e->name, &why);
        if (b != NULL)
            why = suits(b, e);
        if (b == NULL || why != REASON_NONE) {
            note(e, b != NULL ? b->ops->name : name, why);
            continue;
        }
        e->tried = true;
        e->tried_with = b;
        e->tried_name = b->ops->name;
        if (backend_needs_proof(b))
            show_proof(e);
        b->ops->meeting_start(b, &e->meeting);
        return;
    }
    if (stop && e->why_not == REASON_NONE)
        e->why_not = atomic_load(&e->held) ? REASON_ADMINISTRATOR : REASON_BUSY;
    nobody_met(e);
}

static void start_meeting(struct endpoint *e)
{
    e->meeting.name = e->name;
    e->meeting.initiator = e->stream.h.initiator;
    e->meeting.ring_size = (uint32_t)e->settings.ring_size;
    e->meeting.owner = e;
    e->meeting.counts = counts;
    e->meeting.done = met;
    e->stream.why = REASON_MEETING;
    e->at_transport = e->settings.transports;
    e->why_not = REASON_NONE;
    e->tried = false;
    stats_update(e);
    helper_list_in(e);
    meet_next(e);
}

void helper_meet(struct endpoint *e)
{
    enum reason why;

    if (e->closing || e->meeting.backend != NULL || e->stream.link != NULL ||
        atomic_load(&e->ineligible) || atomic_load(&e->shared) ||
        atomic_load(&e->set_shared) || atomic_load(&e->freed))
        return;
    if (helper.hold_new || atomic_load(&e->held)) {
        atomic_store(&e->held, true);
        e->stream.why = REASON_ADMINISTRATOR;
        stats_update(e);
        return;
    }
    if (atomic_load(&process.no_ups) > 0) {
        some_more_calls(e); /* somebody forks or spawns just now */
        return;
    }
    why = get_to_know(e);
    if (why == REASON_NOT_CONNECTED) {
        e->not_before_ns = clock_ns() + NOT_YET_NS;
        some_more_calls(e);
        return;
    }
    if (why != REASON_NONE) {
        helper_stays(e, why);
        return;
    }
    if (!e->waited && e->settings.upgrade_after > endpoint_first.calls) {
        uint64_t more = e->settings.upgrade_after - endpoint_first.calls;

        e->waited = true;
        atomic_store(&e->countdown,
                     more > INT32_MAX ? INT32_MAX : (int32_t)more);
        return;
    }
    start_meeting(e);
}

void helper_stop_meeting(struct endpoint *e)
{
    struct backend *b = e->meeting.backend;

    if (b != NULL)
        b->ops->meeting_cancel(&e->meeting);
    drop_shown(e);
}
