/* Cas ids: the last of them, and those that come from outside. */
#include "store/engine/audit.h"
#include "store/engine/engine_state.h"
#include "store/engine/restore.h"

#include "config/log.h"
#include "tests/support/damaged_pool.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL (1u << 20)
#define LEFT 5 /* ids that the pool has still to give */

static struct kv *kv;
static int fd;
static char path[32], error[256];

static void open_pool(void)
{
    struct kv_options options = {.size = POOL,
                                 .durability = KV_DURABILITY_PROCESS};
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
}

static void crash(void)
{
    kv->failed = true; /* leaves it as a crash would */
    kv_close(kv);
    open_pool();
}

static void begin(void)
{
    fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    open_pool();
}

static void end(void)
{
    kv_close(kv);
    close(fd);
}

static enum kv_result put(const char *key, const char *value, uint64_t *cas)
{
    return kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, strlen(value),
                    cas);
}

static enum kv_result restore(const char *key, uint64_t cas)
{
    return restore_item(kv, key, strlen(key), 0, 0, cas, "1", 1);
}

static bool holds(const char *key, const char *value)
{
    struct kv_item item;
    return kv_get(kv, key, strlen(key), &item) == KV_OK &&
           item.len == strlen(value) &&
           memcmp(item.value, value, item.len) == 0;
}

static void is_sound(void)
{
    ck_assert_msg(audit(kv, error, sizeof(error)) == 0, "%s", error);
    ck_assert_uint_le(kv->pool.header->state.cas_ceiling, POOL_CEILING_MAX);
}

/* As if all ids but LEFT had been given. */
static void give_nearly_all(void)
{
    kv->next_cas = POOL_CEILING_MAX - LEFT;
    kv->cas_ceiling = kv->next_cas;
    kv->pool.header->state.cas_ceiling = kv->next_cas;
}

static void expect_nothing_is_stored(void)
{
    static const char large[200] = "x";
    struct kv_reservation r;
    uint64_t number, before = kv_region_free(kv->region);
    ck_assert_int_eq(put("a", "new", NULL), KV_NO_SPACE);
    ck_assert_int_eq(put("b", "new", NULL), KV_NO_SPACE);
    ck_assert_int_eq(kv_store(kv, KV_APPEND, "a", 1, 0, 0, 0, "x", 1, NULL),
                     KV_NO_SPACE);
    ck_assert_int_eq(
        kv_store(kv, KV_SET, "c", 1, 0, 0, 0, large, sizeof(large), NULL),
        KV_NO_SPACE);
    ck_assert_int_eq(kv_arith(kv, "a", 1, true, 1, &number, NULL), KV_NO_SPACE);
    ck_assert_int_eq(kv_reserve(kv, 1, sizeof(large), &r), KV_OK);
    ck_assert_int_eq(kv_publish(kv, &r, KV_SET, "c", 1, 0, 0, 0, NULL),
                     KV_NO_SPACE);
    ck_assert_int_eq(kv_touch(kv, "a", 1, 0), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert(holds("a", "17"));
    ck_assert_uint_eq(kv_region_free(kv->region), before);
    is_sound();
}

START_TEST(the_last_id_is_given_and_the_pool_still_opens)
{
    uint64_t cas;
    give_nearly_all();
    for (unsigned i = 0; i < LEFT; i++) {
        ck_assert_int_eq(put("a", "17", &cas), KV_OK);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        ck_assert_uint_eq(cas, POOL_CEILING_MAX - LEFT + i);
    }
    expect_nothing_is_stored();
    crash();
    expect_nothing_is_stored();
    ck_assert_int_eq(kv_close(kv), 0);
    open_pool();
    expect_nothing_is_stored();
    ck_assert_int_eq(kv_flush_all(kv, 0), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    ck_assert(!holds("a", "17"));
    crash();
    ck_assert(!holds("a", "17"));
}
END_TEST

START_TEST(a_restored_id_leaves_as_many_to_be_given)
{
    uint64_t cas;
    ck_assert_int_eq(restore("a", 0), KV_NOT_STORED);
    ck_assert_int_eq(restore("a", POOL_CEILING_MAX - (2u << 20)),
                     KV_NOT_STORED);
    ck_assert_int_eq(restore("a", POOL_CAS_GIVEN), KV_NOT_STORED);
    ck_assert_int_eq(restore("a", POOL_CAS_GIVEN - 1), KV_OK);
    ck_assert_int_eq(put("b", "2", &cas), KV_OK);
    ck_assert_uint_eq(cas, POOL_CAS_GIVEN);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    is_sound();
    crash();
    ck_assert(holds("a", "1") && holds("b", "2")); /* it was given */
    is_sound();
}
END_TEST

/* What an entry says that nothing else vouches for. */
START_TEST(an_id_that_was_never_given_leaves_as_many_to_be_given)
{
    static const uint64_t ids[] = {POOL_CAS_GIVEN - 1, POOL_CAS_GIVEN,
                                   POOL_CEILING_MAX - 1, UINT64_MAX};
    for (unsigned i = 0; i < 4; i++) {
        end();
        begin();
        ck_assert_int_eq(put("a", "1", NULL), KV_OK);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        uint64_t hash = kv_hash(kv, "a", 1);
        struct hop_entry *entry =
            kv_entry(kv, hop_find(&kv->table, hash, "a", 1));
        entry->cas = ids[i];
        damaged_pool_fix_entry(entry);
        kv->pool.header->state.cas_ceiling = 1u << 20;
        crash();
        ck_assert_int_eq(holds("a", "1"), i == 0);
        ck_assert_uint_eq(kv->stats.repaired, i != 0);
        ck_assert_uint_le(kv->next_cas, POOL_CAS_GIVEN);
        ck_assert_int_eq(put("b", "2", NULL), KV_OK);
        ck_assert_int_eq(kv_commit(kv), KV_OK);
        is_sound();
    }
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("cas");
    TCase *tcase = tcase_create("cas");
    tcase_add_checked_fixture(tcase, begin, end);
    tcase_add_test(tcase, the_last_id_is_given_and_the_pool_still_opens);
    tcase_add_test(tcase, a_restored_id_leaves_as_many_to_be_given);
    tcase_add_test(tcase,
                   an_id_that_was_never_given_leaves_as_many_to_be_given);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
