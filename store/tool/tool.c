/* What the sub-commands share. */
#include "store/tool/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void say(const char *command, const char *format, va_list args)
{
    fflush(stdout);
    fprintf(stderr, "kvpool%s%s: ", command[0] != '\0' ? " " : "", command);
    vfprintf(stderr, format, args);
    putc('\n', stderr);
}

void tool_error(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(command, format, args);
    va_end(args);
}

int tool_usage(const char *command, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(command, format, args);
    va_end(args);
    fprintf(stderr, "see 'kvpool help%s%s'\n", command[0] ? " " : "", command);
    return TOOL_USAGE;
}

bool tool_option(struct tool_options *options, int option)
{
    switch (option) {
    case 'j':
        options->json = true;
        return true;
    case 'P':
        options->progress = true;
        return true;
    case 'n':
        options->pool = optarg;
        return true;
    default:
        return false;
    }
}

int tool_bad_option(char **argv, const char *expected)
{
    return tool_usage(argv[0], "expected %s, not '%s'", expected,
                      argv[optind - 1]);
}

const char *tool_file(int argc, char **argv)
{
    if (argc - optind == 1)
        return argv[optind];
    tool_usage(argv[0], "expected one FILE, not %d", argc - optind);
    return NULL;
}

int tool_size(const char *text, uint64_t *size)
{
    static const char units[] = "kmgt";
    char *end;
    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0)
        return -EINVAL;
    if (*end != '\0') {
        const char *unit = strchr(units, *end | 32);
        unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
        if (!unit || *unit == '\0' || end[1] != '\0' || n > UINT64_MAX >> shift)
            return -EINVAL;
        n <<= shift;
    }
    *size = n;
    return 0;
}

int tool_status(int rc)
{
    switch (rc) {
    case 0:
        return TOOL_DONE;
    case -EBUSY:
        return TOOL_BUSY;
    case -EUCLEAN:
    case -EFAULT: /* bytes of the pool that are gone */
        return TOOL_DAMAGED;
    case -ENOENT:
    case -EINVAL:
    case -EACCES:
    case -EPERM:
    case -EISDIR:
    case -ENXIO:
    case -ENOTDIR:
    case -ELOOP:
        return TOOL_FOREIGN;
    default:
        return TOOL_FAILED;
    }
}

const char *tool_bytes(uint64_t bytes, char buf[TOOL_SIZE_MAX])
{
    static const char units[] = " KMGTPE";
    unsigned unit = 0;
    double n = (double)bytes;
    for (; n >= 1024 && unit < sizeof(units) - 2; unit++)
        n /= 1024;
    if (unit == 0)
        snprintf(buf, TOOL_SIZE_MAX, "%u bytes", (unsigned)bytes);
    else
        snprintf(buf, TOOL_SIZE_MAX, "%.*f %ciB", n < 10, n, units[unit]);
    return buf;
}

const char *tool_time(uint64_t seconds, char buf[TOOL_TIME_MAX])
{
    time_t when = (time_t)seconds;
    struct tm tm;
    if (seconds > UINT32_MAX || !gmtime_r(&when, &tm) ||
        strftime(buf, TOOL_TIME_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(buf, TOOL_TIME_MAX, "second %llu",
                 (unsigned long long)seconds);
    return buf;
}
