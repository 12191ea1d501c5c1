/* The table alone: places, owner words, displacement. */
#include "store/engine/hop_table.h"
#include "store/engine/item.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PLACES 256u
#define SIZE   (PLACES * 64u)

static struct pm pm;
static struct commit commit;
static struct hop_table table;
static int fd;

/* One segment that all hashes find; its number is 0. */
static void make(void)
{
    uint32_t number;
    ck_assert_int_eq(hop_init(&table, &commit, pm.base), 0);
    ck_assert_int_eq(hop_add_segment(&table,
                                     (struct hop_entry *)(void *)pm.base,
                                     PLACES, 0, 0, &number),
                     0);
    ck_assert_uint_eq(number, 0);
    hop_enter(&table, 0);
}

static void map(void)
{
    fd = memfd_create("table", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    ck_assert_int_eq(pm_map(&pm, fd, SIZE, PM_PROCESS, NULL), 0);
    commit_init(&commit, &pm);
    make();
}

static void unmap(void)
{
    hop_fini(&table);
    pm_unmap(&pm);
    close(fd);
}

/* A hash chosen by the test. */
static uint64_t hash_of(uint32_t bucket, uint32_t number)
{
    return (uint64_t)number << 40 | (uint64_t)bucket << 32;
}

static void put_item(uint32_t bucket, uint32_t number, uint32_t place)
{
    struct item_meta meta = {.cas = 1, .hash = hash_of(bucket, number)};
    struct item_value none = {0};
    struct item_blob blob = {0};
    item_write(&pm, hop_entry(&table, place), &blob, &number, sizeof(number),
               &none, 0, &meta);
    hop_link(&table, bucket, place, meta.hash);
}

static uint32_t find(uint32_t bucket, uint32_t number)
{
    return hop_find(&table, hash_of(bucket, number), &number, sizeof(number));
}

/* Segments that say nothing but where they are: numbers 1 to n. */
static void add_segments(uint32_t n, uint32_t depth)
{
    uint32_t number;
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_int_eq(
            hop_add_segment(&table, (struct hop_entry *)(void *)pm.base, 128,
                            i << (32 - depth), depth, &number),
            0);
        ck_assert_uint_eq(number, i + 1);
    }
}

START_TEST(descriptions_of_segments_stay_where_they_are)
{
    const struct hop_segment *first = hop_segment(&table, 0);
    add_segments(3 * HOP_BLOCK, 10);
    ck_assert_ptr_eq(hop_segment(&table, 0), first);
    for (uint32_t i = 0; i < 3 * HOP_BLOCK; i++)
        ck_assert_uint_eq(hop_segment(&table, i + 1)->prefix, i << 22);
}
END_TEST

START_TEST(a_directory_that_was_prepared_in_part_or_whole_is_right)
{
    const uint32_t depth = 14, n = 1u << depth;
    add_segments(n, depth);
    for (uint32_t i = 0; i < n; i += 2) { /* between steps, on both sides */
        ck_assert_int_eq(hop_deepen(&table, depth), 0);
        hop_enter(&table, i + 1);
        if (i % (n / 2) == 0)
            hop_prepare(&table);
        hop_enter(&table, n - i);
    }
    for (int steps = 0; steps < 2; steps++) {
        ck_assert_int_eq(hop_deepen(&table, depth + 1 + (uint32_t)steps), 0);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t hash = (uint64_t)i << (64 - depth);
            ck_assert_uint_eq(hop_segment_of(&table, hash), i + 1);
            hash |= (uint64_t)1 << (63 - depth);
            ck_assert_uint_eq(hop_segment_of(&table, hash), i + 1);
        }
        for (int i = 0; i < 100; i++) /* more than all of it: no harm */
            hop_prepare(&table);
    }
}
END_TEST

/* Each growth makes a step. Before a directory of n entries has to be doubled
 * about n / 2 segments are written anew; what is ready then is no pause. */
START_TEST(a_directory_is_made_in_small_steps_long_before_it_is_needed)
{
    for (uint32_t depth = 1; depth <= 18; depth++) {
        uint32_t steps = 0, all = 2u << depth;
        ck_assert_int_eq(hop_deepen(&table, depth), 0);
        while (table.n_deeper < all && steps < all) {
            uint32_t before = table.n_deeper;
            hop_prepare(&table);
            ck_assert_uint_le(table.n_deeper - before, 4096);
            steps++;
        }
        ck_assert_uint_eq(table.n_deeper, all);
        ck_assert_uint_le(steps, 1 + all / 2 / 1024);
    }
}
END_TEST

START_TEST(an_item_is_found_before_and_after_the_commit)
{
    put_item(7, 1, hop_free_place(&table, 7));
    put_item(7, 2, hop_free_place(&table, 7));
    ck_assert_uint_eq(find(7, 1), 7);
    ck_assert_uint_eq(find(7, 2), 8);
    ck_assert_uint_eq(find(7, 3), HOP_NONE);
    ck_assert_uint_eq(find(8, 2), HOP_NONE);
    ck_assert_uint_eq(hop_entry(&table, 7)->owner, 0);
    commit_run(&commit);
    ck_assert_uint_eq(hop_entry(&table, 7)->owner, 3);
    ck_assert_uint_eq(find(7, 2), 8);
}
END_TEST

START_TEST(an_item_with_the_mark_of_another_one_is_not_taken_for_it)
{
    uint32_t other = 2;
    while (hop_mark_of(hash_of(7, other)) != hop_mark_of(hash_of(7, 1)))
        other++;
    put_item(7, 1, hop_free_place(&table, 7));
    ck_assert_uint_eq(find(7, other), HOP_NONE);
    put_item(7, other, hop_free_place(&table, 7));
    ck_assert_uint_eq(find(7, 1), 7);
    ck_assert_uint_eq(find(7, other), 8);
    hop_unlink(&table, 7, 7);
    ck_assert_uint_eq(find(7, 1), HOP_NONE);
    ck_assert_uint_eq(find(7, other), 8);
}
END_TEST

START_TEST(what_is_left_in_a_place_is_no_item)
{
    for (uint32_t place = 100; place < 163; place += 31) {
        put_item(100, 7, place);
        ck_assert_uint_eq(find(100, 7), place);
        ck_assert_int_eq(commit_run(&commit), 0);
        hop_unlink(&table, 100, place);
        ck_assert_uint_eq(find(100, 7), HOP_NONE);
        ck_assert_int_eq(commit_run(&commit), 0);
        hop_settle(&table);
        ck_assert_uint_eq(find(100, 7), HOP_NONE);
    }
}
END_TEST

/* Such an entry's first bytes are an offset, and its length of the key is 0. */
START_TEST(a_key_of_one_byte_is_not_seen_in_the_entry_of_a_long_one)
{
    const enum hop_form forms[] = {HOP_FAR_ITEM, HOP_FAR_CHAIN};
    for (uint32_t i = 0; i < 2; i++) {
        put_item(10 + i, 7, 10 + i);
        struct hop_entry *entry = hop_entry(&table, 10 + i);
        entry->shape = (uint8_t)(forms[i] << 5);
        entry->far = (struct hop_far){.offset = 32 + 'k', .klen = 20};
        const uint8_t key = 32 + 'k';
        ck_assert_mem_eq(entry->bytes, &key, 1);
        ck_assert_uint_eq(hop_find(&table, hash_of(10 + i, 7), &key, 1),
                          HOP_NONE);
    }
}
END_TEST

START_TEST(the_neighbourhood_goes_round_the_end)
{
    for (uint32_t i = 0; i < HOP_REACH; i++)
        put_item(PLACES - 2, i, hop_free_place(&table, PLACES - 2));
    ck_assert_uint_eq(hop_free_place(&table, PLACES - 2), HOP_NONE);
    ck_assert_uint_eq(find(PLACES - 2, 1), PLACES - 1);
    ck_assert_uint_eq(find(PLACES - 2, 2), 0);
    ck_assert_uint_eq(find(PLACES - 2, HOP_REACH - 1), HOP_REACH - 3);
    ck_assert_uint_eq(hop_owner(&table, PLACES - 2) >> HOP_REACH, 0);
}
END_TEST

START_TEST(a_committed_place_is_reusable_only_after_the_next_commit)
{
    put_item(3, 1, 3);
    commit_run(&commit);
    hop_unlink(&table, 3, 3);
    ck_assert_uint_eq(find(3, 1), HOP_NONE);
    ck_assert_uint_eq(hop_free_place(&table, 3), 4);
    commit_run(&commit);
    hop_settle(&table);
    ck_assert_uint_eq(hop_free_place(&table, 3), 3);
}
END_TEST

START_TEST(a_place_that_was_never_committed_is_free_at_once)
{
    put_item(3, 1, 3);
    hop_unlink(&table, 3, 3);
    ck_assert_uint_eq(hop_free_place(&table, 3), 3);
    ck_assert_uint_eq(table.n_retired, 0);
}
END_TEST

START_TEST(a_swap_turns_two_bits_of_one_word)
{
    put_item(3, 1, 3);
    commit_run(&commit);
    struct item_meta meta = {.cas = 2, .hash = hash_of(3, 1)};
    struct item_value none = {0};
    struct item_blob blob = {0};
    uint32_t number = 1;
    item_write(&pm, hop_entry(&table, 9), &blob, &number, 4, &none, 0, &meta);
    hop_swap(&table, 3, 3, 9);
    ck_assert_uint_eq(commit.n, 1);
    ck_assert_uint_eq(find(3, 1), 9);
    ck_assert_uint_eq(hop_entry(&table, 3)->owner, 1);
    commit_run(&commit);
    ck_assert_uint_eq(hop_entry(&table, 3)->owner, 1u << 6);
}
END_TEST

START_TEST(a_full_neighbourhood_gets_a_place_by_moves)
{
    uint32_t number = 0;
    for (uint32_t b = 10; b < 200; b++, number++)
        put_item(b, number, b);
    commit_run(&commit);
    ck_assert_uint_eq(hop_free_place(&table, 10), HOP_NONE);
    int moves = 0;
    while (hop_free_place(&table, 10) == HOP_NONE) {
        struct hop_move move;
        ck_assert(hop_find_move(&table, 10, &move));
        ck_assert(!hop_used(&table, move.to));
        ck_assert_uint_lt((move.to - move.bucket) & (PLACES - 1), HOP_REACH);
        item_move(&pm, hop_entry(&table, move.to), hop_entry(&table, move.from),
                  hop_entry(&table, move.from)->meta);
        hop_swap(&table, move.bucket, move.from, move.to);
        commit_run(&commit);
        hop_settle(&table);
        ck_assert_int_lt(++moves, 10);
    }
    for (uint32_t b = 10; b < 200; b++)
        ck_assert_uint_ne(find(b, b - 10), HOP_NONE);
}
END_TEST

START_TEST(when_nothing_can_move_there_is_no_move)
{
    struct hop_move move;
    for (uint32_t i = 0; i < HOP_REACH; i++)
        put_item(10, i, 10 + i); /* all of one bucket: none may go further */
    ck_assert(!hop_find_move(&table, 10, &move));
    hop_fini(&table);
    make();
    for (uint32_t i = 0; i < PLACES; i++)
        hop_claim(&table, i);
    ck_assert(!hop_find_move(&table, 10, &move));
    ck_assert_uint_eq(hop_free_place(&table, 10), HOP_NONE);
}
END_TEST

START_TEST(a_hash_finds_the_deepest_segment_of_its_bits)
{
    static struct hop_entry other[2][128];
    uint32_t left, right;
    ck_assert_int_eq(hop_deepen(&table, 1), 0);
    ck_assert_uint_eq(hop_segment_of(&table, 0), 0);
    ck_assert_uint_eq(hop_segment_of(&table, UINT64_MAX), 0);
    ck_assert_int_eq(hop_deepen(&table, 3), 0);
    hop_add_segment(&table, other[0], 128, 0x80000000u, 2, &left);
    hop_add_segment(&table, other[1], 128, 0xc0000000u, 2, &right);
    hop_enter(&table, left);
    hop_enter(&table, right);
    for (uint64_t top = 0; top < 8; top++)
        ck_assert_uint_eq(hop_segment_of(&table, top << 61), top < 4   ? 0
                                                             : top < 6 ? left
                                                                       : right);
    ck_assert_uint_eq(table.places, PLACES + 256);
    ck_assert_uint_eq(hop_next_place(&table, PLACES - 1), left << HOP_SHIFT);
    ck_assert_uint_eq(hop_next_place(&table, right << HOP_SHIFT | 127), 0);
    hop_drop_segment(&table, left);
    ck_assert_uint_eq(hop_next_place(&table, PLACES - 1), right << HOP_SHIFT);
    ck_assert_uint_eq(table.places, PLACES + 128);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hop_table");
    TCase *tcase = tcase_create("hop_table");
    tcase_add_checked_fixture(tcase, map, unmap);
    tcase_add_test(tcase, descriptions_of_segments_stay_where_they_are);
    tcase_add_test(tcase,
                   a_directory_that_was_prepared_in_part_or_whole_is_right);
    tcase_add_test(tcase,
                   a_directory_is_made_in_small_steps_long_before_it_is_needed);
    tcase_add_test(tcase, an_item_is_found_before_and_after_the_commit);
    tcase_add_test(tcase,
                   an_item_with_the_mark_of_another_one_is_not_taken_for_it);
    tcase_add_test(tcase, what_is_left_in_a_place_is_no_item);
    tcase_add_test(tcase,
                   a_key_of_one_byte_is_not_seen_in_the_entry_of_a_long_one);
    tcase_add_test(tcase, the_neighbourhood_goes_round_the_end);
    tcase_add_test(tcase,
                   a_committed_place_is_reusable_only_after_the_next_commit);
    tcase_add_test(tcase, a_place_that_was_never_committed_is_free_at_once);
    tcase_add_test(tcase, a_swap_turns_two_bits_of_one_word);
    tcase_add_test(tcase, a_full_neighbourhood_gets_a_place_by_moves);
    tcase_add_test(tcase, when_nothing_can_move_there_is_no_move);
    tcase_add_test(tcase, a_hash_finds_the_deepest_segment_of_its_bits);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
