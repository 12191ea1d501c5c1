/* See open_region.h. */
#include "store/tool/open_region.h"

#include "store/engine/engine_state.h"
#include "store/tool/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static int refuse_if_busy(const char *path, char *error, size_t error_size)
{
    char who[HOLDER_MAX];
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return 0; /* the engine says why */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        rc = region_refuse(path, error, error_size, -EBUSY,
                           "is open in %s; stop that program first",
                           holder_of(fd, 0, who));
    close(fd);
    return rc;
}

int open_region(const char *path, const struct kv_region_options *options,
                bool fresh, struct kv_region **out, char *error,
                size_t error_size)
{
    struct kv_region_options how = *options;
    int rc = refuse_if_busy(path, error, error_size);
    if (rc < 0)
        return rc;
    how.durability = KV_DURABILITY_PMEM;
    rc = kv_region_open(path, &how, out, error, error_size);
    if (rc != -ENOTSUP)
        return rc;
    error[0] = '\0';
    how.durability = fresh ? KV_DURABILITY_PROCESS : KV_DURABILITY_SYNC;
    return kv_region_open(path, &how, out, error, error_size);
}

int close_region(struct kv_region *region, const char *path, char *error,
                 size_t error_size)
{
    int rc = 0;
    if (region->region.pm.policy == PM_PROCESS && fsync(region->region.fd) < 0)
        rc = -errno;
    int closed = kv_region_close(region);
    rc = rc < 0 ? rc : closed;
    if (rc < 0)
        region_refuse(path, error, error_size, rc, "cannot be written: %s",
                      strerror(-rc));
    return rc;
}

int end_region(struct kv_region *region, const char *path, int rc, char *error,
               size_t error_size)
{
    if (rc == 0)
        return close_region(region, path, error, error_size);
    kv_region_close(region);
    return rc;
}
