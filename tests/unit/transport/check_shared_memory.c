#include "transport/shared_memory.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

enum { SIZE = 65536 };

static int made;

static void start(void)
{
    made = -1;
    ck_assert_int_eq(memory_create("check", SIZE, &made), 0);
}

static void stop(void)
{
    close(made);
}

START_TEST(a_created_file_passes_the_check_with_its_size)
{
    size_t size = 0;

    ck_assert_int_eq(memory_check(made, 4096, 1 << 20, &size), 0);
    ck_assert_uint_eq(size, SIZE);
    ck_assert_int_eq(memory_check(made, SIZE, SIZE, &size), 0);
    ck_assert_int_eq(fcntl(made, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}
END_TEST

START_TEST(the_size_of_a_created_file_cannot_change)
{
    ck_assert_int_eq(ftruncate(made, SIZE / 2), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(ftruncate(made, SIZE * 2), -1);
    ck_assert_int_eq(errno, EPERM);
    ck_assert_int_eq(fcntl(made, F_ADD_SEALS, F_SEAL_WRITE), -1);
    ck_assert_int_eq(errno, EPERM);
}
END_TEST

/* 256 MiB of addresses, and a page of memory. */
START_TEST(a_program_that_locks_its_memory_makes_no_pages_of_it)
{
    const size_t large = (size_t)256 << 20;
    struct stat st;
    char *at;
    int fd;

    if (mlockall(MCL_FUTURE) != 0)
        return; /* it may not, so it cannot happen to it */
    ck_assert_int_eq(memory_create("check", large, &fd), 0);
    if (memory_map(fd, large, true, (void **)&at) == 0) {
        at[large - 1] = 1;
        ck_assert_int_eq(fstat(fd, &st), 0);
        ck_assert_int_le(st.st_blocks * 512, 1 << 20);
        memory_unmap(at, large);
    }
    munlockall();
    close(fd);
}
END_TEST

/* As the kernel says of the mapping at that address. */
static bool is_left_out_of_dumps(const void *at)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    bool here = false, left_out = false;
    unsigned long from, to;
    char line[256];

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = from == (unsigned long)at;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            left_out = strstr(line, " dd") != NULL;
    fclose(f);
    return left_out;
}

START_TEST(a_dump_of_the_program_makes_no_pages_of_it)
{
    void *at;
    int fd;

    ck_assert_int_eq(memory_create("check", 1 << 20, &fd), 0);
    ck_assert_int_eq(memory_map(fd, 1 << 20, true, &at), 0);
    ck_assert(is_left_out_of_dumps(at));
    memory_unmap(at, 1 << 20);
    close(fd);
}
END_TEST

START_TEST(a_size_of_nothing_or_beyond_any_file_is_refused)
{
    int fd = -7;

    ck_assert_int_eq(memory_create("check", 0, &fd), -EINVAL);
    ck_assert_int_eq(memory_create("check", SIZE_MAX, &fd), -EINVAL);
    ck_assert_int_eq(fd, -7);
}
END_TEST

START_TEST(a_failed_creation_leaves_no_descriptor_behind)
{
    struct rlimit limit, tight;
    int fd = -7, low = dup(0), again;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    tight = (struct rlimit){4096, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ck_assert_int_ge(low, 0);
    close(low);
    ck_assert_int_eq(memory_create("check", SIZE, &fd), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &limit);
    ck_assert_int_eq(fd, -7);
    again = dup(0);
    ck_assert_int_eq(again, low);
    close(again);
}
END_TEST

START_TEST(a_file_outside_the_bounds_is_refused)
{
    size_t size = 7;

    ck_assert_int_eq(memory_check(made, SIZE + 1, 1 << 20, &size), -ERANGE);
    ck_assert_int_eq(memory_check(made, 4096, SIZE - 1, &size), -ERANGE);
    ck_assert_uint_eq(size, 7);
}
END_TEST

START_TEST(a_file_that_could_shrink_is_refused)
{
    static const int seals[] = {0, F_SEAL_GROW, F_SEAL_SHRINK,
                                F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SEAL};

    for (size_t i = 0; i < sizeof(seals) / sizeof(seals[0]); i++) {
        int fd = memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t size = 7;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, SIZE), 0);
        ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, seals[i]), 0);
        ck_assert_int_eq(memory_check(fd, 1, 1 << 20, &size), -EPERM);
        ck_assert_uint_eq(size, 7);
        close(fd);
    }
}
END_TEST

START_TEST(what_is_no_memory_file_is_refused)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), ends[2];
    int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    size_t size = 7;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    ck_assert_int_eq(memory_check(null, 0, SIZE_MAX, &size), -EBADF);
    ck_assert_int_eq(memory_check(ends[0], 0, SIZE_MAX, &size), -EBADF);
    ck_assert_int_lt(memory_check(program, 0, SIZE_MAX, &size), 0);
    ck_assert_int_eq(memory_check(-1, 0, SIZE_MAX, &size), -EBADF);
    ck_assert_uint_eq(size, 7);
    close(null), close(program), close(ends[0]), close(ends[1]);
}
END_TEST

START_TEST(a_file_of_huge_pages_is_refused)
{
    /* Their pages may run out under a reader. Made without needing any. */
    int fd =
        memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    size_t size = 7;

    if (fd < 0)
        return; /* this kernel has none to offer */
    ck_assert_int_eq(
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    ck_assert_int_eq(memory_check(fd, 0, SIZE_MAX, &size), -EBADF);
    close(fd);
}
END_TEST

START_TEST(two_mappings_show_the_same_bytes)
{
    void *a = NULL, *b = NULL;

    ck_assert_int_eq(memory_map(made, SIZE, true, &a), 0);
    ck_assert_int_eq(memory_map(made, SIZE, false, &b), 0);
    ck_assert_ptr_ne(a, b);
    ck_assert_int_eq(((uint8_t *)b)[SIZE - 1], 0);
    memset(a, 0x5a, SIZE);
    ck_assert_mem_eq(a, b, SIZE);
    memory_unmap(a, SIZE);
    ck_assert_int_eq(((uint8_t *)b)[0], 0x5a);
    memory_unmap(b, SIZE);
    memory_unmap(NULL, SIZE);
}
END_TEST

START_TEST(a_mapping_that_fails_sets_nothing)
{
    void *out = &made;

    ck_assert_int_eq(memory_map(-1, SIZE, true, &out), -EBADF);
    ck_assert_int_eq(memory_map(made, 0, true, &out), -EINVAL);
    ck_assert_ptr_eq(out, &made);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shared_memory");
    TCase *t = tcase_create("shared_memory");

    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, a_created_file_passes_the_check_with_its_size);
    tcase_add_test(t, the_size_of_a_created_file_cannot_change);
    tcase_add_test(t, a_program_that_locks_its_memory_makes_no_pages_of_it);
    tcase_add_test(t, a_dump_of_the_program_makes_no_pages_of_it);
    tcase_add_test(t, a_size_of_nothing_or_beyond_any_file_is_refused);
    tcase_add_test(t, a_failed_creation_leaves_no_descriptor_behind);
    tcase_add_test(t, a_file_outside_the_bounds_is_refused);
    tcase_add_test(t, a_file_that_could_shrink_is_refused);
    tcase_add_test(t, what_is_no_memory_file_is_refused);
    tcase_add_test(t, a_file_of_huge_pages_is_refused);
    tcase_add_test(t, two_mappings_show_the_same_bytes);
    tcase_add_test(t, a_mapping_that_fails_sets_nothing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
