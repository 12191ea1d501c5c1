/* What users of engine.h may rely on. */
#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

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

/* The same tests in memory. */
static void open_memory(void)
{
    fd = -1;
    options = (struct kv_options){.size = POOL, .engine = KV_ENGINE_MEMORY};
    open_again();
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
    if (kv && fd >= 0 && !kv->failed)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
    kv_close(kv);
    kv = NULL;
    if (fd >= 0)
        close(fd);
}

/* What is in memory cannot be opened again: a turn ends there. */
static void reopen(void)
{
    if (fd < 0) {
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        return;
    }
    ck_assert_int_eq(kv_close(kv), 0);
    open_again();
}

static enum kv_result set(const char *key, const char *value)
{
    return kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, strlen(value),
                    NULL);
}

static struct kv_statistics stats(void)
{
    struct kv_statistics now;
    kv_stats(kv, &now);
    return now;
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
    ck_assert_uint_eq(stats().get_expired, 1);
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

START_TEST(a_touch_is_forgotten_with_its_item)
{
    struct kv_item item;
    for (int i = 0; i < 3; i++) { /* all in one turn, so places are reused */
        ck_assert_int_eq(set("k", "v"), KV_OK);
        ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
        ck_assert_uint_eq(item.exptime, 0);
        ck_assert_int_eq(kv_touch(kv, "k", 1, 3000), KV_OK);
        if (i == 1)
            ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
    }
    set("k", "v");
    reopen();
    kv_set_time(kv, 3000);
    ck_assert_str_eq(get("k"), "v");
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

/* As with memcached, in what it keeps in one piece. */
START_TEST(a_long_value_that_begins_with_a_number_is_one)
{
    static char text[524289];
    uint64_t value;
    struct kv_item item;
    char seen[8];
    memset(text, 'w', sizeof(text));
    memcpy(text, "41 ", 3);
    ck_assert_int_eq(kv_store(kv, KV_SET, "n", 1, 7, 0, 0, text, 6008, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, &value, NULL), KV_OK);
    ck_assert_uint_eq(value, 42);
    ck_assert_int_eq(kv_read(kv, "n", 1, 0, seen, sizeof(seen), &item), KV_OK);
    ck_assert_int_eq(memcmp(seen, "42      ", 8), 0);
    ck_assert_uint_eq(item.len, 6008);
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "n", 1, 7, 0, 0, text, sizeof(text), NULL), KV_OK);
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, &value, NULL),
                     KV_NOT_NUMBER);
}
END_TEST

START_TEST(flush_all_takes_what_is_older_and_nothing_younger)
{
    set("a", "1");
    kv_flush_all(kv, 1000);
    set("b", "2");
    ck_assert_str_eq(get("a"), "(none)");
    ck_assert_uint_eq(stats().get_flushed, 1);
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
    ck_assert_int_eq(kv_store(kv, KV_SET, big, 65537, 0, 0, 0, "", 0, NULL),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_store(kv, KV_SET, "", 0, 0, 0, 0, "", 0, NULL),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_store(kv, KV_SET, big, 65536, 0, 0, 0, "v", 1, NULL),
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

START_TEST(a_key_that_is_named_twice_is_kept_once)
{
    static unsigned char image[POOL];
    set("k", "v");
    kv_commit(kv);
    uint32_t place = hop_find(&kv->table, kv_hash(kv, "k", 1), "k", 1);
    size_t at = (size_t)((unsigned char *)kv_entry(kv, place) - kv->pm->base);
    kv_close(kv);
    ck_assert_int_eq(pread(fd, image, POOL, 0), POOL);
    struct hop_entry *entry = (struct hop_entry *)(void *)(image + at);
    entry->owner |= 2;
    memcpy(&entry[1].cas, &entry->cas, 56);
    ck_assert_int_eq(pwrite(fd, image, POOL, 0), POOL);
    open_again();
    while (kv_catch_up(kv))
        ;
    ck_assert_uint_eq(kv->stats.repaired, 1);
    ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
    ck_assert_str_eq(get("k"), "(none)");
}
END_TEST

START_TEST(a_table_that_leads_nowhere_refuses_the_pool)
{
    static const uint64_t roots[] = {1, UINT64_MAX, HOP_WORD_PAIR | 5,
                                     (uint64_t)2 << HOP_WORD_PLACES | 1};
    set("k", "v");
    kv_commit(kv);
    off_t at = (unsigned char *)&kv->pool.header->state.root - kv->pm->base;
    uint64_t root = kv->pool.header->state.root;
    kv_close(kv);
    for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
        ck_assert_int_eq(pwrite(fd, &roots[i], 8, at), 8);
        ck_assert_int_eq(kv_open(path, &options, &kv, error, sizeof(error)),
                         -EINVAL);
        ck_assert_ptr_nonnull(strstr(error, "leads nowhere"));
    }
    ck_assert_int_eq(pwrite(fd, &root, 8, at), 8);
    open_again();
    ck_assert_str_eq(get("k"), "v");
}
END_TEST

static bool tick(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    unsigned char *seen = context;
    char text[16];
    (void)item;
    snprintf(text, sizeof(text), "%.*s", (int)klen, (const char *)key);
    if (text[0] != 'x')
        seen[atoi(text)]++;
    return true;
}

START_TEST(a_scan_sees_each_item_once_while_the_table_grows_around_it)
{
    static unsigned char seen[3000];
    uint64_t cursor = 0;
    char key[16];
    int calls = 0, others = 0;
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof(key), "%d", i);
        ck_assert_int_eq(set(key, "v"), KV_OK);
    }
    uint64_t entries = stats().table_entries;
    do {
        cursor = kv_scan(kv, cursor, tick, seen);
        calls++;
        for (int i = 0; i < 250; i++) {
            snprintf(key, sizeof(key), "x%d", others++);
            ck_assert_int_eq(set(key, "v"), KV_OK);
        }
        for (int i = 0; i < 3000; i += 7) { /* in another place, the same */
            snprintf(key, sizeof(key), "%d", i);
            ck_assert_int_eq(set(key, "w"), KV_OK);
        }
    } while (cursor != 0);
    for (int i = 0; i < 3000; i++)
        ck_assert_int_eq(seen[i], 1);
    ck_assert_int_gt(calls, 2);
    ck_assert_uint_gt(stats().table_entries, entries);
    ck_assert_int_eq(kv_exists(kv, "2999", 4), KV_OK);
    ck_assert_int_eq(kv_exists(kv, "3000", 4), KV_MISS);
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
    kv->pm->sync = failing_msync;
    set("k", "w");
    ck_assert_int_eq(kv_commit(kv), KV_IO);
    ck_assert_int_eq(kv_commit(kv), KV_IO);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_IO);
    ck_assert_int_eq(set("k", "x"), KV_IO);
    ck_assert_int_lt(kv_close(kv), 0);
    open_again();
    ck_assert(!kv->pool.was_clean);
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

/* What holds for every engine. */
static void add_common(TCase *tcase)
{
    tcase_add_test(tcase, what_was_stored_is_there_after_reopening);
    tcase_add_test(tcase, each_mode_asks_for_what_it_needs);
    tcase_add_test(tcase, append_keeps_flags_and_exptime);
    tcase_add_test(tcase, an_expired_item_is_a_miss_and_can_be_added);
    tcase_add_test(tcase, touch_changes_the_end_and_nothing_else);
    tcase_add_test(tcase, a_touch_is_forgotten_with_its_item);
    tcase_add_test(tcase, incr_and_decr_follow_memcached);
    tcase_add_test(tcase, a_long_value_that_begins_with_a_number_is_one);
    tcase_add_test(tcase, flush_all_takes_what_is_older_and_nothing_younger);
    tcase_add_test(tcase, a_flush_to_come_survives_reopening);
    tcase_add_test(tcase, keys_and_values_beyond_the_limits_are_refused);
    tcase_add_test(tcase, a_value_received_in_place_is_stored_without_a_copy);
    tcase_add_test(tcase,
                   a_scan_sees_each_item_once_while_the_table_grows_around_it);
    tcase_add_test(tcase, impossible_options_are_refused_in_words);
}

int main(int argc, char **argv)
{
    log_threshold = LOG_NONE;
    if (argc == 1 && !getenv("PMEM_IS_PMEM_FORCE")) { /* also as if on PM */
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            setenv("PMEM_IS_PMEM_FORCE", "1", 1);
            execlp(argv[0], argv[0], (char *)NULL);
            _exit(127);
        }
        waitpid(child, &status, 0);
        if (status != 0)
            return 1;
    }
    Suite *suite = suite_create("engine");
    TCase *memory = tcase_create("engine in memory");
    tcase_add_checked_fixture(memory, open_memory, close_pool);
    add_common(memory);
    suite_add_tcase(suite, memory);
    TCase *tcase = tcase_create("engine");
    tcase_add_checked_fixture(tcase, open_pool, close_pool);
    add_common(tcase);
    tcase_add_test(tcase, a_key_that_is_named_twice_is_kept_once);
    tcase_add_test(tcase, a_table_that_leads_nowhere_refuses_the_pool);
    tcase_add_test(tcase, after_a_failed_msync_the_pool_gives_errors_only);
    tcase_add_test(tcase, cas_ids_rise_across_crashes);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
