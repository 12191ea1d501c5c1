/*
 * See fd_table.h. The rows are zero-filled memory for every number that the
 * kernel could give out; pages appear when they are written.
 */
#include "preload/fd_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "transport/kernel_calls.h"

enum { OURS_LOWEST = 64, OURS_HIGHEST = 16384 };

_Atomic(struct object *) fd_rows[FD_ROWS];
static struct object ours = {.kind = OBJECT_OURS};
static _Atomic unsigned rows_used;

struct object *fd_set_row(int fd, struct object *object)
{
    unsigned used;

    if ((unsigned)fd >= FD_ROWS)
        return NULL;
    /* Rows that stay empty are not touched: no page for them. */
    if (object == NULL &&
        atomic_load_explicit(&fd_rows[fd], memory_order_relaxed) == NULL)
        return NULL;
    used = atomic_load_explicit(&rows_used, memory_order_relaxed);
    while ((unsigned)fd >= used &&
           !atomic_compare_exchange_weak(&rows_used, &used, (unsigned)fd + 1))
        ;
    return atomic_exchange(&fd_rows[fd], object);
}

unsigned fd_rows_used(void)
{
    return atomic_load(&rows_used);
}

/* The upper end of what the application is likely to use. */
static int ours_floor(void)
{
    struct rlimit limit;
    long floor = OURS_HIGHEST;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < (rlim_t)OURS_HIGHEST)
        floor = (long)limit.rlim_cur;
    floor -= floor / 4;
    return floor < OURS_LOWEST ? OURS_LOWEST : (int)floor;
}

int ours_keep(int fd)
{
    int high;

    if (fd < 0)
        return fd;
    high = kernel_fcntl(fd, F_DUPFD_CLOEXEC, ours_floor());
    if (high >= 0) {
        kernel_close(fd);
        fd = high;
    }
    fd_set_row(fd, &ours);
    return fd;
}

void ours_close(int fd)
{
    if (fd < 0)
        return;
    fd_set_row(fd, NULL);
    kernel_close(fd);
}
