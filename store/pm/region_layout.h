/*
 * The first page of a pool file. docs/pm-layout.md says it in words.
 *
 * Lines 0 to 2 never change once the magic says that the pool is finished;
 * line 3 is written by the engine that has the pool open, word by word. All
 * numbers are little endian. A change of any field is a new REGION_VERSION or
 * a feature bit.
 */
#ifndef STORE_PM_REGION_LAYOUT_H
#define STORE_PM_REGION_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_MAGIC          0x4c4f4f504b535346u /* "FSSKPOOL" */
#define REGION_MAGIC_UNBUILT  0x444c495542535346u /* "FSSBUILD" */
#define REGION_LAYOUT         "fastsock-kv"
#define REGION_VERSION        1u
#define REGION_KNOWN_INCOMPAT 0ull /* feature bits we can work with */
#define REGION_HEADER_SIZE    4096u
#define REGION_ENTRY          64u /* bytes of a table entry */
#define REGION_PLACES_MIN     128u
#define REGION_PLACES_MAX     ((uint64_t)1 << 31)
#define REGION_CEILING_MAX    ((uint64_t)1 << 62) /* of cas ids */

/* Two of them, so that one can be written while the other one counts. */
struct region_flush {
    uint64_t mark; /* items with a cas below it are gone */
    uint64_t when; /* unix seconds of a flush to come, 0 = none */
};

/* The words that change. One writer: the engine. */
struct region_state {
    uint64_t clean;       /* 1: closed in order, 0: in use or crashed */
    uint64_t opener;      /* pid; means something only while locked */
    uint64_t cas_ceiling; /* every cas id ever given is below it */
    uint64_t flush_live;  /* 0 or 1: which of flush[] counts; commit word */
    struct region_flush flush[2];
};

struct region_part {
    uint64_t offset; /* from the start of the file, whole cache lines */
    uint64_t size;   /* bytes */
};

struct region_header {
    uint64_t magic;
    char layout[16]; /* NUL-terminated */
    uint32_t version;
    uint32_t header_size;
    uint64_t incompat; /* features a program must know to open the pool */
    uint64_t compat;   /* features it may ignore */
    uint64_t size;     /* bytes of the pool */
    uint64_t created;  /* unix seconds */
    uint8_t uuid[16];
    uint8_t seed[16]; /* of the hash of keys */
    struct region_part table;
    struct region_part heap;
    uint8_t reserved[56];
    uint64_t check; /* over bytes 8 to 183 */
    struct region_state state;
};

static_assert(sizeof(struct region_state) == 64, "one cache line");
static_assert(offsetof(struct region_header, uuid) == 64, "line 1");
static_assert(offsetof(struct region_header, reserved) == 128, "line 2");
static_assert(offsetof(struct region_header, check) == 184, "end of line 2");
static_assert(offsetof(struct region_header, state) == 192, "line 3");
static_assert(sizeof(struct region_header) == 256, "four cache lines");

#endif
