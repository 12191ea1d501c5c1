/* How two ends meet, and when they do not. */
#include "tests/contract/contract.h"

START_TEST(two_ends_of_a_connection_meet_and_each_has_a_link)
{
    must_meet(0);
    ck_assert_uint_eq(left[0].link->tx.size, RING);
    ck_assert_uint_eq(left[0].link->rx.size, RING);
    ck_assert_uint_eq(right[0].link->tx.size, RING);
    ck_assert_ptr_ne(left[0].link->tx.bytes, left[0].link->rx.bytes);
    ck_assert_ptr_eq(left[0].link->ops, right[0].link->ops);
    ck_assert(left[0].link->ops->peer_alive(left[0].link));
}
END_TEST

START_TEST(an_end_that_comes_early_is_waited_for)
{
    party_start(&left[0], &here, true, 0);
    for (int i = 0; i < 10; i++) {
        turn(1);
        usleep(1000);
    }
    party_start(&right[0], &there, false, 0);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert(turn_until(&right[0].done, 1));
    ck_assert_str_eq(reason_token(left[0].why), "none");
    ck_assert_str_eq(reason_token(right[0].why), "none");
}
END_TEST

START_TEST(without_the_other_end_a_meeting_ends_with_a_reason)
{
    party_start(&left[0], &here, true, 0);
    party_start(&right[1], &there, false, 1);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert(turn_until(&right[1].done, 1));
    ck_assert_ptr_null(left[0].link);
    ck_assert_str_eq(reason_token(left[0].why), "no_peer_library");
    ck_assert_str_eq(reason_token(right[1].why), "no_peer_library");
}
END_TEST

START_TEST(where_nobody_listens_no_peer_is_met)
{
    listen_there(false);
    party_start(&left[0], &here, true, 0);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert_str_eq(reason_token(left[0].why), "no_peer_library");
    listen_there(true);
    must_meet(1);
}
END_TEST

START_TEST(a_cancelled_meeting_says_nothing_and_a_new_one_succeeds)
{
    int told;

    party_start(&right[0], &there, false, 0);
    party_start(&left[0], &here, true, 0);
    turn(1);
    told = right[0].done; /* it may have agreed already */
    ck_assert_int_eq(left[0].done, 0);
    contract->ops->meeting_cancel(&left[0].meeting);
    if (told == 0)
        contract->ops->meeting_cancel(&right[0].meeting);
    turn(20);
    ck_assert_int_eq(left[0].done, 0);
    ck_assert_int_eq(right[0].done, told);
    drop(&right[0]);
    must_meet(1);
    /* Within a host the first question may still be waiting for its answer
     * and then uses up the new one. */
    if (contract->device)
        must_meet(0);
}
END_TEST

START_TEST(a_question_that_was_withdrawn_does_not_use_up_the_next_one)
{
    must_meet(1); /* now the other process can be asked at once */
    party_start(&left[0], &here, true, 0);
    for (int i = 0; i < 10; i++) {
        turn(1);
        usleep(1000);
    }
    contract->ops->meeting_cancel(&left[0].meeting);
    must_meet(0);
}
END_TEST

START_TEST(ends_that_counted_different_bytes_do_not_meet)
{
    party_start(&right[0], &there, false, 0);
    right[0].took = 100; /* the other one wrote none */
    party_start(&left[0], &here, true, 0);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert(turn_until(&right[0].done, 1));
    /* The accepting end may have gone ahead: it is told. */
    ck_assert_ptr_null(left[0].link);
    if (right[0].link != NULL)
        ck_assert(turn_until(&right[0].deaths, 1));
    ck_assert_str_eq(reason_token(left[0].why), "foreign_bytes");
}
END_TEST

START_TEST(an_end_that_saw_other_first_bytes_is_not_met)
{
    party_start(&right[0], &there, false, 0);
    party_start(&left[0], &here, true, 0);
    left[0].proof.bytes[PROOF_TO_SERVER][7] ^= 1;
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert(turn_until(&right[0].done, 1));
    ck_assert_ptr_null(left[0].link);
    ck_assert_ptr_null(right[0].link);
    ck_assert_str_eq(reason_token(left[0].why), "no_proof");
    must_meet(1);
}
END_TEST

START_TEST(too_few_first_bytes_or_none_kept_prove_nothing)
{
    party_start(&right[0], &there, false, 0);
    right[0].proof.have[PROOF_TO_SERVER] = PROOF_LEAST - 1;
    party_start(&left[0], &here, true, 0);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert(turn_until(&right[0].done, 1));
    ck_assert_str_eq(reason_token(left[0].why), "no_proof");
    ck_assert_str_eq(reason_token(right[0].why), "no_proof");
    party_start(&right[1], &there, false, 1);
    party_start(&left[1], &here, true, 1);
    contract->ops->meeting_cancel(&left[1].meeting);
    left[1].meeting.proof = NULL;
    contract->ops->meeting_start(here.backend, &left[1].meeting);
    ck_assert_int_eq(left[1].done, 1);
    ck_assert_str_eq(reason_token(left[1].why), "no_proof");
}
END_TEST

/* One peer for all of them, and each slot is used again. */
START_TEST(many_links_of_two_processes_do_not_mix)
{
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < contract->n_links; i++) {
            must_meet((unsigned)i);
            left[i].link->tx.bytes[0] = byte_at((uint64_t)i);
            left[i].link->ops->commit(left[i].link, 1 + (uint64_t)i % 5);
        }
        for (int i = 0; i < contract->n_links; i++) {
            must_land(right[i].link, 0, 1 + (uint64_t)i % 5);
            ck_assert_uint_eq(right[i].link->rx.bytes[0], byte_at((uint64_t)i));
            if (contract->device)
                ck_assert_ptr_eq(right[i].link->peer, right[0].link->peer);
        }
        for (int i = 0; i < contract->n_links; i++) {
            drop(&left[i]);
            ck_assert(turn_until(&right[i].deaths, 1));
            ck_assert_int_eq(right[i].breaks, 0);
            drop(&right[i]);
        }
    }
}
END_TEST

START_TEST(beyond_the_limit_of_links_a_meeting_is_refused)
{
    must_meet(0);
    drop(&left[0]);
    drop(&right[0]);
    side_stop(&there);
    contract_max_links = 1;
    side_start(&there, 3);
    contract_max_links = 4096;
    listen_there(true);
    turn(5);
    must_meet(1);
    party_start(&right[2], &there, false, 2);
    party_start(&left[2], &here, true, 2);
    ck_assert(turn_until(&left[2].done, 1));
    ck_assert_str_eq(reason_token(left[2].why), "limit");
    ck_assert_str_eq(reason_token(right[2].why), "limit");
}
END_TEST

void add_meeting_cases(TCase *tcase)
{
    tcase_add_test(tcase, two_ends_of_a_connection_meet_and_each_has_a_link);
    tcase_add_test(tcase, an_end_that_comes_early_is_waited_for);
    tcase_add_test(tcase, without_the_other_end_a_meeting_ends_with_a_reason);
    tcase_add_test(tcase,
                   a_cancelled_meeting_says_nothing_and_a_new_one_succeeds);
    tcase_add_test(tcase, ends_that_counted_different_bytes_do_not_meet);
    tcase_add_test(tcase, many_links_of_two_processes_do_not_mix);
    tcase_add_test(tcase, beyond_the_limit_of_links_a_meeting_is_refused);
    if (!contract->device) {
        contract_skips("listening, proof, questions withdrawn",
                       "within a host the kernel says who the peer is");
        return;
    }
    tcase_add_test(tcase, where_nobody_listens_no_peer_is_met);
    tcase_add_test(tcase,
                   a_question_that_was_withdrawn_does_not_use_up_the_next_one);
    tcase_add_test(tcase, an_end_that_saw_other_first_bytes_is_not_met);
    tcase_add_test(tcase, too_few_first_bytes_or_none_kept_prove_nothing);
}
