/*
 * Streams of which one end, or both, may have to return at any moment, since
 * its process forks: they leave TCP only when all has been read, so that
 * whoever wants to return need not wait for an application that reads.
 *
 * Scenario 27 of docs/handover.md, section 13.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>

#include "tests/support/run_suite.h"

enum { TOTAL = 60, MOMENTS = 24, BOTH = 3 };

static struct two_ends pair;

/* Some bytes are under way, both ways, and nobody has read any. */
static void begin(unsigned careful)
{
    struct two_ends_settings s = {.tcp = {.buffer = 4096, .by_hand = true},
                                  .ring = 64,
                                  .seed = 5,
                                  .careful = careful};

    two_ends_start(&pair, &s);
    pair.end[0].no_up = true;
    end_write(&pair.end[0], 5);
    end_write(&pair.end[1], 6);
    ck_assert_int_eq(stream_try_up(&pair.end[0].stream), 0);
}

/* One small thing happens; the order is another for each `order`. */
static void step(int order, int n)
{
    int side = (n + order) & 1;

    switch ((n * 7 + order * 3) % 5) {
    case 0:
        fake_deliver(&pair.wire, side);
        break;
    case 1:
        fake_tcp_deliver(pair.end[side].fd, 4);
        break;
    case 2:
        end_help(&pair.end[side]);
        break;
    case 3:
        end_read(&pair.end[side], 3);
        break;
    default:
        fake_deliver(&pair.wire, !side);
        end_help(&pair.end[side]);
    }
}

static void at(unsigned careful, int order, int moment)
{
    begin(careful);
    for (int n = 0; n < moment; n++)
        step(order, n);
}

#define EVERY_MOMENT(careful, order, moment)                                   \
    for (unsigned careful = 1; careful <= BOTH; careful++)                     \
        for (int order = 0; order < 10; order++)                               \
            for (int moment = 0; moment < MOMENTS; moment++)

static bool between_paths(int side)
{
    enum handover_stage stage = pair.end[side].stream.h.stage;

    return stage == STAGE_ACCEPTED || stage == STAGE_CANCELLED ||
           stage == STAGE_SWITCHED || stage == STAGE_GAVE_UP;
}

static void nothing_is_lost(void)
{
    bool finished = two_ends_finish(&pair, TOTAL);

    if (pair.wrong != NULL || !finished)
        ck_abort_msg("%s: %s", pair.wrong ? pair.wrong : "stuck",
                     two_ends_where(&pair));
    for (int i = 0; i < 2; i++)
        if (!pair.end[i].eof || pair.end[i].took != TOTAL)
            ck_abort_msg("end %d was told no end: %s", i,
                         two_ends_where(&pair));
}

START_TEST(they_leave_tcp_when_the_last_byte_has_been_read)
{
    for (unsigned careful = 0; careful <= BOTH; careful++) {
        begin(careful);
        two_ends_settle(&pair);
        ck_assert_int_eq(between_paths(1), careful == 0);
        end_read(&pair.end[1], 4);
        two_ends_settle(&pair);
        ck_assert_int_eq(between_paths(1), careful == 0);
        end_read(&pair.end[1], 4);
        two_ends_settle(&pair);
        ck_assert_int_eq(between_paths(0), careful == 0);
        ck_assert(!stream_is_up(&pair.end[0].stream));
        end_read(&pair.end[0], 6);
        two_ends_settle(&pair);
        ck_assert(stream_is_up(&pair.end[0].stream));
        ck_assert(stream_is_up(&pair.end[1].stream));
        nothing_is_lost();
    }
}
END_TEST

START_TEST(nothing_lies_unread_between_the_paths)
{
    EVERY_MOMENT(careful, order, moment)
    {
        at(careful, order, moment);
        for (int i = 0; i < 2; i++)
            if (between_paths(i))
                ck_assert_uint_eq(handover_rx_limit(&pair.end[i].stream.h), 0);
        nothing_is_lost();
    }
}
END_TEST

START_TEST(a_return_at_any_moment_waits_for_no_reader)
{
    for (int who = 1; who <= BOTH; who++)
        EVERY_MOMENT(careful, order, moment)
        {
            at(careful, order, moment);
            for (int i = 0; i < 2; i++)
                if (who >> i & 1)
                    stream_wish(&pair.end[i].stream, WISH_RETURN, REASON_FORK);
            two_ends_settle(&pair);
            for (int i = 0; i < 2; i++)
                if ((who >> i & 1) && !stream_on_tcp(&pair.end[i].stream))
                    ck_abort_msg("not back: %s", two_ends_where(&pair));
            nothing_is_lost();
        }
}
END_TEST

START_TEST(a_hold_that_expires_at_any_moment_loses_nothing)
{
    EVERY_MOMENT(careful, order, moment)
    {
        at(careful, order, moment);
        for (int i = 0; i < 2; i++)
            if (end_write(&pair.end[i], 3) == STREAM_HELD)
                stream_hold_expired(&pair.end[i].stream);
        nothing_is_lost();
    }
}
END_TEST

START_TEST(a_channel_that_dies_at_any_moment_loses_nothing)
{
    for (int how = 0; how < 4; how++)
        EVERY_MOMENT(careful, order, moment)
        {
            at(careful, order, moment);
            fake_channel_end(&pair.wire, how & 1, how & 2);
            for (int i = 0; i < 2; i++)
                end_notice_dead_channel(&pair.end[i]);
            nothing_is_lost();
        }
}
END_TEST

START_TEST(a_link_that_breaks_at_any_moment_loses_nothing)
{
    EVERY_MOMENT(careful, order, moment)
    {
        at(careful, order, moment);
        pair.wire.broken = true;
        nothing_is_lost();
    }
}
END_TEST

START_TEST(a_shutdown_at_any_moment_loses_nothing)
{
    for (int who = 0; who < 2; who++)
        EVERY_MOMENT(careful, order, moment)
        {
            struct end *e;

            at(careful, order, moment);
            e = &pair.end[who];
            end_shutdown(e);
            ck_assert(two_ends_finish(&pair, TOTAL));
            ck_assert_ptr_null(pair.wrong);
            ck_assert(pair.end[!who].eof && e->eof);
            ck_assert_uint_eq(pair.end[!who].took, e->wrote);
        }
}
END_TEST

START_TEST(a_proposal_that_waits_is_answered_when_it_is_not_to_be)
{
    begin(2);
    two_ends_settle(&pair);
    ck_assert_int_eq(pair.end[0].stream.h.stage, STAGE_PROPOSED);
    stream_wish(&pair.end[1].stream, WISH_RETURN, REASON_FORK);
    two_ends_settle(&pair);
    ck_assert(stream_on_tcp(&pair.end[0].stream));
    ck_assert(!atomic_load(&pair.end[1].stream.guard)); /* calls are bare */
    nothing_is_lost();
}
END_TEST

START_TEST(an_owner_that_has_another_mind_by_then_is_asked)
{
    begin(2);
    two_ends_settle(&pair);
    pair.end[1].refuse = REASON_PASSED_ON;
    end_read(&pair.end[1], TOTAL);
    two_ends_settle(&pair);
    ck_assert(stream_on_tcp(&pair.end[0].stream));
    ck_assert_int_eq(pair.end[0].stream.why, REASON_PASSED_ON);
    nothing_is_lost();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream careful");
    TCase *tc = tcase_create("moments");

    tcase_add_test(tc, they_leave_tcp_when_the_last_byte_has_been_read);
    tcase_add_test(tc, nothing_lies_unread_between_the_paths);
    tcase_add_test(tc, a_return_at_any_moment_waits_for_no_reader);
    tcase_add_test(tc, a_hold_that_expires_at_any_moment_loses_nothing);
    tcase_add_test(tc, a_channel_that_dies_at_any_moment_loses_nothing);
    tcase_add_test(tc, a_link_that_breaks_at_any_moment_loses_nothing);
    tcase_add_test(tc, a_shutdown_at_any_moment_loses_nothing);
    tcase_add_test(tc, a_proposal_that_waits_is_answered_when_it_is_not_to_be);
    tcase_add_test(tc, an_owner_that_has_another_mind_by_then_is_asked);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
