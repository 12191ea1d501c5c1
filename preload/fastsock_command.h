/*
 * The commands of fastsock. Each gets its own name as argv[0] and returns the
 * exit status.
 */
#ifndef PRELOAD_FASTSOCK_COMMAND_H
#define PRELOAD_FASTSOCK_COMMAND_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#define COMMAND_VERSION "0.1.0"

enum command_exit {
    COMMAND_DONE = 0,
    COMMAND_FAILED = 1,       /* no such process, not readable, a mistake */
    COMMAND_USAGE = 2,        /* the arguments */
    COMMAND_NO_LIBRARY = 125, /* run: the library was not found */
    COMMAND_NOT_EXECUTABLE = 126,
    COMMAND_NOT_FOUND = 127
};

int command_run(int argc, char **argv);
int command_ss(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_down(int argc, char **argv);
int command_up(int argc, char **argv);
int command_settings(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_help(int argc, char **argv);
int command_version(int argc, char **argv);

/* One line: what was expected. Returns COMMAND_USAGE. */
int command_usage(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The text of `fastsock help [COMMAND]`; -ENOENT: no such command. */
int command_help_print(const char *command, FILE *out);

/* PID, or PID/FD; fd is -1 without. False: neither. */
bool command_pid_fd(const char *text, pid_t *pid, int *fd);

/* A process id from all of text, or from its part before `end`; 0 if none. */
pid_t command_pid(const char *text, const char *end);

#endif
