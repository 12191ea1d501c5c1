/*
 * LMDB, once as it comes (each commit is synced), once with MDB_WRITEMAP and
 * MDB_NOSYNC (nothing is synced; a power loss may take the whole file). In
 * /dev/shm a sync costs the system calls and little else.
 */
#include "bench/stores/store.h"

#if __has_include(<lmdb.h>)
#include <lmdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PER_KEY 320 /* bytes of address space */

struct lmdb {
    MDB_env *env;
    MDB_dbi dbi;
    MDB_txn *txn;  /* writing, or NULL */
    MDB_txn *read; /* reading, or NULL */
    char path[256];
};

static int start(struct lmdb *db)
{
    int rc = mdb_txn_begin(db->env, NULL, 0, &db->txn);
    if (rc == 0)
        rc = mdb_dbi_open(db->txn, NULL, MDB_CREATE | MDB_INTEGERKEY, &db->dbi);
    if (rc == 0)
        rc = mdb_txn_commit(db->txn);
    db->txn = NULL;
    return rc;
}

static void *make(const char *folder, uint64_t keys, unsigned flags)
{
    struct lmdb *db = calloc(1, sizeof(*db));
    if (!db || mdb_env_create(&db->env) != 0) {
        free(db);
        return NULL;
    }
    snprintf(db->path, sizeof(db->path), "%s/lmdb-%d-%x", folder, (int)getpid(),
             flags);
    int rc = mdb_env_set_mapsize(db->env, keys * PER_KEY + (64u << 20));
    if (rc == 0)
        rc = mdb_env_open(db->env, db->path, flags | MDB_NOSUBDIR | MDB_NOLOCK,
                          0600);
    if (rc == 0)
        rc = start(db);
    if (rc == 0)
        return db;
    fprintf(stderr, "engine: LMDB: %s\n", mdb_strerror(rc));
    mdb_env_close(db->env);
    free(db);
    return NULL;
}

static void *create(const char *folder, uint64_t keys)
{
    return make(folder, keys, 0);
}

static void *create_nosync(const char *folder, uint64_t keys)
{
    return make(folder, keys, MDB_WRITEMAP | MDB_NOSYNC);
}

static void rest(void *store)
{
    struct lmdb *db = store;
    if (db->read)
        mdb_txn_abort(db->read);
    db->read = NULL;
}

static bool put(void *store, uint64_t key, const void *value)
{
    struct lmdb *db = store;
    MDB_val k = {sizeof(key), &key},
            v = {STORE_VALUE, (void *)(uintptr_t)value};
    rest(db);
    if (!db->txn && mdb_txn_begin(db->env, NULL, 0, &db->txn) != 0)
        return false;
    return mdb_put(db->txn, db->dbi, &k, &v, 0) == 0;
}

static bool commit(void *store)
{
    struct lmdb *db = store;
    MDB_txn *txn = db->txn;
    db->txn = NULL;
    return !txn || mdb_txn_commit(txn) == 0;
}

static const void *get(void *store, uint64_t key)
{
    struct lmdb *db = store;
    MDB_val k = {sizeof(key), &key}, v;
    if (!db->read && mdb_txn_begin(db->env, NULL, MDB_RDONLY, &db->read) != 0)
        return NULL;
    return mdb_get(db->read, db->dbi, &k, &v) == 0 ? v.mv_data : NULL;
}

static void destroy(void *store)
{
    struct lmdb *db = store;
    rest(db);
    mdb_env_close(db->env);
    unlink(db->path);
    free(db);
}
#endif

const struct store_ops store_lmdb = {
    .name = "LMDB",
    .what = "as it comes: each commit is synced",
#if __has_include(<lmdb.h>)
    .create = create,
    .put = put,
    .commit = commit,
    .get = get,
    .rest = rest,
    .destroy = destroy,
#endif
};
const struct store_ops store_lmdb_nosync = {
    .name = "LMDB nosync",
    .what = "MDB_WRITEMAP, MDB_NOSYNC: not durable",
#if __has_include(<lmdb.h>)
    .create = create_nosync,
    .put = put,
    .commit = commit,
    .get = get,
    .rest = rest,
    .destroy = destroy,
#endif
};
