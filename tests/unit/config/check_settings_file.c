#include "tests/unit/config/mistakes.h"

#include <errno.h>
#include <sys/stat.h>

/* Text that has one mistake, the line it is on and what was expected. */
static const struct {
    const char *text;
    const char *where;
    const char *expected;
} wrong[] = {
    {"pol_usec = 1;", ":1: ", "expected the name of a setting"},
    {"\n\npoll_usec = -1;", ":3: ", "poll_usec: expected a number 0 to 10000"},
    {"poll_usec = 1000001;", ":1: ", "got '1000001'"},
    {"poll_usec = \"1\";", ":1: ", "expected a number 0 to 1000000, got a str"},
    {"poll_usec = 1.5;", ":1: ", "got a number with a fraction"},
    {"poll_usec = true;", ":1: ", "got true or false"},
    {"poll_usec = { };", ":1: ", "got a group"},
    {"poll_usec = [ 1 ];", ":1: ", "got an array"},
    {"poll_usec = ( 1 );", ":1: ", "got a list"},
    {"accelerate = 1;", ":1: ", "expected true or false, got a number"},
    {"accelerate = \"true\";", ":1: ", "expected true or false, got a string"},
    {"ring_size = 4097;", ":1: ", "expected a power of two 4096 to 1073741824"},
    {"ring_size = \"4L\";", ":1: ", "expected a power of two"},
    {"log_level = 1;", ":1: ", "expected one of none|error"},
    {"log_level = \"all\";", ":1: ", "got 'all'"},
    {"transports = ( \"shm\", 1 );", ":1: ", "expected some of shm"},
    {"transports = ( );", ":1: ", "expected some of shm"},
    {"users = ( \"root\", true );", ":1: ", "expected up to 32 user names"},
    {"users = ( ( 1 ) );", ":1: ", "expected up to 32 user names"},
    {"users = -1;", ":1: ", "expected a user"},
    {"report = 1;", ":1: ", "expected a path"},
    {"config_path = \"x\";", ":1: ", "expected the name of a setting"},
    {"poll_usec = 1;\npoll_usec = 2;", ":2: ", "duplicate setting"},
    {"poll_usec = 1;\nsettle_ms = ;", ":2: ", "syntax error"},
    {"poll_usec 1;", ":1: ", "syntax error"},
    {"report = \"unfinished", ":1: ", "syntax error"},
    {"upgrade_bytes = 4294967296;", ":1: ", "write 4294967296L"},
    {"/* 1\n2 */ max_memory\n= 0x100000000;", ":3: ", "write 0x100000000L"},
    {"upgrade_bytes = 99999999999999999999L;", ":1: ", "upgrade_bytes: expec"},
    {"upgrade_bytes = \"4294967296G\";", ":1: ", "upgrade_bytes: expected"},
    {"\n  @include \"/tmp\"", ":2: ", "instead of @include"},
    {"rules = 1;", ":1: ", "expected a list of groups"},
    {"rules = { port = 1; };", ":1: ", "expected a list of groups"},
    {"rules = ( 1 );", ":1: ", "expected a group"},
    {"rules = ( {\n pork = 1; } );", ":2: ", "expected program, role, peer"},
    {"rules = ( {\n port = true; } );", ":2: ", "a number or a string"},
    {"rules = ( {\n\n port = 0; } );", ":3: ", "port: expected a port 1"},
    {"rules = ( { program = 1; } );", ":1: ", "expected a short string"},
    {"rules = ( { program = ( ); } );", ":1: ", "expected a single value"},
    {"rules = ( { role = \"both\"; } );", ":1: ", "role: expected client"},
    {"rules = ( { peer = \"host\"; } );", ":1: ", "peer: expected an IPv4"},
    {"rules = ( { accelerate = 0; } );", ":1: ", "expected true or false"},
    {"rules = ( { poll_usec = \"1\"; } );", ":1: ", "expected a number"},
    {"rules = ( { poll_usec = -1; } );", ":1: ", "poll_usec: expected a numb"},
    {"rules = ( { ring_size = 5; } );", ":1: ", "ring_size: expected a power"},
    {"rules = ( { settle_ms = 1; } );", ":1: ", "expected program, role"},
    {"rules = ( { port = 1; port = 2; } );", ":1: ", "duplicate setting"},
};

START_TEST(every_kind_of_mistake_names_its_line_and_what_was_expected)
{
    ck_assert_int_eq(load_text(wrong[_i].text, NULL), -EINVAL);
    ck_one_mistake(wrong[_i].where, wrong[_i].expected);
    ck_one_mistake("/proc/self/fd/", "");
}
END_TEST

START_TEST(each_mistake_of_a_file_is_one_line_and_the_rest_is_kept)
{
    ck_assert_int_eq(load_text("poll_usec = -1;\nsettle_ms = 5;\nx = 1;\n"
                               "rules = ( { port = 0; peer = \"x\"; },\n"
                               "{ port = 80; } );",
                               NULL),
                     -EINVAL);
    ck_assert_uint_eq(mistakes.n, 4);
    ck_assert_uint_eq(settings.poll_usec, 50);
    ck_assert_uint_eq(settings.settle_ms, 5);
}
END_TEST

START_TEST(every_type_is_read_as_libconfig_writes_it)
{
    ck_assert_int_eq(
        load_text("accelerate = FALSE; upgrade_bytes = 4294967296L;\n"
                  "poll_usec = 0x10 # 99999999999\n"
                  "ring_size : \"64K\"; // 99999999999\n"
                  "users = [ 5, 6 ]; report = \"99999999999 \\\" @include\";"
                  "max_memory = 2000000; log_level = \"debug\";\n"
                  "transports = ( \"shm\" ); /* 99999999999 */",
                  NULL),
        0);
    ck_assert(!settings.accelerate);
    ck_assert_uint_eq(settings.upgrade_bytes, UINT64_C(1) << 32);
    ck_assert_uint_eq(settings.poll_usec, 16);
    ck_assert_uint_eq(settings.ring_size, 65536);
    ck_assert_uint_eq(settings.users.n, 2);
    ck_assert_uint_eq(settings.users.uid[1], 6);
    ck_assert_str_eq(settings.report, "99999999999 \" @include");
    ck_assert_uint_eq(settings.max_memory, 2000000);
    ck_assert_int_eq(settings.log_level, LOG_DEBUG);
    ck_assert_int_eq(load_text("users = ( \"root\", 7 );", NULL), 0);
    ck_assert_uint_eq(settings.users.n, 2);
    ck_assert_int_eq(load_text("users = 7;", NULL), 0);
    ck_assert_uint_eq(settings.users.uid[0], 7);
}
END_TEST

START_TEST(a_rule_takes_every_key)
{
    const struct rule *r;

    ck_assert_int_eq(
        load_text("rules = ( { program = \"m*\"; role = \"client\";"
                  "peer = \"10.0.0.0/8\"; port = \"80-90\"; accelerate = false;"
                  "transports = \"verbs, shm\"; upgrade_after = 1; "
                  "upgrade_bytes = \"2K\"; poll_usec = 3;"
                  "ring_size = 4096; }, { } );",
                  NULL),
        0);
    ck_assert_uint_eq(settings.rules.n, 2);
    r = settings.rules.rule;
    ck_assert_uint_eq(r->set, (1u << RULE_KEYS) - 1);
    ck_assert_str_eq(r->program, "m*");
    ck_assert(r->client);
    ck_assert_uint_eq(r->peer[0], 10);
    ck_assert_uint_eq(r->prefix, 8);
    ck_assert_uint_eq(r->port_from, 80);
    ck_assert_uint_eq(r->port_to, 90);
    ck_assert_uint_eq(r->value[RULE_ACCELERATE], 0);
    ck_assert_str_eq(r->transports, "verbs,shm");
    ck_assert_uint_eq(r->value[RULE_UPGRADE_AFTER], 1);
    ck_assert_uint_eq(r->value[RULE_UPGRADE_BYTES], 2048);
    ck_assert_uint_eq(r->value[RULE_POLL_USEC], 3);
    ck_assert_uint_eq(r->value[RULE_RING_SIZE], 4096);
    ck_assert_uint_eq(settings.rules.rule[1].set, 0);
}
END_TEST

START_TEST(an_empty_file_is_no_mistake)
{
    ck_assert_int_eq(load_text("", NULL), 0);
    ck_assert_int_eq(load_text("# nothing\n", NULL), 0);
    ck_assert_int_eq(load("/dev/null", NULL), -EINVAL);
}
END_TEST

START_TEST(only_a_regular_file_up_to_a_mebibyte_is_read)
{
    static char text[(1 << 20) + 1];
    char path[64], dir[] = "/tmp/fastsock-check-XXXXXX", fifo[64];
    int fd;

    memset(text, '\n', sizeof(text));
    fd = text_file(text, sizeof(text) - 1, path);
    ck_assert_int_eq(load(path, NULL), 0);
    ck_assert_int_eq(write(fd, "\n", 1), 1);
    ck_assert_int_eq(load(path, NULL), -EINVAL);
    ck_one_mistake(path, "expected a regular file of at most 1 MiB");
    close(fd);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(load(dir, NULL), -EINVAL);
    ck_one_mistake(dir, "expected a regular file");
    snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(load(fifo, NULL), -EINVAL);
    ck_one_mistake(fifo, "expected a regular file");
    ck_assert_int_eq(load("/dev/zero", NULL), -EINVAL);
    ck_one_mistake("/dev/zero", "expected a regular file");
    unlink(fifo);
    rmdir(dir);
}
END_TEST

START_TEST(a_nul_byte_is_refused_with_its_line)
{
    static const char text[] = "poll_usec = 1;\n\0settle_ms = 2;";
    char path[64];
    int fd = text_file(text, sizeof(text), path);

    ck_assert_int_eq(load(path, NULL), -EINVAL);
    ck_one_mistake(":2: ", "expected text, got a NUL byte");
    ck_assert_uint_eq(settings.poll_usec, 50);
    close(fd);
}
END_TEST

START_TEST(a_path_that_does_not_fit_is_refused)
{
    static char path[SETTINGS_PATH_MAX + 1];

    memset(path, 'x', SETTINGS_PATH_MAX);
    ck_assert_int_eq(load(path, NULL), -EINVAL);
    ck_one_mistake("xxx...: ", "expected a path shorter than 4096");
}
END_TEST

START_TEST(deep_nesting_is_a_mistake_and_not_a_crash)
{
    static char text[200000];

    memset(text, '(', sizeof(text) - 1);
    memcpy(text, "a=", 2);
    ck_assert_int_eq(load_text(text, NULL), -EINVAL);
    ck_assert_uint_eq(mistakes.n, 1);
}
END_TEST

START_TEST(a_file_that_would_keep_libconfig_busy_is_refused)
{
    static char text[1 << 20];
    size_t used = 0;

    for (int i = 0; used < sizeof(text) - 64; i++)
        used += (size_t)sprintf(text + used, "u%d=1 ", i);
    ck_assert_int_eq(load_text(text, NULL), -EINVAL);
    ck_one_mistake(":1: ", "expected at most 10000 values");
}
END_TEST

START_TEST(more_rules_than_the_limit_are_a_mistake)
{
    static char text[8 * RULES_MAX];
    size_t used = (size_t)sprintf(text, "rules = ( { }");

    for (int i = 1; i < RULES_MAX; i++)
        used += (size_t)sprintf(text + used, ", { }");
    strcpy(text + used, " );");
    ck_assert_int_eq(load_text(text, NULL), 0);
    ck_assert_uint_eq(settings.rules.n, RULES_MAX);
    strcpy(text + used, ", { } );");
    ck_assert_int_eq(load_text(text, NULL), -EINVAL);
    ck_one_mistake(":1: ", "expected at most 1024 rules");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings_file");
    TCase *t = tcase_create("settings_file");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_loop_test(
        t, every_kind_of_mistake_names_its_line_and_what_was_expected, 0,
        (int)(sizeof(wrong) / sizeof(wrong[0])));
    tcase_add_test(t, each_mistake_of_a_file_is_one_line_and_the_rest_is_kept);
    tcase_add_test(t, every_type_is_read_as_libconfig_writes_it);
    tcase_add_test(t, a_rule_takes_every_key);
    tcase_add_test(t, an_empty_file_is_no_mistake);
    tcase_add_test(t, only_a_regular_file_up_to_a_mebibyte_is_read);
    tcase_add_test(t, a_nul_byte_is_refused_with_its_line);
    tcase_add_test(t, a_path_that_does_not_fit_is_refused);
    tcase_add_test(t, deep_nesting_is_a_mistake_and_not_a_crash);
    tcase_add_test(t, a_file_that_would_keep_libconfig_busy_is_refused);
    tcase_add_test(t, more_rules_than_the_limit_are_a_mistake);
    suite_add_tcase(suite, t);
    return run(suite);
}
