/*
 * Descriptors: closed, duplicated, re-flagged; and every call that may return
 * a number that used to be something else.
 */
#include "preload/intercept.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "preload/epoll_private.h"
#include "preload/epoll_set.h"
#include "preload/helper.h"

EXPORT int close(int fd)
{
    struct object *o = fd_find(fd);

    if (likely(o == NULL) || in_vfork_child())
        return REAL(close)(fd);
    switch (o->kind) {
    case OBJECT_OURS:
        if (helper_is_me) {
            fd_set_row(fd, NULL);
            return REAL(close)(fd);
        }
        errno = EBADF;
        return -1;
    case OBJECT_EPOLL:
        fd_set_row(fd, NULL);
        epoll_set_free((struct epoll_set *)o);
        return REAL(close)(fd);
    default:
        fd_set_row(fd, NULL);
        return endpoint_close((struct endpoint *)o, fd);
    }
}

/* All numbers from first to last but our own. */
static int close_each(unsigned first, unsigned last, int flags)
{
    unsigned used = fd_rows_used();

    while (first <= last) {
        unsigned at = first;

        /* Up to the next number with a row in one go. */
        while (at < used && at <= last && fd_find((int)at) == NULL)
            at++;
        if (at >= used || at > last)
            return REAL(close_range)(first, last, flags);
        if (at > first && REAL(close_range)(first, at - 1, flags) < 0)
            return -1;
        if (fd_find((int)at)->kind != OBJECT_OURS)
            close((int)at);
        if (at == last)
            break;
        first = at + 1;
    }
    return 0;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if (!process.ready || in_vfork_child() || first > last ||
        (flags & CLOSE_RANGE_CLOEXEC))
        return REAL(close_range)(first, last, flags);
    return close_each(first, last, flags);
}

EXPORT void closefrom(int lowest)
{
    close_range(lowest < 0 ? 0 : (unsigned)lowest, ~0u, 0);
}

/* new is a second descriptor of old. */
static void duplicated(int old, int new)
{
    struct object *o = fd_find(old);
    struct endpoint *e = fd_endpoint(old);
    int saved = errno;

    if (o != NULL && o->kind == OBJECT_EPOLL)
        epoll_set_nest((struct epoll_set *)o);
    if (e != NULL)
        atomic_fetch_add(&e->fds, 1);
    intercept_new_fd(new, e != NULL ? &e->object : NULL);
    /* Standard descriptors are inherited and read by stdio. */
    if (e != NULL && new <= 2)
        endpoint_banish(e, REASON_STDIO);
    errno = saved;
}

EXPORT int dup(int fd)
{
    int new = REAL(dup)(fd);

    if (new >= 0 && process.ready && !in_vfork_child())
        duplicated(fd, new);
    return new;
}

/* What dup2 is about to close without saying so. False: it is ours. */
static bool make_way(int old, int new)
{
    struct object *o = fd_find(new);

    if (o == NULL || old == new || REAL(fcntl64)(old, F_GETFD) < 0)
        return true;
    if (o->kind == OBJECT_OURS) {
        errno = EBUSY;
        return false;
    }
    close(new);
    return true;
}

EXPORT int dup2(int old, int new)
{
    int rc;

    if (!process.ready || in_vfork_child())
        return REAL(dup2)(old, new);
    if (!make_way(old, new))
        return -1;
    rc = REAL(dup2)(old, new);
    if (rc >= 0 && old != new)
        duplicated(old, new);
    return rc;
}

EXPORT int dup3(int old, int new, int flags)
{
    int rc;

    if (!process.ready || in_vfork_child() || old == new)
        return REAL(dup3)(old, new, flags);
    if (!make_way(old, new))
        return -1;
    rc = REAL(dup3)(old, new, flags);
    if (rc >= 0)
        duplicated(old, new);
    return rc;
}

static int fcntl_endpoint(struct endpoint *e, int fd, int command, long arg)
{
    int rc;

    if (command == F_SETOWN || command == F_SETSIG || command == F_SETOWN_EX ||
        (command == F_SETFL && (arg & O_ASYNC)))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    rc = REAL(fcntl64)(fd, command, arg);
    if (rc == 0 && command == F_SETFL)
        atomic_store(&e->nonblocking, (arg & O_NONBLOCK) != 0);
    return rc;
}

EXPORT int fcntl64(int fd, int command, ...)
{
    struct endpoint *e = intercepted(fd);
    va_list args;
    long arg;
    int rc;

    va_start(args, command);
    arg = va_arg(args, long);
    va_end(args);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
        rc = REAL(fcntl64)(fd, command, arg);
        if (rc >= 0 && process.ready && !in_vfork_child())
            duplicated(fd, rc);
        return rc;
    }
    if (likely(e == NULL))
        return REAL(fcntl64)(fd, command, arg);
    return fcntl_endpoint(e, fd, command, arg);
}
ALIAS(fcntl64)
int fcntl(int fd, int command, ...);
ALIAS(fcntl64)
int __fcntl(int fd, int command, ...);

static int ioctl_endpoint(struct endpoint *e, int fd, unsigned long request,
                          void *arg)
{
    int rc;

    if (request == FIONREAD)
        atomic_store(&e->stream.peeks, true);
    if (request == FIOASYNC)
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    if (atomic_load(&e->stream.guard) && arg != NULL) {
        if (request == FIONREAD) {
            *(int *)arg = stream_unread(&e->stream);
            return 0;
        }
        if (request == SIOCOUTQ) {
            *(int *)arg = stream_unsent(&e->stream);
            return 0;
        }
    }
    rc = REAL(ioctl)(fd, request, arg);
    if (rc == 0 && request == FIONBIO && arg != NULL)
        atomic_store(&e->nonblocking, *(int *)arg != 0);
    return rc;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    struct endpoint *e = intercepted(fd);
    va_list args;
    void *arg;

    va_start(args, request);
    arg = va_arg(args, void *);
    va_end(args);
    if (likely(e == NULL))
        return REAL(ioctl)(fd, request, arg);
    return ioctl_endpoint(e, fd, request, arg);
}

/* ---- numbers that change hands ---- */

static int reused(int fd)
{
    if (fd >= 0 && !in_vfork_child() && unlikely(fd_find(fd) != NULL))
        intercept_new_fd(fd, NULL);
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

EXPORT int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return reused(REAL(open64)(path, flags, mode));
}
ALIAS(open64)
int open(const char *path, int flags, ...);

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return reused(REAL(openat64)(dir, path, flags, mode));
}
ALIAS(openat64)
int openat(int dir, const char *path, int flags, ...);

EXPORT int pipe(int fds[2])
{
    int rc = REAL(pipe)(fds);

    if (rc == 0) {
        reused(fds[0]);
        reused(fds[1]);
    }
    return rc;
}

EXPORT int pipe2(int fds[2], int flags)
{
    int rc = REAL(pipe2)(fds, flags);

    if (rc == 0) {
        reused(fds[0]);
        reused(fds[1]);
    }
    return rc;
}

EXPORT int eventfd(unsigned count, int flags)
{
    return reused(REAL(eventfd)(count, flags));
}

/* stdio reads and writes past every name: the stream stays on TCP. */
EXPORT FILE *fdopen(int fd, const char *mode)
{
    struct endpoint *e = intercepted(fd);

    if (unlikely(e != NULL))
        endpoint_banish(e, REASON_STDIO);
    return REAL(fdopen)(fd, mode);
}

ALIAS(close)
int __close(int fd);
ALIAS(dup2)
int __dup2(int old, int new) __THROW;
