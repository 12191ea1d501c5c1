/* The order of use. */
#include "store/engine/lru.h"

#include <check.h>

#include "tests/support/run_suite.h"

/* Remove from the oldest on; the places must come in this order. */
static void expect_order(struct lru *lru, const uint32_t *places, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(lru->oldest, places[i]);
        ck_assert(lru_contains(lru, places[i]));
        lru_remove(lru, places[i]);
        ck_assert(!lru_contains(lru, places[i]));
    }
    ck_assert_uint_eq(lru->oldest, LRU_NONE);
    ck_assert_uint_eq(lru->newest, LRU_NONE);
    ck_assert_uint_eq(lru->n, 0);
}

START_TEST(the_one_touched_last_goes_last)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 8), 0);
    for (uint32_t i = 0; i < 4; i++)
        lru_insert(&lru, i);
    lru_touch(&lru, 1);
    lru_touch(&lru, 0);
    lru_touch(&lru, 0);
    ck_assert(lru_before(&lru, 2, 3));
    ck_assert(lru_before(&lru, 3, 0));
    ck_assert(!lru_before(&lru, 0, 1));
    expect_order(&lru, (const uint32_t[]){2, 3, 1, 0}, 4);
    lru_fini(&lru);
}
END_TEST

START_TEST(an_item_that_moves_keeps_its_rank_and_pin)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 16), 0);
    for (uint32_t i = 0; i < 5; i++)
        lru_insert(&lru, i);
    *lru_pin(&lru, 2) = 9;
    lru_move(&lru, 2, 10); /* middle, then both ends */
    lru_move(&lru, 0, 11);
    lru_move(&lru, 4, 12);
    ck_assert_uint_eq(*lru_pin(&lru, 10), 9);
    ck_assert(!lru_contains(&lru, 2));
    expect_order(&lru, (const uint32_t[]){11, 1, 10, 3, 12}, 5);
    lru_fini(&lru);
}
END_TEST

START_TEST(a_single_item_can_be_moved_touched_and_removed)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 4), 0);
    lru_insert(&lru, 3);
    lru_touch(&lru, 3);
    lru_move(&lru, 3, 0);
    expect_order(&lru, (const uint32_t[]){0}, 1);
    lru_fini(&lru);
}
END_TEST

START_TEST(among_many_a_touch_of_an_old_one_still_counts)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 1000), 0);
    for (uint32_t i = 0; i < 1000; i++)
        lru_insert(&lru, i);
    lru_touch(&lru, 0);
    lru_touch(&lru, 1);
    ck_assert_uint_eq(lru.oldest, 2);
    ck_assert_uint_eq(lru.newest, 1);
    lru_fini(&lru);
}
END_TEST

START_TEST(without_an_order_it_is_known_who_is_there)
{
    struct lru lru;
    lru_init(&lru, false);
    ck_assert_int_eq(lru_add_chunk(&lru, 1, 200), 0);
    uint32_t first = LRU_CHUNK, other = LRU_CHUNK + 199;
    lru_insert(&lru, first);
    *lru_pin(&lru, first) = 7;
    lru_touch(&lru, first);
    lru_move(&lru, first, other);
    ck_assert(!lru_contains(&lru, first) && lru_contains(&lru, other));
    ck_assert_uint_eq(*lru_pin(&lru, other), 7);
    ck_assert_uint_eq(lru.oldest, LRU_NONE);
    lru_remove(&lru, other);
    ck_assert_uint_eq(lru.n, 0);
    lru_fini(&lru);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lru");
    TCase *tcase = tcase_create("lru");
    tcase_add_test(tcase, the_one_touched_last_goes_last);
    tcase_add_test(tcase, an_item_that_moves_keeps_its_rank_and_pin);
    tcase_add_test(tcase, a_single_item_can_be_moved_touched_and_removed);
    tcase_add_test(tcase, among_many_a_touch_of_an_old_one_still_counts);
    tcase_add_test(tcase, without_an_order_it_is_known_who_is_there);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
