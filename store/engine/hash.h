/* XXH3 with a seed: which bits of a key's hash mean what is said in
 * hop_table.h. The only user of xxhash. */
#ifndef STORE_ENGINE_HASH_H
#define STORE_ENGINE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash_key(uint64_t seed, const void *key, size_t len);

#endif
