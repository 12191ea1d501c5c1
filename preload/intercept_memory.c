/*
 * Memory that goes or changes: what was known of its addresses is forgotten
 * (transport/reach.h), so that a call with a pointer into it gets EFAULT and
 * not a crash.
 *
 * These may be called before anything of ours is set up, by an allocator that
 * is being initialised; then they go to the kernel without libc.
 */
#include "preload/intercept.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

EXPORT int munmap(void *at, size_t len)
{
    reach_forget(&process.reach, at, len);
    if (kernel.munmap == NULL)
        return (int)syscall(SYS_munmap, at, len);
    return kernel.munmap(at, len);
}

EXPORT int mprotect(void *at, size_t len, int protection)
{
    reach_forget(&process.reach, at, len);
    if (kernel.mprotect == NULL)
        return (int)syscall(SYS_mprotect, at, len, protection);
    return kernel.mprotect(at, len, protection);
}

EXPORT void *mremap(void *at, size_t len, size_t new_len, int flags, ...)
{
    void *to = NULL;
    va_list args;

    if (flags & MREMAP_FIXED) {
        va_start(args, flags);
        to = va_arg(args, void *);
        va_end(args);
        reach_forget(&process.reach, to, new_len);
    }
    reach_forget(&process.reach, at, len);
    if (kernel.mremap == NULL)
        return (void *)syscall(SYS_mremap, at, len, new_len, flags, to);
    return kernel.mremap(at, len, new_len, flags, to);
}
