/* The hash of siphash.h, in 64-bit little-endian words. */
#include "store/engine/siphash.h"

#include <string.h>

struct state {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void round1(struct state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static inline void take(struct state *s, uint64_t word)
{
    s->v3 ^= word;
    round1(s);
    round1(s);
    s->v0 ^= word;
}

uint64_t siphash(const uint8_t seed[16], const void *data, size_t len)
{
    const uint8_t *at = data;
    uint64_t k0, k1, word;
    memcpy(&k0, seed, 8);
    memcpy(&k1, seed + 8, 8);
    struct state s = {
        k0 ^ 0x736f6d6570736575, /* "somepseudorandomlygeneratedbytes" */
        k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
        k1 ^ 0x7465646279746573};

    for (size_t left = len; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        take(&s, word);
    }
    word = (uint64_t)len << 56;
    for (size_t i = 0; i < len % 8; i++)
        word |= (uint64_t)at[i] << (8 * i);
    take(&s, word);
    s.v2 ^= 0xff;
    for (int i = 0; i < 4; i++)
        round1(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
