/*
 * Proof that somebody met elsewhere is the other end of a TCP connection: a
 * keyed hash over the first bytes that both ends have seen on it.
 *
 * On one host the kernel vouches for the peer. Between hosts anybody may claim
 * an address pair, so each end keeps the first bytes of each direction while
 * the connection is young, and shows that it knows them. Bytes that others
 * can guess prove little: a connection with fewer than PROOF_LEAST bytes in
 * sum proves nothing yet.
 *
 * No locks: the owner orders note and make.
 */
#ifndef TRANSPORT_PROOF_H
#define TRANSPORT_PROOF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { PROOF_BYTES = 1024, PROOF_LEAST = 16, PROOF_SIZE = 16 };

enum proof_way { PROOF_TO_SERVER, PROOF_TO_CLIENT };

struct proof_log {
    uint32_t have[2]; /* by way: bytes kept */
    uint8_t bytes[2][PROOF_BYTES];
};

/* Appends what still fits; later bytes are not kept. */
void proof_note(struct proof_log *log, enum proof_way way,
                const struct iovec *iov, int n, size_t len);

/*
 * Hash over the first n[way] bytes of each way (n[way] <= have[way]), keyed
 * with both ends' nonces. `by_server` says whose proof it is, so that one is
 * never the other's. -EINVAL: n is beyond what is kept, or in sum below
 * PROOF_LEAST.
 */
int proof_make(const struct proof_log *log, const uint32_t n[2],
               const uint64_t nonce_server[2], const uint64_t nonce_client[2],
               int by_server, uint8_t out[PROOF_SIZE]);

/* SipHash-2-4 under the key (k0, k1), two little-endian numbers. */
uint64_t proof_hash(uint64_t k0, uint64_t k1, const void *bytes, size_t len);

#endif
