/*
 * Sockets of the measuring programs. Numbers of bytes, or -errno.
 */
#ifndef BENCH_SUPPORT_SOCKET_H
#define BENCH_SUPPORT_SOCKET_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A blocking TCP connection with TCP_NODELAY set, or -errno; -ENOENT when
 * host or port (a name or a number) mean nothing.
 */
int socket_connect(const char *host, const char *port);

/* Listens on a free port of 127.0.0.1; *port in host order. */
int socket_listen(uint16_t *port);

/* Accepts one connection, blocking, with TCP_NODELAY set. */
int socket_accept(int listener);

int socket_set_nonblocking(int fd);

/* All len bytes or a failure; a peer that ends early is -ECONNRESET. */
int socket_send_all(int fd, const void *buf, size_t len);
int socket_recv_all(int fd, void *buf, size_t len);

/*
 * Payload bytes the kernel's TCP has received on fd since it was connected:
 * what came past it, through shared memory or RDMA, is not in here.
 */
uint64_t socket_kernel_bytes(int fd);

#endif
