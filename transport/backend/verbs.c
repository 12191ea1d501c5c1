/*
 * The RDMA transport's instance: what one process has of it, and what other
 * threads leave for the helper.
 *
 * Application threads read completions, and so find messages and failures
 * that only the helper may handle. They leave them where they are (a peer's
 * inbox, its `failed`) and ring an eventfd; the helper looks at all peers.
 */
#include "transport/backend/verbs_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "transport/kernel_calls.h"

int verbs_keep(struct verbs *v, int *fd)
{
    int kept = loop_calls(v->loop)->keep(*fd);

    if (kept < 0)
        return kept;
    *fd = kept;
    return 0;
}

void verbs_tell(struct verbs *v)
{
    uint64_t one = 1;
    int saved = errno;

    if (!atomic_exchange(&v->told, true))
        (void)!syscall(SYS_write, v->tell.fd, &one, sizeof(one));
    errno = saved;
}

static void on_tell(struct watch *watch, uint32_t events)
{
    struct verbs *v = watch->arg;
    struct verbs_peer *next;
    uint64_t count;

    (void)events;
    (void)!syscall(SYS_read, v->tell.fd, &count, sizeof(count));
    atomic_store(&v->told, false);
    for (struct verbs_peer *p = v->peers; p != NULL; p = p->next)
        verbs_inbox(p);
    for (struct verbs_peer *p = v->peers; p != NULL; p = next) {
        next = p->next;
        if (!atomic_load(&p->failed))
            continue;
        atomic_fetch_add(&p->refs, 1);
        if (p->stage != VERBS_DEAD)
            verbs_bury(p, REASON_LINK_BROKEN);
        next = p->next; /* what it called may have released others */
        if (p->n_links == 0)
            verbs_release(p);
        verbs_peer_put(p);
    }
}

static bool any_device(void)
{
    int n = 0;
    struct ibv_device **list = ibv_get_device_list(&n);

    if (list != NULL)
        ibv_free_device_list(list);
    return n > 0;
}

static enum reason verbs_suits(struct backend *backend,
                               const struct connection_name *name)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    struct verbs *v = (struct verbs *)backend;

    if (v->cm == NULL)
        return REASON_NO_DEVICE;
    if (name->family == 4 ? name->server[0] == 127 || name->client[0] == 127
                          : memcmp(name->server, loopback6, 16) == 0)
        return REASON_NO_ROUTE;
    return REASON_NONE;
}

/* Descriptors are opened only where there is a device. */
static int open_channel(struct verbs *v)
{
    int flags, rc;

    if (!any_device())
        return 0;
    v->cm = rdma_create_event_channel();
    if (v->cm == NULL)
        return errno == ENODEV || errno == ENOENT ? 0 : -errno;
    rc = verbs_keep(v, &v->cm->fd);
    flags = kernel_fcntl(v->cm->fd, F_GETFL, 0);
    if (rc == 0)
        rc = kernel_fcntl(v->cm->fd, F_SETFL, flags | O_NONBLOCK);
    v->cm_watch.fd = v->cm->fd;
    v->cm_watch.ready = verbs_cm_ready;
    v->cm_watch.arg = v;
    return rc < 0 ? rc : loop_add(v->loop, &v->cm_watch, EPOLLIN);
}

static void verbs_destroy(struct backend *backend)
{
    struct verbs *v = (struct verbs *)backend;
    const struct loop_calls *calls;

    if (v == NULL)
        return;
    calls = loop_calls(v->loop);
    while (v->meetings != NULL)
        verbs_meeting_cancel(v->meetings);
    while (v->peers != NULL) {
        struct verbs_peer *p = v->peers;

        atomic_store(&p->failed, true);
        verbs_bury(p, REASON_LINK_BROKEN);
        verbs_release(p);
    }
    verbs_listen_end(v);
    while (v->devices != NULL)
        verbs_device_close(v->devices);
    if (v->cm != NULL) {
        loop_remove(v->loop, &v->cm_watch);
        calls->close(v->cm->fd);
        v->cm->fd = -1;
        rdma_destroy_event_channel(v->cm);
    }
    if (v->tell.fd >= 0) {
        loop_remove(v->loop, &v->tell);
        calls->close(v->tell.fd);
    }
    if (v->wake_fd >= 0)
        calls->close(v->wake_fd);
    free(v);
}

static int verbs_create(struct loop *loop, const struct backend_config *config,
                        const struct link_events *events, struct backend **out)
{
    const struct loop_calls *calls = loop_calls(loop);
    struct verbs *v = calloc(1, sizeof(*v));
    int rc;

    if (v == NULL)
        return -ENOMEM;
    v->backend.ops = &fastsock_backend_verbs;
    v->loop = loop;
    v->config = *config;
    v->events = events;
    v->tell.fd =
        calls->keep((int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
    v->wake_fd = calls->keep((int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
    rc = v->tell.fd < 0 || v->wake_fd < 0 ? -EMFILE : 0;
    v->tell.ready = on_tell;
    v->tell.arg = v;
    if (rc == 0)
        rc = loop_add(loop, &v->tell, EPOLLIN);
    if (rc == 0)
        rc = open_channel(v);
    if (rc < 0) {
        verbs_destroy(&v->backend);
        return rc;
    }
    *out = &v->backend;
    return 0;
}

const struct backend_ops fastsock_backend_verbs = {
    .name = "verbs",
    .version = BACKEND_VERSION,
    .create = verbs_create,
    .destroy = verbs_destroy,
    .suits = verbs_suits,
    .listen = verbs_listen,
    .meeting_start = verbs_meeting_start,
    .meeting_cancel = verbs_meeting_cancel,
};
