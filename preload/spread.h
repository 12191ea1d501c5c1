/*
 * The setting `spread`: a thread that waits where its peer runs moves away.
 *
 * While it spins on that CPU nobody answers, and the scheduler, which sees two
 * busy threads, may leave them there although other CPUs are free. Only the end
 * that called connect() moves, so that the two do not follow each other.
 */
#ifndef PRELOAD_SPREAD_H
#define PRELOAD_SPREAD_H

#include <stdbool.h>

#include "transport/transport.h"

enum spread_place { SPREAD_APART, SPREAD_TOGETHER, SPREAD_MAY_LEAVE };

/*
 * Where the link's peer last ran, seen from the CPU of this thread. Any thread;
 * a lock that keeps the link is held.
 */
enum spread_place spread_look(struct link *link, bool initiator);

/*
 * Does that peer need this CPU? If it did, and the thread has moved, it does
 * not any more. A move waits for the scheduler: without locks.
 */
bool spread_is_here(enum spread_place place);

#endif
