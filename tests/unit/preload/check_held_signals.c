/*
 * Signals that wait while a call looks (preload/held_signals.h).
 */
#include <check.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "preload/handlers.h"
#include "preload/held_signals.h"
#include "tests/support/run_suite.h"

static int handled;

static void handle(int number)
{
    (void)number;
    handled++;
}

static void block_usr2_only(void)
{
    sigset_t set;

    handled = 0;
    signal(SIGUSR1, handle);
    signal(SIGUSR2, handle);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    ck_assert_int_eq(sigprocmask(SIG_SETMASK, &set, NULL), 0);
}

static bool is_blocked(int number)
{
    sigset_t set;

    sigprocmask(SIG_SETMASK, NULL, &set);
    return sigismember(&set, number);
}

START_TEST(a_signal_waits_until_it_is_released)
{
    struct held_signals held = {.on = false};

    block_usr2_only();
    signals_hold(&held);
    raise(SIGUSR1);
    ck_assert_int_eq(handled, 0);
    ck_assert(signals_wait(&held));
    signals_release(&held);
    ck_assert_int_eq(handled, 1);
    ck_assert(!signals_wait(&held));
    for (int number = 1; number < 32; number++)
        ck_assert_int_eq(is_blocked(number), number == SIGUSR2);
}
END_TEST

START_TEST(a_signal_that_the_application_blocks_is_none_of_our_business)
{
    struct held_signals held = {.on = false};

    block_usr2_only();
    signals_hold(&held);
    raise(SIGUSR2);
    ck_assert(!signals_wait(&held));
    signals_release(&held);
    ck_assert_int_eq(handled, 0);
}
END_TEST

START_TEST(a_signal_that_is_ignored_interrupts_nothing)
{
    static const int by_default[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    struct held_signals held = {.on = false};

    block_usr2_only();
    signal(SIGALRM, handle);
    signals_hold(&held);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    for (size_t i = 0; i < sizeof(by_default) / sizeof(by_default[0]); i++) {
        signal(by_default[i], SIG_DFL);
        raise(by_default[i]);
    }
    ck_assert(!signals_wait(&held));
    raise(SIGALRM);
    ck_assert(signals_wait(&held));
    signals_release(&held);
    ck_assert_int_eq(handled, 1);
}
END_TEST

START_TEST(a_sleep_has_the_callers_mask_or_the_applications)
{
    struct held_signals held = {.on = false};
    sigset_t own;

    block_usr2_only();
    sigemptyset(&own);
    ck_assert_ptr_null(signals_mask(&held, NULL));
    ck_assert_ptr_eq(signals_mask(&held, &own), &own);
    signals_hold(&held);
    ck_assert_int_eq(sigismember(signals_mask(&held, NULL), SIGUSR2), 1);
    ck_assert_int_eq(sigismember(signals_mask(&held, NULL), SIGUSR1), 0);
    ck_assert_ptr_eq(signals_mask(&held, &own), &own);
    signals_release(&held);
    ck_assert_ptr_null(signals_mask(&held, NULL));
}
END_TEST

START_TEST(holding_twice_keeps_the_applications_mask)
{
    struct held_signals held = {.on = false};

    block_usr2_only();
    signals_release(&held);
    ck_assert(!is_blocked(SIGUSR1));
    signals_hold(&held);
    signals_hold(&held);
    signals_release(&held);
    ck_assert(!is_blocked(SIGUSR1));
    ck_assert(is_blocked(SIGUSR2));
}
END_TEST

START_TEST(without_a_handler_nothing_is_held)
{
    struct held_signals held = {.on = false};

    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, SIG_DFL);
    signals_hold(&held);
    for (int number = 1; number < 32; number++)
        ck_assert(!is_blocked(number));
    ck_assert_ptr_null(signals_mask(&held, NULL));
    ck_assert(!signals_wait(&held));
    signals_release(&held);
    signal(SIGUSR1, handle);
    handlers_changed(SIGUSR1);
    signals_hold(&held);
    ck_assert(is_blocked(SIGUSR1));
    signals_release(&held);
}
END_TEST

/* The kernel keeps a signal that is blocked, ignored or not. */
START_TEST(a_signal_that_is_ignored_ends_no_sleep)
{
    static const int by_default[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT};
    struct held_signals held = {.on = false};
    int epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event;

    block_usr2_only();
    signal(SIGALRM, SIG_IGN);
    signals_hold(&held);
    raise(SIGALRM);
    for (size_t i = 0; i < sizeof(by_default) / sizeof(by_default[0]); i++)
        raise(by_default[i]);
    ck_assert_int_eq(epoll_pwait(epfd, &event, 1, 1, signals_mask(&held, NULL)),
                     0);
    raise(SIGUSR1);
    ck_assert_int_eq(epoll_pwait(epfd, &event, 1, 1, signals_mask(&held, NULL)),
                     -1);
    ck_assert_int_eq(handled, 1);
    signals_release(&held);
    close(epfd);
}
END_TEST

START_TEST(what_has_a_handler_by_now_is_held_instead)
{
    struct held_signals held = {.on = false};

    block_usr2_only();
    signals_hold(&held);
    ck_assert(!is_blocked(SIGHUP));
    signal(SIGHUP, handle);
    handlers_changed(SIGHUP);
    signal(SIGUSR1, SIG_IGN);
    handlers_changed(SIGUSR1);
    signals_hold(&held);
    ck_assert(is_blocked(SIGHUP));
    ck_assert(!is_blocked(SIGUSR1));
    ck_assert_int_eq(sigismember(signals_mask(&held, NULL), SIGHUP), 0);
    signals_release(&held);
    ck_assert(!is_blocked(SIGHUP));
    ck_assert(is_blocked(SIGUSR2));
}
END_TEST

START_TEST(what_tells_of_a_mistake_is_never_held)
{
    static const int never[] = {SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                SIGTRAP, SIGABRT, SIGSYS};
    struct held_signals held = {.on = false};

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        signal(never[i], handle);
    signal(SIGALRM, handle);
    signals_hold(&held);
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        ck_assert(!is_blocked(never[i]));
    ck_assert(is_blocked(SIGALRM));
    signals_release(&held);
    ck_assert(!is_blocked(SIGALRM));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("held signals");
    TCase *t = tcase_create("held signals");

    tcase_add_test(t, a_signal_waits_until_it_is_released);
    tcase_add_test(
        t, a_signal_that_the_application_blocks_is_none_of_our_business);
    tcase_add_test(t, a_signal_that_is_ignored_interrupts_nothing);
    tcase_add_test(t, a_sleep_has_the_callers_mask_or_the_applications);
    tcase_add_test(t, holding_twice_keeps_the_applications_mask);
    tcase_add_test(t, without_a_handler_nothing_is_held);
    tcase_add_test(t, a_signal_that_is_ignored_ends_no_sleep);
    tcase_add_test(t, what_has_a_handler_by_now_is_held_instead);
    tcase_add_test(t, what_tells_of_a_mistake_is_never_held);
    suite_add_tcase(s, t);
    return run_suite(s);
}
