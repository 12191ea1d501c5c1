/* Dumps: what is written is read again, and mistakes are told with a place. */
#include "store/tool/dump_format.h"

#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/support/run_suite.h"

static char error[300];

/* The example of docs/dump.md. */
static const char example[] = "kvpool dump 1\n"
                              "pool default\n"
                              "size 67108864\n"
                              "time 1764000000\n"
                              "\n"
                              "\n"
                              "item 3 5 0 0 17 3754bc96\n"
                              "keyvalue\n"
                              "end 1 92\n";

/* Items that could be read, or -errno. */
static int read_all(const char *bytes, size_t len)
{
    struct dump_reader reader;
    struct dump_head head;
    struct dump_item item;
    FILE *in = fmemopen((void *)(uintptr_t)bytes, len, "r");
    int n = 0;
    int rc = dump_read_head(&reader, in, &head, error, sizeof(error));
    while (rc == 0 && (rc = dump_read_item(&reader, &item)) == 1) {
        n++;
        rc = 0;
        ck_assert_mem_eq(reader.buf, "keyvalue", 8);
        ck_assert_uint_eq(item.cas, 17);
    }
    dump_reader_fini(&reader);
    fclose(in);
    return rc < 0 ? rc : n;
}

/* The example with one text in the place of another. */
static int read_with(const char *old, const char *new)
{
    char bytes[512];
    const char *at = strstr(example, old);
    ck_assert_ptr_nonnull(at);
    size_t before = (size_t)(at - example);
    int n = snprintf(bytes, sizeof(bytes), "%.*s%s%s", (int)before, example,
                     new, at + strlen(old));
    return read_all(bytes, (size_t)n);
}

static void says(const char *words)
{
    ck_assert_msg(strstr(error, words) != NULL, "\"%s\" is not in \"%s\"",
                  words, error);
}

START_TEST(the_example_of_the_document_is_read)
{
    ck_assert_int_eq(read_all(example, sizeof(example) - 1), 1);
}
END_TEST

START_TEST(a_dump_that_ends_too_early_is_refused)
{
    for (size_t len = 1; len < sizeof(example) - 1; len++) {
        ck_assert_int_eq(read_all(example, len), -EINVAL);
        says("byte ");
    }
}
END_TEST

START_TEST(what_a_line_lacks_is_told_with_its_place)
{
    ck_assert_int_eq(read_with("dump 1", "dump 2"), -EINVAL);
    says("version 2");
    ck_assert_int_eq(read_with("kvpool", "mvpool"), -EINVAL);
    says("this is no dump");
    ck_assert_int_eq(read_with("pool default", "pool "), -EINVAL);
    says("byte 14");
    ck_assert_int_eq(read_with("item 3", "item 03"), -EINVAL);
    says("byte 59, after 0 items: expected 'item");
    ck_assert_int_eq(read_with("item 3 5", "item 0 8"), -EINVAL);
    ck_assert_int_eq(read_with("item 3 5", "item 3 99999999999"), -EINVAL);
    ck_assert_int_eq(read_with("item 3 5", "item 3 1073741824"), -EINVAL);
    says("ends within an item");
    ck_assert_int_eq(read_with("keyvalue", "kexvalue"), -EINVAL);
    says("do not match its sum");
    ck_assert_int_eq(read_with("0 0 17", "0 0 18"), -EINVAL);
    says("do not match its sum");
    ck_assert_int_eq(read_with("0 0 17", "0 0 0"), -EINVAL);
    says("the cas id 0 is not from 1 to 2^61 - 1");
    ck_assert_int_eq(read_with("0 0 17", "0 0 2305843009213693952"), -EINVAL);
    says("the cas id 2305843009213693952 is not");
    ck_assert_int_eq(read_with("0 0 17", "0 0 2305843009213693951"), -EINVAL);
    says("do not match its sum");
    ck_assert_int_eq(read_with("keyvalue\n", "keyvalueX\n"), -EINVAL);
    says("after 1 items: expected the end of a line");
    ck_assert_int_eq(read_with("end 1", "end 2"), -EINVAL);
    says("a part of the dump is missing");
    ck_assert_int_eq(read_with("end 1 92\n", "end 1 92\nx"), -EINVAL);
    says("something follows");
}
END_TEST

START_TEST(the_sum_is_that_of_zip)
{
    struct dump_crc crc;
    dump_crc_init(&crc);
    ck_assert_uint_eq(dump_crc_add(&crc, 0, "123456789", 9), 0xcbf43926);
    uint32_t part = dump_crc_add(&crc, 0, "1234", 4);
    ck_assert_uint_eq(dump_crc_add(&crc, part, "56789", 5), 0xcbf43926);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dump");
    TCase *tcase = tcase_create("dump");
    tcase_add_test(tcase, the_example_of_the_document_is_read);
    tcase_add_test(tcase, a_dump_that_ends_too_early_is_refused);
    tcase_add_test(tcase, what_a_line_lacks_is_told_with_its_place);
    tcase_add_test(tcase, the_sum_is_that_of_zip);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
