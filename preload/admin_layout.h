/*
 * What the fastsock command asks of a process: over an abstract UNIX socket
 * (SOCK_SEQPACKET) of its helper thread, named after the inode of its
 * statistics segment. Both sides look at the kernel's credentials first: the
 * process answers its own user and root, the command believes only the process
 * that it asked. One request, one reply, then the process closes.
 */
#ifndef PRELOAD_ADMIN_LAYOUT_H
#define PRELOAD_ADMIN_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    ADMIN_MAGIC = 0x31444146, /* "FAD1" */
    ADMIN_DOWN = 1,           /* to kernel TCP, and stay there */
    ADMIN_UP = 2,             /* no longer */
    ADMIN_ALL = -1            /* every stream, and those to come */
};

struct admin_request {
    uint32_t magic, command;
    int32_t fd; /* or ADMIN_ALL */
    uint32_t reserved;
};

struct admin_reply {
    uint32_t magic;
    int32_t result; /* how many streams it is about, or -errno */
};

static inline socklen_t admin_address(uint64_t inode, struct sockaddr_un *out)
{
    int n;

    memset(out, 0, sizeof(*out));
    out->sun_family = AF_UNIX;
    n = snprintf(out->sun_path + 1, sizeof(out->sun_path) - 1,
                 "fastsock.admin.%llx", (unsigned long long)inode);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

#endif
