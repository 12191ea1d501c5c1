/* A pool's file is cut short while it is in use: errors, and no crash. */
#include "config/log.h"
#include "store/engine/engine.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE  (4u << 20)
#define ITEMS 2000

/* A call that meets a fault does not free what it has allocated. */
const char *__lsan_default_options(void);
__attribute__((visibility("default"))) const char *__lsan_default_options(void)
{
    return "detect_leaks=0";
}

static struct kv *kv;
static int fd;
static char path[32];
static char error[256];

static struct kv_options guarded(void)
{
    return (struct kv_options){.size = SIZE, .guard = KV_GUARD_ZEROES};
}

static enum kv_result put(int k)
{
    char value[1000];
    memset(value, k, sizeof(value));
    return kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, value,
                    k % 2 ? sizeof(value) : 8, NULL);
}

static void open_pool(void)
{
    struct kv_options options = guarded();
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
    for (int k = 0; k < ITEMS; k++) {
        ck_assert_int_eq(put(k), KV_OK);
        if (k % 10 == 0)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    kv_unpin_all(kv);
}

static void close_pool(void)
{
    close(fd);
}

/* From here on nothing but errors. */
static void all_is_lost(void)
{
    struct kv_item item;
    struct kv_reservation r;
    char byte;
    int k = 1;
    ck_assert_int_eq(kv_get(kv, &k, sizeof(k), &item), KV_IO);
    ck_assert_int_eq(kv_read(kv, &k, sizeof(k), 0, &byte, 1, NULL), KV_IO);
    ck_assert_int_eq(kv_hold(kv, &k, sizeof(k), &item), KV_IO);
    ck_assert_int_eq(kv_exists(kv, &k, sizeof(k)), KV_IO);
    ck_assert_int_eq(put(k), KV_IO);
    ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_IO);
    ck_assert_int_eq(kv_touch(kv, &k, sizeof(k), 0), KV_IO);
    ck_assert_int_eq(kv_arith(kv, &k, sizeof(k), true, 1, NULL, NULL), KV_IO);
    ck_assert_int_eq(kv_write(kv, &k, sizeof(k), 0, "x", 1, 0, NULL), KV_IO);
    ck_assert_int_eq(kv_reserve(kv, 1, 1, &r), KV_IO);
    ck_assert_int_eq(kv_flush_all(kv, 0), KV_IO);
    ck_assert_int_eq(kv_commit(kv), KV_IO);
    struct kv_put one = {.key = &k, .klen = sizeof(k), .value = "", .len = 0};
    ck_assert_int_eq(kv_store_batch(kv, &one, 1), KV_IO);
    ck_assert_int_eq(one.result, KV_IO);
    kv_set_time(kv, 2000);
    kv_hint(kv, &k, sizeof(k), true);
    kv_unpin_all(kv);
    ck_assert_int_eq(kv_pool_grow(kv, 4096, error, sizeof(error)), -EIO);
    ck_assert_ptr_nonnull(strstr(error, "cut short"));
    ck_assert_int_eq(kv_close(kv), -EIO);
}

static enum kv_result use(int what, int k)
{
    struct kv_item item;
    struct kv_reservation r;
    char bytes[1000];
    enum kv_result result;
    switch (what) {
    case 0:
        return kv_get(kv, &k, sizeof(k), &item);
    case 1:
        return put(k);
    case 2:
        return kv_delete(kv, &k, sizeof(k));
    case 3:
        return kv_touch(kv, &k, sizeof(k), 5000);
    case 4:
        return kv_read(kv, &k, sizeof(k), 0, bytes, sizeof(bytes), NULL);
    case 5:
        return kv_write(kv, &k, sizeof(k), 3, "part", 4, 0, NULL);
    case 6:
        return kv_store(kv, KV_APPEND, &k, sizeof(k), 0, 0, 0, "more", 4, NULL);
    case 7:
        result = kv_reserve(kv, sizeof(k), 500, &r);
        return result == KV_OK
                   ? kv_publish(kv, &r, KV_SET, &k, sizeof(k), 0, 0, 0, NULL)
                   : result;
    case 8:
        result = kv_hold(kv, &k, sizeof(k), &item);
        if (result == KV_OK)
            kv_release(kv, &item);
        return result;
    default:
        k += ITEMS;
        return put(k);
    }
}

/* Cut at several places, and all kinds of calls until one meets it. */
START_TEST(a_call_that_meets_the_end_of_a_cut_file_fails_and_all_after_it)
{
    static const off_t ends[] = {0, 4096, 65536, SIZE / 4, SIZE / 2};
    enum kv_result result = KV_OK;
    ck_assert_int_eq(ftruncate(fd, ends[_i / 10]), 0);
    for (int k = 0; k < ITEMS && result != KV_IO; k++) {
        result = use(_i % 10, k);
        if (k % 20 == 19 && result != KV_IO)
            result = kv_commit(kv);
    }
    for (int k = ITEMS; result != KV_IO; k++) /* until it is full, if need be */
        result = put(k) == KV_IO ? KV_IO : kv_commit(kv);
    all_is_lost();
}
END_TEST

static bool visit(void *context, const void *key, size_t klen,
                  const struct kv_item *item)
{
    struct kv_run run = {0};
    unsigned *sum = context;
    (void)key;
    (void)klen;
    while (kv_next_run(kv, item, &run))
        for (uint32_t i = 0; i < run.len; i++)
            *sum += ((const unsigned char *)run.bytes)[i];
    return true;
}

START_TEST(a_scan_of_a_cut_file_ends)
{
    unsigned sum = 0;
    ck_assert_int_eq(ftruncate(fd, SIZE / 4), 0);
    kv_each(kv, visit, &sum);
    all_is_lost();
}
END_TEST

START_TEST(who_reads_a_borrowed_value_of_a_cut_file_reads_zeroes_and_is_told)
{
    struct kv_item item, held;
    struct kv_reservation r;
    unsigned sum = 0;
    int k = 1;
    ck_assert_int_eq(kv_get(kv, &k, sizeof(k), &item), KV_OK);
    ck_assert_int_eq(kv_hold(kv, &k, sizeof(k), &held), KV_OK);
    ck_assert_int_eq(kv_reserve(kv, 1, 100, &r), KV_OK);
    ck_assert_int_eq(ftruncate(fd, 4096), 0);
    for (uint32_t i = 0; i < item.len; i++)
        sum += ((const unsigned char *)item.value)[i];
    ck_assert_uint_eq(sum, 0);
    memset(r.buffer, 'x', 100);
    ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_IO);
    kv_cancel(kv, &r);
    kv_release(kv, &held);
    all_is_lost();
}
END_TEST

START_TEST(a_close_that_meets_the_end_of_the_file_says_so)
{
    for (int k = 0; k < ITEMS; k += 2)
        ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(kv_close(kv), -EIO);
}
END_TEST

START_TEST(a_cut_file_is_refused_when_it_is_opened_again)
{
    struct kv_options options = guarded();
    ck_assert_int_eq(ftruncate(fd, SIZE / 2), 0);
    for (int k = 1; put(k) != KV_IO; k += 2)
        ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_int_eq(kv_close(kv), -EIO);
    ck_assert_int_lt(kv_open(path, &options, &kv, error, sizeof(error)), 0);
    ck_assert_ptr_nonnull(strstr(error, "bytes"));
}
END_TEST

START_TEST(pools_of_a_file_that_is_cut_between_two_opens_are_refused)
{
    struct kv_region_options options = {.guard = KV_GUARD_ZEROES};
    struct kv_options none = {0};
    struct kv_region *region;
    static const off_t ends[] = {0, 4096, 16384, SIZE / 4};
    ck_assert_int_eq(kv_close(kv), 0);
    ck_assert_int_eq(
        kv_region_open(path, &options, &region, error, sizeof(error)), 0);
    ck_assert_int_eq(ftruncate(fd, ends[_i]), 0);
    ck_assert_int_eq(
        kv_pool_open(region, "default", &none, &kv, error, sizeof(error)),
        -EIO);
    ck_assert_ptr_nonnull(strstr(error, "cut short"));
    ck_assert_int_eq(kv_pool_create(region, "other", 0, error, sizeof(error)),
                     -EIO);
    ck_assert_int_eq(
        kv_pool_delete(region, "default", false, error, sizeof(error)), -EIO);
    ck_assert_int_eq(kv_region_grow(region, 2 * SIZE, error, sizeof(error)),
                     -EIO);
    kv_region_close(region);
}
END_TEST

static void ignore(void *context, const void *key, size_t klen,
                   const struct kv_item *item)
{
    (void)context;
    (void)key;
    (void)klen;
    (void)item;
}

START_TEST(a_store_with_callbacks_and_shards_is_guarded_too)
{
    struct kv_shared_options options = {.shards = 3, .pool = guarded()};
    struct kv_shared *shared;
    enum kv_result result = KV_OK;
    char value[1000] = "value";
    ck_assert_int_eq(kv_close(kv), 0);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    options.pool.evict = true;
    ck_assert_msg(
        kv_shared_open(path, &options, &shared, error, sizeof(error)) == 0,
        "%s", error);
    ck_assert_int_eq(kv_shared_on_evict(shared, ignore, NULL), 0);
    for (int k = 0; k < 50; k++)
        ck_assert_int_eq(kv_shared_store(shared, KV_SET, &k, sizeof(k), 0, 0, 0,
                                         value, sizeof(value), NULL),
                         KV_OK);
    ck_assert_int_eq(ftruncate(fd, 65536), 0);
    for (int k = 0; k < 50 && result != KV_IO; k++)
        result = kv_shared_store(shared, KV_SET, &k, sizeof(k), 0, 0, 0, value,
                                 sizeof(value), NULL);
    for (int k = 0; k < 50; k++)
        ck_assert_int_eq(
            kv_shared_get(shared, &k, sizeof(k), 0, value, 9, NULL), KV_IO);
    ck_assert_int_eq(kv_shared_commit(shared), KV_IO);
    ck_assert_int_lt(kv_shared_close(shared), 0);
}
END_TEST

START_TEST(shards_of_a_cut_file_do_not_grow)
{
    struct kv_shared_options options = {
        .shards = 3, .room = 4 * SIZE, .pool = guarded()};
    struct kv_shared *shared;
    options.pool.size = SIZE;
    ck_assert_int_eq(kv_close(kv), 0);
    kv = NULL;
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_msg(
        kv_shared_open(path, &options, &shared, error, sizeof(error)) == 0,
        "%s", error);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(kv_shared_grow(shared, SIZE, error, sizeof(error)), -EIO);
    ck_assert_ptr_nonnull(strstr(error, "cut short"));
    ck_assert_int_lt(kv_shared_close(shared), 0);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("guarded");
    TCase *tcase = tcase_create("guarded");
    tcase_add_checked_fixture(tcase, open_pool, close_pool);
    tcase_add_loop_test(
        tcase, a_call_that_meets_the_end_of_a_cut_file_fails_and_all_after_it,
        0, 50);
    tcase_add_test(tcase, a_scan_of_a_cut_file_ends);
    tcase_add_test(
        tcase,
        who_reads_a_borrowed_value_of_a_cut_file_reads_zeroes_and_is_told);
    tcase_add_test(tcase, a_close_that_meets_the_end_of_the_file_says_so);
    tcase_add_test(tcase, a_cut_file_is_refused_when_it_is_opened_again);
    tcase_add_loop_test(
        tcase, pools_of_a_file_that_is_cut_between_two_opens_are_refused, 0, 4);
    tcase_add_test(tcase, a_store_with_callbacks_and_shards_is_guarded_too);
    tcase_add_test(tcase, shards_of_a_cut_file_do_not_grow);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
