/* Regions and their pools, as users of engine.h see them. */
#include "store/engine/engine.h"

#include "store/engine/guarded.h"
#include "store/engine/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POOL_NAME "default" /* of the only pool of a file */

/* What a pool begins with: the first segment of its table; one unit more, for
 * it is looked for as heap_alloc_lines() does. */
#define FIRST_RUN (HOP_SEGMENT_MIN * sizeof(struct hop_entry) + HEAP_UNIT)

static enum pm_policy policy_of(enum kv_durability durability)
{
    switch (durability) {
    case KV_DURABILITY_PMEM:
        return PM_PMEM;
    case KV_DURABILITY_SYNC:
        return PM_SYNC;
    case KV_DURABILITY_PROCESS:
        return PM_PROCESS;
    default:
        return PM_AUTO;
    }
}

int kv_region_open_hooked(const char *path,
                          const struct kv_region_options *options,
                          const struct pm_hook *hook, struct kv_region **out,
                          char *error, size_t error_size)
{
    struct region_options raw = {.size = options->size,
                                 .grain = options->grain,
                                 .room = options->room,
                                 .policy = policy_of(options->durability),
                                 .hook = hook};
    if (options->size != 0 && options->size < KV_MIN_POOL)
        return region_refuse(path, error, error_size, -EINVAL,
                             "cannot be made with %llu bytes: a pool has at "
                             "least %d bytes",
                             (unsigned long long)options->size, KV_MIN_POOL);
    struct kv_region *region = calloc(1, sizeof(*region));
    if (!region)
        return region_refuse(path, error, error_size, -ENOMEM,
                             "cannot be opened: no memory");
    int rc = region_open(&region->region, path, &raw, error, error_size);
    if (rc < 0) {
        free(region);
        return rc;
    }
    region->by_default = options->durability == KV_DURABILITY_DEFAULT;
    rc = guarded_region(region, options->guard, error, error_size);
    if (rc < 0) {
        kv_region_close(region);
        return rc;
    }
    *out = region;
    return 0;
}

int kv_region_open(const char *path, const struct kv_region_options *options,
                   struct kv_region **out, char *error, size_t error_size)
{
    return kv_region_open_hooked(path, options, NULL, out, error, error_size);
}

int kv_region_close(struct kv_region *region)
{
    if (!region)
        return 0;
    int rc = region_close(&region->region); /* guarded up to its end */
    guard_remove(region->guard);
    free(region);
    return rc;
}

int kv_region_grow(struct kv_region *region, uint64_t size, char *error,
                   size_t error_size)
{
    if (guarded_lost(region, error, error_size))
        return -EIO;
    return region_grow(&region->region, size, error, error_size);
}

uint64_t kv_region_free(const struct kv_region *region)
{
    return pool_free_space(&region->region);
}

int kv_pool_create(struct kv_region *region, const char *name, uint64_t size,
                   char *error, size_t error_size)
{
    if (guarded_lost(region, error, error_size))
        return -EIO;
    int rc =
        pool_create(&region->region, name, size, FIRST_RUN, error, error_size);
    return guarded_lost(region, error, error_size) ? -EIO : rc;
}

int kv_pool_delete(struct kv_region *region, const char *name, bool zero,
                   char *error, size_t error_size)
{
    if (guarded_lost(region, error, error_size))
        return -EIO;
    int rc = pool_delete(&region->region, name, zero, error, error_size);
    return guarded_lost(region, error, error_size) ? -EIO : rc;
}

struct listing {
    kv_pool_visit *visit;
    void *context;
};

static bool list_one(void *context, const struct pool_info *info)
{
    const struct listing *listing = context;
    struct kv_pool_info out = {.name = info->name,
                               .size = info->size,
                               .created = info->created,
                               .open = info->open,
                               .clean = info->clean};
    return listing->visit(listing->context, &out);
}

void kv_pool_each(const struct kv_region *region, kv_pool_visit *visit,
                  void *context)
{
    struct listing listing = {visit, context};
    pool_each(&region->region, list_one, &listing);
}

/* The pool of a file that has one; it is made when there is none. */
static int open_default(struct kv_region *region,
                        const struct kv_options *options, struct kv **out,
                        char *error, size_t error_size)
{
    int rc = 0;
    if (!pool_exists(&region->region, POOL_NAME) && options->size != 0)
        rc = kv_pool_create(region, POOL_NAME, 0, error, error_size);
    if (rc < 0)
        return rc;
    return kv_pool_open(region, POOL_NAME, options, out, error, error_size);
}

int kv_open_hooked(const char *path, const struct kv_options *options,
                   const struct pm_hook *hook, struct kv **out, char *error,
                   size_t error_size)
{
    struct kv_region_options region_options = {.size = options->size,
                                               .durability =
                                                   options->durability,
                                               .guard = options->guard};
    struct kv_region *region = NULL;
    if (options->max_value > KV_MAX_VALUE)
        return region_refuse(path, error, error_size, -EINVAL,
                             "can have values of at most %u bytes, %u were "
                             "asked for",
                             KV_MAX_VALUE, options->max_value);
    int rc = kv_region_open_hooked(path, &region_options, hook, &region, error,
                                   error_size);
    if (rc < 0)
        return rc;
    rc = open_default(region, options, out, error, error_size);
    if (rc < 0) {
        kv_region_close(region);
        return rc;
    }
    (*out)->own_region = true;
    return 0;
}

int kv_open(const char *path, const struct kv_options *options, struct kv **out,
            char *error, size_t error_size)
{
    if (options->engine == KV_ENGINE_MEMORY)
        return memory_open(path, options, out, error, error_size);
    return kv_open_hooked(path, options, NULL, out, error, error_size);
}
