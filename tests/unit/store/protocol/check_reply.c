#include "store/protocol/reply.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

START_TEST(every_text_is_one_line)
{
    for (int i = 0; i < REPLY_N_TEXTS; i++) {
        size_t len;
        const char *line = reply_text((enum reply_text)i, &len);

        ck_assert_ptr_nonnull(line);
        ck_assert_uint_eq(strlen(line), len);
        ck_assert_ptr_eq(strstr(line, "\r\n"), line + len - 2);
    }
}
END_TEST

START_TEST(texts_are_memcacheds)
{
    static const struct {
        enum reply_text text;
        const char *line;
    } known[] = {
        {REPLY_STORED, "STORED\r\n"},
        {REPLY_BAD_FORMAT, "CLIENT_ERROR bad command line format\r\n"},
        {REPLY_BAD_CHUNK, "CLIENT_ERROR bad data chunk\r\n"},
        {REPLY_BAD_DELTA, "CLIENT_ERROR invalid numeric delta argument\r\n"},
        {REPLY_BAD_DELETE, "CLIENT_ERROR bad command line format.  Usage: "
                           "delete <key> [noreply]\r\n"},
        {REPLY_NOT_NUMBER, "CLIENT_ERROR cannot increment or decrement "
                           "non-numeric value\r\n"},
        {REPLY_TOO_LARGE, "SERVER_ERROR object too large for cache\r\n"},
        {REPLY_NO_SHUTDOWN, "ERROR: shutdown not enabled\r\n"},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t len;

        ck_assert_str_eq(reply_text(known[i].text, &len), known[i].line);
    }
}
END_TEST

START_TEST(a_value_line_has_key_flags_length_and_cas)
{
    char out[REPLY_VALUE_MAX], key[250];
    size_t n = reply_value(out, "k", 1, 0, 0, false, 9);

    ck_assert_uint_eq(n, 13);
    ck_assert_mem_eq(out, "VALUE k 0 0\r\n", n);
    n = reply_value(out, "key", 3, 12, 345, true, 10);
    ck_assert_mem_eq(out, "VALUE key 12 345 10\r\n", n);
    memset(key, 'k', sizeof(key));
    n = reply_value(out, key, sizeof(key), UINT32_MAX, UINT32_MAX, true,
                    UINT64_MAX);
    ck_assert_uint_le(n, REPLY_VALUE_MAX);
    ck_assert_mem_eq(out + n - 45,
                     " 4294967295 4294967295 18446744073709551615\r\n", 45);
}
END_TEST

START_TEST(a_number_is_decimal)
{
    char out[REPLY_NUMBER_MAX];

    ck_assert_uint_eq(reply_number(out, 0), 3);
    ck_assert_mem_eq(out, "0\r\n", 3);
    ck_assert_uint_eq(reply_number(out, UINT64_MAX), REPLY_NUMBER_MAX);
    ck_assert_mem_eq(out, "18446744073709551615\r\n", 22);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reply");
    TCase *t = tcase_create("reply");

    tcase_add_test(t, every_text_is_one_line);
    tcase_add_test(t, texts_are_memcacheds);
    tcase_add_test(t, a_value_line_has_key_flags_length_and_cas);
    tcase_add_test(t, a_number_is_decimal);
    suite_add_tcase(s, t);
    return run_suite(s);
}
