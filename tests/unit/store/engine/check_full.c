/*
 * Stores in which there is room for this and not for that: each allocation of
 * each operation fails once, and the operation is refused whole. What gives
 * room back is never refused.
 */
#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/heap.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL  (256u << 10)
#define OLD   500          /* bytes of the value that is there */
#define NEW   3000         /* of the one that is stored */
#define UNITS 110          /* of the heap: more than any operation here needs */
#define REST  (200u << 10) /* bytes that are not looked at each time */

static struct kv *kv;
static int fd;
static char path[32];
static unsigned char old[OLD], new[NEW], want[OLD + NEW], got[OLD + NEW];
static size_t want_len;

static const char far_key[] = "a number under a key that is too long for one "
                              "line";

/* Units of the heap that the test has taken for itself. */
static bool taken[POOL / HEAP_UNIT];

static void open_pool(bool contiguous)
{
    char error[256] = "";
    struct kv_options options = {.size = POOL, .contiguous = contiguous};
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void close_pool(void)
{
    ck_assert_int_eq(kv_close(kv), 0);
    close(fd);
}

static void check_pool(void)
{
    char fault[128] = "no memory";
    ck_assert_msg(audit(kv, fault, sizeof(fault)) == 0, "%s", fault);
}

static enum kv_result set(const void *key, size_t klen, const void *value,
                          size_t len)
{
    return kv_store(kv, KV_SET, key, klen, 0, 0, 0, value, len, NULL);
}

static void free_unit(uint64_t unit)
{
    ck_assert(taken[unit]);
    heap_free(&kv->heap, unit * HEAP_UNIT, HEAP_UNIT);
    taken[unit] = false;
}

/* All free space but so many units: side by side, or none beside another. */
static void leave(uint64_t units, bool apart)
{
    uint64_t at, run = 0, unit = 0;
    while ((at = heap_alloc(&kv->heap, HEAP_UNIT)) != 0)
        taken[at / HEAP_UNIT] = true;
    ck_assert_uint_eq(kv->heap.free_bytes, 0);
    for (; run < 2 * UNITS; unit++)
        run = taken[unit] ? run + 1 : 0;
    for (; units > 0; units--)
        free_unit(unit -= apart ? 2 : 1);
}

static void give_back(void)
{
    for (uint64_t unit = 0; unit < POOL / HEAP_UNIT; unit++)
        if (taken[unit])
            free_unit(unit);
}

static enum kv_result put_new(void)
{
    return set("new", 3, new, NEW);
}

static enum kv_result replace(void)
{
    memcpy(want, new, NEW);
    want_len = NEW;
    return set("k", 1, new, NEW);
}

static enum kv_result add_behind(void)
{
    memcpy(want + OLD, new, NEW);
    want_len = OLD + NEW;
    return kv_store(kv, KV_APPEND, "k", 1, 0, 0, 0, new, NEW, NULL);
}

static enum kv_result add_before(void)
{
    memcpy(want, new, NEW);
    memcpy(want + NEW, old, OLD);
    want_len = OLD + NEW;
    return kv_store(kv, KV_PREPEND, "k", 1, 0, 0, 0, new, NEW, NULL);
}

static enum kv_result write_part(void)
{
    memcpy(want + 100, new, 100);
    return kv_write(kv, "k", 1, 100, new, 100, 0, NULL);
}

static enum kv_result receive(void)
{
    struct kv_reservation r;
    enum kv_result result = kv_reserve(kv, 1, NEW, &r);
    if (result != KV_OK)
        return result;
    for (size_t at = 0, room; at < NEW; at += room) {
        void *to = kv_reserved(kv, &r, at, &room);
        memcpy(to, new + at, room);
    }
    memcpy(want, new, NEW);
    want_len = NEW;
    return kv_publish(kv, &r, KV_SET, "k", 1, 0, 0, 0, NULL);
}

/* The first one has its room when the second one finds none. */
static enum kv_result put_two(void)
{
    struct kv_put puts[] = {
        {.key = "new", .klen = 3, .value = new, .len = 1000},
        {.key = "k", .klen = 1, .value = new, .len = 2000}};
    kv_store_batch(kv, puts, 2);
    ck_assert(puts[0].result == KV_OK || puts[0].result == KV_NO_SPACE);
    memcpy(want, new, 2000);
    want_len = 2000;
    return puts[1].result;
}

static enum kv_result count_up(void)
{
    return kv_arith(kv, far_key, sizeof(far_key), true, 1, NULL, NULL);
}

static const struct {
    const char *name;
    enum kv_result (*run)(void);
    bool about_k; /* refused, it leaves "k" as it was */
} operations[] = {{"put", put_new, false},
                  {"replace", replace, true},
                  {"append", add_behind, true},
                  {"prepend", add_before, true},
                  {"write a part", write_part, true},
                  {"reserve and publish", receive, true},
                  {"batch", put_two, true},
                  {"incr", count_up, false}};
#define OPERATIONS (sizeof(operations) / sizeof(*operations))

/* What is there whatever becomes of the operation. */
static void begin_one(void)
{
    ck_assert_int_eq(set("k", 1, old, OLD), KV_OK);
    ck_assert_int_eq(set(far_key, sizeof(far_key), "9", 1), KV_OK);
    kv_delete(kv, "new", 3);
    kv_commit(kv);
    kv_unpin_all(kv);
    memcpy(want, old, OLD);
    want_len = OLD;
}

static void check_one(const char *name, bool about_k, enum kv_result result)
{
    struct kv_item item;
    if (result != KV_OK) {
        memcpy(want, old, OLD);
        want_len = OLD;
    }
    ck_assert_int_eq(kv_read(kv, "k", 1, 0, got, sizeof(got), &item), KV_OK);
    if (item.len != want_len || memcmp(got, want, want_len) != 0)
        ck_abort_msg("%s, result %d: another value", name, (int)result);
    ck_assert_int_eq(
        kv_read(kv, far_key, sizeof(far_key), 0, got, sizeof(got), &item),
        KV_OK);
    if (about_k || result != KV_OK)
        ck_assert(item.len == 1 && got[0] == '9');
}

/* With no unit of room, with one, with two ... */
static void with_any_room(size_t i, bool apart, bool contiguous)
{
    unsigned refused = 0, done = 0;
    for (uint64_t units = 0; units <= UNITS; units++) {
        begin_one();
        leave(units, apart);
        enum kv_result result = operations[i].run();
        ck_assert_msg(result == KV_OK || result == KV_NO_SPACE,
                      "%s with %u units: %d", operations[i].name,
                      (unsigned)units, (int)result);
        refused += result != KV_OK;
        done += result == KV_OK;
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        check_one(operations[i].name, operations[i].about_k, result);
        ck_assert_int_eq(kv_touch(kv, "k", 1, 5000), KV_OK);
        ck_assert_int_eq(kv_delete(kv, "k", 1), KV_OK);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        give_back();
        check_pool();
    }
    ck_assert_msg(refused > 0, "%s is never refused", operations[i].name);
    if (!apart)
        ck_assert_msg(done > 0, "%s is never done", operations[i].name);
    else if (contiguous && i == 0)
        ck_assert_uint_eq(done, 0);
}

START_TEST(with_room_for_a_part_of_it_an_operation_is_refused_whole)
{
    static const unsigned char rest[REST];
    for (int contiguous = 0; contiguous < 2; contiguous++) {
        open_pool(contiguous);
        ck_assert_int_eq(set("rest", 4, rest, sizeof(rest)), KV_OK);
        for (int apart = 0; apart < 2; apart++)
            with_any_room((size_t)_i, apart, contiguous);
        close_pool();
    }
}
END_TEST

/* To the last byte, nearly; how many there are. */
static int fill(void)
{
    int n = 0, refused = 0;
    for (int k = 0; refused < 50; k++) {
        char key[16];
        size_t len = refused ? 1 : (size_t)(k * 131) % NEW;
        snprintf(key, sizeof(key), "%d", k);
        if (set(key, strlen(key), new, len) == KV_OK)
            n++;
        else
            refused++;
        kv_commit(kv);
    }
    return n;
}

START_TEST(a_full_store_can_be_emptied_and_filled_again)
{
    char key[16];
    int first = 0;
    open_pool(false);
    for (int round = 0; round < 4; round++) {
        int n = fill(), gone = 0;
        first = round == 0 ? n : first;
        ck_assert_int_ge(n, first * 9 / 10);
        for (int k = 0; gone < n; k++) {
            snprintf(key, sizeof(key), "%d", k);
            if (kv_exists(kv, key, strlen(key)) != KV_OK)
                continue;
            if (round % 2) /* what is in no room of its own goes too */
                ck_assert_int_eq(kv_touch(kv, key, strlen(key), 5000), KV_OK);
            ck_assert_int_eq(kv_delete(kv, key, strlen(key)), KV_OK);
            if (round / 2 == 0)
                ck_assert_int_eq(kv_commit(kv), KV_OK);
            gone++;
        }
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        ck_assert_uint_eq(kv_count(kv), 0);
        check_pool();
    }
    ck_assert_int_gt(first, 100);
    close_pool();
}
END_TEST

START_TEST(a_full_store_takes_a_flush_of_all)
{
    open_pool(false);
    int n = fill();
    ck_assert_int_eq(kv_flush_all(kv, 1000), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert_int_ge(fill(), n * 9 / 10);
    check_pool();
    close_pool();
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    for (size_t i = 0; i < sizeof(new); i++)
        new[i] = (unsigned char)(i * 7 + (i >> 8));
    for (size_t i = 0; i < sizeof(old); i++)
        old[i] = (unsigned char)(200 - i * 3);
    Suite *suite = suite_create("full");
    TCase *tcase = tcase_create("full");
    tcase_add_loop_test(
        tcase, with_room_for_a_part_of_it_an_operation_is_refused_whole, 0,
        OPERATIONS);
    tcase_add_test(tcase, a_full_store_can_be_emptied_and_filled_again);
    tcase_add_test(tcase, a_full_store_takes_a_flush_of_all);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
