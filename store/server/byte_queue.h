/*
 * Bytes in order, put in at the end and taken from the front, in blocks that
 * the queues of one shard share: an idle connection holds none, and a busy one
 * gets the block that was used last.
 */
#ifndef STORE_SERVER_BYTE_QUEUE_H
#define STORE_SERVER_BYTE_QUEUE_H

#include <stddef.h>

#define BLOCK_SIZE  (32 << 10) /* bytes of a shared block */
#define BLOCK_SPARE 64         /* blocks kept for the next queue */

struct block_pool {
    char *spare[BLOCK_SPARE];
    unsigned n;
};

struct byte_queue {
    char *data;   /* NULL: holds nothing */
    size_t cap;   /* bytes of data */
    size_t start; /* first byte that has not been taken */
    size_t end;   /* behind the last byte */
};

void block_pool_fini(struct block_pool *pool);

static inline size_t byte_queue_len(const struct byte_queue *queue)
{
    return queue->end - queue->start;
}

/* Room for n more bytes at data + end, or NULL: no memory. Moves bytes. */
char *byte_queue_room(struct byte_queue *queue, struct block_pool *pool,
                      size_t n);

/* Take n bytes off the front; the memory of an empty queue goes back. */
void byte_queue_take(struct byte_queue *queue, struct block_pool *pool,
                     size_t n);

void byte_queue_fini(struct byte_queue *queue, struct block_pool *pool);

#endif
