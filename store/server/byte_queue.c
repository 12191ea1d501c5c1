#include "store/server/byte_queue.h"

#include <stdlib.h>
#include <string.h>

void block_pool_fini(struct block_pool *pool)
{
    while (pool->n > 0)
        free(pool->spare[--pool->n]);
}

static char *block_take(struct block_pool *pool, size_t cap)
{
    if (cap == BLOCK_SIZE && pool->n > 0)
        return pool->spare[--pool->n];
    return malloc(cap);
}

static void block_give(struct block_pool *pool, char *data, size_t cap)
{
    if (cap == BLOCK_SIZE && pool->n < BLOCK_SPARE)
        pool->spare[pool->n++] = data;
    else
        free(data);
}

char *byte_queue_room(struct byte_queue *queue, struct block_pool *pool,
                      size_t n)
{
    size_t len = byte_queue_len(queue), cap = BLOCK_SIZE;
    char *data;

    if (queue->cap - queue->end >= n)
        return queue->data + queue->end;
    if (queue->start >= len && queue->cap - len >= n) {
        memcpy(queue->data, queue->data + queue->start, len);
        queue->start = 0;
        queue->end = len;
        return queue->data + len;
    }
    while (cap < len + n)
        cap *= 2;
    data = block_take(pool, cap);
    if (data == NULL)
        return NULL;
    if (len > 0)
        memcpy(data, queue->data + queue->start, len);
    if (queue->data != NULL)
        block_give(pool, queue->data, queue->cap);
    *queue = (struct byte_queue){.data = data, .cap = cap, .end = len};
    return data + len;
}

void byte_queue_take(struct byte_queue *queue, struct block_pool *pool,
                     size_t n)
{
    queue->start += n;
    if (queue->start == queue->end)
        byte_queue_fini(queue, pool);
}

void byte_queue_fini(struct byte_queue *queue, struct block_pool *pool)
{
    if (queue->data != NULL)
        block_give(pool, queue->data, queue->cap);
    *queue = (struct byte_queue){0};
}
