/*
 * Slots 0 to 127 hold one duration each. Slot (s << 7) + m, m from 128 to
 * 255, holds the 2^s durations that begin with m * 2^s.
 */
#include "bench/support/histogram.h"

#include <string.h>

void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof(*h));
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
    h->n += other->n;
    h->sum += other->sum;
    if (other->max > h->max)
        h->max = other->max;
    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++)
        h->slot[i] += other->slot[i];
}

static double slot_middle(unsigned slot)
{
    unsigned shift;
    uint64_t low;

    if (slot >> HISTOGRAM_BITS == 0)
        return slot;
    shift = (slot >> HISTOGRAM_BITS) - 1;
    low = (uint64_t)(slot - (shift << HISTOGRAM_BITS)) << shift;
    return (double)low + (double)((UINT64_C(1) << shift) - 1) / 2;
}

double histogram_quantile(const struct histogram *h, double q)
{
    uint64_t below = 0;
    double rank = q * (double)h->n;

    for (unsigned i = 0; i < HISTOGRAM_SLOTS; i++) {
        below += h->slot[i];
        if (below > 0 && (double)below >= rank) {
            double middle = slot_middle(i);

            return middle < (double)h->max ? middle : (double)h->max;
        }
    }
    return 0;
}

double histogram_mean(const struct histogram *h)
{
    return h->n ? (double)h->sum / (double)h->n : 0;
}
