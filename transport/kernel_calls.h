/*
 * The kernel's own calls, past every interposed name. Each returns what the
 * system call returned, or -errno; errno itself is left alone.
 */
#ifndef TRANSPORT_KERNEL_CALLS_H
#define TRANSPORT_KERNEL_CALLS_H

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static inline long kernel_result(long rc, int errno_before)
{
    if (rc < 0)
        rc = -errno;
    errno = errno_before;
    return rc;
}

static inline int kernel_socket(int family, int type, int protocol)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_socket, family, type, protocol),
                              saved);
}

static inline int kernel_bind(int fd, const void *addr, socklen_t len)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_bind, fd, addr, len), saved);
}

static inline int kernel_listen(int fd, int backlog)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_listen, fd, backlog), saved);
}

static inline int kernel_connect(int fd, const void *addr, socklen_t len)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_connect, fd, addr, len), saved);
}

static inline int kernel_accept4(int fd, int flags)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_accept4, fd, NULL, NULL, flags),
                              saved);
}

static inline int kernel_close(int fd)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_close, fd), saved);
}

static inline int kernel_shutdown(int fd, int how)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_shutdown, fd, how), saved);
}

static inline int kernel_dup3(int fd, int onto, int flags)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_dup3, fd, onto, flags), saved);
}

static inline int kernel_fcntl(int fd, int command, long arg)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_fcntl, fd, command, arg), saved);
}

static inline int kernel_ioctl(int fd, unsigned long command, void *arg)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_ioctl, fd, command, arg), saved);
}

static inline int kernel_getsockopt(int fd, int level, int name, void *value,
                                    socklen_t *len)
{
    int saved = errno;

    return (int)kernel_result(
        syscall(SYS_getsockopt, fd, level, name, value, len), saved);
}

static inline int kernel_setsockopt(int fd, int level, int name,
                                    const void *value, socklen_t len)
{
    int saved = errno;

    return (int)kernel_result(
        syscall(SYS_setsockopt, fd, level, name, value, len), saved);
}

static inline int kernel_getsockname(int fd, void *addr, socklen_t *len)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_getsockname, fd, addr, len), saved);
}

static inline int kernel_getpeername(int fd, void *addr, socklen_t *len)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_getpeername, fd, addr, len), saved);
}

static inline ssize_t kernel_recvmsg(int fd, struct msghdr *msg, int flags)
{
    int saved = errno;

    return kernel_result(syscall(SYS_recvmsg, fd, msg, flags), saved);
}

static inline ssize_t kernel_sendmsg(int fd, const struct msghdr *msg,
                                     int flags)
{
    int saved = errno;

    return kernel_result(syscall(SYS_sendmsg, fd, msg, flags), saved);
}

static inline int kernel_recvmmsg(int fd, struct mmsghdr *msgs, unsigned n,
                                  int flags)
{
    int saved = errno;

    return (int)kernel_result(syscall(SYS_recvmmsg, fd, msgs, n, flags, NULL),
                              saved);
}

static inline ssize_t kernel_recv(int fd, void *buf, size_t len, int flags)
{
    int saved = errno;

    return kernel_result(syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL),
                         saved);
}

static inline ssize_t kernel_send(int fd, const void *buf, size_t len,
                                  int flags)
{
    int saved = errno;

    return kernel_result(syscall(SYS_sendto, fd, buf, len, flags, NULL, 0),
                         saved);
}

static inline ssize_t kernel_sendto(int fd, const void *buf, size_t len,
                                    int flags, const void *addr,
                                    socklen_t addr_len)
{
    int saved = errno;

    return kernel_result(
        syscall(SYS_sendto, fd, buf, len, flags, addr, addr_len), saved);
}

/* ms as poll(2) has it; never a cancellation point. */
static inline int kernel_poll(struct pollfd *fds, unsigned n, int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    int saved = errno;

    return (int)kernel_result(
        syscall(SYS_ppoll, fds, n, ms < 0 ? NULL : &t, NULL, 8), saved);
}

#endif
