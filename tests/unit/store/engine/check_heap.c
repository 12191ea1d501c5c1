/* The allocator against a map of what is in use, unit by unit. */
#include "store/engine/heap.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN 4096u
#define UNITS 2048u
#define END   (BEGIN + UNITS * HEAP_UNIT)
#define SLOTS 300

static uint32_t roll(uint32_t *state, uint32_t sides)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return (*state >> 3) % sides;
}

static void mark(unsigned char *map, uint64_t offset, uint64_t len, bool used)
{
    uint64_t first = (offset - BEGIN) / HEAP_UNIT;
    for (uint64_t i = 0; i < heap_round(len) / HEAP_UNIT; i++) {
        if (first + i >= UNITS || map[first + i] == used)
            ck_abort_msg("unit %llu is given or taken twice",
                         (unsigned long long)(first + i));
        map[first + i] = used;
    }
}

START_TEST(random_use_never_overlaps_and_gives_everything_back)
{
    static unsigned char map[UNITS];
    struct heap_piece pieces[SLOTS] = {{0}};
    struct heap heap;
    uint32_t state = 99;
    memset(map, 0, sizeof(map));
    ck_assert_int_eq(heap_init(&heap, BEGIN, END), 0);
    for (int i = 0; i < 50000; i++) {
        struct heap_piece *p = &pieces[roll(&state, SLOTS)];
        if (p->offset == 0) {
            p->len = roll(&state, roll(&state, 4) ? 300 : 5000);
            p->offset = heap_alloc(&heap, p->len);
            if (p->offset == 0)
                continue;
            mark(map, p->offset, p->len, true);
        } else {
            mark(map, p->offset, p->len, false);
            heap_free(&heap, p->offset, p->len);
            p->offset = 0;
        }
        if (i % 500 == 0)
            ck_assert_int_eq(heap_check(&heap), 0);
    }
    for (int i = 0; i < SLOTS; i++)
        if (pieces[i].offset != 0)
            heap_free(&heap, pieces[i].offset, pieces[i].len);
    ck_assert_int_eq(heap_check(&heap), 0);
    ck_assert_uint_eq(heap.n_used, 0);
    ck_assert_uint_eq(heap.free_bytes, END - BEGIN);
    ck_assert_uint_ne(heap_alloc(&heap, END - BEGIN), 0); /* in one piece */
    heap_fini(&heap);
}
END_TEST

START_TEST(all_of_the_area_can_be_used)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap, BEGIN, END), 0);
    ck_assert_uint_eq(heap_alloc(&heap, END - BEGIN + 1), 0);
    for (uint32_t i = 0; i < UNITS / 4; i++)
        ck_assert_uint_ne(heap_alloc(&heap, 4 * HEAP_UNIT - 5), 0);
    ck_assert_uint_eq(heap_alloc(&heap, 0), 0);
    ck_assert_uint_eq(heap.free_bytes, 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(retired_space_waits_for_the_commit_and_then_for_its_reader)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap, BEGIN, END), 0);
    uint64_t a = heap_alloc(&heap, (END - BEGIN) / 2);
    uint64_t b = heap_alloc(&heap, (END - BEGIN) / 2);
    heap_retire(&heap, a, (END - BEGIN) / 2, 0);
    heap_retire(&heap, b, (END - BEGIN) / 2, 5);
    heap_unpin(&heap, 9); /* no commit yet: nothing is released */
    ck_assert_uint_eq(heap.free_bytes, 0);
    heap_settle(&heap, 6); /* pinned in 5: held through the turn after */
    ck_assert_uint_eq(heap.free_bytes, (END - BEGIN) / 2);
    ck_assert_uint_eq(heap_alloc(&heap, (END - BEGIN) / 2), a);
    heap_unpin(&heap, 6);
    ck_assert_uint_eq(heap.free_bytes, 0);
    heap_settle(&heap, 7);
    ck_assert_uint_eq(heap_alloc(&heap, 1), b);
    ck_assert_int_eq(heap_check(&heap), 0);
    heap_fini(&heap);
}
END_TEST

struct refusals {
    uint32_t places[8];
    int n;
};

static void note_refused(void *context, uint32_t place)
{
    struct refusals *r = context;
    ck_assert_int_lt(r->n, 8);
    r->places[r->n++] = place;
}

START_TEST(rebuilding_takes_what_is_whole_and_refuses_the_rest)
{
    struct heap_piece pieces[] = {{END - 64, 64, 1},
                                  {BEGIN + 64, 40, 2},
                                  {BEGIN + 96, 10, 3}, /* overlaps 2 */
                                  {BEGIN, 32, 4},
                                  {END - 32, 100, 5},       /* beyond the end */
                                  {BEGIN + 1024 + 8, 8, 6}, /* crooked */
                                  {BEGIN + 512, UINT64_MAX, 7},
                                  {BEGIN + 2048, 0, 8}};
    struct refusals refusals = {.n = 0};
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap, BEGIN, END), 0);
    ck_assert_int_eq(heap_rebuild(&heap, pieces, 8, note_refused, &refusals),
                     0);
    ck_assert_int_eq(refusals.n, 4);
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++)
        sum += refusals.places[i];
    ck_assert_uint_eq(sum, 3 + 5 + 6 + 7);
    ck_assert_uint_eq(heap.n_used, 4);
    ck_assert_uint_eq(heap.free_bytes, END - BEGIN - 64 - 64 - 32 - 32);
    ck_assert_int_eq(heap_check(&heap), 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(an_impossible_area_is_refused)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap, 0, END), -EINVAL);
    ck_assert_int_eq(heap_init(&heap, BEGIN, BEGIN), -EINVAL);
    ck_assert_int_eq(heap_init(&heap, BEGIN + 1, END), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("heap");
    TCase *tcase = tcase_create("heap");
    tcase_add_test(tcase, random_use_never_overlaps_and_gives_everything_back);
    tcase_add_test(tcase, all_of_the_area_can_be_used);
    tcase_add_test(tcase,
                   retired_space_waits_for_the_commit_and_then_for_its_reader);
    tcase_add_test(tcase, rebuilding_takes_what_is_whole_and_refuses_the_rest);
    tcase_add_test(tcase, an_impossible_area_is_refused);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
