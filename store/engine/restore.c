/* See restore.h. The cas id to be given next is set for the one call. */
#include "store/engine/restore.h"

#include "store/engine/engine_state.h"

bool restore_is_fresh(const struct kv *kv)
{
    return kv->stats.items == 0 && kv->flush_mark == 0 && kv->flush_when == 0;
}

enum kv_result restore_item(struct kv *kv, const void *key, size_t klen,
                            uint32_t flags, uint32_t exptime, uint64_t cas,
                            const void *value, size_t len)
{
    uint64_t next = kv->next_cas;
    if (cas == 0 || cas >= POOL_CAS_GIVEN)
        return KV_NOT_STORED;
    if (cas >= kv->cas_ceiling) { /* durable before the item's name */
        kv->cas_ceiling = cas + POOL_CEILING_STEP;
        region_set(&kv->region->region, &kv->pool.header->state.cas_ceiling,
                   kv->cas_ceiling);
    }
    kv->next_cas = cas;
    enum kv_result result =
        kv_store(kv, KV_SET, key, klen, flags, exptime, 0, value, len, NULL);
    if (kv->next_cas < next)
        kv->next_cas = next;
    return result;
}
