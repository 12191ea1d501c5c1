/* A pool that was closed in order, and is open before it was looked at. */
#include "store/engine/recover.h"

#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/heap_private.h"
#include "store/engine/item.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL  (4u << 20)
#define KEYS  2000
#define SIZES 600 /* bytes of a value, fewer than */

static struct kv *kv;
static int fd;
static char path[32], error[256];
static uint32_t len_of[KEYS]; /* 0: absent */
static uint32_t state = 5;

static uint32_t roll(uint32_t sides)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % sides;
}

static void open_pool(void)
{
    struct kv_options options = {.size = POOL,
                                 .durability = KV_DURABILITY_PROCESS};
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void put(uint32_t k, uint32_t len)
{
    unsigned char value[SIZES];
    memset(value, (int)(k % 251), sizeof(value));
    ck_assert_int_eq(kv_store(kv, KV_SET, &k, sizeof(k), 0, k % 3 ? 0 : 2000, 0,
                              value, len, NULL),
                     KV_OK);
    len_of[k] = len;
}

static void erase(uint32_t k)
{
    ck_assert_int_eq(kv_delete(kv, &k, sizeof(k)), len_of[k] ? KV_OK : KV_MISS);
    len_of[k] = 0;
}

static void begin(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    memset(len_of, 0, sizeof(len_of));
    open_pool();
    for (uint32_t i = 0; i < 3 * KEYS; i++) {
        uint32_t k = roll(KEYS);
        if (roll(4))
            put(k, 1 + roll(roll(2) ? 20 : SIZES - 1));
        else
            erase(k);
        if (i % 8 == 0)
            kv_commit(kv);
    }
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

static uint64_t scan_left(void)
{
    struct kv_statistics s;
    kv_stats(kv, &s);
    return s.scan_left;
}

static void check_key(uint32_t k)
{
    unsigned char value[SIZES], expected[SIZES];
    struct kv_item item;
    enum kv_result result = kv_get(kv, &k, sizeof(k), &item);
    ck_assert_int_eq(result, len_of[k] ? KV_OK : KV_MISS);
    if (result != KV_OK)
        return;
    ck_assert_uint_eq(item.len, len_of[k]);
    ck_assert_uint_eq(kv_copy_value(kv, &item, 0, value, sizeof(value)),
                      item.len);
    memset(expected, (int)(k % 251), sizeof(expected));
    ck_assert_int_eq(memcmp(value, expected, item.len), 0);
    kv_unpin_all(kv);
}

static void check_all(void)
{
    uint64_t items = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        check_key(k);
        items += len_of[k] != 0;
    }
    ck_assert_uint_eq(kv->stats.items, items);
}

static void check_whole(void)
{
    check_all();
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
    ck_assert_uint_eq(scan_left(), 0);
    ck_assert_uint_eq(kv->stats.repaired, 0);
}

START_TEST(it_serves_before_it_has_been_looked_at)
{
    uint64_t free_bytes, left;
    kv_commit(kv);
    kv_unpin_all(kv);
    free_bytes = kv->heap.free_bytes;
    uint64_t bytes = kv->stats.bytes, expiring = kv->expiring;
    reopen();
    ck_assert_uint_gt(left = scan_left(), kv->table.places);
    ck_assert_uint_eq(kv->stats.bytes, bytes);
    ck_assert_uint_eq(kv->expiring, expiring);
    check_key(1);
    ck_assert_uint_lt(scan_left(), left); /* its segment */
    while (kv_catch_up(kv)) {
        ck_assert_uint_le(scan_left(), left);
        left = scan_left();
    }
    ck_assert_uint_eq(scan_left(), 0);
    ck_assert_uint_eq(kv->heap.free_bytes, free_bytes);
    ck_assert_uint_eq(kv->stats.bytes, bytes);
    ck_assert_uint_eq(kv->expiring, expiring);
    check_whole();
}
END_TEST

START_TEST(commits_look_at_it_bit_by_bit)
{
    reopen();
    uint64_t segments = kv->table.live, commits = 0;
    for (; scan_left() > 0; commits++)
        ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_uint_gt(commits, segments);
    check_whole();
}
END_TEST

START_TEST(puts_meanwhile_use_space_that_was_empty)
{
    reopen();
    struct heap_hidden *hidden = &kv->heap.hidden;
    struct heap_area areas[64];
    size_t n = hidden->n_areas;
    ck_assert_uint_ge(n, 1);
    ck_assert_uint_le(n, 64);
    memcpy(areas, hidden->areas, n * sizeof(areas[0]));
    uint32_t puts = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (len_of[k] != 0)
            continue; /* its space would be free */
        put(k, 200);
        puts++;
        uint64_t hash = kv_hash(kv, &k, sizeof(k));
        const struct hop_entry *entry =
            kv_entry(kv, hop_find(&kv->table, hash, &k, sizeof(k)));
        struct item_blob blob;
        uint64_t len;
        ck_assert(item_blob(entry, &blob, &len));
        if (scan_left() == 0 || kv->stats.growths > 0)
            break; /* the old segment's space is free, too */
        ck_assert(!heap_area_covers(areas, n, blob.offset, HEAP_UNIT));
    }
    ck_assert_uint_gt(puts, 100);
    check_whole();
}
END_TEST

static uint64_t place_of(const struct hop_segment *segment)
{
    return (uint64_t)((const unsigned char *)segment->entries - kv->pm->base);
}

static bool was_there(const uint64_t *offsets, uint32_t n, uint64_t offset)
{
    for (uint32_t i = 0; i < n; i++)
        if (offsets[i] == offset)
            return true;
    return false;
}

START_TEST(a_segment_that_is_written_meanwhile_lies_in_what_was_empty)
{
    struct heap_area areas[64];
    uint64_t old[256];
    uint32_t n = 0, written = 0;
    reopen();
    size_t n_areas = kv->heap.hidden.n_areas;
    ck_assert_uint_ge(n_areas, 1);
    ck_assert_uint_le(n_areas, 64);
    memcpy(areas, kv->heap.hidden.areas, n_areas * sizeof(areas[0]));
    for (uint32_t i = 0; i < kv->table.n_segments; i++)
        if (hop_exists(&kv->table, i << HOP_SHIFT)) {
            ck_assert_uint_lt(n, 256);
            old[n++] = place_of(hop_segment(&kv->table, i));
            ck_assert(heap_area_covers(areas, n_areas, old[n - 1], HEAP_UNIT));
        }
    for (uint64_t k = 1u << 20; kv->stats.growths == 0; k++)
        ck_assert_int_eq(
            kv_store(kv, KV_SET, &k, sizeof(k), 0, 0, 0, "v", 1, NULL), KV_OK);
    ck_assert_uint_gt(scan_left(), 0);
    for (uint32_t i = 0; i < kv->table.n_segments; i++) {
        if (!hop_exists(&kv->table, i << HOP_SHIFT))
            continue;
        const struct hop_segment *segment = hop_segment(&kv->table, i);
        if (was_there(old, n, place_of(segment)))
            continue;
        ck_assert(!heap_area_covers(areas, n_areas, place_of(segment),
                                    segment->n * sizeof(struct hop_entry)));
        written++;
    }
    ck_assert_uint_ge(written, 1);
}
END_TEST

START_TEST(what_changes_meanwhile_and_what_is_found_agree)
{
    for (int round = 0; round < 20; round++) {
        reopen();
        ck_assert_uint_gt(scan_left(), 0);
        for (int i = 0; i < 200; i++) {
            uint32_t k = roll(KEYS);
            switch (roll(5)) {
            case 0:
                erase(k);
                break;
            case 1:
                kv_touch(kv, &k, sizeof(k), roll(2) ? 3000 : 0);
                break;
            case 2:
                check_key(k);
                break;
            default:
                put(k, 1 + roll(SIZES - 1));
            }
            if (i % 40 == 0)
                kv_catch_up(kv);
            if (roll(100) == 0)
                kv_commit(kv);
        }
        check_whole();
    }
}
END_TEST

START_TEST(a_crash_meanwhile_loses_nothing)
{
    /* Each put looks at where its key belongs. It depends on the pool's own
     * seed how many it takes until all has been looked at. */
    for (uint32_t n = 50; n > 0 && scan_left() == 0; n /= 2) {
        reopen();
        for (uint32_t k = 0; k < n; k++)
            put(k, 1 + k * 7);
        kv_commit(kv);
    }
    ck_assert_uint_gt(scan_left(), 0);
    kv->failed = true; /* leaves it as a crash would */
    kv_close(kv);
    open_pool();
    ck_assert_uint_eq(scan_left(), 0);
    check_whole();
}
END_TEST

/* On standard error, and only while it lasts. */
START_TEST(a_long_opening_says_how_far_it_is)
{
    char text[16384];
    unsigned last = 0, lines = 0, percent;
    int told = memfd_create("told", MFD_CLOEXEC), old = dup(STDERR_FILENO);
    kv_commit(kv);
    uint64_t segments = kv->table.live;
    kv->failed = true;
    kv_close(kv);
    recover_tell_ms = 0;
    ck_assert_int_ge(dup2(told, STDERR_FILENO), 0);
    log_init("check", LOG_WARN);
    open_pool();
    dup2(old, STDERR_FILENO);
    log_init("check", LOG_NONE);
    ssize_t len = pread(told, text, sizeof(text) - 1, 0);
    ck_assert_int_gt(len, 0);
    text[len] = '\0';
    for (char *at = text; (at = strstr(at, path)) != NULL; lines++) {
        at += strlen(path);
        ck_assert_int_eq(sscanf(at, ": %u %% of it has", &percent), 1);
        ck_assert(percent >= last && percent < 100);
        last = percent;
    }
    ck_assert_uint_eq(lines, segments - 1); /* the last one is the end */
    ck_assert_uint_gt(last, 0);
    close(old);
    close(told);
    check_whole();
}
END_TEST

START_TEST(a_pool_that_is_closed_too_soon_is_looked_at_the_next_time)
{
    for (int i = 0; i < 5; i++) {
        reopen();
        put((uint32_t)i, 300);
    }
    check_whole();
}
END_TEST

START_TEST(a_summary_that_is_not_whole_is_not_believed)
{
    for (size_t at = 0; at < sizeof(struct pool_summary); at += 100) {
        off_t off = (unsigned char *)kv->pool.header - kv->pm->base +
                    POOL_SUMMARY_AT + (off_t)at;
        unsigned char byte;
        ck_assert_int_eq(kv_close(kv), 0);
        ck_assert_int_eq(pread(fd, &byte, 1, off), 1);
        byte ^= 0x10;
        ck_assert_int_eq(pwrite(fd, &byte, 1, off), 1);
        open_pool();
        ck_assert_uint_eq(scan_left(), 0);
        check_all();
    }
}
END_TEST

START_TEST(a_summary_of_another_close_is_not_believed)
{
    struct pool_summary old;
    off_t off =
        (unsigned char *)kv->pool.header - kv->pm->base + POOL_SUMMARY_AT;
    ck_assert_int_eq(kv_close(kv), 0);
    ck_assert_int_eq(pread(fd, &old, sizeof(old), off), sizeof(old));
    open_pool();
    put(1, 500);
    ck_assert_int_eq(kv_close(kv), 0);
    ck_assert_int_eq(pwrite(fd, &old, sizeof(old), off), sizeof(old));
    open_pool();
    ck_assert_uint_eq(scan_left(), 0);
    check_whole();
}
END_TEST

static uint64_t *owner_of(uint32_t k)
{
    return &kv_entry(kv, hop_bucket(&kv->table, kv_hash(kv, &k, sizeof(k))))
                ->owner;
}

/* Bits of owner words that say what was said before, too. */
START_TEST(of_two_items_of_one_key_the_later_one_is_true)
{
    uint64_t before[KEYS];
    for (uint32_t k = 0; k < KEYS; k += 20) {
        put(k, 5);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        before[k] = *owner_of(k);
        put(k, 9);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        before[k] &= ~*owner_of(k);
    }
    for (uint32_t k = 0; k < KEYS; k += 20)
        *owner_of(k) |= before[k];
    reopen();
    for (uint32_t k = 0; k < KEYS; k += 20)
        check_key(k);
    ck_assert_uint_gt(kv->stats.repaired, 20);
}
END_TEST

START_TEST(no_room_in_what_was_empty_makes_it_look_at_all)
{
    static unsigned char large[300 << 10];
    reopen();
    uint64_t most = kv->heap.free_bytes;
    for (uint32_t k = 0; k < POOL / sizeof(large); k++) {
        char name[16];
        int n = snprintf(name, sizeof(name), "large%u", k);
        if (kv_store(kv, KV_SET, name, (size_t)n, 0, 0, 0, large, sizeof(large),
                     NULL) != KV_OK)
            break;
        most -= most < sizeof(large) ? most : sizeof(large);
    }
    ck_assert_uint_lt(most, sizeof(large));
    ck_assert_uint_eq(scan_left(), 0);
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("recover");
    TCase *tcase = tcase_create("recover");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, a_long_opening_says_how_far_it_is);
    tcase_add_test(tcase, it_serves_before_it_has_been_looked_at);
    tcase_add_test(tcase, commits_look_at_it_bit_by_bit);
    tcase_add_test(tcase, puts_meanwhile_use_space_that_was_empty);
    tcase_add_test(tcase,
                   a_segment_that_is_written_meanwhile_lies_in_what_was_empty);
    tcase_add_test(tcase, what_changes_meanwhile_and_what_is_found_agree);
    tcase_add_test(tcase, a_crash_meanwhile_loses_nothing);
    tcase_add_test(tcase,
                   a_pool_that_is_closed_too_soon_is_looked_at_the_next_time);
    tcase_add_test(tcase, a_summary_that_is_not_whole_is_not_believed);
    tcase_add_test(tcase, a_summary_of_another_close_is_not_believed);
    tcase_add_test(tcase, of_two_items_of_one_key_the_later_one_is_true);
    tcase_add_test(tcase, no_room_in_what_was_empty_makes_it_look_at_all);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
