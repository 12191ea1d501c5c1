/* The hash is XXH3, and the seed matters. */
#include "store/engine/hash.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

/* Pools on disk depend on it: these values must never change. */
START_TEST(known_keys_have_known_hashes)
{
    ck_assert_uint_eq(hash_key(0, "", 0), 0x2d06800538d394c2u);
    ck_assert_uint_eq(hash_key(0, "a", 1), 0xe6c632b61e964e1fu);
    ck_assert_uint_eq(hash_key(0, "abc", 3), 0x78af5f94892f3950u);
}
END_TEST

START_TEST(another_seed_is_another_hash)
{
    static const char key[300] = "key";
    for (size_t len = 1; len <= sizeof(key); len++) {
        ck_assert_uint_ne(hash_key(1, key, len), hash_key(2, key, len));
        ck_assert_uint_eq(hash_key(1, key, len), hash_key(1, key, len));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hash");
    TCase *tcase = tcase_create("hash");
    tcase_add_test(tcase, known_keys_have_known_hashes);
    tcase_add_test(tcase, another_seed_is_another_hash);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
