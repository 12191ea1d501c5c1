/* Pools of a region: what is made, refused, grown, deleted, left by a crash. */
#include "store/pm/pool.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE (128u << 10)

static int fd;
static int mallocs_left = -1; /* until one fails; below 0: none does */
static char path[32];
static char error[256];
static struct region region;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

/* The linker's --wrap. */
void *__wrap_malloc(size_t size)
{
    if (mallocs_left >= 0 && mallocs_left-- == 0)
        return NULL;
    return __real_malloc(size);
}

static void open_region(void)
{
    struct region_options options = {.size = SIZE, .policy = PM_PROCESS};
    ck_assert_msg(region_open(&region, path, &options, error, sizeof(error)) ==
                      0,
                  "%s", error);
}

static void reopen(void)
{
    region_close(&region);
    open_region();
}

static void begin(void)
{
    fd = memfd_create("region", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_region();
}

static void end(void)
{
    region_close(&region);
    close(fd);
}

static int create(const char *name, uint64_t size)
{
    return pool_create(&region, name, size, 0, error, sizeof(error));
}

static int drop(const char *name, bool zero)
{
    return pool_delete(&region, name, zero, error, sizeof(error));
}

static int take(struct pool *pool, const char *name)
{
    return pool_open(pool, &region, name, error, sizeof(error));
}

static void says(const char *words)
{
    ck_assert_msg(strstr(error, words) != NULL, "\"%s\" is not in \"%s\"",
                  words, error);
    ck_assert_ptr_eq(strstr(error, path), error);
}

static uint64_t bytes_of(const struct pool *pool)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < pool->n_parts; i++)
        sum += pool->parts[i].size;
    return sum;
}

START_TEST(pools_share_a_region_and_are_found_by_name)
{
    struct pool a, b;
    uint64_t all = pool_free_space(&region);
    ck_assert_int_eq(create("a", 10000), 0);
    ck_assert_int_eq(create("b", 0), 0);
    ck_assert_uint_eq(pool_free_space(&region), 0);
    reopen();
    ck_assert_int_eq(take(&a, "a"), 0);
    ck_assert_int_eq(take(&b, "b"), 0);
    ck_assert(a.was_clean && b.was_clean);
    ck_assert_uint_eq(a.size, 12288);
    ck_assert_uint_eq(b.size, all - 12288);
    ck_assert_uint_eq(bytes_of(&a), a.size - POOL_HEADER_SIZE);
    ck_assert_uint_eq(a.n_parts, 1);
    ck_assert_int_eq(pool_close(&a, false), 0);
    ck_assert_int_eq(pool_close(&b, true), 0);
    ck_assert_int_eq(take(&a, "a"), 0);
    ck_assert(!a.was_clean);
    ck_assert_int_eq(pool_close(&a, true), 0);
}
END_TEST

START_TEST(what_cannot_be_is_refused_in_words)
{
    struct pool pool, again;
    ck_assert_int_eq(create("", 1), -EINVAL);
    says("cannot have a pool of that name");
    ck_assert_int_eq(create("two words", 1), -EINVAL);
    ck_assert_int_eq(create("big", SIZE), -ENOSPC);
    says("free bytes");
    ck_assert_int_eq(create("a", 4096), 0);
    ck_assert_int_eq(create("a", 4096), -EEXIST);
    says("already");
    ck_assert_int_eq(take(&pool, "b"), -ENOENT);
    says("has no pool \"b\"");
    ck_assert_int_eq(drop("b", false), -ENOENT);
    ck_assert_int_eq(take(&pool, "a"), 0);
    ck_assert_int_eq(take(&again, "a"), -EBUSY);
    says("open already");
    ck_assert_int_eq(drop("a", false), -EBUSY);
    says("close it first");
    pool_close(&pool, true);
    ck_assert_int_eq(drop("a", false), 0);
}
END_TEST

START_TEST(a_pool_grows_into_grains_that_are_no_neighbours)
{
    struct region_part *added;
    struct pool pool;
    size_t n;
    uint64_t all = pool_free_space(&region);
    ck_assert_int_eq(create("a", 8192), 0);
    ck_assert_int_eq(create("b", 8192), 0);
    ck_assert_int_eq(create("c", 8192), 0);
    ck_assert_int_eq(drop("b", false), 0);
    ck_assert_int_eq(take(&pool, "a"), 0);
    ck_assert_int_eq(
        pool_grow(&pool, all - 16384, &added, &n, error, sizeof(error)), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(added[0].size, 8192);
    free(added);
    ck_assert_uint_eq(pool.size, all - 8192);
    ck_assert_int_eq(pool_grow(&pool, 1, &added, &n, error, sizeof(error)),
                     -ENOSPC);
    pool_close(&pool, true);
    reopen();
    ck_assert_int_eq(take(&pool, "a"), 0);
    ck_assert_uint_eq(pool.size, all - 8192);
    ck_assert_uint_eq(pool.n_parts, 2); /* around c */
    ck_assert_uint_eq(bytes_of(&pool), pool.size - POOL_HEADER_SIZE);
    pool_close(&pool, true);
}
END_TEST

/* One takes the gap behind a, the other one what follows c. */
START_TEST(a_growth_without_memory_does_not_meet_a_later_one)
{
    static const uint64_t sizes[] = {4096, 16384};
    struct region_part *added;
    struct pool pool;
    size_t n;
    ck_assert_int_eq(create("a", 4096), 0);
    ck_assert_int_eq(create("b", 4096), 0);
    ck_assert_int_eq(create("c", 4096), 0);
    ck_assert_int_eq(drop("b", false), 0);
    ck_assert_int_eq(take(&pool, "a"), 0);
    uint64_t left = pool_free_space(&region), more = sizes[!_i];
    for (int nth = 0; nth < 2; nth++) {
        mallocs_left = nth;
        ck_assert_int_eq(
            pool_grow(&pool, sizes[_i], &added, &n, error, sizeof(error)),
            -ENOMEM);
        says("cannot make pool \"a\" larger");
        ck_assert_int_lt(mallocs_left, 0);
    }
    ck_assert_int_eq(pool_grow(&pool, more, &added, &n, error, sizeof(error)),
                     0);
    free(added);
    ck_assert_uint_eq(pool_free_space(&region), left - more);
    pool_close(&pool, true);
    reopen();
    ck_assert_int_eq(take(&pool, "a"), 0);
    ck_assert_uint_eq(pool.size, 4096 + more);
    ck_assert_uint_eq(pool_free_space(&region), left - more);
    pool_close(&pool, true);
}
END_TEST

static bool is_zero(uint64_t offset, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        if (region.pm.base[offset + i] != 0)
            return false;
    return true;
}

START_TEST(a_deleted_pool_is_zeroed_when_that_is_asked_for)
{
    for (int zero = 0; zero < 2; zero++) {
        struct pool pool;
        ck_assert_int_eq(create("a", 16384), 0);
        ck_assert_int_eq(take(&pool, "a"), 0);
        struct region_part part = pool.parts[0];
        memset(region.pm.base + part.offset, 0xaa, part.size);
        pool_close(&pool, true);
        ck_assert_int_eq(drop("a", zero), 0);
        ck_assert(!pool_exists(&region, "a"));
        ck_assert_int_eq(is_zero(part.offset - POOL_HEADER_SIZE, 16384), zero);
    }
}
END_TEST

START_TEST(what_a_crash_left_is_tidied_up)
{
    struct pool pool;
    ck_assert_int_eq(create("a", 8192), 0);
    ck_assert_int_eq(create("b", 8192), 0);
    uint64_t id = region.slots[0].id, left = pool_free_space(&region);
    region.slots[1].state = REGION_SLOT_ZEROING; /* killed while zeroing */
    region.words[4] = id << 32 | 2;              /* and while growing a */
    region.words[5] = id << 32 | 2;
    region.words[6] = (id + 77) << 32; /* and while creating */
    reopen();
    ck_assert_uint_eq(pool_free_space(&region), left + 8192);
    ck_assert(is_zero(region_grain_at(&region, 2), 8192));
    for (int i = 2; i < 7; i++)
        ck_assert_uint_eq(region.words[i], 0);
    ck_assert_int_eq(take(&pool, "a"), 0);
    ck_assert_uint_eq(pool.size, 8192);
    pool_close(&pool, true);
}
END_TEST

START_TEST(a_damaged_directory_or_header_is_refused)
{
    struct region_options options = {.policy = PM_PROCESS};
    struct pool pool;
    ck_assert_int_eq(create("a", 8192), 0);
    struct pool_header *header =
        (void *)(region.pm.base + region_grain_at(&region, 0));
    header->version = 9;
    ck_assert_int_eq(take(&pool, "a"), -EINVAL);
    says("format version 9");
    header->version = POOL_VERSION;
    header->seed[0] ^= 1;
    ck_assert_int_eq(take(&pool, "a"), -EINVAL);
    says("checksum");
    header->incompat = 4;
    header->check = region_pool_check(header);
    ck_assert_int_eq(take(&pool, "a"), -EINVAL);
    says("features");
    uint64_t saved = region.words[1];
    for (int i = 0; i < 4; i++) {
        struct region_slot slot = region.slots[0];
        region.slots[0].id += i == 0;
        region.slots[0].grains += i == 1;
        region.slots[0].name[0] ^= i == 2;
        region.words[1] -= i == 3;
        region_close(&region);
        ck_assert_int_eq(
            region_open(&region, path, &options, error, sizeof(error)),
            -EINVAL);
        says("directory of pools is impossible");
        ck_assert_int_eq(pwrite(fd, &slot, sizeof(slot), 4096), sizeof(slot));
        ck_assert_int_eq(
            pwrite(fd, &saved, 8, 4096 + 32 * (int)sizeof(slot) + 8), 8);
        open_region();
    }
}
END_TEST

/* Nobody has looked at it: only its state says something. */
START_TEST(what_lies_in_a_free_slot_is_no_id)
{
    static const uint64_t ids[] = {UINT64_MAX, (uint64_t)1 << 40, UINT32_MAX,
                                   5};
    struct pool pool;
    for (int i = 0; i < 4; i++) {
        region.slots[20].id = ids[i];
        ck_assert_msg(create("a", 4096) == 0, "%s", error);
        ck_assert_uint_eq(region.slots[0].id, 1 + (uint64_t)i);
        reopen();
        ck_assert_int_eq(take(&pool, "a"), 0);
        pool_close(&pool, true);
        ck_assert_int_eq(drop("a", false), 0);
    }
}
END_TEST

START_TEST(the_id_of_a_deleted_pool_is_not_given_again)
{
    ck_assert_int_eq(create("a", 4096), 0);
    ck_assert_int_eq(create("b", 4096), 0);
    ck_assert_int_eq(drop("b", false), 0);
    reopen(); /* no word of it is left */
    ck_assert_int_eq(create("c", 4096), 0);
    ck_assert_uint_eq(region.slots[1].id, 3);
}
END_TEST

START_TEST(when_all_ids_are_given_no_pool_is_made)
{
    uint64_t left;
    ck_assert_int_eq(create("a", 4096), 0);
    region.words[0] = (uint64_t)UINT32_MAX << 32;
    region.slots[0].id = UINT32_MAX;
    region.slots[0].check = region_slot_check(&region.slots[0]);
    left = pool_free_space(&region);
    ck_assert_int_eq(create("b", 4096), -ENOSPC);
    says("cannot make pool \"b\"");
    reopen();
    ck_assert_uint_eq(pool_free_space(&region), left);
}
END_TEST

static bool count(void *context, const struct pool_info *info)
{
    int *n = context;
    ck_assert_int_eq(info->name[0], 'a' + *n);
    ck_assert(info->clean && !info->open);
    ++*n;
    return true;
}

START_TEST(as_many_pools_as_slots_can_be_made_and_are_listed)
{
    char name[2] = "a";
    int n = 0;
    for (; name[0] < 'a' + 20; name[0]++)
        ck_assert_int_eq(create(name, 1), 0);
    pool_each(&region, count, &n);
    ck_assert_int_eq(n, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tcase = tcase_create("pool");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, pools_share_a_region_and_are_found_by_name);
    tcase_add_test(tcase, what_cannot_be_is_refused_in_words);
    tcase_add_test(tcase, a_pool_grows_into_grains_that_are_no_neighbours);
    tcase_add_loop_test(
        tcase, a_growth_without_memory_does_not_meet_a_later_one, 0, 2);
    tcase_add_test(tcase, a_deleted_pool_is_zeroed_when_that_is_asked_for);
    tcase_add_test(tcase, what_a_crash_left_is_tidied_up);
    tcase_add_test(tcase, a_damaged_directory_or_header_is_refused);
    tcase_add_test(tcase, what_lies_in_a_free_slot_is_no_id);
    tcase_add_test(tcase, the_id_of_a_deleted_pool_is_not_given_again);
    tcase_add_test(tcase, when_all_ids_are_given_no_pool_is_made);
    tcase_add_test(tcase, as_many_pools_as_slots_can_be_made_and_are_listed);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
