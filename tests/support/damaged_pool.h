/*
 * A pool file that is damaged on purpose, again and again, and what check,
 * repair and the engine say to it.
 */
#ifndef TESTS_SUPPORT_DAMAGED_POOL_H
#define TESTS_SUPPORT_DAMAGED_POOL_H

#include "store/engine/engine.h"
#include "store/engine/hop_layout.h"
#include "store/pm/region_layout.h"
#include "store/tool/damage.h"

#define DAMAGED_ITEMS 300

struct damaged_item {
    char key[64];
    uint32_t klen;
    uint32_t len;
    uint32_t flags;
    uint32_t exptime;
    uint64_t cas;
    uint64_t entry_at; /* offset in the file */
    uint64_t blob_at;  /* of its blob or first piece, or 0 */
    unsigned char *value;
};

struct damaged_pool {
    int fd; /* the file that is damaged */
    char path[32];
    unsigned char *good;  /* as it was */
    unsigned char *bytes; /* the file, mapped */
    uint64_t size;
    uint64_t table_at; /* of the first segment */
    uint32_t places;   /* in it */
    uint64_t pair_at;  /* of the pair that the root names, or 0 */
    uint64_t head_at;  /* of the pool's header */
    uint64_t chain_at; /* of the first piece of a chain */
    struct damaged_item items[DAMAGED_ITEMS];
    unsigned n_items;
};

enum damaged_fate { DAMAGED_THERE, DAMAGED_MISSING, DAMAGED_CHANGED };

/* What became of one damage. */
struct damaged_outcome {
    uint64_t damages;
    uint64_t beyond;
    uint64_t lost; /* items, as the survey says */
    bool lost_more;
    bool refused;                /* the file is no pool, or not looked at */
    uint64_t kinds;              /* bits */
    unsigned missing;            /* items that are not there after the repair */
    unsigned changed;            /* items that are others */
    unsigned strangers;          /* items that were not there before */
    uint8_t fate[DAMAGED_ITEMS]; /* enum damaged_fate of each item */
    char error[256];             /* "" or what must not be */
};

/* larger: a pool whose table has a pair and several segments. seed: of the hash
 * of keys, on which it depends what lies where; 0: a random one. */
void damaged_pool_make(struct damaged_pool *pool, bool larger, uint64_t seed);
void damaged_pool_fini(struct damaged_pool *pool);

/* The good pool again. */
void damaged_pool_restore(struct damaged_pool *pool);

/* The good pool again, but for one bit, counted from the byte at this offset.
 */
void damaged_pool_flip(struct damaged_pool *pool, uint64_t at, uint64_t bit);

/* Give an entry that was changed the check byte that fits. */
void damaged_pool_fix_entry(struct hop_entry *entry);

/* Whether the entry as it is in the file now claims bytes of this item. */
bool damaged_pool_claims(const struct damaged_pool *pool,
                         const struct hop_entry *entry,
                         const struct damaged_item *item);

/*
 * The file as it is now: survey it, mend it, survey it again, open it by the
 * engine, compare the items. What check says is clean the engine must open
 * without a repair; what is repaired must be clean.
 */
struct damaged_outcome damaged_pool_judge(struct damaged_pool *pool);

#endif
