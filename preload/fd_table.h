/*
 * Descriptor -> what we know about it. One row per number; a number without
 * a row is not ours and costs one load and one branch.
 *
 * Rows are replaced whenever an intercepted call returns a new descriptor;
 * a row that outlived its descriptor is harmless on TCP and is found out by
 * its inode before anything else is done with it.
 */
#ifndef PRELOAD_FD_TABLE_H
#define PRELOAD_FD_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum object_kind { OBJECT_ENDPOINT = 1, OBJECT_EPOLL, OBJECT_OURS };

struct object {
    enum object_kind kind;
    _Atomic bool plain; /* an epoll set in which the kernel does it all */
    _Atomic uint32_t takeovers; /* of a set: out of the kernel, so far */
};

enum { FD_ROWS = 1 << 20 }; /* more numbers than a process may have */

/* Pages of it exist only where rows have been set. */
extern _Atomic(struct object *) fd_rows[FD_ROWS];

static inline struct object *fd_find(int fd)
{
    if (__builtin_expect((unsigned)fd >= FD_ROWS, 0))
        return NULL;
    return atomic_load_explicit(&fd_rows[fd], memory_order_acquire);
}

/*
 * Returns what was there, if nobody is closing it and cares for it. NULL
 * object: forget.
 */
struct object *fd_set_row(int fd, struct object *object);

/* Unless it stands for something else by now. */
void fd_forget(int fd, struct object *object);

/*
 * Whoever closes a number says so first: until the kernel has closed it, it
 * stands for what it was, so that calls of other threads do not go past us.
 * False: it is another's by now, or another thread (or the frame that a handler
 * has interrupted) closes it. The claim ends as the object is taken out of the
 * row, perhaps by a thread that was given the number meanwhile.
 */
bool fd_claim(int fd, struct object *object);
/* It was not closed after all. */
void fd_unclaim(int fd);
bool fd_is_claimed(int fd);
/* In the child of a fork, where nobody goes on closing them: not ours. */
void fd_forget_claimed(void);

/* Rows at and above this number have never been set. */
unsigned fd_rows_used(void);

struct endpoint;
struct epoll_set;

static inline struct endpoint *fd_endpoint(int fd)
{
    struct object *o = fd_find(fd);

    return __builtin_expect(o != NULL, 0) && o->kind == OBJECT_ENDPOINT
               ? (struct endpoint *)o
               : NULL;
}

/* Both numbers are open, and one file. */
bool fd_is_same(int a, int b);

/* A descriptor of the library's own: close() of it is EBADF. */
int ours_keep(int fd);
/* A second one of our own for the same file; fd stays. -errno: there is none.
 */
int ours_copy(int fd);
void ours_close(int fd);
/*
 * Makes the kernel's table long enough for ours, with a descriptor that is
 * open, once. Where threads share it that takes the kernel some 10 ms
 * (synchronize_rcu() in expand_fdtable(), Linux): so before there are threads,
 * if the program lets us.
 */
void ours_make_room(int fd);
/* In between no number becomes one of ours. The result is for the second one:
 * a signal handler that interrupted its own thread in here gets none. */
bool ours_stand(void);
void ours_go_on(bool stood);
/*
 * Around a fork: none of ours is open without its row, or the child would not
 * know that it has it, and keep a connection open that everybody has closed.
 */
void ours_before_fork(void);
void ours_after_fork(bool child);

#endif
