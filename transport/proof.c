/*
 * See proof.h. SipHash-2-4 (Aumasson and Bernstein, 2012) is run twice under
 * two keys made of the nonces, which gives 128 bits. Words take two rounds
 * each, the end four.
 */
#include "transport/proof.h"

#include <errno.h>
#include <string.h>

enum { HEADER = 4 + 2 * 4 };

struct sip {
    uint64_t a, b, c, d;
};

static uint64_t rotate(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

static void rounds(struct sip *s, int n)
{
    while (n-- > 0) {
        s->a += s->b;
        s->c += s->d;
        s->b = rotate(s->b, 13) ^ s->a;
        s->d = rotate(s->d, 16) ^ s->c;
        s->a = rotate(s->a, 32);
        s->c += s->b;
        s->a += s->d;
        s->b = rotate(s->b, 17) ^ s->c;
        s->d = rotate(s->d, 21) ^ s->a;
        s->c = rotate(s->c, 32);
    }
}

static uint64_t word_of(const uint8_t *bytes, size_t n)
{
    uint64_t word = 0;

    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)bytes[i] << 8 * i;
    return word;
}

static void take_word(struct sip *s, uint64_t word)
{
    s->d ^= word;
    rounds(s, 2);
    s->a ^= word;
}

uint64_t proof_hash(uint64_t k0, uint64_t k1, const void *bytes, size_t len)
{
    /* "somepseudorandomlygeneratedbytes" */
    struct sip s = {
        k0 ^ UINT64_C(0x736f6d6570736575),
        k1 ^ UINT64_C(0x646f72616e646f6d),
        k0 ^ UINT64_C(0x6c7967656e657261),
        k1 ^ UINT64_C(0x7465646279746573),
    };
    const uint8_t *p = bytes;
    size_t whole = len & ~(size_t)7;

    for (size_t at = 0; at < whole; at += 8)
        take_word(&s, word_of(p + at, 8));
    take_word(&s, word_of(p + whole, len - whole) | (uint64_t)len << 56);
    s.c ^= 0xff;
    rounds(&s, 4);
    return s.a ^ s.b ^ s.c ^ s.d;
}

void proof_note(struct proof_log *log, enum proof_way way,
                const struct iovec *iov, int n, size_t len)
{
    uint32_t have = log->have[way];

    for (int i = 0; i < n && len > 0 && have < PROOF_BYTES; i++) {
        size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

        len -= part;
        if (part > PROOF_BYTES - have)
            part = PROOF_BYTES - have;
        memcpy(log->bytes[way] + have, iov[i].iov_base, part);
        have += (uint32_t)part;
    }
    log->have[way] = have;
}

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

int proof_make(const struct proof_log *log, const uint32_t n[2],
               const uint64_t nonce_server[2], const uint64_t nonce_client[2],
               int by_server, uint8_t out[PROOF_SIZE])
{
    uint8_t text[HEADER + 2 * PROOF_BYTES];
    size_t len = HEADER;

    if (n[0] > log->have[0] || n[1] > log->have[1] || n[0] > PROOF_BYTES ||
        n[1] > PROOF_BYTES || n[0] + n[1] < PROOF_LEAST)
        return -EINVAL;
    /* The lengths go first, so that no byte can change its direction. */
    put_u32(text, by_server ? 1 : 2);
    put_u32(text + 4, n[0]);
    put_u32(text + 8, n[1]);
    for (int way = 0; way < 2; way++) {
        memcpy(text + len, log->bytes[way], n[way]);
        len += n[way];
    }
    put_u64(out, proof_hash(nonce_server[0], nonce_client[0], text, len));
    put_u64(out + 8, proof_hash(nonce_server[1], nonce_client[1], text, len));
    return 0;
}
