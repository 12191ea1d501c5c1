/* Links on which nothing moves give their memory back. */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>

#include "tests/support/run_suite.h"

enum { RING = 64, TOTAL = 100 };

static struct two_ends pair;

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

static void come_up(void)
{
    two_ends_start_by_hand(&pair, RING);
    two_ends_go_up(&pair);
}

static void all_arrives(void)
{
    bool finished = two_ends_finish(&pair, TOTAL);

    if (!finished || pair.wrong != NULL)
        ck_abort_msg("%s: %s", finished ? pair.wrong : "stuck",
                     two_ends_where(&pair));
}

START_TEST(a_link_rests_when_nothing_moved_and_the_next_byte_tells)
{
    unsigned kicks;

    come_up();
    two_ends_talk(&pair, 0, 40);
    ck_assert(stream_rest(stream(0))); /* something has moved */
    ck_assert_uint_eq(pair.wire.end[0].rests, 0);
    ck_assert(!stream_rest(stream(0)));
    ck_assert_uint_eq(pair.wire.end[0].rests, 1);
    ck_assert(!stream_rest(stream(0)));
    ck_assert_uint_eq(pair.wire.end[0].rests, 1);
    kicks = pair.end[0].kicks;
    end_write(&pair.end[0], 5);
    ck_assert_uint_eq(pair.end[0].kicks, kicks + 1);
    end_write(&pair.end[0], 5);
    ck_assert_uint_eq(pair.end[0].kicks, kicks + 1);
    all_arrives();
}
END_TEST

START_TEST(the_link_of_a_stream_that_is_back_rests_as_well)
{
    come_up();
    two_ends_talk(&pair, 0, 40);
    stream_wish(stream(0), WISH_RETURN, REASON_WANTED);
    two_ends_settle(&pair);
    ck_assert_int_eq(stream(0)->h.stage, STAGE_RAW);
    ck_assert(!stream_rest(stream(0)));
    ck_assert_uint_eq(pair.wire.end[0].rests, 1);
    stream_wish(stream(0), WISH_NONE, REASON_NONE);
    two_ends_go_up(&pair);
    stream_stir(stream(0));
    two_ends_talk(&pair, 0, 40);
    all_arrives();
}
END_TEST

START_TEST(bytes_that_the_peer_has_not_read_are_not_given_back)
{
    come_up();
    two_ends_talk(&pair, 0, 40);
    end_write(&pair.end[0], 7);
    while (stream_rest(stream(0)))
        ;
    ck_assert_uint_eq(pair.wire.end[0].rests, 0);
    all_arrives();
}
END_TEST

/* A peer of one that closes takes what has landed, and reads it from there. */
START_TEST(nor_are_those_of_one_that_closes)
{
    come_up();
    two_ends_talk(&pair, 0, 40);
    stream(1)->h.leave_room = 4;
    end_write(&pair.end[0], 40);
    stream_wish(stream(0), WISH_CLOSE, REASON_CLOSED);
    two_ends_settle(&pair);
    ck_assert(stream_on_tcp(stream(0)));
    ck_assert_int_eq(handover_rx_mode(&stream(1)->h), RX_LEFTOVER);
    while (stream_rest(stream(0)))
        ;
    ck_assert_uint_eq(pair.wire.end[0].rests, 0);
    ck_assert_int_eq(end_read(&pair.end[1], TOTAL), 40);
    ck_assert_ptr_null(pair.wrong);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream rest");
    TCase *tc = tcase_create("rest");

    tcase_add_test(tc, a_link_rests_when_nothing_moved_and_the_next_byte_tells);
    tcase_add_test(tc, the_link_of_a_stream_that_is_back_rests_as_well);
    tcase_add_test(tc, nor_are_those_of_one_that_closes);
    tcase_add_test(tc, bytes_that_the_peer_has_not_read_are_not_given_back);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
