/* Copies of small values last through the turn after theirs. */
#include "store/engine/borrow.h"

#include <check.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/run_suite.h"

START_TEST(a_copy_lasts_through_the_next_turn)
{
    struct borrow borrow;
    const uint32_t *old[3000], *now[3000];
    borrow_init(&borrow);
    for (uint32_t turn = 0; turn < 4; turn++) {
        for (uint32_t i = 0; i < 3000; i++) {
            uint32_t bytes[8] = {turn, i};
            now[i] = borrow_put(&borrow, bytes, sizeof(bytes));
            ck_assert_ptr_nonnull(now[i]);
        }
        for (uint32_t i = 0; i < 3000; i++) {
            ck_assert(now[i][0] == turn && now[i][1] == i);
            if (turn > 0)
                ck_assert(old[i][0] == turn - 1 && old[i][1] == i);
        }
        memcpy(old, now, sizeof(old));
        borrow_turn(&borrow);
    }
    borrow_clear(&borrow);
    ck_assert_ptr_null(borrow.now);
    ck_assert_ptr_null(borrow.before);
    borrow_fini(&borrow);
}
END_TEST

START_TEST(an_empty_value_has_a_place_too)
{
    struct borrow borrow;
    borrow_init(&borrow);
    ck_assert_ptr_nonnull(borrow_put(&borrow, "", 0));
    borrow_fini(&borrow);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("borrow");
    TCase *tcase = tcase_create("borrow");
    tcase_add_test(tcase, a_copy_lasts_through_the_next_turn);
    tcase_add_test(tcase, an_empty_value_has_a_place_too);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
