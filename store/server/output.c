#include "store/server/output.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

int output_put(struct output *output, struct block_pool *pool, const void *data,
               size_t len)
{
    char *room = output_room(output, pool, len);

    if (room == NULL)
        return -ENOMEM;
    memcpy(room, data, len);
    output_added(output, len);
    return 0;
}

int output_borrow(struct output *output, struct block_pool *pool,
                  const void *data, size_t len)
{
    if (len < OUTPUT_BORROW_FROM || output->n_borrowed == OUTPUT_BORROWED_MAX)
        return output_put(output, pool, data, len);
    output->borrowed[output->n_borrowed++] = (struct borrowed){
        .at = byte_queue_len(&output->own), .data = data, .len = len};
    output->borrowed_len += len;
    return 0;
}

/* Everything pending, in order, as a list; returns its length. */
static int list_pending(const struct output *output,
                        struct iovec list[2 * OUTPUT_BORROWED_MAX + 1])
{
    char *own = output->own.data + output->own.start;
    size_t at = 0, len = byte_queue_len(&output->own);
    int n = 0;

    for (unsigned i = 0; i < output->n_borrowed; i++) {
        const struct borrowed *b = &output->borrowed[i];

        if (b->at > at)
            list[n++] = (struct iovec){own + at, b->at - at};
        at = b->at;
        list[n++] = (struct iovec){(char *)b->data, b->len};
    }
    if (len > at)
        list[n++] = (struct iovec){own + at, len - at};
    return n;
}

/* The first n pending bytes are sent. */
static void forget(struct output *output, struct block_pool *pool, size_t n)
{
    while (n > 0 && output->n_borrowed > 0) {
        struct borrowed *b = output->borrowed;
        size_t own = b->at < n ? b->at : n;
        size_t lent;

        n -= own;
        for (unsigned i = 0; i < output->n_borrowed; i++)
            b[i].at -= own;
        output->own.start += own;
        if (b->at > 0)
            return;
        lent = b->len < n ? b->len : n;
        n -= lent;
        b->data += lent;
        b->len -= lent;
        output->borrowed_len -= lent;
        if (b->len > 0)
            return;
        output->n_borrowed--;
        memmove(b, b + 1, output->n_borrowed * sizeof(*b));
    }
    byte_queue_take(&output->own, pool, n);
}

ssize_t output_send(struct output *output, struct block_pool *pool, int fd)
{
    struct iovec list[2 * OUTPUT_BORROWED_MAX + 1];
    struct msghdr message = {.msg_iov = list};
    ssize_t n;

    if (output->n_borrowed == 0) {
        n = send(fd, output->own.data + output->own.start,
                 byte_queue_len(&output->own), MSG_NOSIGNAL);
    } else {
        message.msg_iovlen = (size_t)list_pending(output, list);
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    if (n < 0)
        return -errno;
    forget(output, pool, (size_t)n);
    return n;
}

int output_settle(struct output *output, struct block_pool *pool)
{
    struct iovec list[2 * OUTPUT_BORROWED_MAX + 1];
    struct byte_queue copy = {0};
    int n;

    if (output->n_borrowed == 0)
        return 0;
    if (byte_queue_room(&copy, pool, output_pending(output)) == NULL)
        return -ENOMEM;
    n = list_pending(output, list);
    for (int i = 0; i < n; i++) {
        memcpy(copy.data + copy.end, list[i].iov_base, list[i].iov_len);
        copy.end += list[i].iov_len;
    }
    output_fini(output, pool);
    output->own = copy;
    return 0;
}

void output_fini(struct output *output, struct block_pool *pool)
{
    byte_queue_fini(&output->own, pool);
    output->n_borrowed = 0;
    output->borrowed_len = 0;
}
