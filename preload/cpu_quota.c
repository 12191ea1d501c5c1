/*
 * See cpu_quota.h.
 */
#include "preload/cpu_quota.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "max 100000", "150000 100000", or "-1" and "100000" of version 1. */
static void set_least(struct cpu_quota *least, const char *quota,
                      const char *period, const char *root, const char *group)
{
    unsigned long long allowed, each;
    unsigned percent;

    if (sscanf(quota, "%llu", &allowed) != 1 || strchr(quota, '-') != NULL ||
        sscanf(period, "%llu", &each) != 1 || each == 0 ||
        allowed > ULLONG_MAX / 100 || allowed * 100 / each >= UINT_MAX)
        return;
    percent = (unsigned)(allowed * 100 / each);
    if (percent > least->percent)
        return; /* of equal ones the upper group is stopped first */
    least->percent = percent;
    least->period_us = each;
    snprintf(least->stat, sizeof(least->stat), "%s%s/cpu.stat", root, group);
}

/* Is "cpu" one of "cpu,cpuacct"? Up to a colon. */
static const char *path_if_cpu(const char *controllers)
{
    for (const char *at = controllers; *at != '\0' && *at != '\n'; at++) {
        size_t n = strcspn(at, ",:\n");

        if (n == 3 && memcmp(at, "cpu", 3) == 0)
            return strchr(at, ':');
        at += n;
        if (*at != ',')
            break;
    }
    return NULL;
}

/* The path of the process' group, cut at the line's end; NULL: none. */
static char *group_of(char *text, bool second)
{
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        const char *path = NULL;

        line += *line == '\n';
        if (second) {
            path = strncmp(line, "0::", 3) == 0 ? line + 2 : NULL;
        } else if (strchr(line, ':') != NULL) {
            path = path_if_cpu(strchr(line, ':') + 1);
        }
        if (path != NULL && path[1] == '/') {
            char *group = line + (path + 1 - line);

            group[strcspn(group, "\n")] = '\0';
            return group;
        }
    }
    return NULL;
}

static void look_at(cpu_quota_reader *reader, void *arg, const char *group,
                    bool second, struct cpu_quota *out)
{
    const char *root = second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
    char quota[64], period[64];
    const char *each = period;

    snprintf(out->path, sizeof(out->path), "%s%s/%s", root, group,
             second ? "cpu.max" : "cpu.cfs_quota_us");
    if (reader(arg, out->path, quota, sizeof(quota)) <= 0)
        return;
    if (second) {
        each = strchr(quota, ' ');
    } else {
        snprintf(out->path, sizeof(out->path), "%s%s/cpu.cfs_period_us", root,
                 group);
        if (reader(arg, out->path, period, sizeof(period)) <= 0)
            return;
    }
    if (each != NULL)
        set_least(out, quota, each, root, group);
}

void cpu_quota_find(cpu_quota_reader *reader, void *arg, struct cpu_quota *out)
{
    out->percent = UINT_MAX;
    out->period_us = 0;
    out->stat[0] = '\0';
    for (int second = 0; second < 2; second++) {
        char *group;

        if (reader(arg, "/proc/self/cgroup", out->text, sizeof(out->text)) <= 0)
            return;
        group = group_of(out->text, second);
        while (group != NULL) {
            if (group[strlen(group) - (*group != '\0')] == '/')
                group[strlen(group) - 1] = '\0'; /* the root group */
            look_at(reader, arg, group, second, out);
            if (strrchr(group, '/') == NULL)
                break;
            *strrchr(group, '/') = '\0';
        }
    }
}

static uint64_t number_after(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, word, n) == 0 && line[n] == ' ')
            return strtoull(line + n, NULL, 10);
    }
    return 0;
}

void cpu_quota_parse_stat(const char *text, struct cpu_quota_use *out)
{
    out->throttled = number_after(text, "nr_throttled");
    out->used_usec = number_after(text, "usage_usec");
}
