/* A hash table in DRAM: open addressing, linear probing, doubled when it is
 * 7/8 full. Nothing of it is durable. */
#include "bench/stores/store.h"

#include <stdlib.h>
#include <string.h>

struct slot {
    uint64_t key; /* plus 1; 0: free */
    char value[STORE_VALUE];
};

struct plain {
    struct slot *slots;
    uint64_t mask, n;
};

static uint64_t home(const struct plain *t, uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (key ^ key >> 32) & t->mask;
}

static struct slot *find(const struct plain *t, uint64_t key)
{
    uint64_t i = home(t, key);
    while (t->slots[i].key != 0 && t->slots[i].key != key + 1)
        i = (i + 1) & t->mask;
    return &t->slots[i];
}

static bool grow(struct plain *t)
{
    struct plain old = *t;
    t->mask = old.slots ? 2 * old.mask + 1 : 1023;
    t->slots = calloc(t->mask + 1, sizeof(*t->slots));
    for (uint64_t i = 0; t->slots && old.slots && i <= old.mask; i++)
        if (old.slots[i].key != 0)
            *find(t, old.slots[i].key - 1) = old.slots[i];
    free(old.slots);
    return t->slots != NULL;
}

static void *create(const char *folder, uint64_t keys)
{
    (void)folder;
    (void)keys;
    struct plain *t = calloc(1, sizeof(*t));
    if (t && !grow(t)) {
        free(t);
        return NULL;
    }
    return t;
}

static bool put(void *store, uint64_t key, const void *value)
{
    struct plain *t = store;
    struct slot *slot = find(t, key);
    if (slot->key == 0) {
        if (t->n >= t->mask - t->mask / 8) {
            if (!grow(t))
                return false;
            slot = find(t, key);
        }
        slot->key = key + 1;
        t->n++;
    }
    memcpy(slot->value, value, STORE_VALUE);
    return true;
}

static bool commit(void *store)
{
    (void)store;
    return true;
}

static const void *get(void *store, uint64_t key)
{
    const struct slot *slot = find(store, key);
    return slot->key != 0 ? slot->value : NULL;
}

static void rest(void *store)
{
    (void)store;
}

static void destroy(void *store)
{
    struct plain *t = store;
    free(t->slots);
    free(t);
}

const struct store_ops store_plain = {.name = "DRAM table",
                                      .what =
                                          "open addressing, nothing durable",
                                      .create = create,
                                      .put = put,
                                      .commit = commit,
                                      .get = get,
                                      .rest = rest,
                                      .destroy = destroy};
