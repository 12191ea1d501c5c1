/*
 * See helper.h.
 *
 * The thread's loop: work that others asked for, then descriptors and timers.
 * Everything that meets, proposes, answers and closes happens here, so none
 * of it needs a lock of its own; streams are touched under theirs.
 */
#include "preload/helper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "config/log.h"
#include "preload/backends.h"
#include "preload/helper_private.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "preload/waiter.h"
#include "transport/bell.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    MEET_NS = 1000000000,      /* one rendezvous */
    RETRY_NS = 2000000,        /* after BUSY or an expired hold */
    GUARD_IDLE_NS = 100000000, /* an attempt that nobody follows up */
    LANDING_NS = 1000000,      /* a look whether the last byte is there */
    ATTEMPTS_MOST = 9,
    HELPER_STACK = 1024 * 1024 /* modules and what they bring run on it */
};

/* After a break; doubled by each that comes before the last is forgiven. */
#define SETTLE_MOST_NS UINT64_C(60000000000)
#define FORGIVEN_NS    UINT64_C(600000000000)

struct helper helper;
__thread bool helper_is_me __attribute__((tls_model("initial-exec")));

static void work_on(struct endpoint *e, unsigned work);
static void progress(struct endpoint *e);

/* ---- the list of endpoints that the helper cares for ---- */

void helper_list_in(struct endpoint *e)
{
    lock_take(&helper.all_lock);
    if (!e->in_all) {
        e->in_all = true;
        e->all_next = helper.all;
        helper.all = e;
    }
    lock_give(&helper.all_lock);
}

void helper_list_out(struct endpoint *e)
{
    struct endpoint **at = &helper.all;

    lock_take(&helper.all_lock);
    if (e->in_all) {
        while (*at != e)
            at = &(*at)->all_next;
        *at = e->all_next;
        e->in_all = false;
    }
    lock_give(&helper.all_lock);
}

/* ---- links ---- */

void helper_try_again_in(struct endpoint *e, uint64_t ns)
{
    loop_timer_set(helper.loop, &e->timer, clock_ns() + ns);
}

void helper_watch_tcp(struct endpoint *e, bool on)
{
    if (on && !e->tcp.added) {
        e->tcp.fd = e->stream.fd;
        loop_add(helper.loop, &e->tcp,
                 EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    } else if (!on && e->tcp.added) {
        loop_remove(helper.loop, &e->tcp);
    }
}

/* Back to a stream that the helper does not care for. */
static void part(struct endpoint *e)
{
    helper_stop_meeting(e);
    loop_timer_clear(helper.loop, &e->timer);
    helper_watch_tcp(e, false);
    if (e->stream.link != NULL)
        stream_drop_link(&e->stream);
    helper_list_out(e);
}

/* ---- going up, progress, closing ---- */

/*
 * An attempt failed: again soon, then less often; in the end only when the
 * application calls again, so that an idle process stays idle.
 */
static void retry(struct endpoint *e)
{
    if (e->attempts < ATTEMPTS_MOST)
        helper_try_again_in(e, (uint64_t)RETRY_NS << e->attempts++);
    else
        atomic_store(&e->countdown,
                     (int32_t)process.settings.upgrade_after + 64);
}

static void try_up(struct endpoint *e)
{
    struct stat st;

    if (atomic_load(&process.no_ups) > 0 || atomic_load(&e->ineligible) ||
        e->closing || e->stream.link == NULL)
        return;
    if (fstat(e->stream.fd, &st) < 0 || st.st_ino != e->inode) {
        /* Closed past us, the number is another's. */
        helper_stays(e, REASON_CLOSED);
        part(e);
        return;
    }
    if (stream_try_up(&e->stream) == 0)
        return;
    stats_update(e);
    if (e->stream.why == REASON_BARE_READ)
        return; /* the last thread to leave kicks */
    if (e->stream.why == REASON_FOREIGN_BYTES ||
        e->stream.why == REASON_HALF_CLOSED)
        return;
    retry(e);
}

/* It leaves when the peer has its last byte; nobody tells when that is. */
static bool is_landing(const struct stream *s)
{
    return s->wish == WISH_LEAVE && s->h.stage == STAGE_UP && !s->leave_said &&
           s->link != NULL && s->link->ops->delivered != NULL;
}

static void on_timer(struct timer *timer)
{
    struct endpoint *e = timer->arg;

    if (is_landing(&e->stream)) {
        progress(e);
        return;
    }
    if (e->stream.reset_seen) {
        stream_progress(&e->stream);
        if (e->stream.reset_seen)
            helper_try_again_in(e, 10000000);
        else if (e->closing)
            helper_ask(e, WORK_CLOSE);
        return;
    }
    if (e->stream.link == NULL && e->stream.h.stage == STAGE_RAW)
        helper_meet(e);
    else if (e->stream.h.initiator && e->stream.h.stage == STAGE_RAW &&
             !e->stream.managed)
        try_up(e);
    else if (e->stream.h.stage == STAGE_RAW && !e->stream.managed &&
             atomic_load(&e->stream.guard) && !e->closing)
        stream_wish(&e->stream, WISH_NONE, REASON_NONE);
}

static void say_willing(struct endpoint *e)
{
    struct control_message m = {.type = MESSAGE_WILLING};

    stream_lock_all(&e->stream);
    if (e->stream.willing_due && atomic_load(&e->stream.bare) == 0 &&
        e->stream.link != NULL) {
        e->stream.willing_due = false;
        e->stream.link->ops->send(e->stream.link, &m);
        helper_try_again_in(e, GUARD_IDLE_NS);
    }
    stream_unlock_all(&e->stream);
}

/* After the settle time an initiator goes up again by itself. */
static void plan_next(struct endpoint *e)
{
    struct stream *s = &e->stream;

    if (s->reset_seen || is_landing(s)) {
        helper_try_again_in(e, s->reset_seen ? 10000000 : LANDING_NS);
        return;
    }
    if (!s->h.initiator || s->h.stage != STAGE_RAW || s->managed ||
        e->closing || atomic_load(&e->ineligible) || s->link == NULL ||
        s->link_broken || s->wish != WISH_NONE)
        return;
    if (s->returns != e->returns_seen) {
        e->returns_seen = s->returns;
        e->attempts = 0;
        helper_try_again_in(e, process.settings.settle_ms * 1000000);
    } else if (s->propose_again || atomic_load(&s->up_wanted)) {
        try_up(e);
    } else if (!e->timer.added && s->why != REASON_BARE_READ) {
        retry(e);
    }
}

/* The stream is back from a link that broke: it waits, then meets again. */
static void after_break(struct endpoint *e)
{
    uint64_t now = clock_ns(), ns = process.settings.settle_ms * 1000000;

    stream_lock_all(&e->stream);
    if (e->stream.wish == WISH_RETURN)
        e->stream.wish = WISH_NONE;
    stream_unlock_all(&e->stream);
    part(e);
    if (now - e->broke_ns > FORGIVEN_NS)
        e->breaks = 0;
    for (unsigned i = 0; i < e->breaks && ns < SETTLE_MOST_NS; i++)
        ns *= 2;
    e->breaks++;
    e->broke_ns = now;
    e->not_before_ns = now + (ns < SETTLE_MOST_NS ? ns : SETTLE_MOST_NS);
    atomic_store(&e->countdown, (int32_t)process.settings.upgrade_after + 1);
}

static void progress(struct endpoint *e)
{
    say_willing(e);
    stream_progress(&e->stream);
    if (handover_at_arrive(&e->stream.h))
        stream_check_foreign(&e->stream);
    stats_update(e);
    plan_next(e);
    if (e->stream.link_broken && e->stream.link != NULL && !e->closing &&
        e->stream.h.stage == STAGE_RAW && !e->stream.managed)
        after_break(e);
    if (e->stream.link != NULL && e->stream.h.channel_dead &&
        e->stream.h.stage == STAGE_RAW && !e->stream.managed &&
        e->meeting.backend == NULL) {
        part(e); /* meets again after some more calls */
        atomic_store(&e->countdown,
                     (int32_t)process.settings.upgrade_after + 1);
    }
    if (e->closing)
        helper_ask(e, WORK_CLOSE);
}

static void on_tcp(struct watch *watch, uint32_t events)
{
    struct endpoint *e = watch->arg;

    (void)events;
    progress(e);
    if (e->stream.managed && !stream_is_up(&e->stream))
        endpoint_stream_calls.wake(&e->stream);
}

static void on_message(void *owner, const struct control_message *m)
{
    struct endpoint *e = owner;
    enum reason refuse = REASON_NONE;
    struct stat st;

    if (m->type == MESSAGE_PROPOSE) {
        if (atomic_load(&process.no_ups) > 0 || e->closing)
            refuse = REASON_BUSY;
        else if (atomic_load(&e->ineligible))
            refuse = e->stream.why;
        else if (fstat(e->stream.fd, &st) < 0 || st.st_ino != e->inode)
            refuse = REASON_CLOSED;
    }
    stream_message(&e->stream, m, refuse);
    if (handover_at_arrive(&e->stream.h))
        stream_check_foreign(&e->stream);
    stats_update(e);
    plan_next(e);
    if (e->closing)
        helper_ask(e, WORK_CLOSE);
}

static void on_channel_dead(void *owner)
{
    struct endpoint *e = owner;

    stream_channel_dead(&e->stream);
    progress(e);
}

static void on_broken(void *owner, enum reason why)
{
    struct endpoint *e = owner;

    stream_link_broken(&e->stream, why);
    helper_ask(e, WORK_PROGRESS); /* who calls still goes over its links */
}

static void finish_close(struct endpoint *e)
{
    if (atomic_load(&e->queued) || !stream_on_tcp(&e->stream) ||
        (e->stream.h.stage != STAGE_DEAD && e->stream.leave_said &&
         e->stream.managed))
        return;
    part(e);
    if (e->kept)
        ours_close(e->stream.fd);
    e->closing = false;
    endpoint_free(e);
}

/* A peer is to be met, or the link that is there to be used. */
static void go_up(struct endpoint *e)
{
    if (e->stream.link == NULL) {
        e->tcp.ready = on_tcp;
        e->tcp.arg = e;
        e->timer.expired = on_timer;
        e->timer.arg = e;
        helper_meet(e);
    } else if (e->stream.h.initiator) {
        e->attempts = 0;
        try_up(e);
    }
}

static void work_on(struct endpoint *e, unsigned work)
{
    if (work & WORK_LISTEN)
        helper_listen(e);
    if (work & WORK_MEET)
        go_up(e);
    if (work & WORK_RETURN)
        stream_wish(&e->stream, WISH_RETURN, REASON_LIMIT);
    if (work & (WORK_PROGRESS | WORK_RETURN))
        progress(e);
    if (e->closing && (work & (WORK_CLOSE | WORK_PROGRESS))) {
        stream_progress(&e->stream);
        finish_close(e);
    }
}

/* ---- the thread ---- */

static bool queue_is_empty(void *arg)
{
    (void)arg;
    return __atomic_load_n(&helper.head, __ATOMIC_SEQ_CST) == NULL;
}

static struct endpoint *queue_take(unsigned *work)
{
    struct endpoint *e;

    lock_take(&helper.lock);
    e = helper.head;
    if (e != NULL) {
        helper.head = e->next;
        if (helper.head == NULL)
            helper.tail = NULL;
        e->next = NULL;
        atomic_store(&e->queued, false);
        *work = atomic_exchange(&e->work, 0);
    }
    lock_give(&helper.lock);
    return e;
}

static void *helper_main(void *arg)
{
    struct endpoint *e;
    unsigned work;

    (void)arg;
    helper_is_me = true;
    pthread_setname_np(pthread_self(), "fastsock");
    for (;;) {
        while ((e = queue_take(&work)) != NULL)
            work_on(e, work);
        helper_end_listening();
        atomic_fetch_add(&helper.turns, 1);
        loop_turn(helper.loop, queue_is_empty, NULL);
    }
    return NULL;
}

static const struct loop_calls calls = {ours_keep, ours_close};
static const struct link_events events = {.message = on_message,
                                          .channel_dead = on_channel_dead,
                                          .broken = on_broken};

static int start_thread(void)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, HELPER_STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&helper.thread, &attr, helper_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -rc;
}

/* helper.lock held. */
static bool start(void)
{
    struct backend_config config = {
        .bell_token = process.bell_token,
        .max_memory = process.settings.max_memory,
        .max_links = process.settings.max_links,
        .meet_ns = MEET_NS,
        .users = process.settings.users.uid,
        .n_users = process.settings.users.n,
    };

    if (helper.started || helper.failed)
        return helper.started;
    helper.failed = true;
    process_count_cpus();
    process.ringer = ours_keep(bell_ringer_open());
    if (process.ringer < 0)
        return false;
    config.ringer = process.ringer;
    if (loop_create(&calls, &helper.loop) < 0)
        goto no_helper;
    backends_start(helper.loop, &config, &events);
    if (start_thread() < 0)
        goto no_helper;
    helper.failed = false;
    helper.started = true;
    return true;
no_helper:
    log_warn("no helper thread: connections stay on TCP");
    return false;
}

void helper_ask(struct endpoint *e, unsigned work)
{
    bool wake = false;

    lock_take(&helper.lock);
    if (start()) {
        atomic_fetch_or(&e->work, work);
        if (!atomic_exchange(&e->queued, true)) {
            e->next = NULL;
            if (helper.tail != NULL)
                helper.tail->next = e;
            else
                __atomic_store_n(&helper.head, e, __ATOMIC_SEQ_CST);
            helper.tail = e;
            wake = true;
        }
    }
    lock_give(&helper.lock);
    if (wake)
        loop_wake(helper.loop);
}

void helper_move(struct endpoint *e, int new_fd)
{
    stream_lock_all(&e->stream);
    if (e->tcp.added)
        loop_move(helper.loop, &e->tcp, new_fd);
    e->stream.fd = new_fd;
    stream_unlock_all(&e->stream);
}

void helper_adopt(struct endpoint *e, int new_fd)
{
    helper_move(e, new_fd);
    e->kept = true;
}

/* The number is about to be closed and may soon be another socket's. */
void helper_detach(struct endpoint *e)
{
    stream_lock_all(&e->stream);
    if (e->tcp.added)
        loop_detach(helper.loop, &e->tcp);
    stream_unlock_all(&e->stream);
}

void helper_after_fork(void)
{
    if (!helper.started)
        return;
    /* Memory of the loop and the backends is left as it is: the parent's thread
     * may have been inside. Descriptors are closed with all of ours. */
    memset(&helper, 0, sizeof(helper));
    backends_after_fork();
    process.ringer = -1;
}
