/*
 * A chained hash table on libpmemobj, as its documentation teaches to write
 * one: transactions for every change, the array of buckets in the root object.
 * It has as many buckets as keys from the start, so it never grows.
 */
#include "bench/stores/store.h"

#if __has_include(<libpmemobj.h>)
#include <libpmemobj.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PER_KEY                                                                \
    320         /* bytes of pool: an allocation has a header and a class       \
                 */
#define ENTRY 1 /* type number */

struct entry {
    uint64_t key;
    char value[STORE_VALUE];
    PMEMoid next;
};

struct root {
    uint64_t n;
    PMEMoid buckets[]; /* the first entry of each */
};

struct table {
    PMEMobjpool *pool;
    struct root *root;
    bool open; /* a transaction */
    char path[256];
};

static void *create(const char *folder, uint64_t keys)
{
    struct table *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    snprintf(t->path, sizeof(t->path), "%s/pmemobj-%d", folder, (int)getpid());
    t->pool =
        pmemobj_create(t->path, "bench", keys * PER_KEY + (64u << 20), 0600);
    if (!t->pool) {
        fprintf(stderr, "engine: libpmemobj: %s\n", pmemobj_errormsg());
        free(t);
        return NULL;
    }
    PMEMoid root =
        pmemobj_root(t->pool, sizeof(struct root) + keys * sizeof(PMEMoid));
    t->root = pmemobj_direct(root);
    t->root->n = keys;
    pmemobj_persist(t->pool, &t->root->n, sizeof(t->root->n));
    return t;
}

static PMEMoid *bucket_of(const struct table *t, uint64_t key)
{
    uint64_t h = key * 0x9e3779b97f4a7c15u;
    return &t->root->buckets[(unsigned __int128)h * t->root->n >> 64];
}

static struct entry *find(const struct table *t, uint64_t key)
{
    struct entry *e = pmemobj_direct(*bucket_of(t, key));
    while (e && e->key != key)
        e = pmemobj_direct(e->next);
    return e;
}

/* In a transaction. A step that fails has aborted it. */
static bool insert(struct table *t, uint64_t key, const void *value)
{
    PMEMoid *bucket = bucket_of(t, key);
    PMEMoid made = pmemobj_tx_alloc(sizeof(struct entry), ENTRY);
    if (OID_IS_NULL(made))
        return false;
    struct entry *e = pmemobj_direct(made);
    e->key = key;
    memcpy(e->value, value, STORE_VALUE);
    e->next = *bucket;
    if (pmemobj_tx_add_range_direct(bucket, sizeof(*bucket)) != 0)
        return false;
    *bucket = made;
    return true;
}

static bool put(void *store, uint64_t key, const void *value)
{
    struct table *t = store;
    if (!t->open &&
        pmemobj_tx_begin(t->pool, NULL, TX_PARAM_NONE, TX_PARAM_NONE) != 0)
        return false;
    t->open = true;
    struct entry *e = find(t, key);
    if (!e)
        return insert(t, key, value);
    if (pmemobj_tx_add_range_direct(e->value, STORE_VALUE) != 0)
        return false;
    memcpy(e->value, value, STORE_VALUE);
    return true;
}

static bool commit(void *store)
{
    struct table *t = store;
    if (!t->open)
        return true;
    t->open = false;
    pmemobj_tx_commit();
    return pmemobj_tx_end() == 0;
}

static const void *get(void *store, uint64_t key)
{
    const struct entry *e = find(store, key);
    return e ? e->value : NULL;
}

static void rest(void *store)
{
    (void)store;
}

static void destroy(void *store)
{
    struct table *t = store;
    pmemobj_close(t->pool);
    unlink(t->path);
    free(t);
}
#endif

const struct store_ops store_pmemobj = {
    .name = "libpmemobj",
    .what = "hash table in its transactions, durable",
#if __has_include(<libpmemobj.h>)
    .create = create,
    .put = put,
    .commit = commit,
    .get = get,
    .rest = rest,
    .destroy = destroy,
#endif
};
