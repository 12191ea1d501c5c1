/* Puts that come as one call; in both engines. */
#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/durable.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE  (1u << 20)
#define MANY  3000
#define LARGE 50000 /* bytes */

static struct kv *kv;
static struct kv_options options;
static int fd = -1;
static struct kv_put batch[MANY];
static int keys[MANY];
static const char large[LARGE];

/* A store; *file: its file, or -1. */
static struct kv *open_store(int *file)
{
    char error[256] = "", path[32];
    struct kv *out;
    *file = -1;
    if (options.engine == KV_ENGINE_DURABLE)
        *file = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *file);
    ck_assert_msg(kv_open(path, &options, &out, error, sizeof(error)) == 0,
                  "%s", error);
    kv_set_time(out, 1000);
    return out;
}

static void open_memory(void)
{
    options = (struct kv_options){.size = SIZE, .engine = KV_ENGINE_MEMORY};
    kv = open_store(&fd);
}

static void open_pool(void)
{
    options = (struct kv_options){.size = SIZE};
    kv = open_store(&fd);
}

static void close_store(void)
{
    char fault[128] = "no memory";
    if (fd >= 0 && !kv->failed)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
    kv_close(kv);
    if (fd >= 0)
        close(fd);
}

static struct kv_put put_of(enum kv_mode mode, const char *key,
                            const char *value)
{
    return (struct kv_put){.mode = mode,
                           .key = key,
                           .klen = strlen(key),
                           .value = value,
                           .len = strlen(value)};
}

/* n different keys from a number on, with a value of so many bytes. */
static void prepare(int from, int n, size_t len)
{
    for (int i = 0; i < n; i++) {
        keys[i] = from + i;
        batch[i] = (struct kv_put){.key = &keys[i],
                                   .klen = sizeof(keys[i]),
                                   .value = large,
                                   .len = len};
    }
}

static void expect(const char *key, const char *value)
{
    char got[32] = "";
    ck_assert_int_eq(
        kv_read(kv, key, strlen(key), 0, got, sizeof(got) - 1, NULL), KV_OK);
    ck_assert_str_eq(got, value);
}

static uint64_t commits(void)
{
    struct kv_statistics stats;
    kv_stats(kv, &stats);
    return stats.commits;
}

START_TEST(each_put_has_its_own_condition_and_result)
{
    uint64_t cas;
    kv_store(kv, KV_SET, "there", 5, 0, 0, 0, "old", 3, NULL);
    kv_store(kv, KV_SET, "mine", 4, 0, 0, 0, "old", 3, &cas);
    struct kv_put some[] = {
        put_of(KV_ADD, "new", "1"),       put_of(KV_ADD, "there", "2"),
        put_of(KV_REPLACE, "none", "3"),  put_of(KV_REPLACE, "there", "4"),
        put_of(KV_CAS, "mine", "5"),      put_of(KV_CAS, "mine", "6"),
        put_of(KV_CAS, "none", "7"),      put_of(KV_SET, "", "8"),
        put_of(KV_SET, "large", "9"),     put_of(KV_SET, "long", "10"),
        put_of(KV_APPEND, "there", "11"), put_of(KV_SET, "last", "12")};
    const enum kv_result want[] = {
        KV_OK,   KV_NOT_STORED, KV_NOT_STORED, KV_OK,        KV_OK, KV_EXISTS,
        KV_MISS, KV_TOO_LARGE,  KV_TOO_LARGE,  KV_TOO_LARGE, KV_OK, KV_OK};
    const size_t n = sizeof(some) / sizeof(*some);
    some[4].cas = cas;
    some[5].cas = cas; /* changed by the one before */
    some[8].len = SIZE_MAX;
    some[9].klen = KV_MAX_KEY + 1;
    some[11].flags = 77;
    some[11].exptime = 1001;
    ck_assert_int_eq(kv_store_batch(kv, some, n), KV_NOT_STORED);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(some[i].result == want[i], "put %zu gives %d", i,
                      (int)some[i].result);
    expect("new", "1");
    expect("there", "411");
    expect("mine", "5");
    ck_assert_uint_eq(kv_count(kv), 4);
    struct kv_item item;
    ck_assert_int_eq(kv_attributes(kv, "last", 4, &item), KV_OK);
    ck_assert(item.flags == 77 && item.exptime == 1001);
    ck_assert_uint_eq(item.cas, some[11].cas_out);
    kv_set_time(kv, 1001);
    ck_assert_int_eq(kv_exists(kv, "last", 4), KV_MISS);
}
END_TEST

START_TEST(a_put_sees_those_of_its_key_before_it)
{
    struct kv_put some[] = {put_of(KV_ADD, "k", "a"), put_of(KV_ADD, "k", "x"),
                            put_of(KV_APPEND, "k", "b"),
                            put_of(KV_PREPEND, "k", "c")};
    ck_assert_int_eq(kv_store_batch(kv, some, 4), KV_NOT_STORED);
    ck_assert_int_eq(some[1].result, KV_NOT_STORED);
    ck_assert_uint_lt(some[0].cas_out, some[2].cas_out);
    ck_assert_uint_lt(some[2].cas_out, some[3].cas_out);
    expect("k", "cab");
    for (int i = 0; i < MANY; i++) {
        prepare(i, 1, (size_t)i);
        batch[i] = batch[0];
        batch[i].key = "same";
        batch[i].klen = 4;
    }
    batch[0].key = "same";
    batch[0].klen = 4;
    batch[0].len = 0;
    ck_assert_int_eq(kv_store_batch(kv, batch, MANY), KV_OK);
    struct kv_item item;
    ck_assert_int_eq(kv_attributes(kv, "same", 4, &item), KV_OK);
    ck_assert_uint_eq(item.len, MANY - 1);
    ck_assert_uint_eq(kv_count(kv), 2);
}
END_TEST

static uint32_t roll(uint32_t sides)
{
    static uint64_t random = 88172645463325252u;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return (uint32_t)(random >> 20) % sides;
}

static void compare(struct kv *other, int k)
{
    char got[64], want[64];
    struct kv_item item = {0}, same = {0};
    enum kv_result result =
        kv_read(kv, &k, sizeof(k), 0, got, sizeof(got), &item);
    ck_assert_int_eq(
        kv_read(other, &k, sizeof(k), 0, want, sizeof(want), &same), result);
    ck_assert(item.len == same.len && item.cas == same.cas &&
              item.flags == same.flags);
    size_t len = item.len < sizeof(got) ? item.len : sizeof(got);
    ck_assert_int_eq(memcmp(got, want, len), 0);
}

/* A batch leaves a store as its puts do one after the other. */
START_TEST(a_batch_is_its_puts_in_their_order_and_a_commit)
{
    static char bytes[200];
    int file;
    options.size = 8 * SIZE;
    struct kv *other = open_store(&file);
    memset(bytes, 'x', sizeof(bytes));
    for (int round = 0; round < 300; round++) {
        size_t n = roll(round % 10 ? 40 : 600);
        enum kv_result want = KV_OK;
        for (size_t i = 0; i < n; i++) {
            prepare((int)roll(200), 1, 0);
            keys[MANY - 1 - i] = keys[0];
            batch[i] = (struct kv_put){.mode = (enum kv_mode)roll(6),
                                       .key = &keys[MANY - 1 - i],
                                       .klen = roll(50) ? sizeof(int) : 0,
                                       .value = bytes,
                                       .len = roll(10) ? roll(30) : roll(200),
                                       .cas = roll(5) ? 0 : roll(2000),
                                       .flags = roll(9)};
        }
        enum kv_result got = kv_store_batch(kv, batch, n);
        for (size_t i = 0; i < n; i++) {
            const struct kv_put *p = &batch[i];
            uint64_t cas = 0;
            enum kv_result result =
                kv_store(other, p->mode, p->key, p->klen, p->flags, p->exptime,
                         p->cas, p->value, p->len, &cas);
            ck_assert_int_eq(p->result, result);
            ck_assert_uint_eq(p->cas_out, cas);
            want = want == KV_OK ? result : want;
        }
        ck_assert_int_eq(got, want);
        ck_assert_int_eq(kv_commit(other), KV_OK);
        for (int k = 0; k < 200; k++)
            compare(other, k);
    }
    kv_close(other);
    close(file);
}
END_TEST

START_TEST(without_puts_it_is_a_commit)
{
    uint64_t before = commits();
    kv_store(kv, KV_SET, "k", 1, 0, 0, 0, "v", 1, NULL);
    ck_assert_int_eq(kv_store_batch(kv, NULL, 0), KV_OK);
    ck_assert_uint_eq(commits(), before + (fd >= 0));
    ck_assert_int_eq(kv_store_batch(kv, NULL, 0), KV_OK);
    ck_assert_uint_eq(commits(), before + (fd >= 0));
}
END_TEST

START_TEST(what_has_no_room_is_refused_whole_and_the_others_are_stored)
{
    const int n = 60;
    int stored = 0;
    prepare(0, n, LARGE);
    for (int i = 1; i < n; i += 2)
        batch[i].len = 10;
    ck_assert_int_eq(kv_store_batch(kv, batch, (size_t)n), KV_NO_SPACE);
    for (int i = 0; i < n; i++) {
        struct kv_item item;
        enum kv_result result =
            kv_attributes(kv, &keys[i], sizeof(keys[i]), &item);
        if (batch[i].result == KV_OK) {
            ck_assert_int_eq(result, KV_OK);
            ck_assert_uint_eq(item.len, batch[i].len);
            ck_assert_uint_eq(item.cas, batch[i].cas_out);
            stored++;
        } else {
            ck_assert_int_eq(batch[i].result, KV_NO_SPACE);
            ck_assert_int_eq(result, KV_MISS);
        }
    }
    ck_assert_int_gt(stored, n / 2 + 10);
    ck_assert_int_lt(stored, n);
    ck_assert_int_eq(batch[n - 1].result, KV_OK); /* behind many that failed */
    ck_assert_uint_eq(kv_count(kv), (uint64_t)stored);
}
END_TEST

START_TEST(a_hundred_share_two_fences_and_thousands_take_several)
{
    for (int from = 0; from < 2000; from += 100) { /* the table grows */
        prepare(from, 100, 16);
        ck_assert_int_eq(kv_store_batch(kv, batch, 100), KV_OK);
    }
    uint64_t before = commits();
    for (int from = 0; from < 2000; from += 100) {
        prepare(from, 100, 16);
        ck_assert_int_eq(kv_store_batch(kv, batch, 100), KV_OK);
    }
    ck_assert_uint_ge(commits(), before + 20);
    /* Some for places: how many depends on the seed of the pool's hash. */
    ck_assert_uint_lt(commits(), before + 40);
    before = commits();
    prepare(0, MANY, 16);
    ck_assert_int_eq(kv_store_batch(kv, batch, MANY), KV_OK);
    ck_assert_uint_gt(commits(), before + 1);
    ck_assert_uint_lt(commits(), before + MANY / 10);
    ck_assert_uint_eq(kv_count(kv), MANY);
}
END_TEST

/* As a crash leaves the file. */
START_TEST(it_is_durable_on_return)
{
    static char image[SIZE];
    prepare(0, 16, 16);
    ck_assert_int_eq(kv_store_batch(kv, batch, 16), KV_OK);
    ck_assert_int_eq(pread(fd, image, SIZE, 0), SIZE);
    close_store();
    fd = memfd_create("pool", MFD_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, image, SIZE, 0), SIZE);
    char error[256] = "", path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    ck_assert(!kv->pool.was_clean);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(kv_exists(kv, &keys[i], sizeof(keys[i])), KV_OK);
}
END_TEST

START_TEST(when_the_commit_fails_that_is_the_result_of_each)
{
    close_store();
    options.durability = KV_DURABILITY_SYNC;
    kv = open_store(&fd);
    struct kv_put some[] = {put_of(KV_SET, "a", "1"), put_of(KV_ADD, "a", "2")};
    ck_assert_int_eq(kv_store_batch(kv, some, 2), KV_NOT_STORED);
    kv->pm->error = -EIO; /* as after an msync that failed */
    ck_assert_int_eq(kv_store_batch(kv, some, 2), KV_IO);
    ck_assert(some[0].result == KV_IO && some[1].result == KV_IO);
    ck_assert_int_eq(kv_store_batch(kv, some, 2), KV_IO);
    ck_assert_int_eq(kv_store_batch(kv, NULL, 0), KV_IO);
}
END_TEST

static int n_hints, n_stores, n_puts;

static void see_hint(struct kv *store, const void *key, size_t klen, bool put)
{
    int k;
    (void)store;
    memcpy(&k, key, klen);
    ck_assert(put && k == n_hints);
    n_hints++;
}

static enum kv_result see_store(struct kv *store, enum kv_mode mode,
                                const void *key, size_t klen, uint32_t flags,
                                uint32_t exptime, uint64_t cas,
                                const void *value, size_t len,
                                uint64_t *cas_out)
{
    int next = n_stores + 16 < n_puts ? n_stores + 16 : n_puts;
    ck_assert_int_eq(n_hints, next);
    n_stores++;
    return durable_ops.store(store, mode, key, klen, flags, exptime, cas, value,
                             len, cas_out);
}

START_TEST(sixteen_puts_are_hinted_ahead_and_each_once)
{
    struct kv_ops ops = *kv_ops_of(kv);
    ops.hint = see_hint;
    ops.store = see_store;
    kv_head_of(kv)->ops = &ops;
    for (n_puts = 0; n_puts < 100; n_puts++) {
        n_hints = n_stores = 0;
        prepare(0, n_puts, 16);
        ck_assert_int_eq(kv_store_batch(kv, batch, (size_t)n_puts), KV_OK);
        ck_assert_int_eq(n_hints, n_puts);
        ck_assert_int_eq(n_stores, n_puts);
    }
    kv_head_of(kv)->ops = &durable_ops;
}
END_TEST

static void count(void *context, const void *key, size_t klen,
                  const struct kv_item *item)
{
    uint64_t *n = context;
    (void)key;
    (void)klen;
    (void)item;
    if (++*n % 8 == 0) /* of the same store, in the middle of the batch */
        kv_store(kv, KV_SET, "told", 4, 0, 0, 0, large, 100, NULL);
}

START_TEST(in_a_cache_a_batch_evicts_and_each_eviction_is_told)
{
    struct kv_statistics stats;
    uint64_t told = 0;
    close_store();
    options.evict = true;
    kv = open_store(&fd);
    ck_assert_int_eq(kv_on_evict(kv, count, &told), 0);
    for (int round = 0; round < 10; round++) {
        prepare(round * 100, 100, LARGE / 10);
        ck_assert_int_eq(kv_store_batch(kv, batch, 100), KV_OK);
        ck_assert_int_eq(kv_exists(kv, &keys[99], sizeof(int)), KV_OK);
    }
    kv_stats(kv, &stats);
    ck_assert_uint_gt(told, 700);
    ck_assert_uint_eq(stats.evictions, told);
    ck_assert_int_eq(kv_exists(kv, "told", 4), KV_OK);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name, void (*open)(void))
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, open, close_store);
    tcase_add_test(tcase, each_put_has_its_own_condition_and_result);
    tcase_add_test(tcase, a_put_sees_those_of_its_key_before_it);
    tcase_add_test(tcase, a_batch_is_its_puts_in_their_order_and_a_commit);
    tcase_add_test(tcase, without_puts_it_is_a_commit);
    tcase_add_test(tcase,
                   what_has_no_room_is_refused_whole_and_the_others_are_stored);
    tcase_add_test(tcase, in_a_cache_a_batch_evicts_and_each_eviction_is_told);
    suite_add_tcase(suite, tcase);
    return tcase;
}

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("batch");
    add_case(suite, "in memory", open_memory);
    TCase *pool = add_case(suite, "in a pool", open_pool);
    tcase_add_test(pool, a_hundred_share_two_fences_and_thousands_take_several);
    tcase_add_test(pool, it_is_durable_on_return);
    tcase_add_test(pool, when_the_commit_fails_that_is_the_result_of_each);
    tcase_add_test(pool, sixteen_puts_are_hinted_ahead_and_each_once);
    return run_suite(suite);
}
