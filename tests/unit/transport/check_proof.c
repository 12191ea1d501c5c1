#include "transport/proof.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/support/run_suite.h"

static const uint64_t server[2] = {1, 2}, client[2] = {3, 4};
static struct proof_log log_a, log_b;

static void note(struct proof_log *log, enum proof_way way, const char *text)
{
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};

    proof_note(log, way, &iov, 1, iov.iov_len);
}

static void start(void)
{
    memset(&log_a, 0, sizeof(log_a));
    note(&log_a, PROOF_TO_SERVER, "get one two three\r\n");
    note(&log_a, PROOF_TO_CLIENT, "END\r\n");
    log_b = log_a;
}

START_TEST(the_hash_is_that_of_the_paper)
{
    uint8_t text[15];

    for (int i = 0; i < 15; i++)
        text[i] = (uint8_t)i;
    /* Appendix A of the paper: key 00 01 .. 0f, message 00 01 .. 0e. */
    ck_assert_uint_eq(proof_hash(UINT64_C(0x0706050403020100),
                                 UINT64_C(0x0f0e0d0c0b0a0908), text, 15),
                      UINT64_C(0xa129ca6149be45e5));
    /* The first of the authors' list of test vectors: the empty message. */
    ck_assert_uint_eq(proof_hash(UINT64_C(0x0706050403020100),
                                 UINT64_C(0x0f0e0d0c0b0a0908), text, 0),
                      UINT64_C(0x726fdb47dd0e0e31));
    ck_assert_uint_eq(proof_hash(UINT64_C(0x0706050403020100),
                                 UINT64_C(0x0f0e0d0c0b0a0908), text, 8),
                      UINT64_C(0x93f5f5799a932462));
}
END_TEST

START_TEST(two_ends_that_saw_the_same_bytes_agree)
{
    uint32_t n[2] = {log_a.have[0], log_a.have[1]};
    uint8_t a[PROOF_SIZE], b[PROOF_SIZE];

    ck_assert_int_eq(proof_make(&log_a, n, server, client, 1, a), 0);
    ck_assert_int_eq(proof_make(&log_b, n, server, client, 1, b), 0);
    ck_assert_mem_eq(a, b, PROOF_SIZE);
    /* What came later at one end does not matter. */
    note(&log_b, PROOF_TO_SERVER, "more");
    ck_assert_int_eq(proof_make(&log_b, n, server, client, 1, b), 0);
    ck_assert_mem_eq(a, b, PROOF_SIZE);
}
END_TEST

START_TEST(whatever_differs_changes_both_halves_of_the_proof)
{
    uint32_t n[2] = {log_a.have[0], log_a.have[1]}, less[2] = {n[0] - 1, n[1]};
    uint64_t other[2] = {9, 9};
    uint8_t a[PROOF_SIZE], b[4][PROOF_SIZE];

    log_b.bytes[0][3] ^= 1;
    ck_assert_int_eq(proof_make(&log_a, n, server, client, 1, a), 0);
    ck_assert_int_eq(proof_make(&log_b, n, server, client, 1, b[0]), 0);
    ck_assert_int_eq(proof_make(&log_a, n, server, client, 0, b[1]), 0);
    ck_assert_int_eq(proof_make(&log_a, n, other, client, 1, b[2]), 0);
    ck_assert_int_eq(proof_make(&log_a, less, server, client, 1, b[3]), 0);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_ne(memcmp(a, b[i], 8), 0);
        ck_assert_int_ne(memcmp(a + 8, b[i] + 8, 8), 0);
    }
}
END_TEST

START_TEST(a_byte_cannot_change_its_direction)
{
    uint32_t n[2] = {20, 5}, m[2] = {19, 6};
    uint8_t a[PROOF_SIZE], b[PROOF_SIZE];

    memset(&log_a, 0, sizeof(log_a));
    log_a.have[0] = log_a.have[1] = 30;
    log_b = log_a;
    ck_assert_int_eq(proof_make(&log_a, n, server, client, 1, a), 0);
    ck_assert_int_eq(proof_make(&log_b, m, server, client, 1, b), 0);
    ck_assert_mem_ne(a, b, PROOF_SIZE);
}
END_TEST

START_TEST(too_few_bytes_or_more_than_are_kept_prove_nothing)
{
    static const uint32_t bad[][2] = {
        {0, 0},  {PROOF_LEAST - 1, 0},     {10, 5},          {20, 5},
        {19, 6}, {UINT32_MAX, UINT32_MAX}, {UINT32_MAX, 17}, {1, UINT32_MAX},
    };
    uint32_t least[2] = {PROOF_LEAST, 0};
    uint8_t out[PROOF_SIZE] = {7}, before[PROOF_SIZE] = {7};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_int_eq(proof_make(&log_a, bad[i], server, client, 0, out),
                         -EINVAL);
    ck_assert_mem_eq(out, before, PROOF_SIZE);
    ck_assert_int_eq(proof_make(&log_a, least, server, client, 0, out), 0);
}
END_TEST

START_TEST(the_first_bytes_are_kept_and_no_more)
{
    char big[PROOF_BYTES];
    struct iovec iov[3] = {{big, 1}, {big, 0}, {big, sizeof(big)}};

    memset(big, 'x', sizeof(big));
    memset(&log_a, 0, sizeof(log_a));
    proof_note(&log_a, PROOF_TO_CLIENT, iov, 3, 3); /* 3 of the vector */
    ck_assert_uint_eq(log_a.have[PROOF_TO_CLIENT], 3);
    proof_note(&log_a, PROOF_TO_CLIENT, iov, 3, sizeof(big) + 1);
    ck_assert_uint_eq(log_a.have[PROOF_TO_CLIENT], PROOF_BYTES);
    ck_assert_uint_eq(log_a.have[PROOF_TO_SERVER], 0);
    big[0] = 'y';
    proof_note(&log_a, PROOF_TO_CLIENT, iov, 1, 1);
    ck_assert_uint_eq(log_a.bytes[PROOF_TO_CLIENT][PROOF_BYTES - 1], 'x');
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("proof");
    TCase *tcase = tcase_create("proof");

    tcase_add_checked_fixture(tcase, start, NULL);
    tcase_add_test(tcase, the_hash_is_that_of_the_paper);
    tcase_add_test(tcase, two_ends_that_saw_the_same_bytes_agree);
    tcase_add_test(tcase, whatever_differs_changes_both_halves_of_the_proof);
    tcase_add_test(tcase, a_byte_cannot_change_its_direction);
    tcase_add_test(tcase, too_few_bytes_or_more_than_are_kept_prove_nothing);
    tcase_add_test(tcase, the_first_bytes_are_kept_and_no_more);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
