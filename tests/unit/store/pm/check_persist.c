/* The policies of persist.h on memory files. */
#include "store/pm/persist.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (64u << 10)

static int memory_file(size_t size)
{
    int fd = memfd_create("pm", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    return fd;
}

/* What msync was asked for: bytes, and calls before it fails. */
static unsigned char *synced_at[8];
static size_t synced_len[8];
static int n_synced;
static int fail_after = -1;

static int fake_msync(void *at, size_t len, int flags)
{
    ck_assert_int_eq(flags, MS_SYNC);
    ck_assert_int_lt(n_synced, 8);
    if (fail_after >= 0 && n_synced >= fail_after) {
        errno = EIO;
        return -1;
    }
    synced_at[n_synced] = at;
    synced_len[n_synced++] = len;
    return 0;
}

static void open_sync(struct pm *pm, int fd)
{
    n_synced = 0;
    fail_after = -1;
    ck_assert_int_eq(pm_map(pm, fd, SIZE, PM_SYNC, NULL), 0);
    pm->sync = fake_msync;
}

START_TEST(what_is_stored_is_in_the_file)
{
    static const enum pm_policy policies[] = {PM_AUTO, PM_SYNC, PM_PROCESS};
    for (int i = 0; i < 3; i++) {
        struct pm pm;
        uint64_t words[3];
        int fd = memory_file(SIZE);
        ck_assert_int_eq(pm_map(&pm, fd, SIZE, policies[i], NULL), 0);
        pm_store64(&pm, (uint64_t *)(void *)pm.base, 77);
        pm_flush(&pm, pm.base, 8);
        pm_copy(&pm, pm.base + 8, "sixteen bytes...", 16);
        ck_assert_int_eq(pm_fence(&pm), 0);
        pm_unmap(&pm);
        ck_assert_int_eq(pread(fd, words, sizeof(words), 0), sizeof(words));
        ck_assert_uint_eq(words[0], 77);
        ck_assert(memcmp(&words[1], "sixteen bytes...", 16) == 0);
        close(fd);
    }
}
END_TEST

START_TEST(pmem_is_refused_where_there_is_none_and_auto_falls_back)
{
    bool forced = getenv("PMEM_IS_PMEM_FORCE") != NULL;
    struct pm pm;
    int fd = memory_file(SIZE);
    int rc = pm_map(&pm, fd, SIZE, PM_PMEM, NULL);
    ck_assert_int_eq(rc, forced ? 0 : -ENOTSUP);
    if (rc == 0)
        pm_unmap(&pm);
    ck_assert_int_eq(pm_map(&pm, fd, SIZE, PM_AUTO, NULL), 0);
    ck_assert_int_eq(pm.policy, forced ? PM_PMEM : PM_PROCESS);
    ck_assert_str_eq(pm_policy_name(pm.policy), forced ? "pmem" : "process");
    pm_unmap(&pm);
    close(fd);
}
END_TEST

START_TEST(a_fence_syncs_the_flushed_pages_once_and_in_runs)
{
    struct pm pm;
    int fd = memory_file(SIZE);
    open_sync(&pm, fd);
    pm_copy(&pm, pm.base + 3 * 4096 + 100, "x", 1);
    pm_flush(&pm, pm.base + 4096 - 8, 16); /* two pages */
    pm_copy(&pm, pm.base + 3 * 4096, "y", 1);
    pm_filled(&pm, pm.base + 8 * 4096, 2 * 4096);
    ck_assert_int_eq(pm_fence(&pm), 0);
    ck_assert_int_eq(n_synced, 3);
    ck_assert_ptr_eq(synced_at[0], pm.base);
    ck_assert_uint_eq(synced_len[0], 2 * 4096);
    ck_assert_ptr_eq(synced_at[1], pm.base + 3 * 4096);
    ck_assert_uint_eq(synced_len[1], 4096);
    ck_assert_ptr_eq(synced_at[2], pm.base + 8 * 4096);
    ck_assert_uint_eq(synced_len[2], 2 * 4096);
    ck_assert_int_eq(pm_fence(&pm), 0); /* nothing is left to do */
    ck_assert_int_eq(n_synced, 3);
    pm_unmap(&pm);
    close(fd);
}
END_TEST

START_TEST(more_pages_than_can_be_noted_are_synced_all_at_once)
{
    struct pm pm;
    int fd = memory_file(SIZE);
    open_sync(&pm, fd);
    for (int i = 0; i < 10000; i++)
        pm_flush(&pm, pm.base + (size_t)(i % 16) * 4096, 8);
    ck_assert_int_eq(pm_fence(&pm), 0);
    ck_assert_int_eq(n_synced, 1);
    ck_assert_uint_eq(synced_len[0], SIZE);
    pm_unmap(&pm);
    close(fd);
}
END_TEST

START_TEST(who_shares_a_mapping_has_flushes_and_failures_of_his_own)
{
    struct pm pm, other;
    int fd = memory_file(SIZE);
    open_sync(&pm, fd);
    ck_assert_int_eq(pm_share(&other, &pm), 0);
    pm_copy(&pm, pm.base, "one", 3);
    pm_copy(&other, other.base + 8192, "two", 3);
    ck_assert_int_eq(pm_fence(&other), 0);
    ck_assert_int_eq(n_synced, 1);
    ck_assert_ptr_eq(synced_at[0], pm.base + 8192);
    ck_assert_int_eq(pm_fence(&pm), 0);
    ck_assert_int_eq(n_synced, 2);
    ck_assert_ptr_eq(synced_at[1], pm.base);
    fail_after = 0;
    pm_copy(&other, other.base, "two", 3);
    ck_assert_int_eq(pm_fence(&other), -EIO);
    fail_after = -1;
    ck_assert_int_eq(pm_fence(&other), -EIO);
    ck_assert_int_eq(pm_fence(&pm), 0);
    pm_unshare(&other);
    pm_unmap(&pm);
    close(fd);
}
END_TEST

START_TEST(fences_and_lines_are_counted_whatever_the_policy)
{
    static const enum pm_policy policies[] = {PM_AUTO, PM_SYNC, PM_PROCESS};
    for (int i = 0; i < 3; i++) {
        struct pm pm, other;
        int fd = memory_file(SIZE);
        ck_assert_int_eq(pm_map(&pm, fd, SIZE, policies[i], NULL), 0);
        pm_copy(&pm, pm.base + 60, "12345678", 8); /* two lines */
        pm_copy(&pm, pm.base, "", 0);
        pm_flush(&pm, pm.base + 64, 64);
        pm_filled(&pm, pm.base + 63, 66); /* three */
        pm_store64(&pm, (uint64_t *)(void *)pm.base, 1);
        ck_assert_uint_eq(pm.flushed, 6 * 64);
        ck_assert_uint_eq(pm.fences, 0);
        ck_assert_int_eq(pm_fence(&pm), 0);
        ck_assert_int_eq(pm_share(&other, &pm), 0);
        ck_assert_int_eq(pm_fence(&other), 0);
        ck_assert_uint_eq(pm.fences, 1);
        ck_assert(other.fences == 1 && other.flushed == 0);
        pm_unshare(&other);
        pm_unmap(&pm);
        close(fd);
    }
}
END_TEST

START_TEST(after_a_failed_msync_every_fence_fails)
{
    struct pm pm;
    int fd = memory_file(SIZE);
    open_sync(&pm, fd);
    fail_after = 0;
    pm_copy(&pm, pm.base, "x", 1);
    ck_assert_int_eq(pm_fence(&pm), -EIO);
    fail_after = -1;
    ck_assert_int_eq(pm_fence(&pm), -EIO);
    pm_copy(&pm, pm.base, "x", 1);
    ck_assert_int_eq(pm_fence(&pm), -EIO);
    pm_unmap(&pm);
    close(fd);
}
END_TEST

static int calls[5];

static void hook_store64(struct pm *pm, uint64_t *at, uint64_t value)
{
    calls[0]++;
    pm->native->store64(pm, at, value);
}

static void hook_copy(struct pm *pm, void *at, const void *from, size_t len)
{
    calls[1]++;
    pm->native->copy(pm, at, from, len);
}

static void hook_filled(struct pm *pm, const void *at, size_t len)
{
    calls[2]++;
    pm->native->filled(pm, at, len);
}

static void hook_flush(struct pm *pm, const void *at, size_t len)
{
    calls[3]++;
    pm->native->flush(pm, at, len);
}

static int hook_fence(struct pm *pm)
{
    return calls[4]++ > 0 ? -ENOSPC : pm->native->fence(pm);
}

START_TEST(a_hook_sees_every_call_and_can_fail_it)
{
    static const struct pm_ops ops = {"test",      hook_store64, hook_copy,
                                      hook_filled, hook_flush,   hook_fence};
    int context;
    struct pm_hook hook = {&ops, &context};
    struct pm pm;
    int fd = memory_file(SIZE);
    ck_assert_int_eq(pm_map(&pm, fd, SIZE, PM_PROCESS, &hook), 0);
    ck_assert_ptr_eq(pm.context, &context);
    pm_store64(&pm, (uint64_t *)(void *)pm.base, 1);
    pm_copy(&pm, pm.base, "a", 1);
    pm_filled(&pm, pm.base, 1);
    pm_flush(&pm, pm.base, 1);
    ck_assert_int_eq(pm_fence(&pm), 0);
    ck_assert_int_eq(pm_fence(&pm), -ENOSPC);
    ck_assert_int_eq(pm_fence(&pm), -ENOSPC); /* without asking again */
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(calls[i], 1);
    ck_assert_int_eq(calls[4], 2);
    pm_unmap(&pm);
    close(fd);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 1 && !getenv("PMEM_IS_PMEM_FORCE")) { /* also as if on PM */
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            setenv("PMEM_IS_PMEM_FORCE", "1", 1);
            execlp(argv[0], argv[0], (char *)NULL);
            _exit(127);
        }
        waitpid(child, &status, 0);
        if (status != 0)
            return 1;
    }
    Suite *suite = suite_create("persist");
    TCase *tcase = tcase_create("persist");
    tcase_add_test(tcase, what_is_stored_is_in_the_file);
    tcase_add_test(tcase,
                   pmem_is_refused_where_there_is_none_and_auto_falls_back);
    tcase_add_test(tcase, a_fence_syncs_the_flushed_pages_once_and_in_runs);
    tcase_add_test(tcase, more_pages_than_can_be_noted_are_synced_all_at_once);
    tcase_add_test(tcase,
                   who_shares_a_mapping_has_flushes_and_failures_of_his_own);
    tcase_add_test(tcase, fences_and_lines_are_counted_whatever_the_policy);
    tcase_add_test(tcase, after_a_failed_msync_every_fence_fails);
    tcase_add_test(tcase, a_hook_sees_every_call_and_can_fail_it);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
