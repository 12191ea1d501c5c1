/*
 * A poll whose time is over, or that had none, while a stream is on its way
 * back to TCP.
 */
#include "preload/poll_wait.h"

#include <check.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/endpoint.h"
#include "preload/fd_table.h"
#include "preload/process.h"
#include "preload/waiter.h"
#include "tests/support/run_suite.h"
#include "tests/unit/preload/silent_link.h"
#include "transport/stream/kernel_calls.h"

static struct endpoint e;
static struct peer peer = {&silent_ops};
static struct link link_up;
static int fd;

/* It takes and writes nothing more on its link. */
static void start(void)
{
    memset(&e, 0, sizeof(e));
    link_up = (struct link){.ops = &silent_ops,
                            .peer = &peer,
                            .tx = {.size = 4096, .span = 4096},
                            .rx = {.size = 4096, .span = 4096}};
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    e.object.kind = OBJECT_ENDPOINT;
    e.state = ENDPOINT_CONNECTED;
    e.stream.fd = fd;
    e.stream.tcp = &tcp_calls_kernel;
    e.stream.link = &link_up;
    e.stream.managed = true;
    e.stream.guard = 1;
    e.stream.h.in_record = true;
    e.stream.h.stage = STAGE_FROZEN;
    e.stream.h.end = HANDOVER_NONE;
    e.stream.since_ns = clock_ns();
    fd_set_row(fd, &e.object);
    ck_assert_int_eq(waiters_start(), 0);
    waiter_self(); /* it takes its time, once */
}

static void stop(void)
{
    fd_set_row(fd, NULL);
    close(fd);
}

static void *settle_soon(void *arg)
{
    (void)arg;
    usleep(5000);
    atomic_store(&e.stream.h.stage, STAGE_UP);
    return NULL;
}

static int poll_for(short events, int64_t timeout_ns)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll_wait(&p, 1, timeout_ns, NULL);
}

START_TEST(it_waits_until_a_write_could_go_on)
{
    pthread_t settler;

    process.settings.handover_hold_usec = 10000000;
    ck_assert_int_eq(pthread_create(&settler, NULL, settle_soon, NULL), 0);
    ck_assert_int_eq(poll_for(POLLOUT, 0), 1);
    pthread_join(settler, NULL);
}
END_TEST

START_TEST(it_waits_that_long_after_the_stream_left_its_link)
{
    uint64_t left_ns = e.stream.since_ns;

    process.settings.handover_hold_usec = 20000;
    ck_assert_int_eq(poll_for(POLLOUT, 0), 0);
    ck_assert_uint_ge(clock_ns() - left_ns, 20000000);
    process.settings.handover_hold_usec = 10000000;
    e.stream.since_ns -= 10000000000; /* Check's limit ends it */
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(poll_for(POLLWRNORM | POLLIN, 0), 0);
}
END_TEST

START_TEST(one_whose_time_runs_out_waits_as_well)
{
    pthread_t settler;

    process.settings.handover_hold_usec = 10000000;
    ck_assert_int_eq(pthread_create(&settler, NULL, settle_soon, NULL), 0);
    ck_assert_int_eq(poll_for(POLLOUT, 1000), 1);
    pthread_join(settler, NULL);
}
END_TEST

START_TEST(it_does_not_wait_for_what_nobody_asked)
{
    process.settings.handover_hold_usec = 10000000; /* Check's limit ends it */
    ck_assert_int_eq(poll_for(POLLIN, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("poll");
    TCase *tc = tcase_create("poll");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, it_waits_until_a_write_could_go_on);
    tcase_add_test(tc, it_waits_that_long_after_the_stream_left_its_link);
    tcase_add_test(tc, one_whose_time_runs_out_waits_as_well);
    tcase_add_test(tc, it_does_not_wait_for_what_nobody_asked);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
