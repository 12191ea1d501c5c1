/* Region files: what is made, what is refused with which words, what is left.
 */
#include "store/pm/region.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (64u << 10)

static char folder[64];
static char path[96];
static char error[256];

static void make_folder(void)
{
    bool shm = access("/dev/shm", W_OK) == 0; /* fsync is quick there */
    snprintf(folder, sizeof(folder), "%s/check_region.XXXXXX",
             shm ? "/dev/shm" : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/pool", folder);
    error[0] = '\0';
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

/* Header fields are changed in the file, the sum is made right again. */
static void change_header(void (*change)(struct region_header *), bool sum)
{
    struct region_header header;
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pread(fd, &header, sizeof(header), 0), sizeof(header));
    change(&header);
    if (sum)
        header.check = region_header_check(&header);
    ck_assert_int_eq(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
    close(fd);
}

static size_t read_all(unsigned char *bytes, size_t max)
{
    int fd = open(path, O_RDONLY);
    ssize_t n = read(fd, bytes, max);
    close(fd);
    return n < 0 ? 0 : (size_t)n;
}

/* Opening fails with these words and leaves every byte as it was. */
static void refuses(int rc, const char *words, uint64_t size)
{
    static unsigned char before[SIZE + 1], after[SIZE + 1];
    struct region region;
    size_t n = read_all(before, sizeof(before));
    ck_assert_int_eq(open_pool(&region, size), rc);
    ck_assert_msg(strstr(error, words) != NULL, "\"%s\" is not in \"%s\"",
                  words, error);
    ck_assert_msg(strstr(error, path) == error, "no name in \"%s\"", error);
    ck_assert_uint_eq(read_all(after, sizeof(after)), n);
    ck_assert(memcmp(before, after, n) == 0);
}

START_TEST(a_new_pool_is_whole_allocated_and_private)
{
    struct region region;
    struct stat st;
    ck_assert_int_eq(open_pool(&region, SIZE + 100), 0);
    ck_assert(region.created && !region.device);
    ck_assert_uint_eq(region.header->size, SIZE);
    ck_assert_uint_eq(region.header->grain, REGION_GRAIN_MIN);
    ck_assert_uint_eq(region.header->first % 4096, 0);
    ck_assert_uint_eq(region_grains(&region),
                      (SIZE - region.header->first) / 4096);
    ck_assert_int_eq(fstat(region.fd, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_ge(st.st_blocks * 512, SIZE);
    ck_assert_int_eq(region_close(&region), 0);
}
END_TEST

START_TEST(grains_of_a_large_region_are_large_and_aligned)
{
    struct region region;
    struct region_options options = {
        .size = 72u << 20, .grain = REGION_GRAIN_MAX, .policy = PM_PROCESS};
    int fd = memfd_create("region", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(region_open(&region, path, &options, error, sizeof(error)) ==
                      0,
                  "%s", error);
    ck_assert_uint_eq(region.header->first, 2u << 20);
    ck_assert_uint_eq(region_grains(&region), 2);
    ck_assert_uint_eq((uintptr_t)region.pm.base % (2u << 20), 0);
    region_close(&region);
    close(fd);
}
END_TEST

START_TEST(an_existing_pool_keeps_its_size)
{
    struct region region;
    make_pool();
    ck_assert_int_eq(open_pool(&region, 4 * SIZE), 0);
    ck_assert_uint_eq(region.header->size, SIZE);
    region_close(&region);
}
END_TEST

START_TEST(an_open_pool_is_refused_with_the_pid_that_has_it)
{
    struct region first, second;
    char pid[32];
    snprintf(pid, sizeof(pid), "open by pid %d;", (int)getpid());
    ck_assert_int_eq(open_pool(&first, SIZE), 0);
    ck_assert_int_eq(open_pool(&second, SIZE), -EBUSY);
    ck_assert_msg(strstr(error, pid) != NULL, "%s", error);
    region_close(&first);
    ck_assert_int_eq(open_pool(&second, 0), 0);
    region_close(&second);
}
END_TEST

START_TEST(no_pool_and_no_size_is_a_question_back)
{
    refuses(-ENOENT, "give a size to create it", 0);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

static void new_version(struct region_header *h)
{
    h->version = 3;
}

static void other_layout(struct region_header *h)
{
    strcpy(h->layout, "another");
}

static void new_feature(struct region_header *h)
{
    h->incompat = 0x10;
}

static void one_bit(struct region_header *h)
{
    h->uuid[3] ^= 4;
}

static void old_version(struct region_header *h)
{
    h->version = 1;
}

static void odd_grain(struct region_header *h)
{
    h->grain += 64;
}

static void far_words(struct region_header *h)
{
    h->words = UINT64_MAX - 63;
}

static void far_grains(struct region_header *h)
{
    h->first = h->size;
}

static void many_slots(struct region_header *h)
{
    h->slots = UINT32_MAX;
}

static void few_words(struct region_header *h)
{
    h->max_grains = 1;
}

START_TEST(what_is_no_pool_of_ours_is_refused_in_words_and_left_alone)
{
    static const struct {
        void (*change)(struct region_header *);
        bool sum;
        const char *words;
    } cases[] = {
        {new_version, true, "has format version 3"},
        {other_layout, true, "holds another layout"},
        {new_feature, true, "features that this program does not know"},
        {one_bit, false, "checksum of its header"},
        {old_version, true, "has format version 1"},
        {odd_grain, true, "parts that do not fit"},
        {far_words, true, "parts that do not fit"},
        {far_grains, true, "parts that do not fit"},
        {many_slots, true, "parts that do not fit"},
        {few_words, true, "parts that do not fit"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        make_pool();
        change_header(cases[i].change, cases[i].sum);
        refuses(-EINVAL, cases[i].words, 0);
        refuses(-EINVAL, cases[i].words, SIZE);
        unlink(path);
    }
}
END_TEST

START_TEST(a_truncated_pool_and_a_foreign_file_are_refused)
{
    make_pool();
    ck_assert_int_eq(truncate(path, SIZE - 4096), 0);
    refuses(-EINVAL, "is truncated: it has 61440 of 65536 bytes", SIZE);
    ck_assert_int_eq(truncate(path, 100), 0);
    refuses(-EINVAL, "too short for a pool", SIZE);
    int fd = open(path, O_WRONLY | O_TRUNC);
    for (int i = 0; i < 100; i++)
        dprintf(fd, "This is a letter to a friend.\n");
    close(fd);
    refuses(-EINVAL, "is not a fastsock pool", SIZE);
}
END_TEST

START_TEST(a_folder_is_not_a_pool)
{
    struct region region;
    struct region_options options = {.policy = PM_PROCESS};
    ck_assert_int_lt(
        region_open(&region, folder, &options, error, sizeof(error)), 0);
    ck_assert(error[0] != '\0');
}
END_TEST

START_TEST(a_pool_whose_making_was_interrupted_is_made_again)
{
    static const uint64_t magic = REGION_MAGIC_UNBUILT;
    struct region region;
    make_pool();
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pwrite(fd, &magic, sizeof(magic), 0), sizeof(magic));
    close(fd);
    refuses(-EINVAL, "was never finished", 0);
    ck_assert_int_eq(open_pool(&region, 2 * SIZE), 0);
    ck_assert(region.created);
    ck_assert_uint_eq(region.header->size, 2 * SIZE);
    region_close(&region);
    ck_assert_int_eq(truncate(path, 0), 0); /* killed before the first byte */
    ck_assert_int_eq(open_pool(&region, SIZE), 0);
    region_close(&region);
}
END_TEST

START_TEST(no_room_for_a_pool_leaves_no_file)
{
    struct rlimit limit = {16384, 16384};
    struct region region;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_lt(open_pool(&region, SIZE), 0);
    ck_assert_msg(strstr(error, "65536 bytes allocated") != NULL, "%s", error);
    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(a_region_that_finds_no_room_to_grow_stays_as_it_is)
{
    struct rlimit limit = {SIZE + 8192, SIZE + 8192};
    struct region region;
    struct region_options options = {
        .size = SIZE, .room = 4 * SIZE, .policy = PM_PROCESS};
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(region_open(&region, path, &options, error, sizeof(error)),
                     0);
    uint64_t grains = region_grains(&region);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_lt(region_grow(&region, 2 * SIZE, error, sizeof(error)), 0);
    ck_assert_msg(strstr(error, "131072 bytes allocated") != NULL, "%s", error);
    ck_assert_uint_eq(region.header->size, SIZE);
    ck_assert_uint_eq(region_grains(&region), grains);
    ck_assert_int_eq(region_grow(&region, SIZE + 8192, error, sizeof(error)),
                     0);
    ck_assert_uint_eq(region_grains(&region), grains + 2);
    region_close(&region);
    ck_assert_int_eq(open_pool(&region, 0), 0);
    ck_assert_uint_eq(region.header->size, SIZE + 8192);
    region_close(&region);
}
END_TEST

START_TEST(a_region_grows_while_it_is_mapped)
{
    struct region region;
    struct region_options options = {
        .size = SIZE, .room = 4 * SIZE, .policy = PM_PROCESS};
    ck_assert_int_eq(region_open(&region, path, &options, error, sizeof(error)),
                     0);
    const unsigned char *base = region.pm.base;
    uint64_t grains = region_grains(&region);
    ck_assert_int_eq(region_grow(&region, SIZE - 4096, error, sizeof(error)),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "cannot shrink"));
    ck_assert_int_eq(
        region_grow(&region, (uint64_t)1 << 40, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "can grow to"));
    ck_assert_msg(region_grow(&region, 2 * SIZE + 5, error, sizeof(error)) == 0,
                  "%s", error);
    ck_assert_ptr_eq(region.pm.base, base);
    ck_assert_uint_eq(region_grains(&region), grains + SIZE / 4096);
    region.pm.base[2 * SIZE - 1] = 7; /* it is there */
    region_close(&region);
    ck_assert_int_eq(open_pool(&region, 0), 0);
    ck_assert_uint_eq(region.header->size, 2 * SIZE);
    ck_assert_uint_eq(region.pm.base[2 * SIZE - 1], 7);
    region_close(&region);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("region");
    TCase *tcase = tcase_create("region");
    tcase_add_checked_fixture(tcase, make_folder, remove_folder);
    tcase_add_test(tcase, a_new_pool_is_whole_allocated_and_private);
    tcase_add_test(tcase, grains_of_a_large_region_are_large_and_aligned);
    tcase_add_test(tcase, a_region_grows_while_it_is_mapped);
    tcase_add_test(tcase, a_region_that_finds_no_room_to_grow_stays_as_it_is);
    tcase_add_test(tcase, an_existing_pool_keeps_its_size);
    tcase_add_test(tcase, an_open_pool_is_refused_with_the_pid_that_has_it);
    tcase_add_test(tcase, no_pool_and_no_size_is_a_question_back);
    tcase_add_test(tcase,
                   what_is_no_pool_of_ours_is_refused_in_words_and_left_alone);
    tcase_add_test(tcase, a_truncated_pool_and_a_foreign_file_are_refused);
    tcase_add_test(tcase, a_folder_is_not_a_pool);
    tcase_add_test(tcase, a_pool_whose_making_was_interrupted_is_made_again);
    tcase_add_test(tcase, no_room_for_a_pool_leaves_no_file);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
