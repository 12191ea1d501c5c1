/*
 * Control records on TCP, cut and mixed in every way: between two streams
 * over a fake kernel that gives what the test lets through.
 *
 * Scenarios of docs/handover.md, section 13: 2, 3, 19, 21.
 */
#include "tests/unit/transport/stream/overlay_pair.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/support/run_suite.h"
#include "transport/stream/overlay.h"

START_TEST(switch_cut_anywhere_is_one_switch)
{
    for (size_t cut = 1; cut < RECORD_SIZE; cut++) {
        prepare_switch();
        fake_tcp_deliver(pair.end[0].fd, cut);
        end_help(&pair.end[1]);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_ACCEPTED);
        ck_assert_int_eq(unread_by_kernel(), 0); /* or no room for the rest */
        fake_tcp_deliver(pair.end[0].fd, RECORD_SIZE - cut);
        end_help(&pair.end[1]);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_UP);
        two_ends_settle(&pair);
        two_ends_talk(&pair, 0, 100);
        two_ends_talk(&pair, 1, 100);
    }
}
END_TEST

/* HAVE, HAVE and RAW, RAW, and raw bytes behind it, in two pieces. */
START_TEST(a_return_cut_anywhere_is_one_return)
{
    for (int from = 0; from < 2; from++)
        for (size_t cut = 1; cut < 3 * RECORD_SIZE; cut++) {
            prepare();
            two_ends_go_up(&pair);
            end_write(&pair.end[0], 50);
            end_write(&pair.end[1], 50);
            stream_wish(&pair.end[from].stream, WISH_RETURN, REASON_WANTED);
            for (int i = 0; i < 4; i++) {
                fake_tcp_deliver(pair.end[i & 1].fd, cut);
                end_help(&pair.end[!(i & 1)]);
            }
            two_ends_settle(&pair);
            for (int k = 0; k < 2; k++) {
                end_read(&pair.end[k], 100);
                ck_assert_uint_eq(pair.end[k].took, 50);
                ck_assert(stream_on_tcp(&pair.end[k].stream));
            }
            ck_assert_ptr_null(pair.wrong);
        }
}
END_TEST

START_TEST(one_byte_at_a_time_everything_works)
{
    prepare();
    fake_tcp_settings()->buffer = RECORD_SIZE;
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
    for (int i = 0; i < 3000; i++) {
        int k = i & 1;

        fake_tcp_deliver(pair.end[k].fd, 1);
        fake_deliver(&pair.wire, k);
        end_write(&pair.end[k], 1);
        end_help(&pair.end[k]);
        if (i % 3 == 0)
            end_read(&pair.end[k], 8);
        if (i == 1000 || i == 2000)
            stream_wish(&pair.end[i == 1000].stream, WISH_RETURN,
                        REASON_WANTED);
        if (i == 1500)
            stream_wish(&pair.end[1].stream, WISH_NONE, REASON_NONE);
        if (i > 1500 && i < 1900)
            stream_try_up(&pair.end[0].stream);
    }
    ck_assert_uint_eq(pair.end[0].stream.returns, 2);
    ck_assert(two_ends_finish(&pair, 2000));
    ck_assert(pair.end[0].eof && pair.end[1].eof);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

START_TEST(a_switch_cut_by_a_reset_is_a_reset)
{
    uint8_t got[RECORD_SIZE];

    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare_switch();
        fake_tcp_deliver(pair.end[0].fd, n);
        end_help(&pair.end[1]);
        end_kill(&pair.end[0]); /* and the bytes under way may be lost */
        end_notice_dead_channel(&pair.end[1]);
        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
        while (end_help(&pair.end[1]))
            ;
        fake_clock_advance(2000000000);
        while (end_help(&pair.end[1]))
            ;
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
    }
}
END_TEST

/* poll shows all of a reset at end 1, or nothing of it; once helped, all. */
static void expect_whole_reset(void)
{
    const short reset = POLLIN | POLLRDNORM | POLLRDHUP | POLLERR | POLLHUP;
    short ready;

    overlay_reset(&pair.end[0].stream);
    fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
    ready = stream_ready(&pair.end[1].stream);
    if (ready & (POLLRDHUP | POLLERR | POLLHUP))
        ck_assert_int_eq(ready & reset, reset);
    while (end_help(&pair.end[1]))
        ;
    ready = stream_ready(&pair.end[1].stream);
    ck_assert_int_eq(ready & reset, reset);
}

START_TEST(a_reset_before_arrive_is_seen_whole)
{
    uint8_t got[RECORD_SIZE];

    for (size_t unread = 0; unread < 2; unread++) {
        prepare();
        if (unread)
            ck_assert_int_eq(end_write(&pair.end[0], 1), 1);
        ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
        fake_tcp_deliver(pair.end[0].fd, unread);
        ck_assert(fake_deliver(&pair.wire, 0));
        stream_hold_expired(&pair.end[1].stream);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_CANCELLED);
        if (unread) {
            overlay_reset(&pair.end[0].stream);
            fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
            /* Whoever waits for no bytes is not told by reading them. */
            ck_assert(stream_ready(&pair.end[1].stream) & POLLHUP);
            ck_assert(stream_ready(&pair.end[1].stream) & POLLRDHUP);
            ck_assert_int_eq(read_at_1(got, sizeof(got)), 1);
        }
        expect_whole_reset();
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
    }
}
END_TEST

/* It has all of ours and is back; its RAW is unread, and a reset behind it. */
START_TEST(a_reset_behind_a_record_is_seen_whole)
{
    uint8_t got[1];

    for (int unread = 0; unread < 2; unread++) {
        prepare();
        two_ends_go_up(&pair);
        if (unread)
            ck_assert_int_eq(end_write(&pair.end[0], 1), 1);
        stream_wish(&pair.end[0].stream, WISH_RETURN, REASON_WANTED);
        for (int i = 0; i < 100; i++) {
            end_help(&pair.end[0]);
            fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
            if (stream_on_tcp(&pair.end[0].stream))
                break;
            end_help(&pair.end[1]);
            fake_tcp_deliver(pair.end[1].fd, SIZE_MAX);
        }
        ck_assert(stream_on_tcp(&pair.end[0].stream));
        ck_assert(!stream_on_tcp(&pair.end[1].stream));
        expect_whole_reset();
        if (unread)
            ck_assert_int_eq(read_at_1(got, 1), 1);
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
    }
}
END_TEST

START_TEST(foreign_bytes_at_arrive_are_not_taken_for_data)
{
    uint8_t bytes[200], got[1];

    memset(bytes, 0x5a, sizeof(bytes));
    for (size_t n = 1; n <= sizeof(bytes); n += 13) {
        prepare_raw_at_arrive(false);
        raw(bytes, n);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(pair.end[1].stream.why, REASON_FOREIGN_BYTES);
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
    }
}
END_TEST

START_TEST(foreign_bytes_between_records_abort)
{
    uint8_t bytes[200], got[1];

    memset(bytes, 0x5a, sizeof(bytes));
    for (size_t n = RECORD_SIZE; n <= sizeof(bytes); n += 19) {
        prepare();
        two_ends_go_up(&pair);
        raw(bytes, n);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(pair.end[1].stream.why, REASON_FOREIGN_BYTES);
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
        two_ends_settle(&pair);
        ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_DEAD);
    }
}
END_TEST

START_TEST(foreign_bytes_shorter_than_a_record_abort_at_once)
{
    uint8_t bytes[RECORD_SIZE] = {0}, got[1];

    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare();
        two_ends_go_up(&pair);
        /* The lowest byte of the tag comes first. */
        bytes[0] = (uint8_t)~pair.end[1].stream.h.tag_in;
        raw(bytes, n);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(pair.end[1].stream.why, REASON_FOREIGN_BYTES);
        ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
    }
}
END_TEST

/* Bytes that could be a record are waited for, and judged by the next one. */
START_TEST(foreign_bytes_that_begin_as_a_record_abort_with_the_next)
{
    uint8_t bytes[RECORD_SIZE];

    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare();
        two_ends_go_up(&pair);
        record_encode(
            &(struct control_record){.tag = pair.end[1].stream.h.tag_in},
            bytes);
        raw(bytes, n);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_UP);
        stream_wish(&pair.end[0].stream, WISH_RETURN, REASON_WANTED);
        two_ends_settle(&pair);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(pair.end[1].stream.why, REASON_FOREIGN_BYTES);
    }
}
END_TEST

START_TEST(a_record_that_comes_byte_by_byte_is_read)
{
    prepare();
    two_ends_go_up(&pair);
    stream_wish(&pair.end[0].stream, WISH_RETURN, REASON_WANTED);
    while (end_help(&pair.end[0]))
        ;
    while (fake_tcp_deliver(pair.end[0].fd, 1))
        while (end_help(&pair.end[1]))
            ;
    two_ends_settle(&pair);
    ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_RAW);
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
}
END_TEST

START_TEST(a_foreign_reader_is_noticed)
{
    uint8_t eaten[RECORD_SIZE];

    for (size_t n = 1; n <= RECORD_SIZE; n += 47) {
        prepare();
        two_ends_go_up(&pair);
        end_shutdown(&pair.end[0]); /* the record END */
        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
        ck_assert_uint_eq(fake_tcp_foreign_read(pair.end[1].fd, eaten, n), n);
        stream_wish(&pair.end[0].stream, WISH_RETURN, REASON_WANTED);
        two_ends_settle(&pair);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
        ck_assert_int_eq(pair.end[1].stream.why, n == RECORD_SIZE
                                                     ? REASON_FOREIGN_READER
                                                     : REASON_FOREIGN_BYTES);
    }
}
END_TEST

START_TEST(a_shutdown_past_us_is_no_end_of_file)
{
    uint8_t got[1];

    prepare();
    two_ends_go_up(&pair);
    fake_tcp_calls.shutdown(pair.end[0].fd, SHUT_WR);
    two_ends_settle(&pair);
    ck_assert_int_eq(pair.end[1].stream.why, REASON_FIN_WITHOUT_END);
    ck_assert_int_eq(read_at_1(got, 1), -ECONNRESET);
}
END_TEST

START_TEST(foreign_bytes_before_an_attempt_keep_the_stream_on_tcp)
{
    prepare();
    fake_tcp_foreign_write(pair.end[0].fd, "x", 1);
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), -EBUSY);
    ck_assert_int_eq(pair.end[0].stream.why, REASON_FOREIGN_BYTES);
    ck_assert_uint_eq(atomic_load(&pair.end[0].stream.guard), 0);
}
END_TEST

/* Both kernels are full, both ends want to speak: nobody waits for room. */
START_TEST(records_pass_when_tcp_is_full_both_ways)
{
    prepare();
    fake_tcp_settings()->buffer = 100;
    for (int k = 0; k < 2; k++)
        ck_assert_int_eq(end_write(&pair.end[k], 200), 100);
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
    while (fake_deliver(&pair.wire, 0) || fake_deliver(&pair.wire, 1))
        ;
    for (int i = 0; i < 20; i++)
        for (int k = 0; k < 2; k++) {
            fake_tcp_deliver(pair.end[k].fd, SIZE_MAX);
            end_read(&pair.end[!k], 10);
            end_help(&pair.end[!k]);
        }
    ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_UP);
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_UP);
}
END_TEST

/* A writer that must not wait is told so, and goes on when it may. */
START_TEST(a_record_that_tcp_has_not_taken_goes_first)
{
    prepare();
    fake_tcp_settings()->buffer = 60;
    end_write(&pair.end[0], 60);
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
    fake_deliver(&pair.wire, 0);
    fake_deliver(&pair.wire, 1);
    stream_hold_expired(&pair.end[0].stream);
    ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_GAVE_UP);
    ck_assert_int_eq(end_write(&pair.end[0], 10), -EAGAIN);
    two_ends_settle(&pair);
    ck_assert_int_gt(end_read(&pair.end[1], 100), 0);
    ck_assert(two_ends_finish(&pair, 300));
    ck_assert(pair.end[0].eof && pair.end[1].eof);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

START_TEST(the_linger_of_the_application_comes_back)
{
    struct linger mine = {1, 5}, seen;
    socklen_t len = sizeof(seen);
    int fd;

    prepare();
    fd = pair.end[0].fd;
    fake_tcp_calls.setsockopt(fd, SOL_SOCKET, SO_LINGER, &mine, sizeof(mine));
    two_ends_go_up(&pair);
    fake_tcp_calls.getsockopt(fd, SOL_SOCKET, SO_LINGER, &seen, &len);
    ck_assert(seen.l_onoff == 1 && seen.l_linger == 0);
    stream_wish(&pair.end[1].stream, WISH_RETURN, REASON_WANTED);
    two_ends_settle(&pair);
    fake_tcp_calls.getsockopt(fd, SOL_SOCKET, SO_LINGER, &seen, &len);
    ck_assert(seen.l_onoff == 1 && seen.l_linger == 5);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overlay");
    TCase *tc = tcase_create("records on TCP");

    tcase_add_test(tc, switch_cut_anywhere_is_one_switch);
    tcase_add_test(tc, a_return_cut_anywhere_is_one_return);
    tcase_add_test(tc, one_byte_at_a_time_everything_works);
    tcase_add_test(tc, a_switch_cut_by_a_reset_is_a_reset);
    tcase_add_test(tc, a_reset_before_arrive_is_seen_whole);
    tcase_add_test(tc, a_reset_behind_a_record_is_seen_whole);
    tcase_add_test(tc, foreign_bytes_at_arrive_are_not_taken_for_data);
    tcase_add_test(tc, foreign_bytes_between_records_abort);
    tcase_add_test(tc, foreign_bytes_shorter_than_a_record_abort_at_once);
    tcase_add_test(tc,
                   foreign_bytes_that_begin_as_a_record_abort_with_the_next);
    tcase_add_test(tc, a_record_that_comes_byte_by_byte_is_read);
    tcase_add_test(tc, a_foreign_reader_is_noticed);
    tcase_add_test(tc, a_shutdown_past_us_is_no_end_of_file);
    tcase_add_test(tc, foreign_bytes_before_an_attempt_keep_the_stream_on_tcp);
    tcase_add_test(tc, records_pass_when_tcp_is_full_both_ways);
    tcase_add_test(tc, a_record_that_tcp_has_not_taken_goes_first);
    tcase_add_test(tc, the_linger_of_the_application_comes_back);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
