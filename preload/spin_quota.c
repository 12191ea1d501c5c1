/*
 * See spin_quota.h.
 */
#include "preload/spin_quota.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "preload/cpu_quota.h"
#include "preload/stats.h"
#include "transport/kernel_calls.h"

enum {
    STEPS = 5,
    EACH_LEAST_NS = 5000000,
    EACH_MOST_NS = 200000000,
    LOOK_AGAIN = 256,       /* steps: the limit may be another */
    WITHOUT_NS = 1000000000 /* between two looks if there is none */
};

_Atomic int64_t spin_quota_allowed = INT64_MAX;
_Atomic uint64_t spin_quota_next_ns;

/* Of the one thread that looks. */
static _Atomic bool looking;
static struct cpu_quota quota;
static struct spin_share share;
static unsigned steps;

static long read_file(void *arg, const char *path, char *buf, size_t size)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                          O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    size_t have = 0;
    long n;

    (void)arg;
    if (fd < 0)
        return -1;
    do {
        n = syscall(SYS_read, fd, buf + have, size - 1 - have);
        have += n > 0 ? (size_t)n : 0;
    } while (n > 0 && have < size - 1);
    kernel_close(fd);
    buf[have] = '\0';
    return (long)have;
}

uint64_t spin_share_step(struct spin_share *s, uint64_t now_ns,
                         uint64_t used_ns, uint64_t throttled)
{
    uint64_t aim = s->limit_ns - s->limit_ns / 4;
    uint64_t passed = now_ns - s->at_ns, used = used_ns - s->used_ns;

    if (s->at_ns == 0 || passed == 0 || used_ns < s->used_ns) {
        s->share_ns = 0; /* the first one, or a child of a fork */
    } else if (throttled != s->throttled) {
        s->share_ns /= 2;
    } else {
        used = (uint64_t)((double)used * (double)s->each_ns / (double)passed);
        if (used <= aim)
            s->share_ns += (aim - used) / 4;
        else
            s->share_ns -=
                (used - aim) / 4 < s->share_ns ? (used - aim) / 4 : s->share_ns;
        if (s->share_ns > aim)
            s->share_ns = aim;
    }
    s->at_ns = now_ns;
    s->used_ns = used_ns;
    s->throttled = throttled;
    return s->share_ns;
}

static void find_limit(void)
{
    uint64_t each_ns;

    cpu_quota_find(read_file, NULL, &quota);
    if (quota.percent == UINT_MAX) {
        share = (struct spin_share){.limit_ns = 0};
        stats_cpu_quota(0);
        return;
    }
    each_ns = quota.period_us < EACH_MOST_NS / 1000 * STEPS
                  ? quota.period_us * 1000 / STEPS
                  : EACH_MOST_NS;
    if (each_ns < EACH_LEAST_NS)
        each_ns = EACH_LEAST_NS;
    share.each_ns = each_ns;
    share.limit_ns = each_ns * quota.percent / 100;
    stats_cpu_quota(quota.percent == 0 ? 1 : quota.percent);
}

/* Of the group; version 1 tells of it elsewhere, and of us alone it is known.
 */
static uint64_t use_so_far(uint64_t *throttled)
{
    struct cpu_quota_use use = {0, 0};
    struct timespec t;

    if (read_file(NULL, quota.stat, quota.text, sizeof(quota.text)) > 0)
        cpu_quota_parse_stat(quota.text, &use);
    *throttled = use.throttled;
    if (use.used_usec != 0)
        return use.used_usec * 1000;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void spin_quota_after_fork(void)
{
    atomic_store(&looking, false);
    atomic_store(&spin_quota_next_ns, 0);
    share.at_ns = 0;
    steps = 0; /* the new statistics are to have it, too */
}

void spin_quota_look(uint64_t now_ns)
{
    int error = errno;
    uint64_t throttled, used;

    if (atomic_exchange(&looking, true))
        return;
    if (steps++ % LOOK_AGAIN == 0 || quota.percent == UINT_MAX)
        find_limit();
    if (quota.percent == UINT_MAX) {
        atomic_store(&spin_quota_allowed, INT64_MAX);
        atomic_store(&spin_quota_next_ns, now_ns + WITHOUT_NS);
    } else {
        used = use_so_far(&throttled);
        atomic_store(&spin_quota_allowed,
                     (int64_t)spin_share_step(&share, now_ns, used, throttled));
        atomic_store(&spin_quota_next_ns, now_ns + share.each_ns);
    }
    atomic_store(&looking, false);
    errno = error;
}
