/*
 * See loop.h. Removal during a turn marks the event batch instead of the
 * memory: the batch is scanned for the watch and cleared there. Each write to
 * the wake-up descriptor is an edge, so nobody has to read it.
 */
#include "transport/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/pause.h"

enum { LOOP_BATCH = 64 };

struct loop {
    const struct loop_calls *calls;
    int epfd, wake_fd;
    _Atomic bool sleeping;
    struct timer *timers;
    struct epoll_event batch[LOOP_BATCH];
    int n, at; /* of the batch being handled */
};

static int raw_epoll_ctl(int epfd, int op, int fd, struct epoll_event *e)
{
    return syscall(SYS_epoll_ctl, epfd, op, fd, e) < 0 ? -errno : 0;
}

const struct loop_calls *loop_calls(const struct loop *loop)
{
    return loop->calls;
}

int loop_create(const struct loop_calls *calls, struct loop **out)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    struct loop *loop = calloc(1, sizeof(*loop));
    int rc;

    if (loop == NULL)
        return -ENOMEM;
    loop->calls = calls;
    rc = calls->keep((int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
    if (rc < 0)
        goto free_loop;
    loop->epfd = rc;
    rc = calls->keep((int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (rc < 0)
        goto close_epfd;
    loop->wake_fd = rc;
    rc = raw_epoll_ctl(loop->epfd, EPOLL_CTL_ADD, loop->wake_fd, &e);
    if (rc < 0)
        goto close_wake;
    *out = loop;
    return 0;
close_wake:
    calls->close(loop->wake_fd);
close_epfd:
    calls->close(loop->epfd);
free_loop:
    free(loop);
    return rc;
}

void loop_destroy(struct loop *loop)
{
    if (loop == NULL)
        return;
    loop->calls->close(loop->wake_fd);
    loop->calls->close(loop->epfd);
    free(loop);
}

int loop_add(struct loop *loop, struct watch *watch, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = watch};
    int rc = raw_epoll_ctl(loop->epfd, EPOLL_CTL_ADD, watch->fd, &e);

    watch->added = rc == 0;
    return rc;
}

void loop_change(struct loop *loop, struct watch *watch, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = watch};

    raw_epoll_ctl(loop->epfd, EPOLL_CTL_MOD, watch->fd, &e);
}

void loop_remove(struct loop *loop, struct watch *watch)
{
    struct epoll_event e = {0};

    if (watch->added)
        raw_epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, &e);
    watch->added = false;
    /* Also of one that was detached: its event may still be pending. */
    for (int i = loop->at; i < loop->n; i++)
        if (loop->batch[i].data.ptr == watch)
            loop->batch[i].events = 0;
}

void loop_detach(struct loop *loop, struct watch *watch)
{
    struct epoll_event e = {0};

    raw_epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, &e);
    watch->added = false;
}

void loop_move(struct loop *loop, struct watch *watch, int new_fd)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                            .data.ptr = watch};

    raw_epoll_ctl(loop->epfd, EPOLL_CTL_ADD, new_fd, &e);
    raw_epoll_ctl(loop->epfd, EPOLL_CTL_DEL, watch->fd, &e);
    watch->fd = new_fd;
}

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_ns)
{
    timer_heap_remove(&loop->timers, timer);
    timer->at_ns = at_ns;
    timer_heap_put(&loop->timers, timer);
}

void loop_timer_clear(struct loop *loop, struct timer *timer)
{
    timer_heap_remove(&loop->timers, timer);
    timer->at_ns = 0;
}

/* One expired timer at a time: a callback may change the heap. */
static void run_timers(struct loop *loop)
{
    uint64_t now = clock_ns();
    struct timer *t;

    while ((t = loop->timers) != NULL && t->at_ns <= now) {
        loop_timer_clear(loop, t);
        t->expired(t);
    }
}

static int milliseconds_left(const struct loop *loop)
{
    uint64_t now, left;

    if (loop->timers == NULL)
        return -1;
    now = clock_ns();
    if (loop->timers->at_ns <= now)
        return 0;
    left = (loop->timers->at_ns - now + 999999) / 1000000;
    return left > INT_MAX ? INT_MAX : (int)left;
}

void loop_turn(struct loop *loop, bool (*may_sleep)(void *arg), void *arg)
{
    int ms = milliseconds_left(loop);

    atomic_store(&loop->sleeping, true);
    full_fence();
    if (!may_sleep(arg))
        ms = 0;
    loop->n = (int)syscall(SYS_epoll_pwait, loop->epfd, loop->batch, LOOP_BATCH,
                           ms, NULL, 8);
    atomic_store(&loop->sleeping, false);
    for (loop->at = 0; loop->at < loop->n; loop->at++) {
        struct epoll_event *e = &loop->batch[loop->at];
        struct watch *watch = e->data.ptr;

        if (watch != NULL && e->events != 0)
            watch->ready(watch, e->events);
    }
    loop->n = 0;
    run_timers(loop);
}

void loop_wake(struct loop *loop)
{
    uint64_t one = 1;

    full_fence();
    if (atomic_exchange(&loop->sleeping, false))
        (void)!syscall(SYS_write, loop->wake_fd, &one, sizeof(one));
}
