/*
 * Who else holds a connection, or an epoll set: processes that came out of one
 * another by fork.
 *
 * A connection that several of them hold stays on TCP. How many there are is
 * counted in memory that the family shares, so the last holder knows that it
 * is alone and may leave TCP again: the child of a server that forks for each
 * connection, once its parent has closed it; the server, once its child has
 * become another program that does not get the connection. A holder that ends
 * in another way, as one that is killed, is found out when somebody looks.
 */
#ifndef PRELOAD_FAMILY_H
#define PRELOAD_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

/* In what is counted. */
struct holding {
    _Atomic uint32_t place; /* in the family's count of holders; 0: none */
    uint32_t exec_place;    /* the same during an exec; see family_execs() */
};

/* In the parent, before the child is made: one holder more. The child then says
 * family_forked(), after members_forked(). */
void family_grows(struct holding *h);
/* Counted by family_grows(), and not alone for all that is known. */
bool family_counts(const struct holding *h);
/* This process has closed it. */
void family_leave(struct holding *h);
/*
 * This thread is about to run another program, for which the kernel closes
 * the connection: counted out once that program runs, if this is true. If it
 * does not run: _failed, by the same thread. At most FAMILY_EXECS at once: the
 * kernel looks at 2,048 mutexes of a thread, the application's among them.
 */
enum { FAMILY_EXECS = 1024 };
bool family_execs(struct holding *h);
void family_exec_failed(struct holding *h);
void family_forked(struct holding *h);
/* Nobody else has it any more; from then on it is not counted. */
bool family_is_alone(struct holding *h);

#endif
