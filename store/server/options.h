/*
 * The command line of kvserver: memcached 1.6.18's options, and the pool.
 */
#ifndef STORE_SERVER_OPTIONS_H
#define STORE_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "store/engine/engine.h"

#define OPTIONS_LISTEN_MAX 64
#define OPTIONS_VERSION    "0.1.0"
#define OPTIONS_PROTOCOL   "1.6.18" /* what `version` answers */

struct options {
    int port;                               /* -1: any free one */
    const char *listen[OPTIONS_LISTEN_MAX]; /* as given, lists split */
    unsigned n_listen;                      /* 0: every address */
    const char *unix_path;                  /* NULL: none */
    unsigned unix_mask;                     /* mode bits of the socket */
    uint64_t memory;                        /* bytes, -m */
    uint64_t item_max;                      /* bytes, -I */
    unsigned max_connections;
    unsigned backlog;
    unsigned threads;
    unsigned requests_per_event;
    int verbosity;
    bool evict;
    bool shutdown_allowed;
    bool flush_allowed;
    bool dump_allowed;
    bool refuse_fast; /* -o maxconns_fast: refuse instead of letting wait */
    bool daemon;
    bool lock_memory;
    const char *user;     /* NULL: stay who we are */
    const char *pid_file; /* NULL: none */
    char pool[4096];      /* path of the pool file */
    uint64_t pool_size;   /* bytes; 0: not given, -m says */
    enum kv_durability durability;
    char ignored[256]; /* options without effect here, for -v */
};

/*
 * argv into *options. -1: go on; else the exit status: everything there is to
 * say has been printed to out (help, version) or err (one line: what was
 * expected). The strings belong to argv and *options.
 */
int options_parse(struct options *options, int argc, char **argv, FILE *out,
                  FILE *err);

/* The text of -h. */
extern const char options_help[];

#endif
