/*
 * Directory slots and grain words.
 *
 * A grain word counts when a slot with its id is in use and has more grains
 * than the word's index. So a pool appears, grows and goes by one word of its
 * slot, and nothing that was written before that word need ever be undone.
 */
#include "store/pm/pool.h"

#include "store/pm/parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const unsigned char zeroes[4096];

uint64_t region_slot_check(const struct region_slot *slot)
{
    return region_sum(&slot->id, offsetof(struct region_slot, check) -
                                     offsetof(struct region_slot, id));
}

uint64_t region_pool_check(const struct pool_header *header)
{
    return region_sum(header->layout, offsetof(struct pool_header, check) - 8);
}

static bool name_allowed(const char *name)
{
    size_t len = strnlen(name, REGION_NAME_MAX + 1);
    if (len == 0 || len > REGION_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 33 || name[i] == 127)
            return false;
    return true;
}

static uint64_t word_of(uint64_t id, uint64_t index)
{
    return id << 32 | index;
}

/* The slot in use that has this id, or NULL. */
static struct region_slot *slot_of_id(const struct region *region, uint64_t id)
{
    for (uint32_t i = 0; i < region->header->slots; i++)
        if (region->slots[i].state != REGION_SLOT_FREE &&
            region->slots[i].id == id)
            return &region->slots[i];
    return NULL;
}

static struct region_slot *slot_of_name(const struct region *region,
                                        const char *name)
{
    for (uint32_t i = 0; i < region->header->slots; i++)
        if (region->slots[i].state == REGION_SLOT_POOL &&
            strcmp(region->slots[i].name, name) == 0)
            return &region->slots[i];
    return NULL;
}

static bool counts(const struct region *region, uint64_t word)
{
    if (word == 0)
        return false;
    const struct region_slot *slot = slot_of_id(region, word >> 32);
    return slot && (uint32_t)word < slot->grains;
}

/*
 * The numbers of the grains of a slot, by index, in an array that the caller
 * frees. -EUCLEAN: the grain words do not make up the pool.
 */
static int collect(const struct region *region, const struct region_slot *slot,
                   uint64_t **out)
{
    uint64_t n = region_grains(region), found = 0;
    if (slot->grains == 0 || slot->grains > n)
        return -EUCLEAN;
    uint64_t *grains = malloc(slot->grains * sizeof(*grains));
    if (!grains)
        return -ENOMEM;
    memset(grains, 0xff, slot->grains * sizeof(*grains));
    for (uint64_t g = 0; g < n; g++) {
        uint64_t index = (uint32_t)region->words[g];
        if (region->words[g] >> 32 != slot->id || index >= slot->grains)
            continue;
        if (grains[index] != NO_GRAIN)
            break;
        grains[index] = g;
        found++;
    }
    if (found != slot->grains) {
        free(grains);
        return -EUCLEAN;
    }
    *out = grains;
    return 0;
}

static bool slot_possible(const struct region *region, uint32_t number)
{
    const struct region_slot *slot = &region->slots[number];
    if (slot->check != region_slot_check(slot) || slot->id == 0 ||
        slot->id > UINT32_MAX || slot->state > REGION_SLOT_ZEROING ||
        slot_of_id(region, slot->id) != slot ||
        slot->name[REGION_NAME_MAX] != '\0' || !name_allowed(slot->name))
        return false;
    return slot->state != REGION_SLOT_POOL ||
           slot_of_name(region, slot->name) == slot;
}

int pool_check_all(struct region *region, char *error, size_t error_size)
{
    for (uint32_t i = 0; i < region->header->slots; i++) {
        uint64_t *grains;
        if (region->slots[i].state == REGION_SLOT_FREE)
            continue;
        int rc = slot_possible(region, i)
                     ? collect(region, &region->slots[i], &grains)
                     : -EUCLEAN;
        if (rc == -ENOMEM)
            return region_refuse(region->path, error, error_size, rc,
                                 "cannot be opened: no memory");
        if (rc < 0)
            return region_refuse(region->path, error, error_size, -EINVAL,
                                 "is damaged: slot %u of its directory of "
                                 "pools is impossible; restore it from a copy",
                                 i);
        free(grains);
    }
    return 0;
}

/* Overwrite all grains of a slot, durably. */
static int zero_grains(struct region *region, const struct region_slot *slot)
{
    struct pm *pm = &region->pm;
    for (uint64_t g = 0; g < region_grains(region); g++) {
        if (region->words[g] >> 32 != slot->id ||
            (uint32_t)region->words[g] >= slot->grains)
            continue;
        unsigned char *at = pm->base + region_grain_at(region, g);
        for (uint64_t off = 0; off < region->header->grain;
             off += sizeof(zeroes))
            pm_copy(pm, at + off, zeroes, sizeof(zeroes));
        int rc = pm_fence(pm);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int set_state(struct region *region, struct region_slot *slot,
                     enum region_slot_state state)
{
    region_set(region, &slot->state, state);
    return pm_fence(&region->pm);
}

int pool_tidy_up(struct region *region)
{
    for (uint32_t i = 0; i < region->header->slots; i++) {
        struct region_slot *slot = &region->slots[i];
        if (slot->state != REGION_SLOT_ZEROING)
            continue;
        int rc = zero_grains(region, slot);
        if (rc == 0)
            rc = set_state(region, slot, REGION_SLOT_FREE);
        if (rc < 0)
            return rc;
    }
    for (uint64_t g = 0; g < region_grains(region); g++)
        if (region->words[g] != 0 && !counts(region, region->words[g]))
            region_set(region, &region->words[g], 0);
    return 0; /* a word that comes to count is stored after another fence */
}

static uint64_t free_grains(const struct region *region)
{
    uint64_t n = 0;
    for (uint64_t g = 0; g < region_grains(region); g++)
        n += !counts(region, region->words[g]);
    return n;
}

uint64_t pool_free_space(const struct region *region)
{
    return free_grains(region) * region->header->grain;
}

/* Where the first run of n free grains begins, or NO_GRAIN. */
static uint64_t first_run(const struct region *region, uint64_t n)
{
    uint64_t run = 0;
    for (uint64_t g = 0; g < region_grains(region); g++) {
        run = counts(region, region->words[g]) ? 0 : run + 1;
        if (run == n)
            return g + 1 - n;
    }
    return NO_GRAIN;
}

/* Where to begin with n grains, the first `run` of which are neighbours;
 * NO_GRAIN: so many lie nowhere together. */
static uint64_t first_fit(const struct region *region, uint64_t n, uint64_t run)
{
    uint64_t first = first_run(region, n);
    return first != NO_GRAIN ? first : first_run(region, run);
}

/* n free grains, from that one on and then from the first one. */
static void choose_grains(const struct region *region, uint64_t n, uint64_t g,
                          uint64_t *chosen)
{
    uint64_t grains = region_grains(region);
    assert(g < grains);
    for (uint64_t i = 0; i < n; g = g + 1 < grains ? g + 1 : 0)
        if (!counts(region, region->words[g]))
            chosen[i++] = g;
}

/* Give grains to a pool, as contents, when nothing but a write can fail any
 * more: words that are left would meet later ones of the same index. */
static void give_grains(struct region *region, uint64_t id, uint64_t index,
                        const uint64_t *grains, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        region_set(region, &region->words[grains[i]], word_of(id, index + i));
}

/* Of a pool that is there, or that was deleted: what else may lie in a slot
 * that is free nobody has looked at. */
static bool id_was_given(const struct region_slot *slot)
{
    return slot->id <= UINT32_MAX && (slot->state != REGION_SLOT_FREE ||
                                      slot->check == region_slot_check(slot));
}

static uint64_t next_id(const struct region *region)
{
    uint64_t id = 0;
    for (uint32_t i = 0; i < region->header->slots; i++)
        if (region->slots[i].id > id && id_was_given(&region->slots[i]))
            id = region->slots[i].id;
    for (uint64_t g = 0; g < region_grains(region); g++)
        if (region->words[g] >> 32 > id)
            id = region->words[g] >> 32;
    return id + 1;
}

static struct region_slot *free_slot(const struct region *region)
{
    for (uint32_t i = 0; i < region->header->slots; i++)
        if (region->slots[i].state == REGION_SLOT_FREE)
            return &region->slots[i];
    return NULL;
}

static int write_header(struct region *region, uint64_t grain, uint64_t id)
{
    struct pool_header h = {.magic = POOL_MAGIC,
                            .layout = POOL_LAYOUT,
                            .version = POOL_VERSION,
                            .header_size = POOL_HEADER_SIZE,
                            .id = id,
                            .state = {.clean = 1, .cas_ceiling = 1}};
    if (getrandom(h.seed, sizeof(h.seed), 0) != sizeof(h.seed))
        return -EIO;
    h.check = region_pool_check(&h);
    pm_copy(&region->pm, region->pm.base + region_grain_at(region, grain), &h,
            sizeof(h));
    return 0;
}

/* From grain g on there are neighbours enough to begin with. */
static int write_pool(struct region *region, struct region_slot *slot,
                      const char *name, uint64_t n, uint64_t g)
{
    struct region_slot image = {
        .grains = n, .id = next_id(region), .created = (uint64_t)time(NULL)};
    if (image.id == 0 || image.id > UINT32_MAX)
        return -ENOSPC;
    memcpy(image.name, name, strlen(name));
    image.check = region_slot_check(&image);
    uint64_t *taken = malloc(n * sizeof(*taken));
    if (!taken)
        return -ENOMEM;
    choose_grains(region, n, g, taken);
    give_grains(region, image.id, 0, taken, n);
    int rc = write_header(region, taken[0], image.id);
    free(taken);
    if (rc < 0)
        return rc;
    pm_copy(&region->pm, &slot->grains, &image.grains, sizeof(image) - 8);
    rc = pm_fence(&region->pm);
    if (rc < 0)
        return rc;
    return set_state(region, slot, REGION_SLOT_POOL);
}

/* Whether there may be one more pool, of that name. */
static int check_new(const struct region *region, const char *name, char *error,
                     size_t error_size)
{
    const char *path = region->path;
    if (!name_allowed(name))
        return region_refuse(path, error, error_size, -EINVAL,
                             "cannot have a pool of that name: 1 to %u bytes "
                             "without spaces and control characters",
                             REGION_NAME_MAX);
    if (slot_of_name(region, name))
        return region_refuse(path, error, error_size, -EEXIST,
                             "has a pool \"%s\" already; open it or choose "
                             "another name",
                             name);
    if (!free_slot(region))
        return region_refuse(path, error, error_size, -ENOSPC,
                             "has %u pools, as many as it can; delete one",
                             region->header->slots);
    return 0;
}

int pool_create(struct region *region, const char *name, uint64_t size,
                uint64_t run, char *error, size_t error_size)
{
    const char *path = region->path;
    uint64_t grain = region->header->grain, left = free_grains(region);
    uint64_t n = size / grain + (size % grain != 0);
    uint64_t least = (POOL_HEADER_SIZE + run + grain - 1) / grain;
    int rc = check_new(region, name, error, error_size);
    if (rc < 0)
        return rc;
    if (size == 0)
        n = left > least ? left : least;
    if (n < least)
        return region_refuse(path, error, error_size, -EINVAL,
                             "cannot have pool \"%s\" of %llu bytes: here a "
                             "pool has at least %llu",
                             name, (unsigned long long)size,
                             (unsigned long long)(least * grain));
    if (n > left)
        return region_refuse(path, error, error_size, -ENOSPC,
                             "has %llu free bytes, not %llu as pool \"%s\" "
                             "wants; make the region larger or delete a pool",
                             (unsigned long long)(left * grain),
                             (unsigned long long)(n * grain), name);
    uint64_t at = first_fit(region, n, least);
    if (at == NO_GRAIN)
        return region_refuse(path, error, error_size, -ENOSPC,
                             "has its free bytes in pieces, none of them of "
                             "%llu bytes, with which pool \"%s\" has to begin; "
                             "make the region larger or delete a pool",
                             (unsigned long long)(least * grain), name);
    rc = write_pool(region, free_slot(region), name, n, at);
    if (rc < 0)
        return region_refuse(path, error, error_size, rc,
                             "cannot make pool \"%s\": %s", name,
                             strerror(-rc));
    return 0;
}

bool pool_exists(const struct region *region, const char *name)
{
    return slot_of_name(region, name) != NULL;
}

static int check_pool(const struct pool *pool, const char *name, char *error,
                      size_t error_size)
{
    const char *path = pool->region->path;
    struct pool_header h = *pool->header;
    const struct pool_state *s = &h.state;
    h.layout[sizeof(h.layout) - 1] = '\0';
    if (h.magic != POOL_MAGIC || strcmp(h.layout, POOL_LAYOUT) != 0 ||
        h.header_size != POOL_HEADER_SIZE ||
        h.id != pool->region->slots[pool->slot].id)
        return region_refuse(path, error, error_size, -EINVAL,
                             "is damaged: pool \"%s\" has no header of this "
                             "layout; restore it from a copy",
                             name);
    if (h.version != POOL_VERSION)
        return region_refuse(path, error, error_size, -EINVAL,
                             "has pool \"%s\" of format version %u, this "
                             "program knows version %u; use a program of its "
                             "version",
                             name, h.version, POOL_VERSION);
    if (h.check != region_pool_check(&h))
        return region_refuse(path, error, error_size, -EINVAL,
                             "is damaged: the checksum of the header of pool "
                             "\"%s\" does not match; restore it from a copy",
                             name);
    if (h.incompat & ~POOL_KNOWN_INCOMPAT)
        return region_refuse(path, error, error_size, -EINVAL,
                             "has pool \"%s\" with features that this program "
                             "does not know (bits 0x%llx); use a newer program",
                             name, (unsigned long long)h.incompat);
    if (s->clean > 1 || s->flush_live > 1 || s->cas_ceiling == 0 ||
        s->cas_ceiling > POOL_CEILING_MAX)
        return region_refuse(path, error, error_size, -EINVAL,
                             "is damaged: the changing part of the header of "
                             "pool \"%s\" holds impossible values; restore it "
                             "from a copy",
                             name);
    return 0;
}

static int find_parts(struct pool *pool, const struct region_slot *slot)
{
    struct region *region = pool->region;
    uint64_t *grains;
    int rc = collect(region, slot, &grains);
    if (rc < 0)
        return rc;
    uint64_t head = grains[0];
    pool->header =
        (struct pool_header *)(region->pm.base + region_grain_at(region, head));
    pool->size = slot->grains * region->header->grain;
    rc = parts_of(region, grains, slot->grains, head, &pool->parts,
                  &pool->n_parts);
    free(grains);
    return rc;
}

int pool_open(struct pool *pool, struct region *region, const char *name,
              char *error, size_t error_size)
{
    const struct region_slot *slot = slot_of_name(region, name);
    *pool = (struct pool){.region = region};
    if (!slot)
        return region_refuse(region->path, error, error_size, -ENOENT,
                             "has no pool \"%s\"; create it", name);
    pool->slot = (uint32_t)(slot - region->slots);
    if (region->busy[pool->slot])
        return region_refuse(region->path, error, error_size, -EBUSY,
                             "has pool \"%s\" open already, in this program",
                             name);
    int rc = find_parts(pool, slot);
    if (rc < 0)
        return region_refuse(region->path, error, error_size, rc,
                             "has pool \"%s\", which cannot be opened: %s",
                             name, strerror(-rc));
    rc = check_pool(pool, name, error, error_size);
    if (rc < 0)
        goto free_parts;
    pool->was_clean = pool->header->state.clean != 0;
    region_set(region, &pool->header->state.clean, 0);
    rc = pm_fence(&region->pm);
    if (rc < 0) {
        region_refuse(region->path, error, error_size, rc,
                      "cannot be written: %s", strerror(-rc));
        goto free_parts;
    }
    region->busy[pool->slot] = 1;
    return 0;

free_parts:
    free(pool->parts);
    pool->parts = NULL;
    return rc;
}

int pool_grains(const struct pool *pool, uint64_t **grains, uint64_t *n)
{
    const struct region_slot *slot = &pool->region->slots[pool->slot];
    *n = slot->grains;
    return collect(pool->region, slot, grains);
}

int pool_close(struct pool *pool, bool clean)
{
    struct region *region = pool->region;
    int rc = region->pm.error;
    if (clean && rc == 0) {
        region_set(region, &pool->header->state.clean, 1);
        rc = pm_fence(&region->pm);
    }
    region->busy[pool->slot] = 0;
    free(pool->parts);
    pool->parts = NULL;
    return rc;
}

int pool_grow(struct pool *pool, uint64_t more, struct region_part **added,
              size_t *n_added, char *error, size_t error_size)
{
    struct region *region = pool->region;
    struct region_slot *slot = &region->slots[pool->slot];
    uint64_t grain = region->header->grain;
    uint64_t n = more / grain + (more % grain != 0);
    uint64_t left = free_grains(region);
    if (n == 0 || n > left)
        return region_refuse(region->path, error, error_size, -ENOSPC,
                             "has %llu free bytes, not %llu as pool \"%s\" "
                             "wants; make the region larger or delete a pool",
                             (unsigned long long)pool_free_space(region),
                             (unsigned long long)more, slot->name);
    uint64_t *taken = malloc(n * sizeof(*taken));
    int rc = -ENOMEM;
    if (!taken)
        goto refuse;
    choose_grains(region, n, first_fit(region, n, 1), taken);
    rc = parts_of(region, taken, n, NO_GRAIN, added, n_added);
    if (rc == 0)
        give_grains(region, slot->id, slot->grains, taken, n);
    free(taken);
    if (rc < 0)
        goto refuse;
    rc = pm_fence(&region->pm);
    if (rc == 0) {
        region_set(region, &slot->grains, slot->grains + n);
        rc = pm_fence(&region->pm);
    }
    if (rc == 0) {
        pool->size += n * grain;
        return 0;
    }
    free(*added);

refuse:
    return region_refuse(region->path, error, error_size, rc,
                         "cannot make pool \"%s\" larger: %s", slot->name,
                         strerror(-rc));
}

int pool_delete(struct region *region, const char *name, bool zero, char *error,
                size_t error_size)
{
    struct region_slot *slot = slot_of_name(region, name);
    if (!slot)
        return region_refuse(region->path, error, error_size, -ENOENT,
                             "has no pool \"%s\"", name);
    if (region->busy[slot - region->slots])
        return region_refuse(region->path, error, error_size, -EBUSY,
                             "has pool \"%s\" open; close it first", name);
    int rc = 0;
    if (zero) {
        rc = set_state(region, slot, REGION_SLOT_ZEROING);
        if (rc == 0)
            rc = zero_grains(region, slot);
    }
    if (rc == 0)
        rc = set_state(region, slot, REGION_SLOT_FREE);
    if (rc < 0)
        return region_refuse(region->path, error, error_size, rc,
                             "cannot be written: %s", strerror(-rc));
    return 0;
}

void pool_each(const struct region *region, pool_visit *visit, void *context)
{
    for (uint32_t i = 0; i < region->header->slots; i++) {
        const struct region_slot *slot = &region->slots[i];
        struct pool_info info = {.name = slot->name,
                                 .size = slot->grains * region->header->grain,
                                 .created = slot->created,
                                 .open = region->busy[i] != 0};
        if (slot->state != REGION_SLOT_POOL)
            continue;
        for (uint64_t g = 0; g < region_grains(region); g++)
            if (region->words[g] == word_of(slot->id, 0)) {
                const struct pool_header *h =
                    (const void *)(region->pm.base +
                                   region_grain_at(region, g));
                info.clean = h->state.clean == 1;
            }
        if (!visit(context, &info))
            return;
    }
}
