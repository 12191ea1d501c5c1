/*
 * The real functions behind the intercepted names: the next definition in the
 * search order, libc's as a rule. REAL(name) also works before our own
 * constructor has run.
 */
#ifndef PRELOAD_KERNEL_H
#define PRELOAD_KERNEL_H

#include <aio.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <wordexp.h>

#define KERNEL_FUNCTIONS(X)                                                    \
    X(int, socket, (int, int, int))                                            \
    X(int, bind, (int, const struct sockaddr *, socklen_t))                    \
    X(int, listen, (int, int))                                                 \
    X(int, accept4, (int, struct sockaddr *, socklen_t *, int))                \
    X(int, accept, (int, struct sockaddr *, socklen_t *))                      \
    X(int, connect, (int, const struct sockaddr *, socklen_t))                 \
    X(int, getsockopt, (int, int, int, void *, socklen_t *))                   \
    X(int, setsockopt, (int, int, int, const void *, socklen_t))               \
    X(int, getpeername, (int, struct sockaddr *, socklen_t *))                 \
    X(int, shutdown, (int, int))                                               \
    X(int, socketpair, (int, int, int, int *))                                 \
    X(int, close, (int))                                                       \
    X(int, close_range, (unsigned, unsigned, int))                             \
    X(ssize_t, read, (int, void *, size_t))                                    \
    X(ssize_t, write, (int, const void *, size_t))                             \
    X(ssize_t, readv, (int, const struct iovec *, int))                        \
    X(ssize_t, writev, (int, const struct iovec *, int))                       \
    X(ssize_t, recv, (int, void *, size_t, int))                               \
    X(ssize_t, send, (int, const void *, size_t, int))                         \
    X(ssize_t, recvfrom,                                                       \
      (int, void *, size_t, int, struct sockaddr *, socklen_t *))              \
    X(ssize_t, sendto,                                                         \
      (int, const void *, size_t, int, const struct sockaddr *, socklen_t))    \
    X(ssize_t, recvmsg, (int, struct msghdr *, int))                           \
    X(ssize_t, sendmsg, (int, const struct msghdr *, int))                     \
    X(int, recvmmsg,                                                           \
      (int, struct mmsghdr *, unsigned, int, struct timespec *))               \
    X(int, sendmmsg, (int, struct mmsghdr *, unsigned, int))                   \
    X(ssize_t, sendfile, (int, int, off_t *, size_t))                          \
    X(ssize_t, splice, (int, off64_t *, int, off64_t *, size_t, unsigned))     \
    X(ssize_t, preadv64v2, (int, const struct iovec *, int, off64_t, int))     \
    X(ssize_t, pwritev64v2, (int, const struct iovec *, int, off64_t, int))    \
    X(int, vdprintf, (int, const char *, va_list))                             \
    X(int, __vdprintf_chk, (int, int, const char *, va_list))                  \
    X(int, poll, (struct pollfd *, nfds_t, int))                               \
    X(int, ppoll,                                                              \
      (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))    \
    X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))      \
    X(int, pselect,                                                            \
      (int, fd_set *, fd_set *, fd_set *, const struct timespec *,             \
       const sigset_t *))                                                      \
    X(int, epoll_create, (int))                                                \
    X(int, epoll_create1, (int))                                               \
    X(int, epoll_ctl, (int, int, int, struct epoll_event *))                   \
    X(int, epoll_wait, (int, struct epoll_event *, int, int))                  \
    X(int, epoll_pwait,                                                        \
      (int, struct epoll_event *, int, int, const sigset_t *))                 \
    X(int, epoll_pwait2,                                                       \
      (int, struct epoll_event *, int, const struct timespec *,                \
       const sigset_t *))                                                      \
    X(int, dup, (int))                                                         \
    X(int, dup2, (int, int))                                                   \
    X(int, dup3, (int, int, int))                                              \
    X(int, fcntl64, (int, int, ...))                                           \
    X(int, ioctl, (int, unsigned long, ...))                                   \
    X(int, open64, (const char *, int, ...))                                   \
    X(int, openat64, (int, const char *, int, ...))                            \
    X(int, pipe, (int *))                                                      \
    X(int, pipe2, (int *, int))                                                \
    X(int, eventfd, (unsigned, int))                                           \
    X(FILE *, fdopen, (int, const char *))                                     \
    X(int, execve, (const char *, char *const *, char *const *))               \
    X(int, execvpe, (const char *, char *const *, char *const *))              \
    X(int, fexecve, (int, char *const *, char *const *))                       \
    X(int, posix_spawn,                                                        \
      (pid_t *, const char *, const posix_spawn_file_actions_t *,              \
       const posix_spawnattr_t *, char *const *, char *const *))               \
    X(int, posix_spawnp,                                                       \
      (pid_t *, const char *, const posix_spawn_file_actions_t *,              \
       const posix_spawnattr_t *, char *const *, char *const *))               \
    X(int, system, (const char *))                                             \
    X(FILE *, popen, (const char *, const char *))                             \
    X(void, _exit, (int))                                                      \
    X(pid_t, vfork, (void))                                                    \
    X(void, pthread_exit, (void *))                                            \
    X(int, clone, (int (*)(void *), void *, int, void *, ...))                 \
    X(pid_t, _Fork, (void))                                                    \
    X(int, execveat, (int, const char *, char *const *, char *const *, int))   \
    X(int, wordexp, (const char *, wordexp_t *, int))                          \
    X(int, aio_read, (struct aiocb *))                                         \
    X(int, aio_write, (struct aiocb *))                                        \
    X(int, lio_listio, (int, struct aiocb *const *, int, struct sigevent *))   \
    X(void, backtrace_symbols_fd, (void *const *, int, int))                   \
    X(int, creat64, (const char *, mode_t))                                    \
    X(int, memfd_create, (const char *, unsigned))                             \
    X(int, timerfd_create, (clockid_t, int))                                   \
    X(int, signalfd, (int, const sigset_t *, int))                             \
    X(int, inotify_init, (void))                                               \
    X(int, inotify_init1, (int))                                               \
    X(int, __open64_2, (const char *, int))                                    \
    X(int, __openat64_2, (int, const char *, int))                             \
    X(int, daemon, (int, int))                                                 \
    X(int, login_tty, (int))                                                   \
    X(pid_t, forkpty,                                                          \
      (int *, char *, const struct termios *, const struct winsize *))         \
    X(int, fclose, (FILE *))                                                   \
    X(FILE *, freopen64, (const char *, const char *, FILE *))                 \
    X(int, pidfd_getfd, (int, int, unsigned))                                  \
    X(int, setns, (int, int))                                                  \
    X(int, unshare, (int))                                                     \
    X(int, prctl, (int, ...))                                                  \
    X(long, syscall, (long, ...))                                              \
    X(int, io_uring_setup, (unsigned, void *))                                 \
    X(int, io_uring_queue_init, (unsigned, void *, unsigned))                  \
    X(int, io_uring_queue_init_params, (unsigned, void *, void *))             \
    X(int, sigaction, (int, const struct sigaction *, struct sigaction *))     \
    X(sighandler_t, signal, (int, sighandler_t))                               \
    X(sighandler_t, sysv_signal, (int, sighandler_t))                          \
    X(sighandler_t, sigset, (int, sighandler_t))                               \
    X(int, sigignore, (int))                                                   \
    X(int, siginterrupt, (int, int))                                           \
    X(int, munmap, (void *, size_t))                                           \
    X(int, mprotect, (void *, size_t, int))                                    \
    X(void *, mremap, (void *, size_t, size_t, int, ...))

/* Of these, the ones whose cost on a foreign descriptor counts. */
#define KERNEL_FAST(X)                                                         \
    X(ssize_t, read, (int fd, void *buf, size_t len), (fd, buf, len))          \
    X(ssize_t, write, (int fd, const void *buf, size_t len), (fd, buf, len))   \
    X(ssize_t, readv, (int fd, const struct iovec *iov, int n), (fd, iov, n))  \
    X(ssize_t, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n)) \
    X(ssize_t, recv, (int fd, void *buf, size_t len, int flags),               \
      (fd, buf, len, flags))                                                   \
    X(ssize_t, send, (int fd, const void *buf, size_t len, int flags),         \
      (fd, buf, len, flags))                                                   \
    X(int, poll, (struct pollfd * fds, nfds_t n, int ms), (fds, n, ms))        \
    X(int, epoll_wait, (int fd, struct epoll_event *events, int max, int ms),  \
      (fd, events, max, ms))

#define KERNEL_FIELD(result, name, arguments) result(*name) arguments;

struct kernel {
    KERNEL_FUNCTIONS(KERNEL_FIELD)
};

extern struct kernel kernel;

/* Fills the table; harmless to call again. */
void kernel_resolve(void);

/* REAL() without the look whether it is known: KERNEL_FAST only. */
#define FAST(name) (kernel.name)

#define REAL(name)                                                             \
    (__builtin_expect(kernel.name != NULL, 1)                                  \
         ? kernel.name                                                         \
         : (kernel_resolve(), kernel.name))

#endif
