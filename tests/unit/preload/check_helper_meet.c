/* The helper's search for a transport that carries a connection. */
#include "preload/helper_private.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/backends.h"
#include "preload/process.h"
#include "tests/support/fake_transport.h"
#include "tests/support/run_suite.h"
#include "tests/unit/preload/stand_ins.h"
#include "transport/pause.h"

static struct fake_wire wire;

static void ends(int which, struct link *link, enum reason why)
{
    struct meeting *m = transports[which].meeting;

    ck_assert_ptr_nonnull(m);
    transports[which].meeting = NULL;
    m->backend = NULL;
    m->done(m, link, why);
}

static void fails(int which, enum reason why)
{
    ends(which, NULL, why);
}

static void succeeds(int which)
{
    fake_wire_start(&wire, 4096, false, false);
    ends(which, fake_link_take(&wire, 0, e), REASON_NONE);
}

/* ---- */

static void device(int which)
{
    transports[which].device = true;
    transports[which].backend.ops = &listening_ops[which];
}

static const char *why(void)
{
    return reason_token(e->stream.why);
}

static uint64_t waits_ns(uint64_t before)
{
    return e->not_before_ns - before;
}

START_TEST(transports_are_tried_in_order_each_after_the_one_before_failed)
{
    helper_meet(e);
    ck_assert_str_eq(why(), "meeting");
    ck_assert_int_eq(n_order, 1);
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 2);
    ck_assert_str_eq(why(), "meeting");
    fails(1, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 3);
    fails(2, REASON_NO_PEER_LIBRARY);
    for (int i = 0; i < N; i++)
        ck_assert_int_eq(order[i], i);
    ck_assert_int_eq(n_order, 3);
    ck_assert_str_eq(why(), "no_peer_library");
    ck_assert(!e->ineligible);
}
END_TEST

START_TEST(the_order_is_that_of_the_setting)
{
    strcpy(process.settings.transports, "three,one");
    helper_meet(e);
    fails(2, REASON_NO_PEER_LIBRARY);
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 2);
    ck_assert_int_eq(order[0], 2);
    ck_assert_int_eq(order[1], 0);
}
END_TEST

START_TEST(a_rule_has_an_order_of_its_own)
{
    char error[RULE_ERROR_MAX];

    ck_assert_int_eq(
        rules_parse(&process.settings.rules, "port=9,transports=verbs", error),
        0);
    transports[1].name = "verbs";
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
    ck_assert_int_eq(order[0], 1);
    fails(1, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 1);
}
END_TEST

START_TEST(what_is_missing_or_does_not_suit_is_passed_over)
{
    strcpy(process.settings.transports, "pigeon,one,two,three");
    transports[0].missing = REASON_NO_MODULE;
    transports[1].unsuited = REASON_OTHER_HOST;
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
    ck_assert_int_eq(order[0], 2);
}
END_TEST

START_TEST(the_first_link_ends_the_search)
{
    helper_meet(e);
    fails(0, REASON_NO_PEER_LIBRARY);
    succeeds(1);
    ck_assert_ptr_eq(e->stream.link, &wire.end[0].link);
    ck_assert_int_eq(n_order, 2);
    ck_assert(e->in_all);
    ck_assert(e->timer.added); /* the initiator proposes */
    helper_meet(e);
    ck_assert_int_eq(n_order, 2);
}
END_TEST

START_TEST(a_meeting_under_way_is_not_begun_again)
{
    helper_meet(e);
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
    helper_stop_meeting(e);
    ck_assert_int_eq(transports[0].cancelled, 1);
    helper_stop_meeting(e);
    ck_assert_int_eq(transports[0].cancelled, 1);
}
END_TEST

/* Of two, the one that helps more, whichever comes first. */
static const struct {
    enum reason less, more;
} pairs[] = {
    {REASON_OTHER_HOST, REASON_NO_DEVICE},
    {REASON_OTHER_HOST, REASON_NO_MODULE},
    {REASON_NO_DEVICE, REASON_NO_ROUTE},
    {REASON_NO_MODULE, REASON_NO_ROUTE},
    {REASON_NO_ROUTE, REASON_NO_PROOF},
    {REASON_NO_PROOF, REASON_NO_PEER_LIBRARY},
    {REASON_OTHER_HOST, REASON_NO_PEER_LIBRARY},
    {REASON_NO_PEER_LIBRARY, REASON_LIMIT},
    {REASON_NO_PEER_LIBRARY, REASON_MEMLOCK},
    {REASON_NO_PEER_LIBRARY, REASON_FOREIGN_BYTES},
    {REASON_NO_DEVICE, REASON_OTHER_USER},
};

START_TEST(of_several_reasons_the_most_telling_one_is_shown)
{
    strcpy(process.settings.transports, "one,two");
    for (int swapped = 0; swapped < 2; swapped++) {
        new_endpoint(true);
        helper_meet(e);
        fails(0, swapped ? pairs[_i].more : pairs[_i].less);
        fails(1, swapped ? pairs[_i].less : pairs[_i].more);
        ck_assert_str_eq(why(), reason_token(pairs[_i].more));
    }
}
END_TEST

START_TEST(reasons_of_those_not_tried_count_as_well)
{
    transports[0].missing = REASON_NO_DEVICE;
    transports[1].unsuited = REASON_NO_ROUTE;
    transports[2].unsuited = REASON_OTHER_HOST;
    helper_meet(e);
    ck_assert_int_eq(n_order, 0);
    ck_assert_str_eq(why(), "no_route");
    /* Addresses do not change, routes do. */
    ck_assert(!e->ineligible);
}
END_TEST

START_TEST(what_can_never_be_carried_stays_on_tcp_for_good)
{
    static const enum reason never[] = {REASON_OTHER_HOST, REASON_NO_DEVICE,
                                        REASON_NO_MODULE, REASON_FORK};

    strcpy(process.settings.transports, "one,two");
    transports[0].unsuited = REASON_OTHER_HOST;
    transports[1].missing = never[_i];
    helper_meet(e);
    ck_assert(e->ineligible);
    ck_assert(!e->in_all);
    ck_assert_str_eq(why(), reason_token(never[_i]));
    helper_meet(e);
    ck_assert_int_eq(n_order, 0);
}
END_TEST

START_TEST(after_each_failure_it_waits_twice_as_long_up_to_a_limit)
{
    uint64_t before, waited = 0, least = 200000000;
    int32_t calls = 0;

    strcpy(process.settings.transports, "one");
    for (int i = 0; i < 14; i++) {
        before = clock_ns();
        helper_meet(e);
        fails(0, REASON_NO_PEER_LIBRARY);
        ck_assert(!e->in_all);
        ck_assert(!e->timer.added); /* an idle process stays idle */
        ck_assert_uint_ge(waits_ns(before), least);
        ck_assert_uint_ge(waits_ns(before), waited);
        ck_assert_int_ge(atomic_load(&e->countdown), calls);
        ck_assert_int_gt(atomic_load(&e->countdown), 0);
        if (i == 12)
            ck_assert_uint_lt(waits_ns(before), 100000000000);
        waited = least;
        calls = atomic_load(&e->countdown);
        if (i < 8)
            least *= 2;
    }
    ck_assert_uint_eq(e->failures, 9);
    helper_meet(e);
    succeeds(0);
    ck_assert_uint_eq(e->failures, 0);
}
END_TEST

START_TEST(with_any_upgrade_after_the_calls_until_the_next_try_are_a_number)
{
    static const uint64_t after[] = {0, 1, 16, 4194304, 1000000000};

    strcpy(process.settings.transports, "one");
    process.settings.upgrade_after = endpoint_first.calls = after[_i];
    for (int i = 0; i < 12; i++) {
        helper_meet(e);
        fails(0, REASON_NO_PEER_LIBRARY);
        ck_assert_int_ge(atomic_load(&e->countdown), (int32_t)after[_i]);
        ck_assert_int_gt(atomic_load(&e->countdown), 0);
    }
}
END_TEST

START_TEST(too_little_proof_is_a_matter_of_more_bytes_and_no_failure)
{
    strcpy(process.settings.transports, "one");
    device(0);
    for (int i = 0; i < 5; i++) {
        helper_meet(e);
        fails(0, REASON_NO_PROOF);
        ck_assert_str_eq(why(), "no_proof");
        ck_assert_uint_eq(e->failures, 0);
        ck_assert_int_eq(atomic_load(&e->countdown), 11);
        ck_assert_uint_eq(e->not_before_ns, 0);
    }
}
END_TEST

START_TEST(a_peer_that_may_be_opening_its_device_is_asked_twice_more_soon)
{
    strcpy(process.settings.transports, "one,two");
    device(1);
    for (int i = 0; i < 3; i++) {
        uint64_t now = clock_ns();

        helper_meet(e);
        fails(0, REASON_NO_PEER_LIBRARY);
        fails(1, REASON_NO_PEER_LIBRARY);
        ck_assert_uint_eq(e->failures, i < 2 ? 0 : 1);
        ck_assert_int_eq(e->timer.added, i < 2);
        if (i < 2)
            ck_assert_uint_ge(e->timer.at_ns - now, 300000000u << i);
        loop_timer_clear(helper.loop, &e->timer);
    }
}
END_TEST

START_TEST(the_end_that_accepted_asks_nobody_soon)
{
    strcpy(process.settings.transports, "one");
    device(0);
    new_endpoint(false);
    helper_meet(e);
    ck_assert_int_eq(transports[0].listens, 1); /* it can be found */
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert(!e->timer.added);
    ck_assert_uint_eq(e->failures, 1);
}
END_TEST

START_TEST(the_first_bytes_are_shown_to_a_device_alone_and_forgotten_after)
{
    struct iovec iov = {"0123456789", 10};

    device(1);
    e->proof = calloc(1, sizeof(*e->proof));
    endpoint_note_proof(e, true, &iov, 1, 10, 10);
    helper_meet(e);
    ck_assert_ptr_null(transports[0].meeting->proof);
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert_ptr_nonnull(transports[1].meeting->proof);
    ck_assert_ptr_ne(transports[1].meeting->proof, e->proof);
    ck_assert_uint_eq(transports[1].meeting->proof->have[PROOF_TO_SERVER], 10);
    fails(1, REASON_NO_PEER_LIBRARY);
    ck_assert_ptr_null(transports[2].meeting->proof);
    ck_assert_ptr_nonnull(e->proof);
    succeeds(2);
    ck_assert_ptr_null(e->proof);
}
END_TEST

START_TEST(over_a_device_the_first_bytes_are_kept_for_the_next_time)
{
    strcpy(process.settings.transports, "one");
    device(0);
    e->proof = calloc(1, sizeof(*e->proof));
    helper_meet(e);
    succeeds(0);
    ck_assert_ptr_nonnull(e->proof);
    ck_assert_ptr_null(e->shown);
    endpoint_forget_proof(e);
}
END_TEST

START_TEST(while_somebody_forks_nobody_is_met)
{
    atomic_store(&process.no_ups, 1);
    helper_meet(e);
    ck_assert_int_eq(n_order, 0);
    ck_assert_int_gt(atomic_load(&e->countdown), 0);
    atomic_store(&process.no_ups, 0);
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
    atomic_store(&process.no_ups, 1);
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 1);
    ck_assert(!e->ineligible);
    atomic_store(&process.no_ups, 0);
}
END_TEST

START_TEST(who_has_closed_looks_for_nobody)
{
    helper_meet(e);
    e->closing = true;
    fails(0, REASON_NO_PEER_LIBRARY);
    ck_assert_int_eq(n_order, 1);
    ck_assert(!e->timer.added);
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
}
END_TEST

START_TEST(with_any_upgrade_after_a_shared_connection_is_looked_at_again)
{
    process.settings.upgrade_after = UINT64_C(1) << 30;
    atomic_store(&e->shared, true);
    for (int i = 0; i < 12; i++) {
        endpoint_grown_up(e);
        ck_assert_int_gt(e->countdown, 0);
    }
}
END_TEST

/* A thread that left its last call, and then was late with saying so. */
START_TEST(what_is_asked_for_a_freed_endpoint_is_not_done)
{
    endpoint_free(e);
    helper_meet(e);
    helper_hold(e, true);
    ck_assert_int_eq(n_order, 0);
    ck_assert(!e->held);
    atomic_store(&e->countdown, 1);
    endpoint_called(e, 1);
    ck_assert(!e->queued);
}
END_TEST

START_TEST(an_endpoint_freed_twice_does_not_lose_others)
{
    struct endpoint *other =
        endpoint_create(-1, AF_INET, false, ENDPOINT_NEW, true);
    bool found = false;

    endpoint_free(e);
    endpoint_free(other);
    endpoint_free(e);
    for (int i = 0; i < 1000; i++) {
        struct endpoint *next =
            endpoint_create(-1, AF_INET, false, ENDPOINT_NEW, true);

        ck_assert_ptr_nonnull(next);
        found |= next == other;
        endpoint_free(next);
    }
    ck_assert(found);
}
END_TEST

START_TEST(a_signal_handler_leaves_first_bytes_alone_that_are_being_noted)
{
    struct iovec iov = {"x", 1};

    e->proof = calloc(1, sizeof(*e->proof));
    lock_take(&e->proof_lock); /* what it interrupted */
    endpoint_note_proof(e, true, &iov, 1, 1, 1);
    endpoint_forget_proof(e);
    ck_assert(lock_is_mine(&e->proof_lock));
    ck_assert_ptr_nonnull(e->proof);
    lock_give(&e->proof_lock);
    endpoint_forget_proof(e);
    ck_assert_ptr_null(e->proof);
}
END_TEST

START_TEST(a_connection_that_is_off_is_not_looked_at_again)
{
    process.settings.accelerate = false;
    helper_meet(e);
    ck_assert(e->ineligible);
    ck_assert_str_eq(why(), "off_by_setting");
    ck_assert_int_eq(n_order, 0);
}
END_TEST

START_TEST(a_rule_may_want_more_calls_first)
{
    char error[RULE_ERROR_MAX];

    ck_assert_int_eq(
        rules_parse(&process.settings.rules, "port=9,upgrade_after=25", error),
        0);
    helper_meet(e);
    ck_assert_int_eq(n_order, 0);
    ck_assert_int_eq(atomic_load(&e->countdown), 15);
    helper_meet(e);
    ck_assert_int_eq(n_order, 1);
}
END_TEST

START_TEST(the_first_transport_that_suits_lets_peers_find_us_there_once)
{
    device(1);
    device(2);
    transports[0].unsuited = REASON_OTHER_HOST;
    new_endpoint(false);
    helper_listen(e);
    helper_listen(e);
    ck_assert_int_eq(transports[1].listens, 1);
    ck_assert_int_eq(transports[2].listens, 0);
    helper_end_listening();
    ck_assert_int_eq(transports[1].ends, 0);
    helper_stop_listening(e->name.server_port);
    helper_end_listening();
    helper_end_listening();
    ck_assert_int_eq(transports[1].ends, 1);
    helper_listen(e);
    ck_assert_int_eq(transports[1].listens, 2);
}
END_TEST

START_TEST(memory_within_the_host_needs_nobody_to_listen)
{
    device(1);
    new_endpoint(false);
    helper_listen(e);
    ck_assert_int_eq(transports[1].listens, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("helper meet");
    TCase *tc = tcase_create("meeting");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(
        tc, transports_are_tried_in_order_each_after_the_one_before_failed);
    tcase_add_test(tc, the_order_is_that_of_the_setting);
    tcase_add_test(tc, a_rule_has_an_order_of_its_own);
    tcase_add_test(tc, what_is_missing_or_does_not_suit_is_passed_over);
    tcase_add_test(tc, the_first_link_ends_the_search);
    tcase_add_test(tc, a_meeting_under_way_is_not_begun_again);
    tcase_add_loop_test(tc, of_several_reasons_the_most_telling_one_is_shown, 0,
                        (int)(sizeof(pairs) / sizeof(pairs[0])));
    tcase_add_test(tc, reasons_of_those_not_tried_count_as_well);
    tcase_add_loop_test(tc, what_can_never_be_carried_stays_on_tcp_for_good, 0,
                        4);
    tcase_add_test(tc, after_each_failure_it_waits_twice_as_long_up_to_a_limit);
    tcase_add_loop_test(
        tc, with_any_upgrade_after_the_calls_until_the_next_try_are_a_number, 0,
        5);
    tcase_add_test(tc,
                   too_little_proof_is_a_matter_of_more_bytes_and_no_failure);
    tcase_add_test(
        tc, a_peer_that_may_be_opening_its_device_is_asked_twice_more_soon);
    tcase_add_test(tc, the_end_that_accepted_asks_nobody_soon);
    tcase_add_test(
        tc, the_first_bytes_are_shown_to_a_device_alone_and_forgotten_after);
    tcase_add_test(tc,
                   over_a_device_the_first_bytes_are_kept_for_the_next_time);
    tcase_add_test(tc, while_somebody_forks_nobody_is_met);
    tcase_add_test(tc, who_has_closed_looks_for_nobody);
    tcase_add_test(
        tc, with_any_upgrade_after_a_shared_connection_is_looked_at_again);
    tcase_add_test(tc, what_is_asked_for_a_freed_endpoint_is_not_done);
    tcase_add_test(tc, an_endpoint_freed_twice_does_not_lose_others);
    tcase_add_test(
        tc, a_signal_handler_leaves_first_bytes_alone_that_are_being_noted);
    tcase_add_test(tc, a_connection_that_is_off_is_not_looked_at_again);
    tcase_add_test(tc, a_rule_may_want_more_calls_first);
    tcase_add_test(
        tc, the_first_transport_that_suits_lets_peers_find_us_there_once);
    tcase_add_test(tc, memory_within_the_host_needs_nobody_to_listen);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
