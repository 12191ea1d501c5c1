/*
 * See helper.h; the thread itself is in helper_thread.c.
 *
 * Everything that meets, proposes, answers and closes happens here, in that
 * one thread, so none of it needs a lock of its own; streams are touched under
 * theirs.
 */
#include "preload/helper.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "preload/helper_private.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    RETRY_NS = 2000000,        /* after BUSY or an expired hold */
    REST_NS = 1000000000,      /* without a byte, and a link rests */
    GUARD_IDLE_NS = 100000000, /* an attempt that nobody follows up */
    LANDING_NS = 1000000,      /* a look whether the last byte is there */
    ATTEMPTS_MOST = 9
};

/* After a break; doubled by each that comes before the last is forgiven. */
#define SETTLE_MOST_NS UINT64_C(60000000000)
#define FORGIVEN_NS    UINT64_C(600000000000)

static void progress(struct endpoint *e);

/* ---- the list of endpoints that the helper cares for ---- */

void helper_list_in(struct endpoint *e)
{
    lock_take(&helper.all_lock);
    if (!e->in_all) {
        e->in_all = true;
        LIST_INSERT_HEAD(&helper.all, e, all);
    }
    lock_give(&helper.all_lock);
}

void helper_list_out(struct endpoint *e)
{
    lock_take(&helper.all_lock);
    if (e->in_all)
        LIST_REMOVE(e, all);
    e->in_all = false;
    lock_give(&helper.all_lock);
}

/* ---- links ---- */

void helper_try_again_in(struct endpoint *e, uint64_t ns)
{
    loop_timer_set(helper.loop, &e->timer, clock_ns() + ns);
}

/*
 * What TCP does concerns the helper as long as the stream is managed; bytes of
 * one that is on TCP would only wake it up.
 */
static void watch_tcp(struct endpoint *e)
{
    stream_lock_all(&e->stream);
    if (e->stream.managed && !e->tcp.added && !e->detached) {
        e->tcp.fd = e->stream.fd;
        loop_add(helper.loop, &e->tcp,
                 EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    } else if (!e->stream.managed && e->tcp.added) {
        loop_remove(helper.loop, &e->tcp);
    }
    stream_unlock_all(&e->stream);
}

/*
 * Back to a stream that the helper does not care for; at last, since a close()
 * may free it from now on.
 */
static void part(struct endpoint *e)
{
    helper_stop_meeting(e);
    loop_timer_clear(helper.loop, &e->timer);
    if (e->tcp.added)
        loop_remove(helper.loop, &e->tcp);
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

/* Closed past us, the number is another's. */
static bool is_another(struct endpoint *e)
{
    struct stat st;
    bool is;

    stream_lock_all(&e->stream); /* see ask_kernel() of helper_meet.c */
    is = fstat(e->stream.fd, &st) < 0 || st.st_ino != e->inode;
    stream_unlock_all(&e->stream);
    return is;
}

static void try_up(struct endpoint *e)
{
    int rc;

    if (atomic_load(&process.no_ups) > 0 || endpoint_stays(e) || e->closing ||
        e->stream.link == NULL)
        return;
    if (is_another(e)) {
        helper_stays(e, REASON_CLOSED);
        part(e);
        return;
    }
    rc = stream_try_up(&e->stream);
    if (rc == 0) {
        watch_tcp(e);
        return;
    }
    stats_update(e);
    if (rc == -EAGAIN) {
        helper_try_again_in(e, RETRY_NS);
        return;
    }
    /* Of a bare read the last thread to leave kicks. */
    if (e->stream.why != REASON_BARE_READ &&
        e->stream.why != REASON_HALF_CLOSED)
        retry(e);
}

/* It leaves when the peer has its last byte; nobody tells when that is. */
static bool is_landing(const struct stream *s)
{
    return s->wish == WISH_LEAVE && s->h.stage == STAGE_UP && !s->leave_said &&
           s->link != NULL && s->link->ops->delivered != NULL;
}

/* Nobody is inside a call of the kernel, or the last to leave kicks us. */
static bool is_left(struct stream *s)
{
    if (atomic_load(&s->bare) == 0)
        return true;
    atomic_store(&s->up_wanted, true);
    full_fence();
    return atomic_load(&s->bare) == 0;
}

/* It is owed: the other end waits for it, and for nothing else. */
static void say_willing(struct endpoint *e)
{
    struct control_message m = {.type = MESSAGE_WILLING};
    struct stream *s = &e->stream;

    stream_lock_all(s);
    if (s->willing_due && s->link != NULL && is_left(s)) {
        s->willing_due = false;
        if (!atomic_load(&s->guard))
            atomic_store(&s->up_wanted, false);
        s->link->ops->send(s->link, &m);
        helper_try_again_in(e, GUARD_IDLE_NS);
    }
    stream_unlock_all(s);
}

static void on_timer(struct timer *timer)
{
    struct endpoint *e = timer->arg;

    if (is_landing(&e->stream) || stream_awaits_fin(&e->stream)) {
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
    if (e->closing) {
        helper_ask(e, WORK_CLOSE);
        return;
    }
    if (e->stream.link == NULL && e->stream.h.stage == STAGE_RAW)
        helper_meet(e);
    else if (e->stream.h.initiator && e->stream.h.stage == STAGE_RAW &&
             !e->stream.managed)
        try_up(e);
    else if (e->stream.h.stage == STAGE_RAW && !e->stream.managed &&
             atomic_load(&e->stream.guard) && !e->closing) {
        stream_wish(&e->stream, WISH_NONE, REASON_NONE);
        say_willing(e);
    }
}

/* After the settle time an initiator goes up again by itself. */
static void plan_ascent(struct endpoint *e)
{
    struct stream *s = &e->stream;

    if (s->reset_seen || is_landing(s) || stream_awaits_fin(s)) {
        helper_try_again_in(e, s->reset_seen ? 10000000 : LANDING_NS);
        return;
    }
    if (!s->h.initiator || s->h.stage != STAGE_RAW || s->managed ||
        e->closing || endpoint_stays(e) || s->link == NULL || s->link_broken ||
        s->wish != WISH_NONE)
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

/* Only the helper makes a stream managed, so one that is not stays so. */
static void plan_next(struct endpoint *e)
{
    bool managed = e->stream.managed;

    plan_ascent(e);
    if (managed != e->tcp.added && !e->detached)
        watch_tcp(e);
}

/* The stream is back from a link that broke: it waits, then meets again. */
static void after_break(struct endpoint *e)
{
    uint64_t now = clock_ns(), ns = process.settings.settle_ms * 1000000;

    stream_lock_all(&e->stream);
    if (e->stream.wish == WISH_RETURN)
        e->stream.wish = WISH_NONE;
    stream_unlock_all(&e->stream);
    if (now - e->broke_ns > FORGIVEN_NS)
        e->breaks = 0;
    for (unsigned i = 0; i < e->breaks && ns < SETTLE_MOST_NS; i++)
        ns *= 2;
    e->breaks++;
    e->broke_ns = now;
    e->not_before_ns = now + (ns < SETTLE_MOST_NS ? ns : SETTLE_MOST_NS);
    atomic_store(&e->countdown, (int32_t)process.settings.upgrade_after + 1);
    part(e);
}

/*
 * Memory of links that rest. The timer runs while something moves, so an idle
 * process has none.
 */
static void on_rest(struct timer *timer)
{
    struct endpoint *e;
    bool moves = false;

    lock_take(&helper.all_lock);
    LIST_FOREACH(e, &helper.all, all)
        moves |= stream_rest(&e->stream);
    lock_give(&helper.all_lock);
    if (moves)
        loop_timer_set(helper.loop, timer, clock_ns() + REST_NS);
}

/* One that has just left TCP is in use: its first byte need not say so. */
static void look_after_memory(struct endpoint *e)
{
    if (!stream_is_up(&e->stream))
        return;
    if (e->ups_seen != e->stream.ups)
        atomic_store(&e->stream.quiet, false);
    e->ups_seen = e->stream.ups;
    if (atomic_load(&e->stream.quiet))
        return;
    stream_stir(&e->stream);
    helper.rest.expired = on_rest;
    if (!helper.rest.added)
        loop_timer_set(helper.loop, &helper.rest, clock_ns() + REST_NS);
}

/* May it agree to leave TCP, as far as the stream does not know itself? */
static enum reason refusal(struct endpoint *e)
{
    if (atomic_load(&process.no_ups) > 0 || e->closing)
        return REASON_BUSY;
    if (atomic_load(&e->held))
        return REASON_ADMINISTRATOR;
    if (endpoint_stays(e))
        return e->stream.why;
    return is_another(e) ? REASON_CLOSED : REASON_NONE;
}

static void progress(struct endpoint *e)
{
    say_willing(e);
    stream_progress(&e->stream);
    if (stream_owes_answer(&e->stream))
        stream_answer(&e->stream, refusal(e));
    stream_check_foreign(&e->stream);
    stats_update(e);
    look_after_memory(e);
    plan_next(e);
    if (e->stream.link_broken && e->stream.link != NULL && !e->closing &&
        e->stream.h.stage == STAGE_RAW && !e->stream.managed)
        after_break(e);
    if (e->stream.link != NULL && e->stream.h.channel_dead &&
        e->stream.h.stage == STAGE_RAW && !e->stream.managed &&
        e->meeting.backend == NULL) {
        /* It meets again after some more calls. */
        atomic_store(&e->countdown,
                     (int32_t)process.settings.upgrade_after + 1);
        part(e);
    }
    if (e->closing)
        helper_ask(e, WORK_CLOSE);
}

static void on_tcp(struct watch *watch, uint32_t events)
{
    struct endpoint *e = watch->arg;

    progress(e);
    if (e->stream.managed && !stream_is_up(&e->stream) &&
        ((events & ~(uint32_t)EPOLLOUT) ||
         handover_tx_mode(&e->stream.h) != TX_HELD)) {
        /* Bytes that wait before a handover ends are news as any others. */
        atomic_fetch_add(&e->stream.told, 1);
        endpoint_stream_calls.wake(&e->stream);
    }
}

static void on_message(void *owner, const struct control_message *m)
{
    struct endpoint *e = owner;

    stream_message(&e->stream, m,
                   m->type == MESSAGE_PROPOSE ? refusal(e) : REASON_NONE);
    stream_check_foreign(&e->stream);
    stats_update(e);
    look_after_memory(e);
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

static bool is_reset(int fd)
{
    uint8_t state = TCP_CLOSE; /* tcpi_state is the first byte of TCP_INFO */
    socklen_t len = sizeof(state);

    kernel_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &len);
    return state == TCP_CLOSE;
}

/* TCP still has bytes that close() waits for, as long as SO_LINGER says. */
static bool lingers(struct endpoint *e)
{
    int unsent = 0;

    if (e->linger_until_ns == 0 || !e->kept ||
        clock_ns() >= e->linger_until_ns || atomic_load(&helper.hurries) ||
        kernel_ioctl(e->stream.fd, SIOCOUTQ, &unsent) < 0 || unsent <= 0 ||
        is_reset(e->stream.fd))
        return false;
    helper_try_again_in(e, LANDING_NS);
    return true;
}

/* The kernel would keep this thread here for as long as SO_LINGER says. */
static void close_kept(int fd)
{
    struct linger linger = {0};
    socklen_t len = sizeof(linger);

    kernel_getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &len);
    if (linger.l_onoff && linger.l_linger != 0) {
        linger.l_onoff = 0;
        kernel_setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, len);
    }
    ours_close(fd);
}

static void finish_close(struct endpoint *e)
{
    if (!e->let_go || atomic_load(&e->queued) || !stream_on_tcp(&e->stream) ||
        (e->stream.h.stage != STAGE_DEAD && e->stream.leave_said &&
         e->stream.managed) ||
        lingers(e))
        return;
    part(e);
    if (e->kept)
        close_kept(e->stream.fd);
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
    } else {
        stream_lock_all(&e->stream);
        e->stream.willing_due = true;
        stream_unlock_all(&e->stream);
        say_willing(e);
    }
}

void helper_work_on(struct endpoint *e, unsigned work)
{
    if (atomic_load(&e->freed))
        return; /* the last call in the kernel and close() asked, both */
    if (work & WORK_LISTEN)
        helper_listen(e);
    if (work & WORK_LET_GO)
        e->let_go = true;
    if (work & WORK_MEET)
        go_up(e);
    if (work & WORK_REFUSED)
        endpoint_write_refused(e);
    if (work & WORK_RETURN)
        stream_wish(&e->stream, WISH_RETURN, REASON_LIMIT);
    if (work & (WORK_PROGRESS | WORK_RETURN))
        progress(e);
    if ((work & WORK_CLOSE) && !e->closing && atomic_load(&e->left)) {
        e->closing = true; /* close() left it to a call that was waiting */
        stream_wish(&e->stream, WISH_CLOSE, REASON_CLOSED);
    }
    if (e->closing && (work & (WORK_CLOSE | WORK_PROGRESS))) {
        stream_progress(&e->stream);
        finish_close(e);
    }
}

const struct link_events helper_events = {.message = on_message,
                                          .channel_dead = on_channel_dead,
                                          .broken = on_broken};

/* ---- its descriptor: any thread ---- */

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
    e->detached = true;
    stream_unlock_all(&e->stream);
}
