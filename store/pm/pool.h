/*
 * The pools of a region: create, open, list, grow, delete.
 *
 * A pool is a set of grains and a header in the first of them; what else is in
 * its grains is the engine's business. Each change is made by one word after
 * all else is durable, so that a crash leaves it done or not begun.
 */
#ifndef STORE_PM_POOL_H
#define STORE_PM_POOL_H

#include "store/pm/region.h"

#include <stdbool.h>

struct pool {
    struct region *region;
    struct pool_header *header; /* mapped; written through the region's pm */
    struct region_part *parts;  /* its space by offset, neighbours joined;
                                 * the header's page is left out */
    size_t n_parts;
    uint64_t size; /* bytes of its grains */
    uint32_t slot;
    bool was_clean; /* the last user closed it, or it is new */
};

/* No item has this cas id, or a higher one. Below it there may be ids that the
 * pool has not given: of items that were restored, or whose ceiling is lost.
 * They leave as many ids to give as there are from then on. */
static inline uint64_t pool_cas_end(const struct pool_state *state)
{
    return state->cas_ceiling > POOL_CAS_GIVEN ? state->cas_ceiling
                                               : POOL_CAS_GIVEN;
}

/* What pool_each() tells; borrowed for the call. */
struct pool_info {
    const char *name;
    uint64_t size;    /* bytes */
    uint64_t created; /* unix seconds */
    bool open;        /* in this process */
    bool clean;
};

/* Bytes that are in no pool. */
uint64_t pool_free_space(const struct region *region);

/* size: rounded up to grains; 0: all that is free. run: bytes that follow the
 * header without a gap, the least that the pool's user can work with. 0 or
 * -errno with a sentence: too small, no room, no slot, or a name that is taken
 * or not allowed. */
int pool_create(struct region *region, const char *name, uint64_t size,
                uint64_t run, char *error, size_t error_size);

/* Whether there is a pool of that name. */
bool pool_exists(const struct region *region, const char *name);

/* Durably marked as in use on return. 0 or -errno with a sentence. */
int pool_open(struct pool *pool, struct region *region, const char *name,
              char *error, size_t error_size);

/* The numbers of its grains, by index, in an array that the caller frees. 0 or
 * -errno. */
int pool_grains(const struct pool *pool, uint64_t **grains, uint64_t *n);

/* clean: everything in it is committed. 0 or -errno; closed either way. */
int pool_close(struct pool *pool, bool clean);

/* At least so many bytes more; *added is the new space, one part per run of
 * grains, in an array that the caller frees. 0 or -errno with a sentence. */
int pool_grow(struct pool *pool, uint64_t more, struct region_part **added,
              size_t *n_added, char *error, size_t error_size);

/* A pool that nobody has open. zero: its bytes are overwritten with zeroes
 * before its grains are free. 0 or -errno with a sentence. */
int pool_delete(struct region *region, const char *name, bool zero, char *error,
                size_t error_size);

/* Call visit for each pool until it returns false. */
typedef bool pool_visit(void *context, const struct pool_info *info);
void pool_each(const struct region *region, pool_visit *visit, void *context);

/*
 * After mapping: 0 when every slot and grain word is possible; then what a
 * crash has left is tidied up. Called by region_open().
 */
int pool_check_all(struct region *region, char *error, size_t error_size);
int pool_tidy_up(struct region *region);

#endif
