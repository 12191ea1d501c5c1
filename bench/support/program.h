/*
 * What every measuring program needs around its measurement: ending with a
 * message, options, processors, processor time, figures on standard output.
 */
#ifndef BENCH_SUPPORT_PROGRAM_H
#define BENCH_SUPPORT_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* One measured number; name carries its unit ("p50_ns"). */
struct figure {
    const char *name; /* borrowed until printed */
    double value;
};

/* Monotonic, shared by all processes of this machine; no system call. */
static inline uint64_t program_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Prints "program: message" on standard error and exits with 1. */
void program_die(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

/*
 * text as a whole number between min and max, in decimal; dies with the
 * option's name and its bounds otherwise.
 */
long program_number(char option, const char *text, long min, long max);

/* The same for seconds, with a fraction. */
double program_seconds(char option, const char *text, double min, double max);

/* Allows as many descriptors as the machine lets this user have. */
void program_all_descriptors(void);

/* Keeps the calling thread on cpu; dies when the machine forbids it. */
void program_pin(int cpu);

/* Processor time used so far by all threads of pid (0: the caller itself),
 * in nanoseconds; 0 when it cannot be read. */
uint64_t program_cpu_ns(pid_t pid);

void program_sleep_ns(uint64_t ns);

/* Waits for a child; dies, naming what, unless it exited with 0. */
void program_reap(pid_t child, const char *what);

/* One line of JSON, or one line for each figure. */
void program_print(const struct figure *figures, size_t n, bool json);

#endif
