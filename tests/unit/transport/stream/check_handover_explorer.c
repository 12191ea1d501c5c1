/*
 * Every order of events, as far as worlds of a byte or two have them; how is
 * in tests/support/explorer.h.
 *
 * Scenarios of docs/handover.md, section 13: 1, 4, 5, 8, 9, 10, 11, 12, 20, 27.
 */
#include "tests/support/explorer.h"

#include <check.h>
#include <stdlib.h>

#include "tests/support/run_suite.h"

START_TEST(one_epoch_of_one_byte_with_all_faults_loses_nothing)
{
    explore_all(&(struct explored){1, 1, true, true, .least = 300000});
}
END_TEST

START_TEST(two_epochs_lose_nothing)
{
    explore_all(&(struct explored){1, 2, .least = 200000});
}
END_TEST

/* The end that connects, the one that accepts, or both. */
START_TEST(before_a_careful_end_leaves_tcp_all_was_read)
{
    struct explored w = {1, 1, .breaks = _i == 0, .dies = _i == 1};

    w.careful[0] = _i != 1;
    w.careful[1] = _i != 0;
    w.least = 30000;
    explore_all(&w);
}
END_TEST

START_TEST(an_end_that_becomes_careful_loses_nothing)
{
    explore_all(&(struct explored){1, 1, .become = true, .least = 30000});
}
END_TEST

/* Less than a minute: for the night. */
START_TEST(larger_worlds_lose_nothing)
{
    static const struct explored worlds[] = {
        {2, 1, true, false, .least = 1500000},
        {1, 2, true, true, .least = 2500000},
        {1, 1, true, true, {true, false}, .least = 500000},
        {1, 1, true, true, {false, true}, .least = 500000},
        {1, 2, .careful = {true, true}, .least = 500000},
        {1, 1, .dies = true, .become = true, .least = 1000000},
    };

    if (getenv("LONG") == NULL)
        return;
    for (unsigned i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
        explore_all(&worlds[i]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handover explorer");
    TCase *tc = tcase_create("every order");

    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, one_epoch_of_one_byte_with_all_faults_loses_nothing);
    tcase_add_test(tc, two_epochs_lose_nothing);
    tcase_add_loop_test(tc, before_a_careful_end_leaves_tcp_all_was_read, 0, 3);
    tcase_add_test(tc, an_end_that_becomes_careful_loses_nothing);
    tcase_add_test(tc, larger_worlds_lose_nothing);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
