/* kvpool: makes, looks at, repairs and moves pool files, offline. */
#include "store/tool/tool.h"

#include "config/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int help(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : NULL;
    if (argc <= 2 && tool_help(command, stdout) == 0)
        return TOOL_DONE;
    return tool_usage("help", "expected one of the commands");
}

static int version(int argc, char **argv)
{
    (void)argv;
    if (argc > 1)
        return tool_usage("version", "expected no argument");
    puts("kvpool " TOOL_VERSION);
    return TOOL_DONE;
}

static const struct {
    const char *name;
    int (*call)(int argc, char **argv);
} commands[] = {
    {"create", kvpool_create}, {"info", kvpool_info},
    {"check", kvpool_check},   {"repair", kvpool_repair},
    {"dump", kvpool_dump},     {"load", kvpool_load},
    {"grow", kvpool_grow},     {"delete", kvpool_delete},
    {"stats", kvpool_stats},   {"help", help},
    {"--help", help},          {"-h", help},
    {"version", version},      {"--version", version},
    {"-V", version},
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void unreadable(int sig)
{
    static const char text[] =
        "kvpool: a part of the pool cannot be read: a media error, or a file "
        "that was cut short meanwhile; restore it from a copy\n";
    (void)sig;
    ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);
    _exit(n < 0 ? TOOL_FAILED : TOOL_DAMAGED);
}

/* Output that got lost is a failure, as with every filter. */
static int finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    tool_error("", "standard output: %s", strerror(errno));
    return status == TOOL_DONE ? TOOL_FAILED : status;
}

int main(int argc, char **argv)
{
    log_init("kvpool", LOG_ERROR);
    signal(SIGBUS, unreadable);
    opterr = 0;
    if (argc < 2) {
        tool_help(NULL, stderr);
        return TOOL_USAGE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (argc > 2 && strcmp(argv[2], "--help") == 0 &&
            tool_help(argv[1], stdout) == 0)
            return finish(TOOL_DONE);
        return finish(commands[i].call(argc - 1, argv + 1));
    }
    return tool_usage("",
                      "expected create, info, check, repair, dump, load, "
                      "grow, delete, stats, help or version, not '%s'",
                      argv[1]);
}
