/*
 * One suite for every transport: two instances of a backend in one process,
 * as two hosts would have them, and the same cases for each.
 *
 * A program of this folder says which backend it is and how its connections
 * are named, and calls contract_run(). Cases may add what only that backend
 * has.
 */
#ifndef TESTS_CONTRACT_CONTRACT_H
#define TESTS_CONTRACT_CONTRACT_H

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/backend.h"
#include "transport/bell.h"
#include "transport/control_message.h"
#include "transport/pause.h"

enum {
    RING = 4096,
    WAITER = 5,
    MANY = 600,
    KEPT_FROM = 200 /* the lowest descriptor of a backend's */
};

struct contract {
    const struct backend_ops *ops;
    /*
     * Between hosts: a proof counts, somebody has to listen, drain() asks,
     * and a commit is delivered later.
     */
    bool device;
    bool asks; /* the peer what it has said: drain() */
    /* Of connection n of this process; no other process has it. */
    void (*name)(unsigned n, struct connection_name *out);
    /* More than it takes on a slow machine, for something to happen. */
    uint64_t patience_ns;
    int n_links; /* of the case with many */
    void (*more)(TCase *tcase);
};

/* One end of one connection. */
struct party {
    struct meeting meeting;
    struct proof_log proof;
    uint64_t wrote, took;
    bool uncounted;
    struct link *link;
    enum reason why;
    int done, messages, deaths, breaks;
    struct control_message last;
    void (*heard)(struct party *party);
};

struct side {
    struct loop *loop;
    struct backend *backend;
    struct backend_config config;
    int bell; /* of WAITER */
};

extern const struct contract *contract;
extern struct side here, there;
extern uint64_t contract_max_links; /* of sides that start now */
/* left[n] at `here` has connected to right[n] at `there`. */
extern struct party left[MANY], right[MANY];

int contract_run(const char *name, const struct contract *what);
/* Says which cases this transport does not have, and why. */
void contract_skips(const char *cases, const char *why);

void side_start(struct side *s, uint64_t token);
void side_stop(struct side *s);
void turn(int times);
void turn_here(void); /* and not there */
/* Until *n is at least `least`; false when it takes too long. */
bool turn_until(const int *n, int least);
/* A link at either end, started at 0. */
void must_meet(unsigned n);
void party_start(struct party *p, struct side *s, bool initiator, unsigned n);
void drop(struct party *p);
void listen_there(bool on);
/* Looks at landed() until it is `want`. */
void must_land(struct link *link, uint64_t took, uint64_t want);
/* Looks at freed() until it is at least `want`. */
uint64_t must_free(struct link *link, uint64_t before, uint64_t wrote,
                   uint64_t want);
/* Turns and sleeps until the bell rings; how often it did. */
int must_ring(int bell);
uint8_t byte_at(uint64_t off);

void add_link_cases(TCase *tcase);
void add_meeting_cases(TCase *tcase);
void add_thread_cases(TCase *tcase);

#endif
