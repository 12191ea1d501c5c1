/*
 * The rows of the table in docs/handover.md, section 3, and what has no row.
 *
 * Scenarios of its section 13: 1, 4, 5, 8, 9, 10, 11, 12, and the offsets
 * beyond 2^32 of 25.
 */
#include "transport/stream/handover.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/support/run_suite.h"

enum { TAG_IN = 71, TAG_OUT = 72 };

#define BASE   (UINT64_C(5) << 32) /* offsets start here */
#define LEAVE  (BASE + 10)         /* what this end wrote before */
#define ARRIVE (BASE + 20)         /* what the peer wrote before */

/* Where a stream can be, as far as the next event may tell. */
enum place {
    IN_RAW,
    IN_PROPOSED,
    IN_ACCEPTED,
    IN_CANCELLED,
    IN_CANCELLED_RECORDS, /* SWITCH was seen after giving up */
    IN_SWITCHED,
    IN_GAVE_UP,
    IN_GAVE_UP_RECORDS,
    IN_UP_INITIATOR,
    IN_UP,
    IN_FROZEN,
    IN_REPEATING,
    IN_DEAD,
    PLACES
};

static struct handover h;
static struct handover_do d;

static enum reason message(enum message_type type, uint32_t epoch, uint64_t off,
                           enum reason refuse)
{
    struct control_message m = {
        .type = type, .epoch = epoch, .offset = off, .tag = TAG_OUT};

    memset(&d, 0, sizeof(d));
    return (enum reason)handover_message(&h, &m, refuse, TAG_IN, &d);
}

static void record_as(enum record_type type, uint64_t off, unsigned flags,
                      uint32_t epoch, uint32_t sequence, uint64_t tag)
{
    struct control_record r = {.tag = tag,
                               .type = type,
                               .offset = off,
                               .flags = (uint16_t)flags,
                               .epoch = epoch,
                               .sequence = sequence};

    memset(&d, 0, sizeof(d));
    handover_record(&h, &r, &d);
}

static void record(enum record_type type, uint64_t off, unsigned flags)
{
    record_as(type, off, flags, h.epoch, h.seq_in, TAG_IN);
}

static void give_up(void)
{
    memset(&d, 0, sizeof(d));
    handover_give_up(&h, &d);
}

static void use_link(void)
{
    h.wrote += 8;
    h.landed += 6;
    h.took += 4;
    h.freed += 3;
}

static void go_to(enum place place)
{
    bool initiator = place == IN_PROPOSED || place == IN_SWITCHED ||
                     place == IN_GAVE_UP || place == IN_GAVE_UP_RECORDS ||
                     place == IN_UP_INITIATOR;

    handover_init(&h, initiator);
    h.wrote = LEAVE;
    h.took = ARRIVE;
    memset(&d, 0, sizeof(d));
    if (place == IN_RAW)
        return;
    if (place == IN_DEAD) {
        handover_abort(&h, REASON_INTERNAL, &d);
        return;
    }
    if (initiator)
        ck_assert_int_eq(handover_propose(&h, TAG_IN, &d), 0);
    else
        message(MESSAGE_PROPOSE, 1, ARRIVE, REASON_NONE);
    if (place == IN_PROPOSED || place == IN_ACCEPTED)
        return;
    if (initiator)
        message(MESSAGE_ACCEPT, 1, ARRIVE, REASON_NONE);
    if (place == IN_SWITCHED)
        return;
    if (place == IN_CANCELLED || place == IN_CANCELLED_RECORDS ||
        place == IN_GAVE_UP || place == IN_GAVE_UP_RECORDS)
        give_up();
    if (place == IN_CANCELLED || place == IN_GAVE_UP)
        return;
    record(RECORD_SWITCH, ARRIVE, 0);
    memset(&d, 0, sizeof(d));
    if (place == IN_FROZEN)
        handover_return(&h, 0, REASON_WANTED, &d);
    else if (place == IN_REPEATING)
        record(RECORD_HAVE, LEAVE, 0);
}

/* R raw, P A C S G U F T(repeating) D; '.' as before. */
static char letter(enum handover_stage stage)
{
    return "RPACSGUFTD"[stage];
}

START_TEST(every_record_in_every_place_has_its_row_or_aborts)
{
    /* SWITCH, HAVE, RAW, END, BELL, BEAT, and one of no known type */
    static const char *const then[PLACES] = {
        [IN_RAW] = "DDDDDDD",
        [IN_PROPOSED] = "DDDDDDD",
        [IN_ACCEPTED] = "UDDDDDD",
        [IN_CANCELLED] = "CDDDDDD",
        [IN_CANCELLED_RECORDS] = "DDRDDDD",
        [IN_SWITCHED] = "UDDDDDD",
        [IN_GAVE_UP] = "GDDDDDD",
        [IN_GAVE_UP_RECORDS] = "DGRGGGD",
        [IN_UP_INITIATOR] = "DTDUUUD",
        [IN_UP] = "DTTUUUD",
        [IN_FROZEN] = "DTTFFFD",
        [IN_REPEATING] = "DDTDTTD",
        [IN_DEAD] = "DDDDDDD",
    };

    for (int place = 0; place < PLACES; place++)
        for (int type = 1; type <= 7; type++) {
            go_to((enum place)place);
            record((enum record_type)type, type == RECORD_HAVE ? LEAVE : ARRIVE,
                   0);
            if (letter(h.stage) != then[place][type - 1])
                ck_abort_msg("place %d, record %d: %s", place, type,
                             handover_stage_name(h.stage));
            ck_assert(d.dead == (h.stage == STAGE_DEAD && place != IN_DEAD));
        }
}
END_TEST

START_TEST(every_message_in_every_place_has_its_row_or_changes_nothing)
{
    /* PROPOSE of the next epoch; ACCEPT, BUSY, CANCEL of this one */
    static const char *const then[PLACES] = {
        [IN_RAW] = "ARRR",
        [IN_PROPOSED] = "PSRP",
        [IN_ACCEPTED] = "AAAR",
        [IN_CANCELLED] = "CCCR",
        [IN_CANCELLED_RECORDS] = "CCCC",
        [IN_SWITCHED] = "SSSR",
        [IN_GAVE_UP] = "GGGR",
        [IN_GAVE_UP_RECORDS] = "GGGG",
        [IN_UP_INITIATOR] = "UUUU",
        [IN_UP] = "UUUU",
        [IN_FROZEN] = "FFFF",
        [IN_REPEATING] = "TTTT",
        [IN_DEAD] = "DDDD",
    };

    for (int place = 0; place < PLACES; place++)
        for (int i = 0; i < 4; i++) {
            enum message_type type = MESSAGE_PROPOSE + (unsigned)i;

            go_to((enum place)place);
            message(type, h.epoch + (type == MESSAGE_PROPOSE), ARRIVE,
                    REASON_NONE);
            if (letter(h.stage) != then[place][i])
                ck_abort_msg("place %d, message %d: %s", place, type,
                             handover_stage_name(h.stage));
            ck_assert(!d.dead);
        }
}
END_TEST

START_TEST(messages_of_another_epoch_change_nothing)
{
    for (int place = 0; place < PLACES; place++)
        for (unsigned type = MESSAGE_ACCEPT; type <= MESSAGE_CANCEL; type++)
            for (int step = -1; step <= 1; step += 2) {
                struct handover before;

                go_to((enum place)place);
                before = h;
                message(type, h.epoch + (uint32_t)step, ARRIVE, REASON_NONE);
                ck_assert_mem_eq(&before, &h, sizeof(h));
            }
}
END_TEST

START_TEST(propose_is_refused_when_took_has_passed_its_offset)
{
    go_to(IN_RAW);
    message(MESSAGE_PROPOSE, 1, ARRIVE - 1, REASON_NONE);
    ck_assert_int_eq(h.stage, STAGE_RAW);
    ck_assert(d.send_message && d.message.type == MESSAGE_BUSY);
    ck_assert_uint_eq(h.epoch, 1); /* the number is used up */
}
END_TEST

START_TEST(accept_of_an_offset_already_passed_is_cancelled)
{
    go_to(IN_PROPOSED);
    message(MESSAGE_ACCEPT, 1, ARRIVE - 1, REASON_NONE);
    ck_assert_int_eq(h.stage, STAGE_RAW);
    ck_assert(d.send_message && d.message.type == MESSAGE_CANCEL);
    ck_assert_int_eq(d.n_records, 0);
}
END_TEST

START_TEST(busy_outside_raw_changes_no_epoch)
{
    for (int place = IN_ACCEPTED; place < IN_DEAD; place++) {
        uint32_t epoch;

        go_to((enum place)place);
        if (h.initiator)
            continue;
        epoch = h.epoch;
        message(MESSAGE_PROPOSE, epoch + 1, ARRIVE, REASON_NONE);
        ck_assert_uint_eq(h.epoch, epoch);
        ck_assert(d.send_message && d.message.type == MESSAGE_BUSY);
        ck_assert_uint_eq(d.message.epoch, epoch + 1);
    }
}
END_TEST

START_TEST(cancel_goes_before_raw_bytes_and_never_after_switch)
{
    for (int place = 0; place < PLACES; place++) {
        enum handover_stage before;

        go_to((enum place)place);
        before = h.stage;
        give_up();
        ck_assert_int_eq(d.send_message && d.message.type == MESSAGE_CANCEL,
                         before == STAGE_PROPOSED || before == STAGE_ACCEPTED);
        ck_assert_int_eq(d.n_records, before == STAGE_SWITCHED);
        if (d.n_records > 0) {
            ck_assert_int_eq(d.records[0].type, RECORD_RAW);
            ck_assert_uint_eq(d.records[0].offset, LEAVE);
        }
        if (before == STAGE_SWITCHED || before == STAGE_ACCEPTED)
            ck_assert_int_eq(handover_tx_mode(&h), TX_RAW);
    }
}
END_TEST

START_TEST(have_is_believed_between_freed_and_wrote)
{
    for (int off = -2; off <= 9; off++)
        for (int place = IN_UP; place <= IN_FROZEN; place++) {
            bool fits = off >= 3 && off <= 8;

            go_to(IN_UP);
            use_link();
            memset(&d, 0, sizeof(d));
            if (place == IN_FROZEN)
                handover_return(&h, 0, REASON_WANTED, &d);
            record(RECORD_HAVE, LEAVE + (uint64_t)off, 0);
            ck_assert_int_eq(h.stage, fits ? STAGE_REPEATING : STAGE_DEAD);
            if (!fits)
                continue;
            ck_assert_uint_eq(h.backlog, LEAVE + (uint64_t)off);
            ck_assert_uint_eq(d.records[d.n_records - 1].count,
                              (uint64_t)(8 - off));
        }
}
END_TEST

START_TEST(a_record_with_a_wrong_tag_epoch_or_sequence_aborts)
{
    static const struct {
        int epoch, sequence, tag;
        enum reason why;
    } wrong[] = {
        {1, 0, 0, REASON_FOREIGN_BYTES},  {-1, 0, 0, REASON_FOREIGN_BYTES},
        {0, 1, 0, REASON_FOREIGN_READER}, {0, -1, 0, REASON_FOREIGN_READER},
        {0, 0, 1, REASON_FOREIGN_BYTES},
    };

    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        go_to(IN_UP);
        record_as(RECORD_BELL, 0, 0, h.epoch + (uint32_t)wrong[i].epoch,
                  h.seq_in + (uint32_t)wrong[i].sequence,
                  TAG_IN + (uint64_t)wrong[i].tag);
        ck_assert_int_eq(h.stage, STAGE_DEAD);
        ck_assert_int_eq(h.why, wrong[i].why);
    }
}
END_TEST

START_TEST(switch_at_any_other_offset_aborts)
{
    go_to(IN_ACCEPTED);
    record(RECORD_SWITCH, ARRIVE + 1, 0);
    ck_assert_int_eq(h.stage, STAGE_DEAD);
}
END_TEST

START_TEST(who_gave_up_repeats_from_its_leave)
{
    go_to(IN_UP); /* the other end; its bytes on the link were never taken */
    h.wrote += 5;
    record(RECORD_RAW, ARRIVE, 0);
    ck_assert_int_eq(h.stage, STAGE_REPEATING);
    ck_assert(!h.in_record);
    ck_assert_uint_eq(h.backlog, LEAVE);
    ck_assert_uint_eq(d.records[0].count, 5);
}
END_TEST

START_TEST(who_gave_up_accepts_no_have_but_its_own_leave)
{
    go_to(IN_GAVE_UP_RECORDS);
    record(RECORD_HAVE, LEAVE + 1, 0);
    ck_assert_int_eq(h.stage, STAGE_DEAD);
}
END_TEST

START_TEST(raw_at_any_other_offset_than_have_aborts)
{
    go_to(IN_UP);
    use_link();
    record(RECORD_HAVE, h.wrote, 0);
    ck_assert_uint_eq(h.own_c, ARRIVE + 4);
    record(RECORD_RAW, ARRIVE + 6, 0);
    ck_assert_int_eq(h.stage, STAGE_DEAD);
}
END_TEST

START_TEST(an_epoch_is_over_when_nothing_of_it_is_left)
{
    go_to(IN_REPEATING);
    ck_assert(!handover_finish(&h, true, &d)); /* the peer's RAW is missing */
    record(RECORD_RAW, ARRIVE, 0);
    h.wrote++;
    ck_assert(!handover_finish(&h, true, &d)); /* a byte to repeat */
    h.backlog++;
    h.have = h.took + 1;
    ck_assert(!handover_finish(&h, true, &d)); /* a byte in local memory */
    h.took++;
    ck_assert(!handover_finish(&h, false, &d)); /* a record unsent */
    ck_assert(handover_finish(&h, true, &d));
    ck_assert(d.guard_off);
    ck_assert_int_eq(h.stage, STAGE_RAW);
}
END_TEST

START_TEST(a_return_takes_nothing_from_the_link_beyond_took)
{
    go_to(IN_UP);
    use_link();
    memset(&d, 0, sizeof(d));
    handover_return(&h, RECORD_THIRD, REASON_EXEC, &d);
    ck_assert_uint_eq(d.records[0].offset, h.took);
    ck_assert_int_eq(d.records[0].flags, RECORD_THIRD);
    ck_assert_int_eq(handover_rx_mode(&h), RX_RECORDS);
    ck_assert_int_eq(handover_tx_mode(&h), TX_BACKLOG);
}
END_TEST

START_TEST(what_tcp_cannot_take_from_a_leaving_peer_is_read_locally)
{
    go_to(IN_UP);
    h.landed = h.took + h.leave_room + 1;
    record(RECORD_HAVE, h.wrote, RECORD_LEAVING);
    ck_assert_uint_eq(h.own_c, h.landed);
    ck_assert_int_eq(handover_rx_mode(&h), RX_LEFTOVER);
    h.took = h.landed;
    ck_assert_int_eq(handover_rx_mode(&h), RX_RECORDS);

    go_to(IN_UP);
    h.landed = h.took + h.leave_room;
    record(RECORD_HAVE, h.wrote, RECORD_LEAVING);
    ck_assert_uint_eq(h.own_c, h.took);
}
END_TEST

START_TEST(a_fin_after_end_and_leaving_is_served_from_local_memory)
{
    for (int crossed = 0; crossed < 2; crossed++) {
        go_to(IN_UP);
        use_link();
        memset(&d, 0, sizeof(d));
        if (crossed)
            handover_return(&h, 0, REASON_WANTED, &d);
        record(RECORD_END, h.landed, RECORD_LEAVING);
        memset(&d, 0, sizeof(d));
        handover_fin(&h, &d);
        ck_assert_int_eq(h.stage, STAGE_UP);
        ck_assert_int_eq(handover_tx_mode(&h), TX_RAW);
        ck_assert(!handover_eof(&h));
        h.took = h.landed;
        ck_assert(handover_eof(&h));
        memset(&d, 0, sizeof(d));
        handover_return(&h, 0, REASON_WANTED, &d);
        ck_assert_int_eq(d.n_records, 0); /* nobody could answer */
    }
}
END_TEST

START_TEST(any_other_fin_in_record_mode_aborts)
{
    for (int place = 0; place < IN_DEAD; place++) {
        bool records;

        go_to((enum place)place);
        records = h.in_record;
        memset(&d, 0, sizeof(d));
        handover_fin(&h, &d);
        ck_assert_int_eq(h.stage == STAGE_DEAD, records);
    }
    go_to(IN_UP);
    use_link();
    record(RECORD_END, h.landed + 1, RECORD_LEAVING); /* one did not land */
    memset(&d, 0, sizeof(d));
    handover_fin(&h, &d);
    ck_assert_int_eq(h.stage, STAGE_DEAD);
    ck_assert_int_eq(h.why, REASON_PEER_GONE);
}
END_TEST

START_TEST(end_is_told_when_the_last_byte_was_taken)
{
    go_to(IN_UP);
    use_link();
    record(RECORD_END, h.landed, 0);
    ck_assert(d.end_seen);
    ck_assert(!handover_eof(&h));
    h.took = h.landed;
    ck_assert(handover_eof(&h));
    record(RECORD_END, h.landed, 0);
    ck_assert_int_eq(h.stage, STAGE_DEAD); /* once */
    go_to(IN_UP);
    use_link();
    record(RECORD_END, h.landed - 1, 0);
    ck_assert_int_eq(h.stage, STAGE_DEAD); /* before what has landed */
}
END_TEST

START_TEST(a_dead_channel_decides_by_what_lies_at_arrive)
{
    for (int place = 0; place < IN_DEAD; place++) {
        bool waits;

        go_to((enum place)place);
        handover_channel_dead(&h, &d);
        waits = handover_at_arrive(&h);
        if (place == IN_PROPOSED)
            ck_assert_int_eq(h.stage, STAGE_RAW);
        memset(&d, 0, sizeof(d));
        handover_not_switch(&h, &d);
        ck_assert_int_eq(d.guard_off, waits);
        ck_assert_int_eq(d.n_records, place == IN_SWITCHED);
        ck_assert_int_eq(h.channel_dead, true);
        ck_assert(!handover_may_go_up(&h));
    }
}
END_TEST

START_TEST(strange_bytes_at_arrive_abort_while_the_channel_lives)
{
    go_to(IN_ACCEPTED);
    handover_not_switch(&h, &d);
    ck_assert_int_eq(h.stage, STAGE_DEAD);
    ck_assert_int_eq(h.why, REASON_FOREIGN_BYTES);
}
END_TEST

START_TEST(a_half_closed_stream_does_not_go_up)
{
    go_to(IN_RAW);
    h.fin_seen = true;
    message(MESSAGE_PROPOSE, 1, ARRIVE, REASON_NONE);
    ck_assert_int_eq(h.stage, STAGE_RAW);
    handover_init(&h, true);
    h.fin_sent = true;
    ck_assert_int_eq(handover_propose(&h, TAG_IN, &d), -EBUSY);
}
END_TEST

START_TEST(the_second_epoch_starts_from_scratch)
{
    go_to(IN_UP);
    use_link();
    record(RECORD_HAVE, h.wrote, 0);
    record(RECORD_RAW, h.own_c, 0);
    ck_assert(handover_finish(&h, true, &d));
    message(MESSAGE_PROPOSE, 2, h.took, REASON_NONE);
    ck_assert_int_eq(h.stage, STAGE_ACCEPTED);
    record_as(RECORD_SWITCH, h.arrive, 0, 1, 0, TAG_IN);
    ck_assert_int_eq(h.stage, STAGE_DEAD); /* of the first */
}
END_TEST

START_TEST(bytes_that_landed_outlive_an_abort)
{
    go_to(IN_UP);
    use_link();
    memset(&d, 0, sizeof(d));
    handover_abort(&h, REASON_PEER_RULE, &d);
    ck_assert_uint_eq(h.have, h.landed);
    handover_abort(&h, REASON_INTERNAL, &d);
    ck_assert_int_eq(h.why, REASON_PEER_RULE); /* the first reason stays */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handover");
    TCase *tc = tcase_create("rows");

    tcase_add_test(tc, every_record_in_every_place_has_its_row_or_aborts);
    tcase_add_test(tc,
                   every_message_in_every_place_has_its_row_or_changes_nothing);
    tcase_add_test(tc, messages_of_another_epoch_change_nothing);
    tcase_add_test(tc, propose_is_refused_when_took_has_passed_its_offset);
    tcase_add_test(tc, accept_of_an_offset_already_passed_is_cancelled);
    tcase_add_test(tc, busy_outside_raw_changes_no_epoch);
    tcase_add_test(tc, cancel_goes_before_raw_bytes_and_never_after_switch);
    tcase_add_test(tc, have_is_believed_between_freed_and_wrote);
    tcase_add_test(tc, a_record_with_a_wrong_tag_epoch_or_sequence_aborts);
    tcase_add_test(tc, switch_at_any_other_offset_aborts);
    tcase_add_test(tc, who_gave_up_repeats_from_its_leave);
    tcase_add_test(tc, who_gave_up_accepts_no_have_but_its_own_leave);
    tcase_add_test(tc, raw_at_any_other_offset_than_have_aborts);
    tcase_add_test(tc, an_epoch_is_over_when_nothing_of_it_is_left);
    tcase_add_test(tc, a_return_takes_nothing_from_the_link_beyond_took);
    tcase_add_test(tc,
                   what_tcp_cannot_take_from_a_leaving_peer_is_read_locally);
    tcase_add_test(tc, a_fin_after_end_and_leaving_is_served_from_local_memory);
    tcase_add_test(tc, any_other_fin_in_record_mode_aborts);
    tcase_add_test(tc, end_is_told_when_the_last_byte_was_taken);
    tcase_add_test(tc, a_dead_channel_decides_by_what_lies_at_arrive);
    tcase_add_test(tc, strange_bytes_at_arrive_abort_while_the_channel_lives);
    tcase_add_test(tc, a_half_closed_stream_does_not_go_up);
    tcase_add_test(tc, the_second_epoch_starts_from_scratch);
    tcase_add_test(tc, bytes_that_landed_outlive_an_abort);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
