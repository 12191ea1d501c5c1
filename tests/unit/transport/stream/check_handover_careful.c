/*
 * Rows 2b, 4c and their company in docs/handover.md, section 3: an end that
 * may have to return at any moment, or whose peer may, answers when all has
 * been read. Every order of it is check_handover_explorer's.
 */
#include "transport/stream/handover.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

enum { TAG_IN = 71, TAG_OUT = 72 };

#define LEAVE  UINT64_C(10) /* what this end wrote before */
#define ARRIVE UINT64_C(20) /* what it took before */

static struct handover h;
static struct handover_do d;

static void say(enum message_type type, uint64_t off, uint64_t number)
{
    struct control_message m = {.type = type,
                                .epoch = 1,
                                .offset = off,
                                .tag = TAG_OUT,
                                .number = number};

    memset(&d, 0, sizeof(d));
    ck_assert_int_eq(handover_message(&h, &m, REASON_NONE, TAG_IN, &d), 0);
}

static void begin(bool initiator, bool careful)
{
    handover_init(&h, initiator);
    h.wrote = LEAVE;
    h.took = ARRIVE;
    h.careful = careful;
    memset(&d, 0, sizeof(d));
    if (initiator)
        ck_assert_int_eq(handover_propose(&h, TAG_IN, &d), 0);
}

static void take_offer(void)
{
    memset(&d, 0, sizeof(d));
    handover_take_offer(&h, REASON_NONE, TAG_IN, &d);
}

/* Of this end, or of the other. */
START_TEST(a_careful_proposal_is_answered_when_all_was_read)
{
    begin(false, _i);
    say(MESSAGE_PROPOSE, ARRIVE + 2, _i ? 0 : MESSAGE_CAREFUL);
    ck_assert(!d.send_message && h.stage == STAGE_RAW);
    h.took++;
    take_offer();
    ck_assert(!d.send_message && h.stage == STAGE_RAW);
    h.took++;
    take_offer();
    ck_assert_int_eq(h.stage, STAGE_ACCEPTED);
    ck_assert_int_eq(d.message.type, MESSAGE_ACCEPT);
    ck_assert_uint_eq(d.message.number, _i ? MESSAGE_CAREFUL : 0);
    ck_assert_uint_eq(h.epoch, 1);
    ck_assert_uint_eq(h.arrive, ARRIVE + 2);
    ck_assert_uint_eq(h.tag_out, TAG_OUT);
}
END_TEST

START_TEST(with_all_read_the_answer_does_not_wait)
{
    begin(false, true);
    say(MESSAGE_PROPOSE, ARRIVE, MESSAGE_CAREFUL);
    ck_assert_int_eq(h.stage, STAGE_ACCEPTED);
    begin(true, true);
    ck_assert_uint_eq(d.message.number, MESSAGE_CAREFUL);
    say(MESSAGE_ACCEPT, ARRIVE, MESSAGE_CAREFUL);
    ck_assert_int_eq(h.stage, STAGE_SWITCHED);
}
END_TEST

START_TEST(a_proposal_passed_while_it_waits_is_refused)
{
    begin(false, false);
    say(MESSAGE_PROPOSE, ARRIVE + 2, MESSAGE_CAREFUL);
    h.took += 3;
    take_offer();
    ck_assert_int_eq(h.stage, STAGE_RAW);
    ck_assert_int_eq(d.message.type, MESSAGE_BUSY);
    ck_assert(d.guard_off && !handover_offer_due(&h));
}
END_TEST

START_TEST(a_proposal_that_waits_is_refused_on_demand)
{
    begin(false, false);
    say(MESSAGE_PROPOSE, ARRIVE + 2, MESSAGE_CAREFUL);
    memset(&d, 0, sizeof(d));
    handover_refuse_offer(&h, REASON_FORK, &d);
    ck_assert_int_eq(d.message.type, MESSAGE_BUSY);
    ck_assert_uint_eq(d.message.epoch, 1);
    ck_assert_int_eq(d.message.reason, REASON_FORK);
    ck_assert(d.guard_off);
    memset(&d, 0, sizeof(d));
    handover_refuse_offer(&h, REASON_FORK, &d);
    ck_assert(!d.send_message && !d.guard_off);
}
END_TEST

START_TEST(a_proposal_that_waits_is_forgotten_when_it_is_cancelled)
{
    begin(false, false);
    say(MESSAGE_PROPOSE, ARRIVE + 2, MESSAGE_CAREFUL);
    say(MESSAGE_CANCEL, 0, 0);
    ck_assert(d.guard_off && !d.send_message);
    h.took += 2;
    take_offer();
    ck_assert(!d.send_message && h.stage == STAGE_RAW);
}
END_TEST

START_TEST(a_careful_initiator_switches_when_all_was_read)
{
    begin(true, _i);
    say(MESSAGE_ACCEPT, ARRIVE + 2, _i ? 0 : MESSAGE_CAREFUL);
    ck_assert_int_eq(h.stage, STAGE_PROPOSED);
    ck_assert_int_eq(d.n_records, 0);
    h.took += 2;
    take_offer();
    ck_assert_int_eq(h.stage, STAGE_SWITCHED);
    ck_assert_int_eq(d.records[0].type, RECORD_SWITCH);
    ck_assert_uint_eq(handover_rx_limit(&h), 0);
}
END_TEST

START_TEST(a_careful_initiator_that_waits_answers_cancel)
{
    begin(true, false);
    say(MESSAGE_ACCEPT, ARRIVE + 2, MESSAGE_CAREFUL);
    say(MESSAGE_CANCEL, 0, 0);
    ck_assert_int_eq(h.stage, STAGE_RAW);
    ck_assert_int_eq(d.message.type, MESSAGE_CANCEL);
}
END_TEST

START_TEST(a_dead_channel_takes_what_waits_with_it)
{
    begin(_i, false);
    say(_i ? MESSAGE_ACCEPT : MESSAGE_PROPOSE, ARRIVE + 2, MESSAGE_CAREFUL);
    memset(&d, 0, sizeof(d));
    handover_channel_dead(&h, &d);
    ck_assert_int_eq(h.stage, STAGE_RAW);
    h.took += 2;
    ck_assert(!handover_offer_due(&h));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handover careful");
    TCase *tc = tcase_create("rows");

    tcase_add_loop_test(tc, a_careful_proposal_is_answered_when_all_was_read, 0,
                        2);
    tcase_add_test(tc, with_all_read_the_answer_does_not_wait);
    tcase_add_test(tc, a_proposal_passed_while_it_waits_is_refused);
    tcase_add_test(tc, a_proposal_that_waits_is_refused_on_demand);
    tcase_add_test(tc, a_proposal_that_waits_is_forgotten_when_it_is_cancelled);
    tcase_add_loop_test(tc, a_careful_initiator_switches_when_all_was_read, 0,
                        2);
    tcase_add_test(tc, a_careful_initiator_that_waits_answers_cancel);
    tcase_add_loop_test(tc, a_dead_channel_takes_what_waits_with_it, 0, 2);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
