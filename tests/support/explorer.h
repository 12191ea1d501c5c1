/*
 * Every order of events: two ends run handover.c against each other over
 * queues, and each event that is possible in a state is tried, down to the
 * last. The same idea as docs/model/both.pml, but it is the code itself that
 * is explored.
 *
 * Bytes are their own offsets, so "lost, repeated or out of order" is one
 * comparison. A hold may expire at any moment, the link may break, the channel
 * may die with or without what is on it, which the ends notice at different
 * times, and each end may want to return at any moment. A state in which
 * nothing can happen is only allowed when both have seen the end of file.
 *
 * Where an end is careful from the start, neither may ever have agreed to a
 * moment with bytes before it that nobody has read.
 */
#ifndef TESTS_SUPPORT_EXPLORER_H
#define TESTS_SUPPORT_EXPLORER_H

#include <stdbool.h>

struct explored {
    unsigned bytes, epochs;  /* per direction; at most */
    bool breaks, dies;       /* the link; the channel */
    bool careful[2], become; /* from the start; or from some moment on */
    unsigned long least;     /* states that there must be */
};

/* Fails the test with the way to the first state that is wrong. */
void explore_all(const struct explored *what);

#endif
