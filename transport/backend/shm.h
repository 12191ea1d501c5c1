/*
 * The same-host transport: rings in shared memory, doorbells, and the
 * rendezvous that finds out whether the other end of a TCP connection
 * carries the library too.
 */
#ifndef TRANSPORT_BACKEND_SHM_H
#define TRANSPORT_BACKEND_SHM_H

#include "transport/backend.h"

extern const struct backend_ops fastsock_backend_shm;

/* For the tests: the abstract name of a meeting, its length returned. */
int meeting_address(const struct connection_name *name, char kind,
                    char out[108]);

#endif
