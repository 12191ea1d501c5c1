/* Spins take what the limit on CPU time leaves over, and nothing else. */
#include "preload/spin_quota.h"

#include <check.h>
#include <string.h>

#include "preload/cpu_quota.h"
#include "tests/support/run_suite.h"

enum { LIMIT = 10000000, EACH = 20000000, STEPS = 60 }; /* half a CPU */

/* The files of a machine. */
static struct {
    const char *path, *text;
} files[8];
static unsigned n_files;

static void put(const char *path, const char *text)
{
    files[n_files].path = path;
    files[n_files++].text = text;
}

static long read_it(void *arg, const char *path, char *buf, size_t size)
{
    (void)arg;
    for (unsigned i = 0; i < n_files; i++)
        if (strcmp(files[i].path, path) == 0) {
            size_t n = strnlen(files[i].text, size - 1);

            memcpy(buf, files[i].text, n);
            buf[n] = '\0';
            return (long)n;
        }
    return -1;
}

static struct cpu_quota quota;

static unsigned found(void)
{
    cpu_quota_find(read_it, NULL, &quota);
    return quota.percent;
}

static void start(void)
{
    n_files = 0;
}

START_TEST(there_may_be_no_limit)
{
    ck_assert_uint_eq(found(), UINT_MAX);
    put("/proc/self/cgroup", "0::/a\n");
    ck_assert_uint_eq(found(), UINT_MAX);
    put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    ck_assert_uint_eq(found(), UINT_MAX);
}
END_TEST

START_TEST(the_least_of_all_above_counts)
{
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "90000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "25000 50000\n");
    put("/sys/fs/cgroup/cpu.max", "400000 100000\n");
    ck_assert_uint_eq(found(), 50);
    ck_assert_uint_eq(quota.period_us, 50000);
    ck_assert_str_eq(quota.stat, "/sys/fs/cgroup/a/cpu.stat");
}
END_TEST

START_TEST(in_a_container_the_root_has_it)
{
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "150000 100000\n");
    ck_assert_uint_eq(found(), 150);
    ck_assert_str_eq(quota.stat, "/sys/fs/cgroup/cpu.stat");
}
END_TEST

START_TEST(version_1_has_files_of_its_own)
{
    put("/proc/self/cgroup",
        "4:memory:/m\n3:cpuset,cpuacct:/c\n2:cpuacct,cpu:/d/e\n1:name=x:/y\n");
    put("/sys/fs/cgroup/cpu/d/e/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/d/e/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(found(), UINT_MAX);
    put("/sys/fs/cgroup/cpu/d/cpu.cfs_quota_us", "20000\n");
    put("/sys/fs/cgroup/cpu/d/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(found(), 20);
    ck_assert_str_eq(quota.stat, "/sys/fs/cgroup/cpu/d/cpu.stat");
}
END_TEST

START_TEST(what_cannot_be_understood_is_no_limit)
{
    static const char *const odd[] = {
        "",         "\n",        "100000", "x 100000",
        "100000 0", "-5 100000", "12",     "1 x\n",
        "max",      "1 1 1 max", "  ",     "99999999999999999999 1"};

    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/cpu.max", "");
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        files[1].text = odd[i];
        ck_assert_msg(found() == UINT_MAX || found() == 100, "%s: %u", odd[i],
                      found());
    }
    files[0].text = "\n\n::\n0:\n0::\n:::\n0::x\n2:cpu\n3:cpu:";
    ck_assert_uint_eq(found(), UINT_MAX);
}
END_TEST

START_TEST(use_is_read_from_any_line)
{
    struct cpu_quota_use use;

    cpu_quota_parse_stat("usage_usec 12\nnr_periods 3\nnr_throttled 45\n",
                         &use);
    ck_assert_uint_eq(use.used_usec, 12);
    ck_assert_uint_eq(use.throttled, 45);
    cpu_quota_parse_stat("nr_throttled_x 1\nnr_throttled", &use);
    ck_assert_uint_eq(use.used_usec, 0);
    ck_assert_uint_eq(use.throttled, 0);
}
END_TEST

/*
 * So many processes with work of so much each, and spins of all they may. The
 * use of all in the last step.
 */
static uint64_t use_of(unsigned processes, uint64_t work)
{
    struct spin_share s[8];
    uint64_t total = 0, last = 0, now = 1;

    for (unsigned p = 0; p < processes; p++)
        s[p] = (struct spin_share){.limit_ns = LIMIT, .each_ns = EACH};
    for (int i = 0; i < STEPS; i++) {
        last = 0;
        for (unsigned p = 0; p < processes; p++)
            last += work + spin_share_step(&s[p], now, total, 0);
        total += last;
        now += EACH;
    }
    return last;
}

START_TEST(what_is_left_is_spun_but_for_a_quarter)
{
    for (unsigned processes = 1; processes <= 5; processes++)
        for (uint64_t work = 0; work * processes < LIMIT / 2;
             work += LIMIT / 20) {
            uint64_t use = use_of(processes, work);

            ck_assert_msg(use <= LIMIT * 8 / 10 && use >= LIMIT * 6 / 10,
                          "%u processes, work %lu: use %lu", processes, work,
                          use);
        }
}
END_TEST

START_TEST(nothing_is_spun_when_work_needs_it_all)
{
    ck_assert_uint_eq(use_of(1, LIMIT), LIMIT);
    ck_assert_uint_eq(use_of(4, LIMIT / 4), LIMIT);
}
END_TEST

START_TEST(who_was_stopped_spins_half_as_long)
{
    struct spin_share s = {.limit_ns = LIMIT, .each_ns = EACH};
    uint64_t before, now = 1;

    ck_assert_uint_eq(spin_share_step(&s, now, 0, 7), 0);
    before = spin_share_step(&s, now += EACH, 0, 7);
    ck_assert_uint_gt(before, 0);
    ck_assert_uint_eq(spin_share_step(&s, now += EACH, 0, 8), before / 2);
    ck_assert_uint_gt(spin_share_step(&s, now += EACH, 0, 8), before / 2);
    ck_assert_uint_eq(
        spin_share_step(&s, now += EACH, LIMIT * 9, 9) / (before + 1), 0);
}
END_TEST

START_TEST(a_long_silence_is_not_saved_up)
{
    struct spin_share s = {.limit_ns = LIMIT, .each_ns = EACH};

    spin_share_step(&s, 1, 0, 0);
    for (int i = 0; i < STEPS; i++)
        spin_share_step(&s, 1 + (uint64_t)(i + 1) * 1000 * EACH, 0, 0);
    ck_assert_uint_le(s.share_ns, LIMIT * 3 / 4);
}
END_TEST

/* Counts that go back: the child of a fork. */
START_TEST(counts_that_go_back_begin_anew)
{
    struct spin_share s = {.limit_ns = LIMIT, .each_ns = EACH};

    spin_share_step(&s, 1, 1000, 0);
    ck_assert_uint_gt(spin_share_step(&s, 1 + EACH, 1000, 0), 0);
    ck_assert_uint_eq(spin_share_step(&s, 1 + 2 * EACH, 10, 0), 0);
    ck_assert_uint_gt(spin_share_step(&s, 1 + 3 * EACH, 10, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spin quota");
    TCase *tc = tcase_create("limit");

    tcase_add_checked_fixture(tc, start, NULL);
    tcase_add_test(tc, there_may_be_no_limit);
    tcase_add_test(tc, the_least_of_all_above_counts);
    tcase_add_test(tc, in_a_container_the_root_has_it);
    tcase_add_test(tc, version_1_has_files_of_its_own);
    tcase_add_test(tc, what_cannot_be_understood_is_no_limit);
    tcase_add_test(tc, use_is_read_from_any_line);
    suite_add_tcase(suite, tc);
    tc = tcase_create("share");
    tcase_add_test(tc, what_is_left_is_spun_but_for_a_quarter);
    tcase_add_test(tc, nothing_is_spun_when_work_needs_it_all);
    tcase_add_test(tc, who_was_stopped_spins_half_as_long);
    tcase_add_test(tc, a_long_silence_is_not_saved_up);
    tcase_add_test(tc, counts_that_go_back_begin_anew);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
