#include "store/server/options.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "tests/support/run_suite.h"

static struct options o;
static char text[8192]; /* what was printed, to out or to err */

/* Parses a command line of words parted by spaces. */
static int parse(const char *line)
{
    static char copy[1024];
    char *argv[64] = {"kvserver"}, *save = NULL;
    int argc = 1, status;
    FILE *file = fmemopen(text, sizeof(text), "w");

    memset(text, 0, sizeof(text));
    strcpy(copy, line);
    for (char *word = strtok_r(copy, " ", &save); word != NULL;
         word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    status = options_parse(&o, argc, argv, file, file);
    fclose(file);
    return status;
}

START_TEST(without_options_it_is_memcached_with_a_pool)
{
    setenv("STATE_DIRECTORY", "/run/state:/other", 1);
    ck_assert_int_eq(parse(""), -1);
    ck_assert_int_eq(o.port, 11211);
    ck_assert_uint_eq(o.memory, 64 << 20);
    ck_assert_uint_eq(o.item_max, 1 << 20);
    ck_assert_uint_eq(o.max_connections, 1024);
    ck_assert(o.evict && o.flush_allowed && !o.shutdown_allowed);
    ck_assert_str_eq(o.pool, "/run/state/pool");
    unsetenv("STATE_DIRECTORY");
    ck_assert_int_eq(parse(""), -1);
    ck_assert_str_eq(o.pool, "/var/lib/kvserver/pool");
}
END_TEST

START_TEST(memcacheds_options_mean_what_they_mean_there)
{
    ck_assert_int_eq(parse("-p 1234 -m 100 -M -c 10 -A -F -I 2m -b 5 -t 4 -vv "
                           "-U 0 -l 127.0.0.1,::1 -l [::]:5 -o modern,"
                           "hashpower=20,no_maxconns_fast -u nobody -d -P /x"),
                     -1);
    ck_assert_int_eq(o.port, 1234);
    ck_assert_uint_eq(o.memory, 100 << 20);
    ck_assert(!o.evict && o.shutdown_allowed && !o.flush_allowed);
    ck_assert(o.daemon && !o.refuse_fast);
    ck_assert_uint_eq(o.item_max, 2 << 20);
    ck_assert_uint_eq(o.n_listen, 3);
    ck_assert_str_eq(o.listen[1], "::1");
    ck_assert_int_eq(o.verbosity, 2);
    ck_assert_str_eq(o.ignored, " modern hashpower");
    ck_assert_int_eq(parse("--port=-1 --conn-limit 7 --disable-evictions"), -1);
    ck_assert_int_eq(o.port, -1);
    ck_assert_uint_eq(o.max_connections, 7);
}
END_TEST

START_TEST(the_pool_has_a_path_a_size_and_a_durability)
{
    ck_assert_int_eq(parse("--pool /x/y:2G --durability sync"), -1);
    ck_assert_str_eq(o.pool, "/x/y");
    ck_assert_uint_eq(o.pool_size, UINT64_C(2) << 30);
    ck_assert_int_eq(o.durability, KV_DURABILITY_SYNC);
    ck_assert_int_eq(parse("--pool /tmp -m 5"), -1);
    ck_assert_str_eq(o.pool, "/tmp/pool");
    ck_assert_uint_eq(o.pool_size, 5 << 20);
}
END_TEST

START_TEST(a_mistake_is_one_line_and_memcacheds_status)
{
    static const struct {
        const char *line;
        int status;
    } wrong[] = {
        {"-p 99999", EX_USAGE},     {"-p x", EX_USAGE},
        {"-U 5", EX_USAGE},         {"-m 0", EX_USAGE},
        {"-m x", EX_USAGE},         {"-c 0", EXIT_FAILURE},
        {"-t 0", EXIT_FAILURE},     {"-R 0", EXIT_FAILURE},
        {"-I 1", EX_USAGE},         {"-I 2g", EX_USAGE},
        {"-I 60m", EX_USAGE},       {"-B foo", EX_USAGE},
        {"-o foo", EXIT_FAILURE},   {"--foo", EXIT_FAILURE},
        {"-Q", EXIT_FAILURE},       {"-p", EXIT_FAILURE},
        {"-S", EX_USAGE},           {"-Z", EX_USAGE},
        {"-a 999", EX_USAGE},       {"--durability x", EX_USAGE},
        {"--pool /x:1Q", EX_USAGE}, {"--pool /x:1K", EX_USAGE},
        {"--pool /x:", EX_USAGE},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(parse(wrong[i].line) == wrong[i].status, "%s",
                      wrong[i].line);
        ck_assert_msg(strchr(text, '\n') == text + strlen(text) - 1, "%s: %s",
                      wrong[i].line, text);
    }
}
END_TEST

START_TEST(help_names_what_is_built_in_and_nothing_else)
{
    ck_assert_int_eq(parse("-h"), 0);
    ck_assert_ptr_nonnull(strstr(text, "unix-socket"));
    ck_assert_ptr_null(strstr(text, "sasl"));
    ck_assert_ptr_null(strstr(text, "enable-ssl"));
    ck_assert_ptr_null(strstr(text, "ext_path"));
    ck_assert_ptr_null(strstr(text, "proxy_config"));
    ck_assert_int_eq(parse("-V"), 0);
    ck_assert_str_eq(text, "kvserver 0.1.0 (memcached 1.6.18 protocol)\n");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");

    tcase_add_test(t, without_options_it_is_memcached_with_a_pool);
    tcase_add_test(t, memcacheds_options_mean_what_they_mean_there);
    tcase_add_test(t, the_pool_has_a_path_a_size_and_a_durability);
    tcase_add_test(t, a_mistake_is_one_line_and_memcacheds_status);
    tcase_add_test(t, help_names_what_is_built_in_and_nothing_else);
    suite_add_tcase(s, t);
    return run_suite(s);
}
