/* See subject.h. */
#include "tests/crash/subject.h"

#include "store/engine/audit.h"
#include "store/engine/engine_state.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

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

void subject_abandon(struct kv *kv)
{
    kv->failed = true;
    kv_close(kv);
}

int subject_audit(struct kv *kv, char *error, size_t error_size)
{
    return audit(kv, error, error_size);
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
