/*
 * What epoll_set.c (membership) and epoll_wait.c (events) share.
 */
#ifndef PRELOAD_EPOLL_PRIVATE_H
#define PRELOAD_EPOLL_PRIVATE_H

#include "preload/epoll_set.h"
#include "transport/lock.h"

struct epoll_peer {
    struct peer *peer; /* a reference is held */
    unsigned regs;
    bool wakes; /* by a descriptor: peer_wake_fd() */
};

struct epoll_set {
    struct object object; /* first */
    int epfd;
    struct lock lock;
    _Atomic unsigned n_managed;
    _Atomic bool bell_in; /* the bell is in the kernel's set */
    int wake_fd;          /* and this, which devices wake by; -1: none */
    _Atomic bool nested;  /* the kernel alone; see epoll_set_nest() */
    _Atomic bool promote; /* some reg has `promote` set */
    struct waiter *waiter;
    uint64_t poll_ns;
    struct epoll_reg *regs; /* all, under the registry lock */
    struct epoll_reg **hot; /* looked at each time */
    unsigned n_hot, hot_size, rotate;
    struct epoll_peer *peers;
    unsigned n_peers;
    int sleepers;   /* threads */
    bool contended; /* a stream was being changed during the last look */
    unsigned hits;  /* user-level events since the kernel was asked */
    struct epoll_set *next;
};

extern const char epoll_bell_cookie, epoll_wake_cookie;

void epoll_registry_lock(void);
void epoll_registry_unlock(void);

/* Set lock held. */
void epoll_make_hot(struct epoll_set *set, struct epoll_reg *reg);
void epoll_make_cold(struct epoll_set *set, struct epoll_reg *reg);

#endif
