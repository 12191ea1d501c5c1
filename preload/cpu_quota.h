/*
 * The CPU time that control groups allow this process: cpu.max of version 2,
 * cpu.cfs_quota_us of version 1 (cgroups(7), the kernel's cgroup-v2.rst).
 */
#ifndef PRELOAD_CPU_QUOTA_H
#define PRELOAD_CPU_QUOTA_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

/* A file's beginning as a string; its size, or below 0. */
typedef long cpu_quota_reader(void *arg, const char *path, char *buf,
                              size_t size);

enum { CPU_QUOTA_TEXT = 16384, CPU_QUOTA_PATH = 4096 };

struct cpu_quota {
    unsigned percent;          /* of a CPU; UINT_MAX: no limit */
    uint64_t period_us;        /* in which so much may be used */
    char stat[CPU_QUOTA_PATH]; /* cpu.stat of the group that has the limit */
    char text[CPU_QUOTA_TEXT], path[CPU_QUOTA_PATH]; /* to work with */
};

/*
 * The least of the process' group and of those above it. Threads: each with an
 * `out` of its own.
 */
void cpu_quota_find(cpu_quota_reader *reader, void *arg, struct cpu_quota *out);

struct cpu_quota_use {
    uint64_t throttled; /* periods in which the group was stopped, so far */
    uint64_t used_usec; /* of all in the group; 0: version 1 does not tell */
};

/* The text of a cpu.stat. */
void cpu_quota_parse_stat(const char *text, struct cpu_quota_use *out);

#endif
