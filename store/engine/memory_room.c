/*
 * Room in the engine in memory: what items take, what goes when there is not
 * enough, and when the bytes of an item that is gone are freed.
 */
#include "store/engine/memory.h"
#include "store/engine/watch.h"

#include <stdlib.h>
#include <string.h>

#define SWEEP_STEP  8  /* chains per commit */
#define MALLOC_ADDS 16 /* bytes per item */

uint64_t memory_cost(size_t klen, uint64_t len)
{
    uint64_t size = sizeof(struct memory_item) + klen + len + MALLOC_ADDS;
    return (size + 15) / 16 * 16;
}

uint64_t memory_used(const struct memory *m)
{
    return m->used + memory_table_bytes(&m->table);
}

bool memory_is_flushed(const struct memory *m, const struct memory_item *item)
{
    return item->cas < m->flush_mark;
}

bool memory_is_stale(const struct memory *m, const struct memory_item *item)
{
    return (item->exptime != 0 && item->exptime <= m->now) ||
           memory_is_flushed(m, item);
}

struct memory_item *memory_new_item(struct memory *m, size_t klen, uint32_t len)
{
    struct memory_item *item = malloc(sizeof(*item) + klen + len);
    if (!item)
        return NULL;
    *item = (struct memory_item){.klen = (uint32_t)klen, .len = len};
    m->used += memory_cost(klen, len);
    return item;
}

void memory_free_item(struct memory *m, struct memory_item *item)
{
    m->used -= memory_cost(item->klen, item->len);
    free(item);
}

void memory_free_retired(struct memory *m, int turn)
{
    while (m->retired[turn]) {
        struct memory_item *item = m->retired[turn];
        m->retired[turn] = item->next;
        memory_free_item(m, item);
    }
}

void memory_count(struct memory *m, const struct memory_item *item, bool here)
{
    uint64_t bytes = (uint64_t)item->klen + item->len;
    uint64_t expiring = item->exptime != 0;
    m->stats.items += here ? 1 : (uint64_t)-1;
    m->stats.bytes += here ? bytes : -bytes;
    m->expiring += here ? expiring : -expiring;
}

void memory_retire(struct memory *m, struct memory_item *item)
{
    if (item->epoch + 1 < m->epoch) {
        memory_free_item(m, item);
        return;
    }
    item->next = m->retired[0];
    m->retired[0] = item;
}

void memory_drop(struct memory *m, struct memory_item **link)
{
    struct memory_item *item = memory_table_remove(&m->table, link);
    memory_count(m, item, false);
    item->gone = true;
    if (item->holds == 0)
        memory_retire(m, item);
}

/* Remove what is stale from the chain at the cursor; the next cursor. */
static uint64_t sweep_chain(struct memory *m, uint64_t cursor)
{
    uint64_t next;
    struct memory_item **link = memory_table_chain(&m->table, cursor, &next);
    while (*link) {
        if (!memory_is_stale(m, *link)) {
            link = &(*link)->next;
            continue;
        }
        m->stats.reclaimed++;
        memory_drop(m, link);
    }
    return next;
}

static void sweep_all(struct memory *m)
{
    uint64_t cursor = 0;
    if (!m->flushed && (m->expiring == 0 || m->swept_at == m->now))
        return;
    m->swept_at = m->now;
    do {
        cursor = sweep_chain(m, cursor);
    } while (cursor != 0);
    m->flushed = false;
}

/* A few chains; once round all of them, nothing that was flushed is left. */
void memory_sweep_some(struct memory *m)
{
    for (int i = 0; i < SWEEP_STEP; i++) {
        m->sweep_at = sweep_chain(m, m->sweep_at);
        if (m->sweep_at == 0)
            m->flushed = false;
    }
}

static void note(struct memory *m, const struct memory_item *item)
{
    struct kv_item out = {.len = item->len,
                          .flags = item->flags,
                          .exptime = item->exptime,
                          .cas = item->cas};
    void *room = watch_note(m->head.watch, item->bytes, item->klen, &out);
    if (room)
        memcpy(room, item->bytes + item->klen, item->len);
}

static void evict(struct memory *m, struct memory_item *item)
{
    if (memory_is_stale(m, item)) {
        m->stats.reclaimed++;
    } else {
        m->stats.evictions++;
        if (m->head.watch)
            note(m, item);
    }
    memory_drop(
        m, memory_table_find(&m->table, item->hash, item->bytes, item->klen));
}

/* Until so many bytes are free. Items may go, but for the one to be kept. */
enum kv_result memory_make_room(struct memory *m, uint64_t bytes)
{
    if (bytes + memory_table_bytes(&m->table) > m->size)
        return KV_TOO_LARGE;
    if (memory_used(m) + bytes <= m->size)
        return KV_OK;
    sweep_all(m);
    while (memory_used(m) + bytes > m->size) {
        struct memory_item *oldest = TAILQ_LAST(&m->table.used, memory_list);
        if (!m->evict || !oldest)
            return KV_NO_SPACE;
        evict(m, oldest);
    }
    return KV_OK;
}
