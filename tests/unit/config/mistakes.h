/*
 * Loads settings from a text or an environment and keeps the complaints.
 */
#ifndef TESTS_UNIT_CONFIG_MISTAKES_H
#define TESTS_UNIT_CONFIG_MISTAKES_H

#include "config/settings_table.h"

#include <check.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * A syntax error leaks the string libconfig was reading. That is its own
 * matter: tell the leak checker, and keep the library mapped so that the
 * checker knows whose memory it is.
 */
const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

struct mistakes {
    unsigned n;
    char line[COMPLAINTS_MAX + 1][600];
};

static struct settings settings;
static struct mistakes mistakes;

static inline void keep_mistake(void *arg, const char *line)
{
    struct mistakes *m = arg;

    ck_assert_uint_le(m->n, COMPLAINTS_MAX);
    ck_assert_ptr_null(strchr(line, '\n'));
    snprintf(m->line[m->n++], sizeof(m->line[0]), "%s", line);
}

static inline void start(void)
{
    memset(&mistakes, 0, sizeof(mistakes));
    settings_defaults(&settings);
}

static inline void stop(void)
{
    settings_free(&settings);
}

static inline int load(const char *path, char **env)
{
    mistakes.n = 0;
    settings_free(&settings);
    return settings_load(&settings, path, env, keep_mistake, &mistakes);
}

/* A file in memory; its path is in path, the descriptor is returned. */
static inline int text_file(const char *text, size_t len, char path[64])
{
    int fd = memfd_create("settings", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, len), (ssize_t)len);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static inline int load_text(const char *text, char **env)
{
    char path[64];
    int fd = text_file(text, strlen(text), path);
    int rc = load(path, env);

    close(fd);
    return rc;
}

static inline int load_variable(char *variable)
{
    char *env[] = {"FASTSOCK_CONFIG=", variable, NULL};

    return load(NULL, env);
}

/* One complaint that contains expected; where: what it starts with. */
static inline void ck_one_mistake(const char *where, const char *expected)
{
    ck_assert_uint_eq(mistakes.n, 1);
    ck_assert_msg(strstr(mistakes.line[0], expected) != NULL,
                  "'%s' does not say '%s'", mistakes.line[0], expected);
    ck_assert_msg(strstr(mistakes.line[0], where) != NULL,
                  "'%s' does not say where: '%s'", mistakes.line[0], where);
}

static inline int run(Suite *suite)
{
    void *lib = dlopen("libconfig.so.9", RTLD_NOW | RTLD_LOCAL);
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (lib != NULL)
        dlclose(lib);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
