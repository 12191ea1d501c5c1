/* The front over shards, as one thread sees it, in a file and in memory.
 * tests/stress/shared.c has the threads. */
#include "config/log.h"
#include "store/engine/engine_state.h"
#include "store/engine/shared.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (8u << 20)

static struct kv_shared *shared;
static struct kv_shared_options options;
static int fd = -1;
static char path[32];
static char error[256];

static void open_again(void)
{
    ck_assert_msg(kv_shared_open(fd >= 0 ? path : NULL, &options, &shared,
                                 error, sizeof(error)) == 0,
                  "%s", error);
    kv_shared_set_time(shared, 1000);
}

static void open_memory(void)
{
    fd = -1;
    options = (struct kv_shared_options){
        .shards = 4, .pool = {.size = SIZE, .engine = KV_ENGINE_MEMORY}};
    open_again();
}

static void open_file(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    options = (struct kv_shared_options){
        .shards = 4, .room = 4 * SIZE, .pool = {.size = SIZE}};
    open_again();
}

static void close_all(void)
{
    ck_assert_int_eq(kv_shared_close(shared), 0);
    if (fd >= 0)
        close(fd);
}

static enum kv_result set(int k, const char *value)
{
    return kv_shared_store(shared, KV_SET, &k, sizeof(k), (uint32_t)k, 0, 0,
                           value, strlen(value), NULL);
}

static const char *get(int k)
{
    static char text[64];
    struct kv_item item;
    memset(text, 0, sizeof(text));
    if (kv_shared_get(shared, &k, sizeof(k), 0, text, sizeof(text) - 1,
                      &item) != KV_OK)
        return "(none)";
    ck_assert_uint_eq(item.flags, (uint32_t)k);
    ck_assert_ptr_null(item.value);
    return text;
}

static struct kv_statistics stats(void)
{
    struct kv_statistics now;
    kv_shared_stats(shared, &now);
    return now;
}

START_TEST(every_operation_finds_the_shard_of_its_key)
{
    uint64_t number, cas;
    for (int k = 0; k < 500; k++)
        ck_assert_int_eq(set(k, "17"), KV_OK);
    for (int k = 0; k < 500; k++) {
        ck_assert_str_eq(get(k), "17");
        ck_assert_int_eq(
            kv_shared_arith(shared, &k, sizeof(k), true, 5, &number, &cas),
            KV_OK);
        ck_assert_uint_eq(number, 22);
        ck_assert_int_eq(kv_shared_touch(shared, &k, sizeof(k), 2000), KV_OK);
        ck_assert_int_eq(kv_shared_exists(shared, &k, sizeof(k)), KV_OK);
        ck_assert_int_eq(kv_shared_store(shared, KV_CAS, &k, sizeof(k), 0, 0,
                                         cas + 1, "", 0, NULL),
                         KV_EXISTS);
        ck_assert_int_eq(kv_shared_store(shared, KV_ADD, &k, sizeof(k), 0, 0, 0,
                                         "", 0, NULL),
                         KV_NOT_STORED);
    }
    ck_assert_uint_eq(stats().items, 500);
    kv_shared_set_time(shared, 2000);
    ck_assert_str_eq(get(7), "(none)");
    kv_shared_set_time(shared, 1000);
    for (int k = 0; k < 500; k++)
        ck_assert_int_eq(kv_shared_delete(shared, &k, sizeof(k)),
                         k == 7 ? KV_MISS : KV_OK);
    ck_assert_uint_eq(stats().items, 0);
    ck_assert_int_eq(kv_shared_delete(shared, "", 0), KV_MISS);
}
END_TEST

START_TEST(keys_are_spread_over_all_shards)
{
    for (int k = 0; k < 4000; k++)
        ck_assert_int_eq(set(k, "v"), KV_OK);
    for (uint32_t i = 0; i < 4; i++) {
        struct kv_statistics one;
        kv_stats(shared->shards[i].kv, &one);
        ck_assert_uint_gt(one.items, 800);
        ck_assert_uint_lt(one.items, 1200);
    }
}
END_TEST

/* A change is a turn of its own here. */
START_TEST(costs_are_those_of_all_shards)
{
    struct kv_cost before[KV_KINDS], cost[KV_KINDS];
    for (int k = 0; k < 50; k++) /* the first puts write words of the pools */
        ck_assert_int_eq(set(k, "v"), KV_OK);
    kv_shared_costs(shared, before);
    for (int k = 0; k < 40; k++)
        ck_assert_int_eq(set(k, "w"), KV_OK);
    for (int k = 0; k < 30; k++)
        ck_assert_int_eq(kv_shared_delete(shared, &k, sizeof(k)), KV_OK);
    kv_shared_costs(shared, cost);
    bool lasts = stats().fences > 0; /* in memory all is 0 */
    ck_assert_uint_eq(cost[KV_KIND_INSERT].n, lasts ? 50 : 0);
    ck_assert_uint_eq(cost[KV_KIND_REPLACE].n, lasts ? 40 : 0);
    ck_assert_uint_eq(cost[KV_KIND_REPLACE].stored, lasts ? 40 * 5 : 0);
    ck_assert_double_eq(cost[KV_KIND_REPLACE].fences, lasts ? 40 * 2 : 0);
    ck_assert_double_eq(cost[KV_KIND_REPLACE].flushed, lasts ? 40 * 128 : 0);
    ck_assert_double_eq(cost[KV_KIND_DELETE].fences, lasts ? 30 * 2 : 0);
    ck_assert_double_eq(cost[KV_KIND_DELETE].flushed, lasts ? 30 * 64 : 0);
    ck_assert_uint_eq(cost[KV_KIND_TOUCH].n, before[KV_KIND_TOUCH].n);
}
END_TEST

START_TEST(a_part_of_a_value_is_copied_and_no_more)
{
    char buffer[8] = "-------";
    struct kv_item item;
    set(1, "0123456789");
    int k = 1;
    ck_assert_int_eq(
        kv_shared_get(shared, &k, sizeof(k), 7, buffer, sizeof(buffer), &item),
        KV_OK);
    ck_assert_str_eq(buffer, "789----");
    ck_assert_uint_eq(item.len, 10);
    ck_assert_int_eq(kv_shared_get(shared, &k, sizeof(k), 50, buffer, 8, NULL),
                     KV_OK);
    ck_assert_str_eq(buffer, "789----");
    ck_assert_int_eq(kv_shared_get(shared, &k, sizeof(k), 0, NULL, 0, NULL),
                     KV_OK);
}
END_TEST

START_TEST(a_held_value_is_readable_until_it_is_released)
{
    struct kv_item item;
    struct kv_run run = {0};
    static char value[3000];
    int k = 1;
    memset(value, 'a', sizeof(value));
    kv_shared_store(shared, KV_SET, &k, sizeof(k), 0, 0, 0, value,
                    sizeof(value), NULL);
    ck_assert_int_eq(kv_shared_hold(shared, &k, sizeof(k), &item), KV_OK);
    for (int i = 0; i < 100; i++) {
        set(k, "other");
        set(i, "more");
    }
    ck_assert(kv_shared_next_run(shared, &item, &run));
    ck_assert_uint_eq(run.len, sizeof(value));
    ck_assert_int_eq(memcmp(run.bytes, value, sizeof(value)), 0);
    ck_assert(!kv_shared_next_run(shared, &item, &run));
    kv_shared_release(shared, &item);
}
END_TEST

static bool count(void *context, const void *key, size_t klen,
                  const struct kv_item *item)
{
    unsigned char *seen = context;
    int k;
    (void)item;
    ck_assert_uint_eq(klen, sizeof(k));
    memcpy(&k, key, sizeof(k));
    seen[k]++;
    return true;
}

START_TEST(a_scan_goes_through_all_shards)
{
    static unsigned char seen[3000];
    uint64_t cursor = 0;
    int calls = 0;
    memset(seen, 0, sizeof(seen));
    for (int k = 0; k < 3000; k++)
        set(k, "v");
    do {
        cursor = kv_shared_scan(shared, cursor, count, seen);
        calls++;
    } while (cursor != 0);
    for (int k = 0; k < 3000; k++)
        ck_assert_int_eq(seen[k], 1);
    ck_assert_int_ge(calls, 4);
    ck_assert_uint_eq(kv_shared_scan(shared, UINT64_MAX, count, seen), 0);
}
END_TEST

START_TEST(a_flush_takes_all_shards)
{
    for (int k = 0; k < 100; k++)
        set(k, "v");
    ck_assert_int_eq(kv_shared_flush_all(shared, 0), KV_OK);
    for (int k = 0; k < 100; k++)
        ck_assert_str_eq(get(k), "(none)");
}
END_TEST

static enum kv_result swap_first(void *context, struct kv *kv)
{
    struct kv_item item;
    enum kv_result result = kv_get(kv, context, sizeof(int), &item);
    if (result != KV_OK)
        return result;
    kv_store(kv, KV_SET, "copy", 4, 0, 0, 0, item.value, item.len, NULL);
    return kv_delete(kv, context, sizeof(int));
}

START_TEST(several_calls_on_a_shard_are_one_turn)
{
    int k = 1;
    uint64_t commits = stats().commits;
    set(k, "v");
    ck_assert_uint_le(stats().commits, commits + 1);
    ck_assert_int_eq(kv_shared_run(shared, &k, sizeof(k), swap_first, &k),
                     KV_OK);
    ck_assert_uint_le(stats().commits, commits + 2);
    ck_assert_str_eq(get(k), "(none)");
    ck_assert_int_eq(kv_shared_run(shared, &k, sizeof(k), swap_first, &k),
                     KV_MISS);
    ck_assert_uint_eq(stats().items, 1);
}
END_TEST

static int keys[100];
static struct kv_put batch[100];

static void prepare(int n)
{
    for (int k = 0; k < n; k++) {
        keys[k] = k;
        batch[k] = (struct kv_put){.key = &keys[k],
                                   .klen = sizeof(keys[k]),
                                   .value = "batch",
                                   .len = 5,
                                   .flags = (uint32_t)k};
    }
}

START_TEST(a_batch_goes_to_all_shards_and_each_commits_once)
{
    for (int turn = 0; turn < 2; turn++) { /* the second without growths */
        uint64_t commits = stats().commits;
        prepare(100);
        batch[7].mode = KV_ADD;
        batch[8].mode = KV_REPLACE;
        batch[9].klen = KV_MAX_KEY + 1;
        batch[50] = batch[51];
        batch[51].mode = KV_ADD; /* that key is there since just now */
        ck_assert_int_eq(kv_shared_store_batch(shared, batch, 100),
                         KV_NOT_STORED);
        for (int k = 0; k < 100; k++)
            ck_assert_int_eq(batch[k].result, k == 9 ? KV_TOO_LARGE
                                              : k == 51 || k == 8 - turn
                                                  ? KV_NOT_STORED
                                                  : KV_OK);
        if (turn && fd >= 0)
            ck_assert_uint_eq(stats().commits, commits + 4);
        set(8, "other");
    }
    ck_assert_str_eq(get(99), "batch");
    ck_assert_str_eq(get(9), "(none)");
    ck_assert_str_eq(get(50), "(none)");
    ck_assert_str_eq(get(51), "batch");
    ck_assert_int_eq(kv_shared_store_batch(shared, NULL, 0), KV_OK);
}
END_TEST

/* Until there is no room; how many keys. */
static int fill(int from)
{
    char value[2048];
    int k = from;
    memset(value, 'x', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    while (set(k, value) == KV_OK)
        k++;
    return k - from;
}

START_TEST(all_shards_grow_and_take_more)
{
    int first = fill(0);
    uint64_t size = stats().pool_size;
    ck_assert_int_gt(first, 1000);
    ck_assert_msg(kv_shared_grow(shared, SIZE, error, sizeof(error)) == 0, "%s",
                  error);
    int second = fill(100000);
    ck_assert_int_gt(second, first * 3 / 4);
    ck_assert_uint_ge(stats().items, (uint64_t)(first + second));
    if (fd >= 0)
        ck_assert_uint_ge(stats().pool_size, size + SIZE);
    ck_assert_str_ne(get(1), "(none)");
    ck_assert_str_ne(get(100001), "(none)");
    ck_assert_int_eq(kv_shared_grow(shared, UINT64_MAX, error, sizeof(error)),
                     -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "cannot grow by 18446744073709551615"));
}
END_TEST

/* As a crash leaves them, and a file that cannot be that large. */
START_TEST(shards_that_grew_by_halves_become_equal)
{
    struct kv_region *region = shared->region;
    uint64_t size = shared->shards[0].kv->pool.size;
    uint64_t grain = region->region.header->grain;
    ck_assert_int_eq(
        kv_shared_grow(shared, (uint64_t)1 << 50, error, sizeof(error)),
        -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "can grow to"));
    ck_assert_int_eq(
        kv_region_grow(region, SIZE + 40 * grain, error, sizeof(error)), 0);
    ck_assert_int_eq(
        kv_pool_grow(shared->shards[2].kv, 20 * grain, error, sizeof(error)),
        0);
    ck_assert_int_eq(kv_shared_close(shared), 0);
    open_again();
    region = shared->region;
    ck_assert_int_eq(kv_shared_grow(shared, 60 * grain, error, sizeof(error)),
                     0);
    for (uint32_t i = 0; i < 4; i++) {
        uint64_t now = shared->shards[i].kv->pool.size;
        ck_assert_uint_ge(now, size + 20 * grain);
        ck_assert_uint_le(now, size + 22 * grain);
    }
    ck_assert_uint_le(kv_region_free(region), 2 * grain);
    for (int k = 0; k < 1000; k++)
        ck_assert_int_eq(set(k, "value"), KV_OK);
    ck_assert_int_eq(kv_shared_close(shared), 0);
    open_again();
    for (int k = 0; k < 1000; k++)
        ck_assert_str_eq(get(k), "value");
}
END_TEST

START_TEST(what_was_stored_is_found_after_reopening_with_any_number)
{
    for (int k = 0; k < 1000; k++)
        set(k, "value");
    ck_assert_int_eq(kv_shared_close(shared), 0);
    options.shards = 7; /* the file's own number counts */
    open_again();
    ck_assert_uint_eq(kv_shared_shards(shared), 4);
    ck_assert(stats().was_clean);
    ck_assert_uint_gt(stats().scan_left, 4);
    for (int k = 0; k < 1000; k++)
        ck_assert_str_eq(get(k), "value");
}
END_TEST

START_TEST(shards_that_a_crash_left_unmade_are_made)
{
    ck_assert_int_eq(kv_shared_close(shared), 0);
    struct kv_region_options whole = {.size = SIZE};
    struct kv_region *region;
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    ck_assert_int_eq(
        kv_region_open(path, &whole, &region, error, sizeof(error)), 0);
    ck_assert_int_eq(
        kv_pool_create(region, "shard-0-of-3", SIZE / 3, error, sizeof(error)),
        0);
    kv_region_close(region);
    open_again();
    ck_assert_uint_eq(kv_shared_shards(shared), 3);
    for (int k = 0; k < 1000; k++)
        ck_assert_int_eq(set(k, "value"), KV_OK);
}
END_TEST

START_TEST(a_shard_that_has_failed_fails_its_part_of_a_batch)
{
    int failed = 0;
    prepare(100);
    shared->shards[2].kv->failed = true;
    ck_assert_int_ne(kv_shared_store_batch(shared, batch, 100), KV_OK);
    for (int k = 0; k < 100; k++) {
        bool its = shared_number(shared, &k, sizeof(k)) == 2;
        ck_assert_int_eq(batch[k].result, its ? KV_IO : KV_OK);
        ck_assert_str_eq(get(k), its ? "(none)" : "batch");
        failed += its;
    }
    ck_assert_int_gt(failed, 10);
    shared->shards[2].kv->failed = false; /* nothing has happened to it */
}
END_TEST

START_TEST(in_batches_changes_count_after_a_commit)
{
    ck_assert_int_eq(kv_shared_close(shared), 0);
    options.batch = true;
    open_again();
    uint64_t commits = stats().commits;
    for (int k = 0; k < 100; k++)
        set(k, "value");
    prepare(100);
    ck_assert_int_eq(kv_shared_store_batch(shared, batch, 100), KV_OK);
    ck_assert_uint_eq(stats().commits, commits);
    ck_assert_int_eq(kv_shared_commit(shared), KV_OK);
    ck_assert_uint_eq(stats().commits, commits + 4);
    ck_assert_int_eq(kv_shared_commit(shared), KV_OK);
    ck_assert_uint_eq(stats().commits, commits + 4);
}
END_TEST

START_TEST(impossible_numbers_are_refused_in_words)
{
    struct kv_shared *none = NULL;
    struct kv_shared_options bad = {.shards = 129, .pool = {.size = 1u << 30}};
    ck_assert_int_eq(
        kv_shared_open("/nowhere", &bad, &none, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "1 to 128 shards"));
    bad = (struct kv_shared_options){.shards = 5, .pool = {.size = 1u << 20}};
    ck_assert_int_eq(
        kv_shared_open("/nowhere", &bad, &none, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "they need 1310720"));
    bad = (struct kv_shared_options){.shards = 33, .pool = {.size = 32u << 20}};
    ck_assert_int_eq(
        kv_shared_open("/nowhere", &bad, &none, error, sizeof(error)), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error, "they need 67108864"));
    bad = (struct kv_shared_options){
        .shards = 2, .room = UINT64_MAX, .pool = {.size = 8u << 20}};
    int other = memfd_create("pool", MFD_CLOEXEC);
    char name[32];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", other);
    ck_assert_int_eq(kv_shared_open(name, &bad, &none, error, sizeof(error)),
                     -ENOMEM);
    close(other);
    bad = (struct kv_shared_options){.pool = {.size = 0}};
    ck_assert_int_lt(
        kv_shared_open("/nowhere/at/all", &bad, &none, error, sizeof(error)),
        0);
    ck_assert_int_lt(
        kv_shared_open(path, &options, &none, error, sizeof(error)),
        0); /* it is open */
    ck_assert_ptr_null(none);
    ck_assert_int_eq(kv_shared_close(NULL), 0);
}
END_TEST

START_TEST(as_many_shards_as_there_can_be)
{
    struct kv_shared *most = NULL;
    struct kv_shared_options many = {.shards = KV_MAX_SHARDS,
                                     .pool = {.size = 80u << 20}};
    char other[32];
    int file = memfd_create("pool", MFD_CLOEXEC);
    snprintf(other, sizeof(other), "/proc/self/fd/%d", file);
    ck_assert_msg(kv_shared_open(other, &many, &most, error, sizeof(error)) ==
                      0,
                  "%s", error);
    for (int k = 0; k < 2000; k++)
        ck_assert_int_eq(
            kv_shared_store(most, KV_SET, &k, sizeof(k), 0, 0, 0, "v", 1, NULL),
            KV_OK);
    ck_assert_int_eq(kv_shared_close(most), 0);
    close(file);
}
END_TEST

static void add_common(TCase *tcase)
{
    tcase_add_test(tcase, every_operation_finds_the_shard_of_its_key);
    tcase_add_test(tcase, keys_are_spread_over_all_shards);
    tcase_add_test(tcase, costs_are_those_of_all_shards);
    tcase_add_test(tcase, a_part_of_a_value_is_copied_and_no_more);
    tcase_add_test(tcase, a_held_value_is_readable_until_it_is_released);
    tcase_add_test(tcase, a_scan_goes_through_all_shards);
    tcase_add_test(tcase, a_flush_takes_all_shards);
    tcase_add_test(tcase, several_calls_on_a_shard_are_one_turn);
    tcase_add_test(tcase, a_batch_goes_to_all_shards_and_each_commits_once);
    tcase_add_test(tcase, all_shards_grow_and_take_more);
}

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("shared");
    TCase *memory = tcase_create("in memory");
    tcase_add_checked_fixture(memory, open_memory, close_all);
    add_common(memory);
    suite_add_tcase(suite, memory);
    TCase *file = tcase_create("in a file");
    tcase_add_checked_fixture(file, open_file, close_all);
    add_common(file);
    tcase_add_test(file,
                   what_was_stored_is_found_after_reopening_with_any_number);
    tcase_add_test(file, shards_that_a_crash_left_unmade_are_made);
    tcase_add_test(file, shards_that_grew_by_halves_become_equal);
    tcase_add_test(file, a_shard_that_has_failed_fails_its_part_of_a_batch);
    tcase_add_test(file, in_batches_changes_count_after_a_commit);
    tcase_add_test(file, impossible_numbers_are_refused_in_words);
    tcase_add_test(file, as_many_shards_as_there_can_be);
    suite_add_tcase(suite, file);
    return run_suite(suite);
}
