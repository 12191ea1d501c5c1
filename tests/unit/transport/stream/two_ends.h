/*
 * Both ends of one stream in one process, over a fake kernel and a fake wire:
 * for each end an application that writes and reads numbered bytes, and an
 * owner that does what preload's helper does.
 *
 * Every byte read is compared with what the other end wrote at that offset;
 * the first wrong one fails the test.
 */
#ifndef TESTS_UNIT_TRANSPORT_STREAM_TWO_ENDS_H
#define TESTS_UNIT_TRANSPORT_STREAM_TWO_ENDS_H

#include "tests/support/fake_kernel.h"
#include "tests/support/fake_transport.h"
#include "transport/stream/stream.h"

enum bare_read { BARE_NONE, BARE_INSIDE, BARE_UNCOUNTED };

struct two_ends;

struct end {
    struct stream stream; /* first */
    struct stream_bytes bytes;
    struct two_ends *pair;
    int side, fd;
    unsigned wakes, kicks;
    bool told_managed;

    uint64_t wrote, took; /* as the application counts */
    bool eof;             /* read() gave 0 */
    int read_error, write_error;
    bool shut;            /* shutdown(SHUT_WR) was called */
    bool closing, closed; /* close() was called; it is done */
    bool leaving, gone;   /* exit() was called; no process any more */
    enum bare_read bare;
    size_t bare_got;
    enum reason refuse; /* the owner answers PROPOSE with BUSY and this */
    bool no_up;         /* the owner proposes nothing by itself */
    struct stream_calls calls;
    _Atomic bool careful; /* its process may fork or the like */
    bool stays;           /* its owner wants it on TCP */
};

struct two_ends {
    struct end end[2]; /* 0 called connect() */
    struct fake_wire wire;
    bool knows_dead[2];
    const char *wrong; /* set once a promise was broken */
};

struct two_ends_settings {
    struct fake_tcp_settings tcp;
    uint32_t ring;
    bool link_by_hand, device;
    unsigned careful; /* 1: the end that connects, 2: the other */
    uint64_t seed;
};

void two_ends_start(struct two_ends *t, const struct two_ends_settings *s);

/* The application. Bytes, 0 for end of file, -errno; STREAM_HELD is told. */
ssize_t end_write(struct end *e, size_t n);
ssize_t end_read(struct end *e, size_t n);
/* The same in steps: the kernel's read is entered, returns, is counted. */
void end_bare_step(struct end *e);
int end_shutdown(struct end *e);
void end_close(struct end *e);
void end_exit(struct end *e); /* dies when it may */
void end_kill(struct end *e);
bool end_is_alive(const struct end *e);

/* The owner: one turn of the helper for this end. True: something moved. */
bool end_help(struct end *e);
void end_notice_dead_channel(struct end *e);

/* All that is under way arrives, until nothing moves. */
void two_ends_settle(struct two_ends *t);
/* Bytes land when they are told to, and only the test proposes. */
void two_ends_start_by_hand(struct two_ends *t, uint32_t ring);
/* Proposes and settles; both are up afterwards, or the test fails. */
void two_ends_go_up(struct two_ends *t);
/* Writes n bytes at end `from` and reads them at the other. */
void two_ends_talk(struct two_ends *t, int from, size_t n);
/*
 * Every application writes up to `total` bytes, shuts down and reads until
 * end of file or error. False: they got stuck.
 */
bool two_ends_finish(struct two_ends *t, uint64_t total);
const char *two_ends_where(const struct two_ends *t);

uint8_t two_ends_byte(int side, uint64_t off);

#endif
