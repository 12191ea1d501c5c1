/*
 * Damage of owner words, entries, pieces and blobs, as in check_survey.c: what
 * is not whole is dropped, and nothing is hit that has nothing to do with it.
 */
#include "store/tool/survey.h"

#include "store/engine/item.h"
#include "tests/support/damaged_case.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(an_owner_bit_too_many_costs_no_item_that_is_whole)
{
    for (uint32_t b = 0; b < damaged.places; b += damaged_step) {
        uint64_t owner;
        memcpy(&owner, damaged.good + damaged.table_at + 64 * b, sizeof(owner));
        for (unsigned bit = 0; bit < 64; bit += 7) {
            if (owner >> bit & 1)
                continue;
            damaged_pool_flip(&damaged, damaged.table_at + 64 * b, bit);
            struct damaged_outcome out = damaged_pool_judge(&damaged);
            ck_assert_str_eq(out.error, "");
            ck_assert_uint_eq(out.missing + out.changed + out.beyond, 0);
            ck_assert(out.damages > 0 || out.strangers == 1);
        }
    }
}
END_TEST

/* What becomes of the other items when this entry, as it is now, passes for
 * whole: the older ones whose bytes it claims are dropped. False: it cannot
 * pass, by itself or since a later one has bytes that it claims. */
static bool expect_fates(const struct damaged_item *item,
                         uint8_t fate[DAMAGED_ITEMS])
{
    const struct hop_entry *entry = damaged_entry(item);
    if (!item_valid(entry))
        return false;
    for (unsigned i = 0; i < damaged.n_items; i++) {
        const struct damaged_item *other = &damaged.items[i];
        bool claimed =
            other != item && damaged_pool_claims(&damaged, entry, other);
        if (claimed && other->cas > entry->cas)
            return false;
        fate[i] = claimed ? DAMAGED_MISSING : DAMAGED_THERE;
    }
    return true;
}

/* The item is dropped and no other one is hit, or it has passed for whole. True
 * when it has. */
static bool is_dropped_or_believed(const struct damaged_item *item)
{
    unsigned nth = (unsigned)(item - damaged.items);
    uint8_t fate[DAMAGED_ITEMS] = {0};
    bool possible = expect_fates(item, fate);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_msg(out.error[0] == '\0', "%s", out.error);
    ck_assert_uint_eq(out.beyond + out.strangers, 0);
    ck_assert_uint_eq(out.missing, out.lost);
    bool believed = out.fate[nth] != DAMAGED_MISSING;
    ck_assert(possible || !believed);
    if (!believed)
        memset(fate, DAMAGED_THERE, sizeof(fate));
    fate[nth] = out.fate[nth];
    ck_assert_mem_eq(out.fate, fate, sizeof(fate));
    return believed;
}

START_TEST(each_bit_of_an_entry_is_found_or_passes_and_hits_what_it_claims)
{
    unsigned tried = 0, silent = 0;
    damaged_again(_i);
    for (unsigned i = 0; i < damaged.n_items; i += 4)
        for (uint64_t bit = 64 + i % damaged_step; bit < 512;
             bit += damaged_step) {
            if (bit >= 128 && bit < 192)
                continue; /* exptime and flags are anything */
            damaged_pool_flip(&damaged, damaged.items[i].entry_at, bit);
            tried++;
            silent += is_dropped_or_believed(&damaged.items[i]);
        }
    ck_assert_uint_gt(tried, 100);
    ck_assert_uint_lt(silent, 5 + tried / 32);
}
END_TEST

START_TEST(each_bit_of_a_piece_is_found)
{
    for (uint64_t bit = 0; bit < 128; bit++) {
        damaged_pool_flip(&damaged, damaged.chain_at, bit);
        if (bit < 96)
            damaged_loses(DAMAGE_CHAIN, 1);
        else
            damaged_is_mended(DAMAGE_STRAY);
    }
}
END_TEST

START_TEST(the_pieces_of_an_item_are_judged_once_it_is_known_to_have_its_bytes)
{
    uint64_t stray = damaged.chain_at + offsetof(struct hop_piece, zero);
    for (unsigned i = 0; i < damaged.n_items; i++) {
        struct hop_entry *entry = damaged_entry(&damaged.items[i]);
        damaged_pool_restore(&damaged);
        if (item_form(entry) != HOP_NEAR_ITEM)
            continue;
        entry->near.offset = damaged.chain_at;
        damaged_pool_fix_entry(entry);
        damaged.bytes[stray] = 1;
        damaged_loses(DAMAGE_OVERLAP, 1);
        ck_assert_uint_eq(damaged.bytes[stray], 0);
    }
}
END_TEST

START_TEST(what_looks_like_a_piece_in_a_later_item_is_left_alone)
{
    const struct hop_piece piece = {.len = 100, .zero = 0x55};
    const struct damaged_item *later = NULL;
    for (unsigned i = 0; i < damaged.n_items; i++) {
        const struct damaged_item *item = &damaged.items[i];
        if (item_form(damaged_entry(item)) == HOP_NEAR_ITEM &&
            item->len >= sizeof(piece) + piece.len &&
            (!later || item->cas > later->cas))
            later = item;
    }
    ck_assert_ptr_nonnull(later);
    for (unsigned i = 0; i < damaged.n_items; i++) {
        struct hop_entry *entry = damaged_entry(&damaged.items[i]);
        damaged_pool_restore(&damaged);
        if (item_form(entry) != HOP_NEAR_ITEM || entry->cas >= later->cas)
            continue;
        entry->shape = (uint8_t)(HOP_NEAR_CHAIN << 5 | (entry->shape & 31));
        entry->near.offset = later->blob_at;
        entry->near.vlen = piece.len;
        damaged_pool_fix_entry(entry);
        memcpy(damaged.bytes + later->blob_at, &piece, sizeof(piece));
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_str_eq(out.error, "");
        ck_assert_uint_eq(out.fate[i], DAMAGED_MISSING);
        ck_assert_mem_eq(damaged.bytes + later->blob_at, &piece, sizeof(piece));
    }
}
END_TEST

START_TEST(a_chain_in_a_circle_is_found)
{
    damaged_put(damaged.chain_at, damaged.chain_at);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert_uint_gt(out.damages, 0);
    ck_assert_uint_eq(out.missing, 1);
}
END_TEST

START_TEST(of_two_items_with_the_same_bytes_the_later_one_is_kept)
{
    const struct damaged_item *a = damaged_of_form(HOP_NEAR_ITEM, 3);
    const struct damaged_item *b = damaged_of_form(HOP_NEAR_ITEM, 4);
    struct hop_entry *older = damaged_entry(a->cas < b->cas ? a : b);
    struct hop_entry *newer = damaged_entry(a->cas < b->cas ? b : a);
    older->near.offset = newer->near.offset;
    damaged_pool_fix_entry(older);
    damaged_loses(DAMAGE_OVERLAP, 1);
    damaged_pool_restore(&damaged);
    newer->near.offset = older->near.offset;
    damaged_pool_fix_entry(newer);
    struct damaged_outcome out = damaged_pool_judge(&damaged);
    ck_assert_str_eq(out.error, "");
    ck_assert_uint_ge(out.lost, 1);
}
END_TEST

START_TEST(extents_that_cross_a_border_are_found)
{
    struct hop_entry *entry = damaged_entry(damaged_of_form(HOP_NEAR_ITEM, 2));
    const uint64_t places[] = {0,
                               32,
                               damaged_header()->directory,
                               damaged.head_at,
                               damaged_header()->size - 32,
                               damaged_header()->size,
                               (uint64_t)1 << 40,
                               UINT64_MAX - 31};
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
        damaged_pool_restore(&damaged);
        entry->near.offset = places[i];
        entry->near.vlen = 100;
        damaged_pool_fix_entry(entry);
        damaged_loses(DAMAGE_EXTENT, 1);
    }
    damaged_pool_restore(&damaged);
    entry->near.offset = damaged.table_at;
    damaged_pool_fix_entry(entry);
    damaged_loses(DAMAGE_OVERLAP, 1);
    damaged_pool_restore(&damaged);
    entry->near.vlen = UINT32_MAX;
    damaged_pool_fix_entry(entry);
    damaged_loses(DAMAGE_EXTENT, 1);
}
END_TEST

START_TEST(a_cas_id_that_leaves_no_others_is_found_unless_it_was_given)
{
    static const uint64_t ceilings[] = {POOL_CAS_GIVEN, POOL_CAS_GIVEN + 2};
    for (int given = 0; given < 2; given++) {
        damaged_pool_restore(&damaged);
        struct hop_entry *entry = damaged_entry(&damaged.items[7]);
        entry->cas = POOL_CAS_GIVEN + 1;
        damaged_pool_fix_entry(entry);
        damaged_put(damaged_state_at(offsetof(struct pool_state, cas_ceiling)),
                    ceilings[given]);
        damaged_put(damaged_state_at(offsetof(struct pool_state, clean)), 0);
        struct damaged_outcome out = damaged_pool_judge(&damaged);
        ck_assert_str_eq(out.error, "");
        ck_assert_uint_eq(out.damages, !given);
        ck_assert_uint_eq(out.missing, !given);
        ck_assert_uint_eq(out.changed, given); /* its cas id */
    }
}
END_TEST

START_TEST(a_key_that_is_not_the_entrys_is_found)
{
    const struct damaged_item *item = damaged_of_form(HOP_FAR_ITEM, 1);
    for (uint64_t bit = 0; bit < 8 * item->klen; bit += damaged_step) {
        damaged_pool_flip(&damaged, item->blob_at, bit);
        damaged_loses(DAMAGE_KEY, 1);
    }
}
END_TEST

static void add_tests(TCase *tcase)
{
    tcase_add_test(tcase, an_owner_bit_too_many_costs_no_item_that_is_whole);
    tcase_add_loop_test(
        tcase, each_bit_of_an_entry_is_found_or_passes_and_hits_what_it_claims,
        0, damaged_pools());
    tcase_add_test(tcase, each_bit_of_a_piece_is_found);
    tcase_add_test(
        tcase,
        the_pieces_of_an_item_are_judged_once_it_is_known_to_have_its_bytes);
    tcase_add_test(tcase,
                   what_looks_like_a_piece_in_a_later_item_is_left_alone);
    tcase_add_test(tcase, a_chain_in_a_circle_is_found);
    tcase_add_test(tcase,
                   of_two_items_with_the_same_bytes_the_later_one_is_kept);
    tcase_add_test(tcase, extents_that_cross_a_border_are_found);
    tcase_add_test(tcase,
                   a_cas_id_that_leaves_no_others_is_found_unless_it_was_given);
    tcase_add_test(tcase, a_key_that_is_not_the_entrys_is_found);
}

int main(void)
{
    Suite *suite = suite_create("survey_items");
    TCase *tcase = tcase_create("survey_items");
    tcase_add_checked_fixture(tcase, damaged_begin, damaged_end);
    tcase_set_timeout(tcase, 60);
    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return damaged_run(suite);
}
