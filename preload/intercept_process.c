/*
 * New images and ends of processes: streams return to TCP first.
 */
#include "preload/intercept.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "preload/helper.h"
#include "preload/intercept_sandbox.h"
#include "preload/stats.h"

static int exec_failed(int rc)
{
    int saved = errno;

    process_exec_failed();
    errno = saved;
    return rc;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(execve)(path, argv, envp));
}

EXPORT int execv(const char *path, char *const argv[])
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(execve)(path, argv, environ));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(execvpe)(file, argv, envp));
}

EXPORT int execvp(const char *file, char *const argv[])
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(execvpe)(file, argv, environ));
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(fexecve)(fd, argv, envp));
}

EXPORT int execveat(int dir, const char *path, char *const argv[],
                    char *const envp[], int flags)
{
    process_before_exec(REASON_EXEC, true);
    return exec_failed(REAL(execveat)(dir, path, argv, envp, flags));
}

/* Of the list of an execl, from its first argument to its end. */
static size_t list_length(const char *first, va_list args)
{
    size_t n = 1;

    for (const char *at = first; at != NULL; at = va_arg(args, char *))
        n++;
    return n;
}

static void gather_list(const char *first, va_list args, char **argv)
{
    *argv = (char *)first;
    while (*argv != NULL)
        *++argv = va_arg(args, char *);
}

/* No more stack than it takes: it may be a little one, of a handler. */
#define EXEC_LIST(call)                                                        \
    va_list args;                                                              \
    size_t n;                                                                  \
                                                                               \
    va_start(args, first);                                                     \
    n = list_length(first, args);                                              \
    va_end(args);                                                              \
    char *argv[n];                                                             \
    va_start(args, first);                                                     \
    gather_list(first, args, argv);                                            \
    call

EXPORT int execl(const char *path, const char *first, ...)
{
    EXEC_LIST(va_end(args); return execve(path, argv, environ);)
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    EXEC_LIST(va_end(args); return execvpe(file, argv, environ);)
}

EXPORT int execle(const char *path, const char *first, ...)
{
    char *const *envp;

    EXEC_LIST(envp = va_arg(args, char *const *); va_end(args);
              return execve(path, argv, envp);)
}

/* ---- children that libc makes without asking fork() ---- */

static void before_child(void)
{
    process_before_exec(REASON_EXEC, false);
}

/* Sockets that the child may still hold stay on TCP. */
static void after_child(bool named)
{
    int saved = errno;

    if (process.ready && !in_vfork_child()) {
        process_share_inherited(named);
        process_exec_failed(); /* going up is allowed again */
    }
    errno = saved;
}

EXPORT int posix_spawn(pid_t *restrict pid, const char *restrict path,
                       const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *restrict attr,
                       char *const argv[restrict], char *const envp[restrict])
{
    int rc;

    before_child();
    rc = REAL(posix_spawn)(pid, path, actions, attr, argv, envp);
    after_child(actions != NULL);
    return rc;
}

EXPORT int posix_spawnp(pid_t *restrict pid, const char *restrict file,
                        const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *restrict attr,
                        char *const argv[restrict], char *const envp[restrict])
{
    int rc;

    before_child();
    rc = REAL(posix_spawnp)(pid, file, actions, attr, argv, envp);
    after_child(actions != NULL);
    return rc;
}

EXPORT int system(const char *command)
{
    int rc;

    before_child();
    rc = REAL(system)(command);
    after_child(false);
    return rc;
}

EXPORT FILE *popen(const char *command, const char *type)
{
    FILE *file;

    before_child();
    file = REAL(popen)(command, type);
    after_child(false);
    return file;
}

FILE *_IO_popen(const char *command, const char *type);

EXPORT FILE *_IO_popen(const char *command, const char *type)
{
    return popen(command, type);
}

/* It may run a shell. */
EXPORT int wordexp(const char *restrict words, wordexp_t *restrict out,
                   int flags)
{
    int rc;

    before_child();
    rc = REAL(wordexp)(words, out, flags);
    after_child(false);
    return rc;
}

/* A fork that asks no pthread_atfork handler. */
EXPORT pid_t _Fork(void)
{
    pid_t pid;
    int saved;

    process_before_fork();
    pid = REAL(_Fork)();
    saved = errno;
    process_after_fork(pid == 0);
    errno = saved;
    return pid;
}

struct cloned {
    int (*run)(void *);
    void *arg;
};

static int start_cloned(void *arg)
{
    struct cloned *c = arg;

    process_after_fork(true);
    return c->run(c->arg);
}

/* With its own memory it is a fork; in ours it is a thread, or passes by. */
EXPORT int clone(int (*run)(void *), void *stack, int flags, void *arg, ...)
{
    struct cloned child = {run, arg};
    void *more[3];
    va_list args;
    int rc, saved;

    va_start(args, arg);
    for (int i = 0; i < 3; i++)
        more[i] = va_arg(args, void *);
    va_end(args);
    if ((flags & CLONE_VM) || run == NULL || stack == NULL)
        return REAL(clone)(run, stack, flags, arg, more[0], more[1], more[2]);
    if (flags & CLONE_FILES) {
        before_shared_descriptors();
        return REAL(clone)(run, stack, flags, arg, more[0], more[1], more[2]);
    }
    process_before_fork();
    rc = REAL(clone)(start_cloned, stack, flags, &child, more[0], more[1],
                     more[2]);
    saved = errno;
    process_after_fork(false);
    errno = saved;
    return rc;
}

/* ---- the end ---- */

EXPORT void pthread_exit(void *value)
{
    if (process.ready && !in_vfork_child())
        helper_main_leaves();
    REAL(pthread_exit)(value);
    __builtin_unreachable();
}

EXPORT void _exit(int status)
{
    process_leave();
    REAL(_exit)(status);
    __builtin_unreachable();
}
ALIAS(_exit)
void _Exit(int status);
