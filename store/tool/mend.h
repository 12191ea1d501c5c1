/*
 * What the checksum of a header or slot tells about a damaged one. It has two
 * halves, so that one 32-bit word that is wrong can be found and worked out.
 */
#ifndef STORE_TOOL_MEND_H
#define STORE_TOOL_MEND_H

#include <stddef.h>
#include <stdint.h>

enum mend_result {
    MEND_WHOLE, /* nothing was wrong */
    MEND_WORD,  /* one word was wrong, and is right now */
    MEND_CHECK, /* the checksum itself was wrong, and is right now */
    MEND_NONE   /* more is wrong: nothing was changed */
};

/* len bytes, whole words of 4, and their region_sum(). at: offset of the word
 * that was wrong. */
enum mend_result mend_sum(void *bytes, size_t len, uint64_t *check, size_t *at);

#endif
