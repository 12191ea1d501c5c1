/*
 * Up to LINK_WATCHERS ids of waiters in one word, 16 bits each; 0 is none.
 */
#ifndef TRANSPORT_WAITER_IDS_H
#define TRANSPORT_WAITER_IDS_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/transport.h"

static inline bool waiter_ids_have(uint64_t ids, unsigned id)
{
    for (; ids != 0; ids >>= 16)
        if ((ids & 0xffff) == id)
            return true;
    return false;
}

/* The others, and `id` behind them if it is on and there is room. */
static inline uint64_t waiter_ids_with(uint64_t ids, unsigned id, bool on)
{
    uint64_t kept = 0;
    int n = 0;

    for (; ids != 0; ids >>= 16)
        if ((ids & 0xffff) != 0 && (ids & 0xffff) != id)
            kept |= (ids & 0xffff) << (16 * n++);
    if (on && n < LINK_WATCHERS)
        kept |= (uint64_t)id << (16 * n);
    return kept;
}

#endif
