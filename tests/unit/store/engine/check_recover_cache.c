/* A cache that was closed in order serves, and evicts, before it was looked
 * at. */
#include "store/engine/recover.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LEN 100 /* bytes of a value */

static struct kv *kv;
static int fd;
static char path[32], error[256];
static uint64_t size;

static void open_pool(void)
{
    struct kv_options options = {
        .size = size, .durability = KV_DURABILITY_PROCESS, .evict = true};
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void begin(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
}

static void make_pool(uint64_t bytes)
{
    size = bytes;
    open_pool();
}

static void end(void)
{
    kv_close(kv);
    close(fd);
}

static void reopen(void)
{
    ck_assert_int_eq(kv_close(kv), 0);
    open_pool();
}

static void put(uint32_t k)
{
    unsigned char value[LEN];
    memset(value, (int)(k % 251), sizeof(value));
    ck_assert_int_eq(
        kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, value, LEN, NULL), KV_OK);
}

static void put_some(uint32_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        put(first + i);
        if (i % 16 == 15)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    ck_assert_int_eq(kv_commit(kv), KV_OK);
}

static bool is_here(uint32_t k)
{
    unsigned char expected[LEN];
    struct kv_item item;
    enum kv_result result = kv_get(kv, &k, sizeof(k), &item);
    if (result == KV_MISS)
        return false;
    ck_assert_int_eq(result, KV_OK);
    ck_assert_uint_eq(item.len, LEN);
    memset(expected, (int)(k % 251), LEN);
    ck_assert_int_eq(memcmp(item.value, expected, LEN), 0);
    kv_unpin_all(kv);
    return true;
}

static uint32_t count_here(uint32_t first, uint32_t n)
{
    uint32_t here = 0;
    for (uint32_t i = 0; i < n; i++)
        here += is_here(first + i);
    return here;
}

static void look_at_all(void)
{
    while (kv_catch_up(kv))
        ;
    ck_assert(!kv->recovery.active);
    ck_assert_uint_eq(kv->stats.repaired, 0);
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
}

static uint64_t cas_of(uint32_t place)
{
    return kv_entry(kv, place)->cas;
}

/* From the oldest on: how many are before one that is older. */
static uint32_t expect_order(uint64_t next_cas)
{
    uint32_t n = 0, wrong = 0;
    uint64_t last = 0;
    for (uint32_t at = lru_oldest(&kv->lru); at != LRU_NONE;
         at = lru_node(&kv->lru, at)->newer, n++) {
        uint64_t cas = cas_of(at);
        ck_assert_uint_lt(at, LRU_MARK);
        wrong += cas < last;
        if (cas < last) {
            ck_assert_uint_le(last - cas, (next_cas - cas) / 256);
            ck_assert_uint_ge(next_cas - last, 512);
        }
        last = cas;
    }
    ck_assert_uint_eq(n, kv->stats.items);
    return wrong;
}

START_TEST(a_small_cache_comes_back_in_the_order_of_storing)
{
    make_pool(1 << 20);
    put_some(0, 500);
    kv->next_cas += (uint64_t)1 << 40;
    kv->cas_ceiling = kv->next_cas;
    put_some(300, 100);
    put_some(1000, 300);
    uint64_t next_cas = kv->next_cas;
    reopen();
    ck_assert(kv->recovery.active);
    ck_assert_uint_eq(kv->stats.items, 800);
    look_at_all();
    expect_order(next_cas);
    for (int i = 0; i < 400; i++)
        lru_remove(&kv->lru, lru_oldest(&kv->lru));
    for (uint32_t k = 300; k < 1300; k = k == 399 ? 1000 : k + 1) {
        uint32_t place = lru_oldest(&kv->lru);
        ck_assert_uint_eq(
            place,
            hop_find(&kv->table, kv_hash(kv, &k, sizeof(k)), &k, sizeof(k)));
        lru_remove(&kv->lru, place);
    }
    ck_assert_uint_eq(kv->lru.newest, LRU_NONE);
    kv->failed = true;
}
END_TEST

START_TEST(what_is_used_meanwhile_is_newer_than_what_is_found)
{
    make_pool(8 << 20);
    put_some(0, 20000);
    uint64_t next_cas = kv->next_cas;
    reopen();
    for (uint32_t k = 100; k < 110; k++)
        ck_assert(is_here(k));
    put_some(50000, 10);
    ck_assert(kv->recovery.active);
    look_at_all();
    uint32_t at = kv->lru.newest;
    for (uint32_t i = 0; i < 10; i++, at = lru_node(&kv->lru, at)->older)
        ck_assert_uint_ge(cas_of(at), next_cas);
    for (uint32_t k = 110; k-- > 100; at = lru_node(&kv->lru, at)->older)
        ck_assert_uint_eq(at, hop_find(&kv->table, kv_hash(kv, &k, sizeof(k)),
                                       &k, sizeof(k)));
    ck_assert_uint_lt(cas_of(at), next_cas);
    ck_assert_uint_le(cas_of(lru_oldest(&kv->lru)), 20000 / 256);
}
END_TEST

START_TEST(after_a_crash_the_order_is_that_of_storing_too)
{
    make_pool(8 << 20);
    put_some(0, 20000);
    uint64_t next_cas = kv->next_cas;
    kv->failed = true; /* leaves it as a crash would */
    kv_close(kv);
    open_pool();
    ck_assert(!kv->recovery.active);
    ck_assert_uint_gt(expect_order(next_cas), 0);
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
}
END_TEST

/* Full, and in no grain of it is there nothing. */
START_TEST(a_full_cache_takes_puts_before_it_was_looked_at)
{
    enum { STORED = 200000, MORE = 2000 };
    make_pool(24 << 20);
    put_some(0, STORED);
    ck_assert_uint_gt(kv->stats.evictions, STORED / 20);
    ck_assert_uint_gt(kv->table.places, 2 * RECOVER_AT_ONCE);
    uint64_t items = kv->stats.items;
    reopen();
    ck_assert_uint_eq(kv->stats.items, items);
    put(STORED);
    ck_assert_uint_gt(kv->recovery.places, RECOVER_AT_ONCE);
    put_some(STORED + 1, 40); /* each asks for its segment */
    ck_assert_uint_gt(kv->recovery.places, RECOVER_AT_ONCE);
    put_some(STORED + 41, MORE - 41);
    look_at_all();
    ck_assert_uint_eq(kv->stats.items, items + MORE - kv->stats.evictions);
    ck_assert_uint_le(kv->stats.evictions, MORE + MORE / 2);
    ck_assert_uint_eq(count_here(STORED, MORE), MORE);
    ck_assert_uint_eq(count_here(STORED - 1000, 1000), 1000);
    ck_assert_uint_eq(count_here(0, STORED + MORE), kv->stats.items);
}
END_TEST

static enum kv_result put_large(uint32_t k, uint32_t len)
{
    static unsigned char value[1 << 20];
    return kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, value, len, NULL);
}

/* What the items that it has seen leave is here and there: it looks further. */
START_TEST(a_larger_value_does_not_cost_a_full_cache_its_items)
{
    static const uint32_t lens[] = {8000, 300000};
    make_pool(24 << 20);
    put_some(0, 200000);
    reopen();
    ck_assert(is_here(199999));
    ck_assert_int_eq(put_large(300000, lens[_i]), KV_OK);
    look_at_all();
    ck_assert_uint_le(kv->stats.evictions, 300);
}
END_TEST

START_TEST(a_reservation_as_the_first_call_keeps_the_order)
{
    struct kv_reservation r;
    make_pool(24 << 20);
    put_some(0, 200000);
    reopen();
    ck_assert_int_eq(kv_reserve(kv, 4, 4000, &r), KV_OK);
    kv_cancel(kv, &r);
    look_at_all();
    expect_order(200001);
    put_some(300000, 5000);
    ck_assert_uint_eq(count_here(190000, 10000), 10000);
}
END_TEST

static bool note_key(void *context, const void *key, size_t klen,
                     const struct kv_item *item)
{
    uint32_t *keys = context;
    (void)item;
    ck_assert_uint_eq(klen, sizeof(*keys));
    memcpy(&keys[++keys[0]], key, sizeof(*keys));
    return true;
}

/* What is free then lies between what nobody has looked at. */
START_TEST(all_is_deleted_soon_after_two_restarts)
{
    static uint32_t keys[4096];
    uint64_t cursor = 0;
    make_pool(24 << 20);
    put_some(0, 100000);
    reopen();
    reopen();
    do {
        keys[0] = 0;
        cursor = kv_scan(kv, cursor, note_key, keys);
        for (uint32_t i = 1; i <= keys[0]; i++)
            ck_assert_int_eq(kv_delete(kv, &keys[i], sizeof(keys[i])), KV_OK);
        ck_assert_int_eq(heap_check(&kv->heap), 0);
    } while (cursor != 0);
    ck_assert_uint_eq(kv->stats.items, 0);
    look_at_all();
    put_some(0, 1000);
    ck_assert_uint_eq(count_here(0, 1000), 1000);
}
END_TEST

START_TEST(with_no_items_left_there_is_space)
{
    make_pool(24 << 20);
    put_some(0, 100000);
    for (uint32_t k = 0; k < 100000; k++)
        kv_delete(kv, &k, sizeof(k));
    kv_commit(kv);
    reopen();
    for (uint32_t k = 0; k < 15; k++)
        ck_assert_int_eq(put_large(k, 1 << 20), KV_OK);
    ck_assert_uint_eq(kv->stats.evictions, 0);
}
END_TEST

START_TEST(a_cache_with_room_evicts_nothing_for_puts_meanwhile)
{
    make_pool(24 << 20);
    put_some(0, 20000);
    reopen();
    put_some(20000, 20000);
    look_at_all();
    ck_assert_uint_eq(kv->stats.evictions, 0);
    ck_assert_uint_eq(count_here(0, 40000), 40000);
}
END_TEST

START_TEST(a_cache_closed_too_soon_is_looked_at_the_next_time)
{
    make_pool(24 << 20);
    put_some(0, 200000);
    for (uint32_t i = 0; i < 3; i++) {
        reopen();
        put_some(300000 + i * 20, 20);
        ck_assert(kv->recovery.active);
    }
    look_at_all();
    ck_assert_uint_eq(count_here(300000, 60), 60);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("recover cache");
    TCase *tcase = tcase_create("recover cache");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_small_cache_comes_back_in_the_order_of_storing);
    tcase_add_test(tcase, what_is_used_meanwhile_is_newer_than_what_is_found);
    tcase_add_test(tcase, after_a_crash_the_order_is_that_of_storing_too);
    tcase_add_test(tcase, a_full_cache_takes_puts_before_it_was_looked_at);
    tcase_add_loop_test(
        tcase, a_larger_value_does_not_cost_a_full_cache_its_items, 0, 2);
    tcase_add_test(tcase, a_reservation_as_the_first_call_keeps_the_order);
    tcase_add_test(tcase, all_is_deleted_soon_after_two_restarts);
    tcase_add_test(tcase, with_no_items_left_there_is_space);
    tcase_add_test(tcase, a_cache_with_room_evicts_nothing_for_puts_meanwhile);
    tcase_add_test(tcase, a_cache_closed_too_soon_is_looked_at_the_next_time);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
