/*
 * syscall(): calls that have a function of their own here go to it, so that a
 * program which prefers numbers sees the same. Everything else is the kernel's.
 *
 * The library itself calls the kernel by syscall() in many places; the linker
 * makes those calls __wrap_syscall() (transport/raw_syscall.h, the Makefile).
 */
#include "preload/intercept_io.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/seccomp.h>

#include "preload/handlers.h"
#include "preload/helper.h"
#include "preload/intercept_sandbox.h"
#include "transport/raw_syscall.h"

/* As many as there may be; those that were not given are not used. */
#define TAKE_ARGUMENTS(a, last)                                                \
    do {                                                                       \
        va_list args;                                                          \
                                                                               \
        va_start(args, last);                                                  \
        for (int i = 0; i < 6; i++)                                            \
            (a)[i] = va_arg(args, long);                                       \
        va_end(args);                                                          \
    } while (0)

/* They tell what is left of a time-out, which ours do not: the kernel's. */
static long wait_for_many(long number, const long *a)
{
    if (number == SYS_ppoll)
        kernel_only_polled((void *)a[0], (nfds_t)a[1]);
    else
        kernel_only_selected((int)a[0], (void *)a[1], (void *)a[2],
                             (void *)a[3]);
    return posix_result(raw_syscall(number, a));
}

/* The kernel's own asynchronous calls; libaio has them inline, past us. */
static long submit_by_number(const long *a)
{
    struct iocb **list = (struct iocb **)a[2];

    for (long i = 0; i < a[1] && readable(&list[i], sizeof(*list)) &&
                     readable(list[i], sizeof(**list));
         i++)
        kernel_only((int)list[i]->aio_fildes);
    return posix_result(raw_syscall(SYS_io_submit, a));
}

/* A fork by number. Threads and children in our memory are not ours to see. */
static long clone_by_number(const long *a)
{
    bool forks = !((unsigned long)a[0] & CLONE_VM);
    long rc;

    if (forks && ((unsigned long)a[0] & CLONE_FILES)) {
        before_shared_descriptors();
        forks = false;
    }
    if (forks)
        process_before_fork();
    rc = raw_syscall(SYS_clone, a);
    if (forks)
        process_after_fork(rc == 0);
    return posix_result(rc);
}

static long bytes_by_number(long number, const long *a)
{
    int fd = (int)a[0], flags = (int)a[3];
    void *p = (void *)a[1];
    size_t n = (size_t)a[2];

    switch (number) {
    case SYS_read:
        return read(fd, p, n);
    case SYS_write:
        return write(fd, p, n);
    case SYS_readv:
        return readv(fd, p, (int)n);
    case SYS_writev:
        return writev(fd, p, (int)n);
    case SYS_recvfrom:
        return recvfrom(fd, p, n, flags, (void *)a[4], (void *)a[5]);
    case SYS_sendto:
        return sendto(fd, p, n, flags, (void *)a[4], (socklen_t)a[5]);
    case SYS_recvmsg:
        return recvmsg(fd, p, (int)n);
    case SYS_sendmsg:
        return sendmsg(fd, p, (int)n);
    case SYS_recvmmsg:
        return recvmmsg(fd, p, (unsigned)n, flags, (void *)a[4]);
    case SYS_sendmmsg:
        return sendmmsg(fd, p, (unsigned)n, flags);
    case SYS_sendfile:
        return sendfile(fd, (int)a[1], (void *)a[2], (size_t)a[3]);
    case SYS_preadv2: /* the other half of the offset is for 32 bits */
        return preadv64v2(fd, p, (int)n, a[3], (int)a[5]);
    case SYS_pwritev2:
        return pwritev64v2(fd, p, (int)n, a[3], (int)a[5]);
    default:
        return splice(fd, p, (int)n, (void *)a[3], (size_t)a[4],
                      (unsigned)a[5]);
    }
}

static long descriptor_by_number(long number, const long *a)
{
    int fd = (int)a[0], other = (int)a[1];

    switch (number) {
    case SYS_close:
        return close(fd);
    case SYS_close_range:
        return close_range((unsigned)fd, (unsigned)other, (int)a[2]);
    case SYS_dup:
        return dup(fd);
    case SYS_dup3:
        return dup3(fd, other, (int)a[2]);
    case SYS_fcntl:
        return fcntl64(fd, other, a[2]);
    case SYS_ioctl:
        return ioctl(fd, (unsigned long)a[1], (void *)a[2]);
    case SYS_pidfd_getfd:
        return pidfd_getfd(fd, other, (unsigned)a[2]);
    case SYS_epoll_create1:
        return epoll_create1(fd);
    case SYS_epoll_ctl:
        return epoll_ctl(fd, other, (int)a[2], (void *)a[3]);
    case SYS_epoll_pwait:
        return epoll_pwait(fd, (void *)a[1], (int)a[2], (int)a[3],
                           (void *)a[4]);
    default:
        return epoll_pwait2(fd, (void *)a[1], (int)a[2], (void *)a[3],
                            (void *)a[4]);
    }
}

static long socket_by_number(long number, const long *a)
{
    int fd = (int)a[0];

    switch (number) {
    case SYS_socket:
        return socket(fd, (int)a[1], (int)a[2]);
    case SYS_listen:
        return listen(fd, (int)a[1]);
    case SYS_accept:
        return accept(fd, (void *)a[1], (void *)a[2]);
    case SYS_accept4:
        return accept4(fd, (void *)a[1], (void *)a[2], (int)a[3]);
    case SYS_connect:
        return connect(fd, (void *)a[1], (socklen_t)a[2]);
    case SYS_shutdown:
        return shutdown(fd, (int)a[1]);
    case SYS_setsockopt:
        return setsockopt(fd, (int)a[1], (int)a[2], (void *)a[3],
                          (socklen_t)a[4]);
    default:
        return getsockopt(fd, (int)a[1], (int)a[2], (void *)a[3], (void *)a[4]);
    }
}

/* Of another process, or of this one and what may be done in it. */
static long process_by_number(long number, const long *a)
{
    long rc;

    switch (number) {
    case SYS_execve:
        return execve((void *)a[0], (void *)a[1], (void *)a[2]);
    case SYS_execveat:
        return execveat((int)a[0], (void *)a[1], (void *)a[2], (void *)a[3],
                        (int)a[4]);
    case SYS_setns:
        return setns((int)a[0], (int)a[1]);
    case SYS_unshare:
        return unshare((int)a[0]);
    case SYS_prctl:
        return prctl((int)a[0], a[1], a[2], a[3], a[4]);
    case SYS_exit_group:
        process_leave();
        break;
    case SYS_seccomp:
        if (a[0] == SECCOMP_SET_MODE_STRICT)
            before_seccomp(SECCOMP_MODE_STRICT, NULL);
        else if (a[0] == SECCOMP_SET_MODE_FILTER)
            before_seccomp(SECCOMP_MODE_FILTER, (void *)a[2]);
        break;
    case SYS_rt_sigaction:
        rc = raw_syscall(number, a);
        handlers_changed((int)a[0]);
        return posix_result(rc);
    default: /* io_uring_setup */
        process_before_withdrawal(REASON_IO_URING);
        rc = raw_syscall(number, a);
        process_withdraw(rc >= 0);
        return posix_result(rc);
    }
    return posix_result(raw_syscall(number, a));
}

#ifdef __x86_64__
/* Numbers that younger processors never had. */
static long old_number(long number, const long *a)
{
    switch (number) {
    case SYS_dup2:
        return dup2((int)a[0], (int)a[1]);
    case SYS_epoll_create:
        return epoll_create((int)a[0]);
    case SYS_epoll_wait:
        return epoll_wait((int)a[0], (void *)a[1], (int)a[2], (int)a[3]);
    case SYS_poll:
        return poll((void *)a[0], (nfds_t)a[1], (int)a[2]);
    case SYS_select:
        return select((int)a[0], (void *)a[1], (void *)a[2], (void *)a[3],
                      (void *)a[4]);
    default: /* fork */
        return clone_by_number((long[6]){SIGCHLD});
    }
}
#endif

EXPORT long syscall(long number, ...)
{
    long a[6];

    TAKE_ARGUMENTS(a, number);
    if (unlikely(!process.ready || helper_is_me || in_vfork_child()))
        return posix_result(raw_syscall(number, a));
    switch (number) {
    case SYS_read:
    case SYS_write:
    case SYS_readv:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_sendto:
    case SYS_recvmsg:
    case SYS_sendmsg:
    case SYS_recvmmsg:
    case SYS_sendmmsg:
    case SYS_sendfile:
    case SYS_preadv2:
    case SYS_pwritev2:
    case SYS_splice:
        return bytes_by_number(number, a);
    case SYS_close:
    case SYS_close_range:
    case SYS_dup:
    case SYS_dup3:
    case SYS_fcntl:
    case SYS_ioctl:
    case SYS_pidfd_getfd:
    case SYS_epoll_create1:
    case SYS_epoll_ctl:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
        return descriptor_by_number(number, a);
    case SYS_socket:
    case SYS_listen:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_shutdown:
    case SYS_setsockopt:
    case SYS_getsockopt:
        return socket_by_number(number, a);
    case SYS_ppoll:
    case SYS_pselect6:
        return wait_for_many(number, a);
    case SYS_io_submit:
        return submit_by_number(a);
    case SYS_execve:
    case SYS_execveat:
    case SYS_setns:
    case SYS_unshare:
    case SYS_prctl:
    case SYS_exit_group:
    case SYS_seccomp:
    case SYS_rt_sigaction:
    case SYS_io_uring_setup:
        return process_by_number(number, a);
    case SYS_clone:
        return clone_by_number(a);
#ifdef __x86_64__
    case SYS_dup2:
    case SYS_epoll_create:
    case SYS_epoll_wait:
    case SYS_poll:
    case SYS_select:
    case SYS_fork:
        return old_number(number, a);
#endif
    default:
        return posix_result(raw_syscall(number, a));
    }
}
