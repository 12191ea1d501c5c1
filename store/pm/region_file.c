/*
 * See region_file.h. Between open() and flock() another opener may be quicker:
 * one that builds a pool in the file that we have made, or one that removes the
 * file or puts another one in its place. So what is locked counts only when it
 * still is what lies at the path; and a file that we have made, but another one
 * has locked, is that one's and stays.
 */
#include "store/pm/region_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES 16 /* of a file that is gone each time it is locked */

#define refuse(rc, ...)                                                        \
    region_refuse(region->path, error, error_size, (rc), __VA_ARGS__)

static int open_it(struct region *region, bool make, bool *made)
{
    int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = open(region->path, flags);
    *made = false;
    if (fd < 0 && errno == ENOENT && make) {
        fd = open(region->path, flags | O_CREAT | O_EXCL, 0600);
        *made = fd >= 0;
    }
    region->fd = fd;
    return fd < 0 ? -errno : 0;
}

static int lock(const struct region *region, char *error, size_t error_size)
{
    uint64_t opener = 0;
    if (flock(region->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return refuse(-errno, "cannot be locked: %s", strerror(errno));
    off_t at = offsetof(struct region_header, opener);
    if (pread(region->fd, &opener, sizeof(opener), at) != sizeof(opener))
        opener = 0;
    return refuse(-EBUSY,
                  "is already open by pid %llu; stop that program first or "
                  "use another pool",
                  (unsigned long long)opener);
}

/* A device is the same one by any name. A file without a name may be reached
 * through /proc, so its links are not counted. */
static bool is_at_path(const struct region *region)
{
    struct stat ours, there;
    if (fstat(region->fd, &ours) < 0 || !S_ISREG(ours.st_mode))
        return true; /* who reads it says what it is */
    return stat(region->path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

int region_file_open(struct region *region, bool make, bool *made, char *error,
                     size_t error_size)
{
    int rc = 0;
    for (int tries = 0; tries < TRIES; tries++) {
        rc = open_it(region, make, made);
        if (rc == -EEXIST) /* made by another one, or it leads nowhere */
            continue;
        if (rc < 0)
            break;
        rc = lock(region, error, error_size);
        if (rc == 0 && is_at_path(region))
            return 0;
        close(region->fd);
        region->fd = -1;
        if (rc < 0)
            return rc;
    }
    if (rc == 0)
        return refuse(-EBUSY, "is removed or replaced whenever it is opened; "
                              "stop the program that does so");
    if (rc == -ENOENT && !make)
        return refuse(rc, "does not exist; give a size to create it");
    return refuse(rc, "cannot be opened: %s", strerror(-rc));
}
