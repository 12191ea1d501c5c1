#include "preload/fastsock_text.h"

#include <check.h>
#include <string.h>
#include <time.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_sockets.h"
#include "tests/support/run_suite.h"

/* A machine that started less than 184 s ago has no such past. */
static uint64_t ago(uint64_t seconds)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((uint64_t)now.tv_sec - seconds) * 1000000000 +
           (uint64_t)now.tv_nsec;
}

static void check_since(uint64_t seconds, const char *text)
{
    char buf[TEXT_SPAN_MAX];

    ck_assert_str_eq(text_since(ago(seconds), buf),
                     ago(0) >= ago(seconds) ? text : "?");
}

START_TEST(names_look_as_in_ss)
{
    struct segment_name v4 = {.address = {10, 0, 0, 1}, .port = 80};
    struct segment_name v6 = {.address = {[15] = 1}, .port = 65535};
    char buf[TEXT_NAME_MAX];

    ck_assert_str_eq(text_name(4, &v4, buf), "10.0.0.1:80");
    ck_assert_str_eq(text_name(6, &v6, buf), "[::1]:65535");
    ck_assert_str_eq(text_name(0, &v6, buf), "?");
}
END_TEST

START_TEST(times_are_short)
{
    char buf[TEXT_SPAN_MAX];

    check_since(12, "12s");
    check_since(184, "3m04s");
    ck_assert_str_eq(text_since(UINT64_MAX, buf), "?");
    ck_assert_int_eq(text_since(ago(0), buf)[0], '0');
}
END_TEST

START_TEST(json_strings_are_escaped)
{
    char buf[64] = "";
    FILE *out = fmemopen(buf, sizeof(buf), "w");

    text_json(out, "a\"\\\n\xff");
    fclose(out);
    ck_assert_str_eq(buf, "\"a\\\"\\\\\\u000a\\u00ff\"");
}
END_TEST

START_TEST(columns_are_aligned)
{
    char buf[64] = "";
    FILE *out = fmemopen(buf, sizeof(buf), "w");
    struct text_table table;

    text_table_init(&table, 2, 1u << 0);
    text_cell(&table, "A");
    text_cell(&table, "B");
    text_cell(&table, "100");
    text_cell(&table, "x");
    ck_assert_int_eq(text_table_print(&table, out), 0);
    text_table_fini(&table);
    fclose(out);
    ck_assert_str_eq(buf, "  A  B\n100  x\n");
}
END_TEST

START_TEST(lines_of_the_kernel_give_names_and_inode)
{
    struct target_socket s;

    ck_assert(sockets_parse(
        "   1: 0100007F:2B67 0200007F:9C40 01 00000000:00000000 00:00000000 "
        "00000000     0        0 4711 1 0000000000000000 20 4 30 10 -1\n",
        &s));
    ck_assert_uint_eq(s.inode, 4711);
    ck_assert_int_eq(s.family, 4);
    ck_assert_uint_eq(s.local.port, 11111);
    ck_assert_uint_eq(s.peer.port, 40000);
    ck_assert_int_eq(memcmp(s.peer.address, (uint8_t[]){127, 0, 0, 2}, 4), 0);
}
END_TEST

START_TEST(an_ipv4_address_in_disguise_is_shown_as_ipv4)
{
    struct target_socket s;

    ck_assert(sockets_parse(
        "   1: 0000000000000000FFFF00000100007F:0050 "
        "0000000000000000FFFF00000100007F:0051 01 00000000:00000000 "
        "00:00000000 00000000     0        0 9 1 0000000000000000 20\n",
        &s));
    ck_assert_int_eq(s.family, 4);
    ck_assert_int_eq(memcmp(s.local.address, (uint8_t[]){127, 0, 0, 1}, 4), 0);
    ck_assert(sockets_parse(
        "   1: 00000000000000000000000001000000:0050 "
        "00000000000000000000000001000000:0051 01 00000000:00000000 "
        "00:00000000 00000000     0        0 9 1 0000000000000000 20\n",
        &s));
    ck_assert_int_eq(s.family, 6);
    ck_assert_uint_eq(s.local.address[15], 1);
}
END_TEST

START_TEST(a_line_that_is_no_socket_is_refused)
{
    struct target_socket s;

    ck_assert(!sockets_parse("  sl  local_address rem_address   st\n", &s));
    ck_assert(!sockets_parse("", &s));
    ck_assert(!sockets_parse("   1: 01:2B67 02:9C40 01 0:0 0:0 0 0 0 7\n", &s));
}
END_TEST

START_TEST(a_process_id_is_a_whole_positive_number)
{
    static const char *const bad[] = {"",   "0",   "-1",          "+1", " 1",
                                      "1x", "0x1", "99999999999", "1/2"};
    const char *good = "12/7";

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_int_eq(command_pid(bad[i], bad[i] + strlen(bad[i])), 0);
    ck_assert_int_eq(command_pid(good, good + 2), 12);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fastsock_text");
    TCase *t = tcase_create("fastsock_text");

    tcase_add_test(t, names_look_as_in_ss);
    tcase_add_test(t, times_are_short);
    tcase_add_test(t, json_strings_are_escaped);
    tcase_add_test(t, columns_are_aligned);
    tcase_add_test(t, lines_of_the_kernel_give_names_and_inode);
    tcase_add_test(t, an_ipv4_address_in_disguise_is_shown_as_ipv4);
    tcase_add_test(t, a_line_that_is_no_socket_is_refused);
    tcase_add_test(t, a_process_id_is_a_whole_positive_number);
    suite_add_tcase(s, t);
    return run_suite(s);
}
