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
#include "preload/family.h"
#include "preload/fd_table.h"
#include "preload/helper.h"
#include "preload/kernel.h"
#include "preload/members.h"
#include "preload/spin_quota.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

struct process process = {.ringer = -1};

__thread pid_t vfork_parent __attribute__((tls_model("initial-exec")));

/* From before such a call until it is known what came of it, one at a time. */
static struct lock withdrawal;
static enum reason withdraws_for; /* under that lock */

uint64_t process_new_token(void)
{
    uint64_t token = 0;
    struct timespec t;

    if (getrandom(&token, sizeof(token), GRND_NONBLOCK) == sizeof(token) &&
        token != 0)
        return token;
    clock_gettime(CLOCK_REALTIME, &t);
    return ((uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^
            (uint64_t)syscall(SYS_getpid) << 20) |
           1;
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

/* Once, however many numbers it has. */
static void each_endpoint(void (*what)(struct endpoint *e))
{
    static _Atomic uint32_t passes;
    uint32_t pass = atomic_fetch_add(&passes, 1) + 1;
    unsigned rows = fd_rows_used();

    for (unsigned fd = 0; fd < rows; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        /* Of two threads each may do it twice, none leaves one out. */
        if (e != NULL && !atomic_load(&e->left) &&
            atomic_exchange(&e->visited, pass) != pass)
            what(e);
    }
}

/* After fork two processes hold each socket: it stays on TCP. One that is not
 * connected yet may be, by either of them. */
static void share(struct endpoint *e)
{
    if (e->state == ENDPOINT_LISTENING)
        return;
    if (family_counts(&e->holders)) {
        atomic_store(&e->shared, true);
        e->failures = 0;
        atomic_store(&e->countdown,
                     (int32_t)process.settings.upgrade_after + 1);
    } else {
        atomic_store(&e->ineligible, true);
    }
    if (e->proof != NULL)
        endpoint_forget_proof(e);
    e->stream.why = REASON_SHARED_AFTER_FORK;
    stats_update(e);
}

/* With a process that is not counted. */
static void share_for_good(struct endpoint *e)
{
    share(e);
    if (e->state != ENDPOINT_LISTENING)
        atomic_store(&e->ineligible, true);
    /* And never shrinks: others stay on TCP, too. */
    if (family_counts(&e->holders))
        family_grows(&e->holders);
}

/* One that was counted before it listened goes on being counted. */
static void grow_family(struct endpoint *e)
{
    if (family_counts(&e->holders) ||
        (process.settings.up_after_fork && e->state != ENDPOINT_LISTENING &&
         !atomic_load(&e->ineligible)))
        family_grows(&e->holders);
}

bool process_closes_by_exec(int fd)
{
    int flags = kernel_fcntl(fd, F_GETFD, 0);

    return flags >= 0 && (flags & FD_CLOEXEC);
}

void process_share_inherited(bool all)
{
    unsigned rows = fd_rows_used();

    for (unsigned fd = 0; fd < rows; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        if (e != NULL && (all || !process_closes_by_exec((int)fd)))
            share_for_good(e);
    }
}

void *fastsock_before_vfork(void)
{
    if (process.ready && !in_vfork_child()) {
        process_stop_at_end();
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
    process_stop_at_end();
    helper_gather(WISH_RETURN, REASON_FORK);
    each_endpoint(grow_family);
    epoll_sets_before_fork();
    helper_before_fork();
    ours_before_fork();
}

static void after_fork_parent(void)
{
    ours_after_fork(false);
    helper_after_fork_here();
    if (!process.ready)
        return;
    each_endpoint(share);
    helper_release();
}

/* The one thread of the child: locks of others' threads are free again. */
static void start_over(struct endpoint *e)
{
    struct stream *s = &e->stream;
    /* On TCP once it has read what was kept: the parent may, too. */
    bool lost = s->h.stage != STAGE_RAW || s->h.took < s->h.have;

    lock_init(&s->stage);
    lock_init(&s->rx);
    lock_init(&s->tx);
    s->link = NULL;
    s->h.offer = HANDOVER_NONE;
    s->bytes = &e->bytes;
    s->wish = WISH_NONE;
    s->managed = lost;
    s->willing_due = s->propose_again = false;
    atomic_store(&s->bare, 0);
    atomic_store(&s->up_wanted, false);
    if (lost) {
        /* The parent could not bring it back in time: lost for the child. */
        s->h.stage = STAGE_DEAD;
        s->h.have = s->h.took;
        s->error = ECONNRESET;
    } else {
        atomic_store(&s->guard, 0);
    }
    atomic_store(&e->watch, 0);
    atomic_store(&e->inside, 0); /* those were threads of the parent */
    atomic_store(&e->queued, false);
    atomic_store(&e->in_hand, false);
    atomic_store(&e->work, 0);
    e->proof = e->shown = NULL; /* another thread may have held the heap */
    lock_init(&e->proof_lock);
    memset(&e->meeting, 0, sizeof(e->meeting));
    memset(&e->tcp, 0, sizeof(e->tcp));
    memset(&e->timer, 0, sizeof(e->timer));
    e->in_all = false;
    e->row = NULL;
    family_forked(&e->holders);
    share(e);
}

static void close_ours(void)
{
    unsigned rows = fd_rows_used();

    for (unsigned fd = 0; fd < rows; fd++) {
        struct object *o = fd_find((int)fd);

        if (o != NULL && o->kind == OBJECT_OURS && (int)fd != members_fd())
            ours_close((int)fd);
    }
}

static void after_fork_child(void)
{
    lock_forget_self();
    ours_after_fork(true);
    fd_forget_claimed();
    if (!process.ready)
        return;
    process.pid = (pid_t)syscall(SYS_getpid);
    lock_init(&withdrawal);
    atomic_store(&process.main_left, false);
    atomic_store(&process.leaver, 0);
    atomic_store(&process.no_ups, 0);
    atomic_store(&process.spinners, 0);
    spin_quota_after_fork();
    stats_after_fork();
    waiters_forget();
    members_forked();
    epoll_sets_after_fork();
    endpoint_forget_places();
    each_endpoint(start_over);
    endpoint_pool_after_fork();
    helper_after_fork();
    close_ours();
    process.bell_token = process_new_token();
}

static void not_kept(struct endpoint *e)
{
    e->kept_by_exec = false;
}

/* What the new image does not get, this process will not hold any more. */
static void leave_families_by_exec(void)
{
    unsigned rows = fd_rows_used(), n = epoll_sets_exec(FAMILY_EXECS / 2);

    each_endpoint(not_kept);
    for (unsigned fd = 0; fd < rows; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        if (e != NULL && family_counts(&e->holders) &&
            !process_closes_by_exec((int)fd))
            e->kept_by_exec = true;
    }
    for (unsigned fd = 0; fd < rows && n < FAMILY_EXECS; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        if (e != NULL && !e->kept_by_exec && family_execs(&e->holders))
            n++;
    }
}

void process_before_exec(enum reason why, bool image_goes)
{
    int not_back;

    if (!process.ready || in_vfork_child())
        return;
    process_stop_at_end();
    not_back = helper_gather(WISH_RETURN, why);
    member_hides(); /* a child, or the new image, may have what we have */
    if (image_goes)
        leave_families_by_exec();
    if (not_back == 0)
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

static void exec_failed(struct endpoint *e)
{
    family_exec_failed(&e->holders);
}

void process_exec_failed(void)
{
    if (!process.ready || in_vfork_child())
        return;
    each_endpoint(exec_failed);
    epoll_sets_exec_failed();
    member_shows();
    helper_release();
}

/* A thread that is still in a call may take a byte before the end. */
static void leave_family(struct endpoint *e)
{
    if (atomic_load(&e->stream.bare) == 0 && atomic_load(&e->inside) == 0)
        family_leave(&e->holders);
}

/* The caller is a signal handler, and its thread holds a lock of a stream. */
static bool in_the_midst_of_a_call(void)
{
    unsigned rows = fd_rows_used();

    if (lock_entered > 0)
        return true;
    for (unsigned fd = 0; fd < rows; fd++) {
        struct endpoint *e = fd_endpoint((int)fd);

        if (e != NULL && stream_is_mine(&e->stream))
            return true;
    }
    return false;
}

/*
 * On the kernel the process would have ended by now. The one that ends it
 * waits for locks of streams, and may wait for us as it writes out its FILEs:
 * so not with such a lock, and not for ever.
 */
void process_await_end(void)
{
    uint64_t until =
        clock_ns() + 2 * process.settings.return_timeout_ms * 1000000;
    struct timespec t = {0, 1000000};

    if (atomic_load(&process.leaver) == lock_my_id() ||
        in_the_midst_of_a_call())
        return;
    while (clock_ns() < until)
        syscall(SYS_nanosleep, &t, NULL);
}

/* The process ends: no record may wait for an answer that never comes. */
void process_leave(void)
{
    uint32_t nobody = 0;

    /* Behind a filter not even this much may be called. */
    if (!process.ready &&
        (!process.withdrawn || process.settings.report[0] == '\0'))
        return;
    if (in_vfork_child() || process.pid != (pid_t)syscall(SYS_getpid))
        return;
    if (!atomic_compare_exchange_strong(&process.leaver, &nobody,
                                        lock_my_id())) {
        process_await_end();
        return;
    }
    if (process.ready) {
        helper_gather(WISH_LEAVE, REASON_CLOSED);
        each_endpoint(leave_family);
        epoll_sets_exit();
    }
    stats_report();
}

void process_before_fork(void)
{
    before_fork();
}

void process_after_fork(bool child)
{
    if (child)
        after_fork_child();
    else
        after_fork_parent();
}

void process_before_withdrawal(enum reason why)
{
    if (!process.ready || in_vfork_child())
        return;
    lock_take(&withdrawal);
    if (!process.ready) { /* another thread has withdrawn it meanwhile */
        lock_give(&withdrawal);
        return;
    }
    withdraws_for = why;
    if (helper_gather(WISH_RETURN, why) != 0)
        helper_abort_rest();
    helper_end();
}

/* Threads may be inside calls on it: it is forgotten, not freed. */
static void leave_alone(struct endpoint *e)
{
    if (e->state == ENDPOINT_CONNECTED && !atomic_load(&e->ineligible))
        stats_count(STATS_BANISHED);
    atomic_store(&e->ineligible, true);
    helper_detach(e);
}

void process_withdraw(bool for_ever)
{
    unsigned rows = fd_rows_used();

    if (!process.ready || in_vfork_child())
        return;
    if (!lock_is_mine(&withdrawal))
        return; /* it has gone on with a process that had withdrawn */
    if (!for_ever) {
        helper_begin_again();
        helper_release();
        lock_give(&withdrawal);
        return;
    }
    member_hides(); /* its forks are not seen any more */
    process.withdrawn = true;
    process.ready = false;
    each_endpoint(leave_alone);
    stats_withdrawn(withdraws_for);
    epoll_sets_leave_alone();
    for (unsigned fd = 0; fd < rows; fd++) {
        struct object *o = fd_find((int)fd);

        if (o != NULL && o->kind != OBJECT_OURS)
            fd_set_row((int)fd, NULL);
    }
    lock_give(&withdrawal);
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
