/*
 * Readiness: epoll, poll, select.
 */
#include "preload/intercept_io.h"

#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "preload/epoll_set.h"
#include "preload/poll_wait.h"
#include "preload/scratch.h"

enum { POLLED_MOST = 65536 };

extern void __chk_fail(void) __attribute__((noreturn));

static int new_set(int epfd)
{
    struct epoll_set *set = NULL;
    int saved = errno;

    if (epfd < 0 || !process.ready || in_vfork_child())
        return epfd;
    ours_make_room(epfd);
    set = epoll_set_create(epfd);
    intercept_new_fd(epfd, (struct object *)set);
    errno = saved;
    return epfd;
}

EXPORT int epoll_create(int size)
{
    return new_set(REAL(epoll_create)(size));
}

EXPORT int epoll_create1(int flags)
{
    return new_set(REAL(epoll_create1)(flags));
}

static struct epoll_set *set_of(int epfd)
{
    struct object *o = fd_find(epfd);

    return likely(o != NULL) && o->kind == OBJECT_EPOLL && !in_vfork_child()
               ? (struct epoll_set *)o
               : NULL;
}

/* A set in another one, or in one that we did not see being made. */
static int ctl_set(struct epoll_set *outer, int epfd, int op, int fd,
                   struct epoll_event *event)
{
    struct epoll_set *inner = set_of(fd);
    int rc;

    if (inner == NULL || !epoll_set_enter(inner))
        return REAL(epoll_ctl)(epfd, op, fd, event);
    if (outer != NULL && epoll_set_enter(outer)) {
        rc = epoll_set_ctl_set(outer, op, fd, inner, event);
        epoll_set_leave(outer);
    } else {
        if (op == EPOLL_CTL_ADD)
            epoll_set_to_kernel(inner);
        rc = REAL(epoll_ctl)(epfd, op, fd, event) < 0 ? -errno : 0;
    }
    epoll_set_leave(inner);
    return (int)posix_result(rc);
}

EXPORT int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
    struct epoll_set *set = set_of(epfd);
    struct endpoint *e = intercepted(fd);
    struct object *o = fd_find(fd);
    int rc;

    /* What the kernel is going to refuse. */
    if (fd_endpoint(epfd) != NULL || epfd == fd ||
        (op != EPOLL_CTL_DEL && !readable(event, sizeof(*event))))
        return REAL(epoll_ctl)(epfd, op, fd, event);
    if (o != NULL && o->kind == OBJECT_EPOLL)
        return ctl_set(set, epfd, op, fd, event);
    if (e != NULL && set == NULL && process.ready)
        endpoint_banish(e, REASON_NESTED_EPOLL); /* a set we do not know */
    if (likely(e == NULL) || set == NULL)
        return REAL(epoll_ctl)(epfd, op, fd, event);
    rc = -EBADF; /* it is just being closed */
    if (epoll_set_enter(set)) {
        rc = epoll_set_ctl(set, op, fd, e, event);
        epoll_set_leave(set);
    }
    return (int)posix_result(rc);
}

static int wait_in(struct epoll_set *set, struct epoll_event *events, int max,
                   int64_t timeout_ns, const sigset_t *mask)
{
    int rc = -EBADF; /* it is just being closed */

    if (epoll_set_enter(set)) {
        rc = epoll_set_wait(set, events, max, timeout_ns, mask);
        epoll_set_leave(set);
    }
    return (int)posix_result(rc);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max,
                       int timeout, const sigset_t *mask)
{
    struct epoll_set *set = set_of(epfd);

    if (set == NULL)
        return REAL(epoll_pwait)(epfd, events, max, timeout, mask);
    return wait_in(set, events, max,
                   timeout < 0 ? -1 : (int64_t)timeout * 1000000, mask);
}

static bool is_plain(const struct object *o)
{
    return atomic_load_explicit(&o->plain, memory_order_acquire);
}

/* Who sleeps is counted: a stream may come meanwhile. */
static __attribute__((noinline)) int sleep_in(int epfd, struct object *o,
                                              struct epoll_event *events,
                                              int max, int timeout)
{
    int n;

    if (timeout == 0 || !is_plain(o) || in_vfork_child())
        return epoll_pwait(epfd, events, max, timeout, NULL);
    n = epoll_set_wait_plain((struct epoll_set *)o, events, max, timeout);
    return likely(n >= 0) ? n : (int)posix_result(n);
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max,
                      int timeout)
{
    struct object *o = fd_find(epfd);
    uint32_t since;
    int n;

    if (o == NULL || o->kind != OBJECT_EPOLL)
        return REAL(epoll_wait)(epfd, events, max, timeout);
    if (timeout != 0 || !is_plain(o))
        return sleep_in(epfd, o, events, max, timeout);
    since = atomic_load(&o->takeovers);
    n = FAST(epoll_wait)(epfd, events, max, timeout);
    if (likely(n < 0 || (is_plain(o) && (n == 0 || fd_find(epfd) == o))))
        return n;
    /*
     * A stream went up behind our back and is not in the kernel's set any more,
     * or the number is another set's by now: a bell may be among the events.
     */
    if (n > 0)
        n = epoll_set_without_bell((struct epoll_set *)o, events, n, since);
    return n > 0 ? n : epoll_pwait(epfd, events, max, timeout, NULL);
}

static int64_t nanoseconds(const struct timespec *t)
{
    if (t == NULL)
        return -1;
    if (t->tv_sec > 4000000000)
        return -1;
    return t->tv_sec * 1000000000 + t->tv_nsec;
}

static bool bad_time(const struct timespec *t)
{
    return t != NULL &&
           (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec > 999999999);
}

EXPORT int epoll_pwait2(int epfd, struct epoll_event *events, int max,
                        const struct timespec *timeout, const sigset_t *mask)
{
    struct epoll_set *set = set_of(epfd);

    if (set == NULL ||
        (timeout != NULL && !readable(timeout, sizeof(*timeout))) ||
        bad_time(timeout))
        return REAL(epoll_pwait2)(epfd, events, max, timeout, mask);
    return wait_in(set, events, max, nanoseconds(timeout), mask);
}

void kernel_only_polled(const struct pollfd *fds, nfds_t n)
{
    if (n > INT_MAX || !readable(fds, n * sizeof(*fds)))
        return;
    for (nfds_t i = 0; i < n; i++)
        kernel_only(fds[i].fd);
}

/* Nowhere, or more than we care for: the kernel has an answer. */
static __attribute__((noinline)) bool bad_list(struct pollfd *fds, nfds_t n)
{
    if (n <= POLLED_MOST)
        return !writable(fds, n * sizeof(*fds));
    kernel_only_polled(fds, n);
    return true;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                 const sigset_t *mask)
{
    if (!process.ready || bad_list(fds, n) ||
        (timeout != NULL && !readable(timeout, sizeof(*timeout))) ||
        bad_time(timeout) || in_vfork_child() || !poll_has_endpoints(fds, n))
        return REAL(ppoll)(fds, n, timeout, mask);
    return (int)posix_result(poll_wait(fds, n, nanoseconds(timeout), mask));
}

static __attribute__((noinline)) int poll_ours(struct pollfd *fds, nfds_t n,
                                               int timeout)
{
    if (bad_list(fds, n) || !poll_has_endpoints(fds, n) || in_vfork_child())
        return REAL(poll)(fds, n, timeout);
    return (int)posix_result(
        poll_wait(fds, n, timeout < 0 ? -1 : (int64_t)timeout * 1000000, NULL));
}

int __poll(struct pollfd *fds, nfds_t n, int timeout);

/* Under this name, since libc's header says that poll reads nothing. */
EXPORT int __poll(struct pollfd *fds, nfds_t n, int timeout)
{
    /* One descriptor, which is the kernel's: no loop, no call and no frame. */
    if (likely(n == 1 &&
               reach_known(&process.reach, fds, sizeof(*fds), false) &&
               fd_find(fds->fd) == NULL))
        return FAST(poll)(fds, n, timeout);
    return poll_ours(fds, n, timeout);
}
ALIAS(__poll)
int poll(struct pollfd *fds, nfds_t n, int timeout);

/* ---- select, as a poll ---- */

enum {
    SELECT_IN = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR,
    SELECT_OUT = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR,
    SELECT_EXCEPT = POLLPRI,
    SELECT_SMALL = 64 /* descriptors, on the stack */
};

static bool in_set(int fd, const fd_set *set)
{
    /* Not FD_ISSET: programs pass larger arrays than fd_set. */
    return set != NULL &&
           (((const unsigned long *)set)[fd / 64] >> (fd % 64) & 1);
}

/* The kernel looks at no more of a set than its table of descriptors is long.
 */
static bool is_asked(int fd, const fd_set *set)
{
    return set != NULL && readable((const unsigned long *)set + fd / 64, 8) &&
           in_set(fd, set);
}

void kernel_only_selected(int n, const fd_set *in, const fd_set *out,
                          const fd_set *except)
{
    for (int fd = 0; fd < n && fd < (int)fd_rows_used(); fd++)
        if (fd_find(fd) != NULL &&
            (is_asked(fd, in) || is_asked(fd, out) || is_asked(fd, except)))
            kernel_only(fd);
}

static bool bad_set(int n, const fd_set *set)
{
    return set != NULL && !writable(set, (size_t)(n + 63) / 64 * 8);
}

static bool select_has_endpoints(int n, const fd_set *in, const fd_set *out,
                                 const fd_set *except)
{
    if (bad_set(n, in) || bad_set(n, out) || bad_set(n, except))
        return false;
    for (int fd = 0; fd < n; fd++) {
        struct object *o = fd_find(fd);

        if (o != NULL &&
            (in_set(fd, in) || in_set(fd, out) || in_set(fd, except))) {
            if (o->kind != OBJECT_OURS)
                return true;
        }
    }
    return false;
}

/* More than we care for: the kernel's. */
static bool too_many(int n, const fd_set *in, const fd_set *out,
                     const fd_set *except)
{
    if (likely(n <= POLLED_MOST))
        return false;
    kernel_only_selected(n, in, out, except);
    return true;
}

static void put_in_set(int fd, fd_set *set, bool on)
{
    if (set != NULL && on)
        ((unsigned long *)set)[fd / 64] |= 1ul << (fd % 64);
}

static void clear_set(int n, fd_set *set)
{
    if (set != NULL)
        memset(set, 0, (size_t)(n + 63) / 64 * 8);
}

static unsigned long word_of(const fd_set *set, int i)
{
    return set != NULL ? ((const unsigned long *)set)[i] : 0;
}

/* At most: what follows n in its word counts as well. */
static int count_fds(int n, const fd_set *in, const fd_set *out,
                     const fd_set *except)
{
    int count = 0;

    for (int i = 0; i < (n + 63) / 64; i++)
        count += __builtin_popcountl(word_of(in, i) | word_of(out, i) |
                                     word_of(except, i));
    return count;
}

static int select_by_poll(int n, fd_set *in, fd_set *out, fd_set *except,
                          int64_t timeout_ns, const sigset_t *mask)
{
    int places = count_fds(n, in, out, except), used = 0, count = 0, rc;
    size_t size = (size_t)places * sizeof(struct pollfd);
    struct pollfd small[SELECT_SMALL], *fds = small;

    if (places > SELECT_SMALL)
        fds = scratch_get(size);
    if (fds == NULL)
        return -ENOMEM;
    for (int fd = 0; fd < n && used < places; fd++) {
        short events = (short)((in_set(fd, in) ? POLLIN : 0) |
                               (in_set(fd, out) ? POLLOUT : 0) |
                               (in_set(fd, except) ? POLLPRI : 0));

        if (events != 0)
            fds[used++] = (struct pollfd){.fd = fd, .events = events};
    }
    rc = poll_wait(fds, (nfds_t)used, timeout_ns, mask);
    for (int i = 0; i < used && rc >= 0; i++)
        if (fds[i].revents & POLLNVAL)
            rc = -EBADF;
    if (rc >= 0) {
        clear_set(n, in);
        clear_set(n, out);
        clear_set(n, except);
    }
    for (int i = 0; i < used && rc >= 0; i++) {
        short got = fds[i].revents, asked = fds[i].events;
        bool r = (got & SELECT_IN) && (asked & POLLIN);
        bool w = (got & SELECT_OUT) && (asked & POLLOUT);
        bool x = (got & SELECT_EXCEPT) && (asked & POLLPRI);

        put_in_set(fds[i].fd, in, r);
        put_in_set(fds[i].fd, out, w);
        put_in_set(fds[i].fd, except, x);
        count += r + w + x;
    }
    if (fds != small)
        scratch_put(fds, size);
    return rc < 0 ? rc : count;
}

EXPORT int pselect(int n, fd_set *restrict in, fd_set *restrict out,
                   fd_set *restrict except,
                   const struct timespec *restrict timeout,
                   const sigset_t *restrict mask)
{
    if (!process.ready || n <= 0 || too_many(n, in, out, except) ||
        (timeout != NULL && !readable(timeout, sizeof(*timeout))) ||
        bad_time(timeout) || in_vfork_child() ||
        !select_has_endpoints(n, in, out, except))
        return REAL(pselect)(n, in, out, except, timeout, mask);
    return (int)posix_result(
        select_by_poll(n, in, out, except, nanoseconds(timeout), mask));
}

/* Its microseconds may be more than a second; the sum is cut as libc cuts it.
 */
static struct timespec time_of(const struct timeval *v)
{
    struct timespec t = {.tv_nsec = v->tv_usec % 1000000 * 1000};

    if (__builtin_add_overflow(v->tv_sec, v->tv_usec / 1000000, &t.tv_sec))
        t = (struct timespec){LONG_MAX, 999999999};
    return t;
}

static struct timeval time_without(struct timespec t, int64_t ns)
{
    t.tv_sec -= ns / 1000000000;
    t.tv_nsec -= ns % 1000000000;
    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += 1000000000;
    }
    if (t.tv_sec < 0)
        return (struct timeval){0, 0};
    return (struct timeval){t.tv_sec, t.tv_nsec / 1000};
}

EXPORT int select(int n, fd_set *restrict in, fd_set *restrict out,
                  fd_set *restrict except, struct timeval *restrict timeout)
{
    struct timespec t, before, after;
    int rc;

    if (!process.ready || n <= 0 || too_many(n, in, out, except) ||
        in_vfork_child() ||
        (timeout != NULL && (!writable(timeout, sizeof(*timeout)) ||
                             timeout->tv_sec < 0 || timeout->tv_usec < 0)) ||
        !select_has_endpoints(n, in, out, except))
        return REAL(select)(n, in, out, except, timeout);
    if (timeout == NULL)
        return (int)posix_result(select_by_poll(n, in, out, except, -1, NULL));
    t = time_of(timeout);
    clock_gettime(CLOCK_MONOTONIC, &before);
    rc = select_by_poll(n, in, out, except, nanoseconds(&t), NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    /* Linux leaves the time not slept in the argument. */
    *timeout = time_without(t, nanoseconds(&after) - nanoseconds(&before));
    if (rc == 0)
        *timeout = (struct timeval){0, 0};
    return (int)posix_result(rc);
}

/* ---- fortified forms and older names ---- */

int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                const sigset_t *mask, size_t size);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    if (size / sizeof(*fds) < n)
        __chk_fail();
    return poll(fds, n, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n,
                       const struct timespec *timeout, const sigset_t *mask,
                       size_t size)
{
    if (size / sizeof(*fds) < n)
        __chk_fail();
    return ppoll(fds, n, timeout, mask);
}

ALIAS(select)
int __select(int n, fd_set *restrict in, fd_set *restrict out,
             fd_set *restrict except, struct timeval *restrict timeout);
