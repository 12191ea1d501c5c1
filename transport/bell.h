/*
 * Doorbells: what wakes a waiter that sleeps in the kernel.
 *
 * A bell is a datagram socket with an abstract name made of a random token of
 * its process and the waiter's id. Ringing is one send that never blocks, out
 * of a socket of the ringer's own: nothing is shared between processes that a
 * hostile one could fill, shut down or make blocking (an eventfd could, see
 * docs/decisions/0003). A bell that is full rings already. A stray ring costs
 * one empty look.
 */
#ifndef TRANSPORT_BELL_H
#define TRANSPORT_BELL_H

#include <stdatomic.h>
#include <stdint.h>

/* The waiter's end; blocking, close-on-exec. Descriptor or -errno. */
int bell_open(uint64_t token, unsigned waiter);
/* The ringer's end, one for a process. Descriptor or -errno. */
int bell_ringer_open(void);
void bell_ring(int ringer, uint64_t token, unsigned waiter);
/* Nanoseconds that a ring of this process takes of late; 0: none yet. */
extern _Atomic uint32_t bell_ring_ns;
/* Takes all rings. Returns how many there were. */
int bell_drain(int bell);

#endif
