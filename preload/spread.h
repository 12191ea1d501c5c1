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

/*
 * Does the link's peer need the CPU that this thread runs on? If it did, and
 * the thread has moved, it does not any more. Any thread; a lock that keeps the
 * link is held.
 */
bool spread_peer_is_here(struct link *link, bool initiator);

#endif
