/*
 * A program of the differential tester: a list of steps, each made by one
 * actor, one after the other. As text it is one step per line, "#" begins a
 * comment, and the first lines may say how the program is to be run:
 *
 *     family 6            # 4 (default), 6, or 46: IPv4 seen from IPv6 sockets
 *     loose               # streams may move at any time: reads add up, and
 *                         # an edge may be told once more
 *     break 3 0           # in the mode "breaks": the client's link breaks at
 *                         # its third operation, the server's never
 *     c connect 0 0
 *     s accept 0 9 0 accept4 nonblock
 *     c send 0 writev 100
 *     s recv 0 recv 50 peek|dontwait
 *
 * Descriptors are slots, numbered in each process; connections are numbered in
 * the program. The table of steps in program.c has every step's arguments.
 */
#ifndef TESTS_DIFFERENTIAL_PROGRAM_H
#define TESTS_DIFFERENTIAL_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { STEPS_MOST = 160, ARGS_MOST = 6, SLOTS = 12, CONNS = 4, WORKERS = 2 };

/* Processes come first: an actor below PROCESSES is a process's main thread. */
enum actor_number {
    CLIENT,
    SERVER,
    CLIENT_KID,
    SERVER_KID,
    PROCESSES,
    CLIENT_1 = PROCESSES, /* threads: what they do they do in the background */
    CLIENT_2,
    SERVER_1,
    SERVER_2,
    ACTORS
};

enum op {
    OP_LISTEN,
    OP_CONNECT,
    OP_ACCEPT,
    OP_UP,
    OP_SEND,
    OP_RECV,
    OP_FILL,
    OP_DRAIN,
    OP_SENDFILE,
    OP_SHUTDOWN,
    OP_CLOSE,
    OP_DUP,
    OP_NONBLOCK,
    OP_FLAGS,
    OP_NAMES,
    OP_UNREAD,
    OP_SETOPT,
    OP_GETOPT,
    OP_POLL,
    OP_EPOLL_NEW,
    OP_EPOLL_ADD,
    OP_EPOLL_MOD,
    OP_EPOLL_DEL,
    OP_EPOLL_WAIT,
    OP_EVENT_NEW,
    OP_EVENT_RING,
    OP_EVENT_TAKE,
    OP_FORK,
    OP_EXIT,
    OP_IMAGE,
    OP_SPAWN,
    OP_PASS,
    OP_RECEIVE,
    OP_HANDLER,
    OP_SIGNAL,
    OP_JOIN,
    OP_PAUSE,
    OPS
};

enum {
    BY_WRITE,
    BY_WRITEV,
    BY_SEND,
    BY_SENDTO,
    BY_SENDMSG,
    BY_SENDMMSG,
    BY_SENDTO_NUMBER, /* by syscall() */
    SEND_CALLS
};
enum {
    BY_READ,
    BY_READV,
    BY_RECV,
    BY_RECVFROM,
    BY_RECVMSG,
    BY_RECVMMSG,
    BY_RECVFROM_NUMBER,
    RECV_CALLS
};
enum { BY_POLL, BY_PPOLL, BY_SELECT, BY_PSELECT };
enum { BY_WAIT, BY_PWAIT, BY_PWAIT2 };
enum { BY_DUP, BY_DUP2, BY_DUPFD };
enum { BY_ACCEPT, BY_ACCEPT4 };
enum { BY_EXIT, BY__EXIT, BY_KILL };
enum { BY_POSIX_SPAWN, BY_SYSTEM, BY_VFORK };
enum { BY_FCNTL, BY_IOCTL };

enum {
    OPT_RCVTIMEO,
    OPT_SNDTIMEO,
    OPT_LINGER,
    OPT_RCVLOWAT,
    OPT_ERROR,
    OPT_TYPE,
    OPT_ACCEPTCONN,
    OPTS
};

struct step {
    uint8_t actor, op;
    int32_t arg[ARGS_MOST];
};

struct program {
    uint64_t seed;
    uint32_t family; /* 4, 6, 46 */
    uint32_t loose;
    uint32_t break_at[2]; /* of client and server; 0: never */
    uint32_t n;
    struct step step[STEPS_MOST];
};

/* The process whose actor this is, and the number of its thread or -1. */
unsigned actor_process(unsigned actor);
int actor_worker(unsigned actor);

void program_init(struct program *p);
/* False, and a line on standard error, when the text makes no sense. */
bool program_read(struct program *p, FILE *file, const char *name);
void program_write(const struct program *p, FILE *file);
/* One step as a line without its end. */
void step_text(const struct step *s, char *out, size_t size);
const char *actor_name(unsigned actor);

/* For transcripts: "in|out" and the like, of EPOLL* and POLL* bits. */
void events_text(uint32_t events, char *out, size_t size);

/* A program that is the same for the same seed. */
void program_generate(struct program *p, uint64_t seed);

#endif
