/*
 * Everybody back, while a signal handler of the same thread asks for the same:
 * as one that forks while its program forks.
 */
#include "preload/helper_private.h"

#include <check.h>
#include <signal.h>
#include <unistd.h>

#include "preload/handlers.h"
#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/stream/kernel_calls.h"

/* In place of preload/helper_thread.c: a signal comes as it is asked. */
struct helper helper;
__thread bool helper_is_me __attribute__((tls_model("initial-exec")));
static int asked, lost;
static void (*what)(void);

void helper_ask(struct endpoint *asked_for, unsigned work)
{
    (void)asked_for;
    (void)work;
    if (asked++ == 0)
        raise(SIGUSR1);
    lost += !lock_is_mine(&helper.all_lock);
}

void helper_begin_again(void)
{
}

void helper_after_fork(void)
{
}

/* ---- */

static struct endpoint e;
static volatile sig_atomic_t handled;

static void on_signal(int number)
{
    (void)number;
    what();
    handled++;
}

static void gathers(void)
{
    helper_gather(WISH_RETURN, REASON_FORK);
}

static int keep(int fd)
{
    return fd;
}

static void let_go(int fd)
{
    close(fd);
}

static void start(void)
{
    static const struct loop_calls calls = {keep, let_go};

    settings_defaults(&process.settings);
    process.settings.return_timeout_ms = 1;
    stream_init(&e.stream, -1, true, &tcp_calls_kernel, &endpoint_stream_calls,
                &e.bytes);
    ck_assert_int_eq(loop_create(&calls, &helper.loop), 0);
    helper_list_in(&e);
    atomic_store(&helper.started, true);
    asked = lost = handled = 0;
    signal(SIGUSR1, on_signal);
    handlers_changed(SIGUSR1);
}

static void stop(void)
{
    ck_assert_int_eq(handled, 1);
    ck_assert_int_eq(lost, 0);
    ck_assert(lock_try(&helper.all_lock));
    lock_give(&helper.all_lock);
    settings_free(&process.settings);
}

START_TEST(the_list_stays_locked_while_a_handler_gathers)
{
    what = gathers;
    gathers();
}
END_TEST

START_TEST(the_list_stays_locked_while_a_handler_lets_go)
{
    what = helper_release;
    gathers();
}
END_TEST

START_TEST(the_list_stays_locked_while_a_handler_resets_the_rest)
{
    what = helper_abort_rest;
    gathers();
}
END_TEST

START_TEST(the_list_stays_locked_when_all_are_let_go)
{
    what = gathers;
    helper_release();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("helper gather");
    TCase *tc = tcase_create("a handler in the midst of it");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, the_list_stays_locked_while_a_handler_gathers);
    tcase_add_test(tc, the_list_stays_locked_while_a_handler_lets_go);
    tcase_add_test(tc, the_list_stays_locked_while_a_handler_resets_the_rest);
    tcase_add_test(tc, the_list_stays_locked_when_all_are_let_go);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
