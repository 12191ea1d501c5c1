/*
 * See epoll_set.h: membership. What the program asks for is in epoll_ctl.c,
 * what epoll_wait does in epoll_wait.c.
 */
#include "preload/epoll_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preload/epoll_private.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "transport/kernel_calls.h"

static struct lock registry;

/* The registrations of ours in the kernel's set carry these addresses. */
const char epoll_bell_cookie, epoll_wake_cookie, epoll_rouse_cookie,
    epoll_parked_cookie;

void epoll_registry_lock(void)
{
    lock_enter(&registry);
}

void epoll_registry_unlock(void)
{
    lock_leave(&registry);
}

void epoll_registry_init(void)
{
    lock_init(&registry);
}

int epoll_kernel_ctl(struct epoll_set *set, int op, int fd, uint32_t events,
                     epoll_data_t data)
{
    struct epoll_event event = {.events = events, .data = data};

    return syscall(SYS_epoll_ctl, set->epfd, op, fd, &event) < 0 ? -errno : 0;
}

/*
 * Set lock held. The kernel's set has the descriptor while a peer needs it.
 * False: there is no room for it.
 */
static bool watch_devices(struct epoll_set *set)
{
    epoll_data_t cookie = {.ptr = (void *)&epoll_wake_cookie};
    int fd = -1;

    for (unsigned i = 0; i < set->n_peers && fd < 0; i++)
        if (set->peers[i].wakes)
            fd = peer_wake_fd(set->peers[i].peer);
    if (fd == set->wake_fd)
        return true;
    if (fd >= 0 &&
        epoll_kernel_ctl(set, EPOLL_CTL_ADD, fd, EPOLLIN, cookie) < 0)
        return false;
    if (set->wake_fd >= 0)
        epoll_kernel_ctl(set, EPOLL_CTL_DEL, set->wake_fd, 0, cookie);
    set->wake_fd = fd;
    return true;
}

/* Registry and set locks held. */
static void put_peer(struct epoll_set *set, struct peer *peer)
{
    for (unsigned i = 0; i < set->n_peers; i++)
        if (set->peers[i].peer == peer && --set->peers[i].regs == 0) {
            peer_ops(peer)->peer_arm(peer, set->waiter->id, false);
            peer_ops(peer)->peer_put(peer);
            set->peers[i] = set->peers[--set->n_peers];
            watch_devices(set);
            return;
        }
}

static bool get_peer(struct epoll_set *set, struct peer *peer)
{
    struct epoll_peer *grown;

    for (unsigned i = 0; i < set->n_peers; i++)
        if (set->peers[i].peer == peer) {
            set->peers[i].regs++;
            return true;
        }
    grown = realloc(set->peers, (set->n_peers + 1) * sizeof(*grown));
    if (grown == NULL)
        return false;
    set->peers = grown;
    peer_ops(peer)->peer_get(peer);
    set->peers[set->n_peers].peer = peer;
    set->peers[set->n_peers].wakes = peer_wake_fd(peer) >= 0;
    set->peers[set->n_peers++].regs = 1;
    if (watch_devices(set))
        return true;
    set->n_peers--;
    peer_ops(peer)->peer_put(peer);
    return false;
}

void epoll_make_hot(struct epoll_set *set, struct epoll_reg *reg)
{
    if (reg->hot)
        return;
    if (set->n_hot == set->hot_size) {
        unsigned size = set->hot_size ? 2 * set->hot_size : 16;
        struct epoll_reg **grown = realloc(set->hot, size * sizeof(*grown));

        if (grown == NULL) {
            reg->promote = true; /* looked at in the slow way */
            atomic_store(&set->promote, true);
            return;
        }
        set->hot = grown;
        set->hot_size = size;
    }
    reg->hot = true;
    reg->quiet_scans = 0;
    reg->hit_at = set->hit_scans;
    set->hot[set->n_hot++] = reg;
}

void epoll_make_cold(struct epoll_set *set, struct epoll_reg *reg)
{
    if (!reg->hot)
        return;
    for (unsigned i = 0; i < set->n_hot; i++)
        if (set->hot[i] == reg) {
            set->hot[i] = set->hot[--set->n_hot];
            break;
        }
    reg->hot = false;
}

/*
 * It stays the kernel's under our cookie, so that it needs no memory, and no
 * place among the user's watches, when it is the program's again. But in a set
 * that is looked at from outside its hang-up would be seen.
 */
static void park(struct epoll_reg *reg)
{
    epoll_data_t cookie = {.ptr = (void *)&epoll_parked_cookie};
    struct epoll_set *set = reg->set;

    if (set->watched) {
        epoll_kernel_ctl(set, EPOLL_CTL_DEL, reg->fd, 0, cookie);
    } else if (epoll_kernel_ctl(set, EPOLL_CTL_MOD, reg->fd, EPOLL_PARKED,
                                cookie) ==
               -EINVAL) { /* EPOLLEXCLUSIVE stands until it is removed */
        epoll_kernel_ctl(set, EPOLL_CTL_DEL, reg->fd, 0, cookie);
        epoll_kernel_ctl(set, EPOLL_CTL_ADD, reg->fd, EPOLL_PARKED, cookie);
    }
    reg->parked = true;
}

void epoll_set_is_watched(struct epoll_set *set)
{
    if (set->watched)
        return;
    lock_enter(&set->lock);
    set->watched = true;
    for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
        if (r->parked)
            epoll_kernel_ctl(set, EPOLL_CTL_DEL, r->fd, 0, r->data);
    lock_leave(&set->lock);
}

/* Exclusive it was once: more threads may wake up, none too few. */
void epoll_unpark(struct epoll_reg *reg, bool spent_too)
{
    uint32_t events = reg->disarmed ? (uint32_t)EPOLLONESHOT : reg->events;
    struct epoll_set *set = reg->set;
    int rc;

    /* The kernel would report errors even of a spent one-shot. */
    if (!reg->parked || (reg->disarmed && !spent_too))
        return;
    rc = epoll_kernel_ctl(set, EPOLL_CTL_MOD, reg->fd,
                          events & ~(uint32_t)EPOLLEXCLUSIVE, reg->data);
    if (rc == -ENOENT) /* see park() */
        epoll_kernel_ctl(set, EPOLL_CTL_ADD, reg->fd, events, reg->data);
    reg->parked = false;
}

static void out_of_kernel(struct epoll_reg *reg)
{
    struct epoll_set *set = reg->set;
    bool one_shot = reg->events & EPOLLONESHOT;

    if (reg->parked)
        return;
    /* What a thread is told in between it finds itself: mark_spent(). */
    atomic_store(&set->taking, one_shot);
    if (one_shot)
        reg->disarmed = epoll_spent_in_kernel(reg);
    park(reg);
    reg->taken_at = atomic_fetch_add(&set->object.takeovers, 1) + 1;
    atomic_store(&set->taking, false);
}

bool epoll_put_bell_in(struct epoll_set *set)
{
    epoll_data_t cookie = {.ptr = (void *)&epoll_bell_cookie};

    if (set->waiter == NULL)
        set->waiter = waiter_create(false);
    if (set->waiter == NULL)
        return false;
    if (set->bell_in)
        return true;
    atomic_store(&set->object.plain, false);
    if (epoll_kernel_ctl(set, EPOLL_CTL_ADD, set->waiter->bell, EPOLLIN,
                         cookie) < 0)
        return false;
    atomic_store(&set->bell_in, true);
    return true;
}

void epoll_take_over(struct epoll_reg *reg)
{
    struct epoll_set *set = reg->set;
    struct link *link = reg->endpoint->stream.link;

    lock_enter(&set->lock);
    if (reg->managed)
        goto unlock;
    if (set->shared || link == NULL || !epoll_put_bell_in(set) ||
        !get_peer(set, link->peer)) {
        /* It, or another process, cannot be woken: it goes back. */
        helper_ask(reg->endpoint, WORK_RETURN);
        goto unlock;
    }
    out_of_kernel(reg);
    reg->managed = true;
    reg->peer = link->peer;
    reg->told_seen = atomic_load(&reg->endpoint->stream.told) - 1;
    if (reg->endpoint->settings.poll_usec * 1000 > set->poll_ns)
        set->poll_ns = reg->endpoint->settings.poll_usec * 1000;
    epoll_make_hot(set, reg);
    atomic_fetch_add(&set->n_managed, 1);
    atomic_fetch_add(&set->moves, 1);
    epoll_arm_sleepers(set);
unlock:
    lock_leave(&set->lock);
    if (!reg->managed)
        return;
    if (!endpoint_watch(reg->endpoint, set->waiter->id))
        helper_ask(reg->endpoint, WORK_RETURN);
    waiter_wake(set->waiter->id); /* who sleeps in the kernel: look */
}

/* Who finds that none is managed asks the kernel alone: it has it by then. */
static void give_back(struct epoll_reg *reg, bool to_kernel)
{
    struct epoll_set *set = reg->set;
    bool managed;

    lock_enter(&set->lock);
    managed = reg->managed;
    if (managed) {
        epoll_make_cold(set, reg);
        reg->managed = reg->promote = false;
    }
    if (to_kernel)
        epoll_unpark(reg, atomic_load(&set->alone));
    if (managed) {
        atomic_fetch_sub(&set->n_managed, 1);
        atomic_fetch_add(&set->moves, 1);
        put_peer(set, reg->peer);
        if (atomic_load(&set->alone))
            epoll_take_bell_out(set);
    }
    lock_leave(&set->lock);
}

void epoll_sets_managed(struct endpoint *e, bool on)
{
    struct epoll_reg *next;

    lock_enter(&registry);
    for (struct epoll_reg *r = e->regs; r != NULL; r = next) {
        next = r->next;
        if (r->lingers)
            epoll_drop_lingering(r);
        else if (on)
            epoll_take_over(r);
        else
            give_back(r, true);
    }
    lock_leave(&registry);
}

void epoll_sets_told(struct endpoint *e)
{
    lock_enter(&registry);
    for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
        if (r->managed) {
            if (!r->hot) {
                r->promote = true;
                atomic_store(&r->set->promote, true);
            }
            waiter_wake(r->set->waiter->id);
        }
    lock_leave(&registry);
}

static void unlink_reg(struct epoll_reg *reg)
{
    struct epoll_reg **at;

    for (at = &reg->endpoint->regs; *at != NULL; at = &(*at)->next)
        if (*at == reg) {
            *at = reg->next;
            break;
        }
    for (at = &reg->set->regs; *at != NULL; at = &(*at)->set_next)
        if (*at == reg) {
            *at = reg->set_next;
            break;
        }
    if (atomic_load(&reg->set->lingering) == reg)
        atomic_store(&reg->set->lingering, NULL);
    free(reg);
}

/* The last registration of that set for the stream? */
void epoll_drop_reg(struct epoll_reg *reg)
{
    struct endpoint *e = reg->endpoint;
    struct epoll_set *set = reg->set;
    bool other = false;

    give_back(reg, false);
    for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
        other |= r != reg && r->set == set;
    if (!other && set->waiter != NULL) {
        endpoint_unwatch(e, set->waiter->id);
        if (e->stream.link != NULL)
            e->stream.link->ops->set_marked(e->stream.link, set->waiter->id,
                                            false);
    }
    unlink_reg(reg);
}

bool epoll_sets_have(struct endpoint *e, int fd)
{
    bool have = false;

    if (__atomic_load_n(&e->regs, __ATOMIC_RELAXED) == NULL)
        return false;
    lock_enter(&registry);
    for (struct epoll_reg *r = e->regs; r != NULL; r = r->next)
        have |= r->fd == fd && !r->lingers;
    lock_leave(&registry);
    return have;
}

void epoll_sets_forget(struct endpoint *e, bool unlist)
{
    if (__atomic_load_n(&e->regs, __ATOMIC_RELAXED) == NULL)
        return;
    lock_enter(&e->stream.rx);
    lock_enter(&registry);
    while (e->regs != NULL) {
        struct epoll_reg *r = e->regs;

        if (unlist)
            epoll_kernel_ctl(r->set, EPOLL_CTL_DEL, r->fd, 0, r->data);
        epoll_drop_reg(r);
    }
    lock_leave(&registry);
    lock_leave(&e->stream.rx);
}

/*
 * What is parked under that number could not be taken out later, and in the
 * kernel's set it says that the connection has ended.
 */
void epoll_sets_leave_number(struct endpoint *e, int fd)
{
    struct epoll_reg *next;

    if (__atomic_load_n(&e->regs, __ATOMIC_RELAXED) == NULL)
        return;
    lock_enter(&e->stream.rx);
    lock_enter(&registry);
    for (struct epoll_reg *r = e->regs; r != NULL; r = next) {
        next = r->next;
        if (r->fd != fd || !r->parked)
            continue;
        epoll_kernel_ctl(r->set, EPOLL_CTL_DEL, fd, 0, r->data);
        if (!r->managed || r->lingers)
            epoll_drop_reg(r); /* a spent one-shot */
    }
    lock_leave(&registry);
    lock_leave(&e->stream.rx);
}

void epoll_take_bell_out(struct epoll_set *set)
{
    if (!set->bell_in || atomic_load(&set->n_managed) != 0)
        return;
    epoll_kernel_ctl(set, EPOLL_CTL_DEL, set->waiter->bell, 0,
                     (epoll_data_t){0});
    atomic_store(&set->bell_in, false);
}

void epoll_set_to_kernel(struct epoll_set *set)
{
    if (atomic_exchange(&set->alone, true))
        return;
    epoll_end_lingering(set);
    for (;;) {
        struct epoll_set *inner = NULL;
        struct endpoint *e = NULL;

        epoll_registry_lock();
        for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
            if (!r->lingers && !atomic_load(&r->endpoint->ineligible))
                e = r->endpoint;
        for (unsigned i = 0; i < atomic_load(&set->n_inner); i++)
            if (!atomic_load(&set->inner[i]->alone))
                inner = set->inner[i];
        if (inner != NULL)
            atomic_fetch_add(&inner->inside, 1);
        if (e == NULL) {
            for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
                if (!r->managed)
                    epoll_unpark(r, true);
            epoll_take_bell_out(set);
        }
        epoll_registry_unlock();
        if (e != NULL)
            endpoint_banish(e, REASON_NESTED_EPOLL);
        if (inner != NULL) {
            epoll_set_to_kernel(inner);
            epoll_count_out(inner);
        }
        if (e == NULL && inner == NULL)
            break;
    }
    epoll_rouse_nobody(set);
}
