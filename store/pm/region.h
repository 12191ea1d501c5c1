/*
 * A pool file: create, open, check, lock, map, close.
 *
 * A file that is not exactly a pool this program can work with is refused with
 * a sentence and left as it was. While open it is locked (flock), so that two
 * processes never share it. A crash while a pool is being created leaves a
 * file that says so; opening it with a size builds it again.
 */
#ifndef STORE_PM_REGION_H
#define STORE_PM_REGION_H

#include "store/pm/persist.h"
#include "store/pm/region_layout.h"

struct region_options {
    uint64_t size;       /* bytes to create if there is none; 0: open only */
    uint64_t table_size; /* bytes of the table part of a new pool */
    enum pm_policy policy;
    const struct pm_hook *hook; /* NULL but in tests */
};

struct region {
    struct pm pm;
    struct region_header *header; /* mapped; written through pm only */
    int fd;
    bool created;   /* by this open */
    bool was_clean; /* the last user closed it, or it is new */
};

/* 0 or -errno with a sentence in *error. The state is marked as in use, and
 * durably so, on return. */
int region_open(struct region *region, const char *path,
                const struct region_options *options, char *error,
                size_t error_size);

/* clean: everything in it is committed. 0 or -errno; closed either way. */
int region_close(struct region *region, bool clean);

/* What the field check of a header has to be. */
uint64_t region_check(const struct region_header *header);

/* Store and flush one word of the state; durable after the next fence. */
void region_set(struct region *region, uint64_t *word, uint64_t value);

#endif
