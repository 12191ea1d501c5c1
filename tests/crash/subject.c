/* See subject.h. */
#include "tests/crash/subject.h"

#include "store/engine/audit.h"
#include "store/engine/engine_state.h"
#include "store/engine/restore.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int subject_open(const char *path, uint64_t size, bool cache,
                 const struct pm_hook *hook, struct kv **out, char *error,
                 size_t error_size)
{
    struct kv_options options = {
        .size = size, .durability = KV_DURABILITY_PROCESS, .evict = cache};
    int rc = kv_open_hooked(path, &options, hook, out, error, error_size);
    if (rc == 0)
        kv_set_time(*out, SUBJECT_NOW);
    return rc;
}

int subject_open_region(const char *path, uint64_t size, uint64_t pool,
                        const struct pm_hook *hook, struct kv_region **region,
                        struct kv **out, char *error, size_t error_size)
{
    struct kv_region_options options = {
        .size = size, .room = 2 * size, .durability = KV_DURABILITY_PROCESS};
    struct kv_options pool_options = {.durability = KV_DURABILITY_PROCESS};
    int rc =
        kv_region_open_hooked(path, &options, hook, region, error, error_size);
    if (rc < 0 || (size != 0 && pool == 0))
        return rc;
    if (size != 0)
        rc = kv_pool_create(*region, "default", pool, error, error_size);
    if (rc == 0)
        rc = kv_pool_open(*region, "default", &pool_options, out, error,
                          error_size);
    if (rc == 0)
        kv_set_time(*out, SUBJECT_NOW);
    else
        kv_region_close(*region);
    return rc;
}

int subject_try_region(const char *path, const struct pm_hook *hook,
                       char *error, size_t error_size)
{
    struct kv_region_options options = {.durability = KV_DURABILITY_PROCESS};
    struct kv_region *region;
    int rc =
        kv_region_open_hooked(path, &options, hook, &region, error, error_size);
    if (rc == 0)
        kv_region_close(region);
    return rc;
}

struct kv_region *subject_region(struct kv *kv)
{
    return kv->region;
}

void subject_stray_word(struct kv_region *region)
{
    struct region *raw = &region->region;
    raw->words[region_grains(raw)] = raw->words[0];
}

enum kv_result subject_restore(struct kv *kv, const void *key, size_t klen,
                               uint32_t flags, uint32_t exptime, uint64_t cas,
                               const void *value, size_t len)
{
    return restore_item(kv, key, klen, flags, exptime, cas, value, len);
}

bool subject_crowded(struct kv *kv, const void *key, size_t klen)
{
    uint32_t bucket = hop_bucket(&kv->table, kv_hash(kv, key, klen));
    return hop_free_place(&kv->table, bucket) == HOP_NONE;
}

uint32_t subject_distance(struct kv *kv, const void *key, size_t klen,
                          const void *item, size_t item_len)
{
    uint32_t bucket = hop_bucket(&kv->table, kv_hash(kv, key, klen));
    uint32_t place =
        hop_find(&kv->table, kv_hash(kv, item, item_len), item, item_len);
    if (place == HOP_NONE || place >> HOP_SHIFT != bucket >> HOP_SHIFT)
        return UINT32_MAX;
    return hop_distance(&kv->table, bucket, place);
}

void subject_abandon(struct kv *kv)
{
    kv->failed = true;
    kv_close(kv);
}

int subject_audit(struct kv *kv, char *error, size_t error_size)
{
    return audit(kv, error, error_size);
}

bool subject_lower_ceiling(int fd)
{
    struct region_header h;
    uint64_t ceiling = 2;
    if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
        return false;
    off_t at = (off_t)(h.first + offsetof(struct pool_header, state) +
                       offsetof(struct pool_state, cas_ceiling));
    return pwrite(fd, &ceiling, sizeof(ceiling), at) == sizeof(ceiling);
}

bool subject_damage(int fd, const void *key, size_t klen)
{
    struct stat st;
    bool found = false;
    if (fstat(fd, &st) < 0)
        return false;
    size_t size = (size_t)st.st_size;
    unsigned char *file =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED)
        return false;
    unsigned char *at = file;
    while ((at = memmem(at, size - (size_t)(at - file), key, klen)) != NULL) {
        *at ^= 1;
        found = true;
    }
    munmap(file, size);
    return found;
}
