/*
 * A stream that is up joins a set and leaves it: what the kernel's set has of
 * it then, and who is rung.
 */
#include "preload/epoll_private.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "tests/unit/preload/silent_link.h"
#include "transport/bell.h"
#include "transport/stream/kernel_calls.h"

static struct endpoint e[2];
static struct epoll_set *set;
static int fd[2], epfd;

static struct peer peer = {&silent_ops};
static struct link link_up[2];

/* Two streams that are up, and writable. */
static void start(void)
{
    ck_assert_int_eq(epoll_sets_start(), 0);
    process.settings.poll_kernel_usec = 0;
    process.pid = getpid();
    process.bell_token = (uint64_t)getpid() << 32 | 1;
    process.ringer = bell_ringer_open();
    epfd = epoll_create1(EPOLL_CLOEXEC);
    set = epoll_set_create(epfd);
    for (int i = 0; i < 2; i++) {
        memset(&e[i], 0, sizeof(e[i]));
        link_up[i] = (struct link){.ops = &silent_ops,
                                   .peer = &peer,
                                   .tx = {.size = 4096, .span = 4096},
                                   .rx = {.size = 4096, .span = 4096}};
        fd[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        e[i].stream.fd = fd[i];
        e[i].stream.tcp = &tcp_calls_kernel;
        e[i].stream.link = &link_up[i];
        e[i].stream.managed = true;
        e[i].stream.h.stage = STAGE_UP;
        e[i].stream.h.end = HANDOVER_NONE;
        ck_assert_int_ge(fd[i], 0);
    }
}

static int close_it(void *arg)
{
    return close(*(int *)arg);
}

static void stop(void)
{
    epoll_set_close(set, epfd, close_it, &epfd);
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_null(e[i].regs);
        close(fd[i]);
    }
    close(process.ringer);
}

static int ctl(int op, int i, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_set_ctl(set, op, fd[i], &e[i], &event);
}

/* Does the kernel's set have it? */
static bool kernel_has(int i)
{
    char path[64], line[256];
    bool found = false;
    FILE *info;
    int member;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epfd);
    info = fopen(path, "re");
    ck_assert_ptr_nonnull(info);
    while (fgets(line, sizeof(line), info) != NULL)
        found |= sscanf(line, "tfd: %d", &member) == 1 && member == fd[i];
    fclose(info);
    return found;
}

/* The data of the one that is told of; 0: none is. */
static uint64_t told(void)
{
    struct epoll_event event;
    int n = epoll_set_wait(set, &event, 1, 0, NULL);

    ck_assert_int_ge(n, 0);
    return n == 0 ? 0 : event.data.u64;
}

START_TEST(who_joins_rings_nobody_who_is_awake)
{
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 1, EPOLLOUT, 2), 0);
    ck_assert_int_eq(bell_drain(set->waiter->bell), 0);
}
END_TEST

START_TEST(who_joins_rings_for_who_sleeps)
{
    ck_assert(epoll_set_enter(set));
    epoll_sleeps(set, true);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(bell_drain(set->waiter->bell), 1);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 1, EPOLLOUT, 2), 0);
    ck_assert_int_eq(bell_drain(set->waiter->bell), 1);
    epoll_woke(set);
    epoll_set_leave(set);
}
END_TEST

/* The thread that says where it is at its end says so once. */
static void be_known(void)
{
    ck_assert(epoll_set_enter(set));
    epoll_set_leave(set);
}

START_TEST(who_joins_rings_for_who_sleeps_in_a_plain_set)
{
    be_known();
    ck_assert(epoll_sleeps_plain(set));
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(bell_drain(set->waiter->bell), 1);
    ck_assert(!epoll_woke_plain(set));
    epoll_set_leave(set);
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    ck_assert_uint_eq(atomic_load(&set->inside), 0);
    ck_assert(!epoll_sleeps_plain(set));
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    ck_assert_uint_eq(atomic_load(&set->inside), 0);
}
END_TEST

/* Two sleep, and the bell wakes one: it rings for the other one. */
START_TEST(who_wakes_of_a_plain_set_passes_the_ring_on)
{
    be_known();
    ck_assert(epoll_sleeps_plain(set));
    ck_assert(epoll_sleeps_plain(set));
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(bell_drain(set->waiter->bell), 1);
    ck_assert(!epoll_woke_plain(set));
    ck_assert_int_eq(bell_drain(set->waiter->bell), 1);
    ck_assert_int_eq(atomic_load(&set->sleepers), 1);
    ck_assert(!epoll_woke_plain(set));
    ck_assert_int_eq(bell_drain(set->waiter->bell), 0);
    epoll_set_leave(set);
    epoll_set_leave(set);
    ck_assert_uint_eq(atomic_load(&set->inside), 0);
}
END_TEST

/* One sleeps in a plain set, and another set is put in. */
static struct epoll_set *nest(int *inner_fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct epoll_set *inner;

    *inner_fd = epoll_create1(EPOLL_CLOEXEC);
    inner = epoll_set_create(*inner_fd);
    be_known();
    ck_assert(epoll_sleeps_plain(set));
    ck_assert_int_eq(
        epoll_set_ctl_set(set, EPOLL_CTL_ADD, *inner_fd, inner, &event), 0);
    ck_assert(set->rouses);
    ck_assert_int_eq(set->stale, 1);
    return inner;
}

START_TEST(who_comes_late_takes_no_rouser_from_who_sleeps)
{
    int inner_fd;
    struct epoll_set *inner = nest(&inner_fd);

    ck_assert(!epoll_sleeps_plain(set));
    ck_assert(set->rouses);
    ck_assert_int_eq(set->stale, 1);
    ck_assert(!epoll_woke_plain(set));
    ck_assert(!set->rouses);
    epoll_set_leave(set);
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    epoll_set_close(inner, inner_fd, close_it, &inner_fd);
}
END_TEST

/* It had looked at the set before the other one was put in, and leaves now. */
START_TEST(nobody_is_roused_who_sleeps_no_more)
{
    int inner_fd;
    struct epoll_set *inner = nest(&inner_fd);

    atomic_store(&set->object.plain, true);
    ck_assert(epoll_woke_plain(set));
    atomic_store(&set->object.plain, false);
    lock_enter(&set->lock);
    epoll_roused(set, atomic_load(&set->nestings));
    lock_leave(&set->lock);
    ck_assert(!set->rouses);
    ck_assert_int_eq(set->stale, 0);
    epoll_set_close(inner, inner_fd, close_it, &inner_fd);
}
END_TEST

static void inner_is_removed(struct epoll_set *inner, int inner_fd)
{
    ck_assert_int_eq(
        epoll_set_ctl_set(set, EPOLL_CTL_DEL, inner_fd, inner, NULL), 0);
}

static void inner_is_closed(struct epoll_set *inner, int inner_fd)
{
    epoll_set_close(inner, inner_fd, close_it, &inner_fd);
}

static void outer_is_the_kernels(struct epoll_set *inner, int inner_fd)
{
    (void)inner_fd;
    epoll_set_to_kernel(set);
    ck_assert(atomic_load(&inner->alone));
}

static void (*const calms[])(struct epoll_set *inner, int inner_fd) = {
    inner_is_removed, inner_is_closed, outer_is_the_kernels};

/* The sleeper does not wake here, and need not know of it any more. */
START_TEST(nobody_is_roused_for_what_is_out)
{
    struct epoll_event event;
    int inner_fd;
    struct epoll_set *inner = nest(&inner_fd);

    calms[_i](inner, inner_fd);
    ck_assert(!set->rouses);
    ck_assert_int_eq(epoll_wait(epfd, &event, 1, 0), 0);
    ck_assert(!epoll_woke_plain(set));
    epoll_set_leave(set);
    if (calms[_i] != inner_is_closed)
        inner_is_closed(inner, inner_fd);
}
END_TEST

/* A handler that forks in the midst of this: nobody is counted in the child. */
START_TEST(counts_do_not_go_below_none)
{
    be_known();
    ck_assert(epoll_sleeps_plain(set));
    atomic_store(&set->sleepers, 0);
    ck_assert(epoll_woke_plain(set));
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    ck_assert(epoll_set_enter(set));
    epoll_sleeps(set, false);
    atomic_store(&set->sleepers, 0);
    atomic_store(&set->watchers, 0);
    epoll_woke(set);
    epoll_set_leave(set);
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    ck_assert_int_eq(atomic_load(&set->watchers), 0);
}
END_TEST

START_TEST(a_plain_sleep_leaves_nothing)
{
    be_known();
    ck_assert(epoll_sleeps_plain(set));
    ck_assert(epoll_woke_plain(set));
    ck_assert_int_eq(atomic_load(&set->sleepers), 0);
    ck_assert_uint_eq(atomic_load(&set->inside), 0);
}
END_TEST

START_TEST(a_plain_wait_that_a_stream_ends_tells_of_the_stream)
{
    struct epoll_event event;

    be_known();
    ck_assert_int_eq(epoll_set_wait_plain(set, &event, 1, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    waiter_ring(set->waiter->id);
    ck_assert_int_eq(epoll_set_wait_plain(set, &event, 1, 1000), 1);
    ck_assert_uint_eq(event.data.u64, 1);
    ck_assert_uint_eq(atomic_load(&set->inside), 0);
}
END_TEST

START_TEST(one_that_is_added_again_never_left_the_kernel)
{
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT | EPOLLET, 1), 0);
    ck_assert_uint_eq(told(), 1);
    ck_assert_uint_eq(told(), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    ck_assert(kernel_has(0));
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT | EPOLLET, 2), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 3), -EEXIST);
    ck_assert_uint_eq(told(), 2);
    ck_assert(kernel_has(0));
}
END_TEST

START_TEST(who_waits_ends_it)
{
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    ck_assert_uint_eq(told(), 0);
    ck_assert(!kernel_has(0));
    ck_assert_uint_eq(atomic_load(&set->n_managed), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 2), 0);
    ck_assert_uint_eq(told(), 2);
}
END_TEST

START_TEST(it_is_no_member_meanwhile)
{
    for (int op = 0; op < 2; op++) {
        ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
        ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
        ck_assert_int_eq(ctl(op ? EPOLL_CTL_MOD : EPOLL_CTL_DEL, 0, EPOLLIN, 2),
                         -ENOENT);
        ck_assert(!kernel_has(0));
        ck_assert_uint_eq(told(), 0);
    }
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_MOD, 0, EPOLLEXCLUSIVE, 2), -EINVAL);
    ck_assert(!epoll_sets_have(&e[0], fd[0]));
}
END_TEST

START_TEST(one_of_a_set_at_a_time)
{
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 1, EPOLLOUT, 2), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 1, 0, 0), 0);
    ck_assert(kernel_has(0));
    ck_assert(!kernel_has(1));
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 1, EPOLLOUT, 3), 0);
    ck_assert_uint_eq(told(), 3);
    ck_assert(!kernel_has(0));
}
END_TEST

/* The number of such a one may be another file's soon. */
static void back_on_tcp(void)
{
    epoll_sets_managed(&e[0], false);
}

static void number_goes(void)
{
    epoll_sets_leave_number(&e[0], fd[0]);
}

static void set_is_the_kernels(void)
{
    epoll_set_to_kernel(set);
}

static void file_goes(void)
{
    epoll_sets_forget(&e[0], true);
}

static void (*const ends[])(void) = {back_on_tcp, number_goes,
                                     set_is_the_kernels, file_goes};

START_TEST(it_ends_with)
{
    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    ck_assert(kernel_has(0));
    ends[_i]();
    ck_assert(!kernel_has(0));
    ck_assert_ptr_null(e[0].regs);
    ck_assert_ptr_null(atomic_load(&set->lingering));
}
END_TEST

static _Atomic bool stays;

static void *move_to_and_fro(void *arg)
{
    (void)arg;
    while (!atomic_load(&stays)) {
        epoll_sets_managed(&e[0], true);
        epoll_sets_managed(&e[0], false);
    }
    return NULL;
}

START_TEST(what_is_ready_is_told_while_its_stream_moves)
{
    struct epoll_event event;
    pthread_t mover;

    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    atomic_store(&stays, false);
    ck_assert_int_eq(pthread_create(&mover, NULL, move_to_and_fro, NULL), 0);
    for (int i = 0; i < 20000; i++)
        ck_assert_int_eq(epoll_set_wait(set, &event, 1, 0, NULL), 1);
    atomic_store(&stays, true);
    pthread_join(mover, NULL);
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    epoll_end_lingering(set);
}
END_TEST

static void *settle_soon(void *arg)
{
    (void)arg;
    usleep(5000);
    atomic_store(&e[0].stream.h.stage, STAGE_UP);
    return NULL;
}

/* A write would wait for that, too. */
START_TEST(one_that_is_not_writable_as_it_moves_is_waited_for_a_moment)
{
    struct epoll_event event;
    pthread_t settler;

    ck_assert_int_eq(ctl(EPOLL_CTL_ADD, 0, EPOLLOUT, 1), 0);
    e[0].stream.h.in_record = true;
    e[0].stream.h.stage = STAGE_FROZEN;
    e[0].stream.since_ns = clock_ns();
    process.settings.handover_hold_usec = 10000000;
    ck_assert_int_eq(pthread_create(&settler, NULL, settle_soon, NULL), 0);
    ck_assert_int_eq(epoll_set_wait(set, &event, 1, 0, NULL), 1);
    pthread_join(settler, NULL);
    e[0].stream.h.stage = STAGE_FROZEN; /* and stays there */
    e[0].stream.since_ns = clock_ns();
    process.settings.handover_hold_usec = 1000;
    ck_assert_int_eq(epoll_set_wait(set, &event, 1, 0, NULL), 0);
    ck_assert_int_eq(ctl(EPOLL_CTL_MOD, 0, EPOLLIN, 1), 0);
    process.settings.handover_hold_usec = 10000000;
    ck_assert_int_eq(epoll_set_wait(set, &event, 1, 0, NULL), 0);
    e[0].stream.h.stage = STAGE_UP;
    ck_assert_int_eq(ctl(EPOLL_CTL_DEL, 0, 0, 0), 0);
    epoll_end_lingering(set);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoll ctl");
    TCase *tc = tcase_create("ctl");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, who_joins_rings_nobody_who_is_awake);
    tcase_add_test(tc, who_joins_rings_for_who_sleeps);
    tcase_add_test(tc, who_joins_rings_for_who_sleeps_in_a_plain_set);
    tcase_add_test(tc, who_wakes_of_a_plain_set_passes_the_ring_on);
    tcase_add_test(tc, who_comes_late_takes_no_rouser_from_who_sleeps);
    tcase_add_test(tc, nobody_is_roused_who_sleeps_no_more);
    tcase_add_loop_test(tc, nobody_is_roused_for_what_is_out, 0,
                        (int)(sizeof(calms) / sizeof(calms[0])));
    tcase_add_test(tc, counts_do_not_go_below_none);
    tcase_add_test(tc, a_plain_sleep_leaves_nothing);
    tcase_add_test(tc, a_plain_wait_that_a_stream_ends_tells_of_the_stream);
    tcase_add_test(tc, one_that_is_added_again_never_left_the_kernel);
    tcase_add_test(tc, who_waits_ends_it);
    tcase_add_test(tc, it_is_no_member_meanwhile);
    tcase_add_test(tc, one_of_a_set_at_a_time);
    tcase_add_test(tc, what_is_ready_is_told_while_its_stream_moves);
    tcase_add_test(tc,
                   one_that_is_not_writable_as_it_moves_is_waited_for_a_moment);
    tcase_add_loop_test(tc, it_ends_with, 0,
                        (int)(sizeof(ends) / sizeof(ends[0])));
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
