#include "tests/unit/config/mistakes.h"

#include <ctype.h>

enum { TEXT_MAX = 1 << 16 };

static char text[TEXT_MAX], wanted[4096];

static void read_document(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t len;

    ck_assert_msg(file != NULL, "%s: run the tests from the root", path);
    len = fread(text, 1, sizeof(text) - 1, file);
    text[len] = '\0';
    fclose(file);
}

/* Puts a backslash before every byte of set. */
static void escape(char *out, const char *in, const char *set)
{
    for (; *in != '\0'; in++) {
        if (strchr(set, *in) != NULL)
            *out++ = '\\';
        *out++ = *in;
    }
    *out = '\0';
}

static void find_wanted(const char *path)
{
    ck_assert_msg(strstr(text, wanted) != NULL, "%s does not say:\n%s", path,
                  wanted);
}

static void markdown_row(void *arg, const struct setting *setting,
                         const char *initial)
{
    char range[256], escaped[512];

    escape(escaped, setting_range(setting, range, sizeof(range)), "|");
    snprintf(wanted, sizeof(wanted), "| `%s` | %s | %s | %s |\n", setting->name,
             initial[0] != '\0' ? initial : "none", escaped, setting->help);
    find_wanted(arg);
}

static void manual_item(void *arg, const struct setting *setting,
                        const char *initial)
{
    char range[256], item[2048];

    snprintf(item, sizeof(item),
             ".TP\n.B %s\n%s\nExpected: %s.\nDefault: %s.\n", setting->name,
             setting->help, setting_range(setting, range, sizeof(range)),
             initial[0] != '\0' ? initial : "none");
    escape(wanted, item, "-");
    find_wanted(arg);
}

static void example_line(void *arg, const struct setting *setting,
                         const char *initial)
{
    bool quoted = setting->type != SETTING_BOOL &&
                  setting->type != SETTING_NUMBER &&
                  setting->type != SETTING_POWER_OF_TWO;

    snprintf(wanted, sizeof(wanted), "\n%s = %s%s%s;\n", setting->name,
             quoted ? "\"" : "", initial, quoted ? "\"" : "");
    find_wanted(arg);
}

START_TEST(the_page_on_settings_has_every_row_of_the_table)
{
    char path[] = "docs/settings.md";

    read_document(path);
    settings_each(NULL, markdown_row, path);
}
END_TEST

START_TEST(the_manual_page_has_every_row_of_the_table)
{
    char path[] = "docs/man/fastsock.7";

    read_document(path);
    settings_each(NULL, manual_item, path);
}
END_TEST

static void same_as_default(void *arg, const struct setting *setting,
                            const char *initial)
{
    char value[SETTINGS_VALUE_MAX];

    (void)arg;
    setting_text(setting, &settings, value);
    ck_assert_str_eq(value, initial);
}

START_TEST(the_example_file_sets_everything_to_its_default)
{
    char path[] = "config/fastsock.conf";

    read_document(path);
    settings_each(NULL, example_line, path);
    ck_assert_int_eq(load(path, NULL), 0);
    ck_assert_uint_eq(mistakes.n, 0);
    ck_assert_str_eq(settings.config_path, path);
    ck_assert_uint_eq(settings.rules.n, 0);
    settings_each(NULL, same_as_default, NULL);
}
END_TEST

/* "#name = ..." is an example, "# Name ..." is prose. */
START_TEST(what_the_example_file_has_in_comments_can_be_loaded)
{
    static char examples[TEXT_MAX];
    size_t used = 0;

    read_document("config/fastsock.conf");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] != ' ' && line[1] != '\0')
            used += (size_t)sprintf(examples + used, "%s\n", line + 1);
        else if (strncmp(line, "#    ", 5) == 0)
            used += (size_t)sprintf(examples + used, "%s\n", line + 1);
    load_text(examples, NULL);
    for (unsigned i = 0; i < mistakes.n; i++)
        ck_assert_ptr_nonnull(strstr(mistakes.line[i], "www-data"));
    ck_assert_uint_eq(settings.rules.n, 3);
    ck_assert_str_eq(settings.report, "/var/log/fastsock.%p");
    ck_assert_uint_eq(settings.rules.rule[0].value[RULE_RING_SIZE], 65536);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("documentation");
    TCase *t = tcase_create("documentation");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, the_page_on_settings_has_every_row_of_the_table);
    tcase_add_test(t, the_manual_page_has_every_row_of_the_table);
    tcase_add_test(t, the_example_file_sets_everything_to_its_default);
    tcase_add_test(t, what_the_example_file_has_in_comments_can_be_loaded);
    suite_add_tcase(suite, t);
    return run(suite);
}
