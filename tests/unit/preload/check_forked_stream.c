/*
 * A stream in the child of a fork that could not be brought back to TCP, or
 * not all of it: it is lost there, and never goes on behind unread bytes. And
 * which sockets are shared by a fork.
 */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/endpoint.h"
#include "preload/fd_table.h"
#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/stream/kernel_calls.h"

static struct endpoint e;
static int fd;

static void start(void)
{
    memset(&e, 0, sizeof(e));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    e.object.kind = OBJECT_ENDPOINT;
    e.state = ENDPOINT_CONNECTED;
    e.stream.fd = fd;
    e.stream.tcp = &tcp_calls_kernel;
    fd_set_row(fd, &e.object);
    process.ready = true;
    ck_assert_int_eq(process_watch_forks(), 0);
}

static void stop(void)
{
    fd_set_row(fd, NULL);
    close(fd);
}

/* The stage in the child. */
static int stage_in_child(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit((int)e.stream.h.stage);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(one_on_tcp_goes_on)
{
    e.stream.h.took = e.stream.h.have = 7;
    ck_assert_int_eq(stage_in_child(), STAGE_RAW);
}
END_TEST

START_TEST(one_with_bytes_that_were_kept_is_lost)
{
    e.stream.managed = e.stream.has_kept = true;
    e.stream.guard = 1;
    e.stream.h.took = 7;
    e.stream.h.have = 8;
    ck_assert_int_eq(stage_in_child(), STAGE_DEAD);
}
END_TEST

START_TEST(one_in_the_midst_of_a_return_is_lost)
{
    e.stream.managed = true;
    e.stream.guard = 1;
    e.stream.h.stage = STAGE_FROZEN;
    ck_assert_int_eq(stage_in_child(), STAGE_DEAD);
}
END_TEST

static const char *what_is(const struct endpoint *is)
{
    return is->ineligible ? "ineligible" : is->shared ? "shared" : "free";
}

/* What is said of it in both processes. */
static const char *after_fork(enum endpoint_state state, bool up_after_fork)
{
    int status;
    pid_t pid;

    e.state = state;
    process.settings.up_after_fork = up_after_fork;
    pid = fork();
    if (pid == 0)
        _exit(what_is(&e)[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), what_is(&e)[0]);
    return what_is(&e);
}

START_TEST(one_that_is_not_connected_yet_is_shared)
{
    ck_assert_str_eq(after_fork(ENDPOINT_NEW, true), "shared");
    ck_assert_int_eq(e.stream.why, REASON_SHARED_AFTER_FORK);
    ck_assert(family_counts(&e.holders));
}
END_TEST

START_TEST(one_that_is_not_connected_yet_and_not_counted_stays)
{
    ck_assert_str_eq(after_fork(ENDPOINT_NEW, false), "ineligible");
    ck_assert_int_eq(e.stream.why, REASON_SHARED_AFTER_FORK);
}
END_TEST

START_TEST(one_that_a_command_may_have_stays)
{
    e.state = ENDPOINT_NEW;
    process_share_inherited(true);
    ck_assert_str_eq(what_is(&e), "ineligible");
}
END_TEST

START_TEST(one_that_listens_is_nobodys_to_count)
{
    ck_assert_str_eq(after_fork(ENDPOINT_LISTENING, true), "free");
    ck_assert(!family_counts(&e.holders));
    process_share_inherited(true);
    ck_assert_str_eq(what_is(&e), "free");
}
END_TEST

/* Or its place would be another's while a child still leaves it. */
START_TEST(one_that_was_counted_before_it_listens_stays_counted)
{
    pid_t first, second;

    e.state = ENDPOINT_NEW;
    process.settings.up_after_fork = true;
    first = fork();
    if (first == 0)
        pause();
    ck_assert(family_counts(&e.holders));
    e.state = ENDPOINT_LISTENING;
    second = fork();
    if (second == 0) {
        family_leave(&e.holders);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(second, NULL, 0), second);
    ck_assert(!family_is_alone(&e.holders));
    kill(first, SIGKILL);
    ck_assert_int_eq(waitpid(first, NULL, 0), first);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("forked stream");
    TCase *tc = tcase_create("fork");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, one_on_tcp_goes_on);
    tcase_add_test(tc, one_with_bytes_that_were_kept_is_lost);
    tcase_add_test(tc, one_in_the_midst_of_a_return_is_lost);
    tcase_add_test(tc, one_that_is_not_connected_yet_is_shared);
    tcase_add_test(tc, one_that_is_not_connected_yet_and_not_counted_stays);
    tcase_add_test(tc, one_that_a_command_may_have_stays);
    tcase_add_test(tc, one_that_listens_is_nobodys_to_count);
    tcase_add_test(tc, one_that_was_counted_before_it_listens_stays_counted);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
