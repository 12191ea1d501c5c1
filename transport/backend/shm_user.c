/*
 * May the process at the other end of a channel be met? The kernel says which
 * user it is, and in which user namespace, where the same number may be
 * another user.
 *
 * Since Linux 6.11 the socket leads to the namespace. Before, /proc does, in
 * ten times the time when nobody has looked there yet; and what cannot be
 * found out there is taken for our own namespace.
 */
#include "transport/backend/shm_private.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/kernel_calls.h"

enum {
    OVERFLOW_UID = 65534,
    PEER_PIDFD = 77,                     /* SO_PEERPIDFD */
    PIDFD_USER_NAMESPACE = 0xff << 8 | 9 /* PIDFD_GET_USER_NAMESPACE */
};

/* Of the process that connected `fd`, or listened. */
static int namespace_behind(int fd, struct stat *st)
{
    int pidfd = -1, space, rc;
    socklen_t len = sizeof(pidfd);

    rc = kernel_getsockopt(fd, SOL_SOCKET, PEER_PIDFD, &pidfd, &len);
    if (rc < 0)
        return rc;
    space = kernel_ioctl(pidfd, PIDFD_USER_NAMESPACE, NULL);
    kernel_close(pidfd);
    if (space < 0)
        return space;
    rc = fstat(space, st);
    kernel_close(space);
    return rc;
}

static int our_namespace(struct stat *st)
{
    int pair[2], rc;

    if (syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
                pair) < 0)
        return -1;
    rc = namespace_behind(pair[0], st);
    kernel_close(pair[0]);
    kernel_close(pair[1]);
    return rc;
}

static bool is_other_namespace(int fd, uint32_t pid)
{
    char path[64];
    struct stat ours, theirs;

    if (namespace_behind(fd, &theirs) < 0 || our_namespace(&ours) < 0) {
        snprintf(path, sizeof(path), "/proc/%u/ns/user", pid);
        if (stat("/proc/self/ns/user", &ours) < 0 || stat(path, &theirs) < 0)
            return false;
    }
    return ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev;
}

/* The same user by default; an unmapped user is nobody's friend. */
bool channel_user_allowed(struct shm *shm, int fd, uint32_t *pid)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    if (kernel_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return false;
    *pid = (uint32_t)who.pid;
    if (who.uid == OVERFLOW_UID || is_other_namespace(fd, *pid))
        return false;
    if (who.uid == geteuid())
        return true;
    for (unsigned i = 0; i < shm->config.n_users; i++)
        if (shm->config.users[i] == who.uid)
            return true;
    return false;
}
