/*
 * Everybody back to TCP, before a fork, an exec or the end of the process; and
 * one stream back, before its descriptor is given away. The caller waits, the
 * helper works.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/helper_private.h"
#include "preload/process.h"
#include "transport/pause.h"

static int not_back(enum stream_wish wish, enum reason why, bool say)
{
    int n = 0;

    lock_take(&helper.all_lock);
    for (struct endpoint *e = helper.all; e != NULL; e = e->all_next) {
        if (say && (wish == WISH_LEAVE || !e->closing)) {
            stream_lock_all(&e->stream);
            if (wish > e->stream.wish) {
                e->stream.wish = wish;
                e->stream.wish_why = why;
            }
            stream_unlock_all(&e->stream);
        }
        if (say)
            helper_ask(e, WORK_PROGRESS); /* after the wish */
        if (!stream_on_tcp(&e->stream) &&
            (wish == WISH_LEAVE || !e->closing))
            n++;
    }
    lock_give(&helper.all_lock);
    return n;
}

static int wait_until(uint64_t until, enum stream_wish wish, enum reason why)
{
    int n = not_back(wish, why, true);

    while (n > 0 && clock_ns() < until) {
        struct timespec t = {0, 50000};

        syscall(SYS_nanosleep, &t, NULL);
        n = not_back(wish, why, false);
    }
    return n;
}

static int wait_until_back(enum stream_wish wish, enum reason why)
{
    uint64_t until =
        clock_ns() + process.settings.return_timeout_ms * 1000000;
    uint64_t turns = atomic_load(&helper.turns);

    wait_until(until, wish, why);
    while (atomic_load(&helper.turns) < turns + 2 && clock_ns() < until) {
        struct timespec t = {0, 20000};

        loop_wake(helper.loop);
        syscall(SYS_nanosleep, &t, NULL);
    }
    /* What the helper had in hand before no_ups was set may have gone up. */
    return wait_until(until, wish, why);
}

int helper_gather(enum stream_wish wish, enum reason why)
{
    atomic_fetch_add(&process.no_ups, 1);
    if (!helper.started || pthread_equal(pthread_self(), helper.thread))
        return 0;
    return wait_until_back(wish, why);
}

void helper_abort_rest(void)
{
    lock_take(&helper.all_lock);
    for (struct endpoint *e = helper.all; e != NULL; e = e->all_next)
        if (!e->closing && !stream_on_tcp(&e->stream))
            stream_abort(&e->stream, REASON_RETURN_TIMEOUT);
    lock_give(&helper.all_lock);
}

void helper_release(void)
{
    atomic_fetch_sub(&process.no_ups, 1);
    if (!helper.started)
        return;
    lock_take(&helper.all_lock);
    for (struct endpoint *e = helper.all; e != NULL; e = e->all_next) {
        stream_lock_all(&e->stream);
        if (e->stream.wish == WISH_RETURN)
            e->stream.wish = WISH_NONE;
        stream_unlock_all(&e->stream);
        helper_ask(e, WORK_PROGRESS);
    }
    lock_give(&helper.all_lock);
}

bool helper_bring_back(struct endpoint *e, enum reason why)
{
    uint64_t until =
        clock_ns() + process.settings.return_timeout_ms * 1000000;
    struct timespec t = {0, 50000};

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
