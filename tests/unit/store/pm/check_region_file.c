/*
 * The file of a region while others make, remove and replace it: what they do
 * between our open() and our flock().
 */
#include "store/pm/region.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (64u << 10)

static char folder[64];
static char path[96];
static char error[256];
static void (*meanwhile)(void); /* in front of each flock() of ours */
static int locks;
static struct region winner;

int flock(int fd, int operation)
{
    void (*others)(void) = meanwhile;
    meanwhile = NULL; /* theirs are left alone */
    if (others)
        others();
    meanwhile = others;
    locks++;
    return (int)syscall(SYS_flock, fd, operation);
}

static void make_folder(void)
{
    bool shm = access("/dev/shm", W_OK) == 0; /* fsync is quick there */
    snprintf(folder, sizeof(folder), "%s/check_region_file.XXXXXX",
             shm ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/pool", folder);
    error[0] = '\0';
    meanwhile = NULL;
    locks = 0;
}

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

static int open_pool(struct region *region, uint64_t size)
{
    struct region_options options = {.size = size, .policy = PM_PROCESS};
    return region_open(region, path, &options, error, sizeof(error));
}

static void make_pool(void)
{
    struct region region;
    ck_assert_msg(open_pool(&region, SIZE) == 0, "%s", error);
    ck_assert_int_eq(region_close(&region), 0);
}

static bool is_at_path(const struct region *region)
{
    struct stat ours, there;
    return fstat(region->fd, &ours) == 0 && stat(path, &there) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static void win(void)
{
    ck_assert_msg(open_pool(&winner, SIZE) == 0, "%s", error);
}

START_TEST(a_file_that_another_opener_builds_on_is_not_removed)
{
    struct region loser;
    meanwhile = win;
    ck_assert_int_eq(open_pool(&loser, SIZE), -EBUSY);
    ck_assert_ptr_nonnull(strstr(error, "is already open by pid"));
    meanwhile = NULL;
    ck_assert(winner.created);
    ck_assert_msg(is_at_path(&winner), "it has lost its name");
    ck_assert_int_eq(region_close(&winner), 0);
    ck_assert_msg(open_pool(&winner, 0) == 0, "%s", error);
    region_close(&winner);
}
END_TEST

static void write_letter(void)
{
    int fd = open(path, O_WRONLY);
    for (int i = 0; i < 100; i++)
        dprintf(fd, "This is a letter to a friend.\n");
    close(fd);
}

START_TEST(a_file_that_another_one_filled_is_not_removed)
{
    struct region region;
    meanwhile = write_letter;
    ck_assert_int_eq(open_pool(&region, SIZE), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "is not a fastsock pool"));
    ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

static void replace(void)
{
    if (locks > 0)
        return;
    ck_assert_int_eq(unlink(path), 0);
    make_pool();
}

START_TEST(a_file_that_was_replaced_is_opened_again)
{
    struct region region;
    make_pool();
    for (int size = 0; size < 2; size++) {
        locks = 0;
        meanwhile = replace;
        ck_assert_msg(open_pool(&region, size * SIZE) == 0, "%s", error);
        ck_assert(!region.created);
        ck_assert_msg(is_at_path(&region), "another file lies there");
        meanwhile = NULL;
        region_close(&region);
    }
}
END_TEST

static void remove_it(void)
{
    if (locks == 0)
        ck_assert_int_eq(unlink(path), 0);
}

START_TEST(a_file_that_was_removed_is_made_again_or_missed)
{
    struct region region;
    make_pool();
    locks = 0;
    meanwhile = remove_it;
    ck_assert_int_eq(open_pool(&region, 0), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error, "give a size to create it"));
    meanwhile = NULL;
    make_pool();
    locks = 0;
    meanwhile = remove_it;
    ck_assert_msg(open_pool(&region, SIZE) == 0, "%s", error);
    ck_assert(region.created && is_at_path(&region));
    region_close(&region);
}
END_TEST

static void always_remove(void)
{
    ck_assert_int_eq(unlink(path), 0);
}

START_TEST(a_file_that_is_always_removed_is_given_up)
{
    struct region region;
    meanwhile = always_remove;
    ck_assert_int_eq(open_pool(&region, SIZE), -EBUSY);
    ck_assert_msg(strstr(error, "stop the program") != NULL, "%s", error);
    ck_assert_int_le(locks, 100);
    ck_assert_int_lt(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_name_that_leads_nowhere_is_refused)
{
    struct region region;
    ck_assert_int_eq(symlink("nowhere/at/all", path), 0);
    ck_assert_int_eq(open_pool(&region, SIZE), -EEXIST);
    ck_assert_msg(strstr(error, "cannot be opened") != NULL, "%s", error);
    ck_assert_int_eq(locks, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("region_file");
    TCase *tcase = tcase_create("region_file");
    tcase_add_checked_fixture(tcase, make_folder, remove_folder);
    tcase_add_test(tcase, a_file_that_another_opener_builds_on_is_not_removed);
    tcase_add_test(tcase, a_file_that_another_one_filled_is_not_removed);
    tcase_add_test(tcase, a_file_that_was_replaced_is_opened_again);
    tcase_add_test(tcase, a_file_that_was_removed_is_made_again_or_missed);
    tcase_add_test(tcase, a_file_that_is_always_removed_is_given_up);
    tcase_add_test(tcase, a_name_that_leads_nowhere_is_refused);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
