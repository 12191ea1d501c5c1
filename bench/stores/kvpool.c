/* The engine, through its public header, in a pool that counts as persistent
 * memory. */
#include "bench/stores/store.h"
#include "store/engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PER_KEY 256 /* bytes of pool: room for a table that grows */

struct pool {
    struct kv *kv;
    char path[256];
};

static void *create(const char *folder, uint64_t keys)
{
    static unsigned number;
    struct kv_options options = {.size = keys * PER_KEY + (64u << 20),
                                 .durability = KV_DURABILITY_PMEM};
    char error[512] = "no memory";
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    snprintf(pool->path, sizeof(pool->path), "%s/kvpool-%d-%u", folder,
             (int)getpid(), number++);
    if (kv_open(pool->path, &options, &pool->kv, error, sizeof(error)) < 0) {
        fprintf(stderr, "engine: %s\n", error);
        free(pool);
        return NULL;
    }
    kv_set_time(pool->kv, 1000);
    return pool;
}

static void hint(void *store, uint64_t key, bool put)
{
    struct pool *pool = store;
    kv_hint(pool->kv, &key, sizeof(key), put);
}

static bool put(void *store, uint64_t key, const void *value)
{
    struct pool *pool = store;
    return kv_store(pool->kv, KV_SET, &key, sizeof(key), 0, 0, 0, value,
                    STORE_VALUE, NULL) == KV_OK;
}

static bool commit(void *store)
{
    struct pool *pool = store;
    return kv_commit(pool->kv) == KV_OK;
}

static bool put_all(void *store, const uint64_t *keys, const void *values,
                    unsigned n)
{
    struct pool *pool = store;
    struct kv_put puts[STORE_BATCH];
    for (unsigned i = 0; i < n; i++)
        puts[i] =
            (struct kv_put){.key = &keys[i],
                            .klen = sizeof(keys[i]),
                            .value = (const char *)values + i * STORE_VALUE,
                            .len = STORE_VALUE};
    return kv_store_batch(pool->kv, puts, n) == KV_OK;
}

static const void *get(void *store, uint64_t key)
{
    struct pool *pool = store;
    struct kv_item item;
    return kv_get(pool->kv, &key, sizeof(key), &item) == KV_OK ? item.value
                                                               : NULL;
}

static void rest(void *store)
{
    struct pool *pool = store;
    kv_unpin_all(pool->kv);
}

static uint64_t growths(void *store)
{
    struct pool *pool = store;
    struct kv_statistics s;
    kv_stats(pool->kv, &s);
    return s.growths;
}

static void destroy(void *store)
{
    struct pool *pool = store;
    kv_close(pool->kv);
    unlink(pool->path);
    free(pool);
}

const struct store_ops store_kvpool = {.name = "kvpool",
                                       .what = "libkvpool, durability pmem",
                                       .create = create,
                                       .put = put,
                                       .commit = commit,
                                       .get = get,
                                       .growths = growths,
                                       .rest = rest,
                                       .destroy = destroy};
const struct store_ops store_kvpool_hint = {
    .name = "kvpool, hints",
    .what = "the same, with kv_hint() for 16 keys at a time",
    .create = create,
    .hint = hint,
    .put = put,
    .commit = commit,
    .get = get,
    .rest = rest,
    .destroy = destroy};
const struct store_ops store_kvpool_call = {
    .name = "kvpool, batch calls",
    .what = "the same, batches by kv_store_batch()",
    .create = create,
    .put = put,
    .commit = commit,
    .put_all = put_all,
    .get = get,
    .rest = rest,
    .destroy = destroy};
