/*
 * Owns no memory and no descriptor beyond a call: callers do.
 *
 * What a peer sends may be any file. Only one whose size is sealed and whose
 * pages are ordinary memory is mapped: a file that shrinks, or huge pages that
 * have run out, would be SIGBUS in the middle of a copy.
 */
#include "transport/shared_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { SIZE_SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

int memory_create(const char *name, size_t size, int *fd)
{
    struct rlimit most;
    int made, rc;

    if (size == 0 || size > INT64_MAX)
        return -EINVAL;
    /* ftruncate() would send a signal. */
    if (getrlimit(RLIMIT_FSIZE, &most) == 0 && size > most.rlim_cur)
        return -EFBIG;
    made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0)
        return -errno;
    if (ftruncate(made, (off_t)size) < 0 ||
        fcntl(made, F_ADD_SEALS, SIZE_SEALS) < 0) {
        rc = -errno;
        goto close_made;
    }
    *fd = made;
    return 0;

close_made:
    syscall(SYS_close, made); /* close() is a name this library intercepts */
    return rc;
}

int memory_check(int fd, size_t at_least, size_t at_most, size_t *size)
{
    struct statfs fs;
    struct stat st;
    int seals;

    if (fstatfs(fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        return -EBADF;
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return -EBADF;
    if ((seals & SIZE_SEALS) != SIZE_SEALS)
        return -EPERM;
    /* Only now: before the seals the owner could still change it. */
    if (fstat(fd, &st) < 0)
        return -EBADF;
    if (st.st_size < 0 || (uint64_t)st.st_size < at_least ||
        (uint64_t)st.st_size > at_most)
        return -ERANGE;
    *size = (size_t)st.st_size;
    return 0;
}

/*
 * After mlockall(MCL_FUTURE) the kernel makes all pages of a new mapping at
 * once, and here most are never used: it cannot of one without access, and does
 * not when it is no longer locked. A core dump would make them, too. Names that
 * the library intercepts.
 */
int memory_map(int fd, size_t size, bool writable, void **out)
{
    int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ, rc;
    void *at = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);

    if (at == MAP_FAILED)
        return -errno;
    syscall(SYS_munlock, at, size);
    if (syscall(SYS_mprotect, at, size, prot) < 0) {
        rc = -errno;
        memory_unmap(at, size);
        return rc;
    }
    syscall(SYS_madvise, at, size, MADV_DONTDUMP);
    *out = at;
    return 0;
}

void memory_unmap(void *at, size_t size)
{
    if (at)
        munmap(at, size);
}

void memory_give_back(void *at, size_t size)
{
    int saved = errno;

    madvise(at, size, MADV_REMOVE); /* what cannot be is as it was */
    errno = saved;
}
