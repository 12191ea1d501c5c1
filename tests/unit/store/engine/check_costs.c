/* What each kind of operation costs the medium: fences, lines, bytes. */
#include "store/engine/engine_state.h"

#include "config/log.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL (4u << 20)
#define LINE 64.0

static struct kv *kv;
static int fd;
static char path[32], error[256];
static struct kv_options options;
static struct kv_cost before[KV_KINDS], cost[KV_KINDS];
static struct kv_statistics first;
static char large[5000];

static void remember(void)
{
    kv_costs(kv, before);
    kv_stats(kv, &first);
}

static void put(const char *key, const char *value)
{
    ck_assert_int_eq(kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value,
                              strlen(value), NULL),
                     KV_OK);
}

static void put_number(uint32_t k)
{
    ck_assert_int_eq(
        kv_store(kv, KV_SET, &k, sizeof(k), k, 0, 0, &k, sizeof(k), NULL),
        KV_OK);
}

/* The first put writes words of the pool, too. */
static void open_store(bool evict)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    options = (struct kv_options){
        .size = POOL, .evict = evict, .durability = KV_DURABILITY_PROCESS};
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
    put("first", "1");
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    remember();
}

static void begin(void)
{
    open_store(false);
}

static void end(void)
{
    kv_close(kv);
    close(fd);
}

/* Since remember(). */
static void look(void)
{
    kv_costs(kv, cost);
    for (int i = 0; i < KV_KINDS; i++) {
        cost[i].n -= before[i].n;
        cost[i].stored -= before[i].stored;
        cost[i].flushed -= before[i].flushed;
        cost[i].fences -= before[i].fences;
    }
}

/* All kinds together are all that was flushed and fenced meanwhile. */
static void expect_all_told(void)
{
    struct kv_statistics now;
    double flushed = 0, fences = 0;
    uint64_t stored = 0;
    look();
    kv_stats(kv, &now);
    for (int i = 0; i < KV_KINDS; i++) {
        flushed += cost[i].flushed;
        fences += cost[i].fences;
        stored += cost[i].stored;
    }
    ck_assert_double_eq_tol(flushed, (double)(now.flushed - first.flushed), .1);
    ck_assert_double_eq_tol(fences, (double)(now.fences - first.fences), .001);
    ck_assert_uint_eq(stored, now.total_bytes - first.total_bytes);
}

static void expect(enum kv_kind kind, uint64_t n, uint64_t stored,
                   double flushed, double fences)
{
    ck_assert_uint_eq(cost[kind].n, n);
    ck_assert_uint_eq(cost[kind].stored, stored);
    ck_assert_double_eq(cost[kind].flushed, flushed);
    ck_assert_double_eq(cost[kind].fences, fences);
}

/* The turn had one operation, of that kind. */
static void expect_alone(enum kv_kind kind, uint64_t stored, double flushed)
{
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    expect_all_told();
    for (int i = 0; i < KV_KINDS; i++)
        if (i != (int)kind)
            expect((enum kv_kind)i, 0, 0, 0, 0);
    expect(kind, 1, stored, flushed, 2);
    remember();
}

static double lines(const void *at, size_t len)
{
    uintptr_t from = (uintptr_t)at / 64;
    return (double)(((uintptr_t)at + len + 63) / 64 - from) * LINE;
}

/* Two lines: the entry, and the word that makes it so. */
START_TEST(what_stores_alone_in_its_turn_costs_two_fences_and_two_lines)
{
    uint64_t number;
    put("k", "1");
    expect_alone(KV_KIND_INSERT, 2, 2 * LINE);
    put("k", "22");
    expect_alone(KV_KIND_REPLACE, 3, 2 * LINE);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, "k", 1, 0, 0, 0, "333", 3, NULL),
                     KV_OK);
    expect_alone(KV_KIND_JOIN, 6, 2 * LINE);
    ck_assert_int_eq(kv_arith(kv, "k", 1, true, 1, &number, NULL), KV_OK);
    ck_assert_uint_eq(number, 22334);
    expect_alone(KV_KIND_NUMBER, 6, 2 * LINE);
    ck_assert_int_eq(kv_write(kv, "k", 1, 0, "9", 1, 0, NULL), KV_OK);
    expect_alone(KV_KIND_REPLACE, 6, 2 * LINE);
}
END_TEST

START_TEST(what_only_turns_a_word_costs_two_fences_and_one_line)
{
    put("k", "1");
    put("l", "1");
    kv_commit(kv);
    remember();
    ck_assert_int_eq(kv_touch(kv, "k", 1, 2000), KV_OK);
    expect_alone(KV_KIND_TOUCH, 0, LINE);
    ck_assert_int_eq(kv_delete(kv, "l", 1), KV_OK);
    expect_alone(KV_KIND_DELETE, 0, LINE);
    kv_set_time(kv, 2000);
    ck_assert_int_eq(kv_exists(kv, "k", 1), KV_MISS);
    expect_alone(KV_KIND_EXPIRE, 0, LINE);
    ck_assert_int_eq(kv_flush_all(kv, 3000), KV_OK);
    expect_alone(KV_KIND_FLUSH, 0, 2 * LINE);
}
END_TEST

START_TEST(what_changes_nothing_costs_nothing)
{
    struct kv_item item;
    kv_get(kv, "first", 5, &item);
    kv_get(kv, "none", 4, &item);
    kv_exists(kv, "first", 5);
    ck_assert_int_eq(kv_delete(kv, "none", 4), KV_MISS);
    ck_assert_int_eq(kv_touch(kv, "none", 4, 1), KV_MISS);
    ck_assert_int_eq(kv_store(kv, KV_ADD, "first", 5, 0, 0, 0, "", 0, NULL),
                     KV_NOT_STORED);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    expect_all_told();
    for (int i = 0; i < KV_KINDS; i++)
        expect((enum kv_kind)i, 0, 0, 0, 0);
}
END_TEST

START_TEST(a_value_of_its_own_costs_its_lines_besides)
{
    struct kv_reservation space;
    struct kv_item item;
    ck_assert_int_eq(kv_store(kv, KV_SET, "k", 1, 0, 0, 0, large, 1000, NULL),
                     KV_OK);
    kv_get(kv, "k", 1, &item);
    expect_alone(KV_KIND_INSERT, 1001, lines(item.value, 1000) + 2 * LINE);
    ck_assert_int_eq(kv_reserve(kv, 1, sizeof(large), &space), KV_OK);
    ck_assert_ptr_nonnull(space.buffer);
    memset(space.buffer, 'x', sizeof(large));
    double flushed = lines(space.buffer, sizeof(large)) + 2 * LINE;
    ck_assert_int_eq(kv_publish(kv, &space, KV_SET, "k", 1, 0, 0, 0, NULL),
                     KV_OK);
    expect_alone(KV_KIND_REPLACE, sizeof(large) + 1, flushed);
}
END_TEST

START_TEST(a_batch_of_sixteen_shares_two_fences)
{
    struct kv_put batch[16];
    uint32_t keys[16];
    for (uint32_t i = 0; i < 16; i++) {
        keys[i] = i;
        batch[i] = (struct kv_put){
            .key = &keys[i], .klen = 4, .value = "value", .len = 5};
    }
    ck_assert_int_eq(kv_store_batch(kv, batch, 16), KV_OK);
    expect_all_told();
    ck_assert_uint_eq(cost[KV_KIND_INSERT].n, 16);
    ck_assert_uint_eq(cost[KV_KIND_INSERT].stored, 16 * 9);
    ck_assert_double_eq(cost[KV_KIND_INSERT].fences, 2);
    /* Keys of one bucket have one word. */
    ck_assert(cost[KV_KIND_INSERT].flushed > 16 * LINE);
    ck_assert(cost[KV_KIND_INSERT].flushed <= 32 * LINE);
}
END_TEST

START_TEST(several_kinds_of_one_turn_share_its_fences_by_their_numbers)
{
    put("a", "1");
    put("b", "1");
    put("c", "1");
    put("d", "1");
    kv_commit(kv);
    remember();
    kv_touch(kv, "a", 1, 2000);
    kv_touch(kv, "b", 1, 2000);
    kv_touch(kv, "c", 1, 2000);
    kv_delete(kv, "d", 1);
    look(); /* nothing of it is durable */
    expect(KV_KIND_TOUCH, 0, 0, 0, 0);
    expect(KV_KIND_DELETE, 0, 0, 0, 0);
    kv_commit(kv);
    expect_all_told();
    expect(KV_KIND_TOUCH, 3, 0, 3 * LINE, 1.5);
    expect(KV_KIND_DELETE, 1, 0, LINE, .5);
    kv_delete(kv, "c", 1); /* the one after it is not in that turn */
    kv_commit(kv);
    look();
    expect(KV_KIND_TOUCH, 3, 0, 3 * LINE, 1.5);
    expect(KV_KIND_DELETE, 2, 0, 2 * LINE, 2.5);
}
END_TEST

/* The word of the touch is never written. */
START_TEST(a_touch_that_is_forgotten_with_its_item_has_half_a_line)
{
    put("k", "1");
    kv_commit(kv);
    remember();
    kv_touch(kv, "k", 1, 2000);
    kv_delete(kv, "k", 1);
    kv_commit(kv);
    expect_all_told();
    expect(KV_KIND_TOUCH, 1, 0, LINE / 2, 1);
    expect(KV_KIND_DELETE, 1, 0, LINE / 2, 1);
}
END_TEST

/* The put finds its segment of 128 places full to 7/8, and both, the segment
 * of 256 and the item, are of one commit. */
START_TEST(a_segment_written_anew_is_no_cost_of_the_put)
{
    uint32_t k = 0;
    for (; kv->stats.growths == 0; k++) {
        remember();
        put_number(k);
        kv_commit(kv);
    }
    expect_all_told();
    expect(KV_KIND_GROW, 1, 0, 256 * LINE + LINE, 1);
    expect(KV_KIND_INSERT, 1, 8, 2 * LINE, 1);
}
END_TEST

/* Each put and delete has a commit of its own, and so has each displacement. */
START_TEST(what_makes_room_in_the_table_is_told_apart)
{
    uint64_t displaced = kv->stats.displacements, grown = kv->stats.growths;
    for (uint32_t k = 0; k < 20000; k++) {
        put_number(k);
        kv_commit(kv);
    }
    expect_all_told();
    displaced = kv->stats.displacements - displaced;
    ck_assert_uint_eq(cost[KV_KIND_GROW].n, kv->stats.growths - grown);
    ck_assert_uint_gt(cost[KV_KIND_GROW].n, 10);
    expect(KV_KIND_DISPLACE, displaced, 0, (double)displaced * 2 * LINE,
           (double)displaced * 2);
    ck_assert_uint_eq(cost[KV_KIND_INSERT].n, 20000);
    ck_assert_double_eq(cost[KV_KIND_INSERT].flushed, 20000 * 2 * LINE);
    for (uint32_t k = 0; k < 20000; k++) {
        ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), KV_OK);
        kv_commit(kv);
    }
    expect_all_told();
    ck_assert_uint_gt(kv->stats.shrinks, 10);
    ck_assert_uint_eq(cost[KV_KIND_SHRINK].n, kv->stats.shrinks);
    ck_assert_uint_eq(cost[KV_KIND_DELETE].n, 20000);
    ck_assert_double_eq(cost[KV_KIND_DELETE].flushed, 20000 * LINE);
}
END_TEST

START_TEST(in_a_cache_evictions_are_told_apart)
{
    end();
    open_store(true);
    for (uint32_t k = 0; k < 3000; k++) {
        ck_assert_int_eq(kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, large,
                                  sizeof(large), NULL),
                         KV_OK);
        if (k % 3 == 0)
            kv_commit(kv);
    }
    kv_commit(kv);
    expect_all_told();
    ck_assert_uint_gt(kv->stats.evictions, 2000);
    ck_assert_uint_eq(cost[KV_KIND_EVICT].n, kv->stats.evictions);
    ck_assert_uint_eq(cost[KV_KIND_EVICT].stored, 0);
    ck_assert(cost[KV_KIND_EVICT].fences > 0);
    ck_assert(cost[KV_KIND_EVICT].flushed <=
              LINE * (double)cost[KV_KIND_EVICT].n);
    ck_assert_uint_eq(cost[KV_KIND_INSERT].n, 3000);
}
END_TEST

/* Two pools of a region have one count of fences and lines. */
START_TEST(what_another_pool_of_the_region_writes_is_not_in_it)
{
    struct kv_region_options how = {.size = POOL,
                                    .durability = KV_DURABILITY_PROCESS};
    struct kv_region *region;
    struct kv *other;
    end();
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    options = (struct kv_options){0};
    ck_assert_int_eq(kv_region_open(path, &how, &region, error, sizeof(error)),
                     0);
    ck_assert_int_eq(
        kv_pool_create(region, "a", POOL / 4, error, sizeof(error)), 0);
    ck_assert_int_eq(
        kv_pool_create(region, "b", POOL / 4, error, sizeof(error)), 0);
    ck_assert_int_eq(
        kv_pool_open(region, "a", &options, &kv, error, sizeof(error)), 0);
    ck_assert_int_eq(
        kv_pool_open(region, "b", &options, &other, error, sizeof(error)), 0);
    put("first", "1");
    kv_commit(kv);
    remember();
    put("k", "1");
    kv_store(other, KV_SET, "k", 1, 0, 0, 0, large, sizeof(large), NULL);
    kv_commit(other);
    kv_commit(kv);
    look();
    expect(KV_KIND_INSERT, 1, 2, 2 * LINE, 2);
    kv_close(other);
    kv_close(kv);
    kv_region_close(region);
    kv = NULL;
}
END_TEST

START_TEST(a_store_in_memory_has_no_costs_and_kinds_have_names)
{
    end();
    options = (struct kv_options){.size = POOL, .engine = KV_ENGINE_MEMORY};
    ck_assert_int_eq(kv_open(NULL, &options, &kv, error, sizeof(error)), 0);
    put("k", "1");
    kv_commit(kv);
    memset(cost, 1, sizeof(cost));
    kv_costs(kv, cost);
    for (int i = 0; i < KV_KINDS; i++) {
        const char *name = kv_kind_name((enum kv_kind)i);
        expect((enum kv_kind)i, 0, 0, 0, 0);
        ck_assert(strlen(name) > 3);
        ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz_"),
                          strlen(name));
        for (int j = 0; j < i; j++)
            ck_assert_str_ne(name, kv_kind_name((enum kv_kind)j));
    }
    ck_assert_str_eq(kv_kind_name(KV_KINDS), "");
    fd = -1;
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("costs");
    TCase *tcase = tcase_create("costs");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(
        tcase, what_stores_alone_in_its_turn_costs_two_fences_and_two_lines);
    tcase_add_test(tcase, what_only_turns_a_word_costs_two_fences_and_one_line);
    tcase_add_test(tcase, what_changes_nothing_costs_nothing);
    tcase_add_test(tcase, a_value_of_its_own_costs_its_lines_besides);
    tcase_add_test(tcase, a_batch_of_sixteen_shares_two_fences);
    tcase_add_test(tcase,
                   several_kinds_of_one_turn_share_its_fences_by_their_numbers);
    tcase_add_test(tcase,
                   a_touch_that_is_forgotten_with_its_item_has_half_a_line);
    tcase_add_test(tcase, a_segment_written_anew_is_no_cost_of_the_put);
    tcase_add_test(tcase, what_makes_room_in_the_table_is_told_apart);
    tcase_add_test(tcase, in_a_cache_evictions_are_told_apart);
    tcase_add_test(tcase, what_another_pool_of_the_region_writes_is_not_in_it);
    tcase_add_test(tcase, a_store_in_memory_has_no_costs_and_kinds_have_names);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
