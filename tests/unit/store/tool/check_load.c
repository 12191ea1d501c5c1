/* kvpool load: what it leaves of a file that it has made. */
#include "store/tool/tool.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static char folder[64];
static char path[96];
static char dump[96];
static int n_removed, free_to_others;

/* Whoever can lock the file now builds a pool in it. */
int unlink(const char *name)
{
    if (strcmp(name, path) == 0) {
        int fd = open(name, O_RDWR | O_CLOEXEC);
        n_removed++;
        free_to_others += flock(fd, LOCK_EX | LOCK_NB) == 0;
        close(fd);
    }
    return (int)syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

static void make_folder(void)
{
    bool shm = access("/dev/shm", W_OK) == 0; /* fsync is quick there */
    snprintf(folder, sizeof(folder), "%s/check_load.XXXXXX",
             shm ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/pool", folder);
    snprintf(dump, sizeof(dump), "%s/dump", folder);
    FILE *out = fopen(dump, "we");
    ck_assert_ptr_nonnull(out);
    fputs("kvpool dump 1\npool default\nsize 8388608\ntime 1\n\n\nend 0 48\n",
          out);
    fclose(out);
}

static void remove_folder(void)
{
    unlink(path);
    unlink(dump);
    rmdir(folder);
}

static int load(char *name)
{
    char *argv[] = {"load", "--pool", name, path, dump, NULL};
    optind = 1;
    return kvpool_load(5, argv);
}

START_TEST(a_file_that_is_of_no_use_is_removed_while_it_is_locked)
{
    ck_assert_int_eq(load("two words"), TOOL_FOREIGN);
    ck_assert_int_lt(access(path, F_OK), 0);
    ck_assert_int_gt(n_removed, 0);
    ck_assert_int_eq(free_to_others, 0);
}
END_TEST

START_TEST(a_file_that_was_there_stays)
{
    ck_assert_int_eq(load("one"), TOOL_DONE);
    n_removed = 0;
    ck_assert_int_eq(load("two words"), TOOL_FOREIGN);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(n_removed, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("load");
    TCase *tcase = tcase_create("load");
    tcase_add_checked_fixture(tcase, make_folder, remove_folder);
    tcase_add_test(tcase,
                   a_file_that_is_of_no_use_is_removed_while_it_is_locked);
    tcase_add_test(tcase, a_file_that_was_there_stays);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
