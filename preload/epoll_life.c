/*
 * See epoll_set.h: how sets begin and end.
 *
 * close() does not end a wait of another thread: it goes on with the set, by a
 * descriptor of ours, and the last one to leave ends it. A thread that lost a
 * race with close() finds a set and not a hole: they are reused late.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preload/epoll_private.h"
#include "preload/process.h"

enum { REST = 64 }; /* so many others end before one is used again */

struct epoll_set *epoll_all_sets;

/* Under the registry lock. First in, first out. */
static struct {
    struct epoll_set *head, **tail;
    unsigned n;
} resting = {.tail = &resting.head};

/* Registry lock held. */
static struct epoll_set *take_rested(void)
{
    struct epoll_set *set = resting.head;
    char *rest = (char *)&set->epfd;

    if (resting.n <= REST)
        return NULL;
    resting.head = set->next;
    resting.n--;
    memset(&set->object, 0, sizeof(set->object));
    memset(rest, 0, (size_t)((char *)(set + 1) - rest));
    /* Who came too late counts himself out yet. */
    atomic_fetch_and(&set->inside, ~SET_MARKS);
    return set;
}

struct epoll_set *epoll_set_create(int epfd)
{
    struct epoll_set *set;

    epoll_registry_lock();
    set = take_rested();
    if (set == NULL)
        set = calloc(1, sizeof(struct epoll_set));
    if (set == NULL)
        goto unlock;
    set->object.kind = OBJECT_EPOLL;
    set->object.plain = process.settings.poll_kernel_usec == 0;
    atomic_store(&set->epfd, epfd);
    set->wake_fd = -1;
    set->next = epoll_all_sets;
    epoll_all_sets = set;
unlock:
    epoll_registry_unlock();
    return set;
}

/* The stream's lock comes before the registry's: find, then lock in order. */
static void drop_all(struct epoll_set *set)
{
    for (;;) {
        struct epoll_reg *reg;
        struct endpoint *e;

        epoll_registry_lock();
        e = set->regs != NULL ? set->regs->endpoint : NULL;
        epoll_registry_unlock();
        if (e == NULL)
            return;
        lock_enter(&e->stream.rx);
        epoll_registry_lock();
        for (reg = e->regs; reg != NULL && reg->set != set; reg = reg->next)
            ;
        if (reg != NULL)
            epoll_drop_reg(reg);
        else if (set->regs != NULL && set->regs->endpoint == e)
            set->regs = set->regs->set_next; /* nobody's: never again */
        epoll_registry_unlock();
        lock_leave(&e->stream.rx);
    }
}

void epoll_end(struct epoll_set *set)
{
    struct epoll_set **at = &epoll_all_sets;

    drop_all(set);
    epoll_share_ends(set);
    epoll_registry_lock();
    while (*at != set)
        at = &(*at)->next;
    *at = set->next;
    waiter_destroy(set->waiter);
    if (set->kept)
        ours_close(atomic_load(&set->epfd));
    free(set->hot);
    free(set->peers);
    free(set->inner);
    set->waiter = NULL;
    set->hot = NULL;
    set->peers = NULL;
    set->inner = NULL;
    atomic_store(&set->n_inner, 0);
    set->next = NULL;
    if (resting.head == NULL)
        resting.tail = &resting.head;
    *resting.tail = set;
    resting.tail = &set->next;
    resting.n++;
    epoll_registry_unlock();
}

/* ---- close ---- */

int epoll_set_close(struct epoll_set *set, int fd, int (*how)(void *arg),
                    void *arg)
{
    uint32_t before;
    int rc, error;

    atomic_fetch_add(&set->inside, 1);
    before = atomic_fetch_or(&set->inside, SET_CLOSED);
    if (before & SET_CLOSED) {
        epoll_count_out(set); /* two threads close it */
        return how(arg);
    }
    epoll_registry_lock();
    epoll_nest_forget(set, before > 1);
    if (before > 1) {
        atomic_store(&set->epfd, ours_copy(set->epfd));
        set->kept = true;
    }
    epoll_registry_unlock();
    if (before <= 1)
        drop_all(set);
    rc = how(arg);
    error = errno;
    fd_forget(fd, &set->object);
    epoll_count_out(set);
    errno = error;
    return rc;
}

void epoll_set_lost(struct epoll_set *set)
{
    atomic_fetch_add(&set->inside, 1);
    if (!(atomic_fetch_or(&set->inside, SET_CLOSED) & SET_CLOSED)) {
        epoll_registry_lock();
        epoll_nest_forget(set, false);
        atomic_store(&set->epfd, -1);
        epoll_registry_unlock();
    } /* else it is just being closed */
    epoll_count_out(set);
}

/* ---- of the process ---- */

static void take_bells_out(void)
{
    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next)
        epoll_take_bell_out(set);
    epoll_registry_unlock();
}

void epoll_sets_before_fork(void)
{
    take_bells_out();
    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next) {
        epoll_share(set);
        atomic_store(&set->object.plain, false); /* others' bells may come */
    }
    epoll_registry_unlock();
}

void epoll_sets_leave_alone(void)
{
    take_bells_out();
    epoll_registry_lock();
    for (struct epoll_set *set = epoll_all_sets; set != NULL; set = set->next)
        for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
            epoll_unpark(r, true);
    epoll_registry_unlock();
}

/* It was closed, and those who wait in it are threads of the parent. */
static void forget_left(struct epoll_set **at)
{
    struct epoll_set *set = *at;

    for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next) {
        struct epoll_reg **of = &r->endpoint->regs;

        while (*of != NULL && *of != r)
            of = &(*of)->next;
        if (*of == r)
            *of = r->next;
    }
    atomic_fetch_or(&set->inside, SET_ENDED);
    epoll_share_ends(set);
    *at = set->next; /* not freed: another thread may have held the heap */
}

/*
 * One that could not come back goes on in the parent, and so does its entry.
 * What the program has deleted there is never found here, and goes as soon as
 * its stream is looked at.
 */
static void forget_managed(struct epoll_reg *reg)
{
    reg->parked &= !reg->managed;
    reg->managed = reg->hot = false;
    if (reg->lingers)
        reg->fd = -1;
}

/* The child has the sets, but no bells and no peers. */
void epoll_sets_after_fork(void)
{
    struct epoll_set *set;

    epoll_registry_init();
    epoll_nest_forked();
    epoll_forget_places();
    for (struct epoll_set **at = &epoll_all_sets; (set = *at) != NULL;) {
        lock_init(&set->lock);
        family_forked(&set->holders);
        set->waiter = NULL; /* freed by waiters_forget() */
        set->n_peers = set->n_hot = 0;
        atomic_fetch_and(&set->inside, SET_MARKS);
        atomic_store(&set->sleepers, 0);
        atomic_store(&set->watchers, 0);
        set->stale = 0;
        atomic_store(&set->rouses, false);
        atomic_store(&set->n_managed, 0);
        atomic_store(&set->lingering, NULL);
        atomic_store(&set->bell_in, false);
        set->wake_fd = -1;
        for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
            forget_managed(r);
        if (atomic_load(&set->inside) & SET_CLOSED)
            forget_left(at);
        else
            at = &set->next;
    }
}
