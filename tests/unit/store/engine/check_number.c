/* Numbers in values, as memcached reads them. */
#include "store/engine/number.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_suite.h"

static const struct {
    const char *text;
    bool good;
    uint64_t number;
} texts[] = {{"5", true, 5},
             {"0", true, 0},
             {" 5", true, 5},
             {"\t\r\n 7 ", true, 7},
             {"+5", true, 5},
             {"5 6", true, 5},
             {"5   ", true, 5},
             {"-0", true, 0},
             {"0000000000000000000000000000007", true, 7},
             {"18446744073709551615", true, UINT64_MAX},
             {"-9223372036854775809", true, INT64_MAX},
             {"-18446744073709551615", true, 1},
             {"18446744073709551616", false, 0},
             {"99999999999999999999999", false, 0},
             {"-1", false, 0},
             {"-9223372036854775808", false, 0},
             {"", false, 0},
             {"   ", false, 0},
             {"+", false, 0},
             {"-", false, 0},
             {"+-5", false, 0},
             {"- 5", false, 0},
             {"5x", false, 0},
             {"x5", false, 0},
             {"1.5", false, 0},
             {"0x10", false, 0}};

START_TEST(texts_are_numbers_exactly_when_memcached_says_so)
{
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        uint64_t number = 4711;
        size_t len = strlen(texts[i].text);
        char *exact = malloc(len + 1); /* no byte behind it may be read */
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, texts[i].text, len);
        ck_assert_msg(number_read(exact, len, &number) == texts[i].good, "%s",
                      texts[i].text);
        ck_assert_uint_eq(number, texts[i].good ? texts[i].number : 4711);
        free(exact);
    }
}
END_TEST

START_TEST(what_is_written_can_be_read_again)
{
    uint64_t number = 1;
    for (int i = 0; i < 70; i++) {
        char text[NUMBER_MAX_DIGITS];
        uint64_t again;
        size_t len = number_write(number, text);
        ck_assert(number_read(text, len, &again));
        ck_assert_uint_eq(again, number);
        number = number * 3 + 1;
    }
    char text[NUMBER_MAX_DIGITS];
    ck_assert_uint_eq(number_write(UINT64_MAX, text), NUMBER_MAX_DIGITS);
    ck_assert_uint_eq(number_write(0, text), 1);
}
END_TEST

START_TEST(incr_wraps_and_decr_stops_at_zero)
{
    ck_assert_uint_eq(number_step(UINT64_MAX, true, 3), 2);
    ck_assert_uint_eq(number_step(5, true, 3), 8);
    ck_assert_uint_eq(number_step(5, false, 3), 2);
    ck_assert_uint_eq(number_step(5, false, 5), 0);
    ck_assert_uint_eq(number_step(5, false, UINT64_MAX), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("number");
    TCase *tcase = tcase_create("number");
    tcase_add_test(tcase, texts_are_numbers_exactly_when_memcached_says_so);
    tcase_add_test(tcase, what_is_written_can_be_read_again);
    tcase_add_test(tcase, incr_wraps_and_decr_stops_at_zero);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
