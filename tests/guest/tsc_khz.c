/*
 * Prints how many thousand times per second this machine's time-stamp counter
 * counts. The guest, whose counter is the same one, cannot find out by itself
 * while other work delays it.
 *
 * Both clocks are read as close together as happens in many tries, so that
 * being interrupted between them does no harm.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define TRIES 100

struct moment {
    int64_t ns;
    uint64_t ticks;
};

static int64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static struct moment moment_now(void)
{
    struct moment best = {0};
    uint64_t narrowest = UINT64_MAX;
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = __rdtsc();
        int64_t ns = now();
        uint64_t after = __rdtsc();
        if (after - before >= narrowest)
            continue;
        narrowest = after - before;
        best = (struct moment){ns, before + narrowest / 2};
    }
    return best;
}

int main(void)
{
    struct moment first = moment_now();
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    struct moment last = moment_now();
    double ms = (double)(last.ns - first.ns) / 1e6;
    printf("%.0f\n", (double)(last.ticks - first.ticks) / ms);
    return 0;
}
