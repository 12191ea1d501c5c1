/* A value that is held stays, in either engine. */
#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL (1u << 20)

static struct kv *kv;
static int fd = -1;
static char error[256];

static void open_with(struct kv_options options, const char *path)
{
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void open_memory(void)
{
    fd = -1;
    open_with((struct kv_options){.size = POOL, .engine = KV_ENGINE_MEMORY},
              NULL);
}

static void open_pool(void)
{
    char path[32];
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_with((struct kv_options){.size = POOL}, path);
}

static void check_store(void)
{
    char fault[128] = "no memory";
    if (fd >= 0)
        ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
}

static void close_store(void)
{
    check_store();
    kv_close(kv);
    if (fd >= 0)
        close(fd);
}

static uint64_t free_bytes(void)
{
    struct kv_statistics stats;
    kv_stats(kv, &stats);
    return stats.heap_free;
}

static enum kv_result set(const char *key, int byte, size_t len)
{
    static char value[1 << 19];
    memset(value, byte, len);
    return kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, len, NULL);
}

static void turns(int n)
{
    while (n-- > 0)
        ck_assert_int_eq(kv_commit(kv), KV_OK);
}

static bool all(const struct kv_item *item, int byte)
{
    struct kv_run run = {0};
    while (kv_next_run(kv, item, &run))
        for (uint32_t i = 0; i < run.len; i++)
            if (((const unsigned char *)run.bytes)[i] != byte)
                return false;
    return run.end == item->len;
}

START_TEST(a_held_value_stays_whatever_becomes_of_its_item)
{
    static const size_t lens[] = {0, 9, 30, 100, 5000, 200000};
    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        struct kv_item first, second;
        ck_assert_int_eq(set("k", 'a', lens[i]), KV_OK);
        ck_assert_int_eq(kv_hold(kv, "k", 1, &first), KV_OK);
        ck_assert_uint_eq(first.len, lens[i]);
        ck_assert_int_eq(set("k", 'b', lens[i]), KV_OK);
        turns(1);
        ck_assert_int_eq(kv_hold(kv, "k", 1, &second), KV_OK);
        ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
        for (int n = 0; n < 20; n++) {
            turns(1);
            set("other", 'x', lens[i]);
            kv_unpin_all(kv);
        }
        check_store();
        ck_assert(all(&first, 'a') && all(&second, 'b'));
        kv_release(kv, &first);
        turns(3);
        set("other", 'y', lens[i]);
        ck_assert(all(&second, 'b'));
        kv_release(kv, &second);
    }
    ck_assert_int_eq(kv_hold(kv, "k", 1, &(struct kv_item){0}), KV_MISS);
}
END_TEST

START_TEST(space_is_usable_again_when_all_have_let_go)
{
    struct kv_item one, two;
    uint64_t before = free_bytes();
    ck_assert_int_eq(set("k", 'a', 400000), KV_OK);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &one), KV_OK);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &two), KV_OK);
    ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
    turns(3);
    kv_release(kv, &two);
    turns(3);
    ck_assert_uint_le(free_bytes(), before - 400000);
    ck_assert(all(&one, 'a'));
    kv_release(kv, &one);
    turns(3);
    ck_assert_uint_eq(free_bytes(), before);
}
END_TEST

START_TEST(a_borrowed_value_outlives_a_release)
{
    struct kv_item held, borrowed;
    ck_assert_int_eq(set("k", 'a', 3000), KV_OK);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &held), KV_OK);
    ck_assert_int_eq(kv_get(kv, "k", 1, &borrowed), KV_OK);
    ck_assert_int_eq(set("k", 'b', 3000), KV_OK);
    kv_release(kv, &held);
    turns(1);
    set("x", 'x', 3000);
    ck_assert(all(&borrowed, 'a'));
}
END_TEST

START_TEST(a_value_that_is_still_in_the_store_is_let_go_without_a_trace)
{
    struct kv_item held;
    ck_assert_int_eq(set("k", 'a', 3000), KV_OK);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &held), KV_OK);
    kv_release(kv, &held);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &held), KV_OK);
    ck_assert(all(&held, 'a'));
    kv_release(kv, &held);
}
END_TEST

START_TEST(a_value_in_pieces_is_held_as_well)
{
    struct kv_statistics stats;
    struct kv_item held;
    char key[16];
    int n = 0;
    for (snprintf(key, sizeof(key), "%d", n); set(key, 'f', 3000) == KV_OK;
         snprintf(key, sizeof(key), "%d", n))
        n++;
    for (int i = 0; i < n; i += 2) {
        snprintf(key, sizeof(key), "%d", i);
        kv_delete(kv, key, strlen(key));
    }
    turns(2);
    uint64_t before = free_bytes();
    ck_assert_int_eq(set("k", 'a', 30000), KV_OK);
    kv_stats(kv, &stats);
    ck_assert_uint_gt(stats.pieces, 0);
    ck_assert_int_eq(kv_hold(kv, "k", 1, &held), KV_OK);
    ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
    turns(3);
    while (set(key, 'f', 3000) == KV_OK)
        snprintf(key, sizeof(key), "%d", ++n);
    check_store();
    ck_assert(all(&held, 'a'));
    kv_release(kv, &held);
    turns(3);
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof(key), "%d", ++n);
        ck_assert_msg(set(key, 'f', 2000) == KV_OK, "%d", i);
    }
    ck_assert_uint_lt(free_bytes(), before);
}
END_TEST

/* In a cache, in the turn in which it was got: what comes after it takes all
 * of the pool but what is borrowed. */
START_TEST(a_borrowed_value_outlives_its_eviction)
{
    char key[16], path[32];
    struct kv_item borrowed;
    int n = 0, gone = 0;
    struct kv_options options = {.size = POOL,
                                 .evict = true,
                                 .engine = fd >= 0 ? KV_ENGINE_DURABLE
                                                   : KV_ENGINE_MEMORY};
    kv_close(kv);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_with(options, path);
    ck_assert_int_eq(set("k", 'a', 3000), KV_OK);
    turns(1);
    ck_assert_int_eq(kv_get(kv, "k", 1, &borrowed), KV_OK);
    while (gone < 1000) {
        snprintf(key, sizeof(key), "%d", n++);
        ck_assert_int_eq(set(key, 'x', 3000), KV_OK);
        gone += kv_exists(kv, "k", 1) == KV_MISS;
        ck_assert_int_lt(n, 5000);
    }
    ck_assert(all(&borrowed, 'a'));
}
END_TEST

/* Values in their entries, beside them, and in blobs with their keys. */
START_TEST(what_is_in_use_stays_where_it_is_while_the_table_grows_and_shrinks)
{
    enum { N = 90, MORE = 4000 };
    struct kv_item held[N], got[N], again;
    static const size_t lens[] = {4, 100, 700};
    char key[64];
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "%0*d", i % 2 ? 5 : 40, i);
        ck_assert_int_eq(set(key, 'a' + i % 26, lens[i % 3]), KV_OK);
        ck_assert_int_eq(kv_hold(kv, key, strlen(key), &held[i]), KV_OK);
        ck_assert_int_eq(kv_get(kv, key, strlen(key), &got[i]), KV_OK);
    }
    uint64_t places = fd >= 0 ? kv->table.places : 0;
    for (int i = 0; i < MORE; i++) { /* a turn, in which they are borrowed */
        snprintf(key, sizeof(key), "more%d", i);
        ck_assert_int_eq(set(key, 'x', 3), KV_OK);
    }
    ck_assert(fd < 0 || kv->table.places > 4 * places);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "%0*d", i % 2 ? 5 : 40, i);
        ck_assert(all(&got[i], 'a' + i % 26) && all(&held[i], 'a' + i % 26));
        ck_assert_int_eq(kv_get(kv, key, strlen(key), &again), KV_OK);
        ck_assert(lens[i % 3] == 4 || again.value == got[i].value);
    }
    for (int i = 0; i < MORE; i++) {
        snprintf(key, sizeof(key), "more%d", i);
        ck_assert_int_eq(kv_delete(kv, key, strlen(key)), KV_OK);
        turns(1);
    }
    ck_assert(fd < 0 || kv->stats.shrinks > 0);
    for (int i = 0; i < N; i++) {
        ck_assert(all(&held[i], 'a' + i % 26));
        kv_release(kv, &held[i]);
    }
}
END_TEST

static void add_common(TCase *tcase)
{
    tcase_add_test(tcase, a_held_value_stays_whatever_becomes_of_its_item);
    tcase_add_test(tcase, space_is_usable_again_when_all_have_let_go);
    tcase_add_test(tcase, a_borrowed_value_outlives_a_release);
    tcase_add_test(
        tcase, a_value_that_is_still_in_the_store_is_let_go_without_a_trace);
    tcase_add_test(tcase, a_borrowed_value_outlives_its_eviction);
    tcase_add_test(
        tcase,
        what_is_in_use_stays_where_it_is_while_the_table_grows_and_shrinks);
}

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("hold");
    TCase *memory = tcase_create("in memory");
    tcase_add_checked_fixture(memory, open_memory, close_store);
    add_common(memory);
    suite_add_tcase(suite, memory);
    TCase *pool = tcase_create("in a pool");
    tcase_add_checked_fixture(pool, open_pool, close_store);
    add_common(pool);
    tcase_add_test(pool, a_value_in_pieces_is_held_as_well);
    suite_add_tcase(suite, pool);
    return run_suite(suite);
}
