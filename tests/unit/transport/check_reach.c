#include "transport/reach.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

enum { PAGE = 4096 };

static struct reach reach;

static char *map(size_t pages, int protection)
{
    char *at = mmap(NULL, pages * PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0);

    ck_assert(at != MAP_FAILED);
    memset(&reach, 0, sizeof(reach));
    return at;
}

START_TEST(memory_of_the_program_is_reached)
{
    char *at = map(100, PROT_READ | PROT_WRITE);

    ck_assert(reach_ok(&reach, at, 1, true));
    ck_assert(reach_ok(&reach, at + 5, 99 * PAGE, true));
    ck_assert(reach_ok(&reach, at + PAGE - 1, 2, false));
    ck_assert(reach_ok(&reach, "a constant", 10, false));
    munmap(at, 100 * PAGE);
}
END_TEST

START_TEST(asking_changes_no_byte_and_no_errno)
{
    char *at = map(8, PROT_READ | PROT_WRITE);

    memset(at, 0x5a, 8 * PAGE);
    errno = 77;
    ck_assert(reach_ok(&reach, at + 3, PAGE, true));
    ck_assert(reach_ok(&reach, at + 3, 7 * PAGE, true));
    ck_assert(!reach_ok(&reach, NULL, 1, true));
    ck_assert_int_eq(errno, 77);
    for (int i = 0; i < 8 * PAGE; i++)
        ck_assert_int_eq(at[i], 0x5a);
    munmap(at, 8 * PAGE);
}
END_TEST

START_TEST(addresses_that_lead_nowhere_are_not_reached)
{
    char *hole = map(1, PROT_NONE);

    for (int write = 0; write < 2; write++) {
        ck_assert(!reach_ok(&reach, NULL, 1, write));
        ck_assert(!reach_ok(&reach, (void *)8, 1, write));
        ck_assert(!reach_ok(&reach, (void *)-1, 1, write));
        ck_assert(!reach_ok(&reach, (void *)-1, 5, write));
        ck_assert(!reach_ok(&reach, (void *)0x1234567812345678, 1, write));
        ck_assert(!reach_ok(&reach, (void *)0xffff888000000000, 9, write));
        ck_assert(!reach_ok(&reach, hole, 1, write));
    }
    munmap(hole, PAGE);
    ck_assert(!reach_ok(&reach, hole, 1, false));
}
END_TEST

START_TEST(a_page_for_reading_may_not_be_written)
{
    char *at = map(2, PROT_READ);

    ck_assert(reach_ok(&reach, at, 2 * PAGE, false));
    ck_assert(!reach_ok(&reach, at, 1, true));
    ck_assert(!reach_ok(&reach, at, 2 * PAGE, true));
    munmap(at, 2 * PAGE);
}
END_TEST

START_TEST(one_bad_page_among_good_ones_is_found)
{
    for (int bad = 0; bad < 20; bad++) {
        char *at = map(20, PROT_READ | PROT_WRITE);

        mprotect(at + bad * PAGE, PAGE, PROT_NONE);
        ck_assert(!reach_ok(&reach, at, 20 * PAGE, true));
        ck_assert(!reach_ok(&reach, at, 20 * PAGE, false));
        ck_assert(!reach_ok(&reach, at + bad * PAGE, 1, false));
        munmap(at, 20 * PAGE);
    }
}
END_TEST

START_TEST(what_lies_behind_the_end_of_a_file_is_not_reached)
{
    int fd = memfd_create("short", MFD_CLOEXEC);
    char *at;

    ck_assert_int_eq(ftruncate(fd, PAGE), 0);
    memset(&reach, 0, sizeof(reach));
    at = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(reach_ok(&reach, at, PAGE, true));
    ck_assert(!reach_ok(&reach, at, PAGE + 1, true));
    ck_assert(!reach_ok(&reach, at + PAGE, 1, false));
    munmap(at, 2 * PAGE);
    close(fd);
}
END_TEST

START_TEST(what_was_forgotten_is_asked_again)
{
    char *at = map(10, PROT_READ | PROT_WRITE);

    ck_assert(reach_ok(&reach, at, 10 * PAGE, true));
    munmap(at + 4 * PAGE, PAGE);
    reach_forget(&reach, at + 4 * PAGE, PAGE);
    ck_assert(!reach_ok(&reach, at, 10 * PAGE, true));
    ck_assert(reach_ok(&reach, at, 4 * PAGE, true));
    munmap(at, 10 * PAGE);
    reach_forget(&reach, at, (size_t)-1 / 2);
    for (int i = 0; i < REACH_PAGES; i++)
        ck_assert_uint_eq(reach.page[i], 0);
}
END_TEST

START_TEST(of_a_vector_only_what_is_moved_counts)
{
    char *at = map(3, PROT_READ | PROT_WRITE);
    struct iovec iov[3] = {{NULL, 10}, {at, 20}, {NULL, 30}};

    ck_assert(reach_ok_vector(&reach, iov, 3, 10, 20, true));
    ck_assert(reach_ok_vector(&reach, iov, 3, 29, 1, false));
    ck_assert(reach_ok_vector(&reach, iov, 3, 0, 0, true));
    ck_assert(!reach_ok_vector(&reach, iov, 3, 9, 2, true));
    ck_assert(!reach_ok_vector(&reach, iov, 3, 10, 21, false));
    munmap(at, 3 * PAGE);
}
END_TEST

START_TEST(no_byte_leads_anywhere)
{
    memset(&reach, 0, sizeof(reach));
    ck_assert(reach_ok(&reach, NULL, 0, true));
    ck_assert(reach_ok(&reach, (void *)-1, 0, false));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("reach");
    Suite *s = suite_create("reach");

    tcase_add_test(tc, memory_of_the_program_is_reached);
    tcase_add_test(tc, asking_changes_no_byte_and_no_errno);
    tcase_add_test(tc, addresses_that_lead_nowhere_are_not_reached);
    tcase_add_test(tc, a_page_for_reading_may_not_be_written);
    tcase_add_test(tc, one_bad_page_among_good_ones_is_found);
    tcase_add_test(tc, what_lies_behind_the_end_of_a_file_is_not_reached);
    tcase_add_test(tc, what_was_forgotten_is_asked_again);
    tcase_add_test(tc, of_a_vector_only_what_is_moved_counts);
    tcase_add_test(tc, no_byte_leads_anywhere);
    suite_add_tcase(s, tc);
    return run_suite(s);
}
