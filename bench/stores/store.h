/*
 * A key-value store as bench/engine.c measures it: 8-byte keys, 16-byte
 * values, one thread. Each file of this folder puts one behind this table.
 *
 * What was put counts as stored when commit has returned. What get has found
 * is borrowed until rest, put or commit.
 */
#ifndef BENCH_STORES_STORE_H
#define BENCH_STORES_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_VALUE 16 /* bytes */
#define STORE_BATCH 16 /* puts */

struct store_ops {
    const char *name;
    const char *what; /* how it is used, and what a commit is worth */
    /* A new store for so many keys in a folder; NULL: it cannot be. */
    void *(*create)(const char *folder, uint64_t keys);
    /* Such calls will follow; NULL: it does not help. */
    void (*hint)(void *store, uint64_t key, bool put);
    bool (*put)(void *store, uint64_t key, const void *value);
    bool (*commit)(void *store);
    /* Puts of n keys, STORE_BATCH at most, and their commit in one call, with
     * n values one after the other; NULL: it has no such call. */
    bool (*put_all)(void *store, const uint64_t *keys, const void *values,
                    unsigned n);
    /* NULL: it has no get. */
    const void *(*get)(void *store, uint64_t key);
    /* How often its table was written anew, in part; NULL: it does not say. */
    uint64_t (*growths)(void *store);
    void (*rest)(void *store);    /* give back what get has found */
    void (*destroy)(void *store); /* and its files */
};

extern const struct store_ops store_kvpool; /* libkvpool, durable */
extern const struct store_ops store_kvpool_hint;
extern const struct store_ops store_kvpool_call;
extern const struct store_ops store_bare;       /* two persists, nothing else */
extern const struct store_ops store_bare_fetch; /* into lines that are near */
extern const struct store_ops store_plain;      /* a hash table in DRAM */

/* Without the packages of `make deps-bench` they have no create. */
extern const struct store_ops store_pmemobj;
extern const struct store_ops store_lmdb;
extern const struct store_ops store_lmdb_nosync;

#endif
