/*
 * What calls that move bytes share: into the kernel and out again while the
 * stream is on TCP, and a look at what the application handed in.
 */
#ifndef PRELOAD_INTERCEPT_IO_H
#define PRELOAD_INTERCEPT_IO_H

#include <limits.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "preload/intercept.h"

/* What can be served on a link; anything else in `flags` brings it back. */
enum {
    FLAGS_RECV = MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT | MSG_TRUNC |
                 MSG_NOSIGNAL | MSG_CMSG_CLOEXEC | MSG_CONFIRM | MSG_DONTROUTE |
                 MSG_MORE | MSG_EOR,
    FLAGS_SEND = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE | MSG_EOR |
                 MSG_CONFIRM | MSG_DONTROUTE | MSG_WAITALL | MSG_ZEROCOPY,
    BYTES_MOST = 0x7ffff000, /* the kernel moves no more in one call */
    VECTOR_MOST = 1024
};

/* The application looks before it takes, perhaps until len bytes are there. */
void about_to_peek(struct endpoint *e, size_t len, int flags);

/* True: make the kernel's call, then say what came of it. */
static inline bool go_bare_in(struct endpoint *e, size_t len, int flags)
{
    if (unlikely(flags & MSG_PEEK))
        about_to_peek(e, len, flags);
    if (unlikely(flags & ~FLAGS_RECV))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    return stream_bare_enter(&e->stream);
}

static inline bool go_bare_out(struct endpoint *e, int flags)
{
    if (unlikely(flags & ~FLAGS_SEND))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    return stream_bare_enter(&e->stream);
}

/* Both return rc and leave errno alone. */
ssize_t bare_done_in(struct endpoint *e, ssize_t rc, const struct iovec *iov,
                     size_t n, int flags);
ssize_t bare_done_out(struct endpoint *e, ssize_t rc, const struct iovec *iov,
                      size_t n);

/* The kernel's first look: is it half of memory, or more, or its own half? */
static inline bool beyond(const void *at, size_t len)
{
    return (intptr_t)((uintptr_t)at | ((uintptr_t)at + len) | len) < 0;
}

static inline bool readable(const void *at, size_t len)
{
    return reach_ok(&process.reach, at, len, false);
}

static inline bool writable(const void *at, size_t len)
{
    return reach_ok(&process.reach, at, len, true);
}

/* The kernel refuses it at first sight: let it say how. */
bool vector_is_bad(const struct iovec *iov, size_t n);
size_t vector_length(const struct iovec *iov, size_t n);

/* Only the kernel can do it: the stream, or those of a set, return and stay. */
void kernel_only(int fd);
/* The same of all that a poll or a select asks about. */
void kernel_only_polled(const struct pollfd *fds, nfds_t n);
void kernel_only_selected(int n, const fd_set *in, const fd_set *out,
                          const fd_set *except);

static inline size_t at_most(size_t len)
{
    return len < BYTES_MOST ? len : BYTES_MOST;
}

#endif
