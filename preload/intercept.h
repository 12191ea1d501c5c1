/*
 * What the intercept_*.c files share: an intercepted call decides whether the
 * descriptor is ours, calls one function, and translates -errno.
 */
#ifndef PRELOAD_INTERCEPT_H
#define PRELOAD_INTERCEPT_H

#include <errno.h>
#include <stdbool.h>

#include "preload/endpoint.h"
#include "preload/kernel.h"
#include "preload/process.h"

#define EXPORT    __attribute__((visibility("default")))
#define ALIAS(of) __attribute__((visibility("default"), alias(#of)))

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The endpoint to care about; NULL: the kernel does it. */
static inline struct endpoint *intercepted(int fd)
{
    struct endpoint *e = fd_endpoint(fd);

    return likely(e == NULL) || in_vfork_child() ? NULL : e;
}

static inline ssize_t posix_result(ssize_t rc)
{
    if (rc >= 0)
        return rc;
    errno = (int)-rc;
    return -1;
}

/* A new descriptor of the application's; what was known of the number goes. */
void intercept_new_fd(int fd, struct object *object);

#endif
