/*
 * A one-shot that the kernel told of in the moment in which it gave it away is
 * spent; one that shares its data with another is not, as it may have been that
 * one that was told of.
 */
#include "preload/epoll_private.h"

#include <check.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

enum { DATA = 7, SINCE = 3 };

static struct endpoint e[2];
static struct epoll_set set;
static struct epoll_reg reg[2], *hot[2];
static int other;

static void member(int i, uint32_t events, uint64_t data)
{
    reg[i] = (struct epoll_reg){.set = &set,
                                .endpoint = &e[i],
                                .set_next = set.regs,
                                .fd = 1000 + i,
                                .events = events,
                                .data.u64 = data,
                                .managed = true,
                                .hot = true,
                                .taken_at = SINCE + 1};
    set.regs = &reg[i];
    hot[set.n_hot++] = &reg[i];
}

/* One stream has just left TCP. */
static void start(void)
{
    set = (struct epoll_set){.hot = hot, .hot_size = 2, .wake_fd = -1};
    atomic_store(&set.epfd, epoll_create1(EPOLL_CLOEXEC));
    atomic_store(&set.object.takeovers, SINCE + 1);
    other = eventfd(1, EFD_CLOEXEC);
    member(0, EPOLLIN | EPOLLONESHOT, DATA);
}

static void stop(void)
{
    close(other);
    close(set.epfd);
}

/* The descriptor that is not ours is in the set, and told of. */
static void add_other(uint64_t data)
{
    ck_assert_int_eq(epoll_kernel_ctl(&set, EPOLL_CTL_ADD, other,
                                      EPOLLIN | EPOLLONESHOT,
                                      (epoll_data_t){.u64 = data}),
                     0);
}

/* What somebody was told who had asked the kernel before. */
static int told(uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};

    return epoll_set_without_bell(&set, &event, 1, SINCE);
}

START_TEST(what_the_kernel_told_of_is_spent)
{
    add_other(DATA + 1);
    ck_assert_int_eq(told(DATA), 1);
    ck_assert(reg[0].disarmed);
}
END_TEST

START_TEST(what_it_did_not_tell_of_is_not)
{
    add_other(DATA + 1);
    ck_assert_int_eq(told(DATA + 1), 1);
    ck_assert(!reg[0].disarmed);
}
END_TEST

START_TEST(nor_if_a_descriptor_of_the_kernel_has_its_data)
{
    struct epoll_event event;

    add_other(DATA);
    ck_assert_int_eq(epoll_wait(set.epfd, &event, 1, 0), 1);
    ck_assert_int_eq(epoll_set_without_bell(&set, &event, 1, SINCE), 1);
    ck_assert(!reg[0].disarmed);
}
END_TEST

START_TEST(nor_if_another_stream_that_left_has_them)
{
    member(1, EPOLLIN, DATA);
    ck_assert_int_eq(told(DATA), 1);
    ck_assert(!reg[0].disarmed);
}
END_TEST

START_TEST(one_that_had_left_before_was_not_told_of)
{
    member(1, EPOLLIN | EPOLLONESHOT, DATA);
    reg[1].taken_at = SINCE;
    ck_assert_int_eq(told(DATA), 1);
    ck_assert(reg[0].disarmed);
    ck_assert(!reg[1].disarmed);
}
END_TEST

START_TEST(what_is_parked_is_not_told)
{
    struct epoll_event event = {.events = EPOLLHUP,
                                .data.ptr = (void *)&epoll_parked_cookie};

    ck_assert_int_eq(epoll_set_without_bell(&set, &event, 1, SINCE), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoll spent");
    TCase *tc = tcase_create("spent");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, what_the_kernel_told_of_is_spent);
    tcase_add_test(tc, what_it_did_not_tell_of_is_not);
    tcase_add_test(tc, nor_if_a_descriptor_of_the_kernel_has_its_data);
    tcase_add_test(tc, nor_if_another_stream_that_left_has_them);
    tcase_add_test(tc, one_that_had_left_before_was_not_told_of);
    tcase_add_test(tc, what_is_parked_is_not_told);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
