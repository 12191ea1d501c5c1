#include "transport/bell.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static uint64_t token;
static int ringer;

static void start(void)
{
    token = UINT64_C(0xfeed000000000000) ^ (uint64_t)getpid() << 8;
    ringer = bell_ringer_open();
    ck_assert_int_ge(ringer, 0);
}

static void stop(void)
{
    close(ringer);
}

static bool rings(int bell)
{
    struct pollfd p = {.fd = bell, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

START_TEST(a_ring_wakes_its_waiter_and_no_other)
{
    int one = bell_open(token, 1), two = bell_open(token, 0xffff);
    int other = bell_open(token + 1, 1);

    ck_assert_int_ge(one, 0);
    ck_assert_int_ge(two, 0);
    ck_assert_int_ge(other, 0);
    bell_ring(ringer, token, 1);
    ck_assert(rings(one));
    ck_assert(!rings(two));
    ck_assert(!rings(other));
    ck_assert_int_eq(bell_drain(one), 1);
    ck_assert(!rings(one));
    ck_assert_int_eq(bell_drain(one), 0);
    close(one), close(two), close(other);
}
END_TEST

START_TEST(a_bell_that_is_full_rings_and_does_not_block_the_ringer)
{
    int bell = bell_open(token, 2), taken = 0, n;

    ck_assert_int_ge(bell, 0);
    alarm(10);
    for (int i = 0; i < 10000; i++)
        bell_ring(ringer, token, 2);
    ck_assert(rings(bell));
    while ((n = bell_drain(bell)) > 0)
        taken += n;
    ck_assert_int_gt(taken, 0);
    ck_assert(!rings(bell));
    bell_ring(ringer, token, 2);
    ck_assert(rings(bell));
    close(bell);
}
END_TEST

/* A stopped peer, say: its rings count against the ringer. */
START_TEST(bells_that_nobody_drains_do_not_keep_others_from_being_rung)
{
    enum { BELLS = 700 };
    int bell[BELLS];

    for (unsigned i = 0; i < BELLS; i++) {
        bell[i] = bell_open(token, 16 + i);
        ck_assert_int_ge(bell[i], 0);
        bell_ring(ringer, token, 16 + i);
    }
    for (unsigned i = 0; i < BELLS; i++) {
        ck_assert_int_eq(bell_drain(bell[i]), 1);
        close(bell[i]);
    }
}
END_TEST

/* Linux says so from a quarter on. */
static bool is_filled(void)
{
    struct pollfd p = {.fd = ringer, .events = POLLOUT};

    return poll(&p, 1, 0) == 0;
}

/* Or each ring after them would take three calls, and none without room for a
 * descriptor: a hostile peer's bells cost its other peers nothing. */
START_TEST(rings_that_nobody_drains_are_got_rid_of)
{
    enum { BELLS = 700 };
    int bell[BELLS], longest = 0, filled = 0;

    for (unsigned i = 0; i < BELLS; i++) {
        bell[i] = bell_open(token, 16 + i);
        ck_assert_int_ge(bell[i], 0);
        bell_ring(ringer, token, 16 + i);
        filled = is_filled() ? filled + 1 : 0;
        longest = filled > longest ? filled : longest;
    }
    ck_assert_int_lt(longest, BELLS / 2);
    ck_assert_int_ne(fcntl(ringer, F_GETFD) & FD_CLOEXEC, 0);
    ck_assert_int_ne(fcntl(ringer, F_GETFL) & O_NONBLOCK, 0);
    for (unsigned i = 0; i < BELLS; i++) {
        ck_assert_int_eq(bell_drain(bell[i]), 1);
        close(bell[i]);
    }
}
END_TEST

START_TEST(ringing_at_nobody_is_harmless_and_keeps_errno)
{
    errno = 7;
    bell_ring(ringer, token, 3);
    bell_ring(-1, token, 3);
    ck_assert_int_eq(errno, 7);
}
END_TEST

/* Who loses its CPU meanwhile says nothing: a few in a row may. */
static uint32_t rung_until_below(uint32_t ns)
{
    for (int i = 0; i < 100000; i++) {
        uint32_t now = atomic_load(&bell_ring_ns);

        if (now > 0 && now < ns)
            break;
        bell_ring(ringer, token, 1);
    }
    return atomic_load(&bell_ring_ns);
}

START_TEST(a_ring_says_how_long_it_took)
{
    atomic_store(&bell_ring_ns, 0);
    ck_assert_uint_gt(rung_until_below(UINT32_MAX), 0);
    /* An average: what was once so long is soon forgotten. */
    atomic_store(&bell_ring_ns, 4000000000u);
    ck_assert_uint_lt(rung_until_below(50000), 50000);
}
END_TEST

START_TEST(an_id_that_is_taken_is_refused_until_it_is_free)
{
    int first = bell_open(token, 4), low = dup(0), second;

    ck_assert_int_ge(first, 0);
    ck_assert_int_eq(bell_open(token, 4), -EADDRINUSE);
    second = dup(0);
    ck_assert_int_eq(second, low + 1); /* nothing was left behind */
    close(first);
    close(second);
    close(low);
    first = bell_open(token, 4);
    ck_assert_int_ge(first, 0);
    close(first);
}
END_TEST

START_TEST(bells_and_ringers_are_closed_by_exec)
{
    int bell = bell_open(token, 5);

    ck_assert_int_eq(fcntl(bell, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fcntl(ringer, F_GETFD), FD_CLOEXEC);
    close(bell);
}
END_TEST

START_TEST(rings_of_any_length_and_sender_are_drained)
{
    char long_ring[3000] = {0};
    int bell = bell_open(token, 6);
    struct sockaddr_un name;
    socklen_t len = sizeof(name);

    ck_assert_int_ge(bell, 0);
    ck_assert_int_eq(getsockname(bell, (struct sockaddr *)&name, &len), 0);
    bell_ring(ringer, token, 6);
    for (size_t n = 0; n <= sizeof(long_ring); n += 1500)
        ck_assert_int_eq(
            sendto(ringer, long_ring, n, 0, (struct sockaddr *)&name, len),
            (int)n);
    ck_assert_int_eq(bell_drain(bell), 4);
    ck_assert(!rings(bell));
    close(bell);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bell");
    TCase *t = tcase_create("bell");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, a_ring_wakes_its_waiter_and_no_other);
    tcase_add_test(t, a_bell_that_is_full_rings_and_does_not_block_the_ringer);
    tcase_add_test(t,
                   bells_that_nobody_drains_do_not_keep_others_from_being_rung);
    tcase_add_test(t, rings_that_nobody_drains_are_got_rid_of);
    tcase_add_test(t, ringing_at_nobody_is_harmless_and_keeps_errno);
    tcase_add_test(t, a_ring_says_how_long_it_took);
    tcase_add_test(t, an_id_that_is_taken_is_refused_until_it_is_free);
    tcase_add_test(t, bells_and_ringers_are_closed_by_exec);
    tcase_add_test(t, rings_of_any_length_and_sender_are_drained);
    suite_add_tcase(s, t);
    return run_suite(s);
}
