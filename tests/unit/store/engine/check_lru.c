/* The order of use: the list alone, and in a cache. */
#include "store/engine/engine_state.h"

#include "config/log.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ITEMS 800u
#define LEN   500u /* bytes of a value: none is in its entry */

static struct kv *kv;
static int fd;
static uint32_t told[ITEMS], n_told;

/* Remove from the oldest on; the places must come in this order. */
static void expect_order(struct lru *lru, const uint32_t *places, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(lru->oldest, places[i]);
        ck_assert(lru_contains(lru, places[i]));
        lru_remove(lru, places[i]);
        ck_assert(!lru_contains(lru, places[i]));
    }
    ck_assert_uint_eq(lru->oldest, LRU_NONE);
    ck_assert_uint_eq(lru->newest, LRU_NONE);
    ck_assert_uint_eq(lru->n, 0);
}

START_TEST(the_one_touched_last_goes_last)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 8), 0);
    for (uint32_t i = 0; i < 4; i++)
        lru_insert(&lru, i);
    lru_touch(&lru, 1);
    lru_touch(&lru, 0);
    lru_touch(&lru, 0);
    ck_assert(lru_before(&lru, 2, 3));
    ck_assert(lru_before(&lru, 3, 0));
    ck_assert(!lru_before(&lru, 0, 1));
    expect_order(&lru, (const uint32_t[]){2, 3, 1, 0}, 4);
    lru_fini(&lru);
}
END_TEST

START_TEST(an_item_that_moves_keeps_its_rank_and_pin)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 16), 0);
    for (uint32_t i = 0; i < 5; i++)
        lru_insert(&lru, i);
    *lru_pin(&lru, 2) = 9;
    lru_move(&lru, 2, 10); /* middle, then both ends */
    lru_move(&lru, 0, 11);
    lru_move(&lru, 4, 12);
    ck_assert_uint_eq(*lru_pin(&lru, 10), 9);
    ck_assert(!lru_contains(&lru, 2));
    expect_order(&lru, (const uint32_t[]){11, 1, 10, 3, 12}, 5);
    lru_fini(&lru);
}
END_TEST

START_TEST(a_single_item_can_be_moved_touched_and_removed)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 4), 0);
    lru_insert(&lru, 3);
    lru_touch(&lru, 3);
    lru_move(&lru, 3, 0);
    expect_order(&lru, (const uint32_t[]){0}, 1);
    lru_fini(&lru);
}
END_TEST

START_TEST(among_many_a_touch_of_an_old_one_still_counts)
{
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, 1000), 0);
    for (uint32_t i = 0; i < 1000; i++)
        lru_insert(&lru, i);
    lru_touch(&lru, 0);
    lru_touch(&lru, 1);
    ck_assert_uint_eq(lru.oldest, 2);
    ck_assert_uint_eq(lru.newest, 1);
    lru_fini(&lru);
}
END_TEST

START_TEST(without_an_order_it_is_known_who_is_there)
{
    struct lru lru;
    lru_init(&lru, false);
    ck_assert_int_eq(lru_add_chunk(&lru, 1, 200), 0);
    uint32_t first = LRU_CHUNK, other = LRU_CHUNK + 199;
    lru_insert(&lru, first);
    *lru_pin(&lru, first) = 7;
    lru_touch(&lru, first);
    lru_move(&lru, first, other);
    ck_assert(!lru_contains(&lru, first) && lru_contains(&lru, other));
    ck_assert_uint_eq(*lru_pin(&lru, other), 7);
    ck_assert_uint_eq(lru.oldest, LRU_NONE);
    lru_remove(&lru, other);
    ck_assert_uint_eq(lru.n, 0);
    lru_fini(&lru);
}
END_TEST

/* Uses of one that is among the newest eighth are one batch with the move that
 * brought it there: the list is as it was. One move more, and it is moved. */
START_TEST(uses_within_an_eighth_of_all_moves_change_nothing)
{
    enum { N = 80, BATCH = N / 8 };
    struct lru lru;
    lru_init(&lru, true);
    ck_assert_int_eq(lru_add_chunk(&lru, 0, N), 0);
    for (uint32_t i = 0; i < N; i++)
        lru_insert(&lru, i);
    for (uint32_t again = 0; again < 1000; again++)
        for (uint32_t i = N - 1 - BATCH; i < N; i++)
            lru_touch(&lru, i);
    ck_assert_uint_eq(lru.seq, N);
    ck_assert_uint_eq(lru.newest, N - 1);
    lru_touch(&lru, N - 2 - BATCH);
    ck_assert_uint_eq(lru.seq, N + 1);
    ck_assert_uint_eq(lru.newest, N - 2 - BATCH);
    lru_touch(&lru, N - 1 - BATCH); /* that was a move: now it is outside */
    ck_assert_uint_eq(lru.newest, N - 1 - BATCH);
    lru_touch(&lru, N - BATCH); /* and so is this one */
    lru_touch(&lru, N - 1 - BATCH);
    ck_assert_uint_eq(lru.newest, N - BATCH);
    lru_fini(&lru);
}
END_TEST

static void note(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    (void)context;
    (void)item;
    ck_assert_uint_eq(klen, sizeof(*told));
    if (n_told < ITEMS)
        memcpy(&told[n_told++], key, klen);
}

static void put(uint32_t k, size_t len)
{
    static char value[8 * LEN];
    ck_assert_int_eq(
        kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, value, len, NULL), KV_OK);
}

/* A cache in which there is still room. */
static void begin(void)
{
    struct kv_options options = {
        .size = 1u << 20, .evict = true, .durability = KV_DURABILITY_PROCESS};
    char path[32], error[256];
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    n_told = 0;
    for (uint32_t k = 0; k < ITEMS; k++) {
        put(k, LEN);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    ck_assert_uint_eq(kv->stats.evictions, 0);
    ck_assert_int_eq(kv_on_evict(kv, note, NULL), 0);
}

static void end(void)
{
    kv_close(kv);
    close(fd);
}

/* Each way to get, of this key and of none. */
static void get_in_all_ways(uint32_t k)
{
    uint32_t none = k + 2 * ITEMS;
    struct kv_item item;
    char buffer[LEN];
    ck_assert_int_eq(kv_get(kv, &k, sizeof(k), &item), KV_OK);
    ck_assert_int_eq(kv_get(kv, &none, sizeof(none), &item), KV_MISS);
    ck_assert_int_eq(
        kv_read(kv, &k, sizeof(k), 0, buffer, sizeof(buffer), NULL), KV_OK);
    ck_assert_int_eq(kv_exists(kv, &k, sizeof(k)), KV_OK);
    ck_assert_int_eq(kv_attributes(kv, &k, sizeof(k), &item), KV_OK);
    ck_assert_int_eq(kv_hold(kv, &k, sizeof(k), &item), KV_OK);
    kv_release(kv, &item);
    if (k % 3 == 0)
        ck_assert_int_eq(kv_commit(kv), KV_OK);
    if (k % 5 == 0)
        kv_unpin_all(kv);
}

/* A store into the mapping would be a fault, meanwhile. */
START_TEST(gets_write_nothing_to_the_pool)
{
    uint64_t fences = kv->pm->fences, flushed = kv->pm->flushed;
    uint64_t bytes = hash_key(0, kv->pm->base, kv->pm->size);
    uint32_t newest = kv->lru.newest, seq = kv->lru.seq;
    ck_assert_int_eq(mprotect(kv->pm->base, kv->pm->size, PROT_READ), 0);
    for (uint32_t i = 0; i < 3 * ITEMS; i++)
        get_in_all_ways(i * 7 % ITEMS);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_int_eq(
        mprotect(kv->pm->base, kv->pm->size, PROT_READ | PROT_WRITE), 0);
    ck_assert(kv->lru.newest != newest && kv->lru.seq > seq + ITEMS);
    ck_assert_uint_eq(kv->pm->fences, fences);
    ck_assert_uint_eq(kv->pm->flushed, flushed);
    ck_assert_uint_eq(hash_key(0, kv->pm->base, kv->pm->size), bytes);
}
END_TEST

/* What was got goes last, in the order of the gets, however they lie in turns:
 * a turn has fewer of them than a batch has, as many, or more. */
START_TEST(the_order_of_eviction_is_that_of_the_gets)
{
    const uint32_t turns[] = {1, ITEMS / 8 - 1, ITEMS / 8, ITEMS / 8 + 1,
                              ITEMS};
    struct kv_item item;
    for (uint32_t k = 0; k < ITEMS; k += 2) {
        for (int again = 0; again < 3; again++)
            ck_assert_int_eq(kv_get(kv, &k, sizeof(k), &item), KV_OK);
        if (k / 2 % turns[_i] == 0)
            ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    for (uint32_t k = ITEMS; n_told < ITEMS; k++) {
        put(k, 8 * LEN);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
    }
    for (uint32_t i = 0; i < ITEMS; i++)
        ck_assert_uint_eq(told[i],
                          i < ITEMS / 2 ? 2 * i + 1 : 2 * (i - ITEMS / 2));
}
END_TEST

/* One that is got all the time costs the list a move for each eighth. */
START_TEST(a_hot_item_is_moved_once_for_a_batch_of_uses)
{
    struct kv_item item;
    uint32_t hot = 0, seq = kv->lru.seq, moves = 0;
    for (uint32_t i = 1; i < 10000; i++) {
        uint32_t other = 1 + i % (ITEMS - 1), before = kv->lru.seq;
        ck_assert_int_eq(kv_get(kv, &hot, sizeof(hot), &item), KV_OK);
        moves += kv->lru.seq - before;
        ck_assert_int_eq(kv_get(kv, &other, sizeof(other), &item), KV_OK);
        if (i % 10 == 0)
            kv_commit(kv);
    }
    /* All others were further back than that when their turn came. */
    ck_assert_uint_eq(kv->lru.seq - seq, 9999 + moves);
    ck_assert_uint_ge(moves, 9999 / (ITEMS / 8 + 1));
    ck_assert_uint_le(moves, 9999 / (ITEMS / 8) + 1);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("lru");
    TCase *tcase = tcase_create("lru");
    tcase_add_test(tcase, the_one_touched_last_goes_last);
    tcase_add_test(tcase, an_item_that_moves_keeps_its_rank_and_pin);
    tcase_add_test(tcase, a_single_item_can_be_moved_touched_and_removed);
    tcase_add_test(tcase, among_many_a_touch_of_an_old_one_still_counts);
    tcase_add_test(tcase, without_an_order_it_is_known_who_is_there);
    tcase_add_test(tcase, uses_within_an_eighth_of_all_moves_change_nothing);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("in a cache");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, gets_write_nothing_to_the_pool);
    tcase_add_loop_test(tcase, the_order_of_eviction_is_that_of_the_gets, 0, 5);
    tcase_add_test(tcase, a_hot_item_is_moved_once_for_a_batch_of_uses);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
