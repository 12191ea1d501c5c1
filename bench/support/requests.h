/*
 * Prepared requests and the replies they must bring, one pair for each key,
 * in memcached's text protocol or in redis'. Written once, then read by all
 * threads.
 */
#ifndef BENCH_SUPPORT_REQUESTS_H
#define BENCH_SUPPORT_REQUESTS_H

#include <stddef.h>

struct bytes {
    char *at;
    size_t len;
};

enum protocol { PROTOCOL_MEMCACHED, PROTOCOL_REDIS };

/* The comments say what it is with memcached. */
struct requests {
    unsigned n;          /* keys */
    struct bytes *get;   /* "get <key>\r\n" */
    struct bytes *set;   /* "set <key> 0 0 <len>\r\n<value>\r\n" */
    struct bytes *value; /* "VALUE <key> 0 <len>\r\n<value>\r\nEND\r\n" */
    struct bytes stored; /* "STORED\r\n" */
    char *memory;        /* ours: all of the above */
};

enum {
    REQUESTS_KEY_MIN = 8,
    REQUESTS_KEY_MAX = 250,
    REQUESTS_VALUE_MAX = 1 << 20
};

/*
 * Makes n keys of key_len bytes whose values, value_len bytes each, differ
 * from key to key and from place to place. Dies without memory.
 */
void requests_init(struct requests *r, enum protocol protocol, unsigned n,
                   size_t key_len, size_t value_len);

void requests_fini(struct requests *r);

#endif
