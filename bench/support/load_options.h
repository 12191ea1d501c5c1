/*
 * What the program load can be told on its command line.
 */
#ifndef BENCH_SUPPORT_LOAD_OPTIONS_H
#define BENCH_SUPPORT_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/support/requests.h"

enum { LOAD_THREADS_MAX = 64, LOAD_CONNS_MAX = 20000 };
enum wait_mode { WAIT_READ, WAIT_EPOLL, WAIT_SELF };

struct load_options {
    const char *host;
    const char *port;
    enum protocol protocol;
    unsigned threads;
    unsigned conns; /* of the whole process */
    unsigned idle;  /* more of them, which have moved bytes and now rest */
    unsigned gap;   /* us of work between an answer and the next request */
    unsigned depth;
    unsigned keys;
    unsigned key_len;
    unsigned value_len;
    unsigned get_percent;
    enum wait_mode mode;
    double warm_seconds;
    double seconds;
    uint64_t requests; /* 0: as many as fit into seconds */
    pid_t server;      /* 0: not checked, its processor time not counted */
    int cpus[LOAD_THREADS_MAX];
    unsigned n_cpus;
    bool json;
};

/* Sets the defaults, then what argv says; ends the program on a mistake. */
void load_options_parse(struct load_options *o, int argc, char **argv);

#endif
