/*
 * Links over shared memory that break, which such links never do by
 * themselves. This file is linked with the objects of the library in place of
 * link_take() (the linker's --wrap), so the library has no word of it.
 *
 * The n-th operation of a link at this end is lost, and so is every later one:
 * what is committed does not reach the peer, what the peer commits is not
 * seen, nor what either end has taken. The helper thread is told, as a device
 * would tell it. The channel goes on.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/backend/shm_private.h"
#include "transport/kernel_calls.h"

#define SHOWN __attribute__((visibility("default")))

struct breaking {
    struct transport_ops ops; /* first: what link->ops points to */
    struct link *link;
    struct shm *shm;
    struct breaking *next;
    _Atomic uint32_t left; /* operations until it breaks; 0: never */
    _Atomic bool broken;
    bool told;
    _Atomic uint64_t landed; /* the last one that was seen */
};

static struct {
    _Atomic uint32_t plan, broken;
    pid_t pid;
    struct breaking *all; /* the helper's */
    struct watch news;
} breaks;

struct shm_link *__real_link_take(struct arena *peer, unsigned idx);
struct shm_link *__wrap_link_take(struct arena *peer, unsigned idx);
SHOWN void breaking_links_plan(uint32_t at);
SHOWN uint32_t breaking_links_count(void);

/* Links that are taken from now on break at that operation; 0: none does. */
void breaking_links_plan(uint32_t at)
{
    atomic_store(&breaks.plan, at);
}

/* How many broke since the last time. */
uint32_t breaking_links_count(void)
{
    return atomic_exchange(&breaks.broken, 0);
}

static struct breaking *of(struct link *link)
{
    return (struct breaking *)link->ops;
}

/* One operation. True: it and all others are lost. */
static bool is_lost(struct breaking *b)
{
    uint32_t left = atomic_load(&b->left);
    uint64_t one = 1;

    if (atomic_load(&b->broken))
        return true;
    if (left == 0 || atomic_fetch_sub(&b->left, 1) != 1)
        return false;
    atomic_store(&b->broken, true);
    atomic_fetch_add(&breaks.broken, 1);
    (void)!syscall(SYS_write, breaks.news.fd, &one, sizeof(one));
    return true;
}

static void start(struct link *link, uint32_t epoch, uint64_t leave,
                  uint64_t arrive)
{
    atomic_store(&of(link)->landed, arrive);
    shm_ops.start(link, epoch, leave, arrive);
}

static void commit(struct link *link, uint64_t wrote)
{
    if (!is_lost(of(link)))
        shm_ops.commit(link, wrote);
}

static int landed(struct link *link, uint64_t took, uint64_t before,
                  uint64_t *out)
{
    struct breaking *b = of(link);
    int rc;

    if (atomic_load(&b->broken)) {
        *out = before;
        return 0;
    }
    rc = shm_ops.landed(link, took, before, out);
    if (rc == 0 && *out != before && is_lost(b))
        *out = before;
    if (rc == 0)
        atomic_store(&b->landed, *out);
    return rc;
}

static void release(struct link *link, uint64_t took)
{
    if (!is_lost(of(link)))
        shm_ops.release(link, took);
}

static int freed(struct link *link, uint64_t before, uint64_t wrote,
                 uint64_t *out)
{
    if (!atomic_load(&of(link)->broken))
        return shm_ops.freed(link, before, wrote, out);
    *out = before;
    return 0;
}

static uint64_t arrived(struct link *link)
{
    struct breaking *b = of(link);

    return atomic_load(&b->broken) ? atomic_load(&b->landed)
                                   : shm_ops.arrived(link);
}

/* It may yet break: nothing is certain to be in the peer's memory. */
static bool delivered(struct link *link, uint64_t wrote)
{
    (void)wrote;
    return !atomic_load(&of(link)->broken);
}

/* A reader without a lock may still look at its operations: they stay. */
static void free_link(struct link *link)
{
    struct breaking **at = &breaks.all;

    while (*at != NULL && (*at)->link != link)
        at = &(*at)->next;
    if (*at != NULL)
        *at = (*at)->next;
    shm_ops.free(link);
}

/* ---- the helper thread ---- */

static void on_news(struct watch *watch, uint32_t events)
{
    struct breaking *b = breaks.all;
    uint64_t n;

    (void)events;
    (void)!syscall(SYS_read, watch->fd, &n, sizeof(n));
    while (b != NULL) {
        struct breaking *next = b->next;

        if (atomic_load(&b->broken) && !b->told && b->link->owner != NULL) {
            b->told = true;
            b->shm->events->broken(b->link->owner, REASON_LINK_BROKEN);
        }
        b = next;
    }
}

/* Once per process: a child has the parent's memory and none of its links. */
static void watch_news(struct shm *shm)
{
    if (breaks.pid == getpid())
        return;
    breaks.pid = getpid();
    breaks.all = NULL;
    breaks.news = (struct watch){.ready = on_news};
    breaks.news.fd =
        loop_calls(shm->loop)->keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    loop_add(shm->loop, &breaks.news, EPOLLIN);
}

struct shm_link *__wrap_link_take(struct arena *peer, unsigned idx)
{
    struct shm *shm = peer->channel->shm;
    struct shm_link *l = __real_link_take(peer, idx);
    struct breaking *b = calloc(1, sizeof(*b));

    if (l == NULL || b == NULL)
        return l;
    watch_news(shm);
    b->ops = shm_ops;
    b->ops.start = start;
    b->ops.commit = commit;
    b->ops.landed = landed;
    b->ops.release = release;
    b->ops.freed = freed;
    b->ops.arrived = arrived;
    b->ops.delivered = delivered;
    b->ops.free = free_link;
    b->link = &l->link;
    b->shm = shm;
    b->next = breaks.all;
    breaks.all = b;
    atomic_store(&b->left, atomic_load(&breaks.plan));
    l->link.ops = &b->ops;
    return l;
}
