/* Pools as users of the library make them: what is made can be opened. */
#include "store/engine/engine.h"

#include "store/engine/engine_state.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GRAIN 4096

static int fd;
static char path[32];
static char error[256];
static struct kv_region *region;

static void begin(void)
{
    struct kv_region_options options = {.size = KV_MIN_POOL,
                                        .durability = KV_DURABILITY_PROCESS};
    fd = memfd_create("region", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_int_eq(
        kv_region_open(path, &options, &region, error, sizeof(error)), 0);
}

static void end(void)
{
    kv_region_close(region);
    close(fd);
}

static int create(const char *name, uint64_t size)
{
    return kv_pool_create(region, name, size, error, sizeof(error));
}

static void works(const char *name)
{
    struct kv_options options = {0};
    struct kv_item item;
    struct kv *kv;
    ck_assert_msg(
        kv_pool_open(region, name, &options, &kv, error, sizeof(error)) == 0,
        "%s", error);
    ck_assert_int_eq(kv_store(kv, KV_SET, "k", 1, 0, 0, 0, "v", 1, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert_int_eq(kv_close(kv), 0);
}

START_TEST(a_pool_too_small_to_open_is_not_made)
{
    uint64_t all = kv_region_free(region);
    ck_assert_int_eq(create("a", 1), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "at least 16384"));
    ck_assert_int_eq(create("a", 3 * GRAIN), -EINVAL);
    ck_assert_uint_eq(kv_region_free(region), all);
    ck_assert_int_eq(create("a", 3 * GRAIN + 1), 0);
    works("a");
}
END_TEST

START_TEST(all_that_is_free_may_be_too_little)
{
    ck_assert_int_eq(create("a", kv_region_free(region) - 2 * GRAIN), 0);
    ck_assert_int_eq(create("b", 0), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error, "has 8192 free bytes, not 16384"));
}
END_TEST

/* Leave so many grains free between two that are taken, over and over. */
static void make_holes(uint64_t grains)
{
    char name[16];
    int n = 0;
    for (; kv_region_free(region) >= 3 * GRAIN; n++) {
        uint64_t size = n % 2 ? grains * GRAIN : 3 * GRAIN;
        struct region *raw = &region->region;
        snprintf(name, sizeof(name), "p%d", n);
        if (kv_region_free(region) < size + 3 * GRAIN)
            size = 0;
        ck_assert_int_eq(pool_create(raw, name, size, 0, error, sizeof(error)),
                         0);
    }
    for (int i = 1; i < n - 1; i += 2) {
        snprintf(name, sizeof(name), "p%d", i);
        ck_assert_int_eq(
            kv_pool_delete(region, name, false, error, sizeof(error)), 0);
    }
}

START_TEST(free_grains_that_lie_apart_are_no_place_to_begin)
{
    make_holes(3);
    ck_assert_uint_gt(kv_region_free(region), 6 * GRAIN);
    ck_assert_int_eq(create("a", 5 * GRAIN), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error, "in pieces"));
}
END_TEST

START_TEST(a_pool_in_pieces_begins_where_there_is_room)
{
    make_holes(4);
    ck_assert_int_eq(create("a", 0), 0);
    ck_assert_uint_eq(kv_region_free(region), 0);
    works("a");
}
END_TEST

/* Nothing in a region is an address. */
START_TEST(a_region_may_be_mapped_anywhere)
{
    struct kv_region_options options = {.durability = KV_DURABILITY_PROCESS};
    struct kv_options pool = {0};
    unsigned char *base = region->region.pm.base;
    static char value[5000], got[5000];
    char key[16];
    struct kv *kv;
    ck_assert_int_eq(create("a", 0), 0);
    ck_assert_int_eq(
        kv_pool_open(region, "a", &pool, &kv, error, sizeof(error)), 0);
    memset(value, 'v', sizeof(value));
    for (int i = 0; i < 400; i++) { /* the table grows, a value is in pieces */
        snprintf(key, sizeof(key), "%d", i);
        kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, 400, NULL);
    }
    for (int i = 0; i < 400; i += 2) {
        snprintf(key, sizeof(key), "%d", i);
        kv_delete(kv, key, strlen(key));
    }
    kv_commit(kv);
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value, sizeof(value), NULL),
        KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    for (int closed = 0; closed < 2; closed++) {
        kv->failed = !closed; /* as after a crash */
        kv_close(kv);
        kv_region_close(region);
        void *taken = mmap(base, KV_MIN_POOL, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        ck_assert_ptr_eq(taken, base);
        ck_assert_int_eq(
            kv_region_open(path, &options, &region, error, sizeof(error)), 0);
        ck_assert_ptr_ne(region->region.pm.base, base);
        base = region->region.pm.base;
        ck_assert_int_eq(
            kv_pool_open(region, "a", &pool, &kv, error, sizeof(error)), 0);
        for (int i = 1; i < 400; i += 2) {
            snprintf(key, sizeof(key), "%d", i);
            ck_assert_int_eq(kv_read(kv, key, strlen(key), 0, got, 400, NULL),
                             KV_OK);
            ck_assert_int_eq(memcmp(got, value, 400), 0);
        }
        ck_assert_int_eq(kv_read(kv, "k", 1, 0, got, sizeof(got), NULL), KV_OK);
        ck_assert_int_eq(memcmp(got, value, sizeof(got)), 0);
    }
    kv_close(kv);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pools");
    TCase *tcase = tcase_create("pools");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_pool_too_small_to_open_is_not_made);
    tcase_add_test(tcase, all_that_is_free_may_be_too_little);
    tcase_add_test(tcase, free_grains_that_lie_apart_are_no_place_to_begin);
    tcase_add_test(tcase, a_pool_in_pieces_begins_where_there_is_room);
    tcase_add_test(tcase, a_region_may_be_mapped_anywhere);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
