/*
 * See state_set.h. Open addressing; nothing is ever taken out.
 */
#include "tests/support/state_set.h"

#include <stdlib.h>
#include <string.h>

bool state_set_init(struct state_set *set, unsigned bits)
{
    set->hashes = calloc((size_t)1 << bits, sizeof(*set->hashes));
    set->bits = bits;
    set->n = 0;
    return set->hashes != NULL;
}

void state_set_fini(struct state_set *set)
{
    free(set->hashes);
    set->hashes = NULL;
}

static uint64_t hash_of(const uint8_t *at, size_t len)
{
    uint64_t hash = 1;

    while (len > 0) {
        uint64_t word = 0;
        size_t n = len < 8 ? len : 8;

        memcpy(&word, at, n);
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
        at += n;
        len -= n;
    }
    return hash | 1;
}

bool state_set_add(struct state_set *set, const void *state, size_t len)
{
    uint64_t hash = hash_of(state, len);
    size_t mask = ((size_t)1 << set->bits) - 1;
    size_t at = hash >> (64 - set->bits);

    while (set->hashes[at] != 0) {
        if (set->hashes[at] == hash)
            return false;
        at = (at + 1) & mask;
    }
    set->hashes[at] = hash;
    set->n++;
    return true;
}
