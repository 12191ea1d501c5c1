/*
 * Sets of hashes. The big one is shared by all worker processes and never
 * forgets; a small one belongs to one crash point.
 */
#ifndef TESTS_CRASH_SEEN_H
#define TESTS_CRASH_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seen {
    uint64_t mask;
    uint64_t slots[]; /* 0: free */
};

/* Shared with children; n is a power of two. NULL: no memory. */
struct seen *seen_create(size_t n);
void seen_destroy(struct seen *seen);

/* True: it was not there before. A full set says false. */
bool seen_add(struct seen *seen, uint64_t hash);

void seen_clear(struct seen *seen);

#endif
