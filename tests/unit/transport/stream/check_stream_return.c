/*
 * What a stream that has returned leaves on TCP, for others than itself.
 */
#include "tests/unit/transport/stream/two_ends.h"

#include <check.h>
#include <errno.h>
#include <poll.h>

#include "tests/support/run_suite.h"

enum { RING = 64 };

static struct two_ends pair;

static struct stream *stream(int side)
{
    return &pair.end[side].stream;
}

static void prepare(void)
{
    two_ends_start_by_hand(&pair, RING);
}

/* What a third party reads are raw bytes from exactly here. */
START_TEST(a_third_party_finds_every_unread_byte_on_tcp)
{
    for (size_t unread = 0; unread <= RING; unread += 16)
        for (int side = 0; side < 2; side++) {
            prepare();
            two_ends_go_up(&pair);
            if (unread > 0)
                ck_assert_int_eq(end_write(&pair.end[!side], unread), unread);
            stream_wish(stream(side), WISH_RETURN, REASON_EXEC);
            two_ends_settle(&pair);
            ck_assert(stream_on_tcp(stream(side)));
            ck_assert_uint_eq(fake_tcp_unread(pair.end[side].fd), unread);
            if (unread > 0)
                ck_assert_int_eq(end_read(&pair.end[side], RING), unread);
            ck_assert_ptr_null(pair.wrong);
        }
}
END_TEST

/* A process that a fork has made may read a part of the repeat, or all. */
START_TEST(what_another_holder_read_was_not_cut_off)
{
    char bytes[64];
    struct iovec iov = {bytes, sizeof(bytes)};

    for (size_t others = 0; others <= 40; others++)
        for (unsigned cut = 0; cut <= 3; cut++) {
            size_t rest = 40 - others;

            prepare();
            two_ends_go_up(&pair);
            ck_assert_int_eq(end_write(&pair.end[0], 40), 40);
            stream_wish(stream(1), WISH_RETURN, REASON_FORK);
            two_ends_settle(&pair);
            ck_assert(stream_on_tcp(stream(1)));
            stream(1)->h.repeat_end += cut; /* as if it had been longer */
            fake_tcp_foreign_read(pair.end[1].fd, bytes, others);
            fake_tcp_calls.shutdown(pair.end[0].fd, SHUT_WR);
            fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
            if (rest > 0)
                ck_assert_int_eq(stream_recv(stream(1), &iov, 1, 0), rest);
            if (cut > 0)
                ck_assert_int_eq(stream_recv(stream(1), &iov, 1, 0),
                                 -ECONNRESET);
            ck_assert_int_eq(stream_recv(stream(1), &iov, 1, 0), 0);
        }
}
END_TEST

/* The last look before an end agrees; a third party may write at once. */
START_TEST(an_end_that_is_to_stay_neither_proposes_nor_agrees)
{
    prepare();
    pair.end[0].stays = true;
    ck_assert_int_lt(stream_try_up(stream(0)), 0);
    ck_assert_int_eq(stream(0)->h.stage, STAGE_RAW);
    ck_assert(!atomic_load(&stream(0)->guard));
    pair.end[0].stays = false;
    pair.end[1].stays = true;
    ck_assert_int_eq(stream_try_up(stream(0)), 0);
    two_ends_settle(&pair);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(stream(i)->h.stage, STAGE_RAW);
        ck_assert(!atomic_load(&stream(i)->guard));
        ck_assert_uint_eq(stream(i)->ups, 0);
    }
    two_ends_talk(&pair, 0, 40);
    pair.end[1].stays = false;
    two_ends_go_up(&pair);
}
END_TEST

/* What is asked about a stream that is on TCP is asked of the kernel. */
static short ready(int side)
{
    struct pollfd p = {.fd = pair.end[side].fd, .events = (short)~POLLNVAL};

    if (!stream_on_tcp(stream(side)))
        return stream_ready(stream(side));
    fake_tcp_calls.poll(&p, 1, 0);
    return p.revents;
}

static void both_shut_down(int first)
{
    ck_assert_int_eq(end_shutdown(&pair.end[first]), 0);
    ck_assert_int_eq(end_shutdown(&pair.end[!first]), 0);
    two_ends_settle(&pair);
}

static void the_end_stays_told(int side, bool read)
{
    const short most = POLLOUT | POLLWRNORM | POLLRDHUP | POLLHUP;
    short want = read ? most | POLLIN | POLLRDNORM : most;

    for (int i = 0; i < 400; i++) {
        if ((ready(side) & want) != want)
            ck_abort_msg("end %d takes back %x: %s", side, want & ~ready(side),
                         two_ends_where(&pair));
        if (read)
            ck_assert_int_eq(end_read(&pair.end[side], 1), 0);
        switch (i % 4) {
        case 0:
        case 1:
            fake_tcp_deliver(pair.end[i % 4].fd, 1 + (size_t)i / 8);
            break;
        default:
            end_help(&pair.end[i % 4 - 2]);
        }
    }
    ck_assert(stream_on_tcp(stream(side)));
}

START_TEST(an_end_that_was_told_stays_told)
{
    for (int who = 1; who < 4; who++)
        for (int at = 0; at < 2; at++)
            for (size_t unread = 0; unread <= 40; unread += 40) {
                prepare();
                two_ends_go_up(&pair);
                if (unread > 0)
                    ck_assert_int_eq(end_write(&pair.end[!at], unread), unread);
                both_shut_down(at);
                for (int i = 0; i < 2; i++)
                    if (who >> i & 1)
                        stream_wish(stream(i), WISH_RETURN, REASON_WANTED);
                the_end_stays_told(at, unread == 0);
                two_ends_settle(&pair);
                if (unread > 0)
                    ck_assert_int_eq(end_read(&pair.end[at], RING), unread);
                ck_assert_int_eq(end_read(&pair.end[at], RING), 0);
                ck_assert_ptr_null(pair.wrong);
            }
}
END_TEST

/* recvmmsg() and SO_ERROR ask for it before the end that came first. */
START_TEST(an_error_behind_the_end_on_tcp_is_told)
{
    prepare();
    fake_tcp_close(pair.end[1].fd);
    fake_tcp_deliver(pair.end[1].fd, SIZE_MAX);
    ck_assert_int_eq(end_read(&pair.end[0], RING), 0);
    ck_assert_int_eq(stream_take_error(stream(0)), 0);
    ck_assert_int_eq(end_write(&pair.end[0], 7), 7);
    fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
    fake_tcp_deliver(pair.end[1].fd, SIZE_MAX);
    ck_assert(fake_tcp_was_reset(pair.end[0].fd));
    ck_assert_int_eq(end_read(&pair.end[0], RING), 0);
    ck_assert_int_eq(stream_take_error(stream(0)), EPIPE);
    ck_assert_int_eq(stream_take_error(stream(0)), 0);
}
END_TEST

/* A peer that stands still just before it would hold up a fork, say. */
START_TEST(a_fin_is_not_waited_for_for_long)
{
    prepare();
    two_ends_go_up(&pair);
    both_shut_down(0);
    stream_wish(stream(0), WISH_RETURN, REASON_FORK);
    for (int i = 0; i < 9; i++) { /* the FIN alone does not arrive */
        size_t n;

        fake_tcp_deliver(pair.end[0].fd, SIZE_MAX);
        end_help(&pair.end[1]);
        fake_tcp_queue(pair.end[1].fd, &n);
        fake_tcp_deliver(pair.end[1].fd, n);
        end_help(&pair.end[0]);
    }
    ck_assert(!stream_on_tcp(stream(0)));
    ck_assert(stream_awaits_fin(stream(0)));
    ck_assert(fake_tcp_said_fin(pair.end[0].fd));
    fake_clock_advance(1000000000);
    end_help(&pair.end[0]);
    ck_assert(stream_on_tcp(stream(0)));
    ck_assert(!stream_awaits_fin(stream(0)));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream return");
    TCase *tc = tcase_create("on TCP");

    tcase_add_test(tc, a_third_party_finds_every_unread_byte_on_tcp);
    tcase_add_test(tc, what_another_holder_read_was_not_cut_off);
    tcase_add_test(tc, an_end_that_is_to_stay_neither_proposes_nor_agrees);
    tcase_add_test(tc, an_end_that_was_told_stays_told);
    tcase_add_test(tc, an_error_behind_the_end_on_tcp_is_told);
    tcase_add_test(tc, a_fin_is_not_waited_for_for_long);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
