/*
 * The settings file, read with libconfig.
 *
 * The library must need libc only and be no burden to programs without a
 * file, so libconfig is opened here at run time, for the length of one call.
 *
 * The text comes from settings_text.c, which keeps from libconfig what it
 * cannot be trusted with. Here is what the settings and rules in it mean.
 */
#include "config/settings_table.h"

#include <assert.h>
#include <dlfcn.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static_assert(LIBCONFIG_VER_MAJOR == 1 && LIBCONFIG_VER_MINOR == 5,
              "libconfig.so.9 is version 1.5, structs differ in others");

struct libconfig {
    void *handle;
    __typeof__(&config_init) init;
    __typeof__(&config_destroy) destroy;
    __typeof__(&config_read_string) read_string;
    __typeof__(&config_setting_length) length;
    __typeof__(&config_setting_get_elem) get_elem;
    __typeof__(&config_setting_get_int64) get_int64;
    __typeof__(&config_setting_get_bool) get_bool;
    __typeof__(&config_setting_get_string) get_string;
};

/* One file while it is being read. */
struct file_reader {
    struct settings *settings;
    struct complaints *complaints;
    const char *path;
    struct libconfig lib;
};

static bool libconfig_open(struct libconfig *lib)
{
    const struct {
        const char *name;
        void *function;
    } wanted[] = {
        {"config_init", &lib->init},
        {"config_destroy", &lib->destroy},
        {"config_read_string", &lib->read_string},
        {"config_setting_length", &lib->length},
        {"config_setting_get_elem", &lib->get_elem},
        {"config_setting_get_int64", &lib->get_int64},
        {"config_setting_get_bool", &lib->get_bool},
        {"config_setting_get_string", &lib->get_string},
    };

    lib->handle = dlopen("libconfig.so.9", RTLD_NOW | RTLD_LOCAL);
    if (lib->handle == NULL)
        return false;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *function = dlsym(lib->handle, wanted[i].name);

        if (function == NULL) {
            dlclose(lib->handle);
            return false;
        }
        memcpy(wanted[i].function, &function, sizeof(function));
    }
    return true;
}

static const char *type_word(const config_setting_t *c)
{
    static const char *const word[] = {
        [CONFIG_TYPE_GROUP] = "a group in {}",
        [CONFIG_TYPE_INT] = "a number",
        [CONFIG_TYPE_INT64] = "a number",
        [CONFIG_TYPE_FLOAT] = "a number with a fraction",
        [CONFIG_TYPE_STRING] = "a string",
        [CONFIG_TYPE_BOOL] = "true or false",
        [CONFIG_TYPE_ARRAY] = "an array in []",
        [CONFIG_TYPE_LIST] = "a list in ()",
    };
    int type = config_setting_type(c);

    return type > 0 && type <= CONFIG_TYPE_LIST ? word[type] : "nothing";
}

enum { ACCEPT_BOOL = 1, ACCEPT_NUMBER = 2, ACCEPT_STRING = 4, ACCEPT_LIST = 8 };

/* The text of c if it is of an accepted kind; -1 if not, or too long. */
static int value_text(const struct file_reader *f, const config_setting_t *c,
                      unsigned accept, char *text, size_t size)
{
    int used = -1;

    switch (config_setting_type(c)) {
    case CONFIG_TYPE_BOOL:
        if ((accept & ACCEPT_BOOL) != 0)
            used = snprintf(text, size, "%s",
                            f->lib.get_bool(c) ? "true" : "false");
        break;
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        if ((accept & ACCEPT_NUMBER) != 0)
            used = snprintf(text, size, "%lld", f->lib.get_int64(c));
        break;
    case CONFIG_TYPE_STRING:
        if ((accept & ACCEPT_STRING) != 0)
            used = snprintf(text, size, "%s", f->lib.get_string(c));
        break;
    }
    return used >= 0 && (size_t)used < size ? used : -1;
}

/* The same, or for lists their elements with commas between. */
static int values_text(const struct file_reader *f, const config_setting_t *c,
                       unsigned accept, char *text, size_t size)
{
    size_t used = 0;
    int n;

    if ((accept & ACCEPT_LIST) == 0 ||
        (!config_setting_is_array(c) && !config_setting_is_list(c)))
        return value_text(f, c, accept, text, size);
    text[0] = '\0';
    n = f->lib.length(c);
    for (int i = 0; i < n; i++) {
        int rc;

        if (i > 0 && used + 1 < size)
            text[used++] = ',';
        rc = value_text(f, f->lib.get_elem(c, (unsigned)i), accept, text + used,
                        size - used);
        if (rc < 0)
            return rc;
        used += (size_t)rc;
    }
    return (int)used;
}

static unsigned accepted_by(const struct setting *setting)
{
    switch (setting->type) {
    case SETTING_BOOL:
        return ACCEPT_BOOL;
    case SETTING_NUMBER:
    case SETTING_POWER_OF_TWO:
        return setting->unit != NULL && strcmp(setting->unit, "bytes") == 0
                   ? ACCEPT_NUMBER | ACCEPT_STRING
                   : ACCEPT_NUMBER;
    case SETTING_NAMES:
        return ACCEPT_STRING | ACCEPT_LIST;
    case SETTING_USERS:
        return ACCEPT_STRING | ACCEPT_NUMBER | ACCEPT_LIST;
    default:
        return ACCEPT_STRING;
    }
}

static void mistake(const struct file_reader *f, const config_setting_t *c,
                    const char *expected)
{
    complain(f->complaints, "%s:%u: %s", f->path,
             (unsigned)config_setting_source_line(c), expected);
}

static void read_setting(const struct file_reader *f, const config_setting_t *c)
{
    const struct setting *setting = setting_find(config_setting_name(c));
    char text[SETTINGS_VALUE_MAX];
    char line[2 * SETTING_ERROR_MAX];
    char error[SETTING_ERROR_MAX];

    if (setting == NULL) {
        snprintf(line, sizeof(line),
                 "expected the name of a setting (see fastsock(7)), got "
                 "'%.40s'",
                 config_setting_name(c));
        mistake(f, c, line);
        return;
    }
    if (values_text(f, c, accepted_by(setting), text, sizeof(text)) < 0) {
        setting_range(setting, error, sizeof(error));
        snprintf(line, sizeof(line), "%s: expected %s, got %s", setting->name,
                 error, type_word(c));
        mistake(f, c, line);
    } else if (setting_assign(setting, f->settings, text, error) < 0) {
        snprintf(line, sizeof(line), "%s: %s", setting->name, error);
        mistake(f, c, line);
    }
}

/* Of a key that no rule has: anything, since its name is the mistake. */
static unsigned accepted_by_key(const char *key)
{
    const struct setting *setting = setting_find(key);

    if (strcmp(key, rule_key_name(RULE_PROGRAM)) == 0 ||
        strcmp(key, rule_key_name(RULE_ROLE)) == 0 ||
        strcmp(key, rule_key_name(RULE_PEER)) == 0)
        return ACCEPT_STRING;
    if (strcmp(key, rule_key_name(RULE_PORT)) == 0)
        return ACCEPT_NUMBER | ACCEPT_STRING;
    if (strcmp(key, rule_key_name(RULE_TRANSPORTS)) == 0)
        return ACCEPT_STRING;
    for (int k = RULE_ACCELERATE; setting != NULL && k < RULE_KEYS; k++)
        if (strcmp(key, rule_key_name((enum rule_key)k)) == 0)
            return accepted_by(setting);
    return ACCEPT_BOOL | ACCEPT_NUMBER | ACCEPT_STRING;
}

/* One member of a rule's group. */
static void read_key(const struct file_reader *f, const config_setting_t *c,
                     struct rule *rule)
{
    const char *key = config_setting_name(c);
    unsigned accept = accepted_by_key(key);
    char text[RULE_PROGRAM_MAX + 1] = "";
    char line[2 * RULE_ERROR_MAX];
    char error[RULE_ERROR_MAX];

    if (config_setting_is_scalar(c) &&
        value_text(f, c, accept, text, sizeof(text)) < 0) {
        const char *kind = accept == ACCEPT_BOOL     ? "true or false"
                           : accept == ACCEPT_NUMBER ? "a number"
                           : accept == ACCEPT_STRING ? "a short string"
                                                     : "a number or a string";

        snprintf(line, sizeof(line), "%.40s: expected %s, got %s", key, kind,
                 type_word(c));
        mistake(f, c, line);
    } else if (!config_setting_is_scalar(c)) {
        snprintf(line, sizeof(line), "%.40s: expected a single value, got %s",
                 key, type_word(c));
        mistake(f, c, line);
    } else if (rule_assign(rule, key, text, error) < 0) {
        mistake(f, c, error);
    }
}

static void read_rules(const struct file_reader *f, const config_setting_t *c)
{
    char error[RULE_ERROR_MAX];
    int n = f->lib.length(c);

    if (!config_setting_is_list(c)) {
        mistake(f, c, "rules: expected a list of groups: ( { ... }, { ... } )");
        return;
    }
    for (int i = 0; i < n; i++) {
        const config_setting_t *group = f->lib.get_elem(c, (unsigned)i);
        struct rule rule = {.set = 0};
        int keys = f->lib.length(group);

        if (!config_setting_is_group(group)) {
            mistake(f, group, "rules: expected a group: { program = ...; }");
            continue;
        }
        for (int k = 0; k < keys; k++)
            read_key(f, f->lib.get_elem(group, (unsigned)k), &rule);
        if (rules_add(&f->settings->rules, &rule, error) < 0) {
            mistake(f, group, error);
            return;
        }
    }
}

static void read_settings(const struct file_reader *f, const char *text)
{
    const config_setting_t *root, *c;
    config_t config;
    int n;

    f->lib.init(&config);
    if (f->lib.read_string(&config, text) != CONFIG_TRUE) {
        complain(f->complaints,
                 "%s:%d: expected name = value; lines of libconfig, got a %s",
                 f->path, config_error_line(&config),
                 config_error_text(&config) != NULL ? config_error_text(&config)
                                                    : "syntax error");
        goto destroy_config;
    }
    root = config_root_setting(&config);
    n = f->lib.length(root);
    for (int i = 0; i < n; i++) {
        c = f->lib.get_elem(root, (unsigned)i);
        if (strcmp(config_setting_name(c), "rules") == 0)
            read_rules(f, c);
        else
            read_setting(f, c);
    }
destroy_config:
    f->lib.destroy(&config);
}

void settings_read_file(struct settings *settings, const char *path,
                        enum settings_file_need need,
                        struct complaints *complaints)
{
    struct file_reader f = {settings, complaints, path, {.handle = NULL}};
    char *text;

    if (strlen(path) >= sizeof(settings->config_path)) {
        complain(complaints, "%.60s...: expected a path shorter than %d bytes",
                 path, SETTINGS_PATH_MAX);
        return;
    }
    text = settings_read_text(path, need, complaints);
    if (text == NULL)
        return;
    memcpy(settings->config_path, path, strlen(path) + 1);
    if (!libconfig_open(&f.lib)) {
        complain(complaints,
                 "%s: expected libconfig.so.9 to read it with: install the "
                 "package libconfig9",
                 path);
        goto free_text;
    }
    read_settings(&f, text);
    dlclose(f.lib.handle);
free_text:
    free(text);
}
