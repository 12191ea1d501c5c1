/* Who calls at a name: the other end, or anybody. */
#include "tests/unit/transport/backend/stranger.h"

#include <sys/resource.h>

#include "tests/support/run_suite.h"

enum { CALLS = 80 };

static int calls[CALLS];

static void hang_up_all(void)
{
    for (int i = 0; i < CALLS; i++)
        close(calls[i]);
}

/* All at the name of right[n], until the last one is through. */
static void call_often(unsigned n)
{
    struct control_message m = {.type = MESSAGE_HELLO};
    uint8_t bytes[HELLO_SIZE];

    for (int i = 0; i < CALLS; i++) {
        raw = calls[i] = call_at(n);
        if (i % 2 == 0) /* about a connection that nobody knows */
            say(bytes, hello_about(MANY, bytes, m, CONTROL_VERSION), NULL, 0);
    }
}

START_TEST(a_caller_that_says_nothing_is_sent_away_in_time)
{
    uint64_t limit = clock_ns() + 5000000000;

    party_start(&right[0], &there, false, 0);
    there.shm->config.meet_ns = 2000000;
    call();
    while (n_channels(&there) > 0 && clock_ns() < limit)
        turn(1);
    ck_assert_uint_eq(n_channels(&there), 0);
    close(raw);
}
END_TEST

START_TEST(who_was_called_and_says_nothing_is_left_in_time)
{
    struct control_message m;
    uint64_t limit = clock_ns() + 5000000000;

    here.shm->config.meet_ns = 2000000;
    raw = dup(0);
    accept_left(&m);
    while (n_channels(&here) > 0 && clock_ns() < limit)
        turn(1);
    ck_assert_uint_eq(n_channels(&here), 0);
    close(raw);
}
END_TEST

START_TEST(callers_without_a_link_are_few_and_the_last_one_is_heard)
{
    struct control_message m = {.type = MESSAGE_HELLO, .number = 7};
    uint8_t bytes[HELLO_SIZE];

    party_start(&right[0], &there, false, 0);
    call_often(0);
    ck_assert_uint_le(n_channels(&there), 40);
    say(bytes, hello(bytes, m, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(right[0].done, 1);
    ck_assert_ptr_nonnull(right[0].link);
    hang_up_all();
    turn(2);
}
END_TEST

START_TEST(a_process_that_has_had_links_keeps_few_channels_as_well)
{
    struct control_message m = {.type = MESSAGE_HELLO};
    uint8_t bytes[HELLO_SIZE];

    for (unsigned i = 0; i < CALLS; i++) {
        party_start(&right[i], &there, false, i);
        while (there.shm->n_named == 0) /* or the alarm ends it */
            turn(1);
        raw = calls[i] = call_at(i);
        say(bytes, hello_about(i, bytes, m, CONTROL_VERSION), NULL, 0);
        ck_assert_ptr_nonnull(right[i].link);
        drop(&right[i]);
    }
    ck_assert_uint_le(n_channels(&there), 40);
    hang_up_all();
    turn(2);
}
END_TEST

START_TEST(who_has_a_link_is_not_sent_away_for_a_caller)
{
    must_meet(0);
    party_start(&right[1], &there, false, 1);
    while (there.shm->n_named == 0) /* or the alarm ends it */
        turn(1);
    call_often(1);
    ck_assert_int_eq(right[0].deaths, 0);
    ck_assert(right[0].link->ops->peer_alive(right[0].link));
    must_meet(2);
    hang_up_all();
    turn(2);
}
END_TEST

/* A descriptor that can be had for a name, and none for who calls there. */
static void fill_descriptors(int *full, int most, struct rlimit *before)
{
    struct rlimit few;
    int n = 0;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, before), 0);
    few = *before;
    few.rlim_cur = 512;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n < most - 1 && (full[n] = dup(0)) >= 0)
        n++;
    full[n] = -1;
}

static void empty_descriptors(const int *full, const struct rlimit *before)
{
    for (int n = 0; full[n] >= 0; n++)
        close(full[n]);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, before), 0);
}

/* The one who calls would be reported again and again, without a pause. */
START_TEST(a_name_is_left_when_no_descriptor_is_left_for_a_caller)
{
    struct party *p = _i == 0 ? &right[0] : &left[0];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct rlimit before;
    int full[1024], fd, len;

    party_start(p, _i == 0 ? &there : &here, _i == 1, 0);
    ck_assert_int_ge(p->meeting.listener.fd, 0);
    len = meeting_address(&p->meeting.name, _i == 0 ? 'm' : 'w', un.sun_path);
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&un,
                             (socklen_t)(sizeof(un.sun_family) + (size_t)len)),
                     0);
    fill_descriptors(full, 1024, &before);
    turn(1);
    empty_descriptors(full, &before);
    ck_assert_int_eq(p->done, 1);
    ck_assert_uint_eq(p->why, REASON_LIMIT);
    ck_assert_int_lt(p->meeting.listener.fd, 0);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm_names");
    TCase *t = tcase_create("shm_names");

    tcase_add_checked_fixture(t, start, stop);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_caller_that_says_nothing_is_sent_away_in_time);
    tcase_add_test(t, who_was_called_and_says_nothing_is_left_in_time);
    tcase_add_test(t, callers_without_a_link_are_few_and_the_last_one_is_heard);
    tcase_add_test(t, a_process_that_has_had_links_keeps_few_channels_as_well);
    tcase_add_test(t, who_has_a_link_is_not_sent_away_for_a_caller);
    tcase_add_loop_test(
        t, a_name_is_left_when_no_descriptor_is_left_for_a_caller, 0, 2);
    suite_add_tcase(s, t);
    return run_suite(s);
}
