/* What users of engine.h may rely on. */
#include "config/log.h"
#include "store/engine/audit.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOL (1u << 20)

static struct kv *kv;
static int fd;
static char path[32];
static char error[256];
static struct kv_options options;

static void open_again(void)
{
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void open_pool(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    options =
        (struct kv_options){.size = POOL, .durability = KV_DURABILITY_DEFAULT};
    open_again();
}

static void close_pool(void)
{
    char fault[128] = "no memory";
    if (kv && !kv->failed)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
    kv_close(kv);
    kv = NULL;
    close(fd);
}

static void reopen(void)
{
    ck_assert_int_eq(kv_close(kv), 0);
    open_again();
}

static enum kv_result set(const char *key, const char *value)
{
    return kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, strlen(value),
                    NULL);
}

/* The value as a string, or "(none)". */
static const char *get(const char *key)
{
    static char text[256];
    struct kv_item item;
    if (kv_get(kv, key, strlen(key), &item) != KV_OK)
        return "(none)";
    snprintf(text, sizeof(text), "%.*s", (int)item.len,
             (const char *)item.value);
    return text;
}

START_TEST(what_was_stored_is_there_after_reopening)
{
    struct kv_item item;
    uint64_t cas;
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "k", 1, 77, 5000, 0, "value", 5, &cas), KV_OK);
    reopen();
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert_uint_eq(item.flags, 77);
    ck_assert_uint_eq(item.exptime, 5000);
    ck_assert_uint_eq(item.cas, cas);
    ck_assert(item.len == 5 && memcmp(item.value, "value", 5) == 0);
}
END_TEST

START_TEST(each_mode_asks_for_what_it_needs)
{
    uint64_t cas;
    ck_assert_int_eq(kv_store(kv, KV_REPLACE, "k", 1, 0, 0, 0, "x", 1, NULL),
                     KV_NOT_STORED);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, "k", 1, 0, 0, 0, "x", 1, NULL),
                     KV_NOT_STORED);
    ck_assert_int_eq(kv_store(kv, KV_CAS, "k", 1, 0, 0, 1, "x", 1, NULL),
                     KV_MISS);
    ck_assert_int_eq(kv_store(kv, KV_ADD, "k", 1, 0, 0, 0, "b", 1, &cas),
                     KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_ADD, "k", 1, 0, 0, 0, "x", 1, NULL),
                     KV_NOT_STORED);
    ck_assert_int_eq(kv_store(kv, KV_CAS, "k", 1, 0, 0, cas + 1, "x", 1, NULL),
                     KV_EXISTS);
    ck_assert_int_eq(kv_store(kv, KV_CAS, "k", 1, 0, 0, cas, "b", 1, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_CAS, "k", 1, 0, 0, cas, "x", 1, NULL),
                     KV_EXISTS);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, "k", 1, 0, 0, 0, "c", 1, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_PREPEND, "k", 1, 0, 0, 0, "a", 1, NULL),
                     KV_OK);
    ck_assert_str_eq(get("k"), "abc");
    ck_assert_int_eq(kv_store(kv, KV_REPLACE, "k", 1, 0, 0, 0, "r", 1, NULL),
                     KV_OK);
    ck_assert_str_eq(get("k"), "r");
}
END_TEST

START_TEST(append_keeps_flags_and_exptime)
{
    struct kv_item item;
    kv_store(kv, KV_SET, "k", 1, 3, 2000, 0, "a", 1, NULL);
    kv_store(kv, KV_APPEND, "k", 1, 9, 9000, 0, "b", 1, NULL);
    kv_get(kv, "k", 1, &item);
    ck_assert_uint_eq(item.flags, 3);
    ck_assert_uint_eq(item.exptime, 2000);
}
END_TEST

START_TEST(an_expired_item_is_a_miss_and_can_be_added)
{
    kv_store(kv, KV_SET, "k", 1, 0, 1010, 0, "a", 1, NULL);
    kv_set_time(kv, 1009);
    ck_assert_str_eq(get("k"), "a");
    kv_set_time(kv, 1010);
    ck_assert_str_eq(get("k"), "(none)");
    ck_assert_uint_eq(kv->stats.get_expired, 1);
    ck_assert_int_eq(kv_touch(kv, "k", 1, 5000), KV_MISS);
    ck_assert_int_eq(kv_store(kv, KV_ADD, "k", 1, 0, 0, 0, "b", 1, NULL),
                     KV_OK);
}
END_TEST

START_TEST(touch_changes_the_end_and_nothing_else)
{
    struct kv_item item, again;
    kv_store(kv, KV_SET, "k", 1, 5, 1010, 0, "a", 1, NULL);
    kv_get(kv, "k", 1, &item);
    kv_commit(kv);
    ck_assert_int_eq(kv_touch(kv, "k", 1, 3000), KV_OK);
    kv_get(kv, "k", 1, &again); /* in the same turn */
    ck_assert_uint_eq(again.exptime, 3000);
    ck_assert_uint_eq(again.cas, item.cas);
    ck_assert_uint_eq(again.flags, 5);
    reopen();
    kv_set_time(kv, 2999);
    ck_assert_str_eq(get("k"), "a");
    kv_set_time(kv, 3000);
    ck_assert_str_eq(get("k"), "(none)");
}
END_TEST

START_TEST(incr_and_decr_follow_memcached)
{
    uint64_t value, cas;
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, &value, &cas), KV_MISS);
    set("n", "99");
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, &value, &cas), KV_OK);
    ck_assert_uint_eq(value, 100);
    ck_assert_str_eq(get("n"), "100");
    kv_arith(kv, "n", 1, false, 91, &value, NULL);
    ck_assert_uint_eq(value, 9);
    ck_assert_str_eq(get("n"), "9  ");
    kv_arith(kv, "n", 1, false, 10, &value, NULL);
    ck_assert_uint_eq(value, 0);
    set("n", "18446744073709551615");
    kv_arith(kv, "n", 1, true, 2, &value, NULL);
    ck_assert_uint_eq(value, 1);
    ck_assert_str_eq(get("n"), "1                   ");
    set("n", "one");
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, NULL, NULL), KV_NOT_NUMBER);
    ck_assert_str_eq(get("n"), "one");
}
END_TEST

START_TEST(flush_all_takes_what_is_older_and_nothing_younger)
{
    set("a", "1");
    kv_flush_all(kv, 1000);
    set("b", "2");
    ck_assert_str_eq(get("a"), "(none)");
    ck_assert_uint_eq(kv->stats.get_flushed, 1);
    ck_assert_str_eq(get("b"), "2");
    reopen();
    ck_assert_str_eq(get("a"), "(none)");
    ck_assert_str_eq(get("b"), "2");
}
END_TEST

START_TEST(a_flush_to_come_survives_reopening)
{
    set("a", "1");
    kv_flush_all(kv, 1500);
    reopen();
    ck_assert_str_eq(get("a"), "1");
    kv_set_time(kv, 1499);
    set("b", "2");
    ck_assert_str_eq(get("a"), "1");
    kv_set_time(kv, 1500);
    ck_assert_str_eq(get("a"), "(none)");
    ck_assert_str_eq(get("b"), "(none)");
    set("c", "3");
    reopen();
    kv_set_time(kv, 1600);
    ck_assert_str_eq(get("b"), "(none)");
    ck_assert_str_eq(get("c"), "3");
}
END_TEST

START_TEST(keys_and_values_beyond_the_limits_are_refused)
{
    static char big[(1 << 20) + 1];
    struct kv_reservation r;
    ck_assert_int_eq(kv_store(kv, KV_SET, big, 251, 0, 0, 0, "", 0, NULL),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_store(kv, KV_SET, "", 0, 0, 0, 0, "", 0, NULL),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_store(kv, KV_SET, big, 250, 0, 0, 0, "", 0, NULL),
                     KV_OK);
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "k", 1, 0, 0, 0, big, sizeof(big), NULL),
        KV_TOO_LARGE);
    ck_assert_int_eq(kv_reserve(kv, 1, sizeof(big), &r), KV_TOO_LARGE);
    ck_assert_int_eq(kv_reserve(kv, 1, sizeof(big) - 1, &r), KV_TOO_LARGE);
}
END_TEST

START_TEST(a_value_received_in_place_is_stored_without_a_copy)
{
    struct kv_reservation r;
    struct kv_item item;
    ck_assert_int_eq(kv_reserve(kv, 3, 20000, &r), KV_OK);
    void *buffer = r.buffer;
    memset(buffer, 'x', 20000);
    kv_commit(kv); /* turns may pass meanwhile */
    ck_assert_str_eq(get("big"), "(none)");
    ck_assert_int_eq(kv_publish(kv, &r, KV_SET, "big", 3, 0, 0, 0, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_get(kv, "big", 3, &item), KV_OK);
    ck_assert_ptr_eq(item.value, buffer);
    ck_assert_int_eq(kv_reserve(kv, 3, 100, &r), KV_OK);
    ck_assert_int_eq(kv_publish(kv, &r, KV_ADD, "big", 3, 0, 0, 0, NULL),
                     KV_NOT_STORED); /* and its space is given back */
    ck_assert_int_eq(kv_reserve(kv, 3, 100, &r), KV_OK);
    kv_cancel(kv, &r);
}
END_TEST

START_TEST(a_full_store_says_so_and_keeps_everything)
{
    static char value[1000];
    char key[16];
    int n = 0;
    for (;; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        enum kv_result result = kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0,
                                         value, sizeof(value), NULL);
        if (result != KV_OK) {
            ck_assert_int_eq(result, KV_NO_SPACE);
            break;
        }
        kv_commit(kv);
    }
    ck_assert_int_gt(n, 600);
    ck_assert_uint_eq(kv->stats.items, (unsigned)n);
    ck_assert_uint_eq(kv->stats.evictions, 0);
    ck_assert_int_eq(kv_delete(kv, "key0", 4), KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value,
                              sizeof(value), NULL),
                     KV_OK);
}
END_TEST

START_TEST(a_full_store_reuses_what_has_expired)
{
    static char value[1000];
    char key[16];
    for (int n = 0;; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        if (kv_store(kv, KV_SET, key, strlen(key), 0, 1100, 0, value,
                     sizeof(value), NULL) != KV_OK)
            break;
    }
    kv_set_time(kv, 1100);
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value, sizeof(value), NULL),
        KV_OK);
    ck_assert_uint_eq(kv->stats.items, 1);
}
END_TEST

START_TEST(a_cache_evicts_the_least_recently_used)
{
    static char value[1000];
    char key[16];
    kv_close(kv);
    options.evict = true;
    open_again();
    set("precious", "a value that is used all the time, and not inline");
    for (int n = 0; n < 3000; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        ck_assert_int_eq(kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value,
                                  sizeof(value), NULL),
                         KV_OK);
        kv_commit(kv);
        if (n % 50 == 0)
            ck_assert_str_ne(get("precious"), "(none)");
    }
    ck_assert_uint_gt(kv->stats.evictions, 2000);
    ck_assert_str_eq(get("key0"), "(none)");
    ck_assert_str_ne(get("key2999"), "(none)");
    ck_assert_str_ne(get("key2900"), "(none)");
}
END_TEST

START_TEST(after_reopening_a_cache_evicts_what_was_stored_first)
{
    char key[16];
    options.evict = true;
    for (int n = 0; n < 500; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        set(key, "v");
    }
    reopen();
    for (int n = 0; n < 500; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        uint32_t place = hop_find(&kv->table, kv_hash(kv, key, strlen(key)),
                                  key, strlen(key));
        ck_assert_uint_eq(kv->lru.oldest, place);
        lru_remove(&kv->lru, place);
        lru_insert(&kv->lru, place);
    }
}
END_TEST

START_TEST(values_borrowed_long_ago_hold_nothing_when_the_epoch_wraps)
{
    static char value[2000];
    struct kv_item item;
    kv->epoch = UINT32_MAX - 1;
    for (int n = 0; n < 2000; n++) { /* four times the pool */
        ck_assert_int_eq(
            kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value, sizeof(value), NULL),
            KV_OK);
        ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        ck_assert_uint_le(kv->heap.retired_bytes, 3 * 2016);
    }
}
END_TEST

START_TEST(a_full_table_evicts_or_says_so)
{
    char key[16];
    for (int mode = 0; mode < 2; mode++) {
        kv_close(kv);
        options.evict = mode == 1;
        open_again();
        enum kv_result result = KV_OK;
        for (int n = 0; n < 6000 && result == KV_OK; n++) {
            snprintf(key, sizeof(key), "%d", n);
            result = set(key, "v");
            if (n % 10 == 0)
                kv_commit(kv);
        }
        ck_assert_int_eq(result, mode == 1 ? KV_OK : KV_NO_SPACE);
        ck_assert_uint_gt(kv->stats.items * 100 / (kv->table.mask + 1),
                          mode == 1 ? 80 : 90);
        ck_assert(mode == 1 || kv->stats.displacements > 0);
    }
}
END_TEST

START_TEST(a_borrowed_value_outlives_its_item_until_unpinned)
{
    static char value[2000], other[2000];
    struct kv_item item;
    memset(value, 'v', sizeof(value));
    memset(other, 'o', sizeof(other));
    kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value, sizeof(value), NULL);
    kv_commit(kv);
    kv_get(kv, "k", 1, &item);
    kv_delete(kv, "k", 1);
    kv_commit(kv);
    for (int n = 0; n < 2000; n++) { /* all the rest of the pool, in a turn */
        char key[16];
        snprintf(key, sizeof(key), "%d", n);
        kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, other, sizeof(other),
                 NULL);
    }
    ck_assert(memcmp(item.value, value, sizeof(value)) == 0);
    uint64_t before = kv->heap.free_bytes;
    kv_unpin_all(kv);
    ck_assert_uint_eq(kv->heap.free_bytes, before + heap_round(sizeof(value)));
}
END_TEST

START_TEST(a_pipeline_on_one_key_needs_no_more_room_than_one_item)
{
    static char value[2000];
    for (int n = 0; n < 5000; n++) {
        struct kv_item item;
        ck_assert_int_eq(kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value,
                                  n % 2 ? 10 : sizeof(value), NULL),
                         KV_OK);
        if (n % 100 == 0)
            ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    }
    kv_commit(kv);
    ck_assert_uint_eq(kv->stats.items, 1);
}
END_TEST

START_TEST(a_turn_without_changes_has_no_fences)
{
    set("k", "v");
    kv_commit(kv);
    uint64_t runs = kv->commit.runs;
    get("k");
    get("absent");
    kv_commit(kv);
    ck_assert_uint_eq(kv->commit.runs, runs);
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof(key), "k%d", i);
        set(key, "v");
    }
    kv_commit(kv);
    ck_assert_uint_eq(kv->commit.runs, runs + 1);
}
END_TEST

static int failing_msync(void *at, size_t len, int flags)
{
    (void)at;
    (void)len;
    (void)flags;
    errno = EIO;
    return -1;
}

START_TEST(after_a_failed_msync_the_pool_gives_errors_only)
{
    struct kv_item item;
    kv_close(kv);
    options.durability = KV_DURABILITY_SYNC;
    open_again();
    set("k", "v");
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    kv->region.pm.sync = failing_msync;
    set("k", "w");
    ck_assert_int_eq(kv_commit(kv), KV_IO);
    ck_assert_int_eq(kv_commit(kv), KV_IO);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_IO);
    ck_assert_int_eq(set("k", "x"), KV_IO);
    ck_assert_int_lt(kv_close(kv), 0);
    open_again();
    ck_assert(!kv->region.was_clean);
}
END_TEST

START_TEST(cas_ids_rise_across_crashes)
{
    uint64_t last = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t cas;
        kv_store(kv, KV_SET, "k", 1, 0, 0, 0, "v", 1, &cas);
        ck_assert_uint_gt(cas, last);
        last = cas;
        kv_delete(kv, "k", 1);
        kv_commit(kv);
        kv->failed = i % 2; /* as after a crash: nothing is tidied up */
        kv_close(kv);
        open_again();
    }
}
END_TEST

START_TEST(impossible_options_are_refused_in_words)
{
    struct kv *none = NULL;
    struct kv_options bad = {.size = 1000};
    ck_assert_int_eq(
        kv_open("/nowhere/pool", &bad, &none, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "at least 262144 bytes"));
    bad = (struct kv_options){.size = POOL, .max_value = UINT32_MAX};
    ck_assert_int_eq(
        kv_open("/nowhere/pool", &bad, &none, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "values of at most"));
    ck_assert_ptr_null(none);
    ck_assert_int_eq(kv_close(NULL), 0);
}
END_TEST

int main(int argc, char **argv)
{
    log_threshold = LOG_NONE;
    if (argc == 1 && !getenv("PMEM_IS_PMEM_FORCE")) { /* also as if on PM */
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            setenv("PMEM_IS_PMEM_FORCE", "1", 1);
            execl("/proc/self/exe", argv[0], (char *)NULL);
            _exit(127);
        }
        waitpid(child, &status, 0);
        if (status != 0)
            return 1;
    }
    Suite *suite = suite_create("engine");
    TCase *tcase = tcase_create("engine");
    tcase_add_checked_fixture(tcase, open_pool, close_pool);
    tcase_add_test(tcase, what_was_stored_is_there_after_reopening);
    tcase_add_test(tcase, each_mode_asks_for_what_it_needs);
    tcase_add_test(tcase, append_keeps_flags_and_exptime);
    tcase_add_test(tcase, an_expired_item_is_a_miss_and_can_be_added);
    tcase_add_test(tcase, touch_changes_the_end_and_nothing_else);
    tcase_add_test(tcase, incr_and_decr_follow_memcached);
    tcase_add_test(tcase, flush_all_takes_what_is_older_and_nothing_younger);
    tcase_add_test(tcase, a_flush_to_come_survives_reopening);
    tcase_add_test(tcase, keys_and_values_beyond_the_limits_are_refused);
    tcase_add_test(tcase, a_value_received_in_place_is_stored_without_a_copy);
    tcase_add_test(tcase, a_full_store_says_so_and_keeps_everything);
    tcase_add_test(tcase, a_full_store_reuses_what_has_expired);
    tcase_add_test(tcase, a_cache_evicts_the_least_recently_used);
    tcase_add_test(tcase, after_reopening_a_cache_evicts_what_was_stored_first);
    tcase_add_test(tcase,
                   values_borrowed_long_ago_hold_nothing_when_the_epoch_wraps);
    tcase_add_test(tcase, a_full_table_evicts_or_says_so);
    tcase_add_test(tcase, a_borrowed_value_outlives_its_item_until_unpinned);
    tcase_add_test(tcase,
                   a_pipeline_on_one_key_needs_no_more_room_than_one_item);
    tcase_add_test(tcase, a_turn_without_changes_has_no_fences);
    tcase_add_test(tcase, after_a_failed_msync_the_pool_gives_errors_only);
    tcase_add_test(tcase, cas_ids_rise_across_crashes);
    tcase_add_test(tcase, impossible_options_are_refused_in_words);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
