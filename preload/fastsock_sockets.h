/*
 * The addresses of a process's TCP sockets by descriptor, from the kernel:
 * for streams whose row does not have them yet.
 */
#ifndef PRELOAD_FASTSOCK_SOCKETS_H
#define PRELOAD_FASTSOCK_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "preload/fastsock_segment.h"

struct target_socket {
    uint64_t inode;
    int family;
    struct segment_name local, peer;
};

/* All TCP sockets of pid's network namespace, sorted for sockets_find(); to
 * be freed by the caller. NULL when there is none. */
struct target_socket *sockets_read(pid_t pid, size_t *n);

/* The entry of descriptor fd of pid; borrowed, or NULL. */
const struct target_socket *sockets_find(const struct target_socket *sockets,
                                         size_t n, pid_t pid, unsigned fd);

/* One line of /proc/net/tcp or tcp6. False: not a socket's line. */
bool sockets_parse(const char *line, struct target_socket *out);

#endif
