/*
 * The least that a durable put can be: a cache line and a word in another one,
 * at random places, a fence after each kind. Once as they come, once after
 * both lines were loaded: then the stores find them, and the write-back has
 * nothing to wait for.
 */
#include "bench/stores/store.h"

#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE  64
#define BATCH 64 /* puts between two commits at most */

struct bare {
    char *lines;
    size_t size;
    uint64_t *words[BATCH]; /* that the commit will write */
    unsigned n;
    char path[256];
};

static void *create(const char *folder, uint64_t keys)
{
    static unsigned number;
    struct bare *b = calloc(1, sizeof(*b));
    if (!b)
        return NULL;
    snprintf(b->path, sizeof(b->path), "%s/bare-%d-%u", folder, (int)getpid(),
             number++);
    b->lines = pmem_map_file(b->path, keys * 2 * LINE, PMEM_FILE_CREATE, 0600,
                             &b->size, NULL);
    if (!b->lines) {
        free(b);
        return NULL;
    }
    memset(b->lines, 0, b->size);
    return b;
}

static bool put(void *store, uint64_t key, const void *value)
{
    struct bare *b = store;
    char entry[LINE] = "";
    char *at = b->lines + key * 2 * LINE;
    if (b->n == BATCH)
        return false;
    memcpy(entry, value, STORE_VALUE);
    memcpy(entry + STORE_VALUE, &key, sizeof(key));
    pmem_memcpy(at, entry, sizeof(entry), PMEM_F_MEM_NODRAIN);
    b->words[b->n++] = (uint64_t *)(void *)(at + LINE);
    return true;
}

static bool put_fetched(void *store, uint64_t key, const void *value)
{
    const struct bare *b = store;
    const volatile char *at = b->lines + key * 2 * LINE;
    (void)at[0];
    (void)at[LINE];
    return put(store, key, value);
}

static bool commit(void *store)
{
    struct bare *b = store;
    pmem_drain();
    for (unsigned i = 0; i < b->n; i++) {
        __atomic_store_n(b->words[i], (uintptr_t)b->words[i], __ATOMIC_RELAXED);
        pmem_flush(b->words[i], sizeof(*b->words[i]));
    }
    pmem_drain();
    b->n = 0;
    return true;
}

static void destroy(void *store)
{
    struct bare *b = store;
    pmem_unmap(b->lines, b->size);
    unlink(b->path);
    free(b);
}

const struct store_ops store_bare = {
    .name = "bare",
    .what = "two bare persists: a line, a word in another one",
    .create = create,
    .put = put,
    .commit = commit,
    .destroy = destroy};
const struct store_ops store_bare_fetch = {
    .name = "bare-fetched",
    .what = "the same, both lines loaded before",
    .create = create,
    .put = put_fetched,
    .commit = commit,
    .destroy = destroy};
