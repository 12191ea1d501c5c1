/*
 * A shard is a pool "shard-I-of-N" of one region, or a store in memory. Its
 * number comes from a hash of the key under the region's uuid, so that it is
 * the same whenever the file is opened.
 *
 * Callbacks run without a lock, after the call that caused them. A thread that
 * is inside one is on a list: what its own calls evict is put behind what it
 * is telling.
 */
#include "store/engine/shared.h"

#include "store/engine/engine_state.h"
#include "store/engine/guarded.h"
#include "store/engine/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define GRAIN_MAX   (32u << 20) /* bytes */
#define GRAIN_MIN   4096u
#define GRAIN_SHARE 16            /* grains per shard at least ... */
#define GRAIN_ALL   64            /* ... and of all together */
#define FEW_SHARDS  32            /* more need a large directory */
#define MANY_BYTES  (64ull << 20) /* of a region that has one */
#define MORE_MAX    ((uint64_t)1 << 60)

uint32_t shared_number(const struct kv_shared *shared, const void *key,
                       size_t klen)
{
    uint64_t hash = klen <= KV_MAX_KEY ? hash_key(shared->seed, key, klen) : 0;
    return (uint32_t)((hash >> 32) * shared->n >> 32);
}

struct shared_shard *shared_enter_number(struct kv_shared *shared,
                                         uint32_t number)
{
    struct shared_shard *shard = &shared->shards[number];
    uint32_t now = atomic_load_explicit(&shared->now, memory_order_relaxed);
    pthread_mutex_lock(&shard->lock);
    if (shard->now != now) {
        shard->now = now;
        kv_set_time(shard->kv, now);
    }
    return shard;
}

struct shared_shard *shared_enter(struct kv_shared *shared, const void *key,
                                  size_t klen)
{
    return shared_enter_number(shared, shared_number(shared, key, klen));
}

/* This thread, if it is inside a callback. */
static struct shared_caller *find_caller(struct kv_shared *shared, bool missing)
{
    struct shared_caller *caller;
    pthread_mutex_lock(&shared->callers_lock);
    LIST_FOREACH(caller, &shared->callers, link)
        if (pthread_equal(caller->thread, pthread_self()) &&
            caller->missing == missing)
            break;
    pthread_mutex_unlock(&shared->callers_lock);
    return caller;
}

static void begin_calling(struct kv_shared *shared,
                          struct shared_caller *caller)
{
    caller->thread = pthread_self();
    pthread_mutex_lock(&shared->callers_lock);
    LIST_INSERT_HEAD(&shared->callers, caller, link);
    pthread_mutex_unlock(&shared->callers_lock);
}

static void end_calling(struct kv_shared *shared, struct shared_caller *caller)
{
    pthread_mutex_lock(&shared->callers_lock);
    LIST_REMOVE(caller, link);
    pthread_mutex_unlock(&shared->callers_lock);
}

/* Behind those that this thread is telling already, unless too deep. */
static void put_off(struct shared_caller *caller, struct watch_notes *notes)
{
    struct watch_note *note;
    while ((note = STAILQ_FIRST(notes)) != NULL) {
        STAILQ_REMOVE_HEAD(notes, link);
        note->depth = caller->depth + 1;
        if (note->depth > KV_EVICT_DEPTH)
            free(note);
        else
            STAILQ_INSERT_TAIL(&caller->notes, note, link);
    }
}

static void tell(struct kv_shared *shared, struct watch_notes *notes)
{
    struct shared_caller caller = {.missing = false};
    struct shared_caller *outer = find_caller(shared, false);
    struct watch_note *note;
    if (outer) {
        put_off(outer, notes);
        return;
    }
    STAILQ_INIT(&caller.notes);
    STAILQ_CONCAT(&caller.notes, notes);
    begin_calling(shared, &caller);
    while ((note = STAILQ_FIRST(&caller.notes)) != NULL) {
        STAILQ_REMOVE_HEAD(&caller.notes, link);
        caller.depth = note->depth;
        shared->evicted(shared->evicted_context, note->bytes, note->klen,
                        &note->item);
        free(note);
    }
    end_calling(shared, &caller);
}

enum kv_result shared_leave(struct kv_shared *shared,
                            struct shared_shard *shard, bool changed,
                            enum kv_result result)
{
    struct watch_notes notes;
    STAILQ_INIT(&notes);
    if (changed && !shared->batch && kv_commit(shard->kv) != KV_OK)
        result = KV_IO;
    if (shared->evicted)
        watch_take(shard->kv, &notes);
    pthread_mutex_unlock(&shard->lock);
    if (!STAILQ_EMPTY(&notes))
        tell(shared, &notes);
    return result;
}

bool shared_ask(struct kv_shared *shared, const void *key, size_t klen,
                struct kv_item *lent)
{
    struct shared_caller caller = {.missing = true};
    *lent = (struct kv_item){0};
    if (!shared->missed || find_caller(shared, true))
        return false;
    begin_calling(shared, &caller);
    bool given = shared->missed(shared->missed_context, key, klen, lent);
    end_calling(shared, &caller);
    return given;
}

int kv_shared_on_evict(struct kv_shared *shared, kv_evicted *call,
                       void *context)
{
    for (uint32_t i = 0; i < shared->n; i++) {
        struct kv *kv = shared->shards[i].kv;
        int rc = call ? watch_by_hand(kv) : kv_on_evict(kv, NULL, NULL);
        if (rc < 0)
            return rc;
    }
    shared->evicted = call;
    shared->evicted_context = context;
    return 0;
}

void kv_shared_on_miss(struct kv_shared *shared, kv_missed *call, void *context)
{
    shared->missed = call;
    shared->missed_context = context;
}

/* The number of shards that the region was made with; 0: none yet. */
static bool count_shards(void *context, const struct kv_pool_info *info)
{
    uint32_t *n = context;
    unsigned i, of;
    if (sscanf(info->name, "shard-%u-of-%u", &i, &of) == 2 && i < of &&
        of <= KV_MAX_SHARDS)
        *n = of;
    return *n == 0;
}

static struct shared_shard *new_shards(uint32_t n)
{
    struct shared_shard *shards =
        aligned_alloc(alignof(struct shared_shard), n * sizeof(*shards));
    if (!shards)
        return NULL;
    memset(shards, 0, n * sizeof(*shards));
    for (uint32_t i = 0; i < n; i++)
        pthread_mutex_init(&shards[i].lock, NULL);
    return shards;
}

/* A crash may have come while the pools were made: make those that lack. */
static int open_shard(struct kv_shared *shared, uint32_t i,
                      const struct kv_options *options, char *error,
                      size_t error_size)
{
    struct kv_options how = *options;
    char name[32];
    if (!shared->region) {
        how.size /= shared->n;
        return kv_open("memory", &how, &shared->shards[i].kv, error,
                       error_size);
    }
    snprintf(name, sizeof(name), "shard-%u-of-%u", i, shared->n);
    how.own_thread = true;
    int rc = 0;
    if (!pool_exists(&shared->region->region, name))
        rc = kv_pool_create(shared->region, name,
                            kv_region_free(shared->region) / (shared->n - i),
                            error, error_size);
    if (rc < 0)
        return rc;
    return kv_pool_open(shared->region, name, &how, &shared->shards[i].kv,
                        error, error_size);
}

int kv_shared_close(struct kv_shared *shared)
{
    int rc = 0;
    if (!shared)
        return 0;
    for (uint32_t i = 0; i < shared->n; i++) {
        int closed = kv_close(shared->shards[i].kv);
        rc = rc < 0 ? rc : closed;
        pthread_mutex_destroy(&shared->shards[i].lock);
    }
    int closed = kv_region_close(shared->region);
    pthread_mutex_destroy(&shared->callers_lock);
    free(shared->shards);
    free(shared);
    return rc < 0 ? rc : closed;
}

/* Bytes that each shard is to have when all get so many more, in grains. */
static uint64_t even_size(struct kv_shared *shared, uint64_t more,
                          uint64_t grain)
{
    uint64_t all = more;
    for (uint32_t i = 0; i < shared->n; i++)
        all += shared->shards[i].kv->pool.size;
    uint64_t each = all / shared->n + (all % shared->n != 0);
    return each / grain * grain + (each % grain != 0) * grain;
}

static uint64_t lacks(const struct kv *kv, uint64_t size)
{
    return kv->pool.size < size ? size - kv->pool.size : 0;
}

static int grow_file(struct kv_shared *shared, uint64_t more, char *error,
                     size_t error_size)
{
    struct kv_region *region = shared->region;
    const struct region_header *header = region->region.header;
    uint64_t grain = header->grain;
    if (guarded_lost(region, error, error_size)) /* by that look, or before */
        return -EIO;
    uint64_t size = even_size(shared, more, grain);
    uint64_t want = 0, has = kv_region_free(region);
    for (uint32_t i = 0; i < shared->n; i++)
        want += lacks(shared->shards[i].kv, size);
    int rc = 0;
    if (want > has)
        rc = kv_region_grow(region, header->size + want - has, error,
                            error_size);
    for (uint32_t i = 0; i < shared->n && rc == 0; i++) {
        uint64_t n = lacks(shared->shards[i].kv, size);
        if (n > 0)
            rc = kv_pool_grow(shared->shards[i].kv, n, error, error_size);
    }
    return rc;
}

static int grow_memory(struct kv_shared *shared, uint64_t more, char *error,
                       size_t error_size)
{
    uint64_t each = more / shared->n + (more % shared->n != 0);
    int rc = 0;
    for (uint32_t i = 0; i < shared->n && rc == 0; i++)
        rc = kv_pool_grow(shared->shards[i].kv, each, error, error_size);
    return rc;
}

int kv_shared_grow(struct kv_shared *shared, uint64_t more, char *error,
                   size_t error_size)
{
    if (more > MORE_MAX)
        return region_refuse(
            shared->region ? shared->region->region.path : "memory", error,
            error_size, -EINVAL, "cannot grow by %llu bytes",
            (unsigned long long)more);
    assert(shared->n > 0);
    for (uint32_t i = 0; i < shared->n; i++)
        pthread_mutex_lock(&shared->shards[i].lock);
    int rc = shared->region ? grow_file(shared, more, error, error_size)
                            : grow_memory(shared, more, error, error_size);
    for (uint32_t i = 0; i < shared->n; i++)
        pthread_mutex_unlock(&shared->shards[i].lock);
    return rc;
}

/* The region, and from it what routes keys. */
static int open_region(struct kv_shared *shared, const char *path,
                       const struct kv_options *options, char *error,
                       size_t error_size)
{
    struct kv_region_options how = {.size = options->size,
                                    .durability = options->durability,
                                    .guard = options->guard,
                                    .room = shared->room,
                                    .grain = GRAIN_MAX};
    uint64_t grains = (uint64_t)shared->n * GRAIN_SHARE;
    uint32_t n = 0;
    grains = grains < GRAIN_ALL ? GRAIN_ALL : grains;
    while (how.grain > GRAIN_MIN && how.grain * grains > options->size)
        how.grain /= 2;
    int rc = kv_region_open(path, &how, &shared->region, error, error_size);
    if (rc < 0)
        return rc;
    memcpy(&shared->seed, shared->region->region.header->uuid,
           sizeof(shared->seed));
    kv_pool_each(shared->region, count_shards, &n);
    if (n == 0 && options->size == 0)
        return region_refuse(path, error, error_size, -ENOENT,
                             "has no shards: give a size to make them");
    shared->n = n > 0 ? n : shared->n;
    return 0;
}

static int open_all(struct kv_shared *shared, const char *path,
                    const struct kv_options *options, char *error,
                    size_t error_size)
{
    int rc = 0;
    if (options->engine == KV_ENGINE_DURABLE)
        rc = open_region(shared, path, options, error, error_size);
    else if (getrandom(&shared->seed, sizeof(shared->seed), 0) < 0)
        shared->seed = (uintptr_t)shared;
    if (rc < 0)
        return rc;
    shared->shards = new_shards(shared->n);
    if (!shared->shards) {
        shared->n = 0;
        return region_refuse(path ? path : "memory", error, error_size, -ENOMEM,
                             "cannot be opened: no memory");
    }
    for (uint32_t i = 0; i < shared->n && rc == 0; i++)
        rc = open_shard(shared, i, options, error, error_size);
    return rc;
}

static uint32_t wanted(const struct kv_shared_options *options)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    if (options->shards != 0)
        return options->shards;
    return n < 1 ? 1 : n > FEW_SHARDS ? FEW_SHARDS : (uint32_t)n;
}

static int check_options(const char *name,
                         const struct kv_shared_options *options, char *error,
                         size_t error_size)
{
    uint64_t size = options->pool.size;
    uint32_t n = wanted(options);
    bool many = n > FEW_SHARDS && options->pool.engine == KV_ENGINE_DURABLE;
    uint64_t least = many ? MANY_BYTES : (uint64_t)n * KV_MIN_POOL;
    if (n > KV_MAX_SHARDS)
        return region_refuse(name, error, error_size, -EINVAL,
                             "can have 1 to %d shards, %u were asked for",
                             KV_MAX_SHARDS, n);
    if (size != 0 && size < least)
        return region_refuse(name, error, error_size, -EINVAL,
                             "cannot have %u shards in %llu bytes: they need "
                             "%llu",
                             n, (unsigned long long)size,
                             (unsigned long long)least);
    return 0;
}

int kv_shared_open(const char *path, const struct kv_shared_options *options,
                   struct kv_shared **out, char *error, size_t error_size)
{
    const char *name = path ? path : "memory";
    int rc = check_options(name, options, error, error_size);
    if (rc < 0)
        return rc;
    struct kv_shared *shared = calloc(1, sizeof(*shared));
    if (!shared)
        return region_refuse(name, error, error_size, -ENOMEM,
                             "cannot be opened: no memory");
    shared->n = wanted(options);
    shared->batch = options->batch;
    shared->room = options->room;
    atomic_init(&shared->now, (uint32_t)time(NULL));
    pthread_mutex_init(&shared->callers_lock, NULL);
    LIST_INIT(&shared->callers);
    rc = open_all(shared, path, &options->pool, error, error_size);
    if (rc < 0) {
        if (!shared->shards)
            shared->n = 0;
        kv_shared_close(shared);
        return rc;
    }
    *out = shared;
    return 0;
}
