/*
 * Bytes in and out: read, write, recv, send and their relatives.
 */
#include "preload/intercept.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>

#include "transport/kernel_calls.h"
#include "transport/pause.h"

/* libc's: a fortified call was about to overrun its buffer. */
extern void __chk_fail(void) __attribute__((noreturn));

/* Not for us even on a stream: the kernel's error queue, urgent data. */
enum { FLAGS_RECV_OTHER = MSG_OOB | MSG_ERRQUEUE, FLAGS_SEND_OTHER = MSG_OOB };

static ssize_t bare_done_in(struct endpoint *e, ssize_t rc,
                            const struct iovec *iov, size_t n, size_t asked,
                            int flags)
{
    int saved = errno;
    uint64_t total;

    if (rc > 0 && !(flags & (MSG_PEEK | FLAGS_RECV_OTHER))) {
        total = stream_count_in(&e->stream, (size_t)rc);
        if (unlikely(e->proof != NULL) && !(flags & MSG_TRUNC))
            endpoint_note_proof(e, false, iov, (int)n, (size_t)rc, total);
    } else if (rc == 0 && asked > 0) {
        e->stream.h.fin_seen = true;
    }
    stream_bare_leave(&e->stream);
    endpoint_called(e, rc > 0 ? (size_t)rc : 0);
    errno = saved;
    return rc;
}

static ssize_t bare_done_out(struct endpoint *e, ssize_t rc,
                             const struct iovec *iov, size_t n)
{
    int saved = errno;
    uint64_t total;

    if (rc > 0) {
        total = stream_count_out(&e->stream, (size_t)rc);
        if (unlikely(e->proof != NULL))
            endpoint_note_proof(e, true, iov, (int)n, (size_t)rc, total);
    }
    stream_bare_leave(&e->stream);
    endpoint_called(e, rc > 0 ? (size_t)rc : 0);
    errno = saved;
    return rc;
}

/* 1: make the kernel's call, bare. 0: managed. */
static bool go_bare_in(struct endpoint *e, int flags)
{
    if (unlikely(flags & MSG_PEEK))
        atomic_store_explicit(&e->stream.peeks, true, memory_order_relaxed);
    if (unlikely(flags & FLAGS_RECV_OTHER))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    return stream_bare_enter(&e->stream);
}

static bool go_bare_out(struct endpoint *e, int flags)
{
    if (unlikely(flags & FLAGS_SEND_OTHER))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    return stream_bare_enter(&e->stream);
}

static size_t iov_bytes(const struct iovec *iov, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

static bool iov_bad(int n)
{
    return n < 0 || n > 1024;
}

/*
 * Spinning serves streams that stay on TCP too, if the operator wants it
 * (poll_kernel_usec): a wake-up costs more than all of TCP.
 */
static ssize_t bare_recv(struct endpoint *e, int fd, void *buf, size_t len,
                         int flags)
{
    uint64_t spin_ns = process.settings.poll_kernel_usec * 1000, stop;
    ssize_t rc;

    if (likely(spin_ns == 0) || (flags & MSG_DONTWAIT) ||
        atomic_load(&e->nonblocking))
        return REAL(recv)(fd, buf, len, flags);
    stop = clock_ns() + spin_ns;
    do
        rc = kernel_recv(fd, buf, len, flags | MSG_DONTWAIT);
    while (rc == -EAGAIN && clock_ns() < stop);
    return rc == -EAGAIN ? REAL(recv)(fd, buf, len, flags) : posix_result(rc);
}

/*
 * A function of its own for what is ours: the other path is then two loads,
 * two branches and a jump, without a frame.
 */
#define OURS __attribute__((noinline)) static

OURS ssize_t read_ours(struct endpoint *e, int fd, void *buf, size_t len)
{
    struct iovec iov = {buf, len};

    if (in_vfork_child() || len == 0)
        return REAL(read)(fd, buf, len); /* of 0 bytes: never waits */
    if (!go_bare_in(e, 0))
        return posix_result(endpoint_recv(e, &iov, 1, 0));
    return bare_done_in(e, bare_recv(e, fd, buf, len, 0), &iov, 1, len, 0);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    struct endpoint *e = fd_endpoint(fd);

    return likely(e == NULL) ? FAST(read)(fd, buf, len)
                             : read_ours(e, fd, buf, len);
}

OURS ssize_t write_ours(struct endpoint *e, int fd, const void *buf, size_t len)
{
    struct iovec iov = {(void *)buf, len};

    if (in_vfork_child())
        return REAL(write)(fd, buf, len);
    if (!go_bare_out(e, 0))
        return posix_result(endpoint_send(e, &iov, 1, 0));
    return bare_done_out(e, REAL(write)(fd, buf, len), &iov, 1);
}

EXPORT ssize_t write(int fd, const void *buf, size_t len)
{
    struct endpoint *e = fd_endpoint(fd);

    return likely(e == NULL) ? FAST(write)(fd, buf, len)
                             : write_ours(e, fd, buf, len);
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int n)
{
    struct endpoint *e = intercepted(fd);

    if (likely(e == NULL) || iov_bad(n) || iov_bytes(iov, (size_t)n) == 0)
        return REAL(readv)(fd, iov, n);
    if (!go_bare_in(e, 0))
        return posix_result(endpoint_recv(e, iov, n, 0));
    return bare_done_in(e, REAL(readv)(fd, iov, n), iov, (size_t)n,
                        iov_bytes(iov, (size_t)n), 0);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct endpoint *e = intercepted(fd);

    if (likely(e == NULL) || iov_bad(n))
        return REAL(writev)(fd, iov, n);
    if (!go_bare_out(e, 0))
        return posix_result(endpoint_send(e, iov, n, 0));
    return bare_done_out(e, REAL(writev)(fd, iov, n), iov, (size_t)n);
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {buf, len};

    if (likely(e == NULL))
        return REAL(recv)(fd, buf, len, flags);
    if (!go_bare_in(e, flags))
        return posix_result(endpoint_recv(e, &iov, 1, flags));
    return bare_done_in(e, bare_recv(e, fd, buf, len, flags), &iov, 1, len,
                        flags);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {(void *)buf, len};

    if (likely(e == NULL))
        return REAL(send)(fd, buf, len, flags);
    if (!go_bare_out(e, flags))
        return posix_result(endpoint_send(e, &iov, 1, flags));
    return bare_done_out(e, REAL(send)(fd, buf, len, flags), &iov, 1);
}

EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags,
                        struct sockaddr *restrict from,
                        socklen_t *restrict from_len)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {buf, len};
    ssize_t rc;

    if (likely(e == NULL))
        return REAL(recvfrom)(fd, buf, len, flags, from, from_len);
    if (!go_bare_in(e, flags)) {
        rc = endpoint_recv(e, &iov, 1, flags);
        if (rc >= 0 && from != NULL && from_len != NULL)
            *from_len = 0; /* as TCP does */
        return posix_result(rc);
    }
    return bare_done_in(e, REAL(recvfrom)(fd, buf, len, flags, from, from_len),
                        &iov, 1, len, flags);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags,
                      const struct sockaddr *to, socklen_t to_len)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {(void *)buf, len};

    if (likely(e == NULL))
        return REAL(sendto)(fd, buf, len, flags, to, to_len);
    if (unlikely(e->state == ENDPOINT_NEW)) {
        /* MSG_FASTOPEN connects by sending: its SYN carries bytes. */
        atomic_store(&e->ineligible, true);
        return REAL(sendto)(fd, buf, len, flags, to, to_len);
    }
    if (!go_bare_out(e, flags))
        return posix_result(endpoint_send(e, &iov, 1, flags));
    return bare_done_out(e, REAL(sendto)(fd, buf, len, flags, to, to_len), &iov,
                         1);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct endpoint *e = intercepted(fd);
    ssize_t rc;

    if (likely(e == NULL) || msg->msg_iovlen > 1024)
        return REAL(recvmsg)(fd, msg, flags);
    if (!go_bare_in(e, flags)) {
        rc = endpoint_recv(e, msg->msg_iov, (int)msg->msg_iovlen, flags);
        if (rc >= 0) {
            msg->msg_namelen = 0;
            msg->msg_controllen = 0;
            msg->msg_flags = 0;
        }
        return posix_result(rc);
    }
    return bare_done_in(e, REAL(recvmsg)(fd, msg, flags), msg->msg_iov,
                        msg->msg_iovlen,
                        iov_bytes(msg->msg_iov, msg->msg_iovlen), flags);
}

/* A stream that is handed to somebody else returns to TCP first. */
static void look_for_passed_on(const struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
         c = CMSG_NXTHDR((struct msghdr *)msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            struct endpoint *passed;
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            passed = intercepted(fd);
            if (passed != NULL)
                endpoint_banish(passed, REASON_PASSED_ON);
        }
    }
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct endpoint *e = intercepted(fd);

    if (unlikely(msg != NULL && msg->msg_controllen != 0)) {
        if (process.ready && !in_vfork_child())
            look_for_passed_on(msg);
        if (e != NULL)
            endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    }
    if (likely(e == NULL) || msg->msg_iovlen > 1024)
        return REAL(sendmsg)(fd, msg, flags);
    if (!go_bare_out(e, flags))
        return posix_result(
            endpoint_send(e, msg->msg_iov, (int)msg->msg_iovlen, flags));
    return bare_done_out(e, REAL(sendmsg)(fd, msg, flags), msg->msg_iov,
                         msg->msg_iovlen);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags,
                    struct timespec *timeout)
{
    unsigned done = 0;

    if (likely(intercepted(fd) == NULL))
        return REAL(recvmmsg)(fd, msgs, n, flags, timeout);
    while (done < n) {
        ssize_t rc = recvmsg(
            fd, &msgs[done].msg_hdr,
            (flags & ~MSG_WAITFORONE) |
                (done > 0 && (flags & MSG_WAITFORONE) ? MSG_DONTWAIT : 0));

        if (rc < 0)
            return done > 0 ? (int)done : -1;
        msgs[done++].msg_len = (unsigned)rc;
    }
    return (int)done;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
    unsigned done = 0;

    if (likely(intercepted(fd) == NULL)) {
        for (unsigned i = 0; i < n && process.ready; i++)
            if (unlikely(msgs[i].msg_hdr.msg_controllen != 0) &&
                !in_vfork_child())
                look_for_passed_on(&msgs[i].msg_hdr);
        return REAL(sendmmsg)(fd, msgs, n, flags);
    }
    while (done < n) {
        ssize_t rc = sendmsg(fd, &msgs[done].msg_hdr, flags);

        if (rc < 0)
            return done > 0 ? (int)done : -1;
        msgs[done++].msg_len = (unsigned)rc;
    }
    return (int)done;
}

/* Bytes that move inside the kernel: the stream stays there. */
static void kernel_only(int fd)
{
    struct endpoint *e = intercepted(fd);

    if (unlikely(e != NULL))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
}

EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t n)
{
    kernel_only(out);
    kernel_only(in);
    return REAL(sendfile)(out, in, off, n);
}
ALIAS(sendfile)
ssize_t sendfile64(int out, int in, off64_t *off, size_t n);

EXPORT ssize_t splice(int in, off64_t *in_off, int out, off64_t *out_off,
                      size_t n, unsigned flags)
{
    kernel_only(in);
    kernel_only(out);
    return REAL(splice)(in, in_off, out, out_off, n, flags);
}

/* -1 is "where it stands", the only offset that a socket has. */
EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t off,
                          int flags)
{
    if (off == -1 && flags == 0)
        return readv(fd, iov, n);
    kernel_only(fd);
    return REAL(preadv64v2)(fd, iov, n, off, flags);
}
ALIAS(preadv64v2)
ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags);

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t off,
                           int flags)
{
    if (off == -1 && flags == 0)
        return writev(fd, iov, n);
    kernel_only(fd);
    return REAL(pwritev64v2)(fd, iov, n, off, flags);
}
ALIAS(pwritev64v2)
ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags);

/* libc formats straight into the descriptor, past our write(). */
EXPORT int vdprintf(int fd, const char *format, va_list arguments)
{
    kernel_only(fd);
    return REAL(vdprintf)(fd, format, arguments);
}

EXPORT int dprintf(int fd, const char *format, ...)
{
    va_list arguments;
    int rc;

    va_start(arguments, format);
    rc = vdprintf(fd, format, arguments);
    va_end(arguments);
    return rc;
}

/* ---- what _FORTIFY_SOURCE calls, and older names ---- */

int __vdprintf_chk(int fd, int flag, const char *format, va_list arguments);
int __dprintf_chk(int fd, int flag, const char *format, ...);

EXPORT int __vdprintf_chk(int fd, int flag, const char *format,
                          va_list arguments)
{
    kernel_only(fd);
    return REAL(__vdprintf_chk)(fd, flag, format, arguments);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
    va_list arguments;
    int rc;

    va_start(arguments, format);
    rc = __vdprintf_chk(fd, flag, format, arguments);
    va_end(arguments);
    return rc;
}

ssize_t __read_chk(int fd, void *buf, size_t len, size_t size);
ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len, size_t size,
                       int flags, struct sockaddr *restrict from,
                       socklen_t *restrict from_len);

EXPORT ssize_t __read_chk(int fd, void *buf, size_t len, size_t size)
{
    if (len > size)
        __chk_fail();
    return read(fd, buf, len);
}

EXPORT ssize_t __recv_chk(int fd, void *buf, size_t len, size_t size, int flags)
{
    if (len > size)
        __chk_fail();
    return recv(fd, buf, len, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *restrict buf, size_t len,
                              size_t size, int flags,
                              struct sockaddr *restrict from,
                              socklen_t *restrict from_len)
{
    if (len > size)
        __chk_fail();
    return recvfrom(fd, buf, len, flags, from, from_len);
}

ALIAS(read)
ssize_t __read(int fd, void *buf, size_t len);
ALIAS(write)
ssize_t __write(int fd, const void *buf, size_t len);
ALIAS(recv)
ssize_t __recv(int fd, void *buf, size_t len, int flags);
ALIAS(send)
ssize_t __send(int fd, const void *buf, size_t len, int flags);
ALIAS(sendmmsg)
int __sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags);
