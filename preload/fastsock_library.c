/*
 * See fastsock_library.h.
 */
#include "preload/fastsock_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SECONDS = 10 };

void library_place(unsigned place, const char *name,
                   char path[LIBRARY_PATH_MAX])
{
    static const char *const places[LIBRARY_PLACES] = {"", "../lib/"};
    char own[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (len < 0)
        len = 0;
    own[len] = '\0';
    own[strrchr(own, '/') != NULL ? strrchr(own, '/') + 1 - own : 0] = '\0';
    snprintf(path, LIBRARY_PATH_MAX, "%s%s%s", own, places[place], name);
}

int library_find(const char *name, char path[PATH_MAX])
{
    char tried[LIBRARY_PATH_MAX], full[PATH_MAX];

    for (unsigned i = 0; i < LIBRARY_PLACES; i++) {
        library_place(i, name, tried);
        if (access(tried, R_OK) != 0 || realpath(tried, full) == NULL)
            continue;
        memcpy(path, full, sizeof(full));
        return 0;
    }
    return -ENOENT;
}

/* The child: what is wrong goes to fd as text. */
_Noreturn static void try_here(const char *name,
                               const char *(*judge)(void *handle), int fd)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    const char *wrong = NULL;
    void *handle;

    alarm(SECONDS);
    dup2(null_fd, STDOUT_FILENO);
    dup2(null_fd, STDERR_FILENO);
    handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        wrong = dlerror();
    else if (judge != NULL)
        wrong = judge(handle);
    if (wrong != NULL)
        (void)!write(fd, wrong, strlen(wrong));
    _exit(wrong != NULL);
}

static void read_all(int fd, char *buf, size_t size)
{
    char rest[64];
    size_t at = 0;
    ssize_t n;

    do {
        n = at < size - 1 ? read(fd, buf + at, size - 1 - at)
                          : read(fd, rest, sizeof(rest));
        if (n > 0 && at < size - 1)
            at += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    buf[at] = '\0';
}

int library_try(const char *name, const char *(*judge)(void *handle),
                char *error, size_t size)
{
    int status = 0, fds[2];
    pid_t pid;

    snprintf(error, size, "no process could be started");
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -ELIBACC;
    fflush(NULL);
    pid = fork();
    if (pid == 0)
        try_here(name, judge, fds[1]);
    close(fds[1]);
    if (pid > 0)
        read_all(fds[0], error, size);
    close(fds[0]);
    if (pid < 0)
        return -ELIBACC;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -ELIBACC;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        snprintf(error, size, "it ends the process by signal %d",
                 WTERMSIG(status));
    return -ELIBACC;
}
