/*
 * Streams over a device: what was committed lands later, and never if its
 * writer is killed first.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>

#include "tests/support/run_suite.h"

enum { RING = 64, TOTAL = 90 };

static struct two_ends pair;

static void start(void)
{
    struct two_ends_settings s = {.tcp = {.buffer = 4096, .by_hand = true},
                                  .ring = RING,
                                  .link_by_hand = true,
                                  .device = true,
                                  .seed = 12};

    two_ends_start(&pair, &s);
    pair.end[0].no_up = true;
}

static void prepare(void)
{
    start();
    two_ends_go_up(&pair);
    two_ends_talk(&pair, 1, 9); /* each knows that the other is up */
    two_ends_talk(&pair, 0, 9);
    two_ends_settle(&pair);
}

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

/* All but the bytes of the link arrives and is worked on. */
static void only_tcp_arrives(void)
{
    for (int i = 0; i < 20; i++)
        for (int side = 0; side < 2; side++) {
            fake_tcp_deliver(pair.end[side].fd, SIZE_MAX);
            end_help(&pair.end[side]);
        }
}

START_TEST(a_killed_writer_whose_bytes_never_landed_is_a_reset)
{
    prepare();
    ck_assert_int_eq(end_write(&pair.end[0], 20), 20);
    fake_land(&pair.wire, 0, 5);
    end_kill(&pair.end[0]);
    only_tcp_arrives();
    fake_clock_advance(2000000000);
    only_tcp_arrives();
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 5);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), -ECONNRESET);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

START_TEST(a_killed_peer_that_had_taken_all_is_a_reset_as_well)
{
    prepare();
    end_kill(&pair.end[0]);
    only_tcp_arrives();
    fake_clock_advance(2000000000);
    only_tcp_arrives();
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), -ECONNRESET);
}
END_TEST

START_TEST(a_process_leaves_when_its_last_byte_is_delivered)
{
    prepare();
    ck_assert_int_eq(end_write(&pair.end[0], 20), 20);
    end_exit(&pair.end[0]);
    only_tcp_arrives();
    ck_assert(!pair.end[0].gone);
    fake_land(&pair.wire, 0, 19);
    only_tcp_arrives();
    ck_assert(!pair.end[0].gone);
    fake_land(&pair.wire, 0, 1);
    only_tcp_arrives();
    ck_assert(pair.end[0].gone);
    ck_assert(two_ends_finish(&pair, TOTAL));
    ck_assert_ptr_null(pair.wrong);
    ck_assert(pair.end[1].eof);
}
END_TEST

/* The device has acknowledged; the receiver looks a moment too early. */
START_TEST(a_fin_waits_for_bytes_that_are_still_landing)
{
    uint64_t landed;

    prepare();
    ck_assert_int_eq(end_write(&pair.end[0], 20), 20);
    fake_land(&pair.wire, 0, 20);
    landed = pair.wire.end[0].visible_commit;
    end_exit(&pair.end[0]);
    for (int i = 0; i < 4; i++)
        end_help(&pair.end[0]);
    ck_assert(pair.end[0].gone);
    pair.wire.end[0].visible_commit = landed - 20;
    pair.wire.gone[0] = false; /* not before all has been looked at */
    only_tcp_arrives();
    ck_assert(stream(1)->reset_seen);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), -EAGAIN);
    pair.wire.end[0].visible_commit = landed;
    only_tcp_arrives();
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 20);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 0);
}
END_TEST

/* Both want to leave, and the link cannot say that anything was delivered. */
START_TEST(processes_that_leave_over_a_broken_link_repeat_on_tcp)
{
    prepare();
    ck_assert_int_eq(end_write(&pair.end[0], 20), 20);
    ck_assert_int_eq(end_write(&pair.end[1], 30), 30);
    pair.wire.broken = true;
    end_exit(&pair.end[0]);
    two_ends_settle(&pair);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 20);
    ck_assert(pair.end[0].gone);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

START_TEST(a_broken_link_is_never_gone_up_with_again)
{
    prepare();
    pair.wire.broken = true;
    two_ends_settle(&pair);
    stream_wish(stream(0), WISH_NONE, REASON_NONE);
    stream_wish(stream(1), WISH_NONE, REASON_NONE);
    ck_assert(stream_on_tcp(stream(0)) && stream_on_tcp(stream(1)));
    ck_assert_int_lt(stream_try_up(stream(0)), 0);
    two_ends_talk(&pair, 0, 40);
    ck_assert(stream_on_tcp(stream(0)));
}
END_TEST

/* Proposes, thinks better of it and writes n raw bytes at once. */
static void propose_cancel_and_write(size_t n)
{
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    stream_hold_expired(stream(0));
    ck_assert_int_eq(end_write(&pair.end[0], n), n);
    fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
}

/* CANCEL is still on its way in either epoch; PONG comes before the second. */
START_TEST(an_answer_to_a_question_of_an_earlier_epoch_proves_nothing)
{
    for (int seen_before = 0; seen_before < 2; seen_before++) {
        start();
        propose_cancel_and_write(5);
        fake_deliver(&pair.wire, 0);
        end_help(&pair.end[1]);
        ck_assert_int_eq(stream(1)->h.stage, STAGE_ACCEPTED);
        ck_assert_int_eq(stream_try_up(stream(0)), 0);
        while (fake_deliver(&pair.wire, 1)) /* ACCEPT, PING */
            ;
        stream_hold_expired(stream(0));
        ck_assert_int_eq(end_write(&pair.end[0], 6), 6);
        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
        fake_deliver(&pair.wire, 0); /* CANCEL */
        fake_deliver(&pair.wire, 0); /* PROPOSE */
        ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 5);
        if (seen_before)
            end_help(&pair.end[1]);
        ck_assert_int_eq(fake_messages(&pair.wire, 0), 2);
        fake_deliver(&pair.wire, 0); /* PONG */
        ck_assert_int_eq(stream(1)->h.stage, STAGE_ACCEPTED);
        two_ends_settle(&pair);
        ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 6);
        ck_assert_ptr_null(pair.wrong);
        two_ends_go_up(&pair);
    }
}
END_TEST

/* What a thread saw in one epoch, and the helper looks into in the next. */
START_TEST(of_bytes_seen_in_an_earlier_epoch_nobody_is_asked)
{
    start();
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    fake_deliver(&pair.wire, 0);
    fake_deliver(&pair.wire, 1);
    ck_assert_int_eq(stream(0)->h.stage, STAGE_SWITCHED);
    stream_hold_expired(stream(1));
    ck_assert_int_eq(end_write(&pair.end[1], 3), 3);
    fake_tcp_deliver(pair.end[1].fd, SIZE_MAX);
    stream_progress(stream(0));
    fake_deliver(&pair.wire, 1); /* CANCEL */
    ck_assert_int_eq(end_read(&pair.end[0], TOTAL), 3);
    two_ends_settle(&pair);
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    fake_deliver(&pair.wire, 0);
    fake_deliver(&pair.wire, 1);
    ck_assert_int_eq(stream(0)->h.stage, STAGE_SWITCHED);
    ck_assert_int_eq(fake_messages(&pair.wire, 0), 0);
    two_ends_go_up(&pair);
}
END_TEST

START_TEST(foreign_bytes_are_known_when_the_peer_has_answered)
{
    start();
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    fake_deliver(&pair.wire, 0);
    ck_assert_int_eq(fake_tcp_calls.send(pair.end[0].fd, "foreign", 7, 0), 7);
    fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
    for (int i = 0; i < 5; i++)
        end_help(&pair.end[1]);
    ck_assert_int_eq(fake_messages(&pair.wire, 1), 2); /* asked once */
    ck_assert_int_eq(stream(1)->h.stage, STAGE_ACCEPTED);
    two_ends_settle(&pair);
    ck_assert_int_eq(stream(1)->h.stage, STAGE_DEAD);
    ck_assert_int_eq(stream(1)->why, REASON_FOREIGN_BYTES);
}
END_TEST

static struct transport_ops reading;
static int drains, said_inside;

/* Reads at once what the other end says, up to the answer. */
static int drain_and_read(struct link *link)
{
    struct control_message willing = {.type = MESSAGE_WILLING};
    int rc = fake_device_ops.drain(link);

    drains++;
    if (said_inside-- > 0)
        stream(0)->link->ops->send(stream(0)->link, &willing);
    while (fake_deliver(&pair.wire, 1))
        ;
    while (fake_deliver(&pair.wire, 0))
        ;
    return rc;
}

static void read_while_asking(int said)
{
    start();
    reading = fake_device_ops;
    reading.drain = drain_and_read;
    pair.wire.end[1].link.ops = &reading;
    drains = 0;
    said_inside = said;
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    fake_deliver(&pair.wire, 0);
    ck_assert_int_eq(fake_tcp_calls.send(pair.end[0].fd, "foreign", 7, 0), 7);
    fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
    end_help(&pair.end[1]);
}

START_TEST(the_answer_may_come_while_the_question_is_asked)
{
    read_while_asking(0);
    two_ends_settle(&pair);
    ck_assert_int_eq(stream(1)->h.stage, STAGE_DEAD);
    ck_assert_int_eq(stream(1)->why, REASON_FOREIGN_BYTES);
}
END_TEST

/* Else a peer that says much could use up the helper's stack. */
START_TEST(what_is_read_while_the_question_is_asked_asks_nothing)
{
    read_while_asking(20);
    ck_assert_int_eq(drains, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream device");
    TCase *tc = tcase_create("later, or never");

    tcase_add_test(tc, a_killed_writer_whose_bytes_never_landed_is_a_reset);
    tcase_add_test(tc, a_killed_peer_that_had_taken_all_is_a_reset_as_well);
    tcase_add_test(tc, a_process_leaves_when_its_last_byte_is_delivered);
    tcase_add_test(tc, a_fin_waits_for_bytes_that_are_still_landing);
    tcase_add_test(tc, processes_that_leave_over_a_broken_link_repeat_on_tcp);
    tcase_add_test(tc, a_broken_link_is_never_gone_up_with_again);
    tcase_add_test(tc,
                   an_answer_to_a_question_of_an_earlier_epoch_proves_nothing);
    tcase_add_test(tc, of_bytes_seen_in_an_earlier_epoch_nobody_is_asked);
    tcase_add_test(tc, foreign_bytes_are_known_when_the_peer_has_answered);
    tcase_add_test(tc, the_answer_may_come_while_the_question_is_asked);
    tcase_add_test(tc, what_is_read_while_the_question_is_asked_asks_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
