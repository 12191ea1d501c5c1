/* Whatever pages a file gets, its bytes are the same. */
#include "store/pm/large_pages.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (3 * LARGE_PAGE + 4096)

static uint64_t size_of(int fd)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    return (uint64_t)st.st_size;
}

START_TEST(what_a_file_holds_stays)
{
    const uint64_t places[] = {0, 4095, LARGE_PAGE - 1, LARGE_PAGE + 5000};
    const uint64_t n = sizeof(places) / sizeof(*places);
    static unsigned char bytes[SIZE];
    int fd = memfd_create("file", MFD_CLOEXEC);
    for (uint64_t i = 0; i < n; i++)
        ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)places[i]), 1);
    large_pages_take(fd, SIZE);
    ck_assert_uint_eq(size_of(fd), SIZE);
    ck_assert_int_eq(pread(fd, bytes, SIZE, 0), SIZE);
    for (uint64_t i = 0; i < n; i++) {
        ck_assert_int_eq(bytes[places[i]], 'x');
        bytes[places[i]] = 0;
    }
    ck_assert_int_eq(bytes[0], 0);
    ck_assert_int_eq(memcmp(bytes, bytes + 1, SIZE - 1), 0);
    close(fd);
}
END_TEST

START_TEST(a_file_is_not_made_shorter)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    large_pages_take(fd, LARGE_PAGE);
    ck_assert_uint_eq(size_of(fd), SIZE);
    close(fd);
}
END_TEST

START_TEST(a_file_too_small_for_one_is_left_alone)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    large_pages_take(fd, LARGE_PAGE - 4096);
    ck_assert_uint_eq(size_of(fd), 0);
    close(fd);
}
END_TEST

START_TEST(a_file_that_cannot_be_written_is_left_alone)
{
    int fd = memfd_create("file", MFD_CLOEXEC);
    char path[64];
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    large_pages_take(fileno(file), 2 * SIZE);
    ck_assert_uint_eq(size_of(fd), SIZE);
    fclose(file);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("large_pages");
    TCase *tcase = tcase_create("large_pages");
    tcase_add_test(tcase, what_a_file_holds_stays);
    tcase_add_test(tcase, a_file_is_not_made_shorter);
    tcase_add_test(tcase, a_file_too_small_for_one_is_left_alone);
    tcase_add_test(tcase, a_file_that_cannot_be_written_is_left_alone);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
