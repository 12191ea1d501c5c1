/*
 * What the helper asks the kernel about a connection. A call of ours that is
 * under way keeps the file open behind the application's close(), and the peer
 * finds open what has been closed: so close() has to be able to wait for it.
 */
#include "preload/helper_private.h"

#include <arpa/inet.h>
#include <check.h>
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "tests/unit/preload/stand_ins.h"

static int asked, asked_unlocked; /* what the connection is called */

/* In place of libc's, for all of kernel_calls.h. */
long syscall(long number, ...)
{
    static long (*real)(long number, ...);
    long a[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_getsockname || number == SYS_getpeername) {
        asked++;
        if (lock_try(&e->stream.stage)) {
            asked_unlocked++;
            lock_give(&e->stream.stage);
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void start_asked_nothing(void)
{
    start();
    asked = asked_unlocked = 0;
}

START_TEST(names_are_asked_for_under_the_locks_that_close_takes)
{
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
    ck_assert_int_eq(asked, 2);
    ck_assert_int_eq(asked_unlocked, 0);
}
END_TEST

START_TEST(nothing_is_asked_about_what_is_being_closed)
{
    atomic_store(&e->left, true);
    helper_meet(e);
    ck_assert_int_eq(n_order, 0);
    ck_assert_int_eq(asked, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("helper ask");
    TCase *tc = tcase_create("the kernel");

    tcase_add_checked_fixture(tc, start_asked_nothing, stop);
    tcase_add_test(tc, names_are_asked_for_under_the_locks_that_close_takes);
    tcase_add_test(tc, nothing_is_asked_about_what_is_being_closed);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
