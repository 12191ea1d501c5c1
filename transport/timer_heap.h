/*
 * Timers in the order in which they expire: a pairing heap (Fredman,
 * Sedgewick, Sleator, Tarjan 1986). A timer is embedded in its owner, so
 * nothing is allocated and nothing can fail. One thread.
 */
#ifndef TRANSPORT_TIMER_HEAP_H
#define TRANSPORT_TIMER_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
    uint64_t at_ns; /* monotonic; of an added one */
    void (*expired)(struct timer *timer);
    void *arg;
    /* the heap's own from here on */
    struct timer *child, *next;
    struct timer *prev; /* of a first child its parent */
    bool added;
};

/* *heap is the first to expire; NULL: none. */
void timer_heap_put(struct timer **heap, struct timer *timer);
/* Nothing happens to one that is not in it. */
void timer_heap_remove(struct timer **heap, struct timer *timer);

#endif
