/*
 * Streams, both ends in one process over fakes: everything that can happen,
 * in every stage it can happen in, and the stories that need more than that.
 * Scenarios of docs/handover.md, section 13: 5-10, 12, 13, 15, 16, 20, 24.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "tests/support/run_suite.h"

enum { RING = 64, TOTAL = 90 };

static struct two_ends pair;
static size_t kernel_buffer = 4096;

static void prepare(bool link_by_hand)
{
    struct two_ends_settings s = {
        .tcp = {.buffer = kernel_buffer, .by_hand = true},
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

/*
 * Brings an end into the stage, with nothing delivered since; the end, or -1
 * when this side cannot be there. Some raw bytes are under way.
 */
static int reach(enum handover_stage stage, int side)
{
    bool initiators = stage == STAGE_PROPOSED || stage == STAGE_SWITCHED ||
                      stage == STAGE_GAVE_UP;
    bool others = stage == STAGE_ACCEPTED || stage == STAGE_CANCELLED;

    if ((initiators && side != 0) || (others && side != 1))
        return -1;
    prepare(false);
    if (stage != STAGE_RAW && stage < STAGE_UP) {
        end_write(&pair.end[0], 5);
        end_write(&pair.end[1], 6);
        ck_assert_int_eq(stream_try_up(stream(0)), 0);
    }
    if (stage == STAGE_ACCEPTED || stage == STAGE_CANCELLED ||
        stage == STAGE_SWITCHED || stage == STAGE_GAVE_UP)
        fake_deliver(&pair.wire, 0);
    if (stage == STAGE_SWITCHED || stage == STAGE_GAVE_UP)
        fake_deliver(&pair.wire, 1);
    if (stage == STAGE_CANCELLED || stage == STAGE_GAVE_UP)
        stream_hold_expired(stream(side));
    if (stage >= STAGE_UP)
        come_up();
    if (stage == STAGE_FROZEN)
        stream_wish(stream(side), WISH_RETURN, REASON_WANTED);
    if (stage == STAGE_REPEATING) {
        stream_wish(stream(!side), WISH_RETURN, REASON_WANTED);
        fake_tcp_deliver(pair.end[!side].fd, RECORD_SIZE);
        end_help(&pair.end[side]);
    }
    in_stage(side, stage);
    return side;
}

static void promises_are_kept(const char *what, int place, int side, int more)
{
    const char *wrong = pair.wrong;

    if (!two_ends_finish(&pair, TOTAL))
        wrong = "stuck";
    if (pair.wrong != NULL)
        wrong = pair.wrong;
    if (wrong != NULL)
        ck_abort_msg("%s in stage %s at end %d (%d): %s: %s", what,
                     handover_stage_name((enum handover_stage)place), side,
                     more, wrong, two_ends_where(&pair));
}

static void both_are_told_the_end(void)
{
    for (int i = 0; i < 2; i++)
        if (!pair.end[i].eof || pair.end[i].took != pair.end[!i].wrote)
            ck_abort_msg("end %d was told no end: %s", i,
                         two_ends_where(&pair));
}

#define EVERY_PLACE(place, side)                                               \
    for (int place = STAGE_RAW; place <= STAGE_REPEATING; place++)             \
        for (int side = 0; side < 2; side++)                                   \
            if (reach((enum handover_stage)place, side) >= 0)

START_TEST(nothing_at_all_in_every_stage_loses_nothing)
{
    EVERY_PLACE(place, side)
    {
        promises_are_kept("nothing", place, side, 0);
        both_are_told_the_end();
    }
}
END_TEST

START_TEST(shutdown_in_every_stage_ends_after_the_last_byte)
{
    for (int more = 0; more < 2; more++)
        EVERY_PLACE(place, side)
        {
            if (more)
                end_write(&pair.end[side], 11);
            ck_assert_int_eq(end_shutdown(&pair.end[side]), 0);
            ck_assert_int_lt(end_write(&pair.end[side], 1), 0);
            ck_assert_int_eq(pair.end[side].write_error, EPIPE);
            promises_are_kept("shutdown", place, side, more);
            both_are_told_the_end();
        }
}
END_TEST

START_TEST(shutdown_of_reading_in_every_stage_is_end_of_file_here)
{
    EVERY_PLACE(place, side)
    {
        struct iovec iov = {(char[200]){0}, 200};
        ssize_t rc = 1;

        stream_shutdown(stream(side), SHUT_RD);
        if (!(stream_ready(stream(side)) & POLLIN) ||
            !(stream_ready(stream(side)) & POLLRDHUP))
            ck_abort_msg("not ready: %s", two_ends_where(&pair));
        for (int i = 0; i < 20 && rc != 0; i++) {
            two_ends_settle(&pair);
            rc = stream_recv(stream(side), &iov, 1, 0);
        }
        ck_assert_int_eq(rc, 0);
        stream_wish(stream(side), WISH_RETURN, REASON_WANTED);
        two_ends_settle(&pair);
        end_read(&pair.end[!side], TOTAL);
        two_ends_settle(&pair);
        if (!stream_on_tcp(stream(side)))
            ck_abort_msg("not back: %s", two_ends_where(&pair));
        ck_assert_int_eq(end_read(&pair.end[side], 1), 0);
    }
}
END_TEST

START_TEST(a_hold_that_expires_in_every_stage_loses_nothing)
{
    EVERY_PLACE(place, side)
    {
        stream_hold_expired(stream(side));
        ck_assert_int_ne(handover_tx_mode(&stream(side)->h), TX_HELD);
        end_write(&pair.end[side], 11);
        promises_are_kept("hold", place, side, 0);
        both_are_told_the_end();
    }
}
END_TEST

START_TEST(a_return_wanted_in_every_stage_loses_nothing)
{
    for (int who = 1; who < 4; who++)
        EVERY_PLACE(place, side)
        {
            for (int i = 0; i < 2; i++)
                if (who >> i & 1)
                    stream_wish(stream(i), WISH_RETURN, REASON_WANTED);
            for (int i = 0; i < 3; i++) {
                two_ends_settle(&pair);
                end_read(&pair.end[0], TOTAL);
                end_read(&pair.end[1], TOTAL);
            }
            for (int i = 0; i < 2; i++)
                if (who >> i & 1)
                    ck_assert(stream_on_tcp(stream(i)));
            promises_are_kept("return", place, side, who);
            both_are_told_the_end();
        }
}
END_TEST

START_TEST(a_channel_that_dies_in_every_stage_loses_nothing)
{
    for (int how = 0; how < 12; how++)
        EVERY_PLACE(place, side)
        {
            fake_channel_end(&pair.wire, how & 1, how & 2);
            if (how & 4)
                end_notice_dead_channel(&pair.end[0]);
            if (how & 8)
                end_notice_dead_channel(&pair.end[1]);
            for (int i = 0; i < 2; i++) {
                if (end_write(&pair.end[i], 3) == STREAM_HELD)
                    stream_hold_expired(stream(i));
                fake_tcp_deliver(pair.end[i].fd, SIZE_MAX);
                end_help(&pair.end[!i]);
                end_read(&pair.end[!i], 6);
                end_help(&pair.end[!i]);
            }
            promises_are_kept("channel", place, side, how);
            both_are_told_the_end();
        }
}
END_TEST

START_TEST(a_kill_in_every_stage_at_every_byte_is_no_short_end)
{
    for (int who = 0; who < 2; who++)
        for (int n = 0; n < 170; n++)
            EVERY_PLACE(place, side)
            {
                struct end *e = &pair.end[who ? side : !side];

                fake_tcp_deliver(e->fd, (size_t)n % 60);
                end_help(&pair.end[!e->side]);
                fake_tcp_deliver(pair.end[!e->side].fd, (size_t)n % 7 * 48);
                end_help(e);
                fake_tcp_deliver(e->fd, (size_t)n);
                end_kill(e);
                promises_are_kept("kill", place, side, n);
            }
}
END_TEST

START_TEST(an_exit_in_every_stage_is_no_short_end)
{
    for (int who = 0; who < 2; who++)
        for (int more = 0; more < 4; more++)
            EVERY_PLACE(place, side)
            {
                struct end *e = &pair.end[who ? side : !side];

                if (more & 1)
                    end_write(e, 13);
                if (more & 2)
                    end_write(&pair.end[!e->side], 13);
                end_exit(e);
                two_ends_settle(&pair);
                if (!e->gone)
                    end_kill(e); /* its time is up */
                promises_are_kept("exit", place, side, more);
            }
}
END_TEST

START_TEST(a_close_in_every_stage_comes_to_its_end)
{
    for (int who = 1; who < 4; who++)
        for (int more = 0; more < 4; more++)
            EVERY_PLACE(place, side)
            {
                if (more & 1)
                    end_write(&pair.end[side], 13);
                if (more & 2)
                    two_ends_settle(&pair);
                for (int i = 0; i < 2; i++)
                    if (who >> i & 1)
                        end_close(&pair.end[i]);
                promises_are_kept("close", place, side, more);
                two_ends_settle(&pair);
                for (int i = 0; i < 2; i++)
                    if ((who >> i & 1) && !pair.end[i].closed)
                        ck_abort_msg("end %d never closed: %s", i,
                                     two_ends_where(&pair));
            }
}
END_TEST

/*
 * Sixty turns of traffic over a link that breaks; `who` is told of it. From
 * turn `back` on the ends in `wishes` want to return, and the break counts
 * from there.
 */
static void traffic_with_a_break(unsigned n, int who, unsigned back, int wishes)
{
    for (unsigned i = 0; i < 60; i++) {
        int k = i % 2;

        if (i == back) {
            pair.wire.break_at = pair.wire.operations + n;
            for (int side = 0; side < 2; side++)
                if (wishes >> side & 1)
                    stream_wish(stream(side), WISH_RETURN, REASON_WANTED);
        }
        end_write(&pair.end[k], 3);
        fake_land(&pair.wire, k, i % 3);
        fake_tcp_deliver(pair.end[k].fd, i > back ? 20 : SIZE_MAX);
        fake_deliver(&pair.wire, k);
        end_help(&pair.end[!k]);
        end_read(&pair.end[!k], 2);
        if (pair.wire.broken && (who >> k & 1))
            stream_wish(stream(k), WISH_RETURN, REASON_LINK_BROKEN);
    }
}

/* More operations than that traffic has: with the last n nothing breaks. */
enum { OPERATIONS = 120 };

/* way: whose bytes are lost; 0 is both. */
#define EVERY_BREAK(by_hand, n, who, way)                                      \
    for (int by_hand = 0; by_hand < 2; by_hand++)                              \
        for (unsigned n = 1; n <= OPERATIONS; n++)                             \
            for (int who = 1; who < 4; who++)                                  \
                for (unsigned way = 0; way < 3; way++)

START_TEST(a_link_that_breaks_at_any_operation_loses_nothing)
{
    EVERY_BREAK(by_hand, n, who, way)
    {
        prepare(by_hand);
        pair.wire.one_way = way;
        pair.wire.break_at = n;
        ck_assert_int_eq(stream_try_up(stream(0)), 0);
        traffic_with_a_break(n, who, 1000, 0);
        ck_assert(n == 1 ? pair.wire.broken
                         : n < OPERATIONS || !pair.wire.broken);
        promises_are_kept("break", STAGE_UP, who, (int)n);
        both_are_told_the_end();
    }
}
END_TEST

START_TEST(a_link_that_breaks_during_the_return_loses_nothing)
{
    EVERY_BREAK(by_hand, n, who, way)
    for (int wishes = 1; wishes < 4; wishes++) {
        prepare(by_hand);
        pair.wire.one_way = way;
        ck_assert_int_eq(stream_try_up(stream(0)), 0);
        traffic_with_a_break(n, who, 16 + n % 3, wishes);
        promises_are_kept("break", STAGE_FROZEN, who, (int)n);
        both_are_told_the_end();
    }
}
END_TEST

START_TEST(a_bare_read_keeps_the_stream_on_tcp_until_it_returns)
{
    prepare(false);
    end_bare_step(&pair.end[1]);
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    two_ends_settle(&pair);
    in_stage(0, STAGE_RAW); /* BUSY */
    ck_assert_int_eq(stream(0)->why, REASON_BARE_READ);
    end_write(&pair.end[0], 5);
    two_ends_settle(&pair);
    end_bare_step(&pair.end[1]); /* the kernel's read returns */
    two_ends_settle(&pair);
    in_stage(0, STAGE_RAW); /* the bytes are not counted yet */
    pair.end[0].no_up = false;
    end_bare_step(&pair.end[1]);
    ck_assert_uint_gt(pair.end[1].kicks, 0);
    two_ends_settle(&pair); /* WILLING, and PROPOSE again */
    in_stage(0, STAGE_UP);
    two_ends_talk(&pair, 0, 40);
}
END_TEST

START_TEST(a_bare_read_of_its_own_keeps_the_initiator_from_proposing)
{
    prepare(false);
    end_bare_step(&pair.end[0]);
    ck_assert_int_eq(stream_try_up(stream(0)), -EBUSY);
    ck_assert_int_eq(stream(0)->why, REASON_BARE_READ);
    end_write(&pair.end[1], 3);
    two_ends_settle(&pair);
    end_bare_step(&pair.end[0]);
    end_bare_step(&pair.end[0]);
    ck_assert_uint_gt(pair.end[0].kicks, 0);
    two_ends_go_up(&pair);
}
END_TEST

START_TEST(a_refused_proposal_leaves_calls_bare)
{
    prepare(false);
    pair.end[1].refuse = REASON_SHARED_AFTER_FORK;
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    two_ends_settle(&pair);
    ck_assert_int_eq(stream(0)->why, REASON_SHARED_AFTER_FORK);
    for (int i = 0; i < 2; i++) {
        in_stage(i, STAGE_RAW);
        ck_assert_uint_eq(atomic_load(&stream(i)->guard), 0);
        ck_assert(!pair.end[i].told_managed);
    }
    pair.end[1].refuse = REASON_NONE;
    two_ends_go_up(&pair);
    ck_assert_uint_eq(stream(0)->h.epoch, 2);
}
END_TEST

START_TEST(an_attempt_that_took_too_long_says_so)
{
    prepare(true);
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    ck_assert_int_eq(stream(0)->why, REASON_MEETING);
    stream_hold_expired(stream(0));
    ck_assert_int_eq(stream(0)->why, REASON_HOLD_EXPIRED);
    two_ends_settle(&pair);
    ck_assert(stream_on_tcp(stream(1)));
    ck_assert_int_eq(stream(0)->why, REASON_HOLD_EXPIRED);
    two_ends_go_up(&pair);
    ck_assert_int_eq(stream(0)->why, REASON_UP);
}
END_TEST

START_TEST(three_epochs_follow_one_another)
{
    prepare(false);
    for (unsigned epoch = 1; epoch <= 3; epoch++) {
        two_ends_go_up(&pair);
        ck_assert_uint_eq(stream(1)->h.epoch, epoch);
        two_ends_talk(&pair, 0, 200);
        two_ends_talk(&pair, 1, 200);
        stream_wish(stream(epoch & 1), WISH_RETURN, REASON_WANTED);
        two_ends_settle(&pair);
        for (int i = 0; i < 2; i++) {
            ck_assert(stream_on_tcp(stream(i)));
            ck_assert_uint_eq(atomic_load(&stream(i)->guard), 0);
            ck_assert(stream_counts_match(stream(i)));
        }
        stream_wish(stream(epoch & 1), WISH_NONE, REASON_NONE);
        two_ends_talk(&pair, 0, 20);
    }
}
END_TEST

START_TEST(a_new_meeting_after_the_channel_died_goes_up_again)
{
    struct fake_wire fresh;

    prepare(false);
    two_ends_go_up(&pair);
    fake_channel_end(&pair.wire, false, false);
    two_ends_settle(&pair);
    in_stage(0, STAGE_UP); /* the link goes on */
    two_ends_talk(&pair, 0, 30);
    stream_wish(stream(1), WISH_RETURN, REASON_WANTED);
    two_ends_settle(&pair);
    stream_wish(stream(1), WISH_NONE, REASON_NONE);
    ck_assert_ptr_null(stream(0)->link);
    fresh = pair.wire;
    fake_wire_start(&pair.wire, RING, false, false);
    pair.wire.message = fresh.message;
    for (int i = 0; i < 2; i++) {
        pair.knows_dead[i] = false;
        stream_set_link(stream(i), fake_link_take(&pair.wire, i, &pair.end[i]));
    }
    two_ends_go_up(&pair);
    two_ends_talk(&pair, 1, 30);
}
END_TEST

START_TEST(a_return_that_nobody_answers_can_be_aborted)
{
    prepare(false);
    come_up();
    stream_wish(stream(0), WISH_RETURN, REASON_EXEC);
    in_stage(0, STAGE_FROZEN);
    ck_assert_int_eq(end_read(&pair.end[0], 1), -EAGAIN);
    ck_assert_int_eq(end_write(&pair.end[0], 1), -EAGAIN);
    stream_abort(stream(0), REASON_RETURN_TIMEOUT);
    ck_assert(stream_on_tcp(stream(0)));
    ck_assert_int_eq(end_read(&pair.end[0], 1), -ECONNRESET);
    promises_are_kept("abort", STAGE_FROZEN, 0, 0);
}
END_TEST

static bool is_in_bounds(int side, bool commit, uint64_t word)
{
    const struct handover *h = &stream(side)->h;

    return commit ? word >= h->landed && word <= h->took + RING
                  : word >= h->freed && word <= h->wrote;
}

START_TEST(words_that_break_the_rules_break_the_stream)
{
    static const uint64_t lies[] = {0, 1, 8, RING + 100, UINT64_MAX, INT64_MAX};

    for (int side = 0; side < 2; side++)
        for (int commit = 0; commit < 2; commit++)
            for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                struct fake_wire *w = &pair.wire;

                prepare(false);
                come_up();
                two_ends_talk(&pair, 0, 20);
                two_ends_talk(&pair, 1, 20);
                w->lie[side] = true;
                w->lie_commit[side] = w->end[side].visible_commit;
                w->lie_release[side] = w->end[side].visible_release;
                (commit ? w->lie_commit : w->lie_release)[side] = lies[i];
                if (is_in_bounds(!side, commit, lies[i]))
                    continue;
                stream_ready(stream(!side));
                stream_unread(stream(!side));
                stream_unsent(stream(!side));
                for (int k = 0; k < 3; k++) {
                    end_write(&pair.end[!side], RING);
                    end_read(&pair.end[!side], RING);
                }
                in_stage(!side, STAGE_DEAD);
                ck_assert_int_eq(stream(!side)->why, REASON_PEER_RULE);
                ck_assert(stream(!side)->broken);
            }
}
END_TEST

#define ADD(name) tcase_add_test(tc, name)

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *tc = tcase_create("two ends");

    tcase_set_timeout(tc, 20);
    ADD(nothing_at_all_in_every_stage_loses_nothing);
    ADD(shutdown_in_every_stage_ends_after_the_last_byte);
    ADD(shutdown_of_reading_in_every_stage_is_end_of_file_here);
    ADD(a_hold_that_expires_in_every_stage_loses_nothing);
    ADD(a_return_wanted_in_every_stage_loses_nothing);
    ADD(a_channel_that_dies_in_every_stage_loses_nothing);
    ADD(a_kill_in_every_stage_at_every_byte_is_no_short_end);
    ADD(an_exit_in_every_stage_is_no_short_end);
    ADD(a_close_in_every_stage_comes_to_its_end);
    ADD(a_link_that_breaks_at_any_operation_loses_nothing);
    ADD(a_link_that_breaks_during_the_return_loses_nothing);
    ADD(a_bare_read_keeps_the_stream_on_tcp_until_it_returns);
    ADD(a_bare_read_of_its_own_keeps_the_initiator_from_proposing);
    ADD(a_refused_proposal_leaves_calls_bare);
    ADD(an_attempt_that_took_too_long_says_so);
    ADD(three_epochs_follow_one_another);
    ADD(a_new_meeting_after_the_channel_died_goes_up_again);
    ADD(a_return_that_nobody_answers_can_be_aborted);
    ADD(words_that_break_the_rules_break_the_stream);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
