/*
 * Counts durations in log-linear slots: 128 slots for each power of two, so
 * that a percentile is wrong by less than 0.8 %, whatever its size. Adding
 * one costs a few nanoseconds and no memory. Not for two threads at once.
 */
#ifndef BENCH_SUPPORT_HISTOGRAM_H
#define BENCH_SUPPORT_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_BITS = 7,        /* log2 of the slots for a power of two */
    HISTOGRAM_VALUE_BITS = 40, /* longer durations count as 2^40 - 1 ns */
    HISTOGRAM_SLOTS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_BITS + 1)
                      << HISTOGRAM_BITS
};

struct histogram {
    uint64_t n;
    uint64_t sum; /* ns */
    uint64_t max; /* ns, exact */
    uint64_t slot[HISTOGRAM_SLOTS];
};

static inline unsigned histogram_slot(uint64_t ns)
{
    unsigned shift;

    if (ns >> HISTOGRAM_BITS == 0)
        return (unsigned)ns;
    if (ns >> HISTOGRAM_VALUE_BITS != 0)
        return HISTOGRAM_SLOTS - 1;
    shift = 63 - (unsigned)__builtin_clzll(ns) - HISTOGRAM_BITS;
    return (shift << HISTOGRAM_BITS) + (unsigned)(ns >> shift);
}

static inline void histogram_add(struct histogram *h, uint64_t ns, uint64_t n)
{
    h->n += n;
    h->sum += ns * n;
    if (ns > h->max)
        h->max = ns;
    h->slot[histogram_slot(ns)] += n;
}

void histogram_clear(struct histogram *h);

/* Adds all that other has counted. */
void histogram_merge(struct histogram *h, const struct histogram *other);

/*
 * The duration that the share q (0 to 1) of all durations does not exceed,
 * as the middle of its slot; 0 when nothing was counted.
 */
double histogram_quantile(const struct histogram *h, double q);

double histogram_mean(const struct histogram *h);

#endif
