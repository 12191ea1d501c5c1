/*
 * What fastsock says about itself: help, version, and mistakes in arguments.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_text.h"

static const char general[] =
    "usage: fastsock COMMAND [ARGUMENTS]\n"
    "\n"
    "  run [OPTIONS] -- CMD ...  run a program with the library\n"
    "  ss [-p PID] [-a] [--json] list the streams of programs under the "
    "library\n"
    "  explain PID[/FD]          say in words what happens to them, and why\n"
    "  down PID[/FD]             bring streams back to kernel TCP\n"
    "  up PID[/FD]               let them leave it again\n"
    "  settings [--config FILE]  list the settings with their values\n"
    "  doctor [--root DIR]       say what the transports find here, and what "
    "is missing\n"
    "  version                   print the version\n"
    "  help [COMMAND]            print this text, or more about a command\n"
    "\n"
    "Exit status: 0 done; 1 a process that is not there or cannot be read, or\n"
    "a mistake in the settings; 2 a mistake in the arguments. 'run' ends as\n"
    "CMD does, or with 125: library not found, 126: CMD cannot be executed,\n"
    "127: CMD not found.\n";

static const char run[] =
    "usage: fastsock run [--set NAME=VALUE ...] [--config FILE] -- CMD ...\n"
    "\n"
    "Runs CMD with libfastsock.so in front of LD_PRELOAD. The library is the\n"
    "one beside fastsock, else the one in ../lib, else the one that the\n"
    "system finds by its name.\n"
    "\n"
    "  --set NAME=VALUE  a setting of 'fastsock settings', or rules=...;\n"
    "                    may be repeated\n"
    "  --config FILE     settings from this file, not /etc/fastsock.conf\n"
    "\n"
    "A mistake in these options is reported and CMD is not run. A CMD that\n"
    "cannot carry the library (static, setuid) runs on TCP after a warning.\n"
    "Exit status: that of CMD; 2 mistake in the options, 125 library not\n"
    "found, 126 CMD cannot be executed, 127 CMD not found.\n";

static const char ss[] =
    "usage: fastsock ss [-p PID] [-s] [-a] [--json]\n"
    "\n"
    "Lists every stream of every process that carries the library and can be\n"
    "read.\n"
    "\n"
    "  -p PID  only this process\n"
    "  -s      the processes instead: how their threads wait\n"
    "  -a      count the processes that cannot be read in a last line\n"
    "  --json  one JSON object for scripts\n"
    "\n"
    "VIA is tcp or the transport of the link. STAGE is set while a stream\n"
    "moves between the two. TCP-OUT to LINK-IN are bytes of the application\n"
    "on each path. SINCE is the time since the last change. PEER-PID is the\n"
    "process at the other end, as the process sees it. REASON says why the\n"
    "stream is where it is; 'fastsock explain PID/FD' has the sentence.\n"
    "With -s: SPINNERS look for news just now, each for BUDGET at most, and\n"
    "then sleep. GAIN is the share of SPINS that found some, each a wake-up\n"
    "saved; IN-VAIN is the CPU time of the others. 24 quick looks come first\n"
    "and count as none. CPU-LIMIT is what a control group allows, in CPUs.\n"
    "Exit status: 0 done, 1 the process is not there, cannot be read or does\n"
    "not carry the library, 2 mistake in the arguments.\n";

static const char explain[] =
    "usage: fastsock explain PID[/FD]\n"
    "\n"
    "Says for each stream of a process, or for one descriptor: is it\n"
    "accelerated, over what, since when, how much went where, how often it\n"
    "moved, and if it is not accelerated, why not and what can be done. The\n"
    "other end's view follows if its process can be read.\n"
    "Exit status: 0 explained, 1 no such process or stream, or not readable,\n"
    "2 mistake in the arguments.\n";

static const char down[] =
    "usage: fastsock down PID[/FD]\n"
    "\n"
    "Brings every stream of a process, or that of one descriptor, back to\n"
    "kernel TCP, at its exact byte, and keeps it there until 'fastsock up'.\n"
    "Without FD connections to come stay there as well. The program notices\n"
    "nothing. For the process's own user and root.\n"
    "Exit status: 0 all are on kernel TCP, 1 no such process or stream, or\n"
    "some are not back yet, 2 mistake in the arguments.\n";

static const char up[] =
    "usage: fastsock up PID[/FD]\n"
    "\n"
    "Takes 'fastsock down' back: the streams may leave kernel TCP again and\n"
    "do so as if they were new.\n"
    "Exit status: 0 done, 1 no such process or stream, 2 mistake in the\n"
    "arguments.\n";

static const char settings[] =
    "usage: fastsock settings [--config FILE]\n"
    "\n"
    "Lists each setting with the value that a program started here would get,\n"
    "where it comes from (default, file, environment), its default and what\n"
    "is accepted. FROM says default for a value in the file that is the same\n"
    "as the default.\n"
    "Exit status: 0 done, 1 there are mistakes: each is named on standard\n"
    "error, and programs would stay on TCP; 2 mistake in the arguments.\n";

static const char doctor[] =
    "usage: fastsock doctor [--root DIR] [--config FILE]\n"
    "\n"
    "Says for each transport what of it is there, what is missing and how to\n"
    "get it. Needs no root.\n"
    "\n"
    "  --root DIR     read /sys, /proc, /dev and /etc below DIR: those of\n"
    "                 another machine, saved\n"
    "  --config FILE  settings from this file, not /etc/fastsock.conf\n"
    "\n"
    "Each line begins with ok, missing or hint; the last lines say for each\n"
    "transport whether it would be used.\n"
    "Exit status: 0 the first of the setting transports is usable, 1 it is\n"
    "not or the settings have mistakes, 2 mistake in the arguments.\n";

static const char version[] = "usage: fastsock version\n";
static const char help[] = "usage: fastsock help [COMMAND]\n";

static const struct {
    const char *command, *text;
} texts[] = {
    {"run", run},       {"ss", ss},     {"explain", explain},
    {"down", down},     {"up", up},     {"settings", settings},
    {"doctor", doctor}, {"help", help}, {"version", version},
};

int command_help_print(const char *command, FILE *out)
{
    if (command == NULL) {
        fputs(general, out);
        return 0;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(command, texts[i].command) == 0) {
            fputs(texts[i].text, out);
            return 0;
        }
    }
    return -ENOENT;
}

int command_help(int argc, char **argv)
{
    if (argc > 2)
        return command_usage("help", "expected one command, not %d", argc - 1);
    if (command_help_print(argc > 1 ? argv[1] : NULL, stdout) == 0)
        return COMMAND_DONE;
    return command_usage("help",
                         "expected run, ss, explain, down, up, settings, "
                         "doctor, version or help, not '%s'",
                         argv[1]);
}

int command_version(int argc, char **argv)
{
    if (argc > 1)
        return command_usage("version", "expected no argument, not '%s'",
                             argv[1]);
    printf("fastsock %s\n", COMMAND_VERSION);
    return COMMAND_DONE;
}

int command_usage(const char *command, const char *format, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    text_error(command, "%s; see 'fastsock help %s'", text, command);
    return COMMAND_USAGE;
}

pid_t command_pid(const char *text, const char *end)
{
    char *stop;
    long pid;

    if (*text < '0' || *text > '9')
        return 0;
    errno = 0;
    pid = strtol(text, &stop, 10);
    if (errno != 0 || stop != end || pid > INT_MAX)
        return 0;
    return (pid_t)pid;
}

bool command_pid_fd(const char *text, pid_t *pid, int *fd)
{
    const char *slash = strchr(text, '/');

    *pid = command_pid(text, slash != NULL ? slash : text + strlen(text));
    *fd = -1;
    if (slash != NULL && strcmp(slash, "/0") == 0)
        *fd = 0;
    else if (slash != NULL)
        *fd = command_pid(slash + 1, slash + strlen(slash));
    return *pid != 0 && (slash == NULL || *fd != 0 || strcmp(slash, "/0") == 0);
}
