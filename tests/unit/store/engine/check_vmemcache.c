/*
 * The scenarios of libvmemcache's own tests, as far as one thread plays them;
 * docs/embedding.md has the table of all of them.
 */
#include "config/log.h"
#include "store/engine/engine.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (2u << 20)

/* Each test runs with one shard in a file and with one in memory. */
static struct kv_shared *cache;
static int fd;
static uint32_t seed;

static struct kv_shared *open_cache(enum kv_engine engine, uint64_t size,
                                    int file)
{
    struct kv_shared_options options = {
        .shards = 1, .pool = {.size = size, .evict = true, .engine = engine}};
    struct kv_shared *made = NULL;
    char error[256] = "", path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    ck_assert_msg(kv_shared_open(path, &options, &made, error, sizeof(error)) ==
                      0,
                  "%s", error);
    return made;
}

static void open_one(int engine)
{
    fd = memfd_create("cache", MFD_CLOEXEC);
    seed = 12345;
    cache = open_cache((enum kv_engine)engine, SIZE, fd);
}

static void close_one(void)
{
    ck_assert_int_eq(kv_shared_close(cache), 0);
    close(fd);
}

static uint32_t roll(uint32_t sides)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (seed >> 4) % sides;
}

static struct kv_statistics stats(void)
{
    struct kv_statistics now;
    kv_shared_stats(cache, &now);
    return now;
}

static void fill_value(unsigned char *value, int k, size_t len)
{
    for (size_t i = 0; i < len; i++)
        value[i] = (unsigned char)((size_t)k * 13 + i + (i >> 8));
}

static enum kv_result put(struct kv_shared *to, int k, size_t len)
{
    static unsigned char value[SIZE];
    fill_value(value, k, len);
    return kv_shared_store(to, KV_ADD, &k, sizeof(k), 0, 0, 0, value, len,
                           NULL);
}

/* The length of a value that is as it was put; -1: it is not there. */
static long get(struct kv_shared *from, int k)
{
    static unsigned char value[SIZE], want[SIZE];
    struct kv_item item;
    if (kv_shared_get(from, &k, sizeof(k), 0, value, sizeof(value), &item) !=
        KV_OK)
        return -1;
    fill_value(want, k, item.len);
    ck_assert_int_eq(memcmp(value, want, item.len), 0);
    return (long)item.len;
}

START_TEST(a_cache_is_opened_and_closed_many_times)
{
    open_one(_i);
    for (int i = 0; i < 20; i++) {
        put(cache, i, 100);
        ck_assert_int_eq(kv_shared_close(cache), 0);
        cache = open_cache((enum kv_engine)_i, SIZE, fd);
    }
    ck_assert_uint_eq(stats().items, _i == KV_ENGINE_MEMORY ? 0 : 20);
    close_one();
}
END_TEST

START_TEST(without_a_size_or_a_place_there_is_no_cache)
{
    struct kv_shared_options options = {
        .shards = 1, .pool = {.size = 1000, .engine = (enum kv_engine)_i}};
    struct kv_shared *none = NULL;
    char error[256] = "";
    ck_assert_int_lt(kv_shared_open("/", &options, &none, error, sizeof(error)),
                     0);
    ck_assert_ptr_nonnull(strstr(error, "they need 262144"));
    options.pool.size = 0;
    ck_assert_int_lt(
        kv_shared_open("/nowhere/there", &options, &none, error, sizeof(error)),
        0);
    options.pool.size = SIZE;
    options.pool.max_value = UINT32_MAX;
    ck_assert_int_lt(
        kv_shared_open("/nowhere/there", &options, &none, error, sizeof(error)),
        0);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(what_was_put_is_got_and_once_evicted_by_key_it_is_gone)
{
    int k = 5;
    open_one(_i);
    ck_assert_int_eq(put(cache, k, 1000), KV_OK);
    ck_assert_int_eq(put(cache, k, 500), KV_NOT_STORED); /* not over it */
    ck_assert_int_eq(get(cache, k), 1000);
    ck_assert_int_eq(kv_shared_delete(cache, &k, sizeof(k)), KV_OK);
    ck_assert_int_eq(get(cache, k), -1);
    ck_assert_int_eq(kv_shared_delete(cache, &k, sizeof(k)), KV_MISS);
    ck_assert_int_eq(put(cache, k, 500), KV_OK);
    ck_assert_int_eq(get(cache, k), 500);
    close_one();
}
END_TEST

START_TEST(a_look_whether_a_key_is_there_counts_as_no_use)
{
    int first = 0, k = 1;
    open_one(_i);
    put(cache, first, 100000);
    while (stats().evictions == 0) {
        ck_assert_int_eq(kv_shared_exists(cache, &first, sizeof(first)), KV_OK);
        ck_assert_int_eq(put(cache, k++, 100000), KV_OK);
    }
    ck_assert_int_eq(kv_shared_exists(cache, &first, sizeof(first)), KV_MISS);
    close_one();
}
END_TEST

/* Numbers of those who were evicted, in order. */
static int gone[64], n_gone;

static void note_gone(void *context, const void *key, size_t klen,
                      const struct kv_item *item)
{
    (void)context;
    (void)item;
    ck_assert_uint_eq(klen, sizeof(int));
    if (n_gone < 64)
        memcpy(&gone[n_gone++], key, sizeof(int));
}

START_TEST(who_was_used_longest_ago_is_evicted_first)
{
    int n = 0;
    open_one(_i);
    n_gone = 0;
    ck_assert_int_eq(kv_shared_on_evict(cache, note_gone, NULL), 0);
    while (n < 12)
        ck_assert_int_eq(put(cache, n++, 100000), KV_OK);
    ck_assert_int_eq(n_gone, 0);
    for (int k = 0; k < 12; k += 2)
        ck_assert_int_eq(get(cache, k), 100000);
    while (n_gone < 12)
        ck_assert_int_eq(put(cache, n++, 100000), KV_OK);
    for (int i = 0; i < 6; i++) { /* the odd ones, then the even ones */
        ck_assert_int_eq(gone[i], 2 * i + 1);
        ck_assert_int_eq(gone[i + 6], 2 * i);
    }
    close_one();
}
END_TEST

START_TEST(an_item_that_is_in_use_is_evicted_and_still_readable)
{
    struct kv_item item;
    struct kv_run run = {0};
    unsigned char want[50000];
    int k = 0, n = 1;
    open_one(_i);
    put(cache, k, sizeof(want));
    ck_assert_int_eq(kv_shared_hold(cache, &k, sizeof(k), &item), KV_OK);
    while (kv_shared_exists(cache, &k, sizeof(k)) == KV_OK)
        ck_assert_int_eq(put(cache, n++, sizeof(want)), KV_OK);
    fill_value(want, k, sizeof(want));
    while (kv_shared_next_run(cache, &item, &run))
        ck_assert_int_eq(memcmp(run.bytes, want + run.end - run.len, run.len),
                         0);
    ck_assert_uint_eq(run.end, sizeof(want));
    kv_shared_release(cache, &item);
    close_one();
}
END_TEST

START_TEST(items_and_evictions_add_up_to_what_was_put)
{
    open_one(_i);
    uint64_t puts = 0;
    for (int k = 0; k < 5000; k++)
        puts += put(cache, k, roll(3000)) == KV_OK;
    ck_assert_uint_eq(puts, 5000);
    ck_assert_uint_gt(stats().evictions, 1000);
    ck_assert_uint_eq(stats().items + stats().evictions, puts);
    ck_assert_uint_eq(stats().total_items, puts);
    uint64_t found = 0;
    for (int k = 0; k < 5000; k++)
        found += get(cache, k) >= 0;
    ck_assert_uint_eq(found, stats().items);
    close_one();
}
END_TEST

START_TEST(puts_hits_misses_and_evictions_are_counted)
{
    open_one(_i);
    for (int k = 0; k < 10; k++)
        put(cache, k, 100);
    for (int k = 5; k < 25; k++)
        get(cache, k);
    int k = 3, other = 99;
    kv_shared_exists(cache, &k, sizeof(k)); /* is no get */
    kv_shared_exists(cache, &other, sizeof(other));
    kv_shared_delete(cache, &k, sizeof(k)); /* and no eviction */
    ck_assert_uint_eq(stats().total_items, 10);
    ck_assert_uint_eq(stats().items, 9);
    ck_assert_uint_eq(stats().get_hits, 5);
    ck_assert_uint_eq(stats().get_misses, 15);
    ck_assert_uint_eq(stats().evictions, 0);
    ck_assert_uint_eq(stats().bytes, 9 * (100 + sizeof(k)));
    close_one();
}
END_TEST

START_TEST(what_many_small_values_left_takes_one_large_value)
{
    open_one(_i);
    int n = 0;
    while (stats().evictions == 0)
        ck_assert_int_eq(put(cache, n++, 300), KV_OK);
    for (int k = 0; k < n; k++)
        kv_shared_delete(cache, &k, sizeof(k));
    kv_shared_commit(cache);
    ck_assert_uint_eq(stats().items, 0);
    ck_assert_int_eq(put(cache, n, SIZE / 2), KV_OK);
    ck_assert_int_eq(get(cache, n), SIZE / 2);
    close_one();
}
END_TEST

/* Puts once for each that goes, as often as it is told. */
static void put_another(void *context, const void *key, size_t klen,
                        const struct kv_item *item)
{
    int *next = context;
    (void)key;
    (void)klen;
    (void)item;
    ck_assert_int_eq(put(cache, ++*next, 2000), KV_OK);
}

START_TEST(a_put_from_within_the_callback_about_an_eviction_is_served)
{
    int next = 1 << 20;
    open_one(_i);
    ck_assert_int_eq(kv_shared_on_evict(cache, put_another, &next), 0);
    for (int k = 0; k < 2000; k++)
        ck_assert_int_eq(put(cache, k, 2000), KV_OK);
    ck_assert_int_gt(next, (1 << 20) + 500);
    ck_assert_int_eq(get(cache, next), 2000);
    close_one();
}
END_TEST

START_TEST(values_of_random_sizes_are_what_was_put)
{
    open_one(_i);
    for (int k = 0; k < 4000; k++) {
        ck_assert_int_eq(put(cache, k, roll(roll(20) ? 2000 : 60000)), KV_OK);
        if (roll(3) == 0) {
            int other = (int)roll((uint32_t)k + 1);
            kv_shared_delete(cache, &other, sizeof(other));
        }
        get(cache, (int)roll((uint32_t)k + 1)); /* compares */
    }
    ck_assert_uint_gt(stats().evictions, 0);
    close_one();
}
END_TEST

START_TEST(every_offset_with_every_length_of_buffer_gives_that_part)
{
    enum { LEN = 70, MORE = 75 };
    unsigned char want[LEN], got[MORE + 1];
    struct kv_item item;
    int k = 9;
    open_one(_i);
    for (size_t len = 20; len <= LEN; len += 50) { /* in its entry, and not */
        fill_value(want, k, len);
        ck_assert_int_eq(put(cache, k, len), KV_OK);
        for (size_t from = 0; from < MORE; from++)
            for (size_t size = 0; size < MORE; size++) {
                memset(got, 0xee, sizeof(got));
                ck_assert(kv_shared_get(cache, &k, sizeof(k), from, got, size,
                                        &item) == KV_OK &&
                          item.len == len);
                size_t there = from < len ? len - from : 0;
                size_t n = size < there ? size : there;
                if (memcmp(got, want + (n ? from : 0), n) != 0 ||
                    got[n] != 0xee)
                    ck_abort_msg("offset %zu, %zu bytes", from, size);
            }
        kv_shared_delete(cache, &k, sizeof(k));
    }
    close_one();
}
END_TEST

START_TEST(at_the_first_eviction_87_percent_of_the_pool_are_values)
{
    static const uint32_t most[] = {2000, 10000, 30000};
    for (size_t i = 0; i < sizeof(most) / sizeof(*most); i++) {
        int n = 0;
        uint64_t bytes = 0;
        fd = memfd_create("cache", MFD_CLOEXEC);
        seed = 12345;
        cache = open_cache((enum kv_engine)_i, 8 * SIZE, fd);
        while (stats().evictions == 0) {
            bytes = stats().bytes;
            ck_assert_int_eq(put(cache, n++, most[i] / 2 + roll(most[i] / 2)),
                             KV_OK);
        }
        double used = (double)bytes / (8.0 * SIZE);
        ck_assert_msg(used >= 0.87, "%u bytes at most: %f", most[i], used);
        close_one();
    }
}
END_TEST

/* Where malloc() is another one that does not say, there is nothing to see. */
START_TEST(the_memory_of_the_process_per_item_is_bounded)
{
    enum { ITEMS = 8000 };
    size_t before, after;
    open_one(KV_ENGINE_DURABLE);
    before = mallinfo2().uordblks;
    for (int k = 0; k < ITEMS; k++)
        ck_assert_int_eq(put(cache, k, 8), KV_OK);
    after = mallinfo2().uordblks;
    ck_assert_uint_eq(stats().items, ITEMS);
    ck_assert_uint_le(after - before, ITEMS * 40);
    close_one();
}
END_TEST

static struct kv_shared *below;

static void go_down(void *context, const void *key, size_t klen,
                    const struct kv_item *item)
{
    ck_assert_int_eq(kv_shared_store(context, KV_SET, key, klen, item->flags,
                                     item->exptime, 0, item->value, item->len,
                                     NULL),
                     KV_OK);
}

START_TEST(what_a_cache_in_memory_evicts_is_found_in_the_one_below)
{
    int other = memfd_create("cache", MFD_CLOEXEC);
    open_one(KV_ENGINE_MEMORY);
    below = open_cache((enum kv_engine)_i, 8 * SIZE, other);
    ck_assert_int_eq(kv_shared_on_evict(cache, go_down, below), 0);
    for (int k = 0; k < 3000; k++)
        ck_assert_int_eq(put(cache, k, 2000), KV_OK);
    for (int k = 0; k < 3000; k++)
        ck_assert((get(cache, k) == 2000) != (get(below, k) == 2000));
    ck_assert_uint_gt(stats().evictions, 1500);
    ck_assert_int_eq(kv_shared_close(below), 0);
    close(other);
    close_one();
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("vmemcache");
    TCase *tcase = tcase_create("scenarios");
    const TTest *both[] = {
        a_cache_is_opened_and_closed_many_times,
        without_a_size_or_a_place_there_is_no_cache,
        what_was_put_is_got_and_once_evicted_by_key_it_is_gone,
        a_look_whether_a_key_is_there_counts_as_no_use,
        who_was_used_longest_ago_is_evicted_first,
        an_item_that_is_in_use_is_evicted_and_still_readable,
        items_and_evictions_add_up_to_what_was_put,
        puts_hits_misses_and_evictions_are_counted,
        what_many_small_values_left_takes_one_large_value,
        a_put_from_within_the_callback_about_an_eviction_is_served,
        values_of_random_sizes_are_what_was_put,
        every_offset_with_every_length_of_buffer_gives_that_part,
        at_the_first_eviction_87_percent_of_the_pool_are_values,
        what_a_cache_in_memory_evicts_is_found_in_the_one_below};
    for (size_t i = 0; i < sizeof(both) / sizeof(*both); i++)
        tcase_add_loop_test(tcase, both[i], KV_ENGINE_DURABLE,
                            KV_ENGINE_MEMORY + 1);
    tcase_add_test(tcase, the_memory_of_the_process_per_item_is_bounded);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
