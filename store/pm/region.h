/*
 * A region: a file or device that holds pools. Create, open, check, lock, map,
 * grow, close.
 *
 * What is not exactly a region this program can work with is refused with a
 * sentence and left as it was. While open it is locked (flock), so that two
 * processes never share it. A crash while a region is being created leaves a
 * file that says so; opening it with a size builds it again.
 *
 * One thread per region, its pools (pool.h) included.
 */
#ifndef STORE_PM_REGION_H
#define STORE_PM_REGION_H

#include "store/pm/persist.h"
#include "store/pm/region_layout.h"

struct region_options {
    uint64_t size;  /* bytes to create if there is none; 0: open only */
    uint64_t grain; /* bytes of a grain of a new region; 0: by its size */
    uint64_t room;  /* bytes that it may grow to while open; 0: no matter */
    enum pm_policy policy;
    const struct pm_hook *hook; /* NULL but in tests */
};

struct region {
    struct pm pm;
    struct region_header *header; /* mapped; written through pm only */
    struct region_slot *slots;    /* mapped */
    uint64_t *words;              /* mapped: one per grain */
    unsigned char *busy;          /* per slot: open in this process */
    char *path;                   /* for sentences */
    int fd;
    bool created; /* by this open */
    bool device;  /* a DAX device: no file behind it */
};

/* 0 or -errno with a sentence in *error. */
int region_open(struct region *region, const char *path,
                const struct region_options *options, char *error,
                size_t error_size);

/* All its pools are closed. 0, or -errno of the first write that failed. */
int region_close(struct region *region);

/* Make the region so many bytes long. 0 or -errno with a sentence. */
int region_grow(struct region *region, uint64_t size, char *error,
                size_t error_size);

/* The file has, as far as one can see now, not been cut short. */
bool region_is_whole(const struct region *region);

/* Grains there are. */
static inline uint64_t region_grains(const struct region *region)
{
    const struct region_header *h = region->header;
    return (h->size - h->first) / h->grain;
}

static inline uint64_t region_grain_at(const struct region *region,
                                       uint64_t grain)
{
    return region->header->first + grain * region->header->grain;
}

/* The sum that a header or slot carries, over len bytes, whole words of 4. */
uint64_t region_sum(const void *bytes, size_t len);

/* What the check field has to be. */
uint64_t region_header_check(const struct region_header *header);
uint64_t region_slot_check(const struct region_slot *slot);
uint64_t region_pool_check(const struct pool_header *header);

/* Store and flush one word; durable after the next fence. */
void region_set(struct region *region, uint64_t *word, uint64_t value);

/* "path: sentence" into error; gives rc back. */
int region_refuse(const char *path, char *error, size_t error_size, int rc,
                  const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
