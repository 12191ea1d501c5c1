/*
 * The RDMA transport, a module of its own: it needs libibverbs and librdmacm,
 * which libfastsock.so does not.
 *
 * A forked child must neither use an instance of its parent's nor create one:
 * librdmacm keeps the parent's devices open in it. After an exec all is new.
 * Rights given up after create() close the devices for good: meetings then
 * fail with REASON_LIMIT.
 */
#ifndef TRANSPORT_BACKEND_VERBS_H
#define TRANSPORT_BACKEND_VERBS_H

#include "transport/backend.h"

extern const struct backend_ops fastsock_backend_verbs
    __attribute__((visibility("default")));

#endif
