/*
 * Memory for the length of one call (preload/scratch.h).
 */
#include "preload/scratch.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

enum { MANY = 40, LARGE = 1000000 };

static const size_t sizes[] = {1, 4096, 65536, 65537, LARGE};

START_TEST(all_of_it_can_be_written)
{
    for (int i = 0; i < 2; i++) {
        char *at = scratch_get(sizes[_i]);

        ck_assert_ptr_nonnull(at);
        memset(at, 1, sizes[_i]);
        scratch_put(at, sizes[_i]);
    }
}
END_TEST

START_TEST(what_is_in_use_is_nobody_elses)
{
    char *at[MANY];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++) {
            at[i] = scratch_get(4096);
            memset(at[i], i, 4096);
        }
        for (int i = 0; i < MANY; i++) {
            ck_assert_int_eq(at[i][0], i);
            ck_assert_int_eq(at[i][4095], i);
            scratch_put(at[i], 4096);
        }
    }
}
END_TEST

START_TEST(it_is_kept_for_the_next_call)
{
    void *at = scratch_get(100);

    scratch_put(at, 100);
    ck_assert_ptr_eq(scratch_get(60000), at);
    scratch_put(at, 60000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("scratch");
    TCase *t = tcase_create("scratch");

    tcase_add_loop_test(t, all_of_it_can_be_written, 0,
                        (int)(sizeof(sizes) / sizeof(sizes[0])));
    tcase_add_test(t, what_is_in_use_is_nobody_elses);
    tcase_add_test(t, it_is_kept_for_the_next_call);
    suite_add_tcase(s, t);
    return run_suite(s);
}
