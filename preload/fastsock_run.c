/*
 * fastsock run: a program with the library in front.
 *
 * Everything that can be wrong with the options is found before the program
 * starts, as it could only be a line in that program's log afterwards. What
 * was not said here (the environment, /etc/fastsock.conf) is not judged here.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/settings.h"
#include "preload/fastsock_command.h"
#include "preload/fastsock_library.h"
#include "preload/fastsock_program.h"
#include "preload/fastsock_text.h"

#define VARIABLE "FASTSOCK_"

enum { NAME_MAX_BYTES = 64 };

static void complain_line(void *arg, const char *line)
{
    (void)arg;
    text_error("run", "%s", line);
}

/* ---- options ---- */

struct wanted_name {
    const char *name;
    bool found;
};

static void compare_name(void *arg, const struct setting *setting,
                         const char *value)
{
    struct wanted_name *wanted = arg;

    (void)value;
    if (strcmp(setting->name, wanted->name) == 0)
        wanted->found = true;
}

static bool setting_exists(const char *name)
{
    struct wanted_name wanted = {.name = name};

    settings_each(NULL, compare_name, &wanted);
    return wanted.found || strcmp(name, "rules") == 0;
}

/* The settings that file and environment give, for their mistakes only. */
static int check(const char *path, char *const *env)
{
    struct settings *s = calloc(1, sizeof(*s));
    int rc;

    if (s == NULL) {
        text_error("run", "out of memory");
        return COMMAND_USAGE;
    }
    rc = settings_load(s, path, env, complain_line, NULL);
    settings_free(s);
    free(s);
    return rc < 0 ? COMMAND_USAGE : COMMAND_DONE;
}

static int check_value(const char *variable, const char *value)
{
    char *text;
    int rc;

    if (asprintf(&text, "%s=%s", variable, value) < 0)
        return COMMAND_USAGE;
    rc = check("", (char *[]){text, NULL});
    free(text);
    return rc;
}

/* --set NAME=VALUE */
static int take_set(const char *text)
{
    const char *value = strchr(text, '=');
    char name[NAME_MAX_BYTES], variable[NAME_MAX_BYTES + sizeof(VARIABLE)];
    size_t len = value != NULL ? (size_t)(value - text) : 0;
    int rc;

    if (len == 0 || len >= sizeof(name))
        return command_usage("run", "expected NAME=VALUE after --set, not '%s'",
                             text);
    memcpy(name, text, len);
    name[len] = '\0';
    if (!setting_exists(name))
        return command_usage("run",
                             "there is no setting '%s': 'fastsock settings' "
                             "lists them",
                             name);
    snprintf(variable, sizeof(variable), VARIABLE "%s", name);
    for (char *p = variable; *p != '\0'; p++)
        if (*p >= 'a' && *p <= 'z')
            *p = (char)(*p - 'a' + 'A');
    rc = check_value(variable, value + 1);
    if (rc == COMMAND_DONE && setenv(variable, value + 1, 1) < 0)
        rc = COMMAND_USAGE;
    return rc;
}

/* --config FILE: absolute, as the program may go elsewhere before it reads. */
static int take_config(const char *path)
{
    char full[PATH_MAX];
    int rc;

    if (realpath(path, full) == NULL) {
        text_error("run", "--config %s: %s; expected a file of settings", path,
                   strerror(errno));
        return COMMAND_USAGE;
    }
    rc = check(full, NULL);
    if (rc == COMMAND_DONE && setenv("FASTSOCK_CONFIG", full, 1) < 0)
        rc = COMMAND_USAGE;
    return rc;
}

/* The index of CMD in argv, or minus the exit status. */
static int take_options(int argc, char **argv)
{
    int i = 1, rc = COMMAND_DONE;

    for (; i < argc && argv[i][0] == '-'; i++) {
        bool set = strcmp(argv[i], "--set") == 0;

        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!set && strcmp(argv[i], "--config") != 0)
            return -command_usage("run",
                                  "expected --set, --config or -- and a "
                                  "program, not '%s'",
                                  argv[i]);
        if (i + 1 == argc)
            return -command_usage("run", "expected %s after %s",
                                  set ? "NAME=VALUE" : "a file", argv[i]);
        i++;
        rc = set ? take_set(argv[i]) : take_config(argv[i]);
        if (rc != COMMAND_DONE)
            return -rc;
    }
    if (i >= argc)
        return -command_usage("run", "expected a program to run");
    return i;
}

/* ---- the library ---- */

/* path: PATH_MAX bytes. */
static int find_library(char *path)
{
    char tried[LIBRARY_PLACES][LIBRARY_PATH_MAX], error[128];

    if (library_find(LIBRARY_NAME, path) == 0) {
        if (strpbrk(path, " :") == NULL)
            return 0;
        text_error("run",
                   "%s: LD_PRELOAD cannot hold a path with a space or a "
                   "colon; move the library",
                   path);
        return -EINVAL;
    }
    if (library_try(LIBRARY_NAME, NULL, error, sizeof(error)) == 0) {
        strcpy(path, LIBRARY_NAME);
        return 0;
    }
    for (unsigned i = 0; i < LIBRARY_PLACES; i++)
        library_place(i, LIBRARY_NAME, tried[i]);
    text_error("run",
               "the library was not found: tried %s, %s and the plain "
               "name " LIBRARY_NAME "; install it in one of these places or "
               "put its folder into LD_LIBRARY_PATH",
               tried[0], tried[1]);
    return -ENOENT;
}

static bool is_library(const char *word, size_t len)
{
    size_t name = strlen(LIBRARY_NAME);

    return len >= name && memcmp(word + len - name, LIBRARY_NAME, name) == 0 &&
           (len == name || word[len - name - 1] == '/');
}

/* Two copies of the library in one process would be one too many. */
static int prepend(const char *library)
{
    const char *old = getenv("LD_PRELOAD");
    size_t len;
    char *list, *end;
    int rc;

    if (old == NULL)
        old = "";
    list = malloc(strlen(library) + strlen(old) + 2);
    if (list == NULL)
        return -ENOMEM;
    end = stpcpy(list, library);
    for (; *old != '\0'; old += len) {
        old += strspn(old, " :");
        len = strcspn(old, " :");
        if (len == 0 || is_library(old, len))
            continue;
        *end++ = ':';
        end = mempcpy(end, old, len);
    }
    *end = '\0';
    rc = setenv("LD_PRELOAD", list, 1) < 0 ? -ENOMEM : 0;
    free(list);
    return rc;
}

/* ---- the program ---- */

static int cannot_execute(const char *command, int error)
{
    if (error == ENOENT) {
        text_error("run", "%s: not found; expected a program in PATH or a path",
                   command);
        return COMMAND_NOT_FOUND;
    }
    text_error("run", "%s: cannot be executed: %s", command, strerror(error));
    return COMMAND_NOT_EXECUTABLE;
}

int command_run(int argc, char **argv)
{
    char library[PATH_MAX], program[PATH_MAX];
    const char *obstacle;
    int at, rc;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        return command_help_print("run", stdout);
    at = take_options(argc, argv);
    if (at < 0)
        return -at;
    if (find_library(library) < 0)
        return COMMAND_NO_LIBRARY;
    rc = program_find(argv[at], program);
    if (rc < 0)
        return cannot_execute(argv[at], -rc);
    obstacle = program_obstacle(program_judge(program));
    if (obstacle != NULL)
        text_error("run", "%s %s", argv[at], obstacle);
    if (prepend(library) < 0) {
        text_error("run", "out of memory");
        return COMMAND_NO_LIBRARY;
    }
    execvp(argv[at], argv + at);
    return cannot_execute(argv[at], errno);
}
