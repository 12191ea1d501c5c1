/* What the sub-commands share. */
#include "store/tool/tool.h"

#include <check.h>
#include <errno.h>

#include "tests/support/run_suite.h"

START_TEST(sizes_have_units)
{
    uint64_t size = 7;
    ck_assert_int_eq(tool_size("1024", &size), 0);
    ck_assert_uint_eq(size, 1024);
    ck_assert_int_eq(tool_size("3g", &size), 0);
    ck_assert_uint_eq(size, (uint64_t)3 << 30);
    ck_assert_int_eq(tool_size("0", &size), 0);
    const char *const wrong[] = {
        "", "x", "-1", "1X", "1KB", "1 ", "99999999999999999999", "99999999T"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        ck_assert_int_eq(tool_size(wrong[i], &size), -EINVAL);
    ck_assert_uint_eq(size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tool");
    TCase *tcase = tcase_create("tool");
    tcase_add_test(tcase, sizes_have_units);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
