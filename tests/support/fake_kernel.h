/*
 * TCP connections in memory, for tests of what runs on top of them.
 *
 * A connection has two ends, named by numbers that look like descriptors. In
 * each direction bytes are written, delivered, and read:
 *
 *     [ read .. arrived )  in the receiver's buffer    FIONREAD
 *     [ arrived .. written )  still on the sender's side    SIOCOUTQ
 *
 * By default all that is written is delivered at once; a test that delivers
 * by hand decides when, and how many. As in Linux: FIN comes after the last
 * byte; RST throws away what was not delivered and leaves what was; a close
 * with unread bytes or with SO_LINGER {1,0} is a reset; bytes that reach an
 * end that is closed, or shut down both ways, are answered by one.
 *
 * One test at a time, one thread: the connections are static.
 */
#ifndef TESTS_SUPPORT_FAKE_KERNEL_H
#define TESTS_SUPPORT_FAKE_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/stream/kernel_calls.h"

extern const struct tcp_calls fake_tcp_calls;

struct fake_tcp_settings {
    size_t buffer;         /* bytes written and unread per direction */
    bool by_hand;          /* nothing is delivered until the test does it */
    unsigned interrupts;   /* of 256 calls that move bytes: EINTR */
    unsigned again;        /* of 256 calls that move bytes: EAGAIN */
    unsigned short_writes; /* of 256 writes: only a part is taken */
};

/* Forgets every connection. seed: of all chance in the fake. */
void fake_tcp_start(const struct fake_tcp_settings *settings, uint64_t seed);
struct fake_tcp_settings *fake_tcp_settings(void);

/* fd[0] called connect(), fd[1] accepted. */
void fake_tcp_connect(int fd[2]);
/* The last descriptor is closed, or the last holder has died. */
void fake_tcp_close(int fd);

/* Moves up to n bytes, or what stands behind them, to the other end. */
size_t fake_tcp_deliver(int from, size_t n);
/* Bytes and FIN or RST that fake_tcp_deliver() could still move. */
size_t fake_tcp_under_way(int from);

/* Somebody else writes to, or reads from, this end. */
void fake_tcp_foreign_write(int fd, const void *bytes, size_t n);
size_t fake_tcp_foreign_read(int fd, void *bytes, size_t n);

/* Looks from outside, without a side effect. */
size_t fake_tcp_unread(int fd);
const uint8_t *fake_tcp_queue(int from, size_t *n);
bool fake_tcp_said_fin(int fd);
bool fake_tcp_was_reset(int fd);

/* The clock of fake_tcp_calls. */
void fake_clock_advance(uint64_t ns);

/* The tests' generator of chance. */
uint64_t fake_random(uint64_t *state);

#endif
