/*
 * How long a wait in a set asks the kernel to sleep, and by which call.
 */
#include "preload/epoll_private.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/kernel.h"
#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "tests/unit/preload/silent_link.h"
#include "transport/bell.h"
#include "transport/stream/kernel_calls.h"

enum { LONG_S = 1000 };
#define LONG_NS (LONG_S * INT64_C(1000000000))

static struct endpoint e;
static struct peer peer = {&silent_ops};
static struct link link_up;
static struct epoll_set *set;
static int fd, epfd;

/* To sleep how long, how often, and does the kernel know that call? */
static int by_ms, by_ns, last_ms;
static struct timespec last;
static bool is_known;

/* A signal ends the wait. */
static int end_wait(void)
{
    errno = EINTR;
    return -1;
}

static int asked_by_ms(int in, struct epoll_event *events, int max, int ms,
                       const sigset_t *mask)
{
    (void)in;
    (void)events;
    (void)max;
    (void)mask;
    by_ms++;
    last_ms = ms;
    return end_wait();
}

static int asked_by_ns(int in, struct epoll_event *events, int max,
                       const struct timespec *timeout, const sigset_t *mask)
{
    (void)in;
    (void)events;
    (void)max;
    (void)mask;
    by_ns++;
    last = *timeout;
    if (is_known)
        return end_wait();
    errno = ENOSYS;
    return -1;
}

static int close_it(void *arg)
{
    return close(*(int *)arg);
}

static void start(void)
{
    ck_assert_int_eq(epoll_sets_start(), 0);
    process.pid = getpid();
    process.bell_token = (uint64_t)getpid() << 32 | 1;
    process.ringer = bell_ringer_open();
    kernel_resolve();
    kernel.epoll_pwait = asked_by_ms;
    kernel.epoll_pwait2 = asked_by_ns;
    by_ms = by_ns = last_ms = 0;
    is_known = true;
    epfd = epoll_create1(EPOLL_CLOEXEC);
    set = epoll_set_create(epfd);
    ck_assert(epoll_set_enter(set));
}

static void stop(void)
{
    epoll_set_leave(set);
    epoll_set_close(set, epfd, close_it, &epfd);
    close(process.ringer);
}

/* One that is up, and on which nothing comes. */
static void put_stream_in(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    memset(&e, 0, sizeof(e));
    link_up = (struct link){.ops = &silent_ops,
                            .peer = &peer,
                            .tx = {.size = 4096, .span = 4096},
                            .rx = {.size = 4096, .span = 4096}};
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    e.stream.fd = fd;
    e.stream.tcp = &tcp_calls_kernel;
    e.stream.link = &link_up;
    e.stream.managed = true;
    e.stream.h.stage = STAGE_UP;
    e.stream.h.end = HANDOVER_NONE;
    ck_assert_int_eq(epoll_set_ctl(set, EPOLL_CTL_ADD, fd, &e, &event), 0);
    ck_assert_uint_eq(atomic_load(&set->n_managed), 1);
}

static void take_stream_out(void)
{
    epoll_sets_forget(&e, true);
    close(fd);
}

static int wait_for(int64_t timeout_ns)
{
    struct epoll_event event;

    by_ms = by_ns = 0;
    return epoll_set_wait(set, &event, 1, timeout_ns, NULL);
}

static void check_times(void)
{
    ck_assert_int_eq(wait_for(LONG_NS + 100000), -EINTR);
    ck_assert_int_eq(by_ns, 1);
    ck_assert_int_eq(by_ms, 0);
    ck_assert_int_gt(last.tv_sec, 0);
    ck_assert(last.tv_sec < LONG_S ||
              (last.tv_sec == LONG_S && last.tv_nsec <= 100000));
    ck_assert_int_eq(wait_for(LONG_NS), -EINTR);
    ck_assert_int_eq(by_ns, 0);
    ck_assert_int_eq(by_ms, 1);
    ck_assert_int_gt(last_ms, 0);
    ck_assert_int_le(last_ms, LONG_S * 1000);
    ck_assert_int_eq(wait_for(-1), -EINTR);
    ck_assert_int_eq(by_ns, 0);
    ck_assert_int_eq(last_ms, -1);
}

START_TEST(a_part_of_a_millisecond_is_not_rounded)
{
    check_times();
    put_stream_in();
    check_times();
    take_stream_out();
}
END_TEST

START_TEST(it_is_where_the_kernel_knows_no_parts)
{
    put_stream_in();
    is_known = false;
    ck_assert_int_eq(wait_for(LONG_NS + 100000), -EINTR);
    ck_assert_int_eq(by_ns, 1);
    ck_assert_int_eq(by_ms, 1);
    kernel.epoll_pwait2 = NULL;
    ck_assert_int_eq(wait_for(LONG_NS + 100000), -EINTR);
    ck_assert_int_eq(by_ns, 0);
    ck_assert_int_eq(by_ms, 1);
    take_stream_out();
}
END_TEST

START_TEST(who_does_not_wait_is_not_asked_to_sleep)
{
    put_stream_in();
    ck_assert_int_eq(wait_for(0), 0);
    ck_assert_int_eq(by_ms, 0);
    ck_assert_int_eq(by_ns, 0);
    take_stream_out();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoll wait");
    TCase *tc = tcase_create("wait");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, a_part_of_a_millisecond_is_not_rounded);
    tcase_add_test(tc, it_is_where_the_kernel_knows_no_parts);
    tcase_add_test(tc, who_does_not_wait_is_not_asked_to_sleep);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
