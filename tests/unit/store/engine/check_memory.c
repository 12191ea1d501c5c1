/* What is the engine's in memory alone; the rest is in check_engine.c and in
 * check_engine_model.c. */
#include "config/log.h"
#include "store/engine/memory.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

static struct kv *kv;

static void open_store(uint64_t size, bool evict)
{
    char error[256] = "";
    struct kv_options options = {
        .size = size, .evict = evict, .engine = KV_ENGINE_MEMORY};
    ck_assert_msg(kv_open(NULL, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static enum kv_result put(int k, const void *value, size_t len)
{
    return kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, value, len, NULL);
}

static bool there(int k)
{
    return kv_exists(kv, &k, sizeof(k)) == KV_OK;
}

START_TEST(the_item_used_longest_ago_goes_first)
{
    static char value[30000];
    struct kv_item item;
    open_store(KV_MIN_POOL, true);
    for (int k = 0; k < 8; k++)
        ck_assert_int_eq(put(k, value, sizeof(value)), KV_OK);
    int first = 0;
    ck_assert_int_eq(kv_get(kv, &first, sizeof(first), &item), KV_OK);
    kv_unpin_all(kv);
    ck_assert_int_eq(put(8, value, sizeof(value)), KV_OK);
    ck_assert(there(0) && !there(1) && there(2) && there(8));
    kv_close(kv);
}
END_TEST

START_TEST(a_full_store_says_so_and_loses_nothing)
{
    static char value[30000];
    struct kv_statistics stats;
    int n = 0;
    open_store(KV_MIN_POOL, false);
    while (put(n, value, sizeof(value)) == KV_OK)
        n++;
    ck_assert_int_eq(put(n, value, sizeof(value)), KV_NO_SPACE);
    ck_assert_int_eq(put(n, value, KV_MIN_POOL), KV_TOO_LARGE);
    for (int k = 0; k < n; k++)
        ck_assert(there(k));
    kv_stats(kv, &stats);
    ck_assert_uint_gt((uint64_t)n * sizeof(value),
                      KV_MIN_POOL - 2 * sizeof(value));
    ck_assert_uint_lt(stats.heap_free, 2 * sizeof(value));
    int last = n - 1;
    ck_assert_int_eq(kv_delete(kv, &last, sizeof(last)), KV_OK);
    ck_assert_int_eq(put(n, value, sizeof(value)), KV_OK);
    kv_close(kv);
}
END_TEST

START_TEST(what_has_expired_makes_room_in_a_full_store)
{
    static char value[30000];
    open_store(KV_MIN_POOL, false);
    for (int k = 0; k < 8; k++)
        ck_assert_int_eq(kv_store(kv, KV_SET, &k, sizeof(k), 0, 2000, 0, value,
                                  sizeof(value), NULL),
                         KV_OK);
    ck_assert_int_eq(put(8, value, sizeof(value)), KV_NO_SPACE);
    kv_set_time(kv, 2000);
    ck_assert_int_eq(put(8, value, sizeof(value)), KV_OK);
    kv_close(kv);
}
END_TEST

START_TEST(turns_sweep_what_was_flushed)
{
    struct kv_statistics stats;
    open_store(KV_MIN_POOL, false);
    for (int k = 0; k < 500; k++)
        ck_assert_int_eq(put(k, "v", 1), KV_OK);
    kv_flush_all(kv, 0);
    for (int i = 0; i < 200; i++)
        kv_commit(kv);
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.items, 0);
    ck_assert_uint_eq(stats.reclaimed, 500);
    kv_close(kv);
}
END_TEST

START_TEST(a_store_without_a_size_is_refused_in_words)
{
    char error[256] = "";
    struct kv_options options = {.engine = KV_ENGINE_MEMORY};
    ck_assert_int_lt(kv_open("sessions", &options, &kv, error, sizeof(error)),
                     0);
    ck_assert_ptr_nonnull(strstr(error, "sessions cannot be made"));
    ck_assert_ptr_nonnull(strstr(error, "at least 262144 bytes"));
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("memory");
    TCase *tcase = tcase_create("memory");
    tcase_add_test(tcase, the_item_used_longest_ago_goes_first);
    tcase_add_test(tcase, a_full_store_says_so_and_loses_nothing);
    tcase_add_test(tcase, what_has_expired_makes_room_in_a_full_store);
    tcase_add_test(tcase, turns_sweep_what_was_flushed);
    tcase_add_test(tcase, a_store_without_a_size_is_refused_in_words);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
