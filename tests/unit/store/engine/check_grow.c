/* A table that gets larger and smaller. */
#include "store/engine/grow.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL  (8u << 20)
#define ITEMS 20000u

static struct kv *kv;
static int fd;
static char path[32], error[256];
static unsigned char visits[ITEMS];

static void open_pool(void)
{
    struct kv_options options = {.size = POOL,
                                 .durability = KV_DURABILITY_PROCESS};
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void begin(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_pool();
}

static void end(void)
{
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
    kv_close(kv);
    close(fd);
}

static void put(uint32_t k)
{
    ck_assert_int_eq(
        kv_store(kv, KV_SET, &k, sizeof(k), k, 0, 0, &k, sizeof(k), NULL),
        KV_OK);
}

static void fill(uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        put(k);
        if (k % 16 == 0)
            kv_commit(kv);
    }
    kv_commit(kv);
}

/* All but each step-th. */
static void erase(uint32_t first, uint32_t n, uint32_t step)
{
    for (uint32_t k = first; k < n; k++) {
        if (k % step != 0)
            ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
        if (k % 3 == 0)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    kv_commit(kv);
}

static void check_left(uint32_t n, uint32_t step)
{
    struct kv_item item;
    for (uint32_t k = 0; k < n; k++) {
        enum kv_result result = kv_get(kv, &k, sizeof(k), &item);
        ck_assert_int_eq(result, k % step ? KV_MISS : KV_OK);
        if (result == KV_OK)
            ck_assert_uint_eq(item.flags, k);
    }
}

START_TEST(a_table_that_gets_empty_gives_its_space_back)
{
    uint64_t room = kv->heap.free_bytes;
    fill(ITEMS);
    uint64_t large = kv->table.places;
    erase(0, ITEMS, 100);
    check_left(ITEMS, 100);
    ck_assert_uint_gt(kv->stats.shrinks, 10);
    ck_assert_uint_lt(kv->table.places, large / 20);
    for (uint32_t k = 0; k < ITEMS; k += 100) {
        ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
        kv_commit(kv);
    }
    kv_commit(kv);
    ck_assert_uint_le(room - kv->heap.free_bytes, 64u << 10);
    fill(ITEMS);
    ck_assert_uint_eq(kv->table.places, large);
}
END_TEST

START_TEST(what_shrank_is_found_after_a_crash)
{
    fill(ITEMS);
    erase(0, ITEMS, 50);
    uint64_t places = kv->table.places;
    kv->failed = true; /* leaves it as a crash would */
    kv_close(kv);
    open_pool();
    ck_assert_uint_eq(kv->table.places, places);
    check_left(ITEMS, 50);
}
END_TEST

START_TEST(a_table_does_not_go_to_and_fro)
{
    fill(5000);
    uint64_t growths = kv->stats.growths;
    for (int i = 0; i < 2000; i++) {
        uint32_t k = 5000;
        put(k);
        kv_commit(kv);
        ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
        kv_commit(kv);
    }
    ck_assert_uint_le(kv->stats.growths - growths, 1);
    ck_assert_uint_eq(kv->stats.shrinks, 0);
}
END_TEST

static bool visit(void *context, const void *key, size_t klen,
                  const struct kv_item *item)
{
    uint32_t k;
    (void)context;
    (void)item;
    ck_assert_uint_eq(klen, sizeof(k));
    memcpy(&k, key, sizeof(k));
    visits[k]++;
    return true;
}

START_TEST(a_walk_over_a_table_that_shrinks_visits_what_stays_once)
{
    uint64_t cursor = 0;
    uint32_t gone = 0;
    static __typeof__(visits) seen;
    memset(visits, 0, sizeof(visits));
    fill(ITEMS);
    do {
        cursor = kv_scan(kv, cursor, visit, NULL);
        for (uint32_t k = 0; k < gone; k++)
            if (k % 40 != 0) /* nothing of what is no more */
                ck_assert_uint_eq(visits[k], seen[k]);
        memcpy(seen, visits, sizeof(seen));
        uint32_t next = gone + 1500 < ITEMS ? gone + 1500 : ITEMS;
        erase(gone, next, 40);
        gone = next;
    } while (cursor != 0);
    ck_assert_uint_gt(kv->stats.shrinks, 5);
    for (uint32_t k = 0; k < ITEMS; k += 40)
        ck_assert_uint_eq(visits[k], 1);
    for (uint32_t k = 0; k < ITEMS; k++)
        ck_assert_uint_le(visits[k], 1);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("grow");
    TCase *tcase = tcase_create("grow");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_table_that_gets_empty_gives_its_space_back);
    tcase_add_test(tcase, what_shrank_is_found_after_a_crash);
    tcase_add_test(tcase, a_table_does_not_go_to_and_fro);
    tcase_add_test(tcase,
                   a_walk_over_a_table_that_shrinks_visits_what_stays_once);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
