#include "bench/support/program.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

void program_die(const char *format, ...)
{
    va_list args;

    fflush(stdout);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

long program_number(char option, const char *text, long min, long max)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < min || value > max)
        program_die("-%c expects a whole number from %ld to %ld, got \"%s\"",
                    option, min, max, text);
    return value;
}

double program_seconds(char option, const char *text, double min, double max)
{
    char *end;
    double value;

    errno = 0;
    value = strtod(text, &end);
    if (errno || end == text || *end || !(value >= min && value <= max))
        program_die("-%c expects seconds from %g to %g, got \"%s\"", option,
                    min, max, text);
    return value;
}

void program_all_descriptors(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

void program_pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0)
        program_die("cannot run on CPU %d: %s; choose one that taskset -p "
                    "allows",
                    cpu, strerror(errno));
}

uint64_t program_cpu_ns(pid_t pid)
{
    clockid_t id;
    struct timespec used;

    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &used) < 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

void program_sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_nsec = (long)(ns % 1000000000u)};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

void program_reap(pid_t child, const char *what)
{
    int status;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            program_die("cannot wait for the %s: %s", what, strerror(errno));
    }
    if (WIFSIGNALED(status))
        program_die("the %s was killed by signal %d", what, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        program_die("the %s failed with exit status %d", what,
                    WEXITSTATUS(status));
}

void program_print(const struct figure *figures, size_t n, bool json)
{
    for (size_t i = 0; i < n; i++) {
        if (json)
            printf("%s\"%s\":%.10g", i ? "," : "{", figures[i].name,
                   figures[i].value);
        else
            printf("%-24s %.10g\n", figures[i].name, figures[i].value);
    }
    if (json)
        puts("}");
    fflush(stdout);
}
