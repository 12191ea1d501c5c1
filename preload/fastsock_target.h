/*
 * One process as the fastsock command sees it, through /proc alone.
 *
 * A process may die at any moment: then what was not read yet is missing and
 * nothing else happens.
 */
#ifndef PRELOAD_FASTSOCK_TARGET_H
#define PRELOAD_FASTSOCK_TARGET_H

#include <stdbool.h>
#include <sys/types.h>

#include "preload/fastsock_segment.h"

enum target_state {
    TARGET_OPEN,          /* the segment is mapped */
    TARGET_NO_SEGMENT,    /* no library, or no connected socket so far */
    TARGET_OTHER_RELEASE, /* a library that this command does not know */
    TARGET_DAMAGED,       /* something that is no segment under its name */
    TARGET_UNREADABLE,
    TARGET_GONE /* or a thread of the kernel */
};

struct target_socket;

struct target {
    pid_t pid;
    enum target_state state;
    struct segment segment;
    uint64_t inode; /* of its file */
    struct segment_head head;
    char network[64];              /* which network namespace; "" unknown */
    struct target_socket *sockets; /* of that namespace, when first needed */
    size_t n_sockets;
    bool sockets_read;
};

/* Whatever it returns, target_close() follows. */
enum target_state target_open(pid_t pid, struct target *target);
void target_close(struct target *target);

/* As segment_row(), with names from /proc where the row has none yet. */
bool target_row(struct target *target, unsigned i, struct segment_row *out);

/*
 * Opens every process but our own in turn and closes it afterwards. 0 or
 * -errno when /proc cannot be read.
 */
int target_each(void (*each)(void *arg, struct target *target), void *arg);

/* Has the library in memory, whether or not there is a segment. */
bool target_carries_library(pid_t pid);

/* It was started with an LD_PRELOAD that names the library. */
bool target_was_asked(pid_t pid);

/* It has an io_uring open: the library has withdrawn from it. */
bool target_has_ring(pid_t pid);

/* A filter of system calls is on it, whoever installed that. */
bool target_is_filtered(pid_t pid);

/* The name in /proc/PID/comm, or "?". Returns buf. */
const char *target_name(pid_t pid, char *buf, size_t size);

#endif
