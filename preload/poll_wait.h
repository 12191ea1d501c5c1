/*
 * poll(2) over descriptors of which some are managed streams.
 */
#ifndef PRELOAD_POLL_WAIT_H
#define PRELOAD_POLL_WAIT_H

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Is any of them an endpoint at all? If not the kernel does it all. */
bool poll_has_endpoints(struct pollfd *fds, nfds_t n);

/*
 * As ppoll(2); timeout_ns -1 is for ever. Result: number of descriptors with
 * revents, or -errno. Handles bare streams too.
 */
int poll_wait(struct pollfd *fds, nfds_t n, int64_t timeout_ns,
              const sigset_t *mask);

#endif
