/*
 * Damage of every kind that docs/damage.md names, done to a pool: check finds
 * it, what is repaired is clean, and items that were not hit are all there.
 * Entries and what they name: check_survey_items.c.
 */
#include "store/tool/survey.h"

#include "store/pm/region.h"
#include "tests/support/damaged_case.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void each_bit_is_mended(uint64_t at, uint64_t bytes,
                               enum damage_kind kind)
{
    for (uint64_t bit = 0; bit < 8 * bytes; bit += damaged_step) {
        damaged_pool_flip(&damaged, at, bit);
        damaged_is_mended(kind);
    }
}

static uint64_t slot_at(unsigned i)
{
    return damaged_header()->directory + i * sizeof(struct region_slot);
}

START_TEST(a_good_pool_is_clean)
{
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert_uint_eq(out.damages + out.missing + out.changed + out.strangers,
                      0);
    ck_assert_mem_eq(damaged.good, damaged.bytes, 192);
}
END_TEST

START_TEST(each_bit_of_the_headers_is_found_and_mended)
{
    each_bit_is_mended(0, 192, DAMAGE_HEADER);
    each_bit_is_mended(192, 8, DAMAGE_SIZE);
    each_bit_is_mended(208, 48, DAMAGE_STRAY);
    each_bit_is_mended(damaged.head_at, 192, DAMAGE_POOL);
}
END_TEST

START_TEST(a_word_of_a_header_that_was_overwritten_is_worked_out)
{
    for (uint64_t at = 8; at < 192; at += 4) {
        damaged_pool_restore(&damaged);
        uint32_t word = 0xdeadbeef + (uint32_t)at;
        memcpy(damaged.bytes + at, &word, sizeof(word));
        damaged_is_mended(DAMAGE_HEADER);
        ck_assert_mem_eq(damaged.good, damaged.bytes, 200);
    }
}
END_TEST

START_TEST(each_bit_of_a_slot_is_found_and_mended)
{
    each_bit_is_mended(slot_at(0) + 16, 112, DAMAGE_SLOT);
    each_bit_is_mended(slot_at(1) + 16, 112, DAMAGE_SLOT);
    for (uint64_t bit = 1; bit < 64; bit++) {
        damaged_pool_flip(&damaged, slot_at(0), bit);
        damaged_is_mended(DAMAGE_SLOT);
    }
}
END_TEST

START_TEST(the_number_of_grains_is_worked_out)
{
    for (uint64_t bit = 0; bit < 64; bit++) {
        damaged_pool_flip(&damaged, slot_at(0) + 8, bit);
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_str_eq(out.error, "");
        ck_assert_uint_eq(out.missing + out.changed + out.beyond, 0);
        ck_assert(out.damages > 0 ||
                  damaged_get(slot_at(0) + 8) < damaged_header()->max_grains);
    }
}
END_TEST

START_TEST(each_bit_of_a_grain_word_is_found_and_mended)
{
    uint64_t n = (damaged_header()->size - damaged_header()->first) /
                 damaged_header()->grain;
    for (uint64_t bit = 0; bit < 64 * n; bit += damaged_step) {
        damaged_pool_flip(&damaged, damaged_header()->words, bit);
        damaged_is_mended(DAMAGE_GRAINS);
    }
    for (uint64_t g = 0; g < n; g++) {
        damaged_pool_restore(&damaged);
        damaged_put(damaged_header()->words + 8 * g, 0);
        damaged_is_mended(DAMAGE_GRAINS);
    }
}
END_TEST

START_TEST(two_grains_of_one_number_are_told_apart)
{
    for (uint64_t g = 0; g < 5; g++) {
        damaged_pool_restore(&damaged);
        damaged_put(damaged_header()->words + 8 * (g + 1),
                    damaged_get(damaged_header()->words + 8 * g));
        damaged_is_mended(DAMAGE_GRAINS);
    }
}
END_TEST

START_TEST(what_a_state_cannot_be_is_found_and_mended)
{
    for (uint64_t bit = 1; bit < 64; bit++) {
        damaged_pool_flip(&damaged,
                          damaged_state_at(offsetof(struct pool_state, clean)),
                          bit);
        damaged_is_mended(DAMAGE_STATE);
        damaged_pool_flip(
            &damaged, damaged_state_at(offsetof(struct pool_state, flush_live)),
            bit);
        damaged_is_mended(DAMAGE_STATE);
    }
    damaged_pool_restore(&damaged);
    damaged_put(damaged_state_at(offsetof(struct pool_state, cas_ceiling)), 1);
    damaged_is_mended(DAMAGE_STATE);
    damaged_pool_restore(&damaged);
    damaged_put(damaged_state_at(offsetof(struct pool_state, flush)),
                (uint64_t)1 << 40);
    damaged_is_mended(DAMAGE_STATE);
    damaged_pool_restore(&damaged);
    damaged_put(damaged_state_at(offsetof(struct pool_state, flush)) + 8,
                (uint64_t)1 << 40);
    damaged_is_mended(DAMAGE_STATE);
}
END_TEST

START_TEST(a_ceiling_that_is_worked_out_is_one_that_opens)
{
    struct hop_entry *entry = damaged_entry(&damaged.items[7]);
    entry->cas = POOL_CEILING_MAX - 1;
    damaged_pool_fix_entry(entry);
    damaged_put(damaged_state_at(offsetof(struct pool_state, cas_ceiling)),
                UINT64_MAX);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert_uint_eq(out.missing, 0);
    ck_assert_uint_eq(out.changed, 1); /* its cas id */
    ck_assert_uint_eq(
        damaged_get(damaged_state_at(offsetof(struct pool_state, cas_ceiling))),
        POOL_CEILING_MAX);
}
END_TEST

START_TEST(each_bit_of_a_table_word_is_found_and_mended)
{
    damaged_again(_i);
    each_bit_is_mended(damaged_state_at(offsetof(struct pool_state, root)), 8,
                       DAMAGE_TABLE);
    if (damaged.pair_at == 0)
        return;
    each_bit_is_mended(damaged.pair_at, 16, DAMAGE_TABLE);
    each_bit_is_mended(damaged.pair_at + 16, 16, DAMAGE_STRAY);
}
END_TEST

START_TEST(a_table_word_that_is_lost_costs_the_items_below_it_only)
{
    uint64_t other = damaged_get(damaged.pair_at);
    damaged_put(damaged.pair_at, 0x1234567890abcdef);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert(out.lost_more && out.beyond == 0);
    ck_assert_uint_gt(out.missing, 0);
    ck_assert_uint_lt(out.missing, damaged.n_items);
    ck_assert_uint_eq(out.changed + out.strangers, 0);
    damaged_pool_restore(&damaged);
    damaged_put(damaged.pair_at + 8, other); /* one segment twice */
    out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert(out.damages > 0 && out.missing < damaged.n_items);
    damaged_pool_restore(&damaged); /* a cycle */
    damaged_put(damaged.pair_at, damaged_get(damaged_state_at(
                                     offsetof(struct pool_state, root))));
    out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert(out.damages > 0 && out.missing < damaged.n_items);
}
END_TEST

START_TEST(a_used_pool_without_a_table_is_not_called_clean)
{
    damaged_put(damaged_state_at(offsetof(struct pool_state, root)), 0);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert(out.lost_more && out.kinds >> DAMAGE_TABLE & 1);
    ck_assert_uint_eq(out.missing, damaged.n_items);
}
END_TEST

START_TEST(an_item_that_is_gone_is_missed_where_a_close_has_counted_it)
{
    for (unsigned i = 0; i < damaged.places; i++) {
        uint64_t at = damaged.table_at + 64 * i, owner;
        memcpy(&owner, damaged.good + at, sizeof(owner));
        if (owner == 0)
            continue;
        damaged_pool_flip(&damaged, at, (unsigned)__builtin_ctzll(owner));
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_str_eq(out.error, "");
        ck_assert_uint_eq(out.missing, 1);
        ck_assert(out.kinds == (uint64_t)1 << DAMAGE_SUMMARY);
        damaged_pool_flip(&damaged, at, (unsigned)__builtin_ctzll(owner));
        damaged_put(damaged_state_at(offsetof(struct pool_state, clean)), 0);
        out = damaged_pool_judge(&damaged);
        ck_assert_uint_eq(out.damages, 0);
    }
}
END_TEST

START_TEST(each_bit_of_a_summary_is_found)
{
    uint64_t at = damaged.head_at + POOL_SUMMARY_AT;
    for (uint64_t bit = 64; bit < 8 * 3840; bit += 7 * damaged_step) {
        damaged_pool_flip(&damaged, at, bit);
        damaged_is_mended(DAMAGE_SUMMARY);
    }
    damaged_pool_flip(&damaged, at, 3);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_uint_eq(out.damages + out.missing, 0);
}
END_TEST

START_TEST(a_summary_that_lies_is_not_left_to_be_believed)
{
    struct pool_summary *summary =
        (void *)(damaged.bytes + damaged.head_at + POOL_SUMMARY_AT);
    memset(summary->empty, 0xff, 8);
    summary->check = region_sum(
        &summary->cas, sizeof(*summary) - offsetof(struct pool_summary, cas));
    damaged_is_mended(DAMAGE_SUMMARY);
}
END_TEST

START_TEST(a_file_that_was_cut_short_is_found_and_keeps_what_it_can)
{
    for (uint64_t size = 0; size < damaged.size; size += 1000) {
        damaged_pool_restore(&damaged);
        ck_assert_int_eq(ftruncate(damaged.fd, (off_t)size), 0);
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_msg(out.error[0] == '\0', "%s", out.error);
        ck_assert(out.refused || out.damages > 0);
        if (!out.refused && out.beyond == 0 && !out.lost_more)
            ck_assert(out.missing <= out.lost ||
                      out.missing == damaged.n_items);
    }
}
END_TEST

START_TEST(pages_that_became_holes_are_found_or_were_not_used)
{
    for (uint64_t page = 0; page < damaged.size; page += 4096) {
        damaged_pool_restore(&damaged);
        memset(damaged.bytes + page, 0, 4096);
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_msg(out.error[0] == '\0', "%s", out.error);
        ck_assert_uint_eq(out.strangers, 0);
    }
}
END_TEST

/* Some pseudo-random damage of so many bytes. */
static void scribble(uint64_t seed, unsigned bytes)
{
    damaged_pool_restore(&damaged);
    for (unsigned i = 0; i < bytes; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = (seed >> 33) % damaged.size;
        damaged.bytes[at] = (unsigned char)(seed >> 24);
    }
}

START_TEST(any_damage_ends_in_a_clean_pool_or_a_sentence)
{
    for (uint64_t seed = 0; seed < 2000 / damaged_step; seed++) {
        scribble(seed, 1u << seed % 14);
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_msg(out.error[0] == '\0', "seed %llu: %s",
                      (unsigned long long)seed, out.error);
    }
}
END_TEST

static int opens(char *error, size_t size)
{
    struct view view;
    int rc = view_open(&view, damaged.path, VIEW_READ, error, size);
    if (rc == 0)
        view_close(&view);
    return rc;
}

START_TEST(what_is_foreign_is_refused_in_words)
{
    struct region_header *h = (void *)damaged.bytes;
    char error[256] = "";
    h->version = 3;
    h->check = region_header_check(h);
    ck_assert_int_eq(opens(error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "version 3"));
    damaged_pool_restore(&damaged);
    h->incompat = 4;
    h->check = region_header_check(h);
    ck_assert_int_eq(opens(error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "features"));
    damaged_pool_restore(&damaged);
    memset(damaged.bytes, 'x', 4096);
    ck_assert_int_eq(opens(error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "is not a fastsock pool"));
    damaged_put(0, REGION_MAGIC_UNBUILT);
    ck_assert_int_eq(opens(error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "never finished"));
    damaged_pool_restore(&damaged);
    strcpy(h->layout, "another");
    h->check = region_header_check(h);
    ck_assert_int_eq(opens(error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "another layout"));
}
END_TEST

START_TEST(a_pool_of_another_version_is_left_alone)
{
    struct pool_header *h = (void *)(damaged.bytes + damaged.head_at);
    h->incompat = 1;
    h->check = region_pool_check(h);
    unsigned char before[256];
    memcpy(before, h, sizeof(before));
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_uint_eq(out.beyond, 1);
    ck_assert_mem_eq(before, h, sizeof(before));
}
END_TEST

START_TEST(what_nobody_reads_is_no_damage)
{
    damaged_put(offsetof(struct region_header, opener), UINT64_MAX);
    memset(damaged.bytes + slot_at(5) + 8, 0x55, 100);
    damaged_put(damaged_state_at(offsetof(struct pool_state, flush)) + 16,
                12345);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert_uint_eq(out.damages + out.missing + out.changed, 0);
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, a_good_pool_is_clean);
    tcase_add_test(tcase, each_bit_of_the_headers_is_found_and_mended);
    tcase_add_test(tcase,
                   a_word_of_a_header_that_was_overwritten_is_worked_out);
    tcase_add_test(tcase, each_bit_of_a_slot_is_found_and_mended);
    tcase_add_test(tcase, the_number_of_grains_is_worked_out);
    tcase_add_test(tcase, each_bit_of_a_grain_word_is_found_and_mended);
    tcase_add_test(tcase, two_grains_of_one_number_are_told_apart);
    tcase_add_test(tcase, what_a_state_cannot_be_is_found_and_mended);
    tcase_add_test(tcase, a_ceiling_that_is_worked_out_is_one_that_opens);
    tcase_add_loop_test(tcase, each_bit_of_a_table_word_is_found_and_mended, 0,
                        damaged_pools());
    tcase_add_test(tcase, a_used_pool_without_a_table_is_not_called_clean);
    tcase_add_test(tcase,
                   an_item_that_is_gone_is_missed_where_a_close_has_counted_it);
    tcase_add_test(tcase, each_bit_of_a_summary_is_found);
    tcase_add_test(tcase, a_summary_that_lies_is_not_left_to_be_believed);
    tcase_add_test(tcase,
                   a_file_that_was_cut_short_is_found_and_keeps_what_it_can);
    tcase_add_test(tcase, pages_that_became_holes_are_found_or_were_not_used);
    tcase_add_test(tcase, any_damage_ends_in_a_clean_pool_or_a_sentence);
    tcase_add_test(tcase, what_is_foreign_is_refused_in_words);
    tcase_add_test(tcase, a_pool_of_another_version_is_left_alone);
    tcase_add_test(tcase, what_nobody_reads_is_no_damage);
}

int main(void)
{
    Suite *suite = suite_create("survey");
    TCase *tcase = tcase_create("survey"), *larger = tcase_create("larger");
    tcase_add_checked_fixture(tcase, damaged_begin, damaged_end);
    tcase_add_checked_fixture(larger, damaged_begin_larger, damaged_end);
    tcase_set_timeout(tcase, 60);
    tcase_set_timeout(larger, 60);
    add_tests(tcase);
    tcase_add_test(larger, a_good_pool_is_clean);
    tcase_add_loop_test(larger, each_bit_of_a_table_word_is_found_and_mended, 0,
                        damaged_pools());
    tcase_add_test(larger,
                   a_table_word_that_is_lost_costs_the_items_below_it_only);
    tcase_add_test(larger, two_grains_of_one_number_are_told_apart);
    suite_add_tcase(suite, tcase);
    suite_add_tcase(suite, larger);
    return damaged_run(suite);
}
