/*
 * Why a stream is where it is: on kernel TCP, accelerated, or broken.
 *
 * The values travel in control records and lie in the statistics segment, so
 * the list only grows, at its end. A value that this build does not know reads
 * as REASON_OTHER everywhere.
 */
#ifndef TRANSPORT_REASON_H
#define TRANSPORT_REASON_H

#include <stdint.h>

enum reason {
    REASON_NONE,
    REASON_YOUNG, /* too few calls or bytes yet to pay for a link */
    REASON_OFF_BY_RULE,
    REASON_OFF_BY_SETTING,
    REASON_SETTINGS_MISTAKE,
    REASON_NOT_TCP,
    REASON_NOT_CONNECTED,
    REASON_OTHER_HOST,
    REASON_NO_PEER_LIBRARY,
    REASON_OTHER_USER,
    REASON_VERSION,
    REASON_NO_MEMORY,
    REASON_LIMIT,
    REASON_MEETING,   /* the rendezvous is under way */
    REASON_BARE_READ, /* a thread sits in a kernel read of this socket */
    REASON_BUSY,
    REASON_HOLD_EXPIRED,
    REASON_HALF_CLOSED,
    REASON_UP,     /* accelerated */
    REASON_WANTED, /* a return to TCP was asked for */
    REASON_FORK,
    REASON_EXEC,
    REASON_PASSED_ON, /* SCM_RIGHTS */
    REASON_STDIO,
    REASON_UNSUPPORTED_CALL,
    REASON_SHARED_AFTER_FORK,
    REASON_NESTED_EPOLL,
    REASON_LINK_BROKEN,
    REASON_PEER_GONE,
    REASON_PEER_RULE, /* the peer broke a bound of the protocol */
    REASON_FOREIGN_BYTES,
    REASON_FOREIGN_READER,
    REASON_FIN_WITHOUT_END,
    REASON_RETURN_TIMEOUT,
    REASON_LEFTOVER, /* bytes left in user memory that a third party needed */
    REASON_SETTLE,   /* waiting before it goes up again */
    REASON_CLOSED,
    REASON_INTERNAL,
    REASON_OTHER,
    REASON_MEMLOCK,       /* RLIMIT_MEMLOCK */
    REASON_NO_DEVICE,     /* of RDMA */
    REASON_NO_ROUTE,      /* of a device to the peer */
    REASON_NO_PROOF,      /* of who the peer is */
    REASON_NO_MODULE,     /* of a transport, or one that cannot be used */
    REASON_ADMINISTRATOR, /* `fastsock down` */
    /* The process did what the library cannot follow: */
    REASON_FILTER,   /* of system calls */
    REASON_UNSHARED, /* another network, user or table of descriptors */
    REASON_IO_URING,
    REASON_COUNT /* how many there are; new ones go before this line */
};

/* What a value from outside stands for. */
enum reason reason_from(uint32_t value);

/* One word for counters and scripts: lower case and underscores. Static. */
const char *reason_token(enum reason reason);

/* What it means, and what can be done where something can. Static. */
const char *reason_sentence(enum reason reason);

#endif
