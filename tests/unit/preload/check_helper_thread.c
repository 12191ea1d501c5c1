/*
 * The helper's thread does what it is asked for, also by a signal handler that
 * has interrupted its own thread while that was asking.
 */
#include "preload/helper_private.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/pause.h"

enum { ASKED = 8, ROUNDS = 2000, WAIT_MS = 10000 };

/* In place of preload/helper.c: the work is counted. */
static _Atomic unsigned worked[ASKED];
static struct endpoint *endpoints[ASKED];
static _Atomic bool holds_last; /* it works on the last one until it is not */
static _Atomic bool forgets;    /* it does not look whether it is alone */
const struct link_events helper_events;

void helper_work_on(struct endpoint *e, unsigned work)
{
    while (e == endpoints[ASKED - 1] && atomic_load(&holds_last))
        usleep(50);
    if (atomic_load(&forgets))
        loop_timer_clear(helper.loop, &helper.look);
    for (int i = 0; i < ASKED; i++)
        if (endpoints[i] == e && (work & WORK_PROGRESS))
            atomic_fetch_add(&worked[i], 1);
}

void helper_list_in(struct endpoint *e)
{
    (void)e;
}

void helper_list_out(struct endpoint *e)
{
    (void)e;
}

void helper_try_again_in(struct endpoint *e, uint64_t ns)
{
    (void)e;
    (void)ns;
}

void helper_detach(struct endpoint *e)
{
    (void)e;
}

void helper_adopt(struct endpoint *e, int new_fd)
{
    (void)e;
    (void)new_fd;
}

void helper_move(struct endpoint *e, int new_fd)
{
    (void)e;
    (void)new_fd;
}

/* ---- */

static void start(void)
{
    settings_defaults(&process.settings);
    for (int i = 0; i < ASKED; i++) {
        endpoints[i] = endpoint_create(-1, AF_INET, false, ENDPOINT_NEW, true);
        ck_assert_ptr_nonnull(endpoints[i]);
    }
}

static void done(int which, unsigned before)
{
    uint64_t until = clock_ns() + WAIT_MS * UINT64_C(1000000);

    while (atomic_load(&worked[which]) == before && clock_ns() < until)
        usleep(50);
    ck_assert_msg(atomic_load(&worked[which]) != before,
                  "what was asked for endpoint %d is not done", which);
}

START_TEST(what_is_asked_is_done)
{
    for (int i = 0; i < 100 * ASKED; i++) {
        unsigned before = atomic_load(&worked[i % ASKED]);

        helper_ask(endpoints[i % ASKED], WORK_PROGRESS);
        done(i % ASKED, before);
    }
}
END_TEST

static void *asks_a_lot(void *which)
{
    for (int i = 0; i < 100000; i++)
        helper_ask(*(struct endpoint **)which, WORK_PROGRESS);
    return NULL;
}

START_TEST(threads_that_ask_at_once_lose_nothing)
{
    pthread_t threads[ASKED];
    unsigned before[ASKED];

    for (int i = 0; i < ASKED; i++)
        pthread_create(&threads[i], NULL, asks_a_lot, &endpoints[i]);
    for (int i = 0; i < ASKED; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ASKED; i++) {
        before[i] = atomic_load(&worked[i]);
        helper_ask(endpoints[i], WORK_PROGRESS);
    }
    for (int i = 0; i < ASKED; i++)
        done(i, before[i]);
}
END_TEST

START_TEST(one_that_is_asked_for_and_then_freed_takes_no_other_along)
{
    unsigned before = atomic_load(&worked[0]);

    atomic_store(&holds_last, true);
    helper_ask(endpoints[ASKED - 1], WORK_PROGRESS);
    while (!atomic_load(&endpoints[ASKED - 1]->in_hand))
        usleep(50);
    for (int i = 0; i < ASKED - 1; i++)
        helper_ask(endpoints[i], WORK_PROGRESS);
    for (int i = 1; i < ASKED - 1; i++)
        endpoint_free(endpoints[i]);
    atomic_store(&holds_last, false);
    done(0, before);
}
END_TEST

static void *stays(void *arg)
{
    pause();
    return arg;
}

static bool it_looks(void)
{
    uint64_t until = clock_ns() + WAIT_MS * UINT64_C(1000000);

    while (!__atomic_load_n(&helper.look.added, __ATOMIC_RELAXED))
        if (clock_ns() > until)
            return false;
    return true;
}

/* Then it looks now and then whether any thread is left, so it must not sleep
 * until somebody asks for something: perhaps nobody does. */
START_TEST(a_main_thread_that_leaves_is_noticed_at_any_moment)
{
    pthread_t other;

    pthread_create(&other, NULL, stays, NULL);
    for (unsigned i = 0; i < 20 * ROUNDS; i++) {
        unsigned before = atomic_load(&worked[0]);

        atomic_store(&process.main_left, false);
        atomic_store(&forgets, true);
        helper_ask(endpoints[0], WORK_PROGRESS);
        done(0, before);
        atomic_store(&forgets, false);
        helper_ask(endpoints[1], WORK_PROGRESS);
        for (unsigned k = i % 2000; k > 0; k--)
            cpu_pause();
        helper_main_leaves();
        ck_assert(it_looks());
    }
}
END_TEST

static _Atomic unsigned handled, before_handler;

static void asks(int number)
{
    (void)number;
    atomic_store(&before_handler, atomic_load(&worked[1]));
    helper_ask(endpoints[1], WORK_PROGRESS);
    atomic_fetch_add(&handled, 1);
}

static void *shoots(void *at)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_kill(*(pthread_t *)at, SIGUSR1);
        while (atomic_load(&handled) == i)
            sched_yield();
        done(1, atomic_load(&before_handler));
    }
    return NULL;
}

START_TEST(a_handler_that_asks_while_its_thread_does_loses_nothing)
{
    pthread_t self = pthread_self(), shooter;
    unsigned before;

    signal(SIGUSR1, asks);
    pthread_create(&shooter, NULL, shoots, &self);
    while (atomic_load(&handled) < ROUNDS)
        helper_ask(endpoints[0], WORK_PROGRESS);
    pthread_join(shooter, NULL);
    before = atomic_load(&worked[0]);
    helper_ask(endpoints[0], WORK_PROGRESS);
    done(0, before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("helper thread");
    TCase *t = tcase_create("helper thread");

    tcase_set_timeout(t, 60); /* thousands of rounds, beside who knows whom */
    tcase_add_checked_fixture(t, start, NULL);
    tcase_add_test(t, what_is_asked_is_done);
    tcase_add_test(t, threads_that_ask_at_once_lose_nothing);
    tcase_add_test(t,
                   one_that_is_asked_for_and_then_freed_takes_no_other_along);
    tcase_add_test(t, a_main_thread_that_leaves_is_noticed_at_any_moment);
    tcase_add_test(t, a_handler_that_asks_while_its_thread_does_loses_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
