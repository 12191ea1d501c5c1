/*
 * Where the library cannot follow: another network namespace, a filter of
 * system calls, a ring that the kernel works on by itself. All streams return
 * to TCP first, and all that happens from then on is the kernel's (decision
 * 0029).
 *
 * A call that fails changes nothing, where that can be told beforehand or put
 * right afterwards: programs try such calls to learn what the system has.
 */
#include "preload/intercept_io.h"

#include <dlfcn.h>
#include <linux/close_range.h>
#include <linux/nsfs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "preload/intercept_sandbox.h"
#include "transport/kernel_calls.h"

/* Rings of liburing, which calls the kernel by itself. */
int io_uring_setup(unsigned n, void *params);
int io_uring_queue_init(unsigned n, void *ring, unsigned flags);
int io_uring_queue_init_params(unsigned n, void *ring, void *params);

/* Where a helper thread would stay behind, or where there may be none. */
enum {
    FLAGS_FAR = CLONE_NEWNET | CLONE_NEWUSER | CLONE_FILES | CLONE_THREAD |
                CLONE_SIGHAND | CLONE_VM
};

static int finish(int rc)
{
    int saved = errno;

    process_withdraw(rc >= 0);
    errno = saved;
    return rc;
}

EXPORT int setns(int fd, int type)
{
    int its_type = kernel_ioctl(fd, NS_GET_NSTYPE, NULL);

    /* Of a process: several at once, as `type` says. */
    if (!((its_type > 0 ? its_type : type) & FLAGS_FAR))
        return REAL(setns)(fd, type);
    process_before_withdrawal(REASON_UNSHARED);
    return finish(REAL(setns)(fd, type));
}

EXPORT int unshare(int flags)
{
    if (!(flags & FLAGS_FAR))
        return REAL(unshare)(flags);
    process_before_withdrawal(REASON_UNSHARED);
    return finish(REAL(unshare)(flags));
}

/* By the call that it is a part of: a filter may allow that one alone. */
int unshare_descriptors(void)
{
    process_before_withdrawal(REASON_UNSHARED);
    return finish(REAL(close_range)(~0u, ~0u, CLOSE_RANGE_UNSHARE));
}

/* Neither process sees what the other one does with the numbers of both. */
void before_shared_descriptors(void)
{
    process_before_withdrawal(REASON_UNSHARED);
    process_withdraw(true);
}

/* No way back: with the filter in place there is nothing we may call. */
void before_seccomp(unsigned long mode, const void *filter)
{
    if (mode == SECCOMP_MODE_STRICT ||
        (mode == SECCOMP_MODE_FILTER && readable(filter, sizeof(void *)))) {
        process_before_withdrawal(REASON_FILTER);
        process_withdraw(true);
        process.settings.report[0] = '\0'; /* no file may be opened then */
    }
}

EXPORT int prctl(int option, ...)
{
    unsigned long a[4];
    va_list args;

    va_start(args, option);
    for (int i = 0; i < 4; i++)
        a[i] = va_arg(args, unsigned long);
    va_end(args);
    if (option == PR_SET_SECCOMP)
        before_seccomp(a[0], (const void *)a[1]);
    return REAL(prctl)(option, a[0], a[1], a[2], a[3]);
}

/* liburing may have been loaded for one library alone: then it is not next. */
static void *of_liburing(void *next, const char *name)
{
    void *library;

    if (next != NULL)
        return next;
    library = dlopen("liburing.so.2", RTLD_NOLOAD | RTLD_LAZY);
    return library != NULL ? dlsym(library, name) : NULL;
}

#define OF_LIBURING(name)                                                      \
    ((__typeof__(kernel.name))of_liburing((void *)REAL(name), #name))

EXPORT int io_uring_setup(unsigned n, void *params)
{
    __typeof__(kernel.io_uring_setup) real = OF_LIBURING(io_uring_setup);

    if (real == NULL)
        return -ENOSYS;
    process_before_withdrawal(REASON_IO_URING);
    return finish(real(n, params));
}

EXPORT int io_uring_queue_init(unsigned n, void *ring, unsigned flags)
{
    __typeof__(kernel.io_uring_queue_init) real =
        OF_LIBURING(io_uring_queue_init);

    if (real == NULL)
        return -ENOSYS;
    process_before_withdrawal(REASON_IO_URING);
    return finish(real(n, ring, flags));
}

EXPORT int io_uring_queue_init_params(unsigned n, void *ring, void *params)
{
    __typeof__(kernel.io_uring_queue_init_params) real =
        OF_LIBURING(io_uring_queue_init_params);

    if (real == NULL)
        return -ENOSYS;
    process_before_withdrawal(REASON_IO_URING);
    return finish(real(n, ring, params));
}
