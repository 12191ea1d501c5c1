#include "tests/unit/transport/backend/two_processes.h"

#include "tests/support/run_suite.h"

static void say_something(unsigned n)
{
    struct link *l = left[n].link, *r = right[n].link;
    uint64_t landed = 0;
    char word[6] = "";

    l->ops->start(l, 1, 100, 7);
    r->ops->start(r, 1, 7, 100);
    ring_put(&l->tx, 100, "hello", 6);
    l->ops->commit(l, 106);
    ck_assert_int_eq(r->ops->landed(r, 100, 100, &landed), 0);
    ck_assert_uint_eq(landed, 106);
    ring_get(&r->rx, 100, word, 6);
    ck_assert_str_eq(word, "hello");
}

START_TEST(two_ends_meet_when_the_accepting_one_comes_first)
{
    party_start(&right[0], &there, false, 0);
    turn(2);
    party_start(&left[0], &here, true, 0);
    turn_until_done(&left[0]);
    turn_until_done(&right[0]);
    say_something(0);
    ck_assert_uint_eq(left[0].link->peer_pid, getpid());
}
END_TEST

START_TEST(two_ends_meet_when_the_connecting_one_comes_first)
{
    party_start(&left[0], &here, true, 0);
    turn(2);
    ck_assert_int_eq(left[0].done, 0);
    party_start(&right[0], &there, false, 0);
    turn_until_done(&left[0]);
    turn_until_done(&right[0]);
    say_something(0);
}
END_TEST

START_TEST(later_links_use_the_channel_that_is_there)
{
    for (unsigned i = 0; i < 5; i++) {
        must_meet(i);
        say_something(i);
    }
    ck_assert_uint_eq(n_channels(&here), 1);
    ck_assert_uint_eq(n_channels(&there), 1);
}
END_TEST

START_TEST(who_was_called_before_waits_a_moment_before_it_takes_a_name)
{
    must_meet(0);
    party_start(&right[1], &there, false, 1);
    ck_assert_uint_eq(there.shm->n_named, 0);
    party_start(&left[1], &here, true, 1);
    turn_until_done(&left[1]);
    turn_until_done(&right[1]);
    ck_assert_uint_eq(there.shm->n_named, 0);
    ck_assert_uint_eq(n_channels(&there), 1);
    say_something(1);
}
END_TEST

START_TEST(a_stranger_finds_the_name_of_who_was_called_before)
{
    must_meet(0);
    here.shm->channels->n_served = 0; /* as if somebody else had been met */
    must_meet(1);
    say_something(1);
    ck_assert_uint_eq(n_channels(&there), 2);
    here.shm->channels->n_served = here.shm->channels->next->n_served = 0;
    party_start(&left[2], &here, true, 2);
    turn(2);
    party_start(&right[2], &there, false, 2);
    turn_until_done(&left[2]);
    turn_until_done(&right[2]);
    say_something(2);
}
END_TEST

START_TEST(a_hello_that_comes_too_early_is_kept)
{
    must_meet(0);
    party_start(&left[1], &here, true, 1);
    turn(1);
    party_start(&right[1], &there, false, 1);
    ck_assert_int_eq(right[1].done, 1);
    turn_until_done(&left[1]);
    say_something(1);
}
END_TEST

START_TEST(early_hellos_that_were_not_kept_still_meet)
{
    must_meet(0);
    for (unsigned i = 1; i < 200; i++)
        party_start(&left[i], &here, true, i);
    while (there.shm->n_early < 199) /* or the alarm ends it */
        turn(1);
    for (unsigned i = 0; i < there.shm->n_early; i++)
        there.shm->early[i].channel = NULL;
    for (unsigned i = 1; i < 200; i++)
        party_start(&right[i], &there, false, i);
    for (unsigned i = 1; i < 200; i++) {
        turn_until_done(&left[i]);
        ck_assert_uint_eq(left[i].why, REASON_NONE);
        turn_until_done(&right[i]);
        ck_assert_uint_eq(right[i].why, REASON_NONE);
    }
}
END_TEST

static int lowest_free(void)
{
    int fd = dup(0);

    close(fd);
    return fd;
}

START_TEST(those_who_find_nobody_hold_few_descriptors)
{
    int before = lowest_free();

    for (unsigned i = 0; i < MANY; i += 2) {
        party_start(&left[i], &here, true, i);
        party_start(&right[i + 1], &there, false, i + 1);
        turn(1);
        ck_assert_int_lt(lowest_free(), before + 40);
    }
}
END_TEST

/* Both ends are in line, behind many who wait for nobody. */
START_TEST(who_waits_for_a_name_gets_one_in_time)
{
    for (unsigned i = 0; i < 100; i++) {
        party_start(&left[i], &here, true, i);
        party_start(&right[100 + i], &there, false, 100 + i);
    }
    party_start(&left[200], &here, true, 200);
    party_start(&right[200], &there, false, 200);
    turn_until_done(&left[200]);
    turn_until_done(&right[200]);
    ck_assert_uint_eq(left[200].why, REASON_NONE);
    ck_assert_uint_eq(right[200].why, REASON_NONE);
}
END_TEST

START_TEST(hellos_wait_for_a_process_that_is_behind_with_reading)
{
    must_meet(0);
    for (unsigned i = 1; i < MANY; i++)
        party_start(&left[i], &here, true, i);
    for (int i = 0; i < 50; i++) {
        loop_turn(here.loop, never_sleep, NULL);
        usleep(500);
    }
    ck_assert(!atomic_load(&here.shm->channels->dead));
    for (unsigned i = 1; i < MANY; i++)
        party_start(&right[i], &there, false, i);
    for (unsigned i = 1; i < MANY; i++) {
        turn_until_done(&left[i]);
        ck_assert_uint_eq(left[i].why, REASON_NONE);
    }
    ck_assert_int_eq(left[0].deaths, 0);
}
END_TEST

/* Like a process that was stopped. */
START_TEST(who_waits_for_a_name_does_not_wait_for_a_peer_that_does_not_read)
{
    struct meeting *last = &right[MANY - 1].meeting;

    must_meet(0);
    for (unsigned i = 1; i < MANY / 2; i++)
        party_start(&left[i], &here, true, i);
    for (unsigned i = MANY - 40; i < MANY; i++)
        party_start(&right[i], &here, false, i);
    ck_assert(TAILQ_FIRST(&here.shm->waiting)->asks);
    ck_assert(last->waits);
    while (last->waits) /* the time of the meeting ends it as well */
        loop_turn(here.loop, never_sleep, NULL);
    ck_assert_int_eq(right[MANY - 1].done, 0);
    ck_assert_int_ge(last->listener.fd, 0);
}
END_TEST

START_TEST(more_links_than_one_arena_holds_get_a_second_one)
{
    struct arena *first;

    for (unsigned i = 0; i < SHM_LINKS + 3; i++)
        must_meet(i);
    first = (struct arena *)left[0].link->peer;
    ck_assert_ptr_ne(left[SHM_LINKS].link->peer, &first->peer);
    ck_assert_ptr_eq(left[SHM_LINKS - 1].link->peer, &first->peer);
    say_something(0);
    say_something(SHM_LINKS - 1);
    say_something(SHM_LINKS);
    ck_assert_uint_eq(n_channels(&here), 1);
}
END_TEST

START_TEST(a_slot_is_used_again_when_both_ends_are_done_with_it)
{
    unsigned idx;

    must_meet(0);
    idx = shm_link_of(&right[0])->idx;
    drop(&right[0]);
    turn(2);
    ck_assert_int_eq(left[0].deaths, 1);
    must_meet(1); /* the other end still has it */
    ck_assert_uint_ne(shm_link_of(&right[1])->idx, idx);
    drop(&left[0]);
    turn(2);
    must_meet(2);
    ck_assert_uint_eq(shm_link_of(&right[2])->idx, idx);
    say_something(2);
    ck_assert_uint_eq(here.shm->links, 2);
    ck_assert_uint_eq(there.shm->links, 2);
}
END_TEST

START_TEST(a_peer_that_goes_leaves_its_bytes_and_no_channel)
{
    struct control_message word = {.type = MESSAGE_WILLING, .number = 3};
    struct link *r;
    uint64_t landed = 0;

    must_meet(0);
    say_something(0);
    r = right[0].link;
    ck_assert(r->ops->peer_alive(r));
    ck_assert_int_eq(r->ops->drain(r), -EAGAIN);
    left[0].link->ops->commit(left[0].link, 110);
    drop(&left[0]);
    side_stop(&here);
    ck_assert_int_eq(r->ops->drain(r), -EPIPE);
    turn(2);
    ck_assert(!r->ops->peer_alive(r));
    ck_assert_int_ge(right[0].deaths, 1);
    ck_assert_int_eq(r->ops->send(r, &word), -EPIPE);
    ck_assert_int_eq(r->ops->drain(r), -EPIPE);
    ck_assert_int_eq(r->ops->landed(r, 106, 106, &landed), 0);
    ck_assert_uint_eq(landed, 110);
}
END_TEST

START_TEST(messages_reach_the_stream_they_are_about)
{
    struct control_message word = {.type = MESSAGE_WILLING, .number = 3};

    must_meet(0);
    must_meet(1);
    ck_assert_int_eq(left[1].link->ops->send(left[1].link, &word), 0);
    ck_assert_int_eq(right[0].link->ops->drain(right[0].link), -EAGAIN);
    ck_assert_int_eq(right[0].messages, 0);
    ck_assert_int_eq(right[1].messages, 1);
    ck_assert_uint_eq(right[1].last.number, 3);
    ck_assert_int_eq(right[0].link->ops->send(right[0].link, &word), 0);
    turn(2);
    ck_assert_int_eq(left[0].messages, 1);
    ck_assert_int_eq(left[1].messages, 0);
}
END_TEST

static int depth, deepest;

static void drain_what_heard(struct party *p)
{
    depth++;
    if (depth > deepest)
        deepest = depth;
    ck_assert_int_eq(p->link->ops->drain(p->link), -EAGAIN);
    depth--;
}

/* As many as the peer likes may be about to ask; there is one stack. */
START_TEST(streams_that_drain_when_they_hear_something_do_not_pile_up)
{
    struct control_message word = {.type = MESSAGE_WILLING};

    for (unsigned i = 0; i < 20; i++) {
        must_meet(i);
        right[i].heard = drain_what_heard;
    }
    for (unsigned i = 0; i < 20; i++)
        ck_assert_int_eq(left[i].link->ops->send(left[i].link, &word), 0);
    ck_assert_int_eq(right[0].link->ops->drain(right[0].link), -EAGAIN);
    turn(2);
    ck_assert_int_le(deepest, 2);
    for (unsigned i = 0; i < 20; i++)
        right[i].heard = NULL;
    turn(2);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_uint_eq(right[i].last.type, MESSAGE_PONG);
}
END_TEST

static void say_another(struct party *p)
{
    struct control_message word = {.type = MESSAGE_WILLING};

    ck_assert_int_lt(p->messages, 100000);
    ck_assert_int_eq(left[0].link->ops->send(left[0].link, &word), 0);
}

START_TEST(a_peer_that_never_stops_talking_is_not_drained_for_ever)
{
    must_meet(0);
    right[0].heard = say_another;
    say_another(&right[0]);
    ck_assert_int_eq(right[0].link->ops->drain(right[0].link), -EAGAIN);
    right[0].heard = NULL;
}
END_TEST

START_TEST(counts_that_cannot_be_true_keep_both_ends_on_tcp)
{
    left[0].took = 1; /* more than the other end ever wrote */
    meet(0);
    ck_assert_uint_eq(left[0].why, REASON_FOREIGN_BYTES);
    ck_assert_uint_eq(right[0].why, REASON_FOREIGN_BYTES);
    ck_assert_ptr_null(left[0].link);
    ck_assert_ptr_null(right[0].link);
}
END_TEST

START_TEST(untrue_counts_are_seen_by_the_connecting_end_too)
{
    right[0].took = 1;
    meet(0);
    ck_assert_uint_eq(left[0].why, REASON_FOREIGN_BYTES);
    ck_assert_ptr_null(left[0].link);
    turn(2);
    ck_assert_int_eq(right[0].deaths, 1);
}
END_TEST

START_TEST(counts_are_not_judged_while_a_call_is_under_way)
{
    left[0].took = right[0].took = 1;
    left[0].uncounted = right[0].uncounted = true;
    meet(0);
    ck_assert_ptr_nonnull(left[0].link);
    ck_assert_ptr_nonnull(right[0].link);
}
END_TEST

START_TEST(an_accepting_end_in_a_call_lets_the_other_one_wait)
{
    right[0].uncounted = true;
    meet(0);
    ck_assert_ptr_nonnull(left[0].link);
    ck_assert_uint_eq(left[0].why, REASON_BARE_READ);
    ck_assert_uint_eq(right[0].why, REASON_BARE_READ);
    left[1].uncounted = true; /* its own it knows itself */
    must_meet(1);
}
END_TEST

START_TEST(the_limit_of_links_is_a_reason_at_both_ends)
{
    there.shm->config.max_links = 1;
    must_meet(0);
    meet(1);
    ck_assert_uint_eq(left[1].why, REASON_LIMIT);
    ck_assert_uint_eq(right[1].why, REASON_LIMIT);
    drop(&right[0]);
    drop(&left[0]);
    turn(2);
    must_meet(2);
}
END_TEST

START_TEST(the_limit_of_the_connecting_end_is_a_reason_as_well)
{
    here.shm->config.max_memory = shm_link_size(RING);
    must_meet(0);
    meet(1);
    ck_assert_uint_eq(left[1].why, REASON_LIMIT);
    turn(2);
    ck_assert_int_eq(right[1].deaths, 1);
    drop(&right[1]);
    turn(2);
    drop(&right[0]);
    drop(&left[0]);
    turn(2);
    must_meet(2);
    /* Nothing of the refused one is left: its slot is free again. */
    ck_assert_uint_lt(shm_link_of(&right[2])->idx, 2);
}
END_TEST

START_TEST(the_limit_of_memory_is_a_reason)
{
    there.shm->config.max_memory = shm_link_size(RING) - 1;
    meet(0);
    ck_assert_uint_eq(left[0].why, REASON_LIMIT);
    ck_assert_uint_eq(right[0].why, REASON_LIMIT);
}
END_TEST

START_TEST(who_waits_alone_is_told_in_time)
{
    here.shm->config.meet_ns = there.shm->config.meet_ns = 4000000;
    party_start(&left[0], &here, true, 0);
    turn_until_done(&left[0]);
    ck_assert_uint_eq(left[0].why, REASON_NO_PEER_LIBRARY);
    party_start(&right[1], &there, false, 1);
    turn_until_done(&right[1]);
    ck_assert_uint_eq(right[1].why, REASON_NO_PEER_LIBRARY);
}
END_TEST

START_TEST(a_cancelled_meeting_is_never_done)
{
    party_start(&left[0], &here, true, 0);
    party_start(&right[1], &there, false, 1);
    turn(1);
    meeting_cancel(&left[0].meeting);
    meeting_cancel(&right[1].meeting);
    meeting_cancel(&right[1].meeting);
    party_start(&right[0], &there, false, 0);
    turn(3);
    ck_assert_int_eq(left[0].done + right[0].done + right[1].done, 0);
    /* Its names are free again. */
    must_meet(1);
}
END_TEST

START_TEST(a_welcome_for_a_cancelled_meeting_frees_the_link)
{
    must_meet(0);
    party_start(&left[1], &here, true, 1);
    loop_turn(there.loop, never_sleep, NULL);
    party_start(&right[1], &there, false, 1);
    ck_assert_int_eq(right[1].done, 1);
    meeting_cancel(&left[1].meeting);
    turn(3);
    ck_assert_int_eq(left[1].done, 0);
    ck_assert_int_eq(right[1].deaths, 1);
}
END_TEST

START_TEST(addresses_of_this_host_suit_and_others_do_not)
{
    const struct backend_ops *ops = &fastsock_backend_shm;
    struct connection_name n = {
        .family = 4, .server = {127, 0, 0, 1}, .client = {127, 9, 9, 9}};
    struct backend *b = &here.shm->backend;

    ck_assert_uint_eq(ops->suits(b, &n), REASON_NONE);
    memcpy(n.client, (uint8_t[]){192, 0, 2, 1}, 4);
    ck_assert_uint_eq(ops->suits(b, &n), REASON_OTHER_HOST);
    ck_assert_uint_eq(ops->suits(b, &n), REASON_OTHER_HOST);
    memcpy(n.server, n.client, 4);
    ck_assert_uint_eq(ops->suits(b, &n), REASON_NONE);
    n = (struct connection_name){.family = 6,
                                 .server = {[15] = 1},
                                 .client = {0x20, 1, 0xd, 0xb8, [15] = 1}};
    ck_assert_uint_eq(ops->suits(b, &n), REASON_OTHER_HOST);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm_meeting");
    TCase *t = tcase_create("shm_meeting");

    tcase_add_checked_fixture(t, start, stop);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, two_ends_meet_when_the_accepting_one_comes_first);
    tcase_add_test(t, two_ends_meet_when_the_connecting_one_comes_first);
    tcase_add_test(t, later_links_use_the_channel_that_is_there);
    tcase_add_test(t,
                   who_was_called_before_waits_a_moment_before_it_takes_a_name);
    tcase_add_test(t, a_stranger_finds_the_name_of_who_was_called_before);
    tcase_add_test(t, a_hello_that_comes_too_early_is_kept);
    tcase_add_test(t, early_hellos_that_were_not_kept_still_meet);
    tcase_add_test(t, those_who_find_nobody_hold_few_descriptors);
    tcase_add_test(t, who_waits_for_a_name_gets_one_in_time);
    tcase_add_test(t, hellos_wait_for_a_process_that_is_behind_with_reading);
    tcase_add_test(
        t, who_waits_for_a_name_does_not_wait_for_a_peer_that_does_not_read);
    tcase_add_test(t, more_links_than_one_arena_holds_get_a_second_one);
    tcase_add_test(t, a_slot_is_used_again_when_both_ends_are_done_with_it);
    tcase_add_test(t, a_peer_that_goes_leaves_its_bytes_and_no_channel);
    tcase_add_test(t, messages_reach_the_stream_they_are_about);
    tcase_add_test(t,
                   streams_that_drain_when_they_hear_something_do_not_pile_up);
    tcase_add_test(t, a_peer_that_never_stops_talking_is_not_drained_for_ever);
    tcase_add_test(t, counts_that_cannot_be_true_keep_both_ends_on_tcp);
    tcase_add_test(t, untrue_counts_are_seen_by_the_connecting_end_too);
    tcase_add_test(t, counts_are_not_judged_while_a_call_is_under_way);
    tcase_add_test(t, an_accepting_end_in_a_call_lets_the_other_one_wait);
    tcase_add_test(t, the_limit_of_links_is_a_reason_at_both_ends);
    tcase_add_test(t, the_limit_of_the_connecting_end_is_a_reason_as_well);
    tcase_add_test(t, the_limit_of_memory_is_a_reason);
    tcase_add_test(t, who_waits_alone_is_told_in_time);
    tcase_add_test(t, a_cancelled_meeting_is_never_done);
    tcase_add_test(t, a_welcome_for_a_cancelled_meeting_frees_the_link);
    tcase_add_test(t, addresses_of_this_host_suit_and_others_do_not);
    suite_add_tcase(s, t);
    return run_suite(s);
}
