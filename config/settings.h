/*
 * What the operator said: every setting of libfastsock.so as a plain field.
 *
 * settings_load() is called once, by one thread, at start-up; afterwards the
 * struct is read only. Values come from the defaults, then the file, then
 * the environment (FASTSOCK_ and the name in capitals); the last one wins.
 * The table in settings.c is the only list of names, ranges and defaults.
 */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/log.h"
#include "config/rules.h"

enum {
    SETTINGS_PATH_MAX = 4096,
    SETTINGS_NAMES_MAX = RULE_NAMES_MAX,
    SETTINGS_USERS_MAX = 32,
    SETTINGS_VALUE_MAX = 4096 /* of any value written as text, with its NUL */
};

struct settings_users {
    uint32_t uid[SETTINGS_USERS_MAX];
    unsigned n;
};

struct settings {
    bool accelerate;
    char transports[SETTINGS_NAMES_MAX]; /* "shm,verbs": in order of choice */
    uint64_t upgrade_after;              /* socket calls, either direction */
    uint64_t upgrade_bytes;
    uint64_t poll_usec;
    uint64_t poll_kernel_usec;
    bool spread;        /* who waits where its peer runs moves */
    uint64_t ring_size; /* bytes, a power of two */
    uint64_t handover_hold_usec;
    uint64_t return_timeout_ms;
    uint64_t settle_ms;
    bool up_after_fork;
    uint64_t max_links;          /* per process */
    uint64_t max_memory;         /* bytes per process */
    struct settings_users users; /* besides our own uid */
    enum log_level log_level;
    char report[SETTINGS_PATH_MAX]; /* "" is none; %p stands for the pid */
    struct rule_list rules;
    char config_path[SETTINGS_PATH_MAX]; /* the file that was read, or "" */
};

/* Takes memory as it is; nothing to free yet. */
void settings_defaults(struct settings *settings);

/*
 * Defaults, then the file, then the environment. path NULL means
 * $FASTSOCK_CONFIG (empty: no file), else /etc/fastsock.conf if it exists,
 * else no file. A program that runs with more rights than its caller
 * (AT_SECURE) ignores env. env may be NULL.
 *
 * Every mistake is one call of complain with one line, no line end in it:
 * "file:line: what was expected". Returns 0, or -EINVAL if there was any:
 * then the caller should leave all connections on TCP. Either way settings
 * holds usable values and belongs to settings_free().
 */
int settings_load(struct settings *settings, const char *path, char *const *env,
                  void (*complain)(void *arg, const char *line), void *arg);

void settings_free(struct settings *settings);

enum setting_type {
    SETTING_BOOL,
    SETTING_NUMBER,
    SETTING_POWER_OF_TWO,
    SETTING_CHOICE, /* one of its choices */
    SETTING_NAMES,  /* some of its choices, comma separated, in order */
    SETTING_USERS,  /* user names and uids, comma separated */
    SETTING_PATH
};

/* One row of the table. */
struct setting {
    const char *name;
    enum setting_type type;
    const char *unit;    /* "calls", "bytes", "usec" ... or NULL */
    uint64_t min, max;   /* of numbers */
    const char *choices; /* "none|error|warn" or NULL */
    const char *initial; /* the default, as text */
    size_t offset;       /* of its field in struct settings */
    const char *help;    /* one sentence */
};

/*
 * Calls each for every setting in the table's order, with its value as text
 * (settings NULL: its default). value is valid during the call.
 */
void settings_each(const struct settings *settings,
                   void (*each)(void *arg, const struct setting *setting,
                                const char *value),
                   void *arg);

/* What is accepted, in words: "a number 0 to 1000000". Returns buf. */
const char *setting_range(const struct setting *setting, char *buf,
                          size_t size);

#endif
