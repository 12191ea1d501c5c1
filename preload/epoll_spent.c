/*
 * Has the kernel reported a one-shot already? Its set's fdinfo tells, and
 * nothing else (proc_pid_fdinfo(5)).
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/epoll_private.h"
#include "transport/kernel_calls.h"

enum {
    KERNEL_FLAGS = EPOLLWAKEUP | EPOLLONESHOT | (int)EPOLLET | EPOLLEXCLUSIVE
};

/*
 * One line of the set's fdinfo: a spent one-shot has no events but flags. The
 * number alone may be that of another file, too, which had it before.
 */
static bool says_spent(const char *line, const struct epoll_reg *reg)
{
    unsigned long inode = reg->endpoint->inode;
    unsigned events;
    int fd;

    return sscanf(line, "tfd: %d events: %x data: %*x pos:%*d ino:%lx", &fd,
                  &events, &inode) >= 2 &&
           fd == reg->fd && inode == reg->endpoint->inode &&
           (events & ~(unsigned)KERNEL_FLAGS) == 0;
}

bool epoll_spent_in_kernel(const struct epoll_reg *reg)
{
    char path[48], buf[4096];
    size_t have = 0;
    bool spent = false;
    long n;
    int info;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", reg->set->epfd);
    info = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (info < 0)
        return false;
    while (!spent && (n = syscall(SYS_read, info, buf + have,
                                  sizeof(buf) - 1 - have)) > 0) {
        char *line = buf, *end;

        have += (size_t)n;
        buf[have] = '\0';
        for (; (end = strchr(line, '\n')) != NULL; line = end + 1)
            spent |= says_spent(line, reg);
        have = (size_t)(buf + have - line);
        memmove(buf, line, have);
        if (have == sizeof(buf) - 1)
            have = 0; /* no line of fdinfo is that long */
    }
    kernel_close(info);
    return spent;
}
