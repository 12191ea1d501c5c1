/*
 * One page of each large one is allocated, then the kernel is asked to make it
 * large: what is a hole is cleared, not copied, so that it costs no more than
 * to allocate small ones. The mount option huge= need not be set for that.
 */
#include "store/pm/large_pages.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static bool is_tmpfs(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* window: a large page of addresses. */
static bool take(int fd, unsigned char *window, uint64_t at)
{
    return fallocate(fd, 0, (off_t)at, 1) == 0 &&
           mmap(window, LARGE_PAGE, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_FIXED, fd, (off_t)at) != MAP_FAILED &&
           madvise(window, LARGE_PAGE, MADV_COLLAPSE) == 0;
}

void large_pages_take(int fd, uint64_t size)
{
    struct stat st;
    if (size < LARGE_PAGE || !is_tmpfs(fd) || fstat(fd, &st) < 0 ||
        ((uint64_t)st.st_size < size && ftruncate(fd, (off_t)size) < 0))
        return;
    unsigned char *room =
        mmap(NULL, 2 * LARGE_PAGE, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return;
    unsigned char *window =
        room + (LARGE_PAGE - (uintptr_t)room % LARGE_PAGE) % LARGE_PAGE;
    for (uint64_t at = 0; at + LARGE_PAGE <= size; at += LARGE_PAGE)
        if (!take(fd, window, at)) /* the next one would not be had either */
            break;
    munmap(room, 2 * LARGE_PAGE);
}
