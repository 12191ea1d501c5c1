/*
 * One thread that serves connections from one pool: an epoll loop, its engine,
 * its clock, its counters. Nothing is shared with other shards.
 *
 * A turn of the loop: wait; read and execute what has come, at most one read
 * per connection; one commit for all of it; then the replies. So a reply is
 * never sent before what it acknowledges is durable.
 */
#ifndef STORE_SERVER_SHARD_H
#define STORE_SERVER_SHARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <time.h>

#include "store/engine/engine.h"
#include "store/server/acceptor.h"
#include "store/server/byte_queue.h"
#include "store/server/counters.h"
#include "store/server/options.h"

struct connection;
TAILQ_HEAD(connection_list, connection);

enum shard_stop {
    SHARD_RUNS,
    SHARD_STOPS_GRACEFULLY, /* finish what is under way, accept nothing */
    SHARD_STOPS
};

struct shard {
    struct kv *kv; /* borrowed */
    const struct options *options;
    struct acceptor *acceptor; /* borrowed */
    int epoll_fd;
    int signal_fd; /* borrowed; -1: none */
    uint32_t now;  /* unix seconds, of this turn */
    uint32_t started;
    enum shard_stop stop;
    bool behind;        /* the pool is not done with its open */
    uint32_t paused_at; /* unix seconds: accepting was paused last */
    uint32_t stop_by;   /* unix seconds: end of a graceful stop */
    int verbosity;
    bool failed;          /* the pool has failed */
    uint64_t reserved;    /* bytes reserved for values under way */
    uint64_t reserve_max; /* bytes */
    uint64_t inline_max;  /* bytes; longer values go straight to the pool */
    unsigned n_connections;
    struct connection_list all;
    struct connection_list again; /* to be executed without an event */
    struct connection_list flush; /* to be written after the commit */
    struct connection_list dead;  /* to be freed at the end of the turn */
    struct counters counters;
    struct block_pool blocks;
    char input[BLOCK_SIZE]; /* what the current connection has sent */
};

/* 0 or -errno. kv, acceptor and options are borrowed until shard_fini();
 * signal_fd delivers INT, TERM (stop) and USR1 (stop gracefully). */
int shard_init(struct shard *shard, struct kv *kv, struct acceptor *acceptor,
               const struct options *options, int signal_fd);
void shard_fini(struct shard *shard);

/* Serve until told to stop: 0, or -errno when it cannot go on. */
int shard_run(struct shard *shard);

/* One turn; waits at most timeout_ms, -1 for ever. 0 or -errno. */
int shard_turn(struct shard *shard, int timeout_ms);

#endif
