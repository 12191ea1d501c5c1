/*
 * A signal handler that has interrupted its own thread inside a call on a
 * stream: such a thread holds one of the stream's locks, as these tests do.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static struct two_ends pair;

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

static void up(void)
{
    struct two_ends_settings s = {
        .tcp = {.buffer = 4096, .by_hand = true}, .ring = 64, .seed = 5};

    alarm(20);
    two_ends_start(&pair, &s);
    two_ends_go_up(&pair);
}

START_TEST(what_the_thread_holds_it_goes_on_holding)
{
    struct stream *s;
    struct lock *locks[3];

    up();
    s = stream(0);
    locks[0] = &s->rx, locks[1] = &s->tx, locks[2] = &s->stage;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(lock_take(locks[i]), 0);
        stream_hold_expired(s);
        stream_progress(s);
        stream_keep_error(s, EPIPE);
        stream_take_error(s);
        stream_on_tcp(s);
        for (int j = 0; j < 3; j++)
            ck_assert_int_eq(lock_is_mine(locks[j]), i == j);
        lock_give(locks[i]);
    }
    ck_assert_int_eq(end_write(&pair.end[0], 30), 30);
    ck_assert_int_eq(end_read(&pair.end[1], 64), 30);
}
END_TEST

START_TEST(a_shutdown_is_left_to_the_helper)
{
    up();
    lock_take(&stream(0)->tx);
    ck_assert_int_eq(stream_shutdown(stream(0), SHUT_WR), 0);
    ck_assert(!atomic_load(&stream(0)->shut_wr));
    lock_give(&stream(0)->tx);
    two_ends_settle(&pair);
    ck_assert(atomic_load(&stream(0)->shut_wr));
    ck_assert_int_eq(end_read(&pair.end[1], 64), 0);
    ck_assert_int_eq(end_write(&pair.end[0], 1), -EPIPE);
}
END_TEST

static void *take_all(void *arg)
{
    stream_lock_all(arg);
    stream_unlock_all(arg);
    return NULL;
}

/* Who holds one of the locks and waits for ours waits for the handler's end. */
START_TEST(it_does_not_wait_for_who_waits_for_its_thread)
{
    struct stream *s;
    struct pollfd nothing;
    struct iovec iov;
    pthread_t other;
    struct peer *peer;
    char byte;

    up();
    s = stream(1);
    iov = (struct iovec){&byte, 1};
    ck_assert_int_eq(end_write(&pair.end[0], 5), 5);
    lock_take(&s->tx);
    ck_assert_int_eq(pthread_create(&other, NULL, take_all, s), 0);
    while (atomic_load(&s->rx.word) == 0)
        poll(&nothing, 0, 1);
    ck_assert_int_eq(stream_recv(s, &iov, 1, 0), -EDEADLK);
    ck_assert_int_eq(stream_send(s, &iov, 1, 0, 0), -EDEADLK);
    ck_assert(stream_ready(s) & POLLIN); /* that can be told */
    stream_wait_for(s, POLLIN, 1, &peer);
    if (peer != NULL) {
        peer->ops->peer_arm(peer, 1, false);
        peer->ops->peer_put(peer);
    }
    stream_write_refused(s);
    ck_assert_int_eq(stream_unread(s), 0);
    ck_assert_int_eq(stream_unsent(s), 0);
    lock_give(&s->tx);
    pthread_join(other, NULL);
    ck_assert_int_eq(end_read(&pair.end[1], 64), 5);
}
END_TEST

/* In the midst of another stream's change, say: who has this one may wait. */
START_TEST(nor_for_a_stream_of_which_its_thread_holds_nothing)
{
    struct lock outer = {0};
    struct stream *s;
    struct iovec iov;
    pthread_t other;
    char byte;

    up();
    s = stream(1);
    iov = (struct iovec){&byte, 1};
    ck_assert_int_eq(end_write(&pair.end[0], 5), 5);
    lock_take(&s->tx); /* to stop the other one */
    ck_assert_int_eq(pthread_create(&other, NULL, take_all, s), 0);
    while (atomic_load(&s->rx.word) == 0)
        sched_yield();
    lock_enter(&outer);
    ck_assert_int_eq(stream_recv(s, &iov, 1, 0), -EDEADLK);
    ck_assert(!stream_progress(s));
    lock_leave(&outer);
    ck_assert(lock_try_enter(&outer)); /* a device's, say */
    ck_assert_int_eq(stream_recv(s, &iov, 1, 0), -EDEADLK);
    lock_leave(&outer);
    lock_give(&s->tx);
    pthread_join(other, NULL);
    lock_enter(&outer);
    ck_assert_int_eq(stream_recv(s, &iov, 1, 0), 1); /* it is free */
    lock_leave(&outer);
}
END_TEST

/* The thread that it has interrupted holds one direction: no stage changes. */
START_TEST(a_broken_rule_is_told_in_a_handler_too)
{
    struct stream *s;
    struct iovec iov;
    char byte = 'x';

    up();
    s = stream(1);
    iov = (struct iovec){&byte, 1};
    lock_take(&s->tx);
    pair.wire.lie[0] = true;
    pair.wire.lie_commit[0] = UINT64_MAX / 4;
    ck_assert_int_eq(stream_recv(s, &iov, 1, 0), -ECONNRESET);
    lock_give(&s->tx);
    stream_progress(s); /* as the helper does that was asked */
    ck_assert_int_eq(s->h.stage, STAGE_DEAD);
}
END_TEST

START_TEST(so_it_is_to_one_that_writes)
{
    struct stream *s;
    struct iovec iov;
    char byte = 'x';

    up();
    s = stream(1);
    iov = (struct iovec){&byte, 1};
    ck_assert_int_eq(end_write(&pair.end[1], 64), 64); /* now it is full */
    lock_take(&s->rx);
    pair.wire.lie_commit[0] = s->h.landed;
    pair.wire.lie_release[0] = UINT64_MAX / 4;
    pair.wire.lie[0] = true;
    ck_assert_int_eq(stream_send(s, &iov, 1, 0, 0), -ECONNRESET);
    lock_give(&s->rx);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stream_handler");
    TCase *t = tcase_create("stream_handler");

    tcase_add_test(t, what_the_thread_holds_it_goes_on_holding);
    tcase_add_test(t, a_broken_rule_is_told_in_a_handler_too);
    tcase_add_test(t, so_it_is_to_one_that_writes);
    tcase_add_test(t, a_shutdown_is_left_to_the_helper);
    tcase_add_test(t, it_does_not_wait_for_who_waits_for_its_thread);
    tcase_add_test(t, nor_for_a_stream_of_which_its_thread_holds_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
