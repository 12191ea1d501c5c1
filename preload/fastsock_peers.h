/*
 * Every stream of every process that can be read, to find who sits at the
 * other end of one of them.
 */
#ifndef PRELOAD_FASTSOCK_PEERS_H
#define PRELOAD_FASTSOCK_PEERS_H

#include <stddef.h>

#include "preload/fastsock_target.h"

struct peer {
    pid_t pid;
    char program[sizeof(((struct segment_head *)0)->program)];
    char network[sizeof(((struct target *)0)->network)];
    struct segment_row row;
};

struct peers {
    struct peer *peer; /* sorted by their names */
    size_t n, room;
};

/* Reads the whole machine; what does not fit into memory is left out. */
void peers_read(struct peers *peers);
void peers_free(struct peers *peers);

/*
 * The other end of that stream of target: the names swapped, in the same
 * network namespace. Borrowed, or NULL.
 */
const struct peer *peers_find(const struct peers *peers,
                              const struct target *target,
                              const struct segment_row *row);

#endif
