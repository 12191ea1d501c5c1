/*
 * See scratch.h. New pages cost more than the call that wants them: some blocks
 * are kept for the next one, of any thread. A block that was left by a jump is
 * lost.
 */
#include "preload/scratch.h"

#include <stdatomic.h>
#include <sys/mman.h>

#include "preload/kernel.h"

enum { BLOCK = 65536, KEPT = 16 };

static void *_Atomic kept[KEPT];

static size_t pages_for(size_t size)
{
    return size > BLOCK ? size : BLOCK;
}

void *scratch_get(size_t size)
{
    void *at = NULL;

    for (int i = 0; i < KEPT && size <= BLOCK && at == NULL; i++)
        if (atomic_load(&kept[i]) != NULL)
            at = atomic_exchange(&kept[i], NULL);
    if (at != NULL)
        return at;
    at = mmap(NULL, pages_for(size), PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at != MAP_FAILED ? at : NULL;
}

void scratch_put(void *at, size_t size)
{
    for (int i = 0; i < KEPT && size <= BLOCK; i++) {
        void *none = NULL;

        if (atomic_compare_exchange_strong(&kept[i], &none, at))
            return;
    }
    REAL(munmap)(at, pages_for(size));
}
