/* The list of words that wait for the first fence. */
#include "store/engine/commit.h"

#include <check.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (64u << 10)

static struct pm pm;
static struct commit commit;
static int fd;
static uint64_t *words;

static void map(void)
{
    fd = memfd_create("commit", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    ck_assert_int_eq(pm_map(&pm, fd, SIZE, PM_PROCESS, NULL), 0);
    commit_init(&commit, &pm);
    words = (uint64_t *)(void *)pm.base;
}

static void unmap(void)
{
    pm_unmap(&pm);
    close(fd);
}

START_TEST(a_word_is_read_before_it_is_stored)
{
    commit_write(&commit, &words[5], 50);
    commit_write(&commit, &words[6], 60);
    commit_write(&commit, &words[5], 51);
    ck_assert_uint_eq(commit_read(&commit, &words[5]), 51);
    ck_assert_uint_eq(commit_read(&commit, &words[6]), 60);
    ck_assert_uint_eq(commit_read(&commit, &words[7]), 0);
    ck_assert_uint_eq(words[5], 0);
    ck_assert_uint_eq(commit.n, 2);
    ck_assert_int_eq(commit_run(&commit), 0);
    ck_assert_uint_eq(words[5], 51);
    ck_assert_uint_eq(words[6], 60);
    ck_assert_uint_eq(commit_read(&commit, &words[5]), 51);
    ck_assert_uint_eq(commit.n, 0);
}
END_TEST

START_TEST(bits_of_a_word_change_beside_others)
{
    words[3] = 0xf0;
    commit_change(&commit, &words[3], 0x30, 1);
    commit_change(&commit, &words[3], 0, 2);
    ck_assert_uint_eq(commit_read(&commit, &words[3]), 0xc3);
    ck_assert_uint_eq(words[3], 0xf0);
    ck_assert_uint_eq(commit.n, 1);
    commit_run(&commit);
    ck_assert_uint_eq(words[3], 0xc3);
}
END_TEST

START_TEST(a_loose_word_is_read_before_it_is_stored)
{
    commit_write(&commit, &words[1], 10);
    ck_assert_uint_eq(commit_read_loose(&commit, &words[2]), 0);
    commit_write_loose(&commit, &words[2], 20);
    ck_assert_uint_eq(commit_read_loose(&commit, &words[2]), 20);
    commit_run(&commit);
    ck_assert_uint_eq(commit_read_loose(&commit, &words[2]), 20);
    ck_assert_uint_eq(commit.n_loose, 0);
}
END_TEST

START_TEST(a_dropped_word_is_never_stored)
{
    words[1] = 1;
    commit_write_loose(&commit, &words[1], 10);
    commit_drop(&commit, &words[1]);
    commit_drop(&commit, &words[2]);
    ck_assert_uint_eq(commit_read(&commit, &words[1]), 1);
    commit_run(&commit);
    ck_assert_uint_eq(words[1], 1);
    commit_write_loose(&commit, &words[1], 10);
    commit_drop(&commit, &words[1]);
    commit_write_loose(&commit, &words[1], 11);
    ck_assert_uint_eq(commit_read(&commit, &words[1]), 11);
    commit_run(&commit);
    ck_assert_uint_eq(words[1], 11);
}
END_TEST

START_TEST(a_full_list_keeps_every_word)
{
    for (int turn = 1; turn < 4; turn++) {
        for (uint32_t i = 0; i < COMMIT_MAX; i++)
            commit_write(&commit, &words[i * 8], i * (uint64_t)turn);
        ck_assert_uint_eq(commit_room(&commit), 0);
        for (uint32_t i = 0; i < COMMIT_MAX; i++)
            ck_assert_uint_eq(commit_read(&commit, &words[i * 8]),
                              i * (uint64_t)turn);
        ck_assert_int_eq(commit_run(&commit), 0);
        for (uint32_t i = 0; i < COMMIT_MAX; i++)
            ck_assert_uint_eq(words[i * 8], i * (uint64_t)turn);
    }
    for (uint32_t i = 0; i < COMMIT_INDEX; i++)
        ck_assert_uint_eq(commit.index[i], 0);
}
END_TEST

static int failing(struct pm *p)
{
    (void)p;
    return -5;
}

START_TEST(when_the_first_fence_fails_no_word_is_stored)
{
    struct pm_ops ops = *pm.native;
    ops.fence = failing;
    pm.ops = &ops;
    commit_write(&commit, &words[1], 10);
    ck_assert_int_eq(commit_run(&commit), -5);
    ck_assert_uint_eq(words[1], 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("commit");
    TCase *tcase = tcase_create("commit");
    tcase_add_checked_fixture(tcase, map, unmap);
    tcase_add_test(tcase, a_word_is_read_before_it_is_stored);
    tcase_add_test(tcase, bits_of_a_word_change_beside_others);
    tcase_add_test(tcase, a_loose_word_is_read_before_it_is_stored);
    tcase_add_test(tcase, a_dropped_word_is_never_stored);
    tcase_add_test(tcase, a_full_list_keeps_every_word);
    tcase_add_test(tcase, when_the_first_fence_fails_no_word_is_stored);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
