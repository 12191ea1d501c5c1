/*
 * Values that somebody holds, over any number of turns, until he gives them
 * back: a blob that is held is not retired when its item goes, but when it is
 * given back. A value that lies in its entry is held as a copy.
 */
#ifndef STORE_ENGINE_HOLD_H
#define STORE_ENGINE_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define HOLD_LISTS 64

struct hold {
    LIST_ENTRY(hold) link;
    uint64_t offset; /* of the blob; 0: a copy in bytes[] */
    uint64_t len;    /* bytes of the blob */
    uint32_t refs;
    bool chained;
    bool orphan; /* its item has gone: whoever gives it back retires it */
    unsigned char bytes[];
};

LIST_HEAD(hold_list, hold);

/* Blobs that are held, by offset. */
struct holds {
    uint64_t n; /* of blobs and copies */
    struct hold_list lists[HOLD_LISTS];
};

void holds_init(struct holds *holds);

/* A hold of the blob at that offset, or NULL. */
struct hold *holds_find(struct holds *holds, uint64_t offset);

/* One more of such a blob. NULL: no memory. */
struct hold *holds_blob(struct holds *holds, uint64_t offset, uint64_t len,
                        bool chained);

/* A copy of len bytes. NULL: no memory. */
struct hold *holds_copy(struct holds *holds, const void *bytes, size_t len);

/* One less; whether it was the last. Then the caller frees it. */
bool holds_drop(struct holds *holds, struct hold *hold);

#endif
