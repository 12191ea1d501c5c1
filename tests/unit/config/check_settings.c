#include "tests/unit/config/mistakes.h"

#include <errno.h>
#include <inttypes.h>

static void count_row(void *arg, const struct setting *setting,
                      const char *value)
{
    ck_assert_ptr_eq(setting_find(setting->name), setting);
    ck_assert_ptr_nonnull(value);
    ck_assert_uint_gt(strlen(setting->help), 10);
    ++*(unsigned *)arg;
}

START_TEST(the_defaults_are_those_that_were_decided)
{
    unsigned rows = 0;

    settings_each(NULL, count_row, &rows);
    ck_assert_uint_eq(rows, 17);
    ck_assert(settings.accelerate);
    ck_assert_str_eq(settings.transports, "shm,verbs");
    ck_assert_uint_eq(settings.upgrade_after, 16);
    ck_assert_uint_eq(settings.upgrade_bytes, 65536);
    ck_assert_uint_eq(settings.poll_usec, 50);
    ck_assert_uint_eq(settings.poll_kernel_usec, 0);
    ck_assert(!settings.spread);
    ck_assert_uint_eq(settings.ring_size, 262144);
    ck_assert_uint_eq(settings.handover_hold_usec, 1000);
    ck_assert_uint_eq(settings.return_timeout_ms, 1000);
    ck_assert_uint_eq(settings.settle_ms, 1000);
    ck_assert_uint_eq(settings.max_links, 16384);
    ck_assert_uint_eq(settings.max_memory, 1 << 30);
    ck_assert_uint_eq(settings.users.n, 0);
    ck_assert_int_eq(settings.log_level, LOG_ERROR);
    ck_assert_str_eq(settings.report, "");
    ck_assert_str_eq(settings.config_path, "");
    ck_assert_uint_eq(settings.rules.n, 0);
}
END_TEST

/* Assigns text through the environment; 0 or -EINVAL. */
static int through_variable(const struct setting *setting, const char *text)
{
    char variable[SETTINGS_VALUE_MAX + 64];
    int len = snprintf(variable, sizeof(variable), "FASTSOCK_%s=%s",
                       setting->name, text);

    ck_assert_int_lt(len, (int)sizeof(variable));
    for (char *p = variable; *p != '='; p++)
        if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    return load_variable(variable);
}

static void try_number(const struct setting *setting, uint64_t n, bool accepted)
{
    char text[32], kept[SETTINGS_VALUE_MAX];

    snprintf(text, sizeof(text), "%" PRIu64, n);
    if (accepted) {
        ck_assert_int_eq(through_variable(setting, text), 0);
        setting_text(setting, &settings, kept);
        ck_assert_str_eq(kept, text);
    } else {
        ck_assert_int_eq(through_variable(setting, text), -EINVAL);
        ck_one_mistake("FASTSOCK_", "expected a ");
        ck_one_mistake("FASTSOCK_", text);
    }
}

static void try_edges(void *arg, const struct setting *setting,
                      const char *initial)
{
    (void)arg;
    (void)initial;
    if (setting->type != SETTING_NUMBER &&
        setting->type != SETTING_POWER_OF_TWO)
        return;
    try_number(setting, setting->min, true);
    try_number(setting, setting->max, true);
    try_number(setting, setting->max + 1, false);
    try_number(setting, UINT64_MAX, false);
    if (setting->min > 0)
        try_number(setting, setting->min - 1, false);
    if (setting->type == SETTING_POWER_OF_TWO)
        try_number(setting, setting->min + 1, false);
}

START_TEST(every_number_is_taken_at_both_ends_of_its_range_and_not_beyond)
{
    settings_each(NULL, try_edges, NULL);
}
END_TEST

START_TEST(what_is_not_a_number_is_refused)
{
    static const char *const texts[] = {
        "",
        " ",
        "abc",
        "-1",
        "+1",
        "1 ",
        " 1",
        "0x10",
        "1K",
        "1.5",
        "1e3",
        "12a",
        "18446744073709551616",
    };
    const struct setting *poll = setting_find("poll_usec");

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert_int_eq(through_variable(poll, texts[i]), -EINVAL);
        ck_one_mistake("FASTSOCK_POLL_USEC: ",
                       "expected a number 0 to 1000000, got '");
        ck_assert_uint_eq(settings.poll_usec, 50);
    }
}
END_TEST

START_TEST(sizes_may_end_in_k_m_or_g)
{
    static const struct {
        const char *text;
        uint64_t value; /* 0: refused */
    } tries[] = {
        {"4K", 4096},
        {"64k", 65536},
        {"1M", 1 << 20},
        {"1g", 1 << 30},
        {"2G", 0},
        {"3K", 0},
        {"K", 0},
        {"4KB", 0},
        {"4T", 0},
        {"1048576", 1 << 20},
        {"17179869184G", 0}, /* 2^64: must not wrap */
    };
    const struct setting *ring = setting_find("ring_size");

    for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        int rc = through_variable(ring, tries[i].text);

        ck_assert_int_eq(rc, tries[i].value != 0 ? 0 : -EINVAL);
        ck_assert_uint_eq(settings.ring_size,
                          rc == 0 ? tries[i].value : 262144);
    }
}
END_TEST

START_TEST(a_bool_is_one_of_eight_words_in_any_case)
{
    static const char *const yes[] = {"true", "yes", "on", "1", "TRUE", "On"};
    static const char *const no[] = {"false", "no", "off", "0", "FALSE", "No"};
    static const char *const neither[] = {"", "2", "truee", "t", "01", " on"};
    const struct setting *accelerate = setting_find("accelerate");

    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(through_variable(accelerate, yes[i]), 0);
        ck_assert(settings.accelerate);
        ck_assert_int_eq(through_variable(accelerate, no[i]), 0);
        ck_assert(!settings.accelerate);
        ck_assert_int_eq(through_variable(accelerate, neither[i]), -EINVAL);
        ck_one_mistake("FASTSOCK_ACCELERATE: ", "expected true or false");
    }
}
END_TEST

START_TEST(a_log_level_is_one_of_its_words)
{
    static const char *const words[] = {"none", "error", "warn", "info",
                                        "debug"};
    const struct setting *level = setting_find("log_level");
    char text[SETTINGS_VALUE_MAX];

    for (unsigned i = 0; i < 5; i++) {
        ck_assert_int_eq(through_variable(level, words[i]), 0);
        ck_assert_uint_eq(settings.log_level, i);
        setting_text(level, &settings, text);
        ck_assert_str_eq(text, words[i]);
    }
    ck_assert_int_eq(through_variable(level, "loud"), -EINVAL);
    ck_one_mistake("FASTSOCK_LOG_LEVEL: ",
                   "expected one of none|error|warn|info|debug, got 'loud'");
    ck_assert_int_eq(through_variable(level, "none|error"), -EINVAL);
    ck_assert_int_eq(through_variable(level, ""), -EINVAL);
}
END_TEST

START_TEST(transports_are_known_names_each_once)
{
    static const char *const bad[] = {"",     "rdma",    "shm,shm", "shm,",
                                      ",shm", "shm shm", "shmx"};
    const struct setting *transports = setting_find("transports");

    ck_assert_int_eq(through_variable(transports, " shm "), 0);
    ck_assert_str_eq(settings.transports, "shm");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(through_variable(transports, bad[i]), -EINVAL);
        ck_one_mistake("FASTSOCK_TRANSPORTS: ", "expected some of shm");
    }
}
END_TEST

START_TEST(users_are_names_of_passwd_or_uids)
{
    const struct setting *users = setting_find("users");
    char text[SETTINGS_VALUE_MAX];

    ck_assert_int_eq(through_variable(users, "root, 1001,4294967294"), 0);
    ck_assert_uint_eq(settings.users.n, 3);
    ck_assert_uint_eq(settings.users.uid[0], 0);
    ck_assert_uint_eq(settings.users.uid[1], 1001);
    ck_assert_uint_eq(settings.users.uid[2], 4294967294u);
    setting_text(users, &settings, text);
    ck_assert_str_eq(text, "0,1001,4294967294");
    ck_assert_int_eq(through_variable(users, ""), 0);
    ck_assert_uint_eq(settings.users.n, 0);
}
END_TEST

START_TEST(users_that_nobody_can_be_are_refused)
{
    static const char *const bad[] = {
        "no.such.user", "65534", "nobody", "4294967295", "99999999999999999999",
        "-1",           ",1",    "1,,2",   "root:",
    };
    const struct setting *users = setting_find("users");
    char many[256] = "1";

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(through_variable(users, bad[i]), -EINVAL);
        ck_one_mistake("FASTSOCK_USERS: ", "expected ");
        ck_assert_uint_eq(settings.users.n, 0);
    }
    for (int i = 1; i < SETTINGS_USERS_MAX; i++)
        strcat(many, ",1");
    ck_assert_int_eq(through_variable(users, many), 0);
    ck_assert_uint_eq(settings.users.n, SETTINGS_USERS_MAX);
    strcat(many, ",1");
    ck_assert_int_eq(through_variable(users, many), -EINVAL);
    ck_one_mistake("FASTSOCK_USERS: ", "at most 32 users");
}
END_TEST

START_TEST(a_path_that_does_not_fit_is_refused)
{
    const struct setting *report = setting_find("report");
    char path[SETTINGS_PATH_MAX + 1];

    memset(path, 'p', sizeof(path));
    path[SETTINGS_PATH_MAX - 1] = '\0';
    ck_assert_int_eq(through_variable(report, path), 0);
    ck_assert_str_eq(settings.report, path);
    path[SETTINGS_PATH_MAX - 1] = 'p';
    path[SETTINGS_PATH_MAX] = '\0';
    ck_assert_int_eq(through_variable(report, path), -EINVAL);
    ck_one_mistake("FASTSOCK_REPORT: ", "expected a path shorter than 4096");
}
END_TEST

START_TEST(a_variable_that_is_no_setting_is_a_mistake)
{
    static char *const bad[] = {"FASTSOCK_POL_USEC=1", "FASTSOCK_=1",
                                "FASTSOCK_poll_usec=1", "FASTSOCK_X",
                                "FASTSOCK_CONFIGS=/etc"};
    static char *const fine[] = {"FASTSOCKS=1",
                                 "XFASTSOCK_A=1",
                                 "fastsock_a=1",
                                 "",
                                 "FASTSOCK_SERVICE_HOST=10.0.0.7",
                                 "FASTSOCK_PORT_80_TCP=tcp://10.0.0.7:80",
                                 "FASTSOCK_KV_SERVICE_PORT=11211"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(load_variable(bad[i]), -EINVAL);
        ck_one_mistake("FASTSOCK_", "or FASTSOCK_<NAME OF A SETTING>");
    }
    for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
        ck_assert_int_eq(load_variable(fine[i]), 0);
}
END_TEST

START_TEST(the_first_of_two_equal_variables_counts)
{
    char *env[] = {"FASTSOCK_CONFIG=", "FASTSOCK_POLL_USEC=7",
                   "FASTSOCK_POLL_USEC=bad", NULL};

    ck_assert_int_eq(load(NULL, env), 0);
    ck_assert_uint_eq(settings.poll_usec, 7);
}
END_TEST

START_TEST(the_environment_overrides_the_file_which_overrides_the_default)
{
    char *env[] = {"FASTSOCK_POLL_USEC=3", "FASTSOCK_RULES=program=b", NULL};
    static const char text[] = "poll_usec = 2; settle_ms = 9;\n"
                               "rules = ({ program = \"a\"; }, { });";

    ck_assert_int_eq(load_text(text, NULL), 0);
    ck_assert_uint_eq(settings.poll_usec, 2);
    ck_assert_uint_eq(settings.settle_ms, 9);
    ck_assert_uint_eq(settings.ring_size, 262144);
    ck_assert_uint_eq(settings.rules.n, 2);
    ck_assert_int_eq(load_text(text, env), 0);
    ck_assert_uint_eq(settings.poll_usec, 3);
    ck_assert_uint_eq(settings.settle_ms, 9);
    ck_assert_uint_eq(settings.rules.n, 1);
    ck_assert_str_eq(settings.rules.rule[0].program, "b");
}
END_TEST

START_TEST(an_empty_list_of_rules_in_the_environment_clears_the_file_s)
{
    char *env[] = {"FASTSOCK_RULES=", NULL};

    ck_assert_int_eq(load_text("rules = ({ port = 1; });", env), 0);
    ck_assert_uint_eq(settings.rules.n, 0);
}
END_TEST

START_TEST(the_environment_names_the_file_unless_a_path_is_given)
{
    char named[64], given[64], variable[96];
    char *env[] = {variable, NULL};
    int a = text_file("poll_usec = 1;", 14, named);
    int b = text_file("poll_usec = 2;", 14, given);

    snprintf(variable, sizeof(variable), "FASTSOCK_CONFIG=%s", named);
    ck_assert_int_eq(load(NULL, env), 0);
    ck_assert_uint_eq(settings.poll_usec, 1);
    ck_assert_str_eq(settings.config_path, named);
    ck_assert_int_eq(load(given, env), 0);
    ck_assert_uint_eq(settings.poll_usec, 2);
    ck_assert_str_eq(settings.config_path, given);
    close(a);
    close(b);
}
END_TEST

START_TEST(a_named_file_must_exist_the_fallback_need_not)
{
    char *env[] = {"FASTSOCK_CONFIG=/nonexistent/f.conf", NULL};
    struct complaints complaints = {keep_mistake, &mistakes, 0};
    struct settings_source source = {.fallback = "/nonexistent/f.conf"};

    ck_assert_int_eq(settings_load_from(&settings, &source, &complaints), 0);
    ck_assert_uint_eq(mistakes.n, 0);
    ck_assert_str_eq(settings.config_path, "");
    ck_assert_int_eq(load(NULL, env), -EINVAL);
    ck_one_mistake("/nonexistent/f.conf: ", "expected a file that can be read");
}
END_TEST

START_TEST(a_privileged_program_reads_the_fallback_and_NULL)
{
    char *env[] = {"FASTSOCK_CONFIG=/nonexistent", "FASTSOCK_POLL_USEC=x",
                   "FASTSOCK_RULES=x", "FASTSOCK_NOT=1", NULL};
    struct complaints complaints = {keep_mistake, &mistakes, 0};
    char path[64];
    int fd = text_file("poll_usec = 4;", 14, path);
    struct settings_source source = {NULL, path, env, true};

    ck_assert_int_eq(settings_load_from(&settings, &source, &complaints), 0);
    ck_assert_uint_eq(settings.poll_usec, 4);
    ck_assert_uint_eq(mistakes.n, 0);
    source.secure = false;
    settings_free(&settings);
    ck_assert_int_eq(settings_load_from(&settings, &source, &complaints),
                     -EINVAL);
    ck_assert_uint_eq(mistakes.n, 4);
    close(fd);
}
END_TEST

START_TEST(a_thousand_mistakes_are_twenty_lines_and_a_last_one)
{
    static char text[64 * 1000];
    size_t used = 0;

    for (int i = 0; i < 1000; i++)
        used += (size_t)sprintf(text + used, "unknown_%d = 1;\n", i);
    ck_assert_int_eq(load_text(text, NULL), -EINVAL);
    ck_assert_uint_eq(mistakes.n, COMPLAINTS_MAX + 1);
    ck_assert_ptr_nonnull(strstr(mistakes.line[19], ":20: "));
    ck_assert_ptr_nonnull(strstr(mistakes.line[20], "more mistakes"));
}
END_TEST

START_TEST(a_complaint_is_one_line_without_control_bytes)
{
    ck_assert_int_eq(load_variable("FASTSOCK_POLL_USEC=\n\033[31m\177\xc3\xa4"),
                     -EINVAL);
    ck_one_mistake("FASTSOCK_POLL_USEC: ", "got '??[31m?\xc3\xa4'");
}
END_TEST

START_TEST(nobody_has_to_listen_to_complaints)
{
    settings_free(&settings);
    ck_assert_int_eq(settings_load(&settings, "/nonexistent", NULL, NULL, NULL),
                     -EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *t = tcase_create("settings");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, the_defaults_are_those_that_were_decided);
    tcase_add_test(
        t, every_number_is_taken_at_both_ends_of_its_range_and_not_beyond);
    tcase_add_test(t, what_is_not_a_number_is_refused);
    tcase_add_test(t, sizes_may_end_in_k_m_or_g);
    tcase_add_test(t, a_bool_is_one_of_eight_words_in_any_case);
    tcase_add_test(t, a_log_level_is_one_of_its_words);
    tcase_add_test(t, transports_are_known_names_each_once);
    tcase_add_test(t, users_are_names_of_passwd_or_uids);
    tcase_add_test(t, users_that_nobody_can_be_are_refused);
    tcase_add_test(t, a_path_that_does_not_fit_is_refused);
    tcase_add_test(t, a_variable_that_is_no_setting_is_a_mistake);
    tcase_add_test(t, the_first_of_two_equal_variables_counts);
    tcase_add_test(
        t, the_environment_overrides_the_file_which_overrides_the_default);
    tcase_add_test(t,
                   an_empty_list_of_rules_in_the_environment_clears_the_file_s);
    tcase_add_test(t, the_environment_names_the_file_unless_a_path_is_given);
    tcase_add_test(t, a_named_file_must_exist_the_fallback_need_not);
    tcase_add_test(t, a_privileged_program_reads_the_fallback_and_NULL);
    tcase_add_test(t, a_thousand_mistakes_are_twenty_lines_and_a_last_one);
    tcase_add_test(t, a_complaint_is_one_line_without_control_bytes);
    tcase_add_test(t, nobody_has_to_listen_to_complaints);
    suite_add_tcase(suite, t);
    return run(suite);
}
