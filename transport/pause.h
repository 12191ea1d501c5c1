/*
 * What depends on the processor: a pause in a spin, a full fence, the clock
 * and the CPU we run on.
 */
#ifndef TRANSPORT_PAUSE_H
#define TRANSPORT_PAUSE_H

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "transport/delay.h"

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* The fence between "I stored" and "I looked" of docs/handover.md, 9. */
static inline void full_fence(void)
{
    delay_here(DELAY_AT_FENCE);
#ifdef __SANITIZE_THREAD__
    /* ThreadSanitizer knows no fences; a locked operation is one, too. */
    static _Atomic int word;

    atomic_fetch_add(&word, 0);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
    delay_here(DELAY_AT_FENCE);
}

/*
 * This line is soon read, or written: its way here from the peer's cache takes
 * as long as a hundred instructions, which need not wait for it.
 */
static inline void expect_read(const void *line)
{
    __builtin_prefetch(line, 0);
}

static inline void expect_write(const void *line)
{
#ifdef __x86_64__
    /* The builtin asks for ownership only with -mprfchw. */
    __asm__ volatile("prefetchw %0" ::"m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

/* Monotonic nanoseconds; no system call. */
static inline uint64_t clock_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What is left until then, for ppoll(2); UINT64_MAX: for ever, NULL. */
static inline const struct timespec *clock_left(uint64_t until_ns,
                                                struct timespec *out)
{
    uint64_t now = clock_ns();

    if (until_ns == UINT64_MAX)
        return NULL;
    now = now < until_ns ? until_ns - now : 0;
    out->tv_sec = (time_t)(now / 1000000000u);
    out->tv_nsec = (long)(now % 1000000000u);
    return out;
}

static inline uint32_t cpu_now(void)
{
    int cpu = sched_getcpu();

    return cpu < 0 ? 0 : (uint32_t)cpu;
}

#endif
