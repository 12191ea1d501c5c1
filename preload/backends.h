/*
 * The transports of this process: those that are built in, and modules, which
 * are opened when a stream first needs one.
 *
 * A module is libfastsock-NAME.so beside the library itself. It is opened by
 * the helper thread, never in a program that runs with more rights than its
 * caller, and only where a device for it is there.
 */
#ifndef PRELOAD_BACKENDS_H
#define PRELOAD_BACKENDS_H

#include <stdbool.h>

#include "transport/backend.h"

/* At start-up, after the settings: may one between hosts ever be used? */
void backends_look(void);

/*
 * The same with devices below another root, with modules in another folder
 * (NULL: the library's), and as if the program had more rights than its caller.
 */
void backends_look_in(const char *root, const char *modules, bool secure);

/*
 * Set by backends_look(), then read only: the first bytes of a stream are kept
 * and addresses that accept are made known.
 */
extern bool backends_between_hosts;

/* ---- the helper thread alone ---- */

/* All are made with these; the config is copied. */
void backends_start(struct loop *loop, const struct backend_config *config,
                    const struct link_events *events);

/*
 * The transport at *at of the list "shm,verbs" for a connection of that name;
 * *at moves on to the next. NULL: it cannot be had, and *why says why; or,
 * with REASON_NONE, the list has ended. No module is opened for a connection
 * between loopback addresses, which no device has.
 */
struct backend *backends_next(const char **at,
                              const struct connection_name *name,
                              enum reason *why);

/* Does it ask who the peer is? Else the kernel vouches for it. */
bool backend_needs_proof(const struct backend *backend);

/* In the child of a fork: those of the parent are forgotten as they are. */
void backends_after_fork(void);

#endif
