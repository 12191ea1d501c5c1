/* What a process that has met us, or pretends to, may say on its channel. */
#include "tests/unit/transport/backend/stranger.h"

#include <errno.h>

#include "tests/support/run_suite.h"

START_TEST(what_is_no_message_closes_the_channel_and_nothing_else)
{
    uint8_t bytes[HELLO_SIZE + 40], sound[HELLO_SIZE];
    static const size_t lengths[] = {1,
                                     MESSAGE_SIZE - 1,
                                     MESSAGE_SIZE,
                                     MESSAGE_SIZE + 1,
                                     HELLO_SIZE - 1,
                                     HELLO_SIZE + 40};
    struct control_message m = {.type = MESSAGE_HELLO, .number = 1};

    hello(sound, m, CONTROL_VERSION);
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, sound, HELLO_SIZE);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        say(bytes, lengths[i], NULL, 0);
        ck_assert_uint_eq(n_channels(&there), 0);
        hang_up();
        call();
    }
    for (size_t at = 0; at < HELLO_SIZE; at += 5) {
        memset(bytes, 0xff, sizeof(bytes));
        memcpy(bytes, sound, at);
        say(bytes, HELLO_SIZE, NULL, 0);
        hang_up();
        call();
    }
    ck_assert_int_eq(right[0].done, 0);
}
END_TEST

START_TEST(a_message_that_may_be_skipped_is_skipped)
{
    say_message(
        (struct control_message){.type = 999, .flags = MESSAGE_MAY_IGNORE});
    ck_assert_uint_eq(n_channels(&there), 1);
    say_message((struct control_message){.type = 999});
    ck_assert_uint_eq(n_channels(&there), 0);
}
END_TEST

START_TEST(a_version_that_we_do_not_speak_is_refused)
{
    uint8_t bytes[HELLO_SIZE];
    struct control_message m = {.type = MESSAGE_HELLO, .number = 12};

    say(bytes, hello(bytes, m, CONTROL_VERSION + 1), NULL, 0);
    hear(&m);
    ck_assert_int_eq(m.type, MESSAGE_REFUSE);
    ck_assert_uint_eq(m.number, 12);
    ck_assert_uint_eq(m.reason, REASON_VERSION);
}
END_TEST

START_TEST(messages_about_links_that_do_not_exist_do_nothing)
{
    static const uint32_t links[] = {0,      1,       511,     512,
                                     0xffff, 0x10000, 0x1ffff, UINT32_MAX};
    static const uint32_t streams[] = {0, 1, 2, UINT32_MAX};
    static const enum message_type types[] = {
        MESSAGE_WILLING, MESSAGE_PROPOSE, MESSAGE_ACCEPT,
        MESSAGE_BUSY,    MESSAGE_CANCEL,  MESSAGE_PING,
        MESSAGE_PONG,    MESSAGE_REFUSE,  MESSAGE_BYE};

    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
        for (size_t i = 0; i < 8 * 4; i++)
            say_message((struct control_message){.type = types[t],
                                                 .epoch = 1,
                                                 .number = i,
                                                 .link = links[i / 4],
                                                 .stream = streams[i % 4]});
    ck_assert_uint_eq(n_channels(&there), 1);
    ck_assert_int_eq(right[0].done, 0);
}
END_TEST

START_TEST(descriptors_that_nobody_asked_for_are_closed)
{
    struct control_message m = {.type = MESSAGE_WILLING};
    uint8_t bytes[MESSAGE_SIZE];
    int before = dup(0), after;
    int fds[5] = {0, 0, 0, 0, 0};

    close(before);
    message_encode(&m, bytes);
    for (int i = 0; i < 20; i++)
        say(bytes, sizeof(bytes), fds, 5);
    after = dup(0);
    ck_assert_int_eq(after, before);
    ck_assert_uint_eq(n_channels(&there), 1);
    close(after);
}
END_TEST

START_TEST(a_welcome_to_memory_never_offered_is_answered_with_bye)
{
    static const uint32_t links[] = {0, 0x10000, 511, 512, UINT32_MAX};
    struct control_message m, w;
    uint8_t bytes[HELLO_SIZE];

    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        accept_left(&m);
        w = (struct control_message){
            .type = MESSAGE_WELCOME, .number = m.number + 1, .link = links[i]};
        say(bytes, hello(bytes, w, CONTROL_VERSION), NULL, 0);
        ck_assert_int_eq(left[1].done, 0); /* not its number */
        hear(&m);
        ck_assert_int_eq(m.type, MESSAGE_BYE);
        w.number--;
        say(bytes, hello(bytes, w, CONTROL_VERSION), NULL, 0);
        ck_assert_int_eq(left[1].done, 1);
        ck_assert_ptr_null(left[1].link);
        hear(&m);
        ck_assert_int_eq(m.type, MESSAGE_BYE);
    }
}
END_TEST

/* What left[1] has asked on `asked` is answered by another one. */
static void answer_in_its_place(int asked, int other, uint64_t number)
{
    struct control_message m, w = {.type = MESSAGE_WELCOME, .number = number};
    int fd = arena_file(shm_arena_size(RING), good);
    uint8_t bytes[HELLO_SIZE];

    raw = other;
    offer(0, &fd, 1);
    close(fd);
    say(bytes, hello_about(1, bytes, w, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(left[1].done, 0);
    hear(&m);
    ck_assert_int_eq(m.type, MESSAGE_BYE);
    say_message((struct control_message){
        .type = MESSAGE_REFUSE, .number = number, .reason = REASON_OTHER});
    ck_assert_int_eq(left[1].done, 0);
    raw = asked;
}

START_TEST(a_meeting_follows_only_who_was_asked)
{
    struct control_message m;
    int asked, other;

    accept_left(&m);
    asked = raw;
    party_start(&right[2], &here, false, 2);
    other = call_at(2);
    answer_in_its_place(asked, other, m.number);
    say_message((struct control_message){
        .type = MESSAGE_REFUSE, .number = m.number, .reason = REASON_LIMIT});
    ck_assert_int_eq(left[1].done, 1);
    ck_assert_uint_eq(left[1].why, REASON_LIMIT);
    close(other);
}
END_TEST

/* It may well lie where the one that was asked lay. */
START_TEST(a_channel_that_is_opened_later_was_not_asked)
{
    struct control_message m;

    accept_left(&m);
    close(raw);
    turn(1);
    ck_assert_uint_eq(n_channels(&here), 0);
    party_start(&right[2], &here, false, 2);
    raw = call_at(2);
    answer_in_its_place(raw, raw, m.number);
}
END_TEST

START_TEST(nobody_can_tell_the_number_of_the_next_meeting)
{
    uint32_t last = 0;
    int next_ones = 0;

    for (unsigned i = 0; i < 20; i++) {
        party_start(&left[i], &here, true, 1);
        ck_assert_uint_ne(left[i].meeting.number, 0);
        next_ones += left[i].meeting.number - last <= SHM_BUCKETS;
        last = left[i].meeting.number;
    }
    ck_assert_int_lt(next_ones, 3);
}
END_TEST

START_TEST(a_refusal_with_a_reason_nobody_knows_is_other)
{
    struct control_message m;

    accept_left(&m);
    say_message((struct control_message){.type = MESSAGE_REFUSE,
                                         .number = m.number,
                                         .reason = REASON_OTHER + 1000});
    ck_assert_int_eq(left[1].done, 1);
    ck_assert_uint_eq(left[1].why, REASON_OTHER);
}
END_TEST

START_TEST(a_peer_that_reads_late_hears_everything_in_order)
{
    enum { LATE = 40000 }; /* as when 10,000 connections end at once */
    struct control_message ping = {.type = MESSAGE_PING}, m;
    uint8_t bytes[HELLO_SIZE];

    m = (struct control_message){.type = MESSAGE_HELLO, .number = 1};
    say(bytes, hello(bytes, m, CONTROL_VERSION), NULL, 0);
    close(hear(&m));
    ck_assert_uint_eq(m.type, MESSAGE_RINGS);
    hear(&m);
    ck_assert_uint_eq(m.type, MESSAGE_WELCOME);
    for (unsigned i = 0; i < LATE; i++) {
        ping.number = i;
        ck_assert_int_eq(right[0].link->ops->send(right[0].link, &ping), 0);
    }
    for (unsigned i = 0; i < LATE; i++) {
        if (i % 50 == 0)
            turn(2);
        ck_assert_int_eq(hear(&m), -1);
        ck_assert_uint_eq(m.type, MESSAGE_PING);
        ck_assert_uint_eq(m.number, i);
    }
    turn(1);
    ck_assert_uint_eq(n_channels(&there), 1);
}
END_TEST

START_TEST(a_peer_that_does_not_read_its_channel_is_given_up)
{
    struct control_message ping = {.type = MESSAGE_PING}, m;
    uint8_t bytes[HELLO_SIZE];
    int rc = 0;

    m = (struct control_message){.type = MESSAGE_HELLO, .number = 1};
    say(bytes, hello(bytes, m, CONTROL_VERSION), NULL, 0);
    ck_assert_int_eq(right[0].done, 1);
    for (int i = 0; i < 100000 && rc == 0; i++)
        rc = right[0].link->ops->send(right[0].link, &ping);
    ck_assert_int_eq(rc, -EPIPE);
    turn(1);
    ck_assert_uint_eq(n_channels(&there), 0);
    ck_assert_int_ge(right[0].deaths, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm_channel");
    TCase *t = tcase_create("shm_channel");

    tcase_add_checked_fixture(t, start_stranger, stop_stranger);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, what_is_no_message_closes_the_channel_and_nothing_else);
    tcase_add_test(t, a_message_that_may_be_skipped_is_skipped);
    tcase_add_test(t, a_version_that_we_do_not_speak_is_refused);
    tcase_add_test(t, messages_about_links_that_do_not_exist_do_nothing);
    tcase_add_test(t, descriptors_that_nobody_asked_for_are_closed);
    tcase_add_test(t, a_welcome_to_memory_never_offered_is_answered_with_bye);
    tcase_add_test(t, a_meeting_follows_only_who_was_asked);
    tcase_add_test(t, a_channel_that_is_opened_later_was_not_asked);
    tcase_add_test(t, nobody_can_tell_the_number_of_the_next_meeting);
    tcase_add_test(t, a_refusal_with_a_reason_nobody_knows_is_other);
    tcase_add_test(t, a_peer_that_reads_late_hears_everything_in_order);
    tcase_add_test(t, a_peer_that_does_not_read_its_channel_is_given_up);
    suite_add_tcase(s, t);
    return run_suite(s);
}
