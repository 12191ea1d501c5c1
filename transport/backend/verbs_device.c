/*
 * An RDMA device: its completion queue, and who is responsible for looking
 * at it.
 *
 * Invariant: the queue is armed, or an event lies unread in its channel. So
 * whoever sleeps on the channel's descriptor misses nothing. Who takes an
 * event arms the queue again, then reads the queue until it is empty and
 * wakes by their bells those whom it concerns.
 *
 * Somebody always looks. While application threads read the queue, the helper
 * leaves the event where it is, so that no interrupt comes meanwhile, and
 * looks again after a moment; when they have stopped it takes the event. With
 * nothing unread there is no timer.
 */
#include "transport/backend/verbs_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { BATCH = 16, LATER_NS = 1000000, CQ_LEAST = 1024 };

/* poll_lock held. Reads until nothing is left. */
static void read_queue(struct verbs_device *d)
{
    struct ibv_wc wc[BATCH];
    int n;

    if (d->cq == NULL)
        return;
    while ((n = ibv_poll_cq(d->cq, BATCH, wc)) > 0) {
        for (int i = 0; i < n; i++)
            verbs_completed(d, &wc[i]);
        for (int i = 0; i < n; i++) {
            uint16_t id = (uint16_t)(wc[i].wr_id >> 48);
            struct verbs_peer *p = d->peer[id % VERBS_PEERS];

            if (p != NULL && p->touched) {
                p->touched = false;
                verbs_kick(p);
            }
        }
    }
}

void verbs_poll(struct verbs_device *d, bool must)
{
    if (must)
        atomic_store(&d->again, true);
    else
        atomic_fetch_add_explicit(&d->polls, 1, memory_order_relaxed);
    do {
        if (!lock_try_enter(&d->poll_lock))
            return; /* its holder looks at `again` afterwards */
        atomic_store(&d->again, false);
        read_queue(d);
        lock_leave(&d->poll_lock);
        full_fence();
    } while (atomic_load(&d->again));
}

/* event_lock held. False: there is none. */
static bool take_events(struct verbs_device *d)
{
    struct ibv_cq *cq;
    void *context;
    bool taken = false;

    if (d->cq == NULL)
        return false;
    while (ibv_get_cq_event(d->channel, &cq, &context) == 0) {
        ibv_ack_cq_events(cq, 1);
        taken = true;
    }
    if (taken)
        ibv_req_notify_cq(d->cq, 0);
    return taken;
}

/* One that comes just after its holder has looked is not told of twice. */
void verbs_take_event(struct verbs_device *d)
{
    bool taken = false;

    atomic_store(&d->event_due, true);
    do {
        if (!lock_try_enter(&d->event_lock))
            break; /* its holder looks at `event_due` afterwards */
        atomic_store(&d->event_due, false);
        taken |= take_events(d);
        lock_leave(&d->event_lock);
        full_fence();
    } while (atomic_load(&d->event_due));
    if (taken)
        verbs_poll(d, true);
}

/* Helper. True: an application is at it, look again later. */
static bool others_look(struct verbs_device *d)
{
    uint32_t polls = atomic_load(&d->polls);
    bool moved = polls != d->seen_polls;

    d->seen_polls = polls;
    return moved;
}

static bool event_waits(const struct verbs_device *d)
{
    struct pollfd p = {.fd = d->channel->fd, .events = POLLIN};

    return kernel_poll(&p, 1, 0) == 1;
}

static void on_later(struct timer *timer)
{
    struct verbs_device *d = timer->arg;

    if (!event_waits(d))
        return;
    if (others_look(d))
        loop_timer_set(d->verbs->loop, timer, clock_ns() + LATER_NS);
    else
        verbs_take_event(d);
}

static void on_events(struct watch *watch, uint32_t events)
{
    struct verbs_device *d = watch->arg;

    (void)events;
    if (others_look(d) || atomic_load(&d->sleepers) > 0)
        loop_timer_set(d->verbs->loop, &d->later, clock_ns() + LATER_NS);
    else
        verbs_take_event(d);
}

/* The queue pairs of a device that is lost fail one by one, or all here. */
static void on_async(struct watch *watch, uint32_t events)
{
    struct verbs_device *d = watch->arg;
    struct ibv_async_event e;

    (void)events;
    while (ibv_get_async_event(d->context, &e) == 0) {
        struct ibv_qp *qp = NULL;
        bool all = false;

        switch (e.event_type) {
        case IBV_EVENT_QP_FATAL:
        case IBV_EVENT_QP_REQ_ERR:
        case IBV_EVENT_QP_ACCESS_ERR:
            qp = e.element.qp;
            break;
        case IBV_EVENT_CQ_ERR:
        case IBV_EVENT_DEVICE_FATAL:
            all = true;
            break;
        default:
            break;
        }
        for (int i = 0; i < VERBS_PEERS; i++) {
            struct verbs_peer *p = d->peer[i];

            if (p != NULL && (all || (qp != NULL && p->cm->qp == qp)))
                verbs_fail(p);
        }
        ibv_ack_async_event(&e);
    }
}

static int unblock(int fd)
{
    int flags = kernel_fcntl(fd, F_GETFL, 0);

    return flags < 0 ? flags : kernel_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int add_watches(struct verbs_device *d)
{
    struct epoll_event e = {.events = EPOLLIN};
    struct verbs *v = d->verbs;
    int rc;

    d->events.fd = d->channel->fd;
    d->events.ready = on_events;
    d->async.fd = d->context->async_fd;
    d->async.ready = on_async;
    d->events.arg = d->async.arg = d->later.arg = d;
    d->later.expired = on_later;
    rc = loop_add(v->loop, &d->events, EPOLLIN | EPOLLET);
    if (rc == 0)
        rc = loop_add(v->loop, &d->async, EPOLLIN);
    if (rc == 0 && syscall(SYS_epoll_ctl, v->wake_fd, EPOLL_CTL_ADD,
                           d->channel->fd, &e) < 0)
        rc = -errno;
    return rc;
}

static int open_queue(struct verbs_device *d)
{
    int rc;

    d->channel = ibv_create_comp_channel(d->context);
    if (d->channel == NULL)
        return -EMFILE;
    rc = verbs_keep(d->verbs, &d->channel->fd);
    if (rc == 0)
        rc = unblock(d->channel->fd);
    if (rc == 0)
        rc = verbs_keep(d->verbs, &d->context->cmd_fd);
    if (rc == 0)
        rc = verbs_keep(d->verbs, &d->context->async_fd);
    if (rc == 0)
        rc = unblock(d->context->async_fd);
    if (rc < 0)
        return rc;
    d->cq = ibv_create_cq(d->context, CQ_LEAST, d, d->channel, 0);
    if (d->cq == NULL)
        return -ENOMEM;
    if (ibv_req_notify_cq(d->cq, 0) != 0)
        return -EIO;
    return add_watches(d);
}

void verbs_device_put(struct verbs_device *d)
{
    if (d != NULL && atomic_fetch_sub(&d->refs, 1) == 1)
        free(d);
}

/* Its peers have been released. */
void verbs_device_close(struct verbs_device *d)
{
    struct verbs *v = d->verbs;
    struct verbs_device **at = &v->devices;
    struct epoll_event e = {0};
    struct ibv_cq *cq;

    while (*at != NULL && *at != d)
        at = &(*at)->next;
    if (*at == d)
        *at = d->next;
    loop_remove(v->loop, &d->events);
    loop_remove(v->loop, &d->async);
    loop_timer_clear(v->loop, &d->later);
    lock_enter(&d->event_lock);
    lock_enter(&d->poll_lock);
    cq = d->cq;
    d->cq = NULL;
    lock_leave(&d->poll_lock);
    lock_leave(&d->event_lock);
    if (cq != NULL)
        ibv_destroy_cq(cq);
    if (d->channel != NULL) {
        syscall(SYS_epoll_ctl, v->wake_fd, EPOLL_CTL_DEL, d->channel->fd, &e);
        /* Ours to close: the library's own close() may be refused. */
        loop_calls(v->loop)->close(d->channel->fd);
        d->channel->fd = -1;
        ibv_destroy_comp_channel(d->channel);
    }
    verbs_device_put(d);
}

int verbs_device_for(struct verbs *v, struct ibv_context *context,
                     struct verbs_device **out)
{
    struct verbs_device *d;
    int rc;

    for (d = v->devices; d != NULL; d = d->next)
        if (d->context == context) {
            *out = d;
            return 0;
        }
    d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->refs = 1;
    d->verbs = v;
    d->context = context;
    rc = open_queue(d);
    if (rc < 0) {
        verbs_device_close(d);
        return rc;
    }
    d->next = v->devices;
    v->devices = d;
    *out = d;
    return 0;
}

void verbs_lock_tables(struct verbs_peer *p)
{
    lock_enter(&p->device->poll_lock);
    lock_enter(&p->queue_lock);
}

/* As the holders of these locks do: what was left for us is done now. */
void verbs_unlock_tables(struct verbs_peer *p)
{
    lock_leave(&p->queue_lock);
    lock_leave(&p->device->poll_lock);
    full_fence();
    if (atomic_load(&p->work))
        verbs_kick(p);
    if (atomic_load(&p->device->again))
        verbs_poll(p->device, true);
}

/* Room in the completion queue, and an id. */
int verbs_device_admit(struct verbs_peer *p)
{
    enum { NEED = VERBS_RECVS + VERBS_SENDS };
    struct verbs_device *d = p->device;
    int rc = -ENOSPC;

    lock_enter(&d->poll_lock);
    if (d->cq_used + NEED > d->cq->cqe &&
        ibv_resize_cq(d->cq, 2 * (d->cq_used + NEED)) != 0 &&
        ibv_resize_cq(d->cq, d->cq_used + NEED) != 0)
        goto give_lock;
    for (int i = 0; i < VERBS_PEERS && rc < 0; i++) {
        p->id = ++d->next_id;
        if (d->peer[p->id % VERBS_PEERS] == NULL)
            rc = 0;
    }
    if (rc == 0) {
        d->peer[p->id % VERBS_PEERS] = p;
        d->cq_used += NEED;
        p->charged = true;
    }
give_lock:
    lock_leave(&d->poll_lock);
    full_fence();
    if (atomic_load(&d->again))
        verbs_poll(d, true);
    return rc;
}

/* Completions of this peer are passed over from now on. */
void verbs_device_leave(struct verbs_peer *p)
{
    struct verbs_device *d = p->device;

    if (!p->charged)
        return;
    lock_enter(&d->poll_lock);
    read_queue(d);
    d->peer[p->id % VERBS_PEERS] = NULL;
    d->cq_used -= VERBS_RECVS + VERBS_SENDS;
    p->charged = false;
    lock_leave(&d->poll_lock);
    full_fence();
    if (atomic_load(&d->again))
        verbs_poll(d, true);
}
