/* The kinds of damage that a pool can have, and what each of them means. */
#ifndef STORE_TOOL_DAMAGE_H
#define STORE_TOOL_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

enum damage_kind {
    DAMAGE_HEADER,
    DAMAGE_SIZE,
    DAMAGE_TRUNCATED,
    DAMAGE_SLOT,
    DAMAGE_GRAINS,
    DAMAGE_POOL,
    DAMAGE_STATE,
    DAMAGE_SUMMARY,
    DAMAGE_TABLE,
    DAMAGE_OWNER,
    DAMAGE_ENTRY,
    DAMAGE_KEY,
    DAMAGE_TWICE,
    DAMAGE_EXTENT,
    DAMAGE_CHAIN,
    DAMAGE_OVERLAP,
    DAMAGE_STRAY,
    DAMAGE_KINDS
};

/* One damage; its texts are borrowed for the call that tells it. */
struct damage {
    enum damage_kind kind;
    uint64_t at;      /* offset in the file */
    const char *pool; /* its name, or NULL */
    const char *what; /* a sentence: what is wrong */
    const char *mend; /* what repair does; NULL: it can do nothing */
    unsigned items;   /* that are lost by it */
};

/* A word for scripts; a sentence for people. */
const char *damage_name(enum damage_kind kind);
const char *damage_meaning(enum damage_kind kind);

#endif
