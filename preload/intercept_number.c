/*
 * Numbers that change hands: every call that may return one that used to be
 * something else, and calls inside which libc closes one.
 */
#include "preload/intercept.h"

#include <fcntl.h>
#include <pty.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utmp.h>

static int reused(int fd)
{
    if (fd >= 0 && !in_vfork_child() && unlikely(fd_find(fd) != NULL))
        intercept_new_fd(fd, NULL);
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

EXPORT int open64(const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return reused(REAL(open64)(path, flags, mode));
}
ALIAS(open64)
int open(const char *path, int flags, ...);

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    va_list args;
    mode_t mode;

    va_start(args, flags);
    mode = mode_of(flags, args);
    va_end(args);
    return reused(REAL(openat64)(dir, path, flags, mode));
}
ALIAS(openat64)
int openat(int dir, const char *path, int flags, ...);

EXPORT int pipe(int fds[2])
{
    int rc = REAL(pipe)(fds);

    if (rc == 0) {
        reused(fds[0]);
        reused(fds[1]);
    }
    return rc;
}

EXPORT int pipe2(int fds[2], int flags)
{
    int rc = REAL(pipe2)(fds, flags);

    if (rc == 0) {
        reused(fds[0]);
        reused(fds[1]);
    }
    return rc;
}

EXPORT int eventfd(unsigned count, int flags)
{
    return reused(REAL(eventfd)(count, flags));
}

/* The others: call, then forget. */
#define NEW_NUMBER(name, arguments, values)                                    \
    EXPORT int name arguments                                                  \
    {                                                                          \
        return reused(REAL(name) values);                                      \
    }

NEW_NUMBER(creat64, (const char *path, mode_t mode), (path, mode))
NEW_NUMBER(memfd_create, (const char *name, unsigned flags), (name, flags))
NEW_NUMBER(timerfd_create, (clockid_t clock, int flags), (clock, flags))
NEW_NUMBER(signalfd, (int fd, const sigset_t *mask, int flags),
           (fd, mask, flags))
NEW_NUMBER(inotify_init, (void), ())
NEW_NUMBER(inotify_init1, (int flags), (flags))
ALIAS(creat64)
int creat(const char *path, mode_t mode);

/* What _FORTIFY_SOURCE calls. */
int __open64_2(const char *path, int flags);
int __open_2(const char *path, int flags);
int __openat64_2(int dir, const char *path, int flags);
int __openat_2(int dir, const char *path, int flags);

NEW_NUMBER(__open64_2, (const char *path, int flags), (path, flags))
NEW_NUMBER(__openat64_2, (int dir, const char *path, int flags),
           (dir, path, flags))
ALIAS(__open64_2)
int __open_2(const char *path, int flags);
ALIAS(__openat64_2)
int __openat_2(int dir, const char *path, int flags);
ALIAS(open64)
int __open64(const char *path, int flags, ...) __nonnull((1));
ALIAS(open64)
int __open(const char *path, int flags, ...) __nonnull((1));
ALIAS(pipe)
int __pipe(int fds[2]) __THROW;

/* ---- stdio ---- */

/* It reads and writes past every name: the stream stays on TCP. */
EXPORT FILE *fdopen(int fd, const char *mode)
{
    struct endpoint *e = intercepted(fd);

    if (unlikely(e != NULL))
        endpoint_banish(e, REASON_STDIO);
    return REAL(fdopen)(fd, mode);
}

FILE *_IO_fdopen(int fd, const char *mode);

EXPORT FILE *_IO_fdopen(int fd, const char *mode)
{
    return fdopen(fd, mode);
}

static int close_file(void *file)
{
    return REAL(fclose)(file);
}

/* Takes the row away: whoever gets the number next finds it free. */
static struct endpoint *endpoint_of_file(FILE *file)
{
    int saved = errno, fd = process.ready ? fileno_unlocked(file) : -1;
    struct endpoint *e = fd < 0 ? NULL : intercepted(fd);

    errno = saved;
    if (unlikely(e != NULL) && fd_is_claimed(fd))
        return NULL; /* libc was given the number of one just being closed */
    if (unlikely(e != NULL))
        fd_set_row(fd, NULL);
    return e;
}

EXPORT int fclose(FILE *file)
{
    struct endpoint *e = endpoint_of_file(file);

    return likely(e == NULL)
               ? REAL(fclose)(file)
               : endpoint_close(e, fileno_unlocked(file), close_file, file);
}

int _IO_fclose(FILE *file);
ALIAS(fclose)
int _IO_fclose(FILE *file);

struct reopening {
    const char *path, *mode;
    FILE *file, *result;
};

static int reopen_file(void *arg)
{
    struct reopening *r = arg;

    r->result = REAL(freopen64)(r->path, r->mode, r->file);
    return 0;
}

EXPORT FILE *freopen64(const char *restrict path, const char *restrict mode,
                       FILE *restrict file)
{
    struct reopening r = {path, mode, file, NULL};
    struct endpoint *e = endpoint_of_file(file);

    if (likely(e == NULL))
        return REAL(freopen64)(path, mode, file);
    endpoint_close(e, fileno_unlocked(file), reopen_file, &r);
    return r.result;
}
ALIAS(freopen64)
FILE *freopen(const char *restrict path, const char *restrict mode,
              FILE *restrict file);

/* ---- libc puts another file on 0, 1 and 2 ---- */

static void standard_ones_replaced(void)
{
    int saved = errno;

    for (int fd = 0; fd <= 2; fd++)
        reused(fd);
    errno = saved;
}

EXPORT int daemon(int keeps_folder, int keeps_files)
{
    int rc = REAL(daemon)(keeps_folder, keeps_files);

    if (rc == 0 && keeps_files == 0)
        standard_ones_replaced();
    return rc;
}

EXPORT int login_tty(int fd)
{
    int rc = REAL(login_tty)(fd);

    if (rc == 0)
        standard_ones_replaced();
    return rc;
}

EXPORT pid_t forkpty(int *master, char *name, const struct termios *termios,
                     const struct winsize *size)
{
    pid_t pid = REAL(forkpty)(master, name, termios, size);

    if (pid == 0)
        standard_ones_replaced();
    else if (pid > 0)
        reused(*master);
    return pid;
}
