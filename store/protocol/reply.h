/*
 * Replies of the memcached text protocol, as memcached 1.6.18 words them.
 * Pure: bytes into the caller's memory, which always has room as stated.
 */
#ifndef STORE_PROTOCOL_REPLY_H
#define STORE_PROTOCOL_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reply_text {
    REPLY_STORED,
    REPLY_NOT_STORED,
    REPLY_EXISTS,
    REPLY_NOT_FOUND,
    REPLY_DELETED,
    REPLY_TOUCHED,
    REPLY_OK,
    REPLY_END,
    REPLY_RESET,
    REPLY_ERROR,
    REPLY_BAD_FORMAT,
    REPLY_BAD_CHUNK,
    REPLY_BAD_DELTA,
    REPLY_BAD_EXPTIME,
    REPLY_BAD_DELETE,
    REPLY_NOT_NUMBER,
    REPLY_TOO_LARGE,
    REPLY_NO_MEMORY_STORING,
    REPLY_NO_MEMORY,
    REPLY_NO_SHUTDOWN,
    REPLY_BAD_SHUTDOWN,
    REPLY_NO_FLUSH,
    REPLY_BAD_DETAIL,
    REPLY_BAD_LINE,
    REPLY_BAD_SLAB,
    REPLY_TOO_MANY,
    REPLY_N_TEXTS
};

/* The whole line with its end; *len is its bytes. Never freed. */
const char *reply_text(enum reply_text text, size_t *len);

#define REPLY_VALUE_MAX  320 /* bytes reply_value() may write */
#define REPLY_NUMBER_MAX 22  /* bytes reply_number() may write */

/* "VALUE key flags len[ cas]\r\n" into out; returns its bytes. cas is written
 * when with_cas. key_len is at most 250. */
size_t reply_value(char *out, const char *key, size_t key_len, uint32_t flags,
                   uint32_t len, bool with_cas, uint64_t cas);

/* "number\r\n" into out; returns its bytes. */
size_t reply_number(char *out, uint64_t number);

#endif
