/*
 * Where threads race: a moment's sleep now and then, in a library that is
 * built to be tested so (make DELAYS=1 check-delays). Else there is nothing.
 */
#ifndef TRANSPORT_DELAY_H
#define TRANSPORT_DELAY_H

enum { DELAY_AT_FENCE = 16, DELAY_AT_LOCK = 64 };

#ifdef FASTSOCK_DELAYS
/* One time in so many; mostly below 0.1 ms, at most 3 ms. Keeps errno. */
void delay_here(unsigned odds);
#else
static inline void delay_here(unsigned odds)
{
    (void)odds;
}
#endif

#endif
