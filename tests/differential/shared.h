/*
 * What the runner and the actors of a pair share: the program, whose turn it
 * is, and what each step came to. One memory file per pair; the actors are
 * processes (client, server, their kids) that map it.
 */
#ifndef TESTS_DIFFERENTIAL_SHARED_H
#define TESTS_DIFFERENTIAL_SHARED_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/differential/program.h"

enum mode {
    MODE_KERNEL, /* no library: what is expected */
    MODE_BOTH,   /* both ends under the library */
    MODE_CLIENT, /* one end */
    MODE_SERVER,
    MODE_BREAKS, /* both ends, and links that break */
    MODES
};

enum { VALUES = 16, STRANGE = VALUES - 1 };

/* What a step came to. `rc` and `err` as a call returns them. */
struct outcome {
    uint32_t done;
    int32_t err; /* errno, or 0 */
    int64_t rc;
    int64_t wrong;       /* first byte that is not the sender's, -1: none */
    int32_t pipes;       /* SIGPIPE, how often */
    int32_t early;       /* a time-out that came too early */
    int64_t val[VALUES]; /* the step's own */
    uint32_t done_at;    /* of a thread's: 1 + the step after which */
};

enum slot_kind { SLOT_NONE, SLOT_CONN, SLOT_LISTEN, SLOT_EPOLL, SLOT_EVENT };

struct slot {
    int32_t fd; /* -1: none */
    int32_t kind, conn, end;
    uint32_t reg[SLOTS]; /* of an epoll set: events by slot */
};

/* Bytes of both directions; index: the end that sends. */
struct conn {
    uint64_t sent[2], took[2];
    int32_t holders[2]; /* descriptors in all processes */
    uint32_t closed[2]; /* no holder left */
    uint32_t shut[2];   /* shutdown() of what that end sends */
    uint32_t acked[2];  /* the kernel told that this was acknowledged */
    uint32_t deaf[2];   /* shutdown() of what that end reads */
    uint32_t ended[2];  /* a deaf end was told by itself that the other shut */
    uint32_t reset[2];  /* bytes of that direction may be lost */
    uint64_t filled[2]; /* bytes that `fill` wrote and `drain` reads */
};

enum worker_state { WORKER_IDLE, WORKER_GIVEN, WORKER_INSIDE, WORKER_DONE };

struct worker_slot {
    _Atomic uint32_t state;
    int32_t tid;
    uint32_t step;
};

struct shared {
    _Atomic uint32_t round;    /* a new program: client and server begin */
    _Atomic uint32_t finished; /* of them, with this one */
    _Atomic uint32_t turn;     /* the step under way */
    _Atomic uint32_t stop;     /* 1 + the first step that differs */
    uint32_t mode, slow;
    struct program program;
    struct outcome expected[STEPS_MOST], seen[STEPS_MOST];
    /* tcpi_state before each step, as the process that makes it sees it */
    uint8_t expected_state[STEPS_MOST][CONNS][2];
    uint8_t state[STEPS_MOST][CONNS][2];
    /* bytes that end had taken by then, also by a read still under way */
    int64_t expected_taken[STEPS_MOST][CONNS][2];
    int64_t taken[STEPS_MOST][CONNS][2];

    uint16_t port;
    uint32_t moved;     /* streams have been sent back to TCP */
    int32_t kid_pid[2]; /* 0: none */
    struct {
        int32_t conn, end, kind;
    } passing[2]; /* under way to the kid */
    struct slot slot[PROCESSES][SLOTS];
    struct conn conn[CONNS];
    struct worker_slot worker[2][WORKERS];

    /* counters of this program */
    _Atomic uint32_t ups, link_bytes, breaks, not_up;
    _Atomic uint32_t added_up, edges_again, tries;
};

static inline void futex_wait(_Atomic uint32_t *at, uint32_t seen, int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};

    syscall(SYS_futex, at, FUTEX_WAIT, seen, ms < 0 ? NULL : &t, NULL, 0);
}

static inline void futex_wake_all(_Atomic uint32_t *at)
{
    syscall(SYS_futex, at, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#endif
