/*
 * The life of a socket: made, connected, accepted, shut down.
 */
#include "preload/intercept_io.h"

#include <netinet/in.h>

#include "preload/backends.h"
#include "preload/epoll_set.h"
#include "preload/helper.h"
#include "preload/stats.h"
#include "transport/kernel_calls.h"

/* The old owner of the number was closed past us. */
static void lost(struct object *old, int fd)
{
    struct endpoint *e = (struct endpoint *)old;

    if (old->kind == OBJECT_EPOLL)
        epoll_set_lost((struct epoll_set *)old);
    if (old->kind != OBJECT_ENDPOINT)
        return;
    if (atomic_fetch_sub(&e->fds, 1) > 1) {
        endpoint_leave_number(e, fd);
        return;
    }
    epoll_sets_forget(e, false);
    if (endpoint_is_alone(e)) {
        endpoint_free(e);
        return;
    }
    stream_lock_all(&e->stream);
    e->stream.fd = -1;
    e->stream.h.stage = STAGE_DEAD;
    e->closing = true;
    stream_unlock_all(&e->stream);
    helper_ask(e, WORK_CLOSE | WORK_LET_GO);
}

void intercept_new_fd(int fd, struct object *object)
{
    int saved = errno;

    if (fd >= 0 && process.ready) {
        struct object *old = fd_set_row(fd, object);

        if (unlikely(old != NULL && old->kind != OBJECT_OURS))
            lost(old, fd);
    }
    errno = saved;
}

static bool is_tcp(int domain, int type, int protocol)
{
    return (domain == AF_INET || domain == AF_INET6) &&
           (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
           (protocol == 0 || protocol == IPPROTO_TCP);
}

static void connected(struct endpoint *e)
{
    endpoint_connected(e);
    if (unlikely(atomic_load(&e->ineligible)))
        stats_update(e); /* why it was so before */
}

/* Standard descriptors are inherited and read by stdio: it stays on TCP. */
static struct endpoint *new_endpoint(int fd, int family, bool nonblocking,
                                     enum endpoint_state state)
{
    struct endpoint *e =
        endpoint_create(fd, family, nonblocking, ENDPOINT_NEW, false);

    if (e != NULL && fd <= 2) {
        atomic_store(&e->ineligible, true);
        e->stream.why = REASON_STDIO;
    }
    if (e != NULL && state == ENDPOINT_CONNECTED)
        connected(e);
    return e;
}

EXPORT int socket(int domain, int type, int protocol)
{
    int fd = REAL(socket)(domain, type, protocol);
    struct endpoint *e = NULL;

    if (fd < 0 || !process.ready || in_vfork_child())
        return fd;
    if (is_tcp(domain, type, protocol)) {
        ours_make_room(fd);
        e = new_endpoint(fd, domain, type & SOCK_NONBLOCK, ENDPOINT_NEW);
    }
    intercept_new_fd(fd, e != NULL ? &e->object : NULL);
    return fd;
}

EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
    int rc = REAL(socketpair)(domain, type, protocol, fds);

    if (rc == 0 && !in_vfork_child()) {
        intercept_new_fd(fds[0], NULL);
        intercept_new_fd(fds[1], NULL);
    }
    return rc;
}

EXPORT int listen(int fd, int backlog)
{
    struct endpoint *e = intercepted(fd);
    int rc = REAL(listen)(fd, backlog);

    if (rc == 0 && e != NULL)
        e->state = ENDPOINT_LISTENING;
    return rc;
}

static bool disconnects(const struct sockaddr *to, socklen_t len)
{
    return len >= sizeof(sa_family_t) &&
           len <= sizeof(struct sockaddr_storage) && readable(to, len) &&
           to->sa_family == AF_UNSPEC;
}

EXPORT int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
    struct endpoint *e = intercepted(fd);
    int rc, saved;

    if (e != NULL && e->state == ENDPOINT_CONNECTED && disconnects(addr, len))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    rc = REAL(connect)(fd, addr, len);
    if (e == NULL || e->state != ENDPOINT_NEW ||
        (rc < 0 && errno != EINPROGRESS && errno != EINTR))
        return rc;
    saved = errno;
    e->stream.h.initiator = true;
    connected(e);
    errno = saved;
    return rc;
}

/* A listening socket that we did not see being made (inherited). */
static int family_of_stranger(int fd)
{
    int protocol = 0, domain = 0;
    socklen_t len = sizeof(protocol);

    if (kernel_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 ||
        protocol != IPPROTO_TCP)
        return 0;
    len = sizeof(domain);
    if (kernel_getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return 0;
    return domain;
}

static int accepted(struct endpoint *listener, int fd, int flags)
{
    struct endpoint *e = NULL;
    int family, saved = errno;

    if (fd < 0 || !process.ready || in_vfork_child())
        return fd;
    family = listener != NULL ? listener->family : family_of_stranger(fd);
    if (family == AF_INET || family == AF_INET6)
        e = new_endpoint(fd, family, flags & SOCK_NONBLOCK, ENDPOINT_CONNECTED);
    if (e != NULL && listener != NULL) {
        e->rcvtimeo_ns = listener->rcvtimeo_ns;
        e->sndtimeo_ns = listener->sndtimeo_ns;
        if (listener->needs_kernel)
            endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    }
    intercept_new_fd(fd, e != NULL ? &e->object : NULL);
    if (unlikely(backends_between_hosts) && e != NULL &&
        (listener == NULL || !listener->announced)) {
        if (listener != NULL)
            listener->announced = true;
        helper_ask(e, WORK_LISTEN);
    }
    errno = saved;
    return fd;
}

EXPORT int accept4(int fd, struct sockaddr *restrict addr,
                   socklen_t *restrict len, int flags)
{
#ifdef PLANT_ACCEPT4_FLAGS
    flags = 0;
#endif
    return accepted(intercepted(fd), REAL(accept4)(fd, addr, len, flags),
                    flags);
}

EXPORT int accept(int fd, struct sockaddr *restrict addr,
                  socklen_t *restrict len)
{
    return accepted(intercepted(fd), REAL(accept)(fd, addr, len), 0);
}

/* Both ends have said that they are done: TCP forgets the peer then. */
static bool is_over(struct endpoint *e)
{
    bool over;

    if (!atomic_load(&e->stream.guard) || !atomic_load(&e->stream.shut_wr) ||
        stream_in_handler(&e->stream))
        return false;
    stream_lock_all(&e->stream);
    over = e->stream.h.end != HANDOVER_NONE;
    stream_unlock_all(&e->stream);
    return over;
}

EXPORT int getpeername(int fd, struct sockaddr *restrict addr,
                       socklen_t *restrict len)
{
    struct endpoint *e = intercepted(fd);

    if (unlikely(e != NULL) && is_over(e))
        return (int)posix_result(-ENOTCONN);
    return REAL(getpeername)(fd, addr, len);
}

EXPORT int shutdown(int fd, int how)
{
    struct endpoint *e = intercepted(fd);

    if (likely(e == NULL) || e->state != ENDPOINT_CONNECTED || how < SHUT_RD ||
        how > SHUT_RDWR)
        return REAL(shutdown)(fd, how);
    return (int)posix_result(stream_shutdown(&e->stream, how));
}

ALIAS(connect)
int __connect(int fd, const struct sockaddr *addr, socklen_t len);
ALIAS(socket)
int __socket(int domain, int type, int protocol) __THROW;
