/* Reading and writing parts of values, attributes, batches; in both engines. */
#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1u << 20)

static struct kv *kv;
static int fd = -1;

static void open_with(struct kv_options options, const char *path)
{
    char error[256] = "";
    options.size = SIZE;
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void open_memory(void)
{
    fd = -1;
    open_with((struct kv_options){.engine = KV_ENGINE_MEMORY}, NULL);
}

static void open_pool(void)
{
    char path[32];
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_with((struct kv_options){0}, path);
}

static void open_cache(void)
{
    char path[32];
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_with((struct kv_options){.evict = true}, path);
}

static void close_store(void)
{
    char fault[128] = "no memory";
    if (fd >= 0)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
    kv_close(kv);
    if (fd >= 0)
        close(fd);
}

static void fill(unsigned char *bytes, int seed, size_t len)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)((size_t)seed + i * 7 + (i >> 6));
}

static void set(const char *key, const void *value, size_t len)
{
    ck_assert_int_eq(
        kv_store(kv, KV_SET, key, strlen(key), 7, 5000, 0, value, len, NULL),
        KV_OK);
}

static enum kv_result write_at(const char *key, size_t from, const void *bytes,
                               size_t len)
{
    return kv_write(kv, key, strlen(key), from, bytes, len, 0, NULL);
}

START_TEST(a_part_is_read_at_every_offset)
{
    unsigned char value[60], got[80];
    struct kv_item item;
    for (size_t len = 10; len <= 60; len += 50) {
        fill(value, 3, len);
        set("k", value, len);
        for (size_t from = 0; from < 70; from++)
            for (size_t size = 0; size < 70; size += 3) {
                memset(got, 0xee, sizeof(got));
                ck_assert(kv_read(kv, "k", 1, from, got, size, &item) ==
                              KV_OK &&
                          item.len == len && item.flags == 7 && !item.value);
                size_t n = from < len ? len - from : 0;
                n = n < size ? n : size;
                ck_assert((n == 0 || memcmp(got, value + from, n) == 0) &&
                          got[n] == 0xee);
            }
    }
    ck_assert_int_eq(kv_read(kv, "k", 1, 0, NULL, 0, NULL), KV_OK);
    ck_assert_int_eq(kv_read(kv, "l", 1, 0, got, 9, &item), KV_MISS);
    ck_assert_int_eq(kv_read(kv, "", 0, 0, got, 9, &item), KV_MISS);
}
END_TEST

/* Lengths around what lies in an entry, on the stack, in pieces of writing. */
static const size_t lens[] = {0, 1, 20, 32, 33, 511, 513, 9000};
#define N_LENS (sizeof(lens) / sizeof(*lens))

static void check_write(size_t len, size_t from, size_t part)
{
    static unsigned char want[20000], bytes[20000], got[20000];
    struct kv_item item, before;
    size_t end = from + part > len ? from + part : len;
    memset(want, 0, sizeof(want));
    fill(want, 1, len);
    fill(bytes, 99, part);
    set("k", want, len);
    ck_assert_int_eq(kv_attributes(kv, "k", 1, &before), KV_OK);
    ck_assert_int_eq(write_at("k", from, bytes, part), KV_OK);
    memcpy(want + from, bytes, part);
    ck_assert_int_eq(kv_read(kv, "k", 1, 0, got, sizeof(got), &item), KV_OK);
    ck_assert_uint_eq(item.len, end);
    ck_assert_msg(memcmp(got, want, end) == 0, "%zu bytes, %zu at %zu", len,
                  part, from);
    ck_assert(item.flags == 7 && item.exptime == 5000);
    ck_assert_uint_gt(item.cas, before.cas);
}

START_TEST(a_part_is_written_and_the_rest_stays)
{
    for (size_t l = 0; l < N_LENS; l++)
        for (size_t f = 0; f < N_LENS; f++)
            for (size_t p = 0; p < N_LENS; p++) {
                check_write(lens[l], lens[f], lens[p]);
                if (p % 2)
                    ck_assert_int_eq(kv_commit(kv), KV_OK);
            }
}
END_TEST

START_TEST(a_part_is_written_only_to_what_is_there_and_unchanged)
{
    uint64_t cas, other;
    struct kv_item item;
    ck_assert_int_eq(write_at("k", 0, "x", 1), KV_MISS);
    ck_assert_int_eq(kv_count(kv), 0);
    kv_store(kv, KV_SET, "k", 1, 0, 0, 0, "abc", 3, &cas);
    ck_assert_int_eq(kv_write(kv, "k", 1, 1, "X", 1, cas + 1, &other),
                     KV_EXISTS);
    ck_assert_int_eq(kv_write(kv, "k", 1, 1, "X", 1, cas, &other), KV_OK);
    ck_assert_uint_gt(other, cas);
    ck_assert_int_eq(write_at("k", 1u << 20, "x", 1), KV_TOO_LARGE);
    ck_assert_int_eq(write_at("k", SIZE_MAX, "x", 1), KV_TOO_LARGE);
    ck_assert_int_eq(write_at("k", 1, "x", SIZE_MAX), KV_TOO_LARGE);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert(item.len == 3 && memcmp(item.value, "aXc", 3) == 0);
    kv_touch(kv, "k", 1, 1001);
    kv_set_time(kv, 1001);
    ck_assert_int_eq(write_at("k", 0, "x", 1), KV_MISS);
}
END_TEST

START_TEST(who_borrowed_the_old_value_keeps_it_while_parts_are_written)
{
    static unsigned char value[5000];
    struct kv_item item;
    struct kv_run run = {0};
    fill(value, 1, sizeof(value));
    set("k", value, sizeof(value));
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    for (size_t i = 0; i < 50; i++)
        ck_assert_int_eq(write_at("k", i * 100, "part", 4), KV_OK);
    while (kv_next_run(kv, &item, &run))
        ck_assert_int_eq(memcmp(run.bytes, value + run.end - run.len, run.len),
                         0);
    ck_assert_uint_eq(run.end, sizeof(value));
}
END_TEST

START_TEST(in_a_full_store_a_part_is_refused_and_the_value_stays)
{
    static unsigned char value[100000], got[100000];
    char key[16];
    int n = 0;
    fill(value, 1, sizeof(value));
    do
        snprintf(key, sizeof(key), "%d", n++);
    while (kv_store(kv, KV_SET, key, strlen(key), 7, 5000, 0, value,
                    sizeof(value), NULL) == KV_OK);
    ck_assert_int_eq(write_at("0", 5, "part", 4), KV_NO_SPACE);
    ck_assert_int_eq(kv_read(kv, "0", 1, 0, got, sizeof(got), NULL), KV_OK);
    ck_assert_int_eq(memcmp(got, value, sizeof(got)), 0);
}
END_TEST

START_TEST(in_a_full_cache_a_part_is_written_even_if_the_item_goes_for_it)
{
    static unsigned char value[300000], got[300000];
    char key[16];
    for (int n = 0; n < 50; n++) {
        snprintf(key, sizeof(key), "%d", n % 5);
        fill(value, n % 5, sizeof(value));
        set(key, value, sizeof(value));
        kv_commit(kv);
        kv_unpin_all(kv);
        ck_assert_int_eq(write_at(key, 5, "part", 4), KV_OK);
        memcpy(value + 5, "part", 4);
        ck_assert_int_eq(
            kv_read(kv, key, strlen(key), 0, got, sizeof(got), NULL), KV_OK);
        ck_assert_int_eq(memcmp(got, value, sizeof(got)), 0);
    }
}
END_TEST

START_TEST(attributes_are_told_without_being_a_use)
{
    struct kv_statistics stats;
    struct kv_item item;
    uint64_t cas;
    kv_store(kv, KV_SET, "k", 1, 9, 1500, 0, "value", 5, &cas);
    ck_assert_int_eq(kv_attributes(kv, "k", 1, &item), KV_OK);
    ck_assert(item.len == 5 && item.flags == 9 && item.exptime == 1500 &&
              item.cas == cas && !item.value);
    ck_assert_uint_eq(kv_count(kv), 1);
    kv_set_time(kv, 1500);
    ck_assert_int_eq(kv_attributes(kv, "k", 1, &item), KV_MISS);
    ck_assert_int_eq(kv_exists(kv, "k", 1), KV_MISS);
    kv_stats(kv, &stats);
    ck_assert_uint_eq(stats.get_expired, 0);
    ck_assert_uint_eq(kv_count(kv), 0);
}
END_TEST

START_TEST(a_batch_sees_its_own_operations_and_costs_one_commit)
{
    struct kv_statistics stats;
    struct kv_item item;
    uint64_t number;
    char text[8] = "";
    kv_stats(kv, &stats);
    uint64_t commits = stats.commits;
    set("same", "one", 3);
    set("same", "two", 3);
    ck_assert_int_eq(kv_get(kv, "same", 4, &item), KV_OK);
    ck_assert_int_eq(memcmp(item.value, "two", 3), 0);
    set("gone", "v", 1);
    ck_assert_int_eq(kv_delete(kv, "gone", 4), KV_OK);
    ck_assert_int_eq(kv_delete(kv, "gone", 4), KV_MISS);
    ck_assert_int_eq(kv_get(kv, "gone", 4, &item), KV_MISS);
    set("gone", "again", 5);
    set("n", "41", 2);
    ck_assert_int_eq(kv_arith(kv, "n", 1, true, 1, &number, NULL), KV_OK);
    ck_assert_uint_eq(number, 42);
    ck_assert_int_eq(write_at("same", 3, "!", 1), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    kv_stats(kv, &stats);
    ck_assert_uint_le(stats.commits, commits + 1);
    ck_assert_uint_eq(kv_count(kv), 3);
    ck_assert_int_eq(kv_read(kv, "same", 4, 0, text, 8, NULL), KV_OK);
    ck_assert_str_eq(text, "two!");
}
END_TEST

static bool is_the_longest_alone(void *context, const void *key, size_t klen,
                                 const struct kv_item *item)
{
    int *seen = context;
    ck_assert_uint_eq(klen, KV_MAX_KEY);
    ck_assert_uint_eq(((const char *)key)[klen - 1], 'z');
    ck_assert_uint_eq(item->len, 3);
    ++*seen;
    return true;
}

/* 64 KiB, and no byte more, in each call that takes a key. */
START_TEST(a_key_of_64_kib_is_one_as_any_other)
{
    static char key[65537];
    struct kv_reservation r;
    struct kv_item item;
    uint64_t number, at = 0;
    char got[8];
    int seen = 0;
    const size_t klen = sizeof(key) - 1;
    memset(key, 'k', sizeof(key));
    ck_assert_int_eq(kv_store(kv, KV_SET, key, klen, 0, 0, 0, "no", 2, NULL),
                     KV_OK); /* all but its last byte is the other's */
    key[klen - 1] = 'z';
    ck_assert_int_eq(kv_exists(kv, key, klen), KV_MISS);
    ck_assert_int_eq(kv_store(kv, KV_ADD, key, klen, 0, 0, 0, "10", 2, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, key, klen, 0, 0, 0, "0", 1, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_arith(kv, key, klen, true, 11, &number, NULL), KV_OK);
    ck_assert_uint_eq(number, 111);
    ck_assert_int_eq(kv_touch(kv, key, klen, 5000), KV_OK);
    ck_assert_int_eq(kv_write(kv, key, klen, 1, "2", 1, 0, NULL), KV_OK);
    ck_assert_int_eq(kv_read(kv, key, klen, 1, got, 2, &item), KV_OK);
    ck_assert_mem_eq(got, "21", 2);
    ck_assert_int_eq(kv_attributes(kv, key, klen, &item), KV_OK);
    ck_assert_uint_eq(item.exptime, 5000);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_int_eq(kv_hold(kv, key, klen, &item), KV_OK);
    ck_assert_int_eq(kv_reserve(kv, klen, 3, &r), KV_OK);
    memcpy(r.buffer, "new", 3);
    ck_assert_int_eq(kv_publish(kv, &r, KV_SET, key, klen, 0, 0, 0, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_copy_value(kv, &item, 0, got, 3), 3);
    ck_assert_mem_eq(got, "121", 3);
    kv_release(kv, &item);
    key[klen - 1] = 'k';
    ck_assert_int_eq(kv_delete(kv, key, klen), KV_OK);
    key[klen - 1] = 'z';
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    do {
        at = kv_scan(kv, at, is_the_longest_alone, &seen);
    } while (at != 0);
    ck_assert_int_eq(seen, 1);
    ck_assert_int_eq(kv_exists(kv, key, klen + 1), KV_MISS);
    ck_assert_int_eq(kv_store(kv, KV_SET, key, klen + 1, 0, 0, 0, "v", 1, NULL),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_delete(kv, key, klen), KV_OK);
    ck_assert_int_eq(kv_exists(kv, key, klen), KV_MISS);
}
END_TEST

static void add_common(TCase *tcase)
{
    tcase_add_test(tcase, a_key_of_64_kib_is_one_as_any_other);
    tcase_add_test(tcase, a_part_is_read_at_every_offset);
    tcase_add_test(tcase, a_part_is_written_and_the_rest_stays);
    tcase_add_test(tcase,
                   a_part_is_written_only_to_what_is_there_and_unchanged);
    tcase_add_test(tcase,
                   who_borrowed_the_old_value_keeps_it_while_parts_are_written);
    tcase_add_test(tcase,
                   in_a_full_store_a_part_is_refused_and_the_value_stays);
    tcase_add_test(tcase, attributes_are_told_without_being_a_use);
    tcase_add_test(tcase, a_batch_sees_its_own_operations_and_costs_one_commit);
}

static void add_case(Suite *suite, const char *name, void (*open)(void),
                     bool evicts)
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, open, close_store);
    if (evicts)
        tcase_add_test(
            tcase,
            in_a_full_cache_a_part_is_written_even_if_the_item_goes_for_it);
    else
        add_common(tcase);
    suite_add_tcase(suite, tcase);
}

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("operations");
    add_case(suite, "in memory", open_memory, false);
    add_case(suite, "in a pool", open_pool, false);
    add_case(suite, "in a cache", open_cache, true);
    return run_suite(suite);
}
