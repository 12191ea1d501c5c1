/*
 * What the parts of the generator share: how far the program has come, as far
 * as it has to be known so that nothing blocks for ever and the kernel itself
 * says the same each time.
 */
#ifndef TESTS_DIFFERENTIAL_GENERATE_H
#define TESTS_DIFFERENTIAL_GENERATE_H

#include "tests/differential/program.h"

/* Slots by their use; connection k is at k, its duplicate at AGAIN + k. */
enum { AGAIN = 4, LISTENER = 8, SETS = 9, INNER = 10, EVENT = 11, N_SETS = 2 };
enum { NOBODY = CONNS };

struct gen_end {
    bool open, again;    /* its two slots */
    bool kid, kid_again; /* those of the kid */
    bool cloexec, again_cloexec;
    bool nonblock, timed, lowat;
    bool shut_wr, shut_rd;
    int unread; /* bytes that have come */
    int pieces; /* sent and not read: small buffers hold so many */
    bool read_in_background;
};

struct gen_conn {
    bool made, dead; /* dead: errors may come; nothing waits */
    bool full[2];    /* what that end sends does not go through */
    bool may_rise;   /* nothing has forbidden it to leave TCP again */
    struct gen_end end[2];
};

struct gen_set {
    bool made, shared;
    bool nested; /* has been: no edges in it, they may be told once more */
    uint32_t reg[SLOTS]; /* events, 0: not a member */
};

struct gen {
    struct program *p;
    uint64_t chance;
    int conns;
    struct gen_conn conn[CONNS + 1]; /* NOBODY's is never used */
    struct gen_set set[2][N_SETS];
    bool event[2], rung[2], kid[2], image[2], busy[2][WORKERS];
};

uint64_t gen_below(struct gen *g, uint64_t n);
bool gen_chance(struct gen *g, unsigned of_hundred);
/* True when there is room for the step. */
bool gen_emit(struct gen *g, unsigned actor, unsigned op, int a0, int a1,
              int a2, int a3, int a4);
/* A connection that is there, and one of its ends that is open; or
 * NOBODY. */
int gen_pick(struct gen *g, int *end);
/* Would a read of at most that many bytes come back at once? */
bool gen_readable(const struct gen_conn *c, int end);

/* generate_bytes.c */
void gen_connect(struct gen *g);
void gen_send(struct gen *g);
void gen_recv(struct gen *g);
void gen_send_some(struct gen *g, int conn, int end, int len);
void gen_recv_all(struct gen *g, int conn, int end);
void gen_full(struct gen *g);
void gen_sendfile(struct gen *g);
void gen_ask(struct gen *g);
void gen_option(struct gen *g);
void gen_timeout(struct gen *g);

/* generate_wait.c */
void gen_poll(struct gen *g);
void gen_epoll_ctl(struct gen *g);
void gen_nest(struct gen *g);
void gen_epoll_wait(struct gen *g);
void gen_edge(struct gen *g);
void gen_exclusive(struct gen *g);
void gen_event(struct gen *g);
void gen_background(struct gen *g);
void gen_interrupted(struct gen *g);

/* generate.c */
void gen_shutdown(struct gen *g);
void gen_close(struct gen *g);
void gen_dup(struct gen *g);
void gen_kid(struct gen *g);
void gen_spawn(struct gen *g);
void gen_pass(struct gen *g);

#endif
