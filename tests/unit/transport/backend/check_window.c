#include "transport/backend/window.h"

#include <check.h>

#include "tests/support/run_suite.h"

static struct window w;

static void start(void)
{
    w = (struct window){.size = 8};
}

START_TEST(a_window_is_open_for_as_many_as_it_has_and_no_more)
{
    for (int i = 0; i < 8; i++) {
        ck_assert(window_open(&w));
        window_send(&w);
    }
    ck_assert(!window_open(&w));
    window_unsend(&w);
    ck_assert(window_open(&w));
    window_send(&w);
    ck_assert_int_eq(window_return(&w, 3), 0);
    for (int i = 0; i < 3; i++) {
        ck_assert(window_open(&w));
        window_send(&w);
    }
    ck_assert(!window_open(&w));
}
END_TEST

START_TEST(nobody_gives_back_what_was_not_sent_or_takes_credit_away)
{
    for (int i = 0; i < 5; i++)
        window_send(&w);
    ck_assert_int_eq(window_return(&w, 6), -EPROTO);
    ck_assert_int_eq(window_return(&w, UINT64_MAX), -EPROTO);
    ck_assert_int_eq(window_return(&w, 4), 0);
    ck_assert_int_eq(window_return(&w, 3), -EPROTO);
    ck_assert_int_eq(window_return(&w, 4), 0);
    ck_assert_int_eq(window_return(&w, 5), 0);
}
END_TEST

START_TEST(half_a_window_seen_is_told_and_then_the_count_begins_again)
{
    for (int round = 1; round < 5; round++) {
        for (int i = 0; i < 4; i++) {
            ck_assert(!window_due(&w));
            window_see(&w);
        }
        ck_assert(window_due(&w));
        ck_assert_uint_eq(window_tell(&w), (uint64_t)round * 4);
        ck_assert(!window_due(&w));
    }
}
END_TEST

/* Both ends, CREDITs as late as can be: no end waits for ever. */
START_TEST(a_sender_and_a_receiver_never_wait_for_each_other)
{
    struct window sender = {.size = 8}, receiver = {.size = 8};
    uint64_t x = 88172645463325252, credit[16], under_way = 0;
    unsigned n_credits = 0, most = 0;

    for (int step = 0; step < 100000; step++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        if (x & 1 && window_open(&sender)) {
            window_send(&sender);
            under_way++;
        } else if (x & 2 && under_way > 0) {
            under_way--;
            window_see(&receiver);
            if (window_due(&receiver))
                credit[n_credits++] = window_tell(&receiver);
        } else if (x & 4 && n_credits > 0) {
            ck_assert_int_eq(window_return(&sender, credit[0]), 0);
            for (unsigned i = 1; i < n_credits; i++)
                credit[i - 1] = credit[i];
            n_credits--;
        }
        if (n_credits > most)
            most = n_credits;
        ck_assert(window_open(&sender) || under_way > 0 || n_credits > 0);
    }
    ck_assert_uint_gt(atomic_load(&sender.sent), 10000);
    ck_assert_uint_le(most, 2);
}
END_TEST

START_TEST(a_piece_names_its_link_and_length)
{
    for (uint32_t idx = 0; idx < PIECE_LINKS; idx += 73)
        for (uint32_t len = 1; len <= PIECE_LENGTH_MOST; len = len * 3 + 1) {
            uint32_t piece = piece_make(idx, len);

            ck_assert_uint_eq(piece_index(piece), idx);
            ck_assert_uint_eq(piece_length(piece), len);
        }
    ck_assert_uint_lt(piece_index(UINT32_MAX), PIECE_LINKS);
    ck_assert_uint_eq(piece_length(UINT32_MAX), PIECE_LENGTH_MOST);
}
END_TEST

START_TEST(pieces_end_with_the_ring_and_together_are_all_of_it)
{
    for (uint64_t from = 4000; from < 4200; from++)
        for (uint64_t len = 1; len <= 4096; len += 61) {
            uint64_t at = from;

            while (at < from + len) {
                uint32_t n = piece_next(at, from + len, 4096, 1000);

                ck_assert_uint_gt(n, 0);
                ck_assert_uint_le(n, 1000);
                ck_assert_uint_le((at & 4095) + n, 4096);
                at += n;
            }
            ck_assert_uint_eq(at, from + len);
        }
}
END_TEST

START_TEST(what_lands_stays_within_what_the_ring_has_free)
{
    uint64_t landed = 1000;

    ck_assert_int_eq(piece_land(1000, 4096, 0, &landed), -EPROTO);
    ck_assert_int_eq(piece_land(1000, 4096, 4097, &landed), -EPROTO);
    ck_assert_int_eq(piece_land(1000, 4096, PIECE_LENGTH_MOST, &landed),
                     -EPROTO);
    ck_assert_uint_eq(landed, 1000);
    ck_assert_int_eq(piece_land(1000, 4096, 4000, &landed), 0);
    ck_assert_uint_eq(landed, 5000);
    ck_assert_int_eq(piece_land(1000, 4096, 97, &landed), -EPROTO);
    ck_assert_int_eq(piece_land(1000, 4096, 96, &landed), 0);
    ck_assert_uint_eq(landed, 5096);
    ck_assert_int_eq(piece_land(1000, 4096, 1, &landed), -EPROTO);
    ck_assert_int_eq(piece_land(1001, 4096, 1, &landed), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("window");
    TCase *t = tcase_create("window");

    tcase_add_checked_fixture(t, start, NULL);
    tcase_add_test(t, a_window_is_open_for_as_many_as_it_has_and_no_more);
    tcase_add_test(t, nobody_gives_back_what_was_not_sent_or_takes_credit_away);
    tcase_add_test(t,
                   half_a_window_seen_is_told_and_then_the_count_begins_again);
    tcase_add_test(t, a_sender_and_a_receiver_never_wait_for_each_other);
    tcase_add_test(t, a_piece_names_its_link_and_length);
    tcase_add_test(t, pieces_end_with_the_ring_and_together_are_all_of_it);
    tcase_add_test(t, what_lands_stays_within_what_the_ring_has_free);
    suite_add_tcase(s, t);
    return run_suite(s);
}
