/*
 * Calls that move bytes of a socket past read and write, inside the kernel or
 * inside libc: the stream returns to TCP first, and stays there.
 */
#include "preload/intercept_io.h"

#include <aio.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "preload/epoll_set.h"

void kernel_only(int fd)
{
    struct object *o = fd_find(fd);

    if (likely(o == NULL) || in_vfork_child())
        return;
    if (o->kind == OBJECT_ENDPOINT)
        endpoint_banish((struct endpoint *)o, REASON_UNSUPPORTED_CALL);
    else if (o->kind == OBJECT_EPOLL)
        epoll_set_to_kernel((struct epoll_set *)o);
}

EXPORT ssize_t splice(int in, off64_t *in_off, int out, off64_t *out_off,
                      size_t n, unsigned flags)
{
    kernel_only(in);
    kernel_only(out);
    return REAL(splice)(in, in_off, out, out_off, n, flags);
}

/* -1 is "where it stands", the only offset that a socket has. */
EXPORT ssize_t preadv64v2(int fd, const struct iovec *iov, int n, off64_t off,
                          int flags)
{
    if (off == -1 && flags == 0)
        return readv(fd, iov, n);
    kernel_only(fd);
    return REAL(preadv64v2)(fd, iov, n, off, flags);
}
ALIAS(preadv64v2)
ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags);

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int n, off64_t off,
                           int flags)
{
    if (off == -1 && flags == 0)
        return writev(fd, iov, n);
    kernel_only(fd);
    return REAL(pwritev64v2)(fd, iov, n, off, flags);
}
ALIAS(pwritev64v2)
ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags);

/* ---- libc reads and writes them without asking read and write ---- */

static void control_block(const struct aiocb *cb)
{
    if (readable(cb, sizeof(*cb)))
        kernel_only(cb->aio_fildes);
}

EXPORT int aio_read64(struct aiocb64 *cb)
{
    control_block((struct aiocb *)cb);
    return REAL(aio_read)((struct aiocb *)cb);
}
ALIAS(aio_read64)
int aio_read(struct aiocb *cb);

EXPORT int aio_write64(struct aiocb64 *cb)
{
    control_block((struct aiocb *)cb);
    return REAL(aio_write)((struct aiocb *)cb);
}
ALIAS(aio_write64)
int aio_write(struct aiocb *cb);

EXPORT int lio_listio64(int mode, struct aiocb64 *const list[restrict], int n,
                        struct sigevent *restrict event)
{
    struct aiocb *const *cb = (struct aiocb *const *)list;

    for (int i = 0; n > 0 && readable(list, (size_t)n * sizeof(*list)) && i < n;
         i++)
        if (cb[i] != NULL)
            control_block(cb[i]);
    return REAL(lio_listio)(mode, cb, n, event);
}
ALIAS(lio_listio64)
int lio_listio(int mode, struct aiocb *const list[restrict], int n,
               struct sigevent *restrict event);

EXPORT int eventfd_read(int fd, eventfd_t *value)
{
    return read(fd, value, sizeof(*value)) == sizeof(*value) ? 0 : -1;
}

EXPORT int eventfd_write(int fd, eventfd_t value)
{
    return write(fd, &value, sizeof(value)) == sizeof(value) ? 0 : -1;
}

EXPORT void backtrace_symbols_fd(void *const *buffer, int size, int fd)
{
    kernel_only(fd);
    REAL(backtrace_symbols_fd)(buffer, size, fd);
}

/* libc formats straight into the descriptor, past our write(). */
EXPORT int vdprintf(int fd, const char *format, va_list arguments)
{
    kernel_only(fd);
    return REAL(vdprintf)(fd, format, arguments);
}

EXPORT int dprintf(int fd, const char *format, ...)
{
    va_list arguments;
    int rc;

    va_start(arguments, format);
    rc = vdprintf(fd, format, arguments);
    va_end(arguments);
    return rc;
}

int __vdprintf_chk(int fd, int flag, const char *format, va_list arguments);
int __dprintf_chk(int fd, int flag, const char *format, ...);

EXPORT int __vdprintf_chk(int fd, int flag, const char *format,
                          va_list arguments)
{
    kernel_only(fd);
    return REAL(__vdprintf_chk)(fd, flag, format, arguments);
}

EXPORT int __dprintf_chk(int fd, int flag, const char *format, ...)
{
    va_list arguments;
    int rc;

    va_start(arguments, format);
    rc = __vdprintf_chk(fd, flag, format, arguments);
    va_end(arguments);
    return rc;
}
