/* SipHash-2-4 of Aumasson and Bernstein: a keyed hash that a client who does
 * not know the key cannot make collide. */
#ifndef STORE_ENGINE_SIPHASH_H
#define STORE_ENGINE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t siphash(const uint8_t seed[16], const void *data, size_t len);

#endif
