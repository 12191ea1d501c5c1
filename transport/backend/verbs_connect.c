/*
 * Connections between processes, by rdma_cm, in the port space of its own
 * that has the numbers of TCP.
 *
 * The accepting end listens wherever the application does. The other end
 * asks on the first meeting with that address; later meetings use the same
 * connection. Everything is an event of one channel, and nothing waits.
 * Events only change a peer's stage or mark it failed: what has failed is
 * buried and released from on_tell() of verbs.c, never from inside an event.
 */
#include "transport/backend/verbs_private.h"

#include <stdlib.h>
#include <string.h>

#include "transport/pause.h"

enum {
    RESOLVE_MS = 2000,
    ACK_TIMEOUT = 14, /* 4.096 us * 2^14 = 67 ms */
    RETRIES = 6,      /* not 7, which soft-RoCE takes for no end */
    BACKLOG = 64
};

static const uint8_t greeting[8] = {'F', 'S', 'K', 'V', CONTROL_VERSION};

static struct verbs_peer *peer_make(struct verbs *v)
{
    struct verbs_peer *p = calloc(1, sizeof(*p));

    if (p == NULL)
        return NULL;
    p->peer.ops = &verbs_ops;
    p->refs = 1;
    p->verbs = v;
    if (verbs_queue_init(p) < 0) {
        verbs_peer_put(p);
        return NULL;
    }
    p->next = v->peers;
    v->peers = p;
    return p;
}

void verbs_peer_put(struct verbs_peer *p)
{
    if (atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    verbs_queue_fini(p);
    verbs_device_put(p->device);
    free(p);
}

static void fail_because(struct verbs_peer *p, enum reason why)
{
    if (p->why == REASON_NONE)
        p->why = why;
    verbs_fail(p);
}

/* Everything but the connection itself, once the device is known. */
static enum reason prepare(struct verbs_peer *p)
{
    size_t size = (VERBS_RECVS + VERBS_SEND_BUFFERS) * (size_t)VERBS_MESSAGE;
    struct ibv_qp_init_attr attr = {.qp_type = IBV_QPT_RC,
                                    .cap = {.max_send_wr = VERBS_SENDS,
                                            .max_recv_wr = VERBS_RECVS,
                                            .max_send_sge = 1,
                                            .max_recv_sge = 1}};
    uint8_t timeout = ACK_TIMEOUT;
    enum reason why;

    if (verbs_device_for(p->verbs, p->cm->verbs, &p->device) < 0)
        return REASON_NO_DEVICE;
    atomic_fetch_add(&p->device->refs, 1);
    if (verbs_device_admit(p) < 0)
        return REASON_LIMIT;
    p->pd = ibv_alloc_pd(p->device->context);
    if (p->pd == NULL)
        return REASON_LIMIT;
    why = verbs_buffers_make(p, size);
    if (why != REASON_NONE)
        return why;
    attr.send_cq = attr.recv_cq = p->device->cq;
    if (rdma_create_qp(p->cm, p->pd, &attr) != 0)
        return errno == ENOMEM ? REASON_MEMLOCK : REASON_LIMIT;
    /* Without it a lost peer is noticed after half a minute. */
    rdma_set_option(p->cm, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                    sizeof(timeout));
    return verbs_queue_receive(p) < 0 ? REASON_NO_MEMORY : REASON_NONE;
}

static struct rdma_conn_param parameters(void)
{
    return (struct rdma_conn_param){.private_data = greeting,
                                    .private_data_len = sizeof(greeting),
                                    .responder_resources = 1,
                                    .initiator_depth = 1,
                                    .retry_count = RETRIES,
                                    .rnr_retry_count = 7};
}

static void go_up(struct verbs_peer *p)
{
    p->stage = VERBS_UP;
    atomic_store(&p->up, true);
    verbs_kick(p);
    verbs_meet_up(p);
}

/* ---- the connecting end ---- */

static void address_of(uint8_t family, const uint8_t *bytes, uint16_t port,
                       struct sockaddr_storage *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (family == 4) {
        in->sin_family = AF_INET;
        in->sin_port = htobe16(port);
        memcpy(&in->sin_addr, bytes, 4);
    } else {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htobe16(port);
        memcpy(&in6->sin6_addr, bytes, 16);
    }
}

struct verbs_peer *verbs_connect(struct verbs *v,
                                 const struct connection_name *name,
                                 enum reason *why)
{
    struct verbs_peer *p = peer_make(v);
    struct sockaddr_storage from, to;

    *why = REASON_NO_MEMORY;
    if (p == NULL)
        return NULL;
    p->name = *name;
    p->served = true;
    *why = REASON_LIMIT;
    if (rdma_create_id(v->cm, &p->cm, p, RDMA_PS_TCP) != 0)
        goto release_peer;
    address_of(name->family, name->client, 0, &from);
    address_of(name->family, name->server, name->server_port, &to);
    *why = REASON_NO_ROUTE;
    if (rdma_resolve_addr(p->cm, (struct sockaddr *)&from,
                          (struct sockaddr *)&to, RESOLVE_MS) != 0)
        goto release_peer;
    p->stage = VERBS_RESOLVING;
    *why = REASON_NONE;
    return p;
release_peer:
    atomic_store(&p->failed, true);
    p->stage = VERBS_DEAD;
    verbs_release(p);
    return NULL;
}

static void address_resolved(struct verbs_peer *p)
{
    enum reason why = prepare(p);

    if (why != REASON_NONE)
        fail_because(p, why);
    else if (rdma_resolve_route(p->cm, RESOLVE_MS) != 0)
        fail_because(p, REASON_NO_ROUTE);
}

static void route_resolved(struct verbs_peer *p)
{
    struct rdma_conn_param param = parameters();

    p->stage = VERBS_CONNECTING;
    if (rdma_connect(p->cm, &param) != 0)
        fail_because(p, REASON_NO_ROUTE);
}

/* ---- the accepting end ---- */

static void refuse(struct verbs *v, struct rdma_cm_id *cm, enum reason why)
{
    uint8_t data[sizeof(greeting) + 1];

    v->refusal.here = cm->route.addr.src_storage;
    v->refusal.there = cm->route.addr.dst_storage;
    v->refusal.why = why;
    v->refusal.until_ns = clock_ns() + 2 * v->config.meet_ns;
    memcpy(data, greeting, sizeof(greeting));
    data[sizeof(greeting)] = (uint8_t)why;
    rdma_reject(cm, data, sizeof(data));
}

static bool is_at(const struct sockaddr_storage *a, uint8_t family,
                  const uint8_t *bytes)
{
    const struct sockaddr_in *in = (const void *)a;
    const struct sockaddr_in6 *in6 = (const void *)a;

    return family == 4
               ? a->ss_family == AF_INET && memcmp(&in->sin_addr, bytes, 4) == 0
               : a->ss_family == AF_INET6 &&
                     memcmp(&in6->sin6_addr, bytes, 16) == 0;
}

enum reason verbs_refused(const struct verbs *v,
                          const struct connection_name *name)
{
    const struct verbs_refusal *r = &v->refusal;
    /* The port is at the same place for both families. */
    const struct sockaddr_in *here = (const void *)&r->here;

    if (r->why == REASON_NONE || r->until_ns < clock_ns() ||
        here->sin_port != htobe16(name->server_port) ||
        !is_at(&r->here, name->family, name->server) ||
        !is_at(&r->there, name->family, name->client))
        return REASON_NONE;
    return r->why;
}

static bool greets(const struct rdma_conn_param *param, size_t len)
{
    return param->private_data != NULL && param->private_data_len >= len &&
           memcmp(param->private_data, greeting, 4) == 0;
}

/* The oldest connection that carries nothing makes room for a new one. */
static bool make_room(struct verbs *v)
{
    struct verbs_peer *idle = NULL;
    unsigned n = 0;

    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next) {
        n++;
        if (p->n_links == 0 && p->stage == VERBS_UP)
            idle = p;
    }
    if (n >= VERBS_PEERS - 1 && idle != NULL)
        fail_because(idle, REASON_LIMIT);
    return n < VERBS_PEERS;
}

static void requested(struct verbs *v, struct rdma_cm_event *e)
{
    struct rdma_conn_param param = parameters();
    struct verbs_peer *p = NULL;
    enum reason why = REASON_LIMIT;

    if (!greets(&e->param.conn, sizeof(greeting)) ||
        ((const uint8_t *)e->param.conn.private_data)[4] != CONTROL_VERSION)
        why = REASON_VERSION;
    else if (make_room(v))
        p = peer_make(v);
    if (p == NULL) {
        refuse(v, e->id, why);
        rdma_ack_cm_event(e);
        rdma_destroy_id(e->id);
        return;
    }
    p->cm = e->id;
    p->cm->context = p;
    rdma_ack_cm_event(e);
    why = prepare(p);
    p->stage = VERBS_CONNECTING;
    if (why != REASON_NONE) {
        refuse(v, p->cm, why);
        fail_because(p, why);
    } else if (rdma_accept(p->cm, &param) != 0) {
        fail_because(p, REASON_LINK_BROKEN);
    } else {
        go_up(p);
    }
}

static bool same_address(const struct sockaddr *a,
                         const struct sockaddr_storage *b, socklen_t len)
{
    return len <= sizeof(*b) && memcmp(a, b, len) == 0;
}

int verbs_listen(struct backend *backend, const struct sockaddr *address,
                 socklen_t len, bool on)
{
    struct verbs *v = (struct verbs *)backend;
    struct verbs_listener **at = &v->listeners, *l;
    struct sockaddr_storage copy = {0};
    int rc;

    if (v->cm == NULL)
        return 0;
    if (len > sizeof(copy))
        return -EINVAL;
    while (*at != NULL && !same_address(address, &(*at)->address, len))
        at = &(*at)->next;
    l = *at;
    if (l != NULL) {
        l->uses += on ? 1 : -1u;
        if (l->uses == 0) {
            *at = l->next;
            rdma_destroy_id(l->cm);
            free(l);
        }
        return 0;
    }
    if (!on)
        return 0;
    l = calloc(1, sizeof(*l));
    if (l == NULL)
        return -ENOMEM;
    memcpy(&copy, address, len);
    if (rdma_create_id(v->cm, &l->cm, NULL, RDMA_PS_TCP) != 0) {
        rc = -errno;
        goto free_listener;
    }
    if (rdma_bind_addr(l->cm, (struct sockaddr *)&copy) != 0 ||
        rdma_listen(l->cm, BACKLOG) != 0) {
        rc = -errno;
        goto destroy_id;
    }
    l->address = copy;
    l->uses = 1;
    l->next = v->listeners;
    v->listeners = l;
    return 0;
destroy_id:
    rdma_destroy_id(l->cm);
free_listener:
    free(l);
    return rc;
}

void verbs_listen_end(struct verbs *v)
{
    while (v->listeners != NULL) {
        struct verbs_listener *l = v->listeners;

        v->listeners = l->next;
        rdma_destroy_id(l->cm);
        free(l);
    }
}

/* ---- events ---- */

static enum reason why_rejected(const struct rdma_conn_param *param)
{
    if (!greets(param, sizeof(greeting) + 1))
        return REASON_NO_PEER_LIBRARY;
    return reason_from(
        ((const uint8_t *)param->private_data)[sizeof(greeting)]);
}

static void peer_event(struct verbs_peer *p, enum rdma_cm_event_type type,
                       enum reason rejected)
{
    switch (type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
        address_resolved(p);
        break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
        route_resolved(p);
        break;
    case RDMA_CM_EVENT_ESTABLISHED:
        p->established = true;
        if (p->stage == VERBS_CONNECTING && !atomic_load(&p->failed))
            go_up(p);
        break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
        fail_because(p, REASON_NO_ROUTE);
        break;
    case RDMA_CM_EVENT_REJECTED:
        fail_because(p, rejected);
        break;
    case RDMA_CM_EVENT_DISCONNECTED:
        atomic_store(&p->gone, true);
        fail_because(p, REASON_LINK_BROKEN);
        break;
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
        fail_because(p, REASON_LINK_BROKEN);
        break;
    default:
        break;
    }
}

void verbs_cm_ready(struct watch *watch, uint32_t events)
{
    struct verbs *v = watch->arg;
    struct rdma_cm_event *e;

    (void)events;
    while (rdma_get_cm_event(v->cm, &e) == 0) {
        enum rdma_cm_event_type type = e->event;
        struct verbs_peer *p = e->id->context;
        enum reason rejected = REASON_NONE;

        if (type == RDMA_CM_EVENT_CONNECT_REQUEST) {
            requested(v, e);
            continue;
        }
        if (type == RDMA_CM_EVENT_REJECTED)
            rejected = why_rejected(&e->param.conn);
        rdma_ack_cm_event(e);
        if (p != NULL)
            peer_event(p, type, rejected);
    }
}

/* ---- the end ---- */

/* Its links carry nothing more. They live until their owners free them. */
void verbs_bury(struct verbs_peer *p, enum reason why)
{
    const struct link_events *events = p->verbs->events;

    if (p->why != REASON_NONE)
        why = p->why;
    if (p->cm != NULL && p->cm->qp != NULL) {
        /* Only what is established can be hung up, and the last word of its
         * making may still be under way. */
        if (!p->established && atomic_load(&p->up))
            rdma_notify(p->cm, IBV_EVENT_COMM_EST);
        rdma_disconnect(p->cm); /* what was posted is flushed */
        verbs_poll(p->device, true);
    }
    verbs_inbox(p);
    p->stage = VERBS_DEAD; /* what completes from now on is not heard */
    for (unsigned i = 0; i < VERBS_LINKS; i++) {
        struct verbs_link *l = p->link[i];
        void *owner = l != NULL ? l->link.owner : NULL;

        if (l == NULL || !l->ready)
            continue;
        verbs_notify(l);
        events->broken(owner, REASON_LINK_BROKEN);
        if (p->link[i] == l)
            events->channel_dead(owner);
    }
    verbs_meet_gone(p, why);
}

void verbs_release(struct verbs_peer *p)
{
    struct verbs_peer **at = &p->verbs->peers;

    while (*at != NULL && *at != p)
        at = &(*at)->next;
    if (*at == NULL)
        return;
    *at = p->next;
    verbs_meet_forget(p);
    lock_enter(&p->queue_lock);
    atomic_store(&p->up, false);
    lock_leave(&p->queue_lock);
    if (p->cm != NULL && p->cm->qp != NULL)
        rdma_destroy_qp(p->cm);
    if (p->device != NULL)
        verbs_device_leave(p);
    atomic_store(&p->receives, 0);
    verbs_chunks_free(p);
    verbs_buffers_free(p);
    if (p->pd != NULL)
        ibv_dealloc_pd(p->pd);
    p->pd = NULL;
    if (p->cm != NULL)
        rdma_destroy_id(p->cm);
    p->cm = NULL;
    verbs_peer_put(p);
}
