/*
 * Descriptors: closed, duplicated, re-flagged.
 */
#include "preload/intercept_io.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/resource.h>

#include "preload/epoll_private.h"
#include "preload/epoll_set.h"
#include "preload/helper.h"
#include "preload/intercept_sandbox.h"

struct closing {
    int fd;
    struct object *object;
};

static int close_it(void *arg)
{
    const struct closing *c = arg;
    int rc = REAL(close)(c->fd);

    fd_forget(c->fd, c->object);
    return rc;
}

/*
 * What stands behind the number ends. how(arg) does the kernel's part and then
 * the row's: until then the number stands for what it was, or others' calls
 * would read and write records. False: somebody else ends it.
 */
static bool give_up(int fd, struct object *o, int (*how)(void *arg), void *arg,
                    int *rc)
{
    if (o->kind == OBJECT_EPOLL)
        *rc = epoll_set_close((struct epoll_set *)o, fd, how, arg);
    else if (fd_claim(fd, o))
        *rc = endpoint_close((struct endpoint *)o, fd, how, arg);
    else
        return false;
    return true;
}

EXPORT int close(int fd)
{
    struct object *o = fd_find(fd);
    struct closing closing = {fd, o};
    int rc;

    if (likely(o == NULL) || in_vfork_child())
        return REAL(close)(fd);
    if (o->kind != OBJECT_OURS) {
        if (give_up(fd, o, close_it, &closing, &rc))
            return rc;
        if (fd_find(fd) != o)
            return close(fd); /* the one before was just being closed */
    } else if (helper_is_me) {
        fd_set_row(fd, NULL);
        return REAL(close)(fd);
    }
    errno = EBADF;
    return -1;
}

static bool has_table(void)
{
    return process.ready || process.withdrawn;
}

/*
 * Up to the next number with a row in one go. True: that is *first now. No
 * number becomes ours meanwhile, as of what is closed on a link.
 */
static bool close_without_rows(unsigned *first, unsigned last, int *rc)
{
    bool stood = ours_stand(), row;
    unsigned at = *first, used = fd_rows_used();

    while (at < used && at <= last && fd_find((int)at) == NULL)
        at++;
    row = at < used && at <= last;
    *rc = 0;
    if (!row)
        *rc = REAL(close_range)(*first, last, 0);
    else if (at > *first)
        *rc = REAL(close_range)(*first, at - 1, 0);
    ours_go_on(stood);
    *first = at;
    return row && *rc == 0;
}

/* All numbers from first to last but our own. */
static int close_each(unsigned first, unsigned last)
{
    int rc;

    while (close_without_rows(&first, last, &rc)) {
        struct object *o = fd_find((int)first);

        if (o == NULL || o->kind != OBJECT_OURS)
            close((int)first);
        if (first++ == last)
            break;
    }
    return rc;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    const int known = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;

    if (!has_table() || in_vfork_child() || first > last || (flags & ~known))
        return REAL(close_range)(first, last, flags);
    if ((flags & CLOSE_RANGE_UNSHARE) && unshare_descriptors() < 0)
        return -1;
    if (flags & CLOSE_RANGE_CLOEXEC)
        return REAL(close_range)(first, last, CLOSE_RANGE_CLOEXEC);
    return close_each(first, last);
}

EXPORT void closefrom(int lowest)
{
    close_range(lowest < 0 ? 0 : (unsigned)lowest, ~0u, 0);
}

/* False: another thread is just closing the last one. */
static bool has_one_more(struct endpoint *e)
{
    int n = atomic_load(&e->fds);

    while (n > 0 && !atomic_compare_exchange_weak(&e->fds, &n, n + 1))
        ;
    return n > 0;
}

/*
 * new is a second descriptor of old; over: of what its row still has. Returns
 * it; -1 and EBADF if old was just being closed.
 */
static int duplicated(int old, int new, bool over)
{
    struct object *o = fd_find(old);
    struct endpoint *e = fd_endpoint(old);
    bool closed = e != NULL && !has_one_more(e);
    int saved = errno;

    if (closed)
        e = NULL;
    if (o != NULL && o->kind == OBJECT_EPOLL)
        epoll_set_to_kernel((struct epoll_set *)o);
    if (over)
        fd_set_row(new, e != NULL ? &e->object : NULL);
    else
        intercept_new_fd(new, e != NULL ? &e->object : NULL);
    /* Standard descriptors are inherited and read by stdio. */
    if (e != NULL && new <= 2)
        endpoint_banish(e, REASON_STDIO);
    errno = saved;
    if (!closed)
        return new;
    REAL(close)(new);
    errno = EBADF;
    return -1;
}

EXPORT int dup(int fd)
{
    int new = REAL(dup)(fd);

    return new >= 0 && process.ready && !in_vfork_child()
               ? duplicated(fd, new, false)
               : new;
}

struct onto {
    int old, new, flags;
};

static int put_onto(void *arg)
{
    const struct onto *o = arg;
    int rc = REAL(dup3)(o->old, o->new, o->flags);

    return rc >= 0 ? duplicated(o->old, o->new, false) : rc;
}

/* What the number stood for is cared for by who calls this. */
static int put_over(void *arg)
{
    const struct onto *o = arg;
    int rc = REAL(dup3)(o->old, o->new, o->flags);

    if (rc >= 0)
        return duplicated(o->old, o->new, true);
    fd_set_row(o->new, NULL);
    return rc;
}

/* The kernel will refuse it: what is there goes on as it was. */
static bool is_refused(int old, int new, int flags)
{
    struct rlimit most;

    return (flags & ~O_CLOEXEC) || REAL(fcntl64)(old, F_GETFD) < 0 ||
           (getrlimit(RLIMIT_NOFILE, &most) == 0 &&
            (rlim_t) new >= most.rlim_cur);
}

static bool replace(int fd, struct object *o, struct onto *onto, int *rc)
{
    if (o->kind != OBJECT_ENDPOINT || !fd_claim(fd, o))
        return false;
    if (endpoint_replace((struct endpoint *)o, fd, put_over, onto, rc))
        return true;
    fd_unclaim(fd);
    return false;
}

/* The number is never free on the way: somebody else might be given it. */
static int dup_onto(int old, int new, int flags)
{
    struct onto onto = {old, new, flags};
    struct object *o = fd_find(new);
    int rc;

    if (o == NULL || is_refused(old, new, flags)) {
        rc = put_onto(&onto);
    } else if (o->kind == OBJECT_OURS) {
        errno = EBUSY;
        rc = -1;
    } else if (!replace(new, o, &onto, &rc) &&
               !give_up(new, o, o->kind == OBJECT_EPOLL ? put_onto : put_over,
                        &onto, &rc)) {
        errno = EBUSY;
        rc = -1;
    }
    return rc;
}

EXPORT int dup2(int old, int new)
{
    if (!has_table() || in_vfork_child() || old == new)
        return REAL(dup2)(old, new);
    return dup_onto(old, new, 0);
}

EXPORT int dup3(int old, int new, int flags)
{
    if (!has_table() || in_vfork_child() || old == new)
        return REAL(dup3)(old, new, flags);
    return dup_onto(old, new, flags);
}

static int fcntl_endpoint(struct endpoint *e, int fd, int command, long arg)
{
    bool locked;
    int rc;

    switch (command) {
    case F_SETFL:
        if (arg & O_ASYNC)
            endpoint_banish(e, REASON_UNSUPPORTED_CALL);
        locked = endpoint_options_lock(e);
        rc = REAL(fcntl64)(fd, command, arg);
        if (rc == 0)
            atomic_store(&e->nonblocking, (arg & O_NONBLOCK) != 0);
        endpoint_options_unlock(e, locked);
        return rc;
    case F_SETOWN:
    case F_SETSIG:
    case F_SETOWN_EX:
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
        break;
    default: /* about the descriptor, or nothing for a socket */
        break;
    }
    return REAL(fcntl64)(fd, command, arg);
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
        return rc >= 0 && process.ready && !in_vfork_child()
                   ? duplicated(fd, rc, false)
                   : rc;
    }
    if (likely(e == NULL))
        return REAL(fcntl64)(fd, command, arg);
    return fcntl_endpoint(e, fd, command, arg);
}
ALIAS(fcntl64)
int fcntl(int fd, int command, ...);
ALIAS(fcntl64)
int __fcntl(int fd, int command, ...);

/*
 * Requests that change nothing for a link: of terminals (a socket has none),
 * of network devices, of the descriptor, and questions.
 */
static bool is_harmless(unsigned long request)
{
    unsigned long type = request >> _IOC_TYPESHIFT & _IOC_TYPEMASK;

    switch (request) {
    case FIONREAD:
    case SIOCOUTQ:
    case FIONBIO:
    case FIOCLEX:
    case FIONCLEX:
    case FIOQSIZE:
    case FIOGETOWN:
    case SIOCGPGRP:
    case SIOCATMARK:
        return true;
    case FIOASYNC:
        return false;
    default:
        return type == 'T' || (request >= 0x8910 && request <= 0x89ff);
    }
}

/* How much is there, on either side of the stream. */
static bool counts_bytes(struct endpoint *e, unsigned long request, void *arg)
{
    int n;

    if ((request != FIONREAD && request != SIOCOUTQ) ||
        !atomic_load(&e->stream.guard) || !writable(arg, sizeof(n)))
        return false;
    n = request == FIONREAD ? stream_unread(&e->stream)
                            : stream_unsent(&e->stream);
    memcpy(arg, &n, sizeof(n));
    return true;
}

static int ioctl_endpoint(struct endpoint *e, int fd, unsigned long request,
                          void *arg)
{
    bool locked;
    int rc;

    if (request == FIONREAD)
        atomic_store(&e->stream.peeks, true);
    if (!is_harmless(request))
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
    if (counts_bytes(e, request, arg))
        return 0;
    if (request != FIONBIO)
        return REAL(ioctl)(fd, request, arg);
    locked = endpoint_options_lock(e);
    rc = REAL(ioctl)(fd, request, arg);
    if (rc == 0)
        atomic_store(&e->nonblocking, *(int *)arg != 0);
    endpoint_options_unlock(e, locked);
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

/* One of another process, which may be ourselves. */
EXPORT int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    int new = REAL(pidfd_getfd)(pidfd, fd, flags);

    if (new < 0 || !process.ready || in_vfork_child())
        return new;
    if (fd_endpoint(fd) != NULL && fd_is_same(new, fd))
        return duplicated(fd, new, false);
    intercept_new_fd(new, NULL);
    return new;
}

ALIAS(close)
int __close(int fd);
ALIAS(dup2)
int __dup2(int old, int new) __THROW;
