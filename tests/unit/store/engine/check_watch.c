/* Callbacks about evictions and misses, in either engine. */
#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1u << 20)
#define LEN  5000

static struct kv *kv;
static int fd = -1;

/* What the callback has seen. */
static struct seen {
    uint64_t told;
    uint64_t wrong; /* not the bytes that were put */
    uint64_t put;   /* by the callback itself */
    int last;
    bool within; /* the callback is running */
    unsigned char there[4096];
} seen;

static void open_with(struct kv_options options, const char *path)
{
    char error[256] = "";
    memset(&seen, 0, sizeof(seen));
    options.size = SIZE;
    options.evict = true;
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

static void close_store(void)
{
    char fault[128] = "no memory";
    if (fd >= 0)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
    kv_close(kv);
    if (fd >= 0)
        close(fd);
}

static const unsigned char *value_of(int k, size_t len)
{
    static unsigned char value[LEN];
    for (size_t i = 0; i < len; i++)
        value[i] = (unsigned char)((size_t)k * 31 + i * 7);
    return value;
}

static size_t len_of(int k)
{
    return k % 5 == 0 ? 4 : LEN; /* some lie in their entry */
}

static enum kv_result put(int k)
{
    return kv_store(kv, KV_SET, &k, sizeof(k), (uint32_t)k, 0, 0,
                    value_of(k, len_of(k)), len_of(k), NULL);
}

static uint64_t evictions(void)
{
    struct kv_statistics stats;
    kv_stats(kv, &stats);
    return stats.evictions;
}

static void look(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    struct seen *s = context;
    int k;
    memcpy(&k, key, sizeof(k));
    s->told++;
    s->last = k;
    s->wrong += s->within || klen != sizeof(k) || item->len != len_of(k) ||
                item->flags != (uint32_t)k ||
                memcmp(item->value, value_of(k, item->len), item->len) != 0;
    s->there[k % 4096] = 0;
}

START_TEST(each_evicted_item_is_told_with_all_of_it)
{
    ck_assert_int_eq(kv_on_evict(kv, look, &seen), 0);
    for (int k = 0; k < 1000; k++) {
        ck_assert_int_eq(put(k), KV_OK);
        seen.there[k] = 1;
        if (k % 10 == 0)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    ck_assert_uint_gt(seen.told, 500);
    ck_assert_uint_eq(seen.told, evictions());
    ck_assert_uint_eq(seen.wrong, 0);
    for (int k = 0; k < 1000; k++)
        ck_assert_int_eq(kv_exists(kv, &k, sizeof(k)) == KV_OK, seen.there[k]);
    ck_assert_int_eq(kv_on_evict(kv, NULL, NULL), 0);
    uint64_t told = seen.told;
    for (int k = 1000; k < 2000; k++)
        ck_assert_int_eq(put(k), KV_OK);
    ck_assert_uint_eq(seen.told, told);
}
END_TEST

START_TEST(what_goes_for_another_reason_is_not_told)
{
    ck_assert_int_eq(kv_on_evict(kv, look, &seen), 0);
    for (int k = 0; k < 20; k++)
        put(k);
    for (int k = 0; k < 10; k++)
        ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
    for (int k = 10; k < 15; k++) {
        put(k);
        kv_touch(kv, &k, sizeof(k), 2000);
    }
    kv_set_time(kv, 2000);
    for (int k = 10; k < 15; k++)
        ck_assert_int_eq(kv_exists(kv, &k, sizeof(k)), KV_MISS);
    kv_flush_all(kv, 0);
    for (int k = 15; k < 20; k++)
        ck_assert_int_eq(kv_exists(kv, &k, sizeof(k)), KV_MISS);
    kv_commit(kv);
    ck_assert_uint_eq(seen.told, 0);
    ck_assert_uint_eq(evictions(), 0);
}
END_TEST

static void put_back(void *context, const void *key, size_t klen,
                     const struct kv_item *item)
{
    struct seen *s = context;
    look(s, key, klen, item);
    s->within = true;
    s->put += kv_store(kv, KV_SET, key, klen, item->flags, item->exptime, 0,
                       item->value, item->len, NULL) == KV_OK;
    s->within = false;
}

START_TEST(a_callback_may_put_and_what_that_evicts_is_told_after_it)
{
    ck_assert_int_eq(kv_on_evict(kv, put_back, &seen), 0);
    for (int k = 0; k < 600; k++) {
        ck_assert_int_eq(put(k), KV_OK);
        if (k % 3 == 0)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    ck_assert_uint_eq(seen.wrong, 0);
    ck_assert_uint_gt(seen.told, 1000); /* each puts back and so evicts */
    ck_assert_uint_ge(seen.put, seen.told - 10);
    ck_assert_uint_le(seen.told, evictions());
}
END_TEST

START_TEST(what_a_callback_puts_back_is_there)
{
    int k = 0;
    ck_assert_int_eq(kv_on_evict(kv, put_back, &seen), 0);
    while (seen.told == 0)
        ck_assert_int_eq(put(k++), KV_OK);
    struct kv_item item;
    ck_assert_int_eq(kv_get(kv, &seen.last, sizeof(k), &item), KV_OK);
    ck_assert_uint_eq(item.len, len_of(seen.last));
}
END_TEST

/* What the callback about a miss does. */
static struct source {
    bool puts;
    bool lends;
    size_t len;
    int asked;
} source;

static bool fetch(void *context, const void *key, size_t klen,
                  struct kv_item *out)
{
    static char big[SIZE];
    struct source *s = context;
    struct kv_item none;
    s->asked++;
    ck_assert_int_eq(kv_get(kv, key, klen, &none), KV_MISS); /* not again */
    if (s->puts)
        kv_store(kv, KV_SET, key, klen, 0, 0, 0, big, s->len, NULL);
    if (s->lends)
        *out = (struct kv_item){.value = big, .len = (uint32_t)s->len};
    return s->lends;
}

START_TEST(a_miss_is_answered_by_what_the_callback_puts)
{
    struct kv_item item;
    source = (struct source){.puts = true, .len = 100};
    ck_assert_int_eq(kv_on_miss(kv, fetch, &source), 0);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert_uint_eq(item.len, 100);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert_int_eq(source.asked, 1);
    ck_assert_int_eq(kv_hold(kv, "l", 1, &item), KV_OK);
    kv_release(kv, &item);
    ck_assert_int_eq(source.asked, 2);
    ck_assert_int_eq(kv_exists(kv, "m", 1), KV_MISS);
    ck_assert_int_eq(source.asked, 2);
}
END_TEST

START_TEST(a_miss_stays_one_when_the_callback_has_nothing)
{
    struct kv_item item;
    source = (struct source){.len = 100};
    ck_assert_int_eq(kv_on_miss(kv, fetch, &source), 0);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_MISS);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &item), KV_MISS);
    ck_assert_int_eq(source.asked, 2);
    ck_assert_int_eq(kv_on_miss(kv, NULL, NULL), 0);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_MISS);
    ck_assert_int_eq(source.asked, 2);
}
END_TEST

START_TEST(a_value_that_did_not_fit_is_the_answer_all_the_same)
{
    struct kv_item item;
    source = (struct source){.puts = true, .lends = true, .len = SIZE};
    ck_assert_int_eq(kv_on_miss(kv, fetch, &source), 0);
    ck_assert_int_eq(kv_get(kv, "k", 1, &item), KV_OK);
    ck_assert_uint_eq(item.len, SIZE);
    ck_assert_int_eq(kv_exists(kv, "k", 1), KV_MISS);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &item), KV_MISS);
}
END_TEST

static void add_all(TCase *tcase)
{
    tcase_add_test(tcase, each_evicted_item_is_told_with_all_of_it);
    tcase_add_test(tcase, what_goes_for_another_reason_is_not_told);
    tcase_add_test(tcase,
                   a_callback_may_put_and_what_that_evicts_is_told_after_it);
    tcase_add_test(tcase, what_a_callback_puts_back_is_there);
    tcase_add_test(tcase, a_miss_is_answered_by_what_the_callback_puts);
    tcase_add_test(tcase, a_miss_stays_one_when_the_callback_has_nothing);
    tcase_add_test(tcase, a_value_that_did_not_fit_is_the_answer_all_the_same);
}

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("watch");
    TCase *memory = tcase_create("in memory");
    tcase_add_checked_fixture(memory, open_memory, close_store);
    add_all(memory);
    suite_add_tcase(suite, memory);
    TCase *pool = tcase_create("in a pool");
    tcase_add_checked_fixture(pool, open_pool, close_store);
    add_all(pool);
    suite_add_tcase(suite, pool);
    return run_suite(suite);
}
