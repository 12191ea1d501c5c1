/*
 * A batch of puts: kv_store() for each and one kv_commit(), with what the next
 * ones need on its way from memory meanwhile. It needs nothing of an engine but
 * the public calls.
 */
#include "store/engine/batch.h"

/* Puts whose lines are loaded ahead of their turn. Each has three, and all of
 * these together must stay in the first-level cache until then. */
#define AHEAD 16

/* The one after it. */
static struct kv_put *hint(struct kv *kv, const struct kv_put *put)
{
    kv_hint(kv, put->key, put->klen, true);
    return put->next;
}

void batch_store(struct kv *kv, struct kv_put *first)
{
    struct kv_put *ahead = first;
    for (int i = 0; i < AHEAD && ahead; i++)
        ahead = hint(kv, ahead);
    for (struct kv_put *put = first; put; put = put->next) {
        put->result = kv_store(kv, put->mode, put->key, put->klen, put->flags,
                               put->exptime, put->cas, put->value, put->len,
                               &put->cas_out);
        if (ahead)
            ahead = hint(kv, ahead);
    }
}

void batch_fail(struct kv_put *first)
{
    for (struct kv_put *put = first; put; put = put->next)
        put->result = KV_IO;
}

enum kv_result batch_result(const struct kv_put *batch, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (batch[i].result != KV_OK)
            return batch[i].result;
    return KV_OK;
}

enum kv_result kv_store_batch(struct kv *kv, struct kv_put *batch, size_t n)
{
    struct kv_put *first = NULL;
    for (size_t i = n; i > 0; i--) {
        batch[i - 1].next = first;
        first = &batch[i - 1];
    }
    batch_store(kv, first);
    if (kv_commit(kv) != KV_OK) {
        batch_fail(first);
        return KV_IO;
    }
    return batch_result(batch, n);
}
