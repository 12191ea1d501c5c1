/*
 * Where values come from, and which source wins.
 *
 * Defaults first, then one file, then the environment. A variable that looks
 * like ours but is none of our names is a mistake, as a misspelt one would
 * otherwise be ignored for ever; those which a container platform makes for
 * a service called "fastsock" are left alone.
 */
#include "config/settings_table.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#define PREFIX "FASTSOCK_"

enum { NAME_MAX_BYTES = 64 };

static void variable_name(const char *setting, char out[NAME_MAX_BYTES])
{
    snprintf(out, NAME_MAX_BYTES, PREFIX "%s", setting);
    for (char *p = out; *p != '\0'; p++)
        *p = (char)toupper((unsigned char)*p);
}

/* The value of the first such variable, as getenv() would, or NULL. */
static const char *variable_find(char *const *env, const char *name)
{
    size_t len = strlen(name);

    for (; env != NULL && *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

struct environment {
    struct settings *settings;
    char *const *env;
    struct complaints *complaints;
};

static void read_variable(void *arg, const struct setting *setting,
                          const char *initial)
{
    struct environment *e = arg;
    char name[NAME_MAX_BYTES];
    char error[SETTING_ERROR_MAX];
    const char *text;

    (void)initial;
    variable_name(setting->name, name);
    text = variable_find(e->env, name);
    if (text != NULL && setting_assign(setting, e->settings, text, error) < 0)
        complain(e->complaints, "%s: %s", name, error);
}

static void read_rules(struct environment *e)
{
    const char *text = variable_find(e->env, PREFIX "RULES");
    char error[RULE_ERROR_MAX] = "";
    int rc;

    if (text == NULL)
        return;
    rules_fini(&e->settings->rules);
    rules_init(&e->settings->rules);
    rc = rules_parse(&e->settings->rules, text, error);
    if (rc < 0)
        complain(e->complaints, PREFIX "RULES: %s", error);
}

static bool variable_is_known(const char *variable)
{
    char name[NAME_MAX_BYTES];
    size_t len = strcspn(variable, "=");

    if (len >= sizeof(name))
        return false;
    memcpy(name, variable, len);
    name[len] = '\0';
    if (strcmp(name, PREFIX "CONFIG") == 0 || strcmp(name, PREFIX "RULES") == 0)
        return true;
    for (char *p = name + strlen(PREFIX); *p != '\0'; p++) {
        if (*p >= 'a' && *p <= 'z')
            return false;
        *p = (char)tolower((unsigned char)*p);
    }
    return setting_find(name + strlen(PREFIX)) != NULL;
}

/* FASTSOCK_SERVICE_HOST=10.0.0.7, FASTSOCK_PORT_80_TCP=tcp://... */
static bool variable_is_of_platform(const char *variable)
{
    size_t len = strcspn(variable, "=");
    const char *service = strstr(variable, "_SERVICE_");
    const char *port = strstr(variable, "_PORT");

    return (service != NULL && service < variable + len) ||
           (port != NULL && port < variable + len);
}

static void refuse_unknown_variables(struct environment *e)
{
    for (char *const *v = e->env; *v != NULL; v++) {
        if (strncmp(*v, PREFIX, strlen(PREFIX)) != 0 || variable_is_known(*v) ||
            variable_is_of_platform(*v))
            continue;
        complain(e->complaints,
                 "%.*s: expected " PREFIX "CONFIG, " PREFIX "RULES or " PREFIX
                 "<NAME OF A SETTING>; unset it or correct its name",
                 (int)(strcspn(*v, "=") < 60 ? strcspn(*v, "=") : 60), *v);
    }
}

static void read_environment(struct settings *settings, char *const *env,
                             struct complaints *complaints)
{
    struct environment e = {settings, env, complaints};

    settings_each(NULL, read_variable, &e);
    read_rules(&e);
    refuse_unknown_variables(&e);
}

int settings_load_from(struct settings *settings,
                       const struct settings_source *source,
                       struct complaints *complaints)
{
    char *const *env = source->secure ? NULL : source->env;
    const char *path = source->path;
    enum settings_file_need need = FILE_REQUIRED;

    settings_defaults(settings);
    if (path == NULL)
        path = variable_find(env, PREFIX "CONFIG");
    if (path == NULL) {
        path = source->fallback;
        need = FILE_OPTIONAL;
    }
    if (path[0] != '\0')
        settings_read_file(settings, path, need, complaints);
    if (env != NULL)
        read_environment(settings, env, complaints);
    return complaints->n == 0 ? 0 : -EINVAL;
}

int settings_load(struct settings *settings, const char *path, char *const *env,
                  void (*complain_line)(void *arg, const char *line), void *arg)
{
    struct settings_source source = {
        .path = path,
        .fallback = "/etc/fastsock.conf",
        .env = env,
        .secure = getauxval(AT_SECURE) != 0,
    };
    struct complaints complaints = {.line = complain_line, .arg = arg};

    return settings_load_from(settings, &source, &complaints);
}
