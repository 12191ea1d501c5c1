/*
 * What handlers do to a call (preload/handlers.h).
 */
#include <check.h>
#include <signal.h>

#include "tests/support/run_suite.h"

#include "preload/handlers.h"

static void handle(int number)
{
    (void)number;
}

static void set(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    ck_assert_int_eq(sigaction(number, &action, NULL), 0);
    handlers_changed(number);
}

/* Check has handlers of its own. */
static void forget_all(void)
{
    for (int number = 1; number <= SIGRTMAX; number++) {
        signal(number, SIG_DFL);
        handlers_changed(number);
    }
}

START_TEST(without_handlers_calls_are_restarted)
{
    forget_all();
    ck_assert_int_eq(handlers_kind(), HANDLERS_NONE);
    ck_assert(handlers_restart(handlers_kind()));
    set(SIGUSR1, SIG_IGN, 0);
    ck_assert_int_eq(handlers_kind(), HANDLERS_NONE);
}
END_TEST

START_TEST(all_of_one_kind_decide)
{
    forget_all();
    set(SIGUSR1, handle, SA_RESTART);
    set(SIGRTMAX, handle, SA_RESTART);
    ck_assert_int_eq(handlers_kind(), HANDLERS_RESTART);
    set(SIGUSR1, handle, 0);
    set(SIGRTMAX, handle, 0);
    ck_assert_int_eq(handlers_kind(), HANDLERS_INTERRUPT);
}
END_TEST

START_TEST(both_kinds_are_told_from_one)
{
    forget_all();
    set(SIGHUP, handle, 0);
    set(SIGRTMAX, handle, SA_RESTART);
    ck_assert_int_eq(handlers_kind(), HANDLERS_OF_BOTH_KINDS);
    set(SIGHUP, SIG_DFL, 0);
    ck_assert_int_eq(handlers_kind(), HANDLERS_RESTART);
    set(SIGHUP, handle, 0);
    set(SIGRTMAX, SIG_IGN, SA_RESTART);
    ck_assert_int_eq(handlers_kind(), HANDLERS_INTERRUPT);
}
END_TEST

START_TEST(a_handler_that_goes_when_it_has_run_is_not_counted_then)
{
    forget_all();
    set(SIGUSR1, handle, (int)SA_RESETHAND);
    set(SIGUSR2, handle, SA_RESTART);
    ck_assert_int_eq(handlers_kind(), HANDLERS_OF_BOTH_KINDS);
    raise(SIGUSR1);
    ck_assert_int_eq(handlers_kind(), HANDLERS_RESTART);
}
END_TEST

START_TEST(those_with_a_handler_are_known)
{
    uint64_t usr1 = UINT64_C(1) << (SIGUSR1 - 1);
    uint64_t last = UINT64_C(1) << (SIGRTMAX - 1);

    forget_all();
    ck_assert_uint_eq(handlers_signals(), 0);
    set(SIGUSR1, handle, SA_RESTART);
    set(SIGUSR2, SIG_IGN, 0);
    set(SIGRTMAX, handle, 0);
    ck_assert_uint_eq(handlers_signals(), usr1 | last);
    set(SIGUSR1, SIG_DFL, 0);
    ck_assert_uint_eq(handlers_signals(), last);
}
END_TEST

START_TEST(numbers_of_no_signal_are_nothing)
{
    forget_all();
    handlers_changed(0);
    handlers_changed(-1);
    handlers_changed(65);
    ck_assert_int_eq(handlers_kind(), HANDLERS_NONE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("handlers");
    TCase *t = tcase_create("handlers");

    tcase_add_test(t, without_handlers_calls_are_restarted);
    tcase_add_test(t, all_of_one_kind_decide);
    tcase_add_test(t, both_kinds_are_told_from_one);
    tcase_add_test(t, a_handler_that_goes_when_it_has_run_is_not_counted_then);
    tcase_add_test(t, those_with_a_handler_are_known);
    tcase_add_test(t, numbers_of_no_signal_are_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
