/*
 * See process.h.
 *
 * fork: every stream returns to TCP first (first version: no link is shared
 * by two processes); afterwards both processes hold the sockets, so they stay
 * there. The child starts with nothing of ours but the table of descriptors.
 */
#include "preload/process.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "config/log.h"
#include "preload/epoll_set.h"
#include "preload/fd_table.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/kernel_calls.h"

struct process process = {.ringer = -1};

__thread pid_t vfork_parent __attribute__((tls_model("initial-exec")));

uint64_t process_new_token(void)
{
    uint64_t token = 0;
    struct timespec t;

    if (getrandom(&token, sizeof(token), GRND_NONBLOCK) == sizeof(token) &&
        token != 0)
        return token;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^
            (uint64_t)syscall(SYS_getpid) << 20) | 1;
}

/* The child of vfork runs on our memory; only the kernel knows who we are. */
bool process_is_vfork_child(void)
{
    if ((pid_t)syscall(SYS_getpid) != vfork_parent)
        return true;
    vfork_parent = 0;
    helper_release();
    return false;
}

/* After fork two processes hold each socket: it stays on TCP. */
static void each_endpoint(void (*what)(struct endpoint *e))
{
    unsigned rows = fd_rows_used();

    for (unsigned fd = 0; fd < rows; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        if (e != NULL)
            what(e);
    }
}

static void share(struct endpoint *e)
{
    if (e->state != ENDPOINT_CONNECTED)
        return;
    atomic_store(&e->ineligible, true);
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    e->stream.why = REASON_SHARED_AFTER_FORK;
    stats_update(e);
}

static void share_unless_cloexec(struct endpoint *e)
{
    int flags = kernel_fcntl(e->stream.fd, F_GETFD, 0);

    if (flags < 0 || !(flags & FD_CLOEXEC))
        share(e);
}

void process_share_inherited(bool all)
{
    each_endpoint(all ? share : share_unless_cloexec);
}

void *fastsock_before_vfork(void)
{
    if (process.ready && !in_vfork_child()) {
        helper_gather(WISH_RETURN, REASON_FORK);
        process_share_inherited(true);
        vfork_parent = (pid_t)syscall(SYS_getpid);
    }
    return (void *)REAL(vfork);
}

static void before_fork(void)
{
    if (!process.ready || in_vfork_child())
        return;
    helper_gather(WISH_RETURN, REASON_FORK);
    epoll_sets_before_fork();
}

static void after_fork_parent(void)
{
    if (!process.ready)
        return;
    each_endpoint(share);
    helper_release();
}

/* The one thread of the child: locks of others' threads are free again. */
static void start_over(struct endpoint *e)
{
    struct stream *s = &e->stream;

    lock_init(&s->stage);
    lock_init(&s->rx);
    lock_init(&s->tx);
    s->link = NULL;
    s->bytes = &e->bytes;
    s->wish = WISH_NONE;
    s->managed = s->h.stage != STAGE_RAW;
    s->willing_due = s->propose_again = false;
    atomic_store(&s->bare, 0);
    atomic_store(&s->up_wanted, false);
    if (s->h.stage != STAGE_RAW) {
        /* The parent could not bring it back in time: lost for the child. */
        s->h.stage = STAGE_DEAD;
        s->h.have = s->h.took;
        s->error = ECONNRESET;
    } else {
        atomic_store(&s->guard, 0);
    }
    atomic_store(&e->watch, 0);
    atomic_store(&e->queued, false);
    atomic_store(&e->work, 0);
    e->proof = e->shown = NULL; /* another thread may have held the heap */
    lock_init(&e->proof_lock);
    memset(&e->meeting, 0, sizeof(e->meeting));
    memset(&e->tcp, 0, sizeof(e->tcp));
    memset(&e->timer, 0, sizeof(e->timer));
    e->in_all = false;
    e->row = NULL;
    share(e);
}

static void close_ours(void)
{
    unsigned rows = fd_rows_used();

    for (unsigned fd = 0; fd < rows; fd++) {
        struct object *o = fd_find((int)fd);

        if (o != NULL && o->kind == OBJECT_OURS)
            ours_close((int)fd);
    }
}

static void after_fork_child(void)
{
    lock_forget_self();
    if (!process.ready)
        return;
    process.pid = (pid_t)syscall(SYS_getpid);
    atomic_store(&process.no_ups, 0);
    atomic_store(&process.spinners, 0);
    stats_after_fork();
    waiters_forget();
    epoll_sets_after_fork();
    each_endpoint(start_over);
    endpoint_pool_after_fork();
    helper_after_fork();
    close_ours();
    process.bell_token = process_new_token();
}

void process_before_exec(enum reason why, bool image_goes)
{
    if (!process.ready || in_vfork_child())
        return;
    if (helper_gather(WISH_RETURN, why) == 0)
        return;
    if (!image_goes) {
        /* We go on and finish it; a child rarely touches what it inherits. */
        log_warn("a connection could not return to TCP before a child began");
        return;
    }
    /* No record may be left in front of whoever reads next. */
    log_warn("a connection could not return to TCP in time and is reset");
    helper_abort_rest();
}

void process_exec_failed(void)
{
    if (process.ready && !in_vfork_child())
        helper_release();
}

/* The process ends: no record may wait for an answer that never comes. */
void process_leave(void)
{
    static _Atomic bool left;

    if (!process.ready || in_vfork_child() || atomic_exchange(&left, true) ||
        process.pid != (pid_t)syscall(SYS_getpid))
        return;
    helper_gather(WISH_LEAVE, REASON_CLOSED);
    stats_report();
}

void process_count_cpus(void)
{
    cpu_set_t set;

    process.cpus = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        process.cpus = (unsigned)CPU_COUNT(&set);
}

int process_watch_forks(void)
{
    return pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}
