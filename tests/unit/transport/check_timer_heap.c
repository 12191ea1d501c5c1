#include "transport/timer_heap.h"

#include <check.h>
#include <stdlib.h>

#include "tests/support/fake_kernel.h"
#include "tests/support/run_suite.h"

enum { TIMERS = 200, STEPS = 200000 };

static struct timer timer[TIMERS];
static struct timer *heap;

static uint64_t earliest(void)
{
    uint64_t first = UINT64_MAX;

    for (int i = 0; i < TIMERS; i++)
        if (timer[i].added && timer[i].at_ns < first)
            first = timer[i].at_ns;
    return first;
}

START_TEST(the_first_is_always_the_one_that_expires_first)
{
    uint64_t chance = 7;

    for (int step = 0; step < STEPS; step++) {
        struct timer *t = &timer[fake_random(&chance) % TIMERS];

        timer_heap_remove(&heap, t);
        if (fake_random(&chance) % 3 != 0) {
            t->at_ns = fake_random(&chance) % 1000;
            timer_heap_put(&heap, t);
        }
        ck_assert_uint_eq(heap != NULL ? heap->at_ns : UINT64_MAX, earliest());
    }
}
END_TEST

START_TEST(all_come_out_in_order)
{
    uint64_t chance = 11, last = 0;

    for (int i = 0; i < TIMERS; i++) {
        timer_heap_remove(&heap, &timer[i]);
        timer[i].at_ns = fake_random(&chance) % 50;
        timer_heap_put(&heap, &timer[i]);
    }
    for (int i = 0; i < TIMERS; i++) {
        ck_assert_ptr_nonnull(heap);
        ck_assert_uint_ge(heap->at_ns, last);
        last = heap->at_ns;
        timer_heap_remove(&heap, heap);
    }
    ck_assert_ptr_null(heap);
}
END_TEST

START_TEST(removing_one_that_is_not_in_it_changes_nothing)
{
    struct timer other = {.at_ns = 1};

    timer[0].at_ns = 5;
    timer_heap_put(&heap, &timer[0]);
    timer_heap_remove(&heap, &other);
    ck_assert_ptr_eq(heap, &timer[0]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timer heap");
    TCase *tc = tcase_create("timer heap");

    tcase_add_test(tc, the_first_is_always_the_one_that_expires_first);
    tcase_add_test(tc, all_come_out_in_order);
    tcase_add_test(tc, removing_one_that_is_not_in_it_changes_nothing);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
