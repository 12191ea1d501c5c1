/* See seen.h. Open addressing; a slot is taken by one atomic exchange. */
#include "tests/crash/seen.h"

#include <string.h>
#include <sys/mman.h>

#define TRIES_MAX 4096

struct seen *seen_create(size_t n)
{
    struct seen *seen =
        mmap(NULL, sizeof(*seen) + n * 8, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED)
        return NULL;
    seen->mask = n - 1;
    return seen;
}

void seen_destroy(struct seen *seen)
{
    if (seen)
        munmap(seen, sizeof(*seen) + (seen->mask + 1) * 8);
}

bool seen_add(struct seen *seen, uint64_t hash)
{
    uint64_t value = hash ? hash : 1;
    uint64_t at = (value * 0x9e3779b97f4a7c15 >> 20) & seen->mask;
    for (int i = 0; i < TRIES_MAX; i++) {
        uint64_t found = 0;
        if (__atomic_compare_exchange_n(&seen->slots[at], &found, value, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return true;
        if (found == value)
            return false;
        at = (at + 1) & seen->mask;
    }
    return false;
}

void seen_clear(struct seen *seen)
{
    memset(seen->slots, 0, (seen->mask + 1) * 8);
}
