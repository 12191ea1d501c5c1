/*
 * Everybody back to TCP, before a fork, an exec or the end of the process; and
 * one stream back, before its descriptor is given away. The caller waits, the
 * helper works.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/held_signals.h"
#include "preload/helper_private.h"
#include "preload/process.h"
#include "preload/stats.h"
#include "transport/pause.h"

/* Whom a wish is for: everybody, those in use, or those closed already. */
enum whom { EVERYBODY, THE_OPEN, THE_CLOSING };

/* Forks of this thread that the helper stands still for. */
static __thread int forking __attribute__((tls_model("initial-exec")));

/*
 * The list, without a handler of this thread in the midst of it: one that forks
 * goes through the list, too.
 */
static void take_list(struct held_signals *held)
{
    *held = (struct held_signals){.on = false};
    signals_hold(held);
    lock_take(&helper.all_lock);
}

static void give_list(struct held_signals *held)
{
    lock_give(&helper.all_lock);
    signals_release(held);
}

static bool is_meant(const struct endpoint *e, enum whom whom)
{
    return whom == EVERYBODY || e->closing == (whom == THE_CLOSING);
}

/*
 * The caller is a signal handler in the midst of its own thread's call on this
 * one: it cannot come back before that goes on, so nobody waits for it.
 */
static bool in_the_midst(struct endpoint *e)
{
    return stream_in_handler(&e->stream) && e->stream.managed;
}

/* How many are still to come. */
static int not_back(enum stream_wish wish, enum reason why, enum whom whom,
                    bool say)
{
    struct held_signals held;
    struct endpoint *e;
    int n = 0;

    take_list(&held);
    LIST_FOREACH(e, &helper.all, all) {
        if (stream_in_handler(&e->stream))
            continue;
        if (say && is_meant(e, whom)) {
            stream_lock_all(&e->stream);
            if (wish > e->stream.wish) {
                e->stream.wish = wish;
                e->stream.wish_why = why;
            }
            stream_unlock_all(&e->stream);
        }
        if (say)
            helper_ask(e, WORK_PROGRESS); /* after the wish */
        if (!stream_on_tcp(&e->stream) && is_meant(e, whom))
            n++;
    }
    give_list(&held);
    return n;
}

static int wait_until(uint64_t until, enum stream_wish wish, enum reason why,
                      enum whom whom)
{
    int n = not_back(wish, why, whom, true);

    while (n > 0 && clock_ns() < until) {
        struct timespec t = {0, 50000};

        syscall(SYS_nanosleep, &t, NULL);
        n = not_back(wish, why, whom, false);
    }
    return n;
}

static int wait_until_back(enum stream_wish wish, enum reason why,
                           enum whom whom)
{
    uint64_t until = clock_ns() + process.settings.return_timeout_ms * 1000000;
    uint64_t turns = atomic_load(&helper.turns);

    wait_until(until, wish, why, whom);
    while (atomic_load(&helper.turns) < turns + 2 && clock_ns() < until) {
        struct timespec t = {0, 20000};

        loop_wake(helper.loop);
        syscall(SYS_nanosleep, &t, NULL);
    }
    /* What the helper had in hand before no_ups was set may have gone up. */
    return wait_until(until, wish, why, whom);
}

static int count_in_the_midst(void)
{
    struct held_signals held;
    struct endpoint *e;
    int n = 0;

    take_list(&held);
    LIST_FOREACH(e, &helper.all, all)
        n += in_the_midst(e);
    give_list(&held);
    return n;
}

int helper_gather(enum stream_wish wish, enum reason why)
{
    int n;

    atomic_fetch_add(&process.no_ups, 1);
    if (wish == WISH_RETURN)
        atomic_store(&process.careful, true);
    if (!helper.started || pthread_equal(pthread_self(), helper.thread))
        return 0;
    n = wait_until_back(wish, why, wish == WISH_LEAVE ? EVERYBODY : THE_OPEN);
    return n + count_in_the_midst();
}

void helper_abort_rest(void)
{
    struct held_signals held;
    struct endpoint *e;

    take_list(&held);
    LIST_FOREACH(e, &helper.all, all)
        if (!e->closing && (in_the_midst(e) || !stream_on_tcp(&e->stream)))
            stream_abort(&e->stream, REASON_RETURN_TIMEOUT);
    give_list(&held);
}

void helper_release(void)
{
    struct held_signals held;
    struct endpoint *e;

    atomic_fetch_sub(&process.no_ups, 1);
    if (!helper.started)
        return;
    take_list(&held);
    LIST_FOREACH(e, &helper.all, all) {
        if (stream_in_handler(&e->stream))
            continue; /* it was not asked */
        stream_lock_all(&e->stream);
        if (e->stream.wish == WISH_RETURN && !atomic_load(&e->held))
            e->stream.wish = WISH_NONE;
        stream_unlock_all(&e->stream);
        helper_ask(e, WORK_PROGRESS);
    }
    give_list(&held);
}

int helper_not_left(bool say)
{
    return not_back(WISH_LEAVE, REASON_CLOSED, EVERYBODY, say);
}

void helper_stand(void)
{
    struct timespec t = {0, 20000};

    do { /* one more may have found it standing, just before */
        atomic_store(&helper.stands, true);
        while (atomic_load(&helper.forks) > 0)
            syscall(SYS_nanosleep, &t, NULL);
        atomic_store(&helper.stands, false);
    } while (atomic_load(&helper.forks) > 0);
}

void helper_before_fork(void)
{
    uint64_t until = clock_ns() + process.settings.return_timeout_ms * 1000000;

    if (!helper.started || helper_is_me)
        return;
    forking++;
    atomic_fetch_add(&helper.forks, 1);
    while (!atomic_load(&helper.stands) && !atomic_load(&helper.ends) &&
           clock_ns() < until) {
        struct timespec t = {0, 20000};

        loop_wake(helper.loop);
        syscall(SYS_nanosleep, &t, NULL);
    }
}

void helper_after_fork_here(void)
{
    if (forking == 0)
        return;
    forking--;
    atomic_fetch_sub(&helper.forks, 1);
}

void helper_forget_forks(void)
{
    forking = 0;
}

/* Its thread is gone when the kernel does not know it any more. */
static void wait_for_thread(pid_t tid)
{
    struct timespec t = {0, 20000};

    pthread_join(helper.thread, NULL);
    for (int i = 0; i < 50000; i++) {
        if (syscall(SYS_tgkill, process.pid, tid, 0) < 0)
            return;
        syscall(SYS_nanosleep, &t, NULL);
    }
}

void helper_end(void)
{
    int saved = errno;

    if (!helper.started || helper_is_me)
        return;
    atomic_store(&helper.hurries, true);
    wait_until_back(WISH_LEAVE, REASON_CLOSED, THE_CLOSING);
    atomic_store(&helper.ends, true);
    loop_wake(helper.loop);
    wait_for_thread(helper.tid);
    atomic_store(&helper.ends, false);
    atomic_store(&helper.hurries, false);
    errno = saved;
}

bool helper_bring_back(struct endpoint *e, enum reason why)
{
    uint64_t until = clock_ns() + process.settings.return_timeout_ms * 1000000;
    struct timespec t = {0, 50000};

    if (stream_in_handler(&e->stream)) { /* once that has gone on */
        helper_ask(e, WORK_RETURN);
        return false;
    }
    stream_wish(&e->stream, WISH_RETURN, why);
    helper_ask(e, WORK_PROGRESS);
    while (!stream_on_tcp(&e->stream)) {
        if (clock_ns() >= until) {
            stream_abort(&e->stream, REASON_RETURN_TIMEOUT);
            return false;
        }
        if (pthread_equal(pthread_self(), helper.thread))
            return false;
        syscall(SYS_nanosleep, &t, NULL);
    }
    return true;
}

static void let_go(struct endpoint *e)
{
    stream_wish(&e->stream, WISH_NONE, REASON_NONE);
    if (e->stream.why == REASON_ADMINISTRATOR)
        e->stream.why = REASON_YOUNG;
    e->failures = 0;
    e->not_before_ns = 0;
    stream_lock_all(&e->stream);
    e->stream.willing_due = e->stream.link != NULL && !e->stream.h.initiator;
    stream_unlock_all(&e->stream);
    helper_ask(e, WORK_MEET | WORK_PROGRESS);
}

void helper_hold(struct endpoint *e, bool on)
{
    if (e->closing || atomic_load(&e->freed) ||
        atomic_exchange(&e->held, on) == on)
        return;
    if (!on) {
        let_go(e);
    } else if (stream_on_tcp(&e->stream)) {
        helper_stop_meeting(e);
        if (!atomic_load(&e->ineligible))
            e->stream.why = REASON_ADMINISTRATOR;
    } else {
        stream_wish(&e->stream, WISH_RETURN, REASON_ADMINISTRATOR);
        helper_ask(e, WORK_PROGRESS);
    }
    stats_update(e);
}

void helper_hold_new(bool on)
{
    helper.hold_new = on;
}
