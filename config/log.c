/*
 * Lines on standard error, from anywhere.
 *
 * A line is formatted on the stack and leaves with one write system call
 * past every interposed name. Descriptor 2 belongs to the application: what
 * log_init() saw there is remembered, and when a program has since closed it
 * and got a socket or a data file at that number, the line is dropped rather
 * than put where it does not belong. A pipe without a reader must not kill
 * the application either, and a full one must not stop it: the SIGPIPE of our
 * own write is taken back, and a line that would have to wait is dropped.
 *
 * Formats here use neither %m nor floating point: these may allocate.
 */
#include "config/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 512 };

enum log_level log_threshold = LOG_NONE;

static const char *log_name = "";
static bool log_has_file; /* the next two say what descriptor 2 was */
static dev_t log_device;
static ino_t log_inode;

static const char *const level_word[] = {"none", "error", "warning", "info",
                                         "debug"};

void log_init(const char *name, enum log_level threshold)
{
    struct stat st;
    int saved = errno;

    log_name = name;
    log_has_file = fstat(STDERR_FILENO, &st) == 0;
    if (log_has_file) {
        log_device = st.st_dev;
        log_inode = st.st_ino;
    }
    log_threshold = threshold;
    errno = saved;
}

static bool stderr_is_unchanged(void)
{
    struct stat st;

    return log_has_file && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == log_device && st.st_ino == log_inode;
}

/* Past an interposed poll(). A pipe with room takes a whole line. */
static bool stderr_has_room(void)
{
    struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
    struct timespec at_once = {0, 0}; /* the kernel writes it */

    return syscall(SYS_ppoll, &p, 1, &at_once, NULL, (size_t)0) == 1 &&
           (p.revents & POLLOUT) != 0;
}

static void write_without_sigpipe(const char *line, size_t len)
{
    static const struct timespec at_once;
    sigset_t pipe_only, pending, before;
    bool was_pending;

    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigemptyset(&pending);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);
    if (syscall(SYS_write, STDERR_FILENO, line, len) < 0 && errno == EPIPE &&
        !was_pending)
        sigtimedwait(&pipe_only, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* One line stays one line, whatever a name or a path contains. */
static void hide_control_bytes(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            text[i] = '?';
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    int saved = errno;
    size_t len;
    int rc;
    va_list ap;

    if (level <= LOG_NONE || level > LOG_DEBUG || !stderr_is_unchanged() ||
        !stderr_has_room())
        goto restore_errno;
    rc = snprintf(line, sizeof(line), "%s[%ld]: %s: ", log_name, (long)getpid(),
                  level_word[level]);
    if (rc < 0)
        goto restore_errno;
    len = (size_t)rc < sizeof(line) / 2 ? (size_t)rc : sizeof(line) / 2;
    va_start(ap, format);
    rc = vsnprintf(line + len, sizeof(line) - len, format, ap);
    va_end(ap);
    if (rc < 0)
        goto restore_errno;
    if ((size_t)rc < sizeof(line) - len) {
        len += (size_t)rc;
    } else {
        len = sizeof(line) - 1;
        memcpy(line + len - 3, "...", 3);
    }
    hide_control_bytes(line, len);
    line[len++] = '\n';
    write_without_sigpipe(line, len);
restore_errno:
    errno = saved;
}
