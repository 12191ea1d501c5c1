/*
 * The calls a stream makes on its TCP connection, as a table that its owner
 * hands in: the kernel's own, or a connection in memory.
 *
 * Each returns what the system call returns, or -errno; errno itself is left
 * alone. The table is const and outlives the stream. Bytes that travel on a
 * link never pass through here.
 */
#ifndef TRANSPORT_STREAM_KERNEL_CALLS_H
#define TRANSPORT_STREAM_KERNEL_CALLS_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct tcp_calls {
    ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
    ssize_t (*recvmsg)(int fd, struct msghdr *msg, int flags);
    ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *msg, int flags);
    int (*shutdown)(int fd, int how);
    int (*getsockopt)(int fd, int level, int name, void *value, socklen_t *len);
    int (*setsockopt)(int fd, int level, int name, const void *value,
                      socklen_t len);
    int (*ioctl)(int fd, unsigned long command, void *arg);
    int (*connect)(int fd, const void *addr, socklen_t len);
    int (*poll)(struct pollfd *fds, unsigned n, int ms);
    uint64_t (*now_ns)(void); /* monotonic */
};

/* The kernel's own, past every interposed name. */
extern const struct tcp_calls tcp_calls_kernel;

#endif
