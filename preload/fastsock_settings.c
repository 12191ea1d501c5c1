/*
 * fastsock settings: every setting, its value here and now, and its origin.
 *
 * The loader keeps no origins: a variable that is set wins, so it is one; any
 * other value that is not the default can only be the file's.
 */
#include "config/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_text.h"

static void complain_line(void *arg, const char *line)
{
    (void)arg;
    text_error("settings", "%s", line);
}

static bool in_environment(const char *setting)
{
    char name[64];

    snprintf(name, sizeof(name), "FASTSOCK_%s", setting);
    for (char *p = name; *p != '\0'; p++)
        *p = (char)toupper((unsigned char)*p);
    return getenv(name) != NULL;
}

static const char *shown(const char *value)
{
    return value[0] != '\0' ? value : "-";
}

static void add_setting(void *arg, const struct setting *setting,
                        const char *value)
{
    struct text_table *table = arg;
    char range[256];
    const char *from = "default";

    if (in_environment(setting->name))
        from = "environment";
    else if (strcmp(value, setting->initial) != 0)
        from = "file";
    text_cell(table, "%s", setting->name);
    text_cell(table, "%s", shown(value));
    text_cell(table, "%s", setting->unit != NULL ? setting->unit : "");
    text_cell(table, "%s", from);
    text_cell(table, "%s", shown(setting->initial));
    text_cell(table, "%s", setting_range(setting, range, sizeof(range)));
}

static void print_rules(const struct settings *s)
{
    const char *from =
        getenv("FASTSOCK_RULES") != NULL ? "environment" : "file";

    if (s->rules.n == 0)
        printf("There are no rules.\n");
    else
        printf("%zu rule%s from the %s.\n", s->rules.n,
               s->rules.n == 1 ? "" : "s", from);
}

static int list_settings(const char *path)
{
    static const char *const head[] = {"NAME", "VALUE",   "UNIT",
                                       "FROM", "DEFAULT", "EXPECTED"};
    struct text_table table;
    struct settings *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL) {
        text_error("settings", "out of memory");
        return COMMAND_FAILED;
    }
    rc = settings_load(s, path, environ, complain_line, NULL);
    text_table_init(&table, sizeof(head) / sizeof(head[0]), 0);
    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++)
        text_cell(&table, "%s", head[i]);
    settings_each(s, add_setting, &table);
    if (text_table_print(&table, stdout) < 0)
        text_error("settings", "out of memory");
    text_table_fini(&table);
    if (s->config_path[0] != '\0')
        printf("The file is %s.\n", s->config_path);
    else
        printf("There is no file of settings.\n");
    print_rules(s);
    if (rc < 0)
        printf("With these mistakes a program would stay on TCP.\n");
    settings_free(s);
    free(s);
    return rc < 0 ? COMMAND_FAILED : COMMAND_DONE;
}

int command_settings(int argc, char **argv)
{
    const char *path = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--config") != 0)
            return command_usage("settings", "expected --config FILE, not '%s'",
                                 argv[i]);
        if (++i == argc)
            return command_usage("settings", "expected a file after --config");
        path = argv[i];
    }
    return list_settings(path);
}
