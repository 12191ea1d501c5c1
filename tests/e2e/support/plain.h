/*
 * What the end-to-end programs share: ordinary sockets, bytes that say where
 * they belong, and limits. Nothing here knows of the library.
 *
 * Whatever fails that the test does not expect to fail ends the program with
 * status 2 and a line on standard error.
 */
#ifndef TESTS_E2E_SUPPORT_PLAIN_H
#define TESTS_E2E_SUPPORT_PLAIN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

_Noreturn void die(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Dies after so many seconds, times $SLOW, and with its parent. */
void time_limit(unsigned seconds);

/*
 * Closes what this program was started with beyond the standard ones, so that
 * numbers are the same wherever it runs.
 */
void close_inherited(void);

/* A reproducible stream of numbers. */
uint64_t next_random(uint64_t *state);
/* 0 <= result < n */
uint64_t random_below(uint64_t *state, uint64_t n);

/* The byte at each offset of a stream is a function of seed and offset. */
void pattern_fill(uint64_t seed, uint64_t off, void *buf, size_t len);
/* The index of the first byte that is not in its place, or -1. */
ssize_t pattern_check(uint64_t seed, uint64_t off, const void *buf, size_t len);
uint64_t bytes_hash(const void *buf, size_t len);

/* family: "4", "6", or "mapped" (IPv4 seen from IPv6 sockets). */
/* "6", or "4" where there is no ::1, as in many containers. */
const char *six_if_here(void);
int tcp_listen(const char *family, uint16_t *port);
int tcp_connect(const char *family, uint16_t port);
/* Both ends of one connection; flags are socket(2)'s. */
void tcp_pair(const char *family, int flags, int *client, int *server);

void make_nonblocking(int fd);
/* The highest descriptor below this number that is not open; 0 if all are. */
int not_open_below(int number);
/* What the kernel's TCP was given to send, in bytes, each counted once. */
uint64_t kernel_sent(int fd);
/* Waits until that many bytes can be read, 2 s at most; the last count. */
int wait_unread(int fd, int n);
/* Until poll says one of these, an error or a hang-up of it, 2 s at most. */
void wait_events(int fd, short events);
void sleep_ms(unsigned ms);
/* Time for the library to move a stream; $E2E_PATIENCE times as long. */
void time_to_move(void);
/*
 * Under the library, words to and fro until TCP carries them no more; dies if
 * that never is. `other` is the other end, or -1 if somebody echoes there what
 * comes, four bytes at a time.
 */
void until_moved(int fd, int other);
uint64_t now_ms(void);
uint64_t now_us(void);

/* "EAGAIN" and so on, for transcripts. */
const char *error_name(int error);

/* fork(), with the time limit and the parent's death in the child. */
pid_t fork_limited(unsigned seconds);
/* Waits for a child and returns its status; dies if it was killed. */
int child_status(pid_t pid);

/* Runs a program that does nothing: accelerated streams return to TCP. */
void spawn_true(void);

#endif
