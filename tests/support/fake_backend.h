/*
 * Two backends over the wires of fake_transport.h, for instances that live in
 * one process: they find each other, meet and get wires as over a transport
 * of the library, each in its own loop.
 *
 * "fake" is memory as within a host. "fake device" is as between hosts: what
 * is committed lands when the other end's loop turns, who the peer is is
 * proved by the first bytes, and the accepting end has to listen.
 *
 * All instances of a kind have the same link_events.
 */
#ifndef TESTS_SUPPORT_FAKE_BACKEND_H
#define TESTS_SUPPORT_FAKE_BACKEND_H

#include "tests/support/fake_transport.h"
#include "transport/backend.h"

extern const struct backend_ops fake_backend, fake_device_backend;

/* The wire that a link of theirs is an end of. */
struct fake_wire *fake_wire_of(struct link *link);
/* Nothing lands on it any more; both owners are told by their loops. */
void fake_wire_break(struct fake_wire *w);

#endif
