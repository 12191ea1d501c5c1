/*
 * See delay.h. Each thread has its own row of numbers, from its id.
 */
#include "transport/delay.h"

#ifdef FASTSOCK_DELAYS

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SHORT_NS = 100000, LONG_NS = 3000000, LONG_ODDS = 8 };

static __thread uint32_t state __attribute__((tls_model("initial-exec")));

static uint32_t next(void)
{
    if (state == 0)
        state = (uint32_t)syscall(SYS_gettid) * UINT32_C(2654435761) | 1;
    state = state * UINT32_C(1664525) + UINT32_C(1013904223);
    return state >> 8;
}

void delay_here(unsigned odds)
{
    struct timespec t = {0, 0};
    int saved = errno;

    if (next() % odds != 0)
        return;
    t.tv_nsec = (long)(next() % (next() % LONG_ODDS == 0 ? LONG_NS : SHORT_NS));
    syscall(SYS_nanosleep, &t, NULL);
    errno = saved;
}

#endif
