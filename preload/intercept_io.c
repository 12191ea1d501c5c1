/*
 * Bytes in and out: read, write, recv, send and their relatives.
 */
#include "preload/intercept_io.h"

#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>

#include "preload/handlers.h"
#include "preload/held_signals.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

/* libc's: a fortified call was about to overrun its buffer. */
extern void __chk_fail(void) __attribute__((noreturn));

ssize_t bare_done_in(struct endpoint *e, ssize_t rc, const struct iovec *iov,
                     size_t n, int flags)
{
    int saved = errno;
    uint64_t total;

    if (rc > 0 && !(flags & (MSG_PEEK | ~FLAGS_RECV))) {
        total = stream_count_in(&e->stream, (size_t)rc);
        if (unlikely(e->proof != NULL) && !(flags & MSG_TRUNC))
            endpoint_note_proof(e, false, iov, (int)n, (size_t)rc, total);
    } else if (rc == 0 && vector_length(iov, n) != 0) {
        e->stream.h.fin_seen = true;
    }
    stream_bare_leave(&e->stream);
    endpoint_called(e, rc > 0 ? (size_t)rc : 0);
    errno = saved;
    return rc;
}

ssize_t bare_done_out(struct endpoint *e, ssize_t rc, const struct iovec *iov,
                      size_t n)
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

bool vector_is_bad(const struct iovec *iov, size_t n)
{
    if (n > VECTOR_MOST || !readable(iov, n * sizeof(*iov)))
        return true;
    for (size_t i = 0; i < n; i++)
        if (beyond(iov[i].iov_base, iov[i].iov_len))
            return true;
    return false;
}

size_t vector_length(const struct iovec *iov, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += iov[i].iov_len;
    return len;
}

void about_to_peek(struct endpoint *e, size_t len, int flags)
{
    atomic_store_explicit(&e->stream.peeks, true, memory_order_relaxed);
    /* To wait for more than there is already is the kernel's. */
    if ((flags & (MSG_WAITALL | MSG_DONTWAIT)) == MSG_WAITALL &&
        !atomic_load(&e->nonblocking) && atomic_load(&e->stream.guard) &&
        (size_t)stream_unread(&e->stream) < len)
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
}

/*
 * Spinning serves streams that stay on TCP too, if the operator wants it
 * (poll_kernel_usec): a wake-up costs more than all of TCP.
 */
static ssize_t bare_recv(struct endpoint *e, int fd, void *buf, size_t len,
                         int flags)
{
    uint64_t spin_ns = process.settings.poll_kernel_usec * 1000, stop;
    struct held_signals held = {.on = false};
    bool interrupted;
    ssize_t rc;

    if (likely(spin_ns == 0) || (flags & MSG_DONTWAIT) ||
        atomic_load(&e->nonblocking))
        return REAL(recv)(fd, buf, len, flags);
    stop = clock_ns() + spin_ns;
    signals_hold(&held);
    do
        rc = kernel_recv(fd, buf, len, flags | MSG_DONTWAIT);
    while (rc == -EAGAIN && clock_ns() < stop);
    interrupted = rc == -EAGAIN && signals_wait(&held);
    signals_release(&held);
    if (rc != -EAGAIN)
        return posix_result(rc);
    if (interrupted &&
        (e->rcvtimeo_ns != 0 || !handlers_restart(handlers_kind())))
        return posix_result(-EINTR);
    return REAL(recv)(fd, buf, len, flags);
}

/*
 * A function of its own for what is ours: the other path is then two loads,
 * two branches and a jump, without a frame.
 */
#define OURS __attribute__((noinline)) static

OURS ssize_t read_ours(struct endpoint *e, int fd, void *buf, size_t len)
{
    struct iovec iov = {buf, at_most(len)};

    if (in_vfork_child() || len == 0 || beyond(buf, len))
        return REAL(read)(fd, buf, len); /* of 0 bytes: never waits */
    if (!go_bare_in(e, iov.iov_len, 0))
        return posix_result(endpoint_recv(e, &iov, 1, 0));
    return bare_done_in(e, bare_recv(e, fd, buf, len, 0), &iov, 1, 0);
}

EXPORT ssize_t read(int fd, void *buf, size_t len)
{
    struct endpoint *e = fd_endpoint(fd);

    return likely(e == NULL) ? FAST(read)(fd, buf, len)
                             : read_ours(e, fd, buf, len);
}

OURS ssize_t write_ours(struct endpoint *e, int fd, const void *buf, size_t len)
{
    struct iovec iov = {(void *)buf, at_most(len)};

    if (in_vfork_child() || beyond(buf, len))
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

    if (likely(e == NULL) || n < 0 || vector_is_bad(iov, (size_t)n) ||
        vector_length(iov, (size_t)n) == 0) /* it does not wait, then */
        return REAL(readv)(fd, iov, n);
    if (!go_bare_in(e, 0, 0))
        return posix_result(endpoint_recv(e, iov, n, 0));
    return bare_done_in(e, REAL(readv)(fd, iov, n), iov, (size_t)n, 0);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int n)
{
    struct endpoint *e = intercepted(fd);

    if (likely(e == NULL) || n < 0 || vector_is_bad(iov, (size_t)n) ||
        vector_length(iov, (size_t)n) == 0) /* 0 whatever has happened */
        return REAL(writev)(fd, iov, n);
    if (!go_bare_out(e, 0))
        return posix_result(endpoint_send(e, iov, n, 0));
    return bare_done_out(e, REAL(writev)(fd, iov, n), iov, (size_t)n);
}

EXPORT ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {buf, at_most(len)};

    if (likely(e == NULL) || beyond(buf, iov.iov_len))
        return REAL(recv)(fd, buf, len, flags);
    if (!go_bare_in(e, iov.iov_len, flags))
        return posix_result(endpoint_recv(e, &iov, 1, flags));
    return bare_done_in(e, bare_recv(e, fd, buf, len, flags), &iov, 1, flags);
}

EXPORT ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {(void *)buf, at_most(len)};

    if (likely(e == NULL) || beyond(buf, iov.iov_len))
        return REAL(send)(fd, buf, len, flags);
    if (!go_bare_out(e, flags))
        return posix_result(endpoint_send(e, &iov, 1, flags));
    return bare_done_out(e, REAL(send)(fd, buf, len, flags), &iov, 1);
}

/* TCP gives no name; it says so after it has taken the bytes. */
static int no_name(const struct sockaddr *from, socklen_t *from_len)
{
    if (from == NULL)
        return 0;
    if (!writable(from_len, sizeof(*from_len)))
        return -EFAULT;
    if ((int)*from_len < 0)
        return -EINVAL;
    *from_len = 0;
    return 0;
}

EXPORT ssize_t recvfrom(int fd, void *restrict buf, size_t len, int flags,
                        struct sockaddr *restrict from,
                        socklen_t *restrict from_len)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {buf, at_most(len)};

    if (likely(e == NULL) || beyond(buf, iov.iov_len))
        return REAL(recvfrom)(fd, buf, len, flags, from, from_len);
    if (!go_bare_in(e, iov.iov_len, flags)) {
        ssize_t rc = endpoint_recv(e, &iov, 1, flags);
        int named = rc < 0 ? 0 : no_name(from, from_len);

        return posix_result(named < 0 ? named : rc);
    }
    return bare_done_in(e, REAL(recvfrom)(fd, buf, len, flags, from, from_len),
                        &iov, 1, flags);
}

EXPORT ssize_t sendto(int fd, const void *buf, size_t len, int flags,
                      const struct sockaddr *to, socklen_t to_len)
{
    struct endpoint *e = intercepted(fd);
    struct iovec iov = {(void *)buf, at_most(len)};

    if (likely(e == NULL) || beyond(buf, iov.iov_len))
        return REAL(sendto)(fd, buf, len, flags, to, to_len);
    if (unlikely(e->state == ENDPOINT_NEW)) {
        /* MSG_FASTOPEN connects by sending: its SYN carries bytes. */
        atomic_store(&e->ineligible, true);
        return REAL(sendto)(fd, buf, len, flags, to, to_len);
    }
    /* TCP does not care for the name, but looks whether it is one. */
    if (unlikely(to != NULL) && to_len > sizeof(struct sockaddr_storage))
        return posix_result(-EINVAL);
    if (unlikely(to != NULL) && !readable(to, to_len))
        return posix_result(-EFAULT);
    if (!go_bare_out(e, flags))
        return posix_result(endpoint_send(e, &iov, 1, flags));
    return bare_done_out(e, REAL(sendto)(fd, buf, len, flags, to, to_len), &iov,
                         1);
}

/* ---- what _FORTIFY_SOURCE calls, and older names ---- */

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
