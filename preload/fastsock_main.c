/*
 * fastsock: runs programs with the library and says what it does for them.
 */
#include <errno.h>
#include <string.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_text.h"

static const struct {
    const char *name;
    int (*call)(int argc, char **argv);
} commands[] = {
    {"run", command_run},         {"ss", command_ss},
    {"explain", command_explain}, {"down", command_down},
    {"up", command_up},           {"settings", command_settings},
    {"doctor", command_doctor},   {"version", command_version},
    {"help", command_help},       {"--version", command_version},
    {"--help", command_help},     {"-h", command_help},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

/* Output that got lost is a failure, as with every filter. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    text_error("", "standard output: %s", strerror(errno));
    return status == COMMAND_DONE ? COMMAND_FAILED : status;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        command_help_print(NULL, stderr);
        return COMMAND_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        /* run hands on its command's arguments, so it looks for itself. */
        if (argc > 2 && commands[i].call != command_run &&
            strcmp(argv[2], "--help") == 0 &&
            command_help_print(argv[1], stdout) == 0)
            return finish(COMMAND_DONE);
        return finish(commands[i].call(argc - 1, argv + 1));
    }
    text_error("",
               "expected run, ss, explain, down, up, settings, doctor, version "
               "or help, not '%s'; see 'fastsock help'",
               argv[1]);
    return COMMAND_USAGE;
}
