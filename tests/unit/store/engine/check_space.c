/* Room: full pools, eviction, borrowed values, places used again. */
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
#ifdef FASTSOCK_TEST
#define STEPS 100000
#else
#define STEPS 1000000
#endif

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
    while (kv_catch_up(kv))
        ;
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

START_TEST(a_large_value_evicts_what_it_needs_and_no_more)
{
    static char value[POOL / 4];
    char key[16];
    kv_close(kv);
    options.evict = true;
    open_again();
    for (int n = 0; n < 20000; n++) {
        snprintf(key, sizeof(key), "key%d", n);
        ck_assert_int_eq(
            kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, 100, NULL),
            KV_OK);
        if (n % 8 == 0)
            kv_commit(kv);
    }
    uint64_t items = kv->stats.items, evictions = kv->stats.evictions;
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "large", 5, 0, 0, 0, value, sizeof(value), NULL),
        KV_OK);
    ck_assert_uint_lt(kv->stats.evictions - evictions, items * 3 / 4);
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

/* Small items in a new pool, with its own seed, until it refuses or evicts:
 * how much of the table they fill, in percent. */
static unsigned fill_table(bool evict)
{
    char key[16];
    enum kv_result result = KV_OK;

    ck_assert_int_eq(kv_close(kv), 0);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    options.evict = evict;
    open_again();
    for (int n = 0; n < 20000 && result == KV_OK; n++) {
        snprintf(key, sizeof(key), "%d", n);
        result = set(key, "v");
        if (result == KV_OK) /* moves along when it is displaced */
            kv_touch(kv, key, strlen(key), 5000 + (uint32_t)n);
        if (n % 10 == 0)
            kv_commit(kv);
    }
    for (int n = 0; n < 20000; n++) {
        struct kv_item item;
        snprintf(key, sizeof(key), "%d", n);
        if (kv_get(kv, key, strlen(key), &item) == KV_OK)
            ck_assert_uint_eq(item.exptime, 5000 + (uint32_t)n);
    }
    ck_assert_int_eq(result, evict ? KV_OK : KV_NO_SPACE);
    ck_assert_uint_gt(kv->table.places * 64, POOL * 5 / 8);
    ck_assert_uint_gt(kv->stats.growths, 10);
    return (unsigned)(kv->stats.items * 100 / kv->table.places);
}

/*
 * A table that evicts is 86 to 87.5 % full, by its reserve. One that refuses is
 * between its last growth and the next: a segment of 1,536 that found no place
 * at 85 % became two of 1,024, each 64 % full, and seeds decide how many of
 * them are that far. In 4,000 pools it was 67 to 95 %, 80 +- 3.5.
 */
START_TEST(a_table_grows_until_the_pool_is_full_and_then_evicts_or_says_so)
{
    unsigned sum = 0;
    uint64_t places = 0;

    for (int n = 0; n < 8; n++) {
        ck_assert_uint_ge(fill_table(true), 80);
        places += kv->table.places;
        unsigned percent = fill_table(false);

        ck_assert_uint_ge(percent, 60);
        sum += percent;
        places += kv->table.places;
    }
    ck_assert_uint_gt(sum / 8, 70);
    ck_assert_uint_gt(places / 16 * 64, POOL * 3 / 4);
}
END_TEST

/* Random sizes until nothing fits, then many replacements and deletes. */
START_TEST(nearly_all_of_a_full_pool_is_of_use)
{
    static char value[4096];
    static bool here[4000];
    unsigned random = 12345;
    char key[16];
    struct kv_item item;
    kv_close(kv);
    options.size = 0;
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    options.size = 4u << 20;
    open_again();
    int steps = getenv("PMEM_IS_PMEM_FORCE") ? STEPS / 10 : STEPS;
    for (int i = 0; i < steps; i++) {
        random = random * 1103515245u + 12345u;
        unsigned n = (random >> 8) % 4000;
        random = random * 1103515245u + 12345u;
        size_t len = 64 + (random >> 8) % (sizeof(value) - 64);
        snprintf(key, sizeof(key), "%u", n);
        if (random >> 28 < 4) {
            kv_delete(kv, key, strlen(key));
            here[n] = false;
        } else {
            memset(value, (int)n, len);
            if (kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, len,
                         NULL) == KV_OK)
                here[n] = true;
        }
        if (i % 8 == 7)
            kv_commit(kv);
    }
    kv_commit(kv);
    for (unsigned n = 4000; n < 8000; n++) { /* to the last byte, nearly */
        snprintf(key, sizeof(key), "%u", n);
        if (kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, 256, NULL) !=
            KV_OK)
            break;
        kv_commit(kv);
    }
    for (unsigned n = 0; n < 4000; n++) {
        snprintf(key, sizeof(key), "%u", n);
        ck_assert_int_eq(kv_get(kv, key, strlen(key), &item),
                         here[n] ? KV_OK : KV_MISS);
        kv_copy_value(kv, &item, 0, value, here[n] ? item.len : 0);
        bool good = true;
        for (uint32_t i = 0; here[n] && i < item.len; i++)
            good &= value[i] == (char)n;
        ck_assert(good);
    }
    uint64_t used = kv->stats.bytes + 80 * kv->stats.items;
    printf("%llu items, %llu in pieces since: %.1f %% of the pool is of use\n",
           (unsigned long long)kv->stats.items,
           (unsigned long long)kv->stats.pieces,
           (double)used * 100 / (double)kv->pool.size);
    ck_assert_uint_ge(used * 100, kv->pool.size * 95);
    ck_assert_uint_gt(kv->stats.pieces, 0);
}
END_TEST

/* The fullest that a segment gets before it is written anew. */
START_TEST(a_put_at_85_percent_load_needs_two_fences_and_a_little)
{
    const uint64_t puts = 20000;
    unsigned random = 1, n = 0;
    char key[16];
    while (kv->table.places < 1024 ||
           kv->stats.items * 100 < kv->table.places * 85) {
        snprintf(key, sizeof(key), "%u", n++);
        ck_assert_int_eq(set(key, "v"), KV_OK);
    }
    kv_commit(kv);
    uint64_t before = kv->pm->fences, growths = kv->stats.growths;
    for (uint64_t i = 0; i < puts; i++) {
        random = random * 1103515245u + 12345u;
        snprintf(key, sizeof(key), "%u", (random >> 8) % n);
        ck_assert_int_eq(set(key, "w"), KV_OK);
        kv_commit(kv);
    }
    double fences = (double)(kv->pm->fences - before) / (double)puts;
    printf("%.3f fences per put at %.0f %% load\n", fences,
           (double)kv->stats.items * 100 / (double)kv->table.places);
    ck_assert_uint_eq(kv->stats.growths, growths);
    ck_assert_double_le(fences, 2.3);
}
END_TEST

START_TEST(a_contiguous_pool_makes_no_chains)
{
    static char value[20000];
    char key[16];
    for (int mode = 0; mode < 2; mode++) { /* every other one goes */
        kv_close(kv);
        ck_assert_int_eq(ftruncate(fd, 0), 0);
        options.contiguous = mode == 1;
        open_again();
        int n = 0;
        for (enum kv_result r = KV_OK; r == KV_OK; n++) {
            snprintf(key, sizeof(key), "%d", n);
            r = kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, 2000,
                         NULL);
        }
        for (int i = 0; i < n; i += 2) {
            snprintf(key, sizeof(key), "%d", i);
            kv_delete(kv, key, strlen(key));
        }
        ck_assert_int_eq(
            kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value, sizeof(value), NULL),
            mode == 1 ? KV_NO_SPACE : KV_OK);
        struct kv_reservation r;
        enum kv_result result = kv_reserve(kv, 100, 5000, &r);
        ck_assert_int_eq(result, mode == 1 ? KV_NO_SPACE : KV_OK);
        if (result == KV_OK)
            kv_cancel(kv, &r);
    }
}
END_TEST

START_TEST(a_value_in_pieces_is_received_joined_and_reopened)
{
    static char value[30000], back[60000], name[100];
    struct kv_reservation r;
    struct kv_item item;
    char key[16];
    int n = 0;
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i * 7 + (i >> 8));
    memset(name, 'n', sizeof(name));
    for (enum kv_result r2 = KV_OK; r2 == KV_OK; n++) {
        snprintf(key, sizeof(key), "%d", n);
        r2 = kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, 2000, NULL);
    }
    for (int i = 0; i < n; i += 2) {
        snprintf(key, sizeof(key), "%d", i);
        kv_delete(kv, key, strlen(key));
    }
    kv_commit(kv);
    ck_assert_int_eq(kv_reserve(kv, sizeof(name), 30000, &r), KV_OK);
    ck_assert_ptr_null(r.buffer);
    for (size_t at = 0, room; at < 30000; at += room) {
        char *to = kv_reserved(kv, &r, at, &room);
        memcpy(to, value + at, room);
    }
    ck_assert_int_eq(
        kv_publish(kv, &r, KV_SET, name, sizeof(name), 0, 0, 0, NULL), KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, name, sizeof(name), 0, 0, 0, value,
                              20000, NULL),
                     KV_OK);
    reopen();
    ck_assert_uint_eq(kv->stats.repaired, 0);
    ck_assert_int_eq(kv_get(kv, name, sizeof(name), &item), KV_OK);
    ck_assert_ptr_null(item.value);
    ck_assert_uint_eq(item.len, 50000);
    ck_assert_uint_eq(kv_copy_value(kv, &item, 0, back, sizeof(back)), 50000);
    ck_assert(memcmp(back, value, 30000) == 0);
    ck_assert(memcmp(back + 30000, value, 20000) == 0);
    ck_assert_uint_eq(kv_copy_value(kv, &item, 25000, back, 10000), 10000);
    ck_assert(memcmp(back, value + 25000, 5000) == 0);
    ck_assert(memcmp(back + 5000, value, 5000) == 0);
    ck_assert_int_eq(kv_delete(kv, name, sizeof(name)), KV_OK);
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

START_TEST(a_value_is_not_evicted_from_under_its_own_prepend)
{
    static char value[500001], back[500001];
    struct kv_item item;
    kv_close(kv);
    options.evict = true;
    open_again();
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (char)(i * 7 + (i >> 8));
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "k", 1, 0, 0, 0, value + 1, 500000, NULL), KV_OK);
    kv_commit(kv);
    enum kv_result result =
        kv_store(kv, KV_PREPEND, "k", 1, 0, 0, 0, value, 1, NULL);
    if (result == KV_OK) {
        ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
        ck_assert_uint_eq(item.len, sizeof(value));
        kv_copy_value(kv, &item, 0, back, sizeof(back));
        ck_assert(memcmp(back, value, sizeof(value)) == 0);
    } else {
        ck_assert_int_eq(result, KV_NO_SPACE);
    }
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
    Suite *suite = suite_create("space");
    TCase *tcase = tcase_create("space");
    tcase_add_checked_fixture(tcase, open_pool, close_pool);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, a_full_store_says_so_and_keeps_everything);
    tcase_add_test(tcase, a_full_store_reuses_what_has_expired);
    tcase_add_test(tcase, a_cache_evicts_the_least_recently_used);
    tcase_add_test(tcase, after_reopening_a_cache_evicts_what_was_stored_first);
    tcase_add_test(tcase, a_large_value_evicts_what_it_needs_and_no_more);
    tcase_add_test(tcase,
                   values_borrowed_long_ago_hold_nothing_when_the_epoch_wraps);
    tcase_add_test(
        tcase, a_table_grows_until_the_pool_is_full_and_then_evicts_or_says_so);
    tcase_add_test(tcase, nearly_all_of_a_full_pool_is_of_use);
    tcase_add_test(tcase,
                   a_put_at_85_percent_load_needs_two_fences_and_a_little);
    tcase_add_test(tcase, a_contiguous_pool_makes_no_chains);
    tcase_add_test(tcase, a_value_in_pieces_is_received_joined_and_reopened);
    tcase_add_test(tcase, a_borrowed_value_outlives_its_item_until_unpinned);
    tcase_add_test(tcase, a_value_is_not_evicted_from_under_its_own_prepend);
    tcase_add_test(tcase,
                   a_pipeline_on_one_key_needs_no_more_room_than_one_item);
    tcase_add_test(tcase, a_turn_without_changes_has_no_fences);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
