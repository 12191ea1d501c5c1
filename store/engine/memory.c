/*
 * Operations on items in memory. An item never changes in place but for its
 * time to expire: a change makes another one, and the old one lives on while
 * it is borrowed (two turns) or held.
 */
#include "store/engine/memory.h"

#include "store/engine/hash.h"
#include "store/engine/number.h"
#include "store/pm/region.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define VALUE_DEFAULT (1u << 20) /* bytes */
#define FIRST_EPOCH   2          /* so that an epoch of 0 holds nothing */
#define SCAN_STEP     256        /* items per call, and the rest of a chain */
#define NUMBER_TEXT   4096       /* bytes; a longer value is on the heap */

/* A key, and where it is linked. */
struct found {
    const void *key;
    size_t klen;
    uint64_t hash;
    struct memory_item **link;
};

/* A value in two parts, so that append needs no buffer. */
struct change {
    const void *head;
    const void *tail;
    uint32_t head_len;
    uint32_t tail_len;
    uint32_t flags;
    uint32_t exptime;
};

static struct memory *memory_of(struct kv *kv)
{
    return (struct memory *)(void *)kv;
}

static void find(struct memory *m, const void *key, size_t klen, bool is_get,
                 struct found *f)
{
    f->key = key;
    f->klen = klen;
    f->hash = hash_key(m->seed, key, klen);
    f->link = memory_table_find(&m->table, f->hash, key, klen);
    if (!*f->link || !memory_is_stale(m, *f->link))
        return;
    if (is_get) {
        if (memory_is_flushed(m, *f->link))
            m->stats.get_flushed++;
        else
            m->stats.get_expired++;
    }
    m->stats.reclaimed++;
    memory_drop(m, f->link);
    f->link = memory_table_find(&m->table, f->hash, key, klen);
}

static bool key_fits(size_t klen)
{
    return klen >= 1 && klen <= KV_MAX_KEY;
}

/* A filled item takes the place of the one with its key, if there is one. */
static void put(struct memory *m, const struct found *f,
                struct memory_item *item)
{
    struct memory_item **link =
        memory_table_find(&m->table, f->hash, f->key, f->klen);
    memcpy(item->bytes, f->key, f->klen);
    item->hash = f->hash;
    item->cas = m->next_cas++;
    if (*link)
        memory_drop(m, link);
    memory_table_insert(&m->table, item);
    memory_count(m, item, true);
    m->stats.total_items++;
    m->stats.total_bytes += f->klen + item->len;
}

static enum kv_result replace(struct memory *m, const struct found *f,
                              const struct change *change, uint64_t *cas)
{
    uint32_t len = change->head_len + change->tail_len;
    enum kv_result result = memory_make_room(m, memory_cost(f->klen, len));
    if (result != KV_OK)
        return result;
    struct memory_item *item = memory_new_item(m, f->klen, len);
    if (!item)
        return KV_NO_SPACE;
    unsigned char *value = item->bytes + f->klen;
    if (change->head_len > 0)
        memcpy(value, change->head, change->head_len);
    if (change->tail_len > 0)
        memcpy(value + change->head_len, change->tail, change->tail_len);
    item->flags = change->flags;
    item->exptime = change->exptime;
    put(m, f, item);
    if (cas)
        *cas = item->cas;
    return KV_OK;
}

static enum kv_result judge(enum kv_mode mode, const struct memory_item *old,
                            uint64_t cas)
{
    if (!old)
        return mode == KV_CAS                     ? KV_MISS
               : mode == KV_SET || mode == KV_ADD ? KV_OK
                                                  : KV_NOT_STORED;
    if (mode == KV_ADD)
        return KV_NOT_STORED;
    return (mode == KV_CAS || cas != 0) && old->cas != cas ? KV_EXISTS : KV_OK;
}

/* The old value beside the new one. It must outlive the room that is made. */
static enum kv_result join(struct memory *m, struct memory_item *old,
                           bool append, struct change *change)
{
    struct change added = *change;
    const unsigned char *kept = old->bytes + old->klen;
    if ((uint64_t)old->len + added.head_len > m->max_value)
        return KV_TOO_LARGE;
    old->epoch = m->epoch;
    memory_table_touch(&m->table, old);
    *change = (struct change){.head = append ? kept : added.head,
                              .tail = append ? added.head : kept,
                              .head_len = append ? old->len : added.head_len,
                              .tail_len = append ? added.head_len : old->len,
                              .flags = old->flags,
                              .exptime = old->exptime};
    return KV_OK;
}

static enum kv_result memory_store(struct kv *kv, enum kv_mode mode,
                                   const void *key, size_t klen, uint32_t flags,
                                   uint32_t exptime, uint64_t cas,
                                   const void *value, size_t len,
                                   uint64_t *cas_out)
{
    struct memory *m = memory_of(kv);
    struct found f;
    if (!key_fits(klen) || len > m->max_value)
        return KV_TOO_LARGE;
    struct change change = {.head = value,
                            .head_len = (uint32_t)len,
                            .flags = flags,
                            .exptime = exptime};
    find(m, key, klen, false, &f);
    enum kv_result result = judge(mode, *f.link, cas);
    if (result == KV_OK && (mode == KV_APPEND || mode == KV_PREPEND))
        result = join(m, *f.link, mode == KV_APPEND, &change);
    return result == KV_OK ? replace(m, &f, &change, cas_out) : result;
}

static void count_get(struct memory *m, bool hit)
{
    m->stats.get_hits += hit;
    m->stats.get_misses += !hit;
}

static enum kv_result memory_get(struct kv *kv, const void *key, size_t klen,
                                 struct kv_item *out)
{
    struct memory *m = memory_of(kv);
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    find(m, key, klen, true, &f);
    struct memory_item *item = *f.link;
    count_get(m, item != NULL);
    if (!item)
        return KV_MISS;
    item->epoch = m->epoch;
    memory_table_touch(&m->table, item);
    *out = (struct kv_item){.value = item->bytes + item->klen,
                            .len = item->len,
                            .flags = item->flags,
                            .exptime = item->exptime,
                            .cas = item->cas};
    return KV_OK;
}

static enum kv_result memory_exists(struct kv *kv, const void *key, size_t klen)
{
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    find(memory_of(kv), key, klen, false, &f);
    return *f.link ? KV_OK : KV_MISS;
}

static bool memory_next_run(const struct kv *kv, const struct kv_item *item,
                            struct kv_run *run)
{
    (void)kv;
    if (run->end == item->len)
        return false;
    *run = (struct kv_run){
        .bytes = item->value, .len = item->len, .end = item->len};
    return true;
}

static size_t memory_copy_value(const struct kv *kv, const struct kv_item *item,
                                size_t from, void *to, size_t len)
{
    (void)kv;
    if (from >= item->len)
        return 0;
    if (len > item->len - from)
        len = item->len - from;
    if (len > 0)
        memcpy(to, (const unsigned char *)item->value + from, len);
    return len;
}

static enum kv_result memory_read(struct kv *kv, const void *key, size_t klen,
                                  bool used, size_t from, void *buffer,
                                  size_t size, struct kv_item *out)
{
    struct memory *m = memory_of(kv);
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    find(m, key, klen, used, &f);
    struct memory_item *item = *f.link;
    if (used)
        count_get(m, item != NULL);
    if (!item)
        return KV_MISS;
    if (used)
        memory_table_touch(&m->table, item);
    *out = (struct kv_item){.value = item->bytes + item->klen,
                            .len = item->len,
                            .flags = item->flags,
                            .exptime = item->exptime,
                            .cas = item->cas};
    memory_copy_value(kv, out, from, buffer, size);
    out->value = NULL;
    return KV_OK;
}

static void memory_unpin_all(struct kv *kv)
{
    struct memory *m = memory_of(kv);
    m->epoch += 2;
    memory_free_retired(m, 0);
    memory_free_retired(m, 1);
}

static enum kv_result memory_hold(struct kv *kv, const void *key, size_t klen,
                                  struct kv_item *out)
{
    struct kv_item item;
    enum kv_result result = memory_get(kv, key, klen, &item);
    if (result != KV_OK)
        return result;
    const unsigned char *value = item.value;
    struct memory_item *held =
        (struct memory_item *)(uintptr_t)(value - klen -
                                          offsetof(struct memory_item, bytes));
    held->holds++;
    memory_of(kv)->n_held++;
    item.held = held;
    *out = item;
    return KV_OK;
}

static void memory_release(struct kv *kv, struct kv_item *item)
{
    struct memory *m = memory_of(kv);
    struct memory_item *held = item->held;
    assert(held->holds > 0);
    item->held = NULL;
    held->holds--;
    m->n_held--;
    if (held->holds == 0 && held->gone)
        memory_retire(m, held);
}

static struct memory_item *reserved_item(const struct kv_reservation *r)
{
    return (struct memory_item *)(uintptr_t)r->offset;
}

static enum kv_result memory_reserve(struct kv *kv, size_t klen, size_t len,
                                     struct kv_reservation *out)
{
    struct memory *m = memory_of(kv);
    if (!key_fits(klen) || len > m->max_value)
        return KV_TOO_LARGE;
    enum kv_result result = memory_make_room(m, memory_cost(klen, len));
    if (result != KV_OK)
        return result;
    struct memory_item *item = memory_new_item(m, klen, (uint32_t)len);
    if (!item)
        return KV_NO_SPACE;
    *out = (struct kv_reservation){.buffer = item->bytes + klen,
                                   .len = (uint32_t)len,
                                   .prefix = (uint32_t)klen,
                                   .offset = (uintptr_t)item};
    m->n_reserved++;
    return KV_OK;
}

static void *memory_reserved(const struct kv *kv,
                             const struct kv_reservation *reservation,
                             size_t from, size_t *room)
{
    (void)kv;
    *room = from < reservation->len ? reservation->len - from : 0;
    return *room > 0 ? (unsigned char *)reservation->buffer + from : NULL;
}

static void memory_cancel(struct kv *kv, struct kv_reservation *reservation)
{
    struct memory *m = memory_of(kv);
    assert(m->n_reserved > 0);
    m->n_reserved--;
    memory_free_item(m, reserved_item(reservation));
    *reservation = (struct kv_reservation){0};
}

static enum kv_result
memory_publish(struct kv *kv, struct kv_reservation *reservation,
               enum kv_mode mode, const void *key, size_t klen, uint32_t flags,
               uint32_t exptime, uint64_t cas, uint64_t *cas_out)
{
    struct memory *m = memory_of(kv);
    struct memory_item *item = reserved_item(reservation);
    enum kv_result result = KV_TOO_LARGE;
    struct found f;
    if (klen != item->klen || mode == KV_APPEND || mode == KV_PREPEND) {
        if (klen == item->klen)
            result = memory_store(kv, mode, key, klen, flags, exptime, cas,
                                  reservation->buffer, item->len, cas_out);
        memory_cancel(kv, reservation);
        return result;
    }
    find(m, key, klen, false, &f);
    result = judge(mode, *f.link, cas);
    if (result != KV_OK) {
        memory_cancel(kv, reservation);
        return result;
    }
    item->flags = flags;
    item->exptime = exptime;
    put(m, &f, item);
    m->n_reserved--;
    *reservation = (struct kv_reservation){0};
    if (cas_out)
        *cas_out = item->cas;
    return KV_OK;
}

static enum kv_result memory_delete(struct kv *kv, const void *key, size_t klen)
{
    struct memory *m = memory_of(kv);
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    find(m, key, klen, false, &f);
    if (!*f.link)
        return KV_MISS;
    memory_drop(m, f.link);
    return KV_OK;
}

static enum kv_result memory_touch(struct kv *kv, const void *key, size_t klen,
                                   uint32_t exptime)
{
    struct memory *m = memory_of(kv);
    struct found f;
    if (!key_fits(klen))
        return KV_MISS;
    find(m, key, klen, false, &f);
    if (!*f.link)
        return KV_MISS;
    m->expiring -= (*f.link)->exptime != 0;
    m->expiring += exptime != 0;
    (*f.link)->exptime = exptime;
    memory_table_touch(&m->table, *f.link);
    return KV_OK;
}

static enum kv_result memory_arith(struct kv *kv, const void *key, size_t klen,
                                   bool incr, uint64_t delta, uint64_t *value,
                                   uint64_t *cas)
{
    struct memory *m = memory_of(kv);
    struct found f;
    uint64_t number;
    char small[NUMBER_TEXT], *text = small;
    enum kv_result result = KV_NOT_NUMBER;
    if (!key_fits(klen))
        return KV_MISS;
    find(m, key, klen, false, &f);
    const struct memory_item *item = *f.link;
    if (!item)
        return KV_MISS;
    if (item->len == 0 || item->len > NUMBER_VALUE_MOST)
        return KV_NOT_NUMBER;
    if (item->len > sizeof(small) && !(text = malloc(item->len)))
        return KV_NO_SPACE;
    memcpy(text, item->bytes + item->klen, item->len);
    size_t len = number_step_text(text, item->len, incr, delta, &number);
    if (len == 0)
        goto out;
    struct change change = {.head = text,
                            .head_len = (uint32_t)len,
                            .flags = item->flags,
                            .exptime = item->exptime};
    result = replace(m, &f, &change, cas);
    if (result == KV_OK && value)
        *value = number;
out:
    if (text != small)
        free(text);
    return result;
}

static void flush_now(struct memory *m)
{
    m->flush_mark = m->next_cas;
    m->flush_when = 0;
    m->flushed = true;
    m->sweep_at = 0;
}

static void memory_set_time(struct kv *kv, uint32_t now)
{
    struct memory *m = memory_of(kv);
    m->now = now;
    if (m->flush_when != 0 && m->flush_when <= now)
        flush_now(m);
}

static enum kv_result memory_flush_all(struct kv *kv, uint32_t when)
{
    struct memory *m = memory_of(kv);
    if (when <= m->now)
        flush_now(m);
    else
        m->flush_when = when;
    return KV_OK;
}

static enum kv_result memory_commit(struct kv *kv)
{
    struct memory *m = memory_of(kv);
    if (m->flushed || m->expiring > 0)
        memory_sweep_some(m);
    m->epoch++;
    memory_free_retired(m, 1);
    m->retired[1] = m->retired[0];
    m->retired[0] = NULL;
    return KV_OK;
}

static void memory_stats(const struct kv *kv, struct kv_statistics *out)
{
    const struct memory *m = (const struct memory *)(const void *)kv;
    *out = m->stats;
    out->pool_size = out->heap_size = m->size;
    out->heap_free = memory_used(m) < m->size ? m->size - memory_used(m) : 0;
    out->table_entries = (uint64_t)1 << m->table.depth;
    out->cas = m->next_cas;
    out->durability = "none";
    out->was_clean = true;
    out->max_value = m->max_value;
}

static uint64_t memory_scan(struct kv *kv, uint64_t cursor, kv_visit *visit,
                            void *context)
{
    const struct memory *m = memory_of(kv);
    if (cursor > UINT32_MAX)
        return 0;
    for (int n = 0; n < SCAN_STEP;) {
        const struct memory_item *item =
            *memory_table_chain(&m->table, cursor, &cursor);
        for (; item; item = item->next, n++) {
            struct kv_item out = {.value = item->bytes + item->klen,
                                  .len = item->len,
                                  .flags = item->flags,
                                  .exptime = item->exptime,
                                  .cas = item->cas};
            if (!memory_is_stale(m, item) &&
                !visit(context, item->bytes, item->klen, &out))
                return 0;
        }
        if (cursor == 0)
            return 0;
    }
    return cursor;
}

static int memory_grow(struct kv *kv, uint64_t more, char *error,
                       size_t error_size)
{
    struct memory *m = memory_of(kv);
    if (m->size + more < m->size)
        return region_refuse("memory", error, error_size, -EINVAL,
                             "cannot grow by that many bytes");
    m->size += more;
    return 0;
}

static int memory_close(struct kv *kv)
{
    struct memory *m = memory_of(kv);
    assert(m->n_reserved == 0 && m->n_held == 0);
    memory_unpin_all(kv);
    memory_table_fini(&m->table);
    free(m);
    return 0;
}

int memory_open(const char *name, const struct kv_options *options,
                struct kv **out, char *error, size_t error_size)
{
    if (!name)
        name = "memory";
    if (options->size < KV_MIN_POOL)
        return region_refuse(name, error, error_size, -EINVAL,
                             "cannot be made with %llu bytes: a store has at "
                             "least %d bytes",
                             (unsigned long long)options->size, KV_MIN_POOL);
    if (options->max_value > KV_MAX_VALUE)
        return region_refuse(name, error, error_size, -EINVAL,
                             "can have values of at most %u bytes, %u were "
                             "asked for",
                             KV_MAX_VALUE, options->max_value);
    struct memory *m = calloc(1, sizeof(*m));
    if (!m || memory_table_init(&m->table) < 0) {
        free(m);
        return region_refuse(name, error, error_size, -ENOMEM,
                             "cannot be opened: no memory");
    }
    if (getrandom(&m->seed, sizeof(m->seed), 0) != sizeof(m->seed))
        m->seed = (uintptr_t)m;
    m->head.ops = &memory_ops;
    m->size = options->size;
    m->evict = options->evict;
    m->max_value = options->max_value ? options->max_value : VALUE_DEFAULT;
    m->epoch = FIRST_EPOCH;
    m->next_cas = 1;
    *out = (struct kv *)(void *)m;
    return 0;
}

const struct kv_ops memory_ops = {.name = "memory",
                                  .close = memory_close,
                                  .grow = memory_grow,
                                  .set_time = memory_set_time,
                                  .get = memory_get,
                                  .read = memory_read,
                                  .exists = memory_exists,
                                  .next_run = memory_next_run,
                                  .copy_value = memory_copy_value,
                                  .unpin_all = memory_unpin_all,
                                  .hold = memory_hold,
                                  .release = memory_release,
                                  .store = memory_store,
                                  .reserve = memory_reserve,
                                  .publish = memory_publish,
                                  .reserved = memory_reserved,
                                  .cancel = memory_cancel,
                                  .delete = memory_delete,
                                  .touch = memory_touch,
                                  .arith = memory_arith,
                                  .flush_all = memory_flush_all,
                                  .commit = memory_commit,
                                  .stats = memory_stats,
                                  .scan = memory_scan};
