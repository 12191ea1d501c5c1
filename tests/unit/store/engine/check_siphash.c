/* The hash against the numbers of its authors. */
#include "store/engine/siphash.h"

#include <check.h>
#include <stdlib.h>

static void sequence(uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)i;
}

START_TEST(the_published_test_vectors_come_out)
{
    uint8_t seed[16], data[64];
    sequence(seed, sizeof(seed));
    sequence(data, sizeof(data));
    ck_assert_uint_eq(siphash(seed, data, 0), 0x726fdb47dd0e0e31);
    ck_assert_uint_eq(siphash(seed, data, 1), 0x74f839c593dc67fd);
    ck_assert_uint_eq(siphash(seed, data, 8), 0x93f5f5799a932462);
    ck_assert_uint_eq(siphash(seed, data, 15), 0xa129ca6149be45e5);
    ck_assert_uint_eq(siphash(seed, data, 63), 0x958a324ceb064572);
}
END_TEST

START_TEST(another_seed_gives_another_hash_and_alignment_does_not_matter)
{
    uint8_t a[16] = {0}, b[16] = {1}, data[32];
    sequence(data, sizeof(data));
    ck_assert_uint_ne(siphash(a, data, 9), siphash(b, data, 9));
    uint8_t moved[33];
    sequence(moved + 1, 32);
    ck_assert_uint_eq(siphash(a, data, 32), siphash(a, moved + 1, 32));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("siphash");
    TCase *tcase = tcase_create("siphash");
    tcase_add_test(tcase, the_published_test_vectors_come_out);
    tcase_add_test(
        tcase, another_seed_gives_another_hash_and_alignment_does_not_matter);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
