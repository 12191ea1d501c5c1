/*
 * The statistics segment of another process, read without believing it.
 *
 * What segment_head() and segment_row() give back is a copy that was judged:
 * numbers are in range, strings end and are printable. Whatever the writer
 * does meanwhile, nothing here loops longer or reads further than its bounds.
 */
#ifndef PRELOAD_FASTSOCK_SEGMENT_H
#define PRELOAD_FASTSOCK_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "preload/stats_layout.h"
#include "transport/reason.h"

struct segment {
    const void *at; /* a read-only mapping of stats_size() bytes, ours */
    unsigned rows;  /* as the writer made them, at most STATS_ROWS */
};

struct segment_head {
    uint32_t pid; /* as the process itself sees it */
    char program[sizeof(((struct stats_header *)0)->program) + 1];
    uint64_t started_ns;
    uint64_t streams_seen, streams_up, returns, broken, unlisted;
    enum reason withdrawn; /* REASON_NONE: it has not */
    uint64_t closed_out, closed_in, closed_link_out, closed_link_in;
    uint64_t sleeps, spins_hit, spins_missed, spun_in_vain_ns, bells;
    uint32_t spinners, spin_budget_ns, cpu_quota;
};

struct segment_name { /* one end of a connection */
    uint8_t address[16];
    uint16_t port;
};

struct segment_row {
    unsigned fd;
    unsigned stage; /* of stats_stage_name() */
    enum reason reason, last_return;
    uint64_t since_ns, opened_ns; /* CLOCK_MONOTONIC */
    int family;                   /* 4 or 6; 0: the names are not known */
    struct segment_name local, peer;
    bool initiator;
    uint32_t peer_pid; /* 0: not known */
    uint32_t ups, returns;
    uint64_t tcp_out, tcp_in, link_out, link_in; /* bytes */
    enum reason not_over[STATS_TRANSPORTS];      /* REASON_NONE: not tried */
    char transport[sizeof(((struct stats_row *)0)->transport) + 1];
};

/*
 * Maps the segment; fd stays the caller's. -EPROTONOSUPPORT: made by another
 * release; -EAGAIN: its process is still making it; -EPROTO: not a segment;
 * else as memory_check() and memory_map().
 */
int segment_open(int fd, struct segment *segment);
void segment_close(struct segment *segment);

void segment_head(const struct segment *segment, struct segment_head *out);

/* Rows beyond this index are free. Asked once, it bounds a loop. */
unsigned segment_highest(const struct segment *segment);

/* False: the row is free, was reused meanwhile, or holds nonsense. */
bool segment_row(const struct segment *segment, unsigned i,
                 struct segment_row *out);

/* text, of at most size bytes, as printable ASCII; ends within size + 1. */
void segment_printable(const char *text, size_t size, char *out);

#endif
