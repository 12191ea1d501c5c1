/*
 * What a region file says about itself and its pools. docs/pm-layout.md says
 * it in words.
 *
 * A region is cut into grains; a grain word names the pool that has the grain
 * and counts only when the pool's slot agrees. Lines 0 to 2 of a header never
 * change once it is finished; line 3 is written word by word by who has the
 * region or pool open. All numbers are little endian. A change of any field is
 * a new REGION_VERSION or a feature bit.
 */
#ifndef STORE_PM_REGION_LAYOUT_H
#define STORE_PM_REGION_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_MAGIC          0x4c4f4f504b535346u /* "FSSKPOOL" */
#define REGION_MAGIC_UNBUILT  0x444c495542535346u /* "FSSBUILD" */
#define REGION_LAYOUT         "fastsock-kv"
#define REGION_VERSION        2u
#define REGION_KNOWN_INCOMPAT 0ull /* feature bits we can work with */
#define REGION_HEADER_SIZE    4096u
#define REGION_GRAIN_MIN      4096u
#define REGION_GRAIN_MAX      (32u << 20)
#define REGION_NAME_MAX       87u /* bytes of a pool's name */

#define POOL_MAGIC          0x4c4f4f50564b5346u /* "FSKVPOOL" */
#define POOL_LAYOUT         "hopscotch"
#define POOL_VERSION        2u
#define POOL_KNOWN_INCOMPAT 0ull
#define POOL_HEADER_SIZE    4096u
#define POOL_CEILING_MAX    ((uint64_t)1 << 62) /* of cas ids */
#define POOL_CEILING_STEP   ((uint64_t)1 << 20) /* ids per raise of it */
#define POOL_CAS_GIVEN      ((uint64_t)1 << 61) /* or more: by the pool */

struct region_part {
    uint64_t offset; /* from the start of the region */
    uint64_t size;   /* bytes */
};

struct region_header {
    uint64_t magic;
    char layout[16]; /* NUL-terminated */
    uint32_t version;
    uint32_t header_size;
    uint64_t incompat; /* features a program must know to open the region */
    uint64_t compat;   /* features it may ignore */
    uint64_t created;  /* unix seconds */
    uint64_t grain;    /* bytes of a grain, a power of two */
    uint8_t uuid[16];
    uint64_t directory;  /* offset of the slots */
    uint32_t slots;      /* of the directory */
    uint32_t max_grains; /* grain words */
    uint64_t words;      /* offset of the grain words */
    uint64_t first;      /* offset of grain 0 */
    uint8_t reserved[72];
    uint64_t check;  /* over bytes 8 to 183 */
    uint64_t size;   /* bytes of the region; commit word of its growth */
    uint64_t opener; /* pid; means something only while locked */
    uint8_t more[48];
};

enum region_slot_state {
    REGION_SLOT_FREE = 0,
    REGION_SLOT_POOL = 1,
    REGION_SLOT_ZEROING = 2 /* its grains are zeroed, then it is free */
};

/* A pool, as the directory knows it. */
struct region_slot {
    uint64_t state;   /* enum region_slot_state; commit word */
    uint64_t grains;  /* how many it has; commit word of its growth */
    uint64_t id;      /* 1 to 2^32-1, never given twice */
    uint64_t created; /* unix seconds */
    char name[REGION_NAME_MAX + 1]; /* NUL-terminated */
    uint64_t check;                 /* over bytes 16 to 119 */
};

/* Two of them, so that one can be written while the other one counts. */
struct pool_flush {
    uint64_t mark; /* items with a cas below it are gone */
    uint64_t when; /* unix seconds of a flush to come, 0 = none */
};

/* The words that change. One writer: the engine. */
struct pool_state {
    uint64_t clean;       /* 1: closed in order, 0: in use or crashed */
    uint64_t root;        /* of the table; commit word */
    uint64_t cas_ceiling; /* every cas id ever given is below it */
    uint64_t flush_live;  /* 0 or 1: which of flush[] counts; commit word */
    struct pool_flush flush[2];
};

/* The first page of the first grain of a pool. */
struct pool_header {
    uint64_t magic;
    char layout[16]; /* NUL-terminated */
    uint32_t version;
    uint32_t header_size;
    uint64_t incompat;
    uint64_t compat;
    uint64_t id; /* as in the directory */
    uint64_t zero;
    uint8_t seed[16]; /* of the hash of keys */
    uint8_t reserved[104];
    uint64_t check; /* over bytes 8 to 183 */
    struct pool_state state;
};

#define POOL_SUMMARY_AT     256 /* bytes from the pool's header */
#define POOL_SUMMARY_MAGIC  0x4d4d55535650534bu /* "KSPVSUMM" */
#define POOL_SUMMARY_GRAINS 30208u

/*
 * In the page of the header: what was so when the pool was closed in order.
 * It counts while clean is 1 and cas is the ceiling, so that what a program
 * that does not know it, or a crash, has left there is not taken for true.
 */
struct pool_summary {
    uint64_t magic;
    uint64_t check; /* over what follows */
    uint64_t cas;
    uint64_t items;
    uint64_t bytes;    /* keys and values of items */
    uint64_t expiring; /* items with an exptime */
    uint64_t grains;   /* that empty[] tells about, from index 0 on */
    uint64_t pieces;   /* of the heap, in use; never more than it has units */
    uint64_t empty[POOL_SUMMARY_GRAINS / 64]; /* a bit each: nothing is in it */
};

static_assert(POOL_SUMMARY_AT + sizeof(struct pool_summary) == POOL_HEADER_SIZE,
              "ends with the page");
static_assert(offsetof(struct region_header, uuid) == 64, "line 1");
static_assert(offsetof(struct region_header, reserved) == 112, "layout");
static_assert(offsetof(struct region_header, check) == 184, "end of line 2");
static_assert(offsetof(struct region_header, size) == 192, "line 3");
static_assert(sizeof(struct region_header) == 256, "four cache lines");
static_assert(offsetof(struct region_slot, name) == 32, "layout");
static_assert(offsetof(struct region_slot, check) == 120, "layout");
static_assert(sizeof(struct region_slot) == 128, "two cache lines");
static_assert(sizeof(struct pool_state) == 64, "one cache line");
static_assert(offsetof(struct pool_header, seed) == 64, "line 1");
static_assert(offsetof(struct pool_header, check) == 184, "end of line 2");
static_assert(offsetof(struct pool_header, state) == 192, "line 3");
static_assert(sizeof(struct pool_header) == 256, "four cache lines");

#endif
