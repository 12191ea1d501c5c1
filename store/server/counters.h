/*
 * What a shard counts for `stats`. Written by its thread only; `stats reset`
 * clears them all but what counts connections that are open.
 */
#ifndef STORE_SERVER_COUNTERS_H
#define STORE_SERVER_COUNTERS_H

#include <stdint.h>

struct counters {
    uint64_t total_connections;
    uint64_t rejected_connections;
    uint64_t listen_disabled; /* times accepting was paused */
    uint64_t cmd_get, cmd_set, cmd_flush, cmd_touch;
    uint64_t get_hits, get_misses;
    uint64_t delete_hits, delete_misses;
    uint64_t incr_hits, incr_misses;
    uint64_t decr_hits, decr_misses;
    uint64_t cas_hits, cas_misses, cas_badval;
    uint64_t touch_hits, touch_misses;
    uint64_t too_large, no_memory;
    uint64_t bytes_read, bytes_written;
    uint64_t yields; /* a connection was put off to the next turn */
};

#endif
