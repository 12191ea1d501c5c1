/*
 * The RDMA transport, a module of its own: it needs libibverbs and librdmacm,
 * which libfastsock.so does not.
 */
#ifndef TRANSPORT_BACKEND_VERBS_H
#define TRANSPORT_BACKEND_VERBS_H

#include "transport/backend.h"

extern const struct backend_ops fastsock_backend_verbs
    __attribute__((visibility("default")));

#endif
