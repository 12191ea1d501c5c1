/*
 * The sub-commands of kvpool, and what they share: exit statuses, options,
 * mistakes. Each sub-command gets its own name as argv[0] and returns the exit
 * status.
 */
#ifndef STORE_TOOL_TOOL_H
#define STORE_TOOL_TOOL_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TOOL_VERSION "0.1.0"

enum tool_exit {
    TOOL_DONE = 0,    /* done; what was looked at is whole */
    TOOL_DAMAGED = 1, /* damage was found, or is left */
    TOOL_USAGE = 2,   /* the arguments */
    TOOL_FOREIGN = 3, /* no pool that this program can work with */
    TOOL_BUSY = 4,    /* another program has it open */
    TOOL_FAILED = 5   /* no space, no memory, a failed read or write, a bad
                       * dump */
};

int kvpool_create(int argc, char **argv);
int kvpool_info(int argc, char **argv);
int kvpool_check(int argc, char **argv);
int kvpool_repair(int argc, char **argv);
int kvpool_dump(int argc, char **argv);
int kvpool_load(int argc, char **argv);
int kvpool_grow(int argc, char **argv);
int kvpool_delete(int argc, char **argv);
int kvpool_stats(int argc, char **argv);

/* The text of `kvpool help [COMMAND]`; -ENOENT: no such command. */
int tool_help(const char *command, FILE *out);

/* "kvpool COMMAND: what happened" on standard error. */
void tool_error(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, one line: what was expected. Returns TOOL_USAGE. */
int tool_usage(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What every sub-command may be told. */
struct tool_options {
    bool json;
    bool progress;    /* in lines, also where standard error is no terminal */
    const char *pool; /* --pool NAME; NULL: not given */
};

#define TOOL_OPTION_JSON                                                       \
    {                                                                          \
        "json", no_argument, NULL, 'j'                                         \
    }
#define TOOL_OPTION_PROGRESS                                                   \
    {                                                                          \
        "progress", no_argument, NULL, 'P'                                     \
    }
#define TOOL_OPTION_POOL                                                       \
    {                                                                          \
        "pool", required_argument, NULL, 'n'                                   \
    }

/* An option that getopt_long() returned: true when it was one of these. */
bool tool_option(struct tool_options *options, int option);

/* An option that a sub-command does not know. */
int tool_bad_option(char **argv, const char *expected);

/* After the options: the one argument FILE, or NULL after a line of what was
 * expected. */
const char *tool_file(int argc, char **argv);

/* A number of bytes, with K, M, G or T behind it: 0 or -EINVAL. */
int tool_size(const char *text, uint64_t *size);

/* The status for a refusal, by its -errno. */
int tool_status(int rc);

/* "1.5 GiB". Returns buf. */
enum { TOOL_SIZE_MAX = 24 };
const char *tool_bytes(uint64_t bytes, char buf[TOOL_SIZE_MAX]);

/* "2026-11-21 08:27:08 UTC". Returns buf. */
enum { TOOL_TIME_MAX = 48 };
const char *tool_time(uint64_t seconds, char buf[TOOL_TIME_MAX]);

#endif
