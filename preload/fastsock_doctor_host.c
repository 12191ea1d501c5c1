/*
 * What all transports stand on: the settings, the CPUs, the kernel.
 */
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "preload/cpu_quota.h"
#include "preload/fastsock_doctor.h"
#include "preload/fastsock_tree.h"

enum { LIST_LAST = 65535 };

static void say_settings(struct doctor *d)
{
    const struct settings *s = d->settings;
    const char *file = s->config_path[0] != '\0' ? s->config_path : "no file";

    if (!s->accelerate)
        doctor_say(d, DOCTOR_HINT, "settings",
                   "accelerate is false (%s): all connections stay on TCP "
                   "until it is true",
                   file);
    else
        doctor_say(d, DOCTOR_OK, "settings", "transports is %s (%s)",
                   s->transports, file);
}

unsigned doctor_count_list(const char *list)
{
    unsigned n = 0;

    for (;;) {
        char *end;
        unsigned long low, high;

        if (*list < '0' || *list > '9')
            return 0;
        low = high = strtoul(list, &end, 10);
        if (*end == '-') {
            if (end[1] < '0' || end[1] > '9')
                return 0;
            high = strtoul(end + 1, &end, 10);
        }
        if (low > high || high > LIST_LAST)
            return 0;
        n += (unsigned)(high - low) + 1;
        if (n > LIST_LAST)
            return 0;
        if (*end != ',')
            return *end == '\0' ? n : 0;
        list = end + 1;
    }
}

static unsigned count_cpus(struct doctor *d)
{
    char list[1024];
    cpu_set_t set;

    CPU_ZERO(&set);
    if (!doctor_live(d)) {
        tree_line(d->root, "/sys/devices/system/cpu/online", list,
                  sizeof(list));
        return doctor_count_list(list);
    }
    return sched_getaffinity(0, sizeof(set), &set) == 0
               ? (unsigned)CPU_COUNT(&set)
               : 0;
}

static long read_in_tree(void *arg, const char *path, char *buf, size_t size)
{
    const struct doctor *d = arg;

    return tree_text(d->root, path, buf, size);
}

static void say_cpus(struct doctor *d)
{
    char limit[64] = "no limit in cpu.max";
    unsigned cpus = count_cpus(d);
    static struct cpu_quota quota;

    cpu_quota_find(read_in_tree, d, &quota);
    if (quota.percent != UINT_MAX)
        snprintf(limit, sizeof(limit), "cpu.max allows %u.%02u",
                 quota.percent / 100, quota.percent % 100);
    if (cpus == 0)
        doctor_say(d, DOCTOR_HINT, "cpus", "their number is not known; %s",
                   limit);
    else if (cpus == 1)
        doctor_say(d, DOCTOR_HINT, "cpus",
                   "1 CPU may be used, %s: a thread that spins may keep its "
                   "peer from running; try poll_usec=0, or give it more "
                   "(taskset, cpuset.cpus)",
                   limit);
    else if (quota.percent < 200)
        doctor_say(
            d, DOCTOR_HINT, "cpus",
            "%u CPUs may be used, but %s: threads spin only with what is "
            "left of that; raise cpu.max for lower latency",
            cpus, limit);
    else
        doctor_say(d, DOCTOR_OK, "cpus", "%u may be used, %s", cpus, limit);
}

static void say_kernel(struct doctor *d)
{
    char release[64];
    unsigned major, minor;

    if (tree_line(d->root, "/proc/sys/kernel/osrelease", release,
                  sizeof(release)) <= 0 ||
        sscanf(release, "%3u.%3u", &major, &minor) != 2) {
        doctor_say(d, DOCTOR_HINT, "kernel",
                   "its version cannot be read from "
                   "/proc/sys/kernel/osrelease: mount /proc");
        return;
    }
    if (major > 3 || (major == 3 && minor >= 17)) {
        doctor_say(d, DOCTOR_OK, "kernel",
                   "Linux %s; 3.17 or later is needed, and no membarrier",
                   release);
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "kernel",
               "Linux %s has no sealed memory files: 3.17 or later is needed",
               release);
    doctor_lacks(&d->shm, "Linux %s is older than 3.17", release);
}

void doctor_examine_host(struct doctor *d)
{
    say_settings(d);
    say_kernel(d);
    say_cpus(d);
}
