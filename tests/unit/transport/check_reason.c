#include "transport/reason.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

START_TEST(every_reason_has_a_token_of_its_own)
{
    for (uint32_t a = 0; a < REASON_COUNT; a++) {
        const char *token = reason_token((enum reason)a);

        ck_assert_ptr_nonnull(token);
        ck_assert_uint_gt(strlen(token), 0);
        ck_assert_uint_lt(strlen(token), 24);
        ck_assert_uint_eq(strspn(token, "abcdefghijklmnopqrstuvwxyz_"),
                          strlen(token));
        for (uint32_t b = 0; b < a; b++)
            ck_assert_str_ne(token, reason_token((enum reason)b));
    }
}
END_TEST

START_TEST(every_reason_has_a_sentence_that_fits_in_two_lines)
{
    for (uint32_t a = 0; a < REASON_COUNT; a++) {
        const char *sentence = reason_sentence((enum reason)a);

        ck_assert_ptr_nonnull(sentence);
        ck_assert_uint_gt(strlen(sentence), 0);
        ck_assert_uint_lt(strlen(sentence), 120);
        ck_assert_ptr_null(strpbrk(sentence, "\n\t"));
        ck_assert_ptr_null(strstr(sentence, "  "));
        ck_assert_int_ne(sentence[strlen(sentence) - 1], ' ');
        for (uint32_t b = 0; b < a; b++)
            ck_assert_str_ne(sentence, reason_sentence((enum reason)b));
    }
}
END_TEST

START_TEST(tokens_that_scripts_know_keep_their_values)
{
    ck_assert_str_eq(reason_token(REASON_NONE), "none");
    ck_assert_str_eq(reason_token((enum reason)1), "young");
    ck_assert_str_eq(reason_token((enum reason)18), "up");
    ck_assert_str_eq(reason_token((enum reason)29), "peer_rule");
    ck_assert_str_eq(reason_token((enum reason)38), "other");
}
END_TEST

START_TEST(an_unknown_value_reads_as_other)
{
    static const uint32_t unknown[] = {
        REASON_COUNT, REASON_COUNT + 1, 255,       256,
        0x7fffffff,   0x80000000,       UINT32_MAX};

    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        ck_assert_int_eq(reason_from(unknown[i]), REASON_OTHER);
        ck_assert_str_eq(reason_token((enum reason)unknown[i]), "other");
        ck_assert_str_eq(reason_sentence((enum reason)unknown[i]),
                         reason_sentence(REASON_OTHER));
    }
    for (uint32_t a = 0; a < REASON_COUNT; a++)
        ck_assert_uint_eq((uint32_t)reason_from(a), a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reason");
    TCase *t = tcase_create("reason");

    tcase_add_test(t, every_reason_has_a_token_of_its_own);
    tcase_add_test(t, every_reason_has_a_sentence_that_fits_in_two_lines);
    tcase_add_test(t, tokens_that_scripts_know_keep_their_values);
    tcase_add_test(t, an_unknown_value_reads_as_other);
    suite_add_tcase(s, t);
    return run_suite(s);
}
