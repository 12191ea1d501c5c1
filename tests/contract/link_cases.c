/* What a link carries, and how waiters learn of it; one thread. */
#include "tests/contract/contract.h"

#include <errno.h>

static struct link *l, *r;

static void linked(void)
{
    must_meet(0);
    l = left[0].link;
    r = right[0].link;
}

/* One direction: at most `step` at a time from *at on, all of it checked. */
static void carry(struct link *from, struct link *to, uint64_t *at,
                  uint32_t step)
{
    uint8_t bytes[RING];

    for (uint32_t i = 0; i < step; i++)
        bytes[i] = byte_at(*at + i);
    ring_put(&from->tx, *at, bytes, step);
    from->ops->commit(from, *at + step);
    must_land(to, *at, *at + step);
    memset(bytes, 0, sizeof(bytes));
    ring_get(&to->rx, *at, bytes, step);
    for (uint32_t i = 0; i < step; i++)
        ck_assert_uint_eq(bytes[i], byte_at(*at + i));
    *at += step;
    to->ops->release(to, *at);
    ck_assert_uint_eq(must_free(from, 0, *at, *at), *at);
}

START_TEST(bytes_of_every_size_arrive_at_every_place_of_the_ring)
{
    static const uint32_t steps[] = {1,    2,    3,    64,       65,  100,
                                     1000, 1023, 4095, RING,     777, RING,
                                     1,    RING, 2049, RING - 1, 63};
    uint64_t out = 0, in = 0;

    linked();
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        carry(l, r, &out, steps[i]);
        carry(r, l, &in, steps[sizeof(steps) / sizeof(steps[0]) - 1 - i]);
    }
    for (uint32_t i = 0; i < 200; i++)
        carry(l, r, &out, 1 + (i * 97) % RING);
}
END_TEST

/* More commits than any queue has slots, and nobody looks meanwhile. */
START_TEST(a_writer_is_never_held_up_by_a_reader_that_does_not_look)
{
    linked();
    for (uint64_t i = 0; i < RING; i++) {
        uint8_t byte = byte_at(i);

        ring_put(&l->tx, i, &byte, 1);
        l->ops->commit(l, i + 1);
    }
    must_land(r, 0, RING);
    for (uint64_t i = 0; i < RING; i++)
        ck_assert_uint_eq(r->rx.bytes[i], byte_at(i));
}
END_TEST

/* What the peer has not taken is still in the ring we wrote it to. */
START_TEST(the_ring_written_to_is_the_copy_until_it_is_freed)
{
    uint64_t freed;

    linked();
    for (uint64_t i = 0; i < RING; i++)
        l->tx.bytes[i] = byte_at(i);
    l->ops->commit(l, RING);
    must_land(r, 0, RING);
    r->ops->release(r, RING / 2);
    must_free(l, 0, RING, RING / 2 - RING / 8);
    ck_assert_int_eq(l->ops->freed(l, 0, RING, &freed), 0);
    ck_assert_uint_le(freed, RING / 2);
    for (uint64_t i = freed; i < RING; i++)
        ck_assert_uint_eq(l->tx.bytes[i], byte_at(i));
}
END_TEST

START_TEST(a_new_epoch_begins_where_it_says_and_forgets_the_old_one)
{
    uint64_t at = 0;

    linked();
    carry(l, r, &at, 1000);
    /* Left behind: committed and not taken, at both ends. */
    l->ops->commit(l, 1500);
    r->ops->commit(r, 77);
    must_land(r, 1000, 1500);
    must_land(l, 0, 77);
    for (uint32_t epoch = 1; epoch < 6; epoch++) {
        uint64_t leave = epoch * 100000, arrive = epoch * 7000;

        l->ops->start(l, epoch, leave, arrive);
        r->ops->start(r, epoch, arrive, leave);
        ck_assert_uint_eq(r->ops->arrived(r), leave);
        ck_assert_uint_eq(l->ops->arrived(l), arrive);
        ck_assert_uint_eq(must_free(l, leave, leave, leave), leave);
        carry(l, r, &leave, 900);
        carry(r, l, &arrive, 4000);
        carry(l, r, &leave, RING);
        l->ops->commit(l, leave + 9);
        must_land(r, leave, leave + 9);
    }
}
END_TEST

START_TEST(an_end_tells_the_other_which_epoch_it_has_started)
{
    linked();
    ck_assert(!l->ops->started(l, 7));
    ck_assert(!r->ops->started(r, 7));
    l->ops->start(l, 7, 0, 0);
    ck_assert(!l->ops->started(l, 7));
    ck_assert(r->ops->started(r, 7));
    ck_assert(!r->ops->started(r, 8));
    r->ops->start(r, 7, 0, 0);
    l->ops->start(l, 8, 0, 0);
    ck_assert(l->ops->started(l, 7));
    ck_assert(r->ops->started(r, 8));
    ck_assert(!r->ops->started(r, 7));
}
END_TEST

START_TEST(nobody_is_rung_who_has_not_armed)
{
    linked();
    r->ops->watch(r, WAITER);
    l->ops->commit(l, 1);
    must_land(r, 0, 1);
    turn(5);
    ck_assert_int_eq(bell_drain(there.bell), 0);
    r->ops->peer_arm(r->peer, WAITER, true);
    r->ops->peer_arm(r->peer, WAITER, false);
    l->ops->commit(l, 2);
    must_land(r, 0, 2);
    turn(5);
    ck_assert_int_eq(bell_drain(there.bell), 0);
}
END_TEST

START_TEST(an_armed_watcher_is_rung_exactly_once)
{
    linked();
    r->ops->watch(r, (uint64_t)WAITER << 32 | 9);
    r->ops->peer_arm(r->peer, WAITER, true);
    for (uint64_t at = 1; at < 10; at++)
        l->ops->commit(l, at);
    ck_assert_int_eq(must_ring(there.bell), 1);
    must_land(r, 0, 9);
    r->ops->peer_arm(r->peer, WAITER, true);
    l->ops->commit(l, 10);
    ck_assert_int_eq(must_ring(there.bell), 1);
    must_land(r, 0, 10);
    r->ops->watch(r, 9); /* it left */
    r->ops->peer_arm(r->peer, WAITER, true);
    l->ops->commit(l, 11);
    must_land(r, 0, 11);
    ck_assert_int_eq(bell_drain(there.bell), 0);
}
END_TEST

START_TEST(marks_name_the_links_with_news_and_are_taken_once)
{
    int n = contract->n_links < 70 ? contract->n_links : 70;
    int seen = 0;

    linked();
    for (int i = 1; i < n; i++)
        must_meet((unsigned)i);
    for (int i = 0; i < n; i++) {
        struct link *link = right[i].link;

        link->ops->watch(link, WAITER);
        link->ops->set_marked(link, WAITER, true);
        ck_assert_ptr_eq(link->peer, r->peer);
    }
    for (int i = 0; i < n; i += 2)
        left[i].link->ops->commit(left[i].link, 1);
    for (int i = 0; i < n; i += 2)
        must_land(right[i].link, 0, 1);
    ck_assert(r->ops->peer_has_mark(r->peer, WAITER));
    for (;;) {
        struct party *p = r->ops->peer_next_mark(r->peer, WAITER);

        if (p == NULL)
            break;
        ck_assert_int_eq((p - right) % 2, 0);
        seen++;
    }
    ck_assert_int_eq(seen, (n + 1) / 2);
    ck_assert(!r->ops->peer_has_mark(r->peer, WAITER));
}
END_TEST

START_TEST(a_writer_without_room_is_rung_when_a_third_is_free)
{
    linked();
    l->ops->commit(l, RING);
    must_land(r, 0, RING);
    l->ops->watch(l, WAITER);
    l->ops->want_room(l);
    l->ops->peer_arm(l->peer, WAITER, true);
    turn(20);
    ck_assert_int_eq(bell_drain(here.bell), 0);
    r->ops->release(r, RING / 4);
    turn(20);
    ck_assert_int_eq(bell_drain(here.bell), 0);
    r->ops->release(r, RING / 3 + 1);
    ck_assert_int_eq(must_ring(here.bell), 1);
    must_free(l, 0, RING, RING / 3 + 1);
    /* Asked once, answered once. */
    l->ops->peer_arm(l->peer, WAITER, true);
    r->ops->release(r, RING);
    must_free(l, 0, RING, RING);
    turn(20);
    ck_assert_int_eq(bell_drain(here.bell), 0);
    /* Asked when there is room: an answer, or the room itself, at once. */
    l->ops->want_room(l);
    ck_assert_uint_eq(must_free(l, 0, RING, RING), RING);
}
END_TEST

static int heard_after; /* bytes that had landed when a message came */

static void note_landed(struct party *p)
{
    uint64_t landed = 0;

    ck_assert_int_eq(p->link->ops->landed(p->link, 0, 0, &landed), 0);
    heard_after = (int)landed;
}

START_TEST(messages_come_in_order_and_behind_the_bytes_before_them)
{
    linked();
    right[0].heard = note_landed;
    for (int i = 1; i <= 100; i++) {
        struct control_message m = {.type = MESSAGE_WILLING,
                                    .number = (uint64_t)i};

        l->ops->commit(l, (uint64_t)i * 10);
        ck_assert_int_eq(l->ops->send(l, &m), 0);
        if (i % 10 == 0) {
            ck_assert(turn_until(&right[0].messages, i));
            ck_assert_uint_eq(right[0].last.number, (uint64_t)i);
            ck_assert_int_ge(heard_after, i * 10);
        }
    }
    ck_assert_int_eq(right[0].messages, 100);
    ck_assert_int_eq(left[0].messages, 0);
}
END_TEST

static void say_willing(struct link *link, int times)
{
    for (int i = 0; i < times; i++) {
        struct control_message m = {.type = MESSAGE_WILLING};

        ck_assert_int_eq(link->ops->send(link, &m), 0);
    }
}

START_TEST(drain_reads_all_that_was_said_before_or_is_told_when_it_has_come)
{
    linked();
    say_willing(l, 20);
    if (!contract->asks) {
        ck_assert_int_eq(r->ops->drain(r), 0);
        ck_assert_int_eq(right[0].messages, 20);
        return;
    }
    ck_assert_int_eq(r->ops->drain(r), -EAGAIN);
    ck_assert(turn_until(&right[0].messages, 21));
    ck_assert_int_eq(right[0].last.type, MESSAGE_PONG);
    turn(20);
    ck_assert_int_eq(right[0].messages, 21);
    /* The answer is of its moment: later it has to be asked again. */
    ck_assert_int_eq(r->ops->drain(r), -EAGAIN);
    ck_assert(turn_until(&right[0].messages, 22));
}
END_TEST

static int pongs, before_pong;

static void count_pongs(struct party *p)
{
    if (p->last.type == MESSAGE_PONG) {
        pongs++;
        before_pong = p->messages - 1;
    }
}

/* The other end answers the first question before it speaks again. */
START_TEST(who_asks_while_an_answer_is_due_hears_what_was_said_meanwhile)
{
    linked();
    pongs = 0;
    right[0].heard = count_pongs;
    ck_assert_int_eq(r->ops->drain(r), -EAGAIN);
    for (int i = 0; i < 20; i++) {
        turn_here();
        usleep(100);
    }
    say_willing(l, 3);
    /* Perhaps the first answer is read in there. */
    ck_assert_int_eq(r->ops->drain(r), -EAGAIN);
    ck_assert_int_eq(pongs, 0);
    ck_assert(turn_until(&pongs, 1));
    ck_assert_int_eq(before_pong, 3);
    turn(20);
    ck_assert_int_eq(pongs, 1);
}
END_TEST

START_TEST(bytes_are_said_to_be_delivered_once_they_are)
{
    uint64_t limit = clock_ns() + contract->patience_ns;

    linked();
    ck_assert(l->ops->delivered(l, 0));
    l->ops->commit(l, RING);
    while (!l->ops->delivered(l, RING) && clock_ns() < limit)
        turn(1);
    ck_assert(l->ops->delivered(l, RING));
    /* Nobody there has looked yet: they are in its memory all the same. */
    must_land(r, 0, RING);
}
END_TEST

START_TEST(a_freed_link_tells_the_other_end_and_carries_nothing)
{
    linked();
    l->ops->commit(l, 100);
    must_land(r, 0, 100);
    drop(&left[0]);
    ck_assert(turn_until(&right[0].deaths, 1));
    ck_assert_int_eq(right[0].breaks, 0);
    ck_assert(r->ops->peer_alive(r));
    r->ops->release(r, 100);
    r->ops->commit(r, 100);
    drop(&right[0]);
    turn(10);
    must_meet(0);
    l = left[0].link;
    r = right[0].link;
    ck_assert_uint_eq(r->ops->arrived(r), 0);
    ck_assert_uint_eq(l->ops->arrived(l), 0);
}
END_TEST

START_TEST(a_link_that_has_rested_carries_on)
{
    uint64_t out = 5, in = 5;

    linked();
    l->ops->start(l, 1, out, in);
    r->ops->start(r, 1, in, out);
    for (int i = 0; i < 5; i++) {
        carry(l, r, &out, RING - 1);
        carry(r, l, &in, 100);
        l->ops->rest(l, true);
        r->ops->rest(r, true);
        if (i % 2 == 0)
            l->ops->rest(l, false);
    }
}
END_TEST

START_TEST(an_instance_that_ends_takes_its_links_with_it)
{
    linked();
    drop(&left[0]);
    side_stop(&here);
    ck_assert(turn_until(&right[0].deaths, 1));
    drop(&right[0]);
    turn(10);
}
END_TEST

void add_link_cases(TCase *tcase)
{
    tcase_add_test(tcase,
                   bytes_of_every_size_arrive_at_every_place_of_the_ring);
    tcase_add_test(tcase,
                   a_writer_is_never_held_up_by_a_reader_that_does_not_look);
    tcase_add_test(tcase, the_ring_written_to_is_the_copy_until_it_is_freed);
    tcase_add_test(tcase,
                   a_new_epoch_begins_where_it_says_and_forgets_the_old_one);
    tcase_add_test(tcase, nobody_is_rung_who_has_not_armed);
    tcase_add_test(tcase, an_armed_watcher_is_rung_exactly_once);
    tcase_add_test(tcase, marks_name_the_links_with_news_and_are_taken_once);
    tcase_add_test(tcase, a_writer_without_room_is_rung_when_a_third_is_free);
    tcase_add_test(tcase,
                   messages_come_in_order_and_behind_the_bytes_before_them);
    tcase_add_test(
        tcase,
        drain_reads_all_that_was_said_before_or_is_told_when_it_has_come);
    tcase_add_test(tcase, a_freed_link_tells_the_other_end_and_carries_nothing);
    tcase_add_test(tcase, an_instance_that_ends_takes_its_links_with_it);
    if (contract->device) {
        contract_skips("links that rest", "registered memory stays");
        contract_skips("epochs that are told", "no memory is shared");
    } else {
        tcase_add_test(tcase, a_link_that_has_rested_carries_on);
        tcase_add_test(tcase,
                       an_end_tells_the_other_which_epoch_it_has_started);
    }
    if (contract->asks)
        tcase_add_test(
            tcase,
            who_asks_while_an_answer_is_due_hears_what_was_said_meanwhile);
    else
        contract_skips("questions asked twice",
                       "what is said is there at once");
    if (!contract->device) {
        contract_skips("delivery", "what is committed is there at once");
        return;
    }
    tcase_add_test(tcase, bytes_are_said_to_be_delivered_once_they_are);
}
