/*
 * Bytes in and out by struct msghdr: recvmsg, sendmsg, and lists of them.
 *
 * What the application points to is looked at here before the kernel does, so
 * whatever cannot be read is left to the kernel, which says EFAULT. A list goes
 * on with the connection that it began with, whoever has the number meanwhile.
 */
#include "preload/intercept_io.h"

#include <string.h>
#include <time.h>

#include "preload/epoll_set.h"

static bool message_is_bad(const struct msghdr *msg)
{
    return !readable(msg, sizeof(*msg)) ||
           (msg->msg_name != NULL && (int)msg->msg_namelen < 0) ||
           vector_is_bad(msg->msg_iov, msg->msg_iovlen);
}

/* TCP does not care for the name, but the kernel reads it: __copy_msghdr(). */
static bool name_is_bad(const struct msghdr *msg)
{
    size_t len = msg->msg_namelen;

    if (likely(msg->msg_name == NULL || len == 0))
        return false;
    if (len > sizeof(struct sockaddr_storage))
        len = sizeof(struct sockaddr_storage);
    return !readable(msg->msg_name, len);
}

/* On the link. */
static ssize_t receive(struct endpoint *e, struct msghdr *msg, int flags)
{
    ssize_t rc = endpoint_recv(e, msg->msg_iov, (int)msg->msg_iovlen, flags);

    if (rc < 0)
        return rc;
    if (!writable(msg, sizeof(*msg)))
        return -EFAULT;
    if (msg->msg_name != NULL)
        msg->msg_namelen = 0;
    msg->msg_controllen = 0;
    msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
    return rc;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct endpoint *e = intercepted(fd);
    size_t len;

    if (likely(e == NULL) || message_is_bad(msg))
        return REAL(recvmsg)(fd, msg, flags);
    len = vector_length(msg->msg_iov, msg->msg_iovlen);
    if (!go_bare_in(e, len, flags))
        return posix_result(receive(e, msg, flags));
    return bare_done_in(e, REAL(recvmsg)(fd, msg, flags), msg->msg_iov,
                        msg->msg_iovlen, flags);
}

/* The kernel refuses the call at the first that is not whole: CMSG_OK(). */
static bool is_whole(const struct msghdr *msg, const struct cmsghdr *c)
{
    size_t at = (size_t)((const char *)c - (const char *)msg->msg_control);

    return c->cmsg_len >= CMSG_LEN(0) &&
           c->cmsg_len <= msg->msg_controllen - at;
}

/* A stream that is handed to somebody else returns to TCP first. */
static void look_for_passed_on(const struct msghdr *msg)
{
    if (!process.ready || in_vfork_child() ||
        !readable(msg->msg_control, msg->msg_controllen))
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL && is_whole(msg, c);
         c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            struct endpoint *passed;
            struct object *o;
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            passed = intercepted(fd);
#ifdef PLANT_PASSED_STALE
            passed = NULL;
#endif
            if (passed != NULL)
                endpoint_banish(passed, REASON_PASSED_ON);
            o = fd_find(fd);
            if (o != NULL && o->kind == OBJECT_EPOLL)
                epoll_set_to_kernel((struct epoll_set *)o);
        }
    }
}

static void look_at_control(const struct msghdr *msg, struct endpoint *e)
{
    if (likely(!readable(msg, sizeof(*msg)) || msg->msg_controllen == 0))
        return;
    look_for_passed_on(msg);
    if (e != NULL)
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct endpoint *e = intercepted(fd);

    look_at_control(msg, e);
    if (likely(e == NULL) || message_is_bad(msg) || name_is_bad(msg))
        return REAL(sendmsg)(fd, msg, flags);
    if (!go_bare_out(e, flags))
        return posix_result(
            endpoint_send(e, msg->msg_iov, (int)msg->msg_iovlen, flags));
    return bare_done_out(e, REAL(sendmsg)(fd, msg, flags), msg->msg_iov,
                         msg->msg_iovlen);
}

/* ---- lists ---- */

/* Up to the first that leads nowhere: the kernel gets as far, too. */
static unsigned reachable(const struct mmsghdr *msgs, unsigned n)
{
    if (n > VECTOR_MOST)
        n = VECTOR_MOST;
    while (n > 0 && !readable(msgs, n * sizeof(*msgs)))
        n--;
    return n;
}

/* How much is left until `end`. False: nothing. */
static bool time_is_left(struct timespec *timeout, const struct timespec *end)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    timeout->tv_sec = end->tv_sec - now.tv_sec;
    timeout->tv_nsec = end->tv_nsec - now.tv_nsec;
    if (timeout->tv_nsec < 0) {
        timeout->tv_nsec += 1000000000;
        timeout->tv_sec--;
    }
    if (timeout->tv_sec < 0)
        timeout->tv_sec = timeout->tv_nsec = 0;
    return timeout->tv_sec != 0 || timeout->tv_nsec != 0;
}

static ssize_t receive_one(struct endpoint *e, int fd, struct msghdr *msg,
                           int flags)
{
    if (message_is_bad(msg))
        return REAL(recvmsg)(fd, msg, flags) < 0 ? -errno : -EFAULT;
    return receive(e, msg, flags);
}

/* As in the kernel, the time-out is looked at between messages only. */
static int receive_list(struct endpoint *e, int fd, struct mmsghdr *msgs,
                        unsigned n, int flags, struct timespec *timeout)
{
    struct timespec end;
    unsigned done = 0;
    ssize_t rc = 0;

    if (timeout != NULL) {
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_nsec += timeout->tv_nsec;
        end.tv_sec += timeout->tv_sec + end.tv_nsec / 1000000000;
        end.tv_nsec %= 1000000000;
    }
    while (done < n) {
        rc = receive_one(e, fd, &msgs[done].msg_hdr, flags & ~MSG_WAITFORONE);
        if (rc < 0)
            break;
        msgs[done++].msg_len = (unsigned)rc;
        if (flags & MSG_WAITFORONE)
            flags |= MSG_DONTWAIT;
        if (timeout != NULL && !time_is_left(timeout, &end))
            break;
    }
    if (done == 0)
        return (int)rc;
    /* What ended it is the next call's: do_recvmmsg() of Linux. */
    if (rc < 0 && rc != -EAGAIN && !stream_in_handler(&e->stream))
        stream_keep_error(&e->stream, (int)-rc);
    return (int)done;
}

/* What the largest message has room for. */
static size_t most_room(const struct mmsghdr *msgs, unsigned n)
{
    size_t most = 0;

    for (unsigned i = 0; i < n && !message_is_bad(&msgs[i].msg_hdr); i++) {
        size_t len =
            vector_length(msgs[i].msg_hdr.msg_iov, msgs[i].msg_hdr.msg_iovlen);

        most = len > most ? len : most;
    }
    return most;
}

/* On TCP. It asks for an error of the socket before it looks for bytes. */
static int receive_bare(struct endpoint *e, int fd, struct mmsghdr *msgs,
                        unsigned n, int flags, struct timespec *timeout)
{
    int rc = REAL(recvmmsg)(fd, msgs, n, flags, timeout);

    flags &= ~MSG_WAITFORONE;
    /* One mark is held; each message but the last takes another. */
    for (int i = 0; i < rc; i++) {
        if (i < rc - 1)
            atomic_fetch_add(&e->stream.bare, 1);
        bare_done_in(e, msgs[i].msg_len, msgs[i].msg_hdr.msg_iov,
                     msgs[i].msg_hdr.msg_iovlen, flags);
    }
    if (rc <= 0)
        bare_done_in(e, -1, NULL, 0, flags);
    return rc;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
                    struct timespec *timeout)
{
    struct endpoint *e = intercepted(fd);
    unsigned known;
    size_t room;
    int rc;

    if (likely(e == NULL) || (known = reachable(msgs, n)) == 0)
        return REAL(recvmmsg)(fd, msgs, n, flags, timeout);
    if (timeout != NULL && !writable(timeout, sizeof(*timeout))) {
        if (readable(timeout, sizeof(*timeout)))
            kernel_only(fd); /* it receives, and then says EFAULT */
        return REAL(recvmmsg)(fd, msgs, n, flags, timeout);
    }
    if (timeout != NULL && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 ||
                            timeout->tv_nsec > 999999999))
        return (int)posix_result(-EINVAL);
    room = flags & MSG_PEEK ? most_room(msgs, known) : 0;
    if (go_bare_in(e, room, flags & ~MSG_WAITFORONE))
        return receive_bare(e, fd, msgs, n, flags, timeout);
    rc = -stream_take_error(&e->stream);
    if (rc == 0 && !endpoint_enter(e))
        rc = -EBADF;
    if (rc < 0)
        return (int)posix_result(rc);
    rc = receive_list(e, fd, msgs, known, flags, timeout);
    endpoint_leave(e);
    return (int)posix_result(rc);
}

static ssize_t send_one(struct endpoint *e, int fd, const struct msghdr *msg,
                        int flags)
{
    if (message_is_bad(msg) || name_is_bad(msg))
        return REAL(sendmsg)(fd, msg, flags) < 0 ? -errno : -EFAULT;
    return endpoint_send(e, msg->msg_iov, (int)msg->msg_iovlen, flags);
}

static int send_list(struct endpoint *e, int fd, struct mmsghdr *msgs,
                     unsigned n, int flags)
{
    unsigned done = 0;

    while (done < n) {
        struct msghdr *msg = &msgs[done].msg_hdr;
        ssize_t rc = send_one(e, fd, msg, flags);

        if (rc < 0)
            return done > 0 ? (int)done : (int)rc;
        msgs[done++].msg_len = (unsigned)rc;
        /* What follows must not overtake the rest of a short one. */
        if ((size_t)rc < vector_length(msg->msg_iov, msg->msg_iovlen))
            break;
    }
    return (int)done;
}

static int send_bare(struct endpoint *e, int fd, struct mmsghdr *msgs,
                     unsigned n, int flags)
{
    int rc = REAL(sendmmsg)(fd, msgs, n, flags);

    for (int i = 0; i < rc; i++) {
        if (i < rc - 1)
            atomic_fetch_add(&e->stream.bare, 1);
        bare_done_out(e, msgs[i].msg_len, msgs[i].msg_hdr.msg_iov,
                      msgs[i].msg_hdr.msg_iovlen);
    }
    if (rc <= 0)
        bare_done_out(e, -1, NULL, 0);
    return rc;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    struct endpoint *e = intercepted(fd);
    unsigned known = process.ready ? reachable(msgs, n) : 0;
    int rc;

    for (unsigned i = 0; i < known; i++)
        look_at_control(&msgs[i].msg_hdr, e);
    if (likely(e == NULL) || known == 0)
        return REAL(sendmmsg)(fd, msgs, n, flags);
    if (go_bare_out(e, flags))
        return send_bare(e, fd, msgs, n, flags);
    if (!endpoint_enter(e))
        return (int)posix_result(-EBADF);
    rc = send_list(e, fd, msgs, known, flags);
    endpoint_leave(e);
    return (int)posix_result(rc);
}
ALIAS(sendmmsg)
int __sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags);
