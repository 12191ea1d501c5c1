/*
 * Streams one end of which goes away: it closes, exits, or is killed.
 *
 * Scenarios of docs/handover.md, section 13: 11, 15, 16, 17.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>
#include <poll.h>

#include "tests/support/run_suite.h"

enum { RING = 64, TOTAL = 90 };

static struct two_ends pair;

static void prepare(bool link_by_hand)
{
    struct two_ends_settings s = {.tcp = {.buffer = 4096, .by_hand = true},
                                  .ring = RING,
                                  .link_by_hand = link_by_hand,
                                  .seed = 11};

    two_ends_start(&pair, &s);
    pair.end[0].no_up = true;
}

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

static void in_stage(int side, enum handover_stage stage)
{
    if (stream(side)->h.stage != stage)
        ck_abort_msg("end %d should be %s: %s", side,
                     handover_stage_name(stage), two_ends_where(&pair));
}

static void come_up(void)
{
    two_ends_go_up(&pair);
    end_write(&pair.end[0], 9);
    end_write(&pair.end[1], 7);
}

static void comes_to_its_end(void)
{
    bool finished = two_ends_finish(&pair, TOTAL);

    if (!finished || pair.wrong != NULL)
        ck_abort_msg("%s: %s", pair.wrong ? pair.wrong : "stuck",
                     two_ends_where(&pair));
}

START_TEST(a_close_after_all_was_read_gives_the_last_byte)
{
    prepare(false);
    come_up();
    two_ends_settle(&pair);
    end_read(&pair.end[0], TOTAL);
    end_close(&pair.end[0]);
    comes_to_its_end();
    ck_assert(pair.end[1].eof);
    ck_assert_uint_eq(pair.end[1].took, 9);
}
END_TEST

START_TEST(a_close_with_unread_bytes_is_a_reset)
{
    prepare(false);
    come_up();
    two_ends_settle(&pair);
    end_close(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert(pair.end[0].closed);
    ck_assert_int_eq(end_read(&pair.end[1], 9), 9); /* these had landed */
    ck_assert_int_eq(end_read(&pair.end[1], 1), -ECONNRESET);
    ck_assert(!stream(0)->broken && !stream(1)->broken); /* nor on TCP */
}
END_TEST

START_TEST(a_killed_peer_that_had_bytes_to_read_is_a_break)
{
    prepare(false);
    come_up();
    two_ends_settle(&pair);
    end_kill(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_read(&pair.end[1], 9), 9);
    ck_assert_int_eq(end_read(&pair.end[1], 1), -ECONNRESET);
    ck_assert(stream(1)->broken);
}
END_TEST

/* TCP is gone, its process is not yet, and then its words are wrong as well. */
START_TEST(what_is_broken_is_not_broken_again)
{
    prepare(false);
    come_up();
    two_ends_settle(&pair);
    pair.end[0].gone = true;
    fake_tcp_close(pair.end[0].fd);
    two_ends_settle(&pair);
    in_stage(1, STAGE_UP);
    ck_assert(stream(1)->reset_seen);
    stream_abort(stream(1), REASON_PEER_RULE);
    ck_assert(stream(1)->broken);
    stream(1)->broken = false; /* it is counted */
    fake_clock_advance(2000000000);
    stream_progress(stream(1));
    ck_assert(!stream(1)->broken);
    ck_assert_int_eq(stream(1)->why, REASON_PEER_RULE);
}
END_TEST

/* END + LEAVING, then FIN; the peer is in every stage of an epoch. */
START_TEST(what_a_leaving_process_wrote_is_read_to_the_end)
{
    for (int peer = STAGE_UP; peer <= STAGE_FROZEN; peer++)
        for (int side = 0; side < 2; side++) {
            struct end *e;

            prepare(false);
            come_up();
            e = &pair.end[!side];
            end_read(&pair.end[!side], TOTAL);
            if (peer == STAGE_FROZEN)
                stream_wish(stream(side), WISH_RETURN, REASON_WANTED);
            in_stage(side, (enum handover_stage)peer);
            end_exit(e);
            ck_assert(e->gone); /* it waited for nobody */
            ck_assert_int_lt(
                stream_send(&e->stream, &(struct iovec){"x", 1}, 1, 0, 0), 0);
            two_ends_settle(&pair);
            comes_to_its_end();
            if (!pair.end[side].eof || pair.end[side].took != e->wrote)
                ck_abort_msg("no end: %s", two_ends_where(&pair));
        }
}
END_TEST

START_TEST(a_return_after_the_peer_has_left_waits_for_the_last_byte)
{
    prepare(false);
    come_up();
    end_read(&pair.end[0], TOTAL);
    end_exit(&pair.end[0]);
    two_ends_settle(&pair);
    stream_wish(stream(1), WISH_RETURN, REASON_EXEC);
    two_ends_settle(&pair);
    ck_assert(!stream_on_tcp(stream(1))); /* bytes that only we can read */
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 9);
    two_ends_settle(&pair);
    ck_assert(stream_on_tcp(stream(1)));
    ck_assert_int_eq(end_read(&pair.end[1], 1), 0);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

START_TEST(what_tcp_had_no_room_for_is_read_from_memory)
{
    for (int close = 0; close < 2; close++) {
        prepare(false);
        stream(1)->h.leave_room = 4;
        come_up();
        end_read(&pair.end[0], TOTAL);
        end_close(&pair.end[0]);
        two_ends_settle(&pair);
        ck_assert_int_eq(handover_rx_mode(&stream(1)->h), RX_LEFTOVER);
        ck_assert(stream_ready(stream(1)) & POLLIN);
        ck_assert_int_eq(stream_unread(stream(1)), 9);
        if (close) {
            end_close(&pair.end[1]); /* unread bytes: a reset */
            two_ends_settle(&pair);
            ck_assert(pair.end[1].closed);
            ck_assert(fake_tcp_was_reset(pair.end[1].fd));
            continue;
        }
        ck_assert_int_eq(end_read(&pair.end[1], 5), 5);
        comes_to_its_end();
        ck_assert(pair.end[1].eof);
    }
}
END_TEST

START_TEST(the_first_write_after_a_close_succeeds_and_the_second_does_not)
{
    prepare(false);
    come_up();
    end_read(&pair.end[0], TOTAL);
    end_read(&pair.end[1], TOTAL);
    end_close(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_read(&pair.end[1], 1), 0);
    ck_assert_int_eq(end_write(&pair.end[1], 1), 1);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_write(&pair.end[1], 1), -EPIPE);
}
END_TEST

/* Its FIN says so to the peer: no write may come between it and the close. */
START_TEST(an_end_that_shut_down_and_closed_takes_no_bytes_behind_its_fin)
{
    for (int side = 0; side < 2; side++) {
        struct end *e, *peer;

        prepare(false);
        come_up();
        e = &pair.end[side];
        peer = &pair.end[!side];
        end_read(e, TOTAL);
        end_read(peer, TOTAL);
        end_shutdown(e);
        stream_wish(stream(side), WISH_CLOSE, REASON_CLOSED);
        two_ends_settle(&pair); /* the owner does not get to close it */
        in_stage(!side, STAGE_RAW);
        ck_assert(fake_tcp_said_fin(e->fd));
        ck_assert(!e->closed);
        ck_assert_int_eq(end_read(peer, 1), 0);
        ck_assert_int_eq(end_write(peer, 1), 1);
        two_ends_settle(&pair);
        ck_assert_int_eq(end_write(peer, 1), -EPIPE);
    }
}
END_TEST

START_TEST(a_killed_peer_that_had_taken_all_ends_in_order)
{
    prepare(false);
    come_up();
    end_read(&pair.end[0], TOTAL);
    end_kill(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 9);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 0);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

/* The kernel has had its RST already: it came back for our HAVE. */
START_TEST(after_an_exit_the_first_write_succeeds_and_the_second_does_not)
{
    prepare(false);
    come_up();
    end_read(&pair.end[0], TOTAL);
    end_read(&pair.end[1], TOTAL);
    end_exit(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_read(&pair.end[1], 1), 0);
    ck_assert_int_eq(stream_ready(stream(1)) & (POLLHUP | POLLERR), 0);
    ck_assert(stream_ready(stream(1)) & POLLOUT);
    ck_assert_int_eq(end_write(&pair.end[1], 1), 1);
    two_ends_settle(&pair);
    ck_assert(stream_ready(stream(1)) & POLLHUP);
    ck_assert_int_eq(end_write(&pair.end[1], 1), -EPIPE);
    ck_assert_int_eq(end_read(&pair.end[1], 1), 0);
}
END_TEST

/* Its answer to our HAVE could not be finished before it dies. */
START_TEST(a_leaving_process_reads_no_more_records)
{
    for (size_t n = 0; n < 300; n += 7) {
        prepare(false);
        come_up();
        end_read(&pair.end[0], TOTAL);
        stream_wish(stream(0), WISH_LEAVE, REASON_CLOSED);
        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX); /* END */
        end_help(&pair.end[1]);
        in_stage(1, STAGE_FROZEN);
        fake_tcp_deliver(pair.end[1].fd, SIZE_MAX); /* HAVE */
        stream_progress(stream(0));
        in_stage(0, STAGE_UP);
        fake_tcp_deliver(pair.end[0].fd, n);
        end_help(&pair.end[1]);
        pair.end[0].shut = true;
        end_kill(&pair.end[0]);
        comes_to_its_end();
        ck_assert(pair.end[1].eof);
        ck_assert_uint_eq(pair.end[1].took, 9);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream leaving");
    TCase *tc = tcase_create("one end goes");

    tcase_add_test(tc, a_close_after_all_was_read_gives_the_last_byte);
    tcase_add_test(tc, a_close_with_unread_bytes_is_a_reset);
    tcase_add_test(tc, a_killed_peer_that_had_bytes_to_read_is_a_break);
    tcase_add_test(tc, what_is_broken_is_not_broken_again);
    tcase_add_test(tc, what_a_leaving_process_wrote_is_read_to_the_end);
    tcase_add_test(tc,
                   a_return_after_the_peer_has_left_waits_for_the_last_byte);
    tcase_add_test(tc, what_tcp_had_no_room_for_is_read_from_memory);
    tcase_add_test(
        tc, the_first_write_after_a_close_succeeds_and_the_second_does_not);
    tcase_add_test(
        tc, an_end_that_shut_down_and_closed_takes_no_bytes_behind_its_fin);
    tcase_add_test(tc, a_killed_peer_that_had_taken_all_ends_in_order);
    tcase_add_test(
        tc, after_an_exit_the_first_write_succeeds_and_the_second_does_not);
    tcase_add_test(tc, a_leaving_process_reads_no_more_records);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
