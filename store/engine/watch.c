/*
 * Happy path: an engine evicts while it makes room, and notes; the public call
 * comes to its end, which is here; then each note is told and freed. What the
 * callback evicts in turn is noted behind the others, told by the same loop,
 * and one deeper; beyond KV_EVICT_DEPTH it is not noted, so that the loop
 * ends.
 */
#include "store/engine/watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct watch *watch_of(struct kv *kv)
{
    return kv_head_of(kv)->watch;
}

void *watch_note(struct watch *watch, const void *key, size_t klen,
                 const struct kv_item *item)
{
    if (!watch->evicted || watch->depth == KV_EVICT_DEPTH)
        return NULL;
    struct watch_note *note = malloc(sizeof(*note) + klen + item->len);
    if (!note)
        return NULL;
    note->item = *item;
    note->item.value = note->bytes + klen;
    note->item.chain = 0;
    note->item.skip = 0;
    note->depth = watch->depth + 1;
    note->klen = klen;
    memcpy(note->bytes, key, klen);
    STAILQ_INSERT_TAIL(&watch->notes, note, link);
    return note->bytes + klen;
}

static void tell(struct kv *kv)
{
    struct watch *w = watch_of(kv);
    struct watch_note *note;
    if (w->depth > 0 || w->by_hand)
        return;
    while ((note = STAILQ_FIRST(&w->notes)) != NULL) {
        STAILQ_REMOVE_HEAD(&w->notes, link);
        w->depth = note->depth;
        w->evicted(w->evicted_context, note->bytes, note->klen, &note->item);
        free(note);
    }
    w->depth = 0;
}

static bool ask(struct watch *w, const void *key, size_t klen,
                struct kv_item *lent)
{
    *lent = (struct kv_item){0};
    w->missing = true;
    bool given = w->missed(w->missed_context, key, klen, lent);
    w->missing = false;
    return given;
}

static enum kv_result watched_get(struct kv *kv, const void *key, size_t klen,
                                  struct kv_item *out)
{
    struct watch *w = watch_of(kv);
    enum kv_result result = w->plain->get(kv, key, klen, out);
    struct kv_item lent;
    if (result != KV_MISS || !w->missed || w->missing || w->by_hand)
        return result;
    if (!ask(w, key, klen, &lent))
        return w->plain->get(kv, key, klen, out);
    *out = lent;
    return KV_OK;
}

static enum kv_result watched_read(struct kv *kv, const void *key, size_t klen,
                                   bool used, size_t from, void *buffer,
                                   size_t size, struct kv_item *out)
{
    struct watch *w = watch_of(kv);
    enum kv_result result =
        w->plain->read(kv, key, klen, used, from, buffer, size, out);
    struct kv_item lent;
    if (result != KV_MISS || !used || !w->missed || w->missing || w->by_hand)
        return result;
    if (!ask(w, key, klen, &lent))
        return w->plain->read(kv, key, klen, used, from, buffer, size, out);
    if (from < lent.len && size > 0)
        memcpy(buffer, (const char *)lent.value + from,
               lent.len - from < size ? lent.len - from : size);
    *out = lent;
    out->value = NULL;
    return KV_OK;
}

static enum kv_result watched_hold(struct kv *kv, const void *key, size_t klen,
                                   struct kv_item *out)
{
    struct watch *w = watch_of(kv);
    enum kv_result result = w->plain->hold(kv, key, klen, out);
    struct kv_item lent;
    if (result != KV_MISS || !w->missed || w->missing || w->by_hand)
        return result;
    ask(w, key, klen, &lent);
    return w->plain->hold(kv, key, klen, out);
}

static enum kv_result watched_store(struct kv *kv, enum kv_mode mode,
                                    const void *key, size_t klen,
                                    uint32_t flags, uint32_t exptime,
                                    uint64_t cas, const void *value, size_t len,
                                    uint64_t *cas_out)
{
    enum kv_result result = watch_of(kv)->plain->store(
        kv, mode, key, klen, flags, exptime, cas, value, len, cas_out);
    tell(kv);
    return result;
}

static enum kv_result watched_reserve(struct kv *kv, size_t klen, size_t len,
                                      struct kv_reservation *out)
{
    enum kv_result result = watch_of(kv)->plain->reserve(kv, klen, len, out);
    tell(kv);
    return result;
}

static enum kv_result
watched_publish(struct kv *kv, struct kv_reservation *reservation,
                enum kv_mode mode, const void *key, size_t klen, uint32_t flags,
                uint32_t exptime, uint64_t cas, uint64_t *cas_out)
{
    enum kv_result result = watch_of(kv)->plain->publish(
        kv, reservation, mode, key, klen, flags, exptime, cas, cas_out);
    tell(kv);
    return result;
}

static enum kv_result watched_arith(struct kv *kv, const void *key, size_t klen,
                                    bool incr, uint64_t delta, uint64_t *value,
                                    uint64_t *cas)
{
    enum kv_result result =
        watch_of(kv)->plain->arith(kv, key, klen, incr, delta, value, cas);
    tell(kv);
    return result;
}

static enum kv_result watched_commit(struct kv *kv)
{
    enum kv_result result = watch_of(kv)->plain->commit(kv);
    tell(kv);
    return result;
}

static int watched_close(struct kv *kv)
{
    struct watch *w = watch_of(kv);
    struct watch_note *note;
    int rc = w->plain->close(kv);
    while ((note = STAILQ_FIRST(&w->notes)) != NULL) {
        STAILQ_REMOVE_HEAD(&w->notes, link);
        free(note);
    }
    free(w);
    return rc;
}

/* The store's watch; it is made the first time. NULL: no memory. */
static struct watch *watch(struct kv *kv)
{
    struct kv_head *head = kv_head_of(kv);
    if (head->watch)
        return head->watch;
    struct watch *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    STAILQ_INIT(&w->notes);
    w->plain = head->ops;
    w->ops = *head->ops;
    w->ops.close = watched_close;
    w->ops.get = watched_get;
    w->ops.read = watched_read;
    w->ops.hold = watched_hold;
    w->ops.store = watched_store;
    w->ops.reserve = watched_reserve;
    w->ops.publish = watched_publish;
    w->ops.arith = watched_arith;
    w->ops.commit = watched_commit;
    head->watch = w;
    head->ops = &w->ops;
    return w;
}

int kv_on_evict(struct kv *kv, kv_evicted *call, void *context)
{
    struct watch *w = watch(kv);
    if (!w)
        return -ENOMEM;
    w->evicted = call;
    w->evicted_context = context;
    return 0;
}

int kv_on_miss(struct kv *kv, kv_missed *call, void *context)
{
    struct watch *w = watch(kv);
    if (!w)
        return -ENOMEM;
    w->missed = call;
    w->missed_context = context;
    return 0;
}

/* In place of a callback: says that somebody wants the notes. */
static void taken_by_hand(void *context, const void *key, size_t klen,
                          const struct kv_item *item)
{
    (void)context;
    (void)key;
    (void)klen;
    (void)item;
}

int watch_by_hand(struct kv *kv)
{
    int rc = kv_on_evict(kv, taken_by_hand, NULL);
    if (rc == 0)
        watch_of(kv)->by_hand = true;
    return rc;
}

void watch_take(struct kv *kv, struct watch_notes *out)
{
    STAILQ_INIT(out);
    STAILQ_CONCAT(out, &watch_of(kv)->notes);
}
