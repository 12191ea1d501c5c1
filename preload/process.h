/*
 * The one object of the process: settings, tokens, and what happens to it at
 * fork, exec and exit.
 */
#ifndef PRELOAD_PROCESS_H
#define PRELOAD_PROCESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/settings.h"
#include "transport/reach.h"
#include "transport/reason.h"

struct process {
    bool ready;             /* start-up is over and acceleration is wanted */
    _Atomic bool main_left; /* by pthread_exit */
    bool withdrawn;         /* ready no more; our descriptors are still there */
    _Atomic uint32_t leaver; /* the thread that ends it, or 0 */
    struct settings settings;
    char program[64]; /* base name of the executable */
    uint64_t bell_token;
    int ringer;    /* rings everybody's bells; -1 until needed */
    unsigned cpus; /* that this process may use */
    pid_t pid;
    _Atomic int spinners;
    _Atomic int no_ups; /* streams may not leave TCP while it is not 0 */
    /* Streams had to return for a fork or the like; it may happen again at any
     * moment, so from then on they leave TCP with all read. Children, too. */
    _Atomic bool careful;
    _Atomic uint64_t streams_seen, streams_up, returns;
    struct reach reach; /* addresses that lead somewhere */
};

extern struct process process;

/* A child of vfork shares our memory: it must touch nothing. */
extern __thread pid_t vfork_parent __attribute__((tls_model("initial-exec")));
bool process_is_vfork_child(void);

static inline bool in_vfork_child(void)
{
    return __builtin_expect(vfork_parent != 0, 0) && process_is_vfork_child();
}

/* Everything back to TCP because the image or the memory is going away. */
void process_before_exec(enum reason why, bool image_goes);
void process_exec_failed(void);
/* Called by the vfork trampoline: returns libc's vfork to go on in. */
void *fastsock_before_vfork(void);
bool process_closes_by_exec(int fd);
/* A child of ours may hold these sockets: all, or those not close-on-exec. */
void process_share_inherited(bool all);

/* By the thread that ends the process, as the last thing that it does. */
void process_leave(void);
void process_await_end(void);

static inline bool process_ends(void)
{
    return __builtin_expect(
        atomic_load_explicit(&process.leaver, memory_order_relaxed) != 0, 0);
}

/*
 * By a thread that has used a stream, or is about to make a process: if another
 * one ends this process, it does not go on with what it has seen of that.
 */
static inline void process_stop_at_end(void)
{
    if (process_ends())
        process_await_end();
}

uint64_t process_new_token(void);
/* Registers what happens around fork(2). 0 or an errno. */
int process_watch_forks(void);
/* The same, for forks that ask nobody. */
void process_before_fork(void);
void process_after_fork(bool child);
/*
 * The process is about to be where the library cannot follow (a filter of
 * system calls, another network). All streams return; then either the kernel
 * has everything from now on, for ever, or it goes on as before.
 */
void process_before_withdrawal(enum reason why);
void process_withdraw(bool for_ever);
void process_count_cpus(void);

#endif
