/* What a checksum tells about a header that was damaged. */
#include "store/tool/mend.h"

#include "store/pm/region.h"
#include "tests/support/run_suite.h"

#include <check.h>

START_TEST(one_wrong_word_is_worked_out_and_two_are_not)
{
    uint32_t words[44], right[44];
    size_t at;
    for (unsigned i = 0; i < 44; i++)
        words[i] = right[i] = i * 2654435761u;
    uint64_t check = region_sum(words, sizeof(words)), other = check;
    ck_assert_int_eq(mend_sum(words, sizeof(words), &check, &at), MEND_WHOLE);
    for (unsigned i = 0; i < 44; i++) {
        words[i] += 12345 + i;
        ck_assert_int_eq(mend_sum(words, sizeof(words), &check, &at),
                         MEND_WORD);
        ck_assert_uint_eq(at, 4 * i);
        ck_assert_mem_eq(words, right, sizeof(words));
    }
    other ^= (uint64_t)1 << 40;
    ck_assert_int_eq(mend_sum(words, sizeof(words), &other, &at), MEND_CHECK);
    ck_assert_uint_eq(other, check);
    words[3] ^= 0x5555;
    words[30] ^= 0x1234567;
    ck_assert_int_eq(mend_sum(words, sizeof(words), &check, &at), MEND_NONE);
    ck_assert_uint_eq(words[3], right[3] ^ 0x5555);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mend");
    TCase *tcase = tcase_create("mend");
    tcase_add_test(tcase, one_wrong_word_is_worked_out_and_two_are_not);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
