/* The hash is compiled in: nothing of it is linked at run time. */
#include "store/engine/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_key(uint64_t seed, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, seed);
}
