/*
 * See epoll_set.h: epoll_ctl(2) of a stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/epoll_private.h"

static struct epoll_reg *find_reg(struct epoll_set *set, struct endpoint *e,
                                  int fd)
{
    struct epoll_reg *r = e->regs;

    while (r != NULL && (r->set != set || r->fd != fd))
        r = r->next;
    return r;
}

/* By the program, from now on. */
static void arm_reg(struct epoll_set *set, struct epoll_reg *reg,
                    const struct epoll_event *event)
{
    lock_enter(&set->lock);
    reg->parked &= reg->managed;
    reg->events = event->events;
    reg->data = event->data;
    reg->disarmed = reg->out_seen = false;
    reg->taken_at = 0;
    reg->told_seen = atomic_load(&reg->endpoint->stream.told) - 1;
    if (reg->managed)
        epoll_make_hot(set, reg);
    lock_leave(&set->lock);
    if (reg->managed)
        waiter_wake(set->waiter->id);
}

/*
 * To take a registration out of the kernel's set and to put it back are two
 * system calls, more than all else that a request takes.
 */
static bool let_linger(struct epoll_set *set, struct epoll_reg *reg)
{
    if (!reg->managed || !reg->parked || set->watched ||
        atomic_load(&set->alone) || atomic_load(&set->lingering) != NULL)
        return false;
    lock_enter(&set->lock);
    reg->events = 0;
    reg->disarmed = reg->lingers = true;
    reg->taken_at = 0;
    reg->news_rung = 0;
    atomic_store(&set->lingering, reg);
    lock_leave(&set->lock);
    return true;
}

void epoll_drop_lingering(struct epoll_reg *reg)
{
    epoll_kernel_ctl(reg->set, EPOLL_CTL_DEL, reg->fd, 0, reg->data);
    epoll_drop_reg(reg);
}

/* The stream's lock comes before the registry's: find, then lock in order. */
void epoll_end_lingering(struct epoll_set *set)
{
    struct endpoint *e = NULL;
    struct epoll_reg *reg;

    if (lock_entered > 0)
        return; /* a signal handler, in the midst of something */
    epoll_registry_lock();
    reg = atomic_load(&set->lingering);
    if (reg != NULL)
        e = reg->endpoint;
    epoll_registry_unlock();
    if (e == NULL)
        return;
    lock_enter(&e->stream.rx);
    epoll_registry_lock();
    reg = atomic_load(&set->lingering);
    if (reg != NULL && reg->endpoint == e)
        epoll_drop_lingering(reg);
    epoll_registry_unlock();
    lock_leave(&e->stream.rx);
}

/* What the kernel refuses together with EPOLLEXCLUSIVE. */
static bool is_refused(uint32_t events)
{
#ifdef PLANT_EXCLUSIVE_IGNORED
    events &= ~(uint32_t)EPOLLEXCLUSIVE;
#endif
    return (events & EPOLLEXCLUSIVE) &&
           (events & ~(uint32_t)(EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP |
                                 EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE));
}

static int add_reg(struct epoll_set *set, int fd, struct endpoint *e,
                   const struct epoll_event *event)
{
    bool managed = e->stream.managed, parked = managed && !set->shared;
    epoll_data_t cookie = {.ptr = (void *)&epoll_parked_cookie};
    struct epoll_reg *reg;
    int rc;

    if (is_refused(event->events))
        return -EINVAL;
    reg = find_reg(set, e, fd);
    if (reg != NULL && !reg->lingers)
        return -EEXIST;
    if (reg != NULL) {
        reg->lingers = false;
        atomic_store(&set->lingering, NULL);
        arm_reg(set, reg, event);
        return 0;
    }
    reg = calloc(1, sizeof(*reg));
    if (reg == NULL)
        return -ENOMEM;
    if (parked)
        atomic_store(&set->object.plain, false);
    rc = epoll_kernel_ctl(set, EPOLL_CTL_ADD, fd,
                          parked ? (uint32_t)EPOLL_PARKED : event->events,
                          parked ? cookie : event->data);
    if (rc < 0) {
        free(reg);
        return rc;
    }
    if (parked && set->watched)
        epoll_kernel_ctl(set, EPOLL_CTL_DEL, fd, 0, cookie);
    reg->set = set;
    reg->endpoint = e;
    reg->fd = fd;
    reg->events = event->events;
    reg->data = event->data;
    reg->parked = parked;
    reg->next = e->regs;
    reg->set_next = set->regs;
    set->regs = reg;
    __atomic_store_n(&e->regs, reg, __ATOMIC_RELEASE);
    if (managed)
        epoll_take_over(reg);
    return 0;
}

static int change_reg(struct epoll_set *set, struct epoll_reg *reg,
                      const struct epoll_event *event)
{
    int rc = 0;

    if (event->events & EPOLLEXCLUSIVE || reg->events & EPOLLEXCLUSIVE)
        return -EINVAL;
    if (!reg->managed)
        rc = epoll_kernel_ctl(set, EPOLL_CTL_MOD, reg->fd, event->events,
                              event->data);
    if (rc == -ENOENT && reg->parked && set->watched)
        rc = epoll_kernel_ctl(set, EPOLL_CTL_ADD, reg->fd, event->events,
                              event->data);
    if (rc < 0)
        return rc;
    arm_reg(set, reg, event);
    return 0;
}

/* Under the stream's locks it cannot leave TCP meanwhile. */
static void lock_for_ctl(struct epoll_set *set, struct endpoint *e, bool add)
{
    stream_lock_all(&e->stream);
    epoll_registry_lock();
    if (!add || !epoll_keeps_on_tcp(set, e))
        return;
    epoll_registry_unlock();
    stream_unlock_all(&e->stream);
    endpoint_settle(e, REASON_SHARED_AFTER_FORK);
    stream_lock_all(&e->stream);
    epoll_registry_lock();
    epoll_keeps_on_tcp(set, e); /* another thread may have looked meanwhile */
}

int epoll_set_ctl(struct epoll_set *set, int op, int fd, struct endpoint *e,
                  struct epoll_event *event)
{
    struct epoll_reg *reg;
    int rc;

    if (atomic_load_explicit(&set->alone, memory_order_relaxed) &&
        op == EPOLL_CTL_ADD)
        endpoint_banish(e, REASON_NESTED_EPOLL);
    lock_for_ctl(set, e, op == EPOLL_CTL_ADD && event != NULL);
    if (atomic_load(&e->left)) { /* its number is just being closed */
        rc = -EBADF;
        goto unlock;
    }
    reg = find_reg(set, e, fd);
    if (reg != NULL && reg->lingers && op != EPOLL_CTL_ADD) {
        epoll_drop_lingering(reg);
        reg = NULL; /* the kernel knows what to say */
    }
    if (op == EPOLL_CTL_ADD && event != NULL) {
        rc = add_reg(set, fd, e, event);
    } else if (reg == NULL || (op != EPOLL_CTL_DEL && event == NULL)) {
        rc = syscall(SYS_epoll_ctl, set->epfd, op, fd, event) < 0 ? -errno : 0;
    } else if (op == EPOLL_CTL_MOD) {
        rc = change_reg(set, reg, event);
    } else if (op == EPOLL_CTL_DEL && let_linger(set, reg)) {
        rc = 0;
    } else if (op == EPOLL_CTL_DEL) {
        rc = epoll_kernel_ctl(set, op, fd, 0, reg->data);
        if (rc == -ENOENT && reg->parked &&
            (set->watched || (reg->events & EPOLLEXCLUSIVE)))
            rc = 0; /* see park() */
        epoll_drop_reg(reg);
    } else {
        rc = -EINVAL;
    }
unlock:
    epoll_registry_unlock();
    stream_unlock_all(&e->stream);
    return rc;
}
