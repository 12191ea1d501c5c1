/*
 * Signals that are held while a call that may wait looks at its streams.
 *
 * The kernel ends a wait with EINTR when a handler has run in it. A handler
 * that ran while we look, or between two of our sleeps, would leave the next
 * sleep uninterrupted; so signals are held from the first look of a call to
 * its end, except in its sleeps. Those that tell of a mistake of the thread
 * itself (SIGSEGV and its like) are never held.
 *
 * Only signals that have a handler are: one that is ignored would wait while it
 * is blocked, and end the next sleep. What the program itself has blocked
 * stays so.
 *
 * One of these belongs to one call in one thread. Initialise to zeroes.
 */
#ifndef PRELOAD_HELD_SIGNALS_H
#define PRELOAD_HELD_SIGNALS_H

#include <signal.h>
#include <stdbool.h>

struct held_signals {
    bool on;
    unsigned long mask; /* the application's, while ours is in force */
    unsigned long some; /* what we have added to it */
};

/*
 * Nothing if they are held already, or if there is no handler to hold. If other
 * signals have one by now, these are held instead.
 */
void signals_hold(struct held_signals *held);
/* The mask to sleep with: the caller's own, or the application's. */
const sigset_t *signals_mask(const struct held_signals *held,
                             const sigset_t *own);
/* Is one held back that the application neither blocks nor ignores? */
bool signals_wait(const struct held_signals *held);
/* Their handlers run now. Nothing if they are not held. */
void signals_release(struct held_signals *held);

#endif
