/*
 * The states that an exhaustive search has seen, as 64-bit hashes of their
 * bytes. Padding counts, so a state is made with memset() and memcpy().
 */
#ifndef TESTS_SUPPORT_STATE_SET_H
#define TESTS_SUPPORT_STATE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state_set {
    uint64_t *hashes;
    unsigned bits; /* room for 2^bits hashes, keep it half empty */
    unsigned long n;
};

bool state_set_init(struct state_set *set, unsigned bits);
void state_set_fini(struct state_set *set);
/* True: it is new. */
bool state_set_add(struct state_set *set, const void *state, size_t len);

#endif
