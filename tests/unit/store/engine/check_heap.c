/* The allocator against a map of what is in use, unit by unit. */
#include "store/engine/heap.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_suite.h"

#define BEGIN 4096u
#define UNITS 2048u
#define END   (BEGIN + UNITS * HEAP_UNIT)
#define SLOTS 300

struct piece {
    uint64_t offset; /* 0: none */
    uint64_t len;
};

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
        if (first + i >= 2 * UNITS || map[first + i] == used)
            ck_abort_msg("unit %llu is given or taken twice",
                         (unsigned long long)(first + i));
        map[first + i] = used;
    }
}

static void make(struct heap *heap)
{
    ck_assert_int_eq(heap_init(heap), 0);
    ck_assert_int_eq(heap_add(heap, BEGIN, END), 0);
}

START_TEST(random_use_never_overlaps_and_gives_everything_back)
{
    static unsigned char map[2 * UNITS];
    struct piece pieces[SLOTS] = {{0}};
    struct heap heap;
    uint32_t state = 99;
    memset(map, 0, sizeof(map));
    make(&heap);
    for (int i = 0; i < 50000; i++) {
        struct piece *p = &pieces[roll(&state, SLOTS)];
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
    make(&heap);
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
    make(&heap);
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

START_TEST(what_was_not_told_of_hidden_space_is_free_at_last)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap), 0);
    ck_assert_int_eq(heap_hide(&heap, BEGIN, END), 0);
    ck_assert_int_eq(heap_add(&heap, END, END + 4096), 0);
    ck_assert_uint_eq(heap_alloc(&heap, 4096 + 32), 0);
    ck_assert_int_eq(heap_tell(&heap, END - 64, 64), 1);
    ck_assert_int_eq(heap_tell(&heap, BEGIN + 64, 40), 1);
    ck_assert_int_eq(heap_tell(&heap, BEGIN + 96, 10), 0); /* over that */
    ck_assert_int_eq(heap_tell(&heap, BEGIN, 32), 1);
    ck_assert_int_eq(heap_tell(&heap, END - 32, 100), 0); /* beyond */
    ck_assert_int_eq(heap_tell(&heap, END, 32), 0);       /* not hidden */
    ck_assert_int_eq(heap_tell(&heap, BEGIN + 1024 + 8, 8), 0);
    ck_assert_int_eq(heap_tell(&heap, BEGIN + 512, UINT64_MAX), 0);
    ck_assert_int_eq(heap_tell(&heap, BEGIN + 2048, 0), 1);
    ck_assert_uint_eq(heap.n_used, 4);
    ck_assert_uint_eq(heap.free_bytes, 4096);
    while (heap_reveal(&heap, 1) > 0)
        ck_assert_int_eq(heap_check(&heap), 0);
    ck_assert_uint_eq(heap.n_used, 4);
    ck_assert_uint_eq(heap.free_bytes, 4096 + END - BEGIN - 64 - 64 - 32 - 32);
    ck_assert_int_eq(heap_check(&heap), 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(what_is_freed_before_all_is_revealed_is_of_use_at_once)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap), 0);
    ck_assert_int_eq(heap_hide(&heap, BEGIN, END), 0);
    for (uint32_t i = 0; i < UNITS; i += 4)
        ck_assert_int_eq(heap_tell(&heap, BEGIN + i * HEAP_UNIT, 100), 1);
    heap_free(&heap, BEGIN, 100);
    heap_free(&heap, END - 4 * HEAP_UNIT, 100);
    heap_untell(&heap, BEGIN + 4 * HEAP_UNIT, 100);
    ck_assert_uint_eq(heap.free_bytes, 2 * 4 * HEAP_UNIT);
    ck_assert_int_eq(heap_tell(&heap, BEGIN, 100), 0); /* no second time */
    uint64_t first = heap_alloc(&heap, 100);
    uint64_t second = heap_alloc(&heap, 100);
    ck_assert_uint_eq(first + second, BEGIN + END - 4 * HEAP_UNIT);
    ck_assert_uint_eq(heap_alloc(&heap, 1), 0);
    ck_assert_int_eq(heap_reveal(&heap, 64), 1);
    heap_free(&heap, BEGIN + 8 * HEAP_UNIT, 100); /* on either side */
    heap_free(&heap, END - 8 * HEAP_UNIT, 100);
    heap_free(&heap, first, 100);
    while (heap_reveal(&heap, 1) > 0)
        ck_assert_int_eq(heap_check(&heap), 0);
    ck_assert_uint_eq(heap.free_bytes, 4 * 4 * HEAP_UNIT);
    ck_assert_uint_eq(heap.n_used, UNITS / 4 - 4);
    ck_assert_int_eq(heap_check(&heap), 0);
    heap_fini(&heap);
}
END_TEST

/* Told, freed, allocated and revealed in any order, against a map. */
START_TEST(hidden_space_and_random_use_never_overlap)
{
    static unsigned char map[2 * UNITS];
    struct piece pieces[SLOTS] = {{0}};
    struct heap heap;
    uint32_t state = 7;
    int more = 1;
    memset(map, 0, sizeof(map));
    ck_assert_int_eq(heap_init(&heap), 0);
    ck_assert_int_eq(heap_hide(&heap, BEGIN, END), 0);
    ck_assert_int_eq(heap_hide(&heap, END + 4096, END + 8192), 0);
    ck_assert_int_eq(heap_add(&heap, END, END + 4096), 0);
    for (int i = 0; i < SLOTS / 2; i++) {
        struct piece *p = &pieces[i];
        p->len = roll(&state, 200);
        p->offset = BEGIN + roll(&state, UNITS) * HEAP_UNIT;
        if (heap_tell(&heap, p->offset, p->len) == 1)
            mark(map, p->offset, p->len, true);
        else
            p->offset = 0;
    }
    for (int i = 0; i < 20000; i++) {
        struct piece *p = &pieces[roll(&state, SLOTS)];
        if (p->offset == 0) {
            p->len = roll(&state, 300);
            p->offset = heap_alloc(&heap, p->len);
            if (p->offset != 0)
                mark(map, p->offset, p->len, true);
        } else {
            mark(map, p->offset, p->len, false);
            heap_free(&heap, p->offset, p->len);
            p->offset = 0;
        }
        if (more && i % 50 == 0)
            more = heap_reveal(&heap, 100);
        if (i % 100 == 0)
            ck_assert_int_eq(heap_check(&heap), 0);
    }
    ck_assert_int_eq(more, 0);
    for (int i = 0; i < SLOTS; i++)
        if (pieces[i].offset != 0)
            heap_free(&heap, pieces[i].offset, pieces[i].len);
    ck_assert_uint_eq(heap.n_used, 0);
    ck_assert_uint_eq(heap.free_bytes, END - BEGIN + 8192);
    ck_assert_uint_ne(heap_alloc(&heap, END - BEGIN + 8192), 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(areas_that_touch_are_one_and_others_are_not)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap), 0);
    ck_assert_int_eq(heap_add(&heap, 8192, 12288), 0);
    ck_assert_int_eq(heap_add(&heap, 16384, 20480), 0);
    ck_assert_uint_eq(heap_alloc(&heap, 4097), 0);
    ck_assert(!heap_covers(&heap, 12280, 16));
    ck_assert_int_eq(heap_add(&heap, 12288, 16384), 0);
    ck_assert_uint_eq(heap.n_areas, 1);
    ck_assert(heap_covers(&heap, 12280, 16));
    ck_assert_uint_eq(heap_alloc(&heap, 12288), 8192);
    ck_assert_int_eq(heap_add(&heap, 20000, 24576), -EINVAL);
    heap_fini(&heap);
}
END_TEST

START_TEST(space_on_a_line_leaves_the_rest_free)
{
    struct heap heap;
    make(&heap);
    uint64_t unit = heap_alloc(&heap, 1);
    uint64_t lines = heap_alloc_lines(&heap, 640);
    ck_assert_uint_ne(unit, 0);
    ck_assert_uint_ne(lines, 0);
    ck_assert_uint_eq(lines % 64, 0);
    ck_assert_uint_eq(heap.free_bytes, END - BEGIN - 640 - 32);
    heap_free(&heap, lines, 640);
    heap_free(&heap, unit, 1);
    ck_assert_uint_eq(heap.n_used, 0);
    ck_assert_uint_eq(heap_alloc_lines(&heap, END - BEGIN), 0);
    ck_assert_int_eq(heap_check(&heap), 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(some_space_is_as_much_as_the_largest_hole)
{
    uint64_t got, a, b, c;
    struct heap heap;
    make(&heap);
    a = heap_alloc(&heap, 320);
    b = heap_alloc(&heap, 32);
    c = heap_alloc(&heap, END - BEGIN - 320 - 32);
    ck_assert_uint_eq(heap_alloc_some(&heap, 1, &got), 0);
    heap_free(&heap, a, 320);
    ck_assert_uint_eq(heap_alloc_some(&heap, 1000, &got), a);
    ck_assert_uint_eq(got, 320);
    heap_free(&heap, a, 320);
    ck_assert_uint_eq(heap_alloc_some(&heap, 33, &got), a);
    ck_assert_uint_eq(got, 33);
    heap_free(&heap, a, 33);
    heap_free(&heap, b, 32);
    heap_free(&heap, c, END - BEGIN - 320 - 32);
    ck_assert_uint_eq(heap.free_bytes, END - BEGIN);
    heap_fini(&heap);
}
END_TEST

START_TEST(an_impossible_area_is_refused)
{
    struct heap heap;
    ck_assert_int_eq(heap_init(&heap), 0);
    ck_assert_int_eq(heap_add(&heap, 0, END), -EINVAL);
    ck_assert_int_eq(heap_add(&heap, BEGIN, BEGIN), -EINVAL);
    ck_assert_int_eq(heap_add(&heap, BEGIN + 1, END), -EINVAL);
    heap_fini(&heap);
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
    tcase_add_test(tcase, what_was_not_told_of_hidden_space_is_free_at_last);
    tcase_add_test(tcase,
                   what_is_freed_before_all_is_revealed_is_of_use_at_once);
    tcase_add_test(tcase, hidden_space_and_random_use_never_overlap);
    tcase_add_test(tcase, areas_that_touch_are_one_and_others_are_not);
    tcase_add_test(tcase, space_on_a_line_leaves_the_rest_free);
    tcase_add_test(tcase, some_space_is_as_much_as_the_largest_hole);
    tcase_add_test(tcase, an_impossible_area_is_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
