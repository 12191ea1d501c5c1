/* Pool files: what is made, what is refused with which words, what is left. */
#include "store/pm/region.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE  (64u << 10)
#define TABLE (128u * 64)

static char folder[64];
static char path[96];
static char error[256];

static void make_folder(void)
{
    strcpy(folder, "/tmp/check_region.XXXXXX");
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
    struct region_options options = {
        .size = size, .table_size = TABLE, .policy = PM_PROCESS};
    return region_open(region, path, &options, error, sizeof(error));
}

static void make_pool(void)
{
    struct region region;
    ck_assert_msg(open_pool(&region, SIZE) == 0, "%s", error);
    ck_assert_int_eq(region_close(&region, true), 0);
}

/* Header fields are changed in the file, the sum is made right again. */
static void change_header(void (*change)(struct region_header *), bool sum)
{
    struct region_header header;
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pread(fd, &header, sizeof(header), 0), sizeof(header));
    change(&header);
    if (sum)
        header.check = region_check(&header);
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
    ck_assert(region.created && region.was_clean);
    ck_assert_uint_eq(region.header->size, SIZE);
    ck_assert_uint_eq(region.header->table.size, TABLE);
    ck_assert_uint_eq(region.header->heap.offset, 4096 + TABLE);
    ck_assert_uint_eq(region.header->state.clean, 0);
    ck_assert_int_eq(fstat(region.fd, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_int_ge(st.st_blocks * 512, SIZE);
    ck_assert_int_eq(region_close(&region, true), 0);
}
END_TEST

START_TEST(the_state_says_whether_the_last_user_closed_it)
{
    struct region region;
    make_pool();
    ck_assert_int_eq(open_pool(&region, 0), 0);
    ck_assert(region.was_clean && !region.created);
    ck_assert_int_eq(region_close(&region, false), 0);
    ck_assert_int_eq(open_pool(&region, 0), 0);
    ck_assert(!region.was_clean);
    region_close(&region, true);
}
END_TEST

START_TEST(an_existing_pool_keeps_its_size)
{
    struct region region;
    make_pool();
    ck_assert_int_eq(open_pool(&region, 4 * SIZE), 0);
    ck_assert_uint_eq(region.header->size, SIZE);
    region_close(&region, true);
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
    region_close(&first, true);
    ck_assert_int_eq(open_pool(&second, 0), 0);
    region_close(&second, true);
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
    h->version = 2;
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
    h->seed[3] ^= 4;
}

static void odd_table(struct region_header *h)
{
    h->table.size -= 64;
}

static void far_heap(struct region_header *h)
{
    h->heap.offset = UINT64_MAX - 63;
}

static void huge_part(struct region_header *h)
{
    h->heap.size = UINT64_MAX - 63;
}

static void mad_state(struct region_header *h)
{
    h->state.cas_ceiling = UINT64_MAX;
}

static void mad_selector(struct region_header *h)
{
    h->state.flush_live = 2;
}

START_TEST(what_is_no_pool_of_ours_is_refused_in_words_and_left_alone)
{
    static const struct {
        void (*change)(struct region_header *);
        bool sum;
        const char *words;
    } cases[] = {
        {new_version, true, "has format version 2"},
        {other_layout, true, "holds another layout"},
        {new_feature, true, "features that this program does not know"},
        {one_bit, false, "checksum of its header"},
        {odd_table, true, "parts that do not fit"},
        {far_heap, true, "parts that do not fit"},
        {huge_part, true, "parts that do not fit"},
        {mad_state, true, "impossible values"},
        {mad_selector, true, "impossible values"}};
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
    region_close(&region, true);
    ck_assert_int_eq(truncate(path, 0), 0); /* killed before the first byte */
    ck_assert_int_eq(open_pool(&region, SIZE), 0);
    region_close(&region, true);
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

int main(void)
{
    Suite *suite = suite_create("region");
    TCase *tcase = tcase_create("region");
    tcase_add_checked_fixture(tcase, make_folder, remove_folder);
    tcase_add_test(tcase, a_new_pool_is_whole_allocated_and_private);
    tcase_add_test(tcase, the_state_says_whether_the_last_user_closed_it);
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
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
