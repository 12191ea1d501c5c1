/*
 * How much a single put, or delete, with its commit does at most while the
 * table gets larger and smaller: what it flushes, fences and moves. No clock
 * decides here; the bounds hold for a table of any size.
 *
 * GROWTH is what a segment written anew can be, by its layout: two segments of
 * 2048 entries, the pair that names them, and the table word: 256 KiB and two
 * lines, out of at most 2048 items. Half of that is what there is: 2 * 1024, or
 * where room is short 2 * 1280. Copied once in memory and once to a medium that
 * takes 1 GB/s it is a third of a millisecond, with what it takes to place 2048
 * items; a displacement is two lines and two fences, each below a microsecond.
 * So a put with one growth and MOVES displacements is below half a millisecond.
 * (bench/engine.c has measured 3,069 growths to a million items: 61 us in the
 * middle, 152 at most.)
 */
#include "store/engine/engine_state.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef FASTSOCK_TEST
#define ITEMS 100000u
#else
#define ITEMS 1000000u
#endif

#define LINE    64u
#define GROWTH  (2 * HOP_SEGMENT_MAX * LINE + 2 * LINE)
#define MOVES   32 /* of a put; its free place is some hundred places away */
#define PLAIN   (8 * LINE) /* a small item, its words, the ceiling of cas ids */
#define PIECES  8          /* of 2000 bytes: 512 or more each, with a head */
#define EVICTED 80 /* 64 of the reserve, and what the value itself needs */

/* From a segment of 128 places to one of 1536, then one bit after another. */
#define GROWTHS_MAX (4 + HOP_DEPTH_MAX)

/* What one call has done. */
struct work {
    uint64_t flushed;
    uint64_t fences;
    uint64_t moves;
    uint64_t growths;
    uint64_t shrinks;
};

static struct kv *kv;
static int fd;
static char path[32], error[256];
static struct work most;

static struct work now(void)
{
    return (struct work){.flushed = kv->pm->flushed,
                         .fences = kv->pm->fences,
                         .moves = kv->stats.displacements,
                         .growths = kv->stats.growths,
                         .shrinks = kv->stats.shrinks};
}

static void keep_larger(uint64_t *most_of, uint64_t value)
{
    if (value > *most_of)
        *most_of = value;
}

static void note_since(const struct work *before)
{
    struct work after = now();
    keep_larger(&most.flushed, after.flushed - before->flushed);
    keep_larger(&most.fences, after.fences - before->fences);
    keep_larger(&most.moves, after.moves - before->moves);
    keep_larger(&most.growths, after.growths - before->growths);
    keep_larger(&most.shrinks, after.shrinks - before->shrinks);
}

static void tell(const char *what)
{
    printf("%s: at most %llu bytes flushed, %llu fences, %llu moves, %llu "
           "growths\n",
           what, (unsigned long long)most.flushed,
           (unsigned long long)most.fences, (unsigned long long)most.moves,
           (unsigned long long)most.growths);
}

static void open_store(uint64_t size, bool evict)
{
    struct kv_options options = {
        .size = size, .evict = evict, .durability = KV_DURABILITY_PROCESS};
    most = (struct work){0};
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void close_store(void)
{
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
    kv_close(kv);
    close(fd);
}

static enum kv_result put(uint64_t key, size_t len)
{
    static char value[2000];
    struct work before = now();
    enum kv_result result =
        kv_store(kv, KV_SET, &key, sizeof(key), 0, 0, 0, value, len, NULL);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    note_since(&before);
    return result;
}

static void erase(uint64_t key)
{
    struct work before = now();
    ck_assert_int_eq(kv_delete(kv, &key, sizeof(key)), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    note_since(&before);
}

/* One growth, whatever the table's size. */
static void expect_one_growth(void)
{
    ck_assert_uint_eq(most.growths, 1);
    ck_assert_uint_le(most.moves, MOVES);
    ck_assert_uint_le(most.flushed, GROWTH + PLAIN + most.moves * 2 * LINE);
    ck_assert_uint_le(most.fences, 4 + 2 * most.moves);
}

START_TEST(a_put_of_a_table_that_grows_to_a_million_writes_two_segments_at_most)
{
    open_store((uint64_t)ITEMS * 160 + (4u << 20), false);
    for (uint64_t k = 0; k < ITEMS; k++) {
        ck_assert_int_eq(put(k, 8), KV_OK);
        if (k == ITEMS / 16) { /* as a small one, so a large one */
            tell("a sixteenth");
            expect_one_growth();
            most = (struct work){0};
        }
    }
    tell("all of it");
    expect_one_growth();
    ck_assert_uint_gt(kv->stats.growths, ITEMS / 2048);
    ck_assert_uint_eq(kv->stats.items, ITEMS);
    close_store();
}
END_TEST

/* One segment, or two as one, in a commit. */
START_TEST(a_delete_of_a_table_that_shrinks_writes_one_segment_at_most)
{
    open_store((uint64_t)ITEMS * 160 + (4u << 20), false);
    for (uint64_t k = 0; k < ITEMS / 4; k++)
        ck_assert_int_eq(put(k, 8), KV_OK);
    most = (struct work){0};
    for (uint64_t k = 0; k < ITEMS / 4; k++)
        erase(k);
    tell("emptied");
    ck_assert_uint_gt(kv->stats.shrinks, ITEMS / 4 / 2048);
    ck_assert_uint_eq(most.shrinks, 1);
    ck_assert_uint_eq(most.growths, 0);
    ck_assert_uint_le(most.flushed, HOP_SEGMENT_MAX * LINE + PLAIN);
    ck_assert_uint_le(most.fences, 4);
    close_store();
}
END_TEST

/* The table grows in what is left between values, and then not at all. */
START_TEST(a_put_of_a_pool_that_is_nearly_full_does_no_more)
{
    const size_t sizes[] = {0, 100, 1000};
    open_store(16u << 20, false);
    uint64_t stored = 0, refused = 0;
    for (uint64_t k = 0; refused < 2000; k++) {
        enum kv_result result = put(k, sizes[k % 3]);
        ck_assert(result == KV_OK || result == KV_NO_SPACE);
        stored += result == KV_OK;
        refused += result == KV_NO_SPACE;
    }
    tell("nearly full");
    ck_assert_uint_gt(stored, 20000);
    ck_assert_uint_gt(kv->stats.growths, 10);
    ck_assert_uint_le(most.growths, 2);
    ck_assert_uint_le(most.flushed, 2 * GROWTH + PLAIN + 2000 +
                                        PIECES * 2 * LINE +
                                        most.moves * 2 * LINE);
    close_store();
}
END_TEST

/* A cache evicts 64 items in a turn at most to keep its reserve, besides what
 * the value itself needs. */
START_TEST(a_put_of_a_full_cache_evicts_a_bounded_number)
{
    open_store(16u << 20, true);
    for (uint64_t k = 0; k < 60000; k++)
        ck_assert_int_eq(put(k, k % 5 ? 8 : 1000), KV_OK);
    tell("a full cache");
    ck_assert_uint_gt(kv->stats.evictions, 1000);
    ck_assert_uint_gt(kv->stats.growths, 10);
    ck_assert_uint_le(most.growths, 2);
    ck_assert_uint_le(most.flushed, 2 * GROWTH + PLAIN + 2000 + EVICTED * LINE +
                                        most.moves * 2 * LINE);
    close_store();
}
END_TEST

/* What a value needs is made of what has expired, not all that has. */
static void expire_and_put(bool evict, uint64_t *reclaimed, uint64_t *flushed)
{
    static char large[60000];
    open_store(16u << 20, evict);
    for (uint64_t k = 0; k < 60000; k++)
        if (kv_store(kv, KV_SET, &k, sizeof(k), 0, 1500, 0, large, 100, NULL) !=
                KV_OK ||
            kv_commit(kv) != KV_OK)
            ck_abort();
    for (uint64_t k = 60000;
         kv->heap.free_bytes > sizeof(large) && kv->stats.evictions == 0; k++)
        ck_assert_int_eq(put(k, 2000), KV_OK);
    kv_set_time(kv, 2000);
    uint64_t before = kv->stats.reclaimed, written = kv->pm->flushed;
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "large", 5, 0, 0, 0, large, sizeof(large), NULL),
        KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    *reclaimed = kv->stats.reclaimed - before;
    *flushed = kv->pm->flushed - written;
    printf("%llu of some 60000 that had expired were taken out, %llu bytes "
           "flushed\n",
           (unsigned long long)*reclaimed, (unsigned long long)*flushed);
    close_store();
}

START_TEST(a_put_takes_out_no_more_of_what_has_expired_than_it_needs)
{
    uint64_t reclaimed, flushed;
    for (int evict = 0; evict < 2; evict++) {
        expire_and_put(evict, &reclaimed, &flushed);
        ck_assert_uint_gt(reclaimed, 0);
        ck_assert_uint_le(reclaimed, 10000);
        ck_assert_uint_le(flushed, 10000 * 2 * LINE + 60000 + GROWTH);
    }
}
END_TEST

/*
 * Keys that all have one bucket, whatever the size of their segment, and the
 * same first two bits of those that choose it: who knows the seed can find such
 * keys. 63 of them fill their bucket; the next one has its segment written
 * anew until a bit tells them apart. With so many equal bits as there can be,
 * 24, that would be GROWTHS_MAX times; each costs as much as any growth, and
 * the table's size is in none of it.
 */
START_TEST(keys_of_one_bucket_cost_a_growth_for_each_bit_they_share)
{
    enum { KEYS = 80 };
    uint64_t found = 0, wanted = 0;
    open_store(32u << 20, false);
    for (uint64_t k = 0; found < KEYS; k++) {
        uint64_t hash = kv_hash(kv, &k, sizeof(k));
        uint64_t bits = (hash >> 24 & 0xffff) | hash >> 62 << 16;
        if (found == 0)
            wanted = bits;
        if (bits != wanted)
            continue;
        ck_assert_int_eq(put(k, 8), KV_OK);
        found++;
    }
    tell("one bucket");
    ck_assert_uint_gt(most.growths, 4 + 2);
    ck_assert_uint_le(most.growths, GROWTHS_MAX);
    ck_assert_uint_le(most.flushed,
                      most.growths * GROWTH + PLAIN + most.moves * 2 * LINE);
    ck_assert_uint_le(most.fences, 2 * most.growths + 2 + 2 * most.moves);
    close_store();
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("pauses");
    TCase *tcase = tcase_create("pauses");
    tcase_add_test(
        tcase,
        a_put_of_a_table_that_grows_to_a_million_writes_two_segments_at_most);
    tcase_add_test(tcase,
                   a_delete_of_a_table_that_shrinks_writes_one_segment_at_most);
    tcase_add_test(tcase, a_put_of_a_pool_that_is_nearly_full_does_no_more);
    tcase_add_test(tcase, a_put_of_a_full_cache_evicts_a_bounded_number);
    tcase_add_test(tcase,
                   a_put_takes_out_no_more_of_what_has_expired_than_it_needs);
    tcase_add_test(tcase,
                   keys_of_one_bucket_cost_a_growth_for_each_bit_they_share);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
