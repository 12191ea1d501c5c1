/*
 * At `arrive`, where SWITCH is due: bytes of the application that look like its
 * beginning, and a beginning of it that stays one.
 *
 * Scenario 3 of docs/handover.md, section 13.
 */
#include "tests/unit/transport/stream/overlay_pair.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/support/run_suite.h"
#include "transport/stream/overlay.h"

START_TEST(raw_bytes_that_begin_like_switch_are_raw_after_cancel)
{
    uint8_t bytes[RECORD_SIZE + 1], got[RECORD_SIZE + 1];

    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare_raw_at_arrive(true);
        expected_switch(bytes);
        bytes[n] ^= 1;
        raw(bytes, n + 1);
        while (fake_deliver(&pair.wire, 0))
            ;
        while (end_help(&pair.end[1]))
            ;
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
        ck_assert_int_eq(read_at_1(got, n + 1), n + 1);
        ck_assert_mem_eq(got, bytes, n + 1);
    }
}
END_TEST

/* They were kept, being the beginning of SWITCH, until CANCEL came. */
START_TEST(raw_bytes_that_were_kept_come_first)
{
    struct stream *s = &pair.end[1].stream;
    uint8_t bytes[RECORD_SIZE + 3], got[RECORD_SIZE + 3];
    struct iovec iov = {got, sizeof(got)};

    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare_raw_at_arrive(true);
        memset(bytes, 'x', sizeof(bytes));
        expected_switch(bytes);
        memset(bytes + n, 'x', 3);
        raw(bytes, n);
        ck_assert_int_eq(unread_by_kernel(), 0);
        ck_assert_int_eq(stream_ready(s) & POLLIN, 0);
        while (fake_deliver(&pair.wire, 0) || end_help(&pair.end[1]))
            ;
        ck_assert_int_eq(s->h.stage, STAGE_RAW);
        memset(s->link->rx.bytes, 0, s->link->rx.span); /* the peer rests */
        ck_assert(!stream_on_tcp(s));
        ck_assert_int_eq(stream_ready(s) & POLLIN, POLLIN);
        ck_assert_int_eq(stream_unread(s), n);
        raw(bytes + n, 3);
        ck_assert_int_eq(stream_unread(s), n + 3);
        ck_assert_int_eq(stream_recv(s, &iov, 1, MSG_PEEK), n + 3);
        ck_assert_mem_eq(got, bytes, n + 3);
        if (n > 1) {
            iov.iov_len = n - 1;
            ck_assert_int_eq(stream_recv(s, &iov, 1, 0), n - 1);
        }
        ck_assert(!stream_on_tcp(s));
        iov = (struct iovec){got + n - 1, 4};
        ck_assert_int_eq(stream_recv(s, &iov, 1, 0), 4);
        iov = (struct iovec){got, sizeof(got)};
        ck_assert_mem_eq(got, bytes, n + 3);
        ck_assert(stream_on_tcp(s));
        ck_assert(stream_counts_match(s));
        ck_assert_int_eq(read_at_1(got, 1), -EAGAIN);
    }
}
END_TEST

static int shutdowns;

static int count_shutdown(int fd, int how)
{
    shutdowns++;
    return fake_tcp_calls.shutdown(fd, how);
}

/* Each of the kernel's tells all who watch the socket, also the helper. */
START_TEST(a_shutdown_before_they_are_read_is_not_repeated)
{
    struct tcp_calls calls = fake_tcp_calls;
    uint8_t bytes[RECORD_SIZE];

    prepare_raw_at_arrive(true);
    calls.shutdown = count_shutdown;
    pair.end[1].stream.tcp = &calls;
    expected_switch(bytes);
    raw(bytes, 1);
    while (fake_deliver(&pair.wire, 0) || end_help(&pair.end[1]))
        ;
    stream_shutdown(&pair.end[1].stream, SHUT_RD);
    for (int i = 0; i < 10; i++)
        stream_progress(&pair.end[1].stream);
    ck_assert_int_le(shutdowns, 1);
    pair.end[1].stream.tcp = &fake_tcp_calls;
}
END_TEST

START_TEST(a_close_over_raw_bytes_that_were_kept_is_a_reset)
{
    uint8_t bytes[RECORD_SIZE];

    prepare_raw_at_arrive(true);
    expected_switch(bytes);
    raw(bytes, 5);
    while (fake_deliver(&pair.wire, 0) || end_help(&pair.end[1]))
        ;
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
    stream_wish(&pair.end[1].stream, WISH_CLOSE, REASON_CLOSED);
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_DEAD);
    ck_assert(stream_on_tcp(&pair.end[1].stream));
}
END_TEST

START_TEST(raw_bytes_that_begin_like_switch_are_raw_when_the_channel_died)
{
    uint8_t bytes[RECORD_SIZE + 1], got[RECORD_SIZE + 1];

    for (size_t n = 0; n < RECORD_SIZE; n++)
        for (int notice_first = 0; notice_first < 2; notice_first++) {
            prepare_raw_at_arrive(true);
            fake_channel_end(&pair.wire, true, true);
            expected_switch(bytes);
            bytes[n] ^= 1;
            if (notice_first)
                end_notice_dead_channel(&pair.end[1]);
            raw(bytes, n + 1);
            end_notice_dead_channel(&pair.end[1]);
            ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
            ck_assert_int_eq(read_at_1(got, n + 1), n + 1);
            ck_assert_mem_eq(got, bytes, n + 1);
        }
}
END_TEST

/* One byte in 256 is how the tag begins, and it may be all that ever comes. */
START_TEST(the_beginning_of_switch_is_raw_when_the_dead_peer_started_nothing)
{
    uint8_t bytes[RECORD_SIZE], got[RECORD_SIZE];

    for (size_t n = 1; n < RECORD_SIZE; n++)
        for (int notice_first = 0; notice_first < 2; notice_first++) {
            prepare_raw_at_arrive(true);
            fake_channel_end(&pair.wire, true, true);
            expected_switch(bytes);
            if (notice_first)
                end_notice_dead_channel(&pair.end[1]);
            raw(bytes, n);
            end_notice_dead_channel(&pair.end[1]);
            ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
            ck_assert_int_eq(read_at_1(got, RECORD_SIZE), n);
            ck_assert_mem_eq(got, bytes, n);
        }
}
END_TEST

START_TEST(the_beginning_of_switch_is_waited_for_when_the_peer_started)
{
    for (size_t n = 1; n < RECORD_SIZE; n++) {
        prepare_switch();
        fake_channel_end(&pair.wire, true, true);
        fake_tcp_deliver(pair.end[0].fd, n);
        end_notice_dead_channel(&pair.end[1]);
        while (end_help(&pair.end[1]))
            ;
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_ACCEPTED);
        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
        end_help(&pair.end[1]);
        ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_UP);
    }
}
END_TEST

/* Both ends having said FIN, poll() says POLLHUP, and yet it is no reset. */
START_TEST(the_beginning_of_switch_and_a_fin_are_raw_bytes)
{
    uint8_t bytes[RECORD_SIZE], got[RECORD_SIZE];
    size_t n = (size_t)_i / 2;

    prepare_raw_over(true, true); /* a device does not tell who has started */
    fake_channel_end(&pair.wire, true, true);
    expected_switch(bytes);
    end_notice_dead_channel(&pair.end[1]);
    raw(bytes, n);
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_ACCEPTED);
    if (_i % 2)
        stream_shutdown(&pair.end[1].stream, SHUT_WR);
    fake_tcp_calls.shutdown(pair.end[0].fd, SHUT_WR);
    fake_tcp_deliver(pair.end[0].fd, 1);
    while (end_help(&pair.end[1]))
        ;
    ck_assert_int_eq(pair.end[1].stream.h.stage, STAGE_RAW);
    ck_assert_int_eq(read_at_1(got, RECORD_SIZE), n);
    ck_assert_mem_eq(got, bytes, n);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("overlay at arrive");
    TCase *tc = tcase_create("arrive");

    tcase_add_test(tc, raw_bytes_that_begin_like_switch_are_raw_after_cancel);
    tcase_add_test(tc, raw_bytes_that_were_kept_come_first);
    tcase_add_test(tc, a_shutdown_before_they_are_read_is_not_repeated);
    tcase_add_test(tc, a_close_over_raw_bytes_that_were_kept_is_a_reset);
    tcase_add_test(
        tc, raw_bytes_that_begin_like_switch_are_raw_when_the_channel_died);
    tcase_add_test(
        tc, the_beginning_of_switch_is_raw_when_the_dead_peer_started_nothing);
    tcase_add_test(tc,
                   the_beginning_of_switch_is_waited_for_when_the_peer_started);
    tcase_add_loop_test(tc, the_beginning_of_switch_and_a_fin_are_raw_bytes, 2,
                        2 * RECORD_SIZE);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
