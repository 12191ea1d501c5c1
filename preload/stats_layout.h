/*
 * The statistics segment: what the fastsock command reads.
 *
 * One memory file per process ("memfd:fastsock.stats", found through
 * /proc/PID/fd by whoever may look there), written by the process alone. The
 * reader maps it read only and believes nothing: every index and string is
 * bounded. A row is written without a lock; its numbers are right one by one.
 */
#ifndef PRELOAD_STATS_LAYOUT_H
#define PRELOAD_STATS_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define STATS_MAGIC UINT64_C(0x3154415453534146) /* "FASSTAT1" */
#define STATS_NAME  "fastsock.stats"

enum { STATS_VERSION = 1, STATS_ROWS = 16384, STATS_TRANSPORTS = 4 };

struct stats_row {
    _Atomic uint32_t used; /* 1: a stream; 0: free */
    uint32_t fd;
    uint32_t stage;     /* enum handover_stage: stats_stage_name() */
    uint32_t reason;    /* enum reason: why it is where it is */
    uint64_t since_ns;  /* CLOCK_MONOTONIC of the last change */
    uint64_t opened_ns; /* CLOCK_MONOTONIC */
    uint8_t family;     /* 4 or 6; 0 not known yet */
    uint8_t initiator;  /* this end called connect() */
    uint16_t local_port, peer_port;
    uint8_t local[16], peer[16];
    uint8_t reserved0[2];
    uint32_t peer_pid;
    uint32_t ups, returns;    /* epochs begun, epochs ended */
    uint32_t last_return;     /* enum reason */
    _Atomic uint64_t out, in; /* bytes of the application, all carriers */
    _Atomic uint64_t link_out, link_in;  /* of those over links */
    char transport[8];                   /* "tcp", "shm" */
    uint32_t not_over[STATS_TRANSPORTS]; /* enum reason of the last try */
    uint8_t reserved[112];
};
static_assert(sizeof(struct stats_row) == 256, "four lines");

struct stats_header {
    uint64_t magic;
    uint32_t version, rows;
    uint32_t pid, highest; /* rows below this index may be used */
    uint64_t started_ns;
    char program[64];
    _Atomic uint64_t streams_seen; /* connected sockets, ever */
    _Atomic uint64_t streams_up;   /* times a stream left TCP */
    _Atomic uint64_t returns;      /* times one came back */
    _Atomic uint64_t broken;       /* streams that ended in a reset by us */
    /* of streams that are closed; the rows have those that are open */
    _Atomic uint64_t closed_out, closed_in, closed_link_out, closed_link_in;
    _Atomic uint64_t unlisted; /* streams without a row */
    _Atomic uint64_t sleeps, spins_hit, spins_missed, bells;
    _Atomic uint64_t banished;  /* brought back for good by what was called */
    _Atomic uint32_t withdrawn; /* enum reason: why nothing is accelerated */
    _Atomic uint32_t spinners;  /* threads that spin just now */
    _Atomic uint32_t spin_budget_ns; /* of the last one that did, from then */
    _Atomic uint32_t cpu_quota; /* of the control group, 1/100 CPU; 0: none */
    _Atomic uint64_t spun_in_vain_ns; /* in all spins_missed */
    uint8_t reserved[4096 - 232];
};
static_assert(sizeof(struct stats_header) == 4096, "one page");

enum { STATS_STAGE_RAW = 0, STATS_STAGE_UP = 6, STATS_STAGE_DEAD = 9 };

static inline uint64_t stats_size(void)
{
    return sizeof(struct stats_header) +
           (uint64_t)STATS_ROWS * sizeof(struct stats_row);
}

/* The transport at that place of not_over; NULL: none yet. Static. */
static inline const char *stats_transport_name(unsigned i)
{
    static const char *const names[STATS_TRANSPORTS] = {"shm", "verbs"};

    return i < STATS_TRANSPORTS ? names[i] : NULL;
}

/* For a reader that does not look into transport/stream/. Static. */
static inline const char *stats_stage_name(uint32_t stage)
{
    static const char *const names[STATS_STAGE_DEAD + 1] = {
        "raw",     "proposed", "accepted", "cancelled", "switched",
        "gave-up", "up",       "frozen",   "repeat",    "dead",
    };

    return stage <= STATS_STAGE_DEAD ? names[stage] : "?";
}

#endif
