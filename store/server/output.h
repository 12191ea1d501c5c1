/*
 * The replies of one connection that have not been sent: bytes of our own,
 * and between them large values that stay where they are in the pool.
 *
 * Borrowed values must be sent or settled before the pool takes them back: the
 * shard does both after each commit. Bytes leave in the order they came.
 */
#ifndef STORE_SERVER_OUTPUT_H
#define STORE_SERVER_OUTPUT_H

#include <stddef.h>
#include <sys/types.h>

#include "store/server/byte_queue.h"

#define OUTPUT_BORROWED_MAX 16          /* values; more are copied */
#define OUTPUT_BORROW_FROM  (16384)     /* bytes; shorter values are copied */
#define OUTPUT_LIMIT        (256 << 10) /* bytes; then nothing is executed */

struct borrowed {
    size_t at; /* own bytes in front of it */
    const char *data;
    size_t len; /* bytes, never 0 */
};

struct output {
    struct byte_queue own;
    struct borrowed borrowed[OUTPUT_BORROWED_MAX];
    unsigned n_borrowed;
    size_t borrowed_len; /* bytes of all of them */
};

static inline size_t output_pending(const struct output *output)
{
    return byte_queue_len(&output->own) + output->borrowed_len;
}

/* Room for n bytes, or NULL: no memory. Then output_added() what was used. */
static inline char *output_room(struct output *output, struct block_pool *pool,
                                size_t n)
{
    return byte_queue_room(&output->own, pool, n);
}

static inline void output_added(struct output *output, size_t n)
{
    output->own.end += n;
}

/* 0 or -ENOMEM. */
int output_put(struct output *output, struct block_pool *pool, const void *data,
               size_t len);

/* As output_put(), but long data is not copied: see above. */
int output_borrow(struct output *output, struct block_pool *pool,
                  const void *data, size_t len);

/* One system call. Bytes sent, or -errno. */
ssize_t output_send(struct output *output, struct block_pool *pool, int fd);

/* Copy what is still borrowed. 0 or -ENOMEM. */
int output_settle(struct output *output, struct block_pool *pool);

void output_fini(struct output *output, struct block_pool *pool);

#endif
