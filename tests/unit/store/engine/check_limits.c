/* The longest key with the largest value, and what is one byte longer. */
#include "config/log.h"
#include "store/engine/engine.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POOL   ((uint64_t)KV_MAX_VALUE + (64u << 20))
#define MARKS  64 /* bytes that are looked at, all over the value */
#define MEMORY (UINT64_C(3) << 30)

static char key[KV_MAX_KEY + 1];

static uint64_t free_memory(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib * 1024;
}

static struct kv *open_pool(const char *path)
{
    struct kv_options options = {.size = POOL,
                                 .durability = KV_DURABILITY_PROCESS,
                                 .max_value = KV_MAX_VALUE};
    char error[256] = "";
    struct kv *kv;
    ck_assert_msg(kv_open(path, &options, &kv, error, sizeof(error)) == 0, "%s",
                  error);
    kv_set_time(kv, 1000);
    return kv;
}

static size_t place_of(unsigned mark)
{
    return (size_t)((uint64_t)(KV_MAX_VALUE - 1) * mark / (MARKS - 1));
}

static void check_value(struct kv *kv)
{
    struct kv_item item;
    unsigned char byte;
    ck_assert_int_eq(kv_get(kv, key, KV_MAX_KEY, &item), KV_OK);
    ck_assert_uint_eq(item.len, KV_MAX_VALUE);
    for (unsigned i = 0; i < MARKS; i++) {
        ck_assert_uint_eq(kv_copy_value(kv, &item, place_of(i), &byte, 1), 1);
        ck_assert_uint_eq(byte, i + 1);
    }
    ck_assert_int_eq(
        kv_read(kv, key, KV_MAX_KEY, KV_MAX_VALUE - 1, &byte, 1, &item), KV_OK);
    ck_assert_uint_eq(byte, MARKS);
}

START_TEST(the_longest_key_has_the_largest_value)
{
    struct kv_reservation r;
    char path[32];
    int fd = memfd_create("pool", MFD_CLOEXEC);
    if (free_memory() < MEMORY) {
        puts("no memory for the largest value");
        return;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    memset(key, 'k', sizeof(key));
    struct kv *kv = open_pool(path);
    ck_assert_int_eq(kv_reserve(kv, KV_MAX_KEY, (size_t)KV_MAX_VALUE + 1, &r),
                     KV_TOO_LARGE);
    ck_assert_int_eq(kv_reserve(kv, KV_MAX_KEY + 1, 1, &r), KV_TOO_LARGE);
    ck_assert_int_eq(kv_reserve(kv, KV_MAX_KEY, KV_MAX_VALUE, &r), KV_OK);
    for (unsigned i = 0; i < MARKS; i++) {
        size_t room;
        unsigned char *at = kv_reserved(kv, &r, place_of(i), &room);
        *at = (unsigned char)(i + 1);
    }
    ck_assert_int_eq(kv_publish(kv, &r, KV_SET, key, KV_MAX_KEY, 0, 0, 0, NULL),
                     KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    check_value(kv);
    ck_assert_int_eq(
        kv_store(kv, KV_APPEND, key, KV_MAX_KEY, 0, 0, 0, "x", 1, NULL),
        KV_TOO_LARGE);
    ck_assert_int_eq(
        kv_write(kv, key, KV_MAX_KEY, KV_MAX_VALUE, "x", 1, 0, NULL),
        KV_TOO_LARGE);
    ck_assert_int_eq(kv_write(kv, key, KV_MAX_KEY, 5, "x", 1, 0, NULL),
                     KV_NO_SPACE); /* there would be two of them */
    check_value(kv);
    ck_assert_int_eq(kv_close(kv), 0);
    kv = open_pool(path);
    while (kv_catch_up(kv))
        continue;
    check_value(kv);
    ck_assert_int_eq(kv_delete(kv, key, KV_MAX_KEY), KV_OK);
    ck_assert_int_eq(kv_commit(kv), KV_OK);
    kv_unpin_all(kv);
    ck_assert_int_eq(kv_reserve(kv, KV_MAX_KEY, KV_MAX_VALUE, &r), KV_OK);
    kv_cancel(kv, &r);
    ck_assert_int_eq(kv_close(kv), 0);
    close(fd);
}
END_TEST

int main(void)
{
    log_threshold = LOG_NONE;
    Suite *suite = suite_create("limits");
    TCase *tcase = tcase_create("limits");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, the_longest_key_has_the_largest_value);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
