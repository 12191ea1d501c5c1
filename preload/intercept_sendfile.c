/*
 * sendfile: of a file to a stream on a link it is read and send, a piece at a
 * time, with the file's position or the caller's offset where the kernel would
 * leave it. From anything but a file it is the kernel's.
 *
 * The call ends early when the number stands for another file by then. It does
 * not keep a descriptor of its own: to close that would give up what locks the
 * process has on the file (fcntl(2)).
 */
#include "preload/intercept_io.h"

#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 16384 }; /* on the stack of any thread */

/* 0, or -1: it is not even open. */
static int look_at(int fd, struct stat *st)
{
    int saved = errno, rc = fstat(fd, st);

    errno = saved;
    return rc;
}

static bool is_still(int fd, const struct stat *file)
{
    struct stat now;

    return look_at(fd, &now) == 0 && now.st_ino == file->st_ino &&
           now.st_dev == file->st_dev;
}

/* Bytes sent, or -errno when none was. */
static ssize_t send_pieces(struct endpoint *e, int in, const struct stat *file,
                           off_t at, size_t n)
{
    char piece[PIECE];
    size_t done = 0;

    while (done < n) {
        size_t want = n - done < PIECE ? n - done : PIECE;
        ssize_t have = pread(in, piece, want, at + (off_t)done), sent;
        struct iovec iov = {piece, (size_t)have};

        if (have <= 0)
            return done > 0 || have == 0 ? (ssize_t)done : -errno;
        if (!is_still(in, file))
            return done > 0 ? (ssize_t)done : -EBADF;
        sent = endpoint_send(e, &iov, 1, 0);
        if (sent < 0)
            return done > 0 ? (ssize_t)done : sent;
        done += (size_t)sent;
        if (sent < have)
            break;
    }
    return (ssize_t)done;
}

static ssize_t send_managed(struct endpoint *e, int in, const struct stat *file,
                            off_t *off, size_t n)
{
    off_t at = off != NULL ? *off : lseek(in, 0, SEEK_CUR);
    ssize_t rc;

    if (at < 0)
        return off != NULL ? -EINVAL : -errno;
    if (!endpoint_enter(e))
        return -EBADF;
    rc = send_pieces(e, in, file, at, at_most(n));
    endpoint_leave(e);
    if (rc <= 0)
        return rc;
    if (off != NULL)
        *off = at + rc;
    else if (is_still(in, file))
        lseek(in, at + rc, SEEK_SET);
    return rc;
}

static ssize_t send_bare(struct endpoint *e, int out, int in, off_t *off,
                         size_t n)
{
    ssize_t rc = REAL(sendfile)(out, in, off, n);
    int saved = errno;

    if (rc > 0)
        stream_count_out(&e->stream, (size_t)rc);
    stream_bare_leave(&e->stream);
    endpoint_called(e, rc > 0 ? (size_t)rc : 0);
    errno = saved;
    return rc;
}

EXPORT ssize_t sendfile(int out, int in, off_t *off, size_t n)
{
    struct endpoint *e = intercepted(out);
    struct stat file;

    if (likely(e == NULL) || e->state != ENDPOINT_CONNECTED || (ssize_t)n < 0)
        return REAL(sendfile)(out, in, off, n);
    if (off != NULL && !writable(off, sizeof(*off))) {
        if (readable(off, sizeof(*off)))
            kernel_only(out); /* it sends, and then says EFAULT */
        return REAL(sendfile)(out, in, off, n);
    }
    if (stream_bare_enter(&e->stream))
        return send_bare(e, out, in, off, n);
    if (look_at(in, &file) < 0)
        return REAL(sendfile)(out, in, off, n);
    if (!S_ISREG(file.st_mode)) {
        endpoint_banish(e, REASON_UNSUPPORTED_CALL);
        if (stream_bare_enter(&e->stream))
            return send_bare(e, out, in, off, n);
    }
    return posix_result(send_managed(e, in, &file, off, n));
}
ALIAS(sendfile)
ssize_t sendfile64(int out, int in, off64_t *off, size_t n);
