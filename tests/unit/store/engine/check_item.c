/* The forms of an item, and what counts as whole. */
#include "store/engine/item.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define SIZE 8192u
#define BLOB 4096u
#define HASH 0x123456789a000000u /* the bits that an entry keeps */

static struct pm pm;
static int fd;

static void map(void)
{
    fd = memfd_create("item", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, SIZE), 0);
    ck_assert_int_eq(pm_map(&pm, fd, SIZE, PM_PROCESS, NULL), 0);
}

static void unmap(void)
{
    pm_unmap(&pm);
    close(fd);
}

static struct hop_entry *entry(void)
{
    return (struct hop_entry *)(void *)pm.base;
}

static const char bytes[] = "0123456789abcdefghijklmnopqrstuvwxyz"
                            "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

static void write_item(uint32_t klen, uint32_t vlen)
{
    struct item_value value = {
        .head = {.bytes = bytes + 1, .len = vlen / 3},
        .tail = {.bytes = bytes + 3, .len = vlen - vlen / 3}};
    struct item_meta meta = {.cas = 7, .exptime = 8, .flags = 9, .hash = HASH};
    struct item_blob blob = {.offset = item_blob_size(klen, vlen) ? BLOB : 0};
    item_write(&pm, entry(), &blob, bytes, klen, &value, vlen, &meta);
}

START_TEST(every_size_is_read_as_it_was_written)
{
    for (uint32_t klen = 1; klen <= 40; klen++)
        for (uint32_t vlen = 0; vlen <= 40; vlen++) {
            entry()->owner = 0x5555;
            write_item(klen, vlen);
            ck_assert(item_valid(entry()));
            struct item_text text = item_read(pm.base, entry());
            ck_assert_uint_eq(text.klen, klen);
            ck_assert_uint_eq(text.vlen, vlen);
            ck_assert(memcmp(text.key, bytes, klen) == 0);
            ck_assert(memcmp(text.value, bytes + 1, vlen / 3) == 0);
            ck_assert(
                memcmp(text.value + vlen / 3, bytes + 3, vlen - vlen / 3) == 0);
            ck_assert_uint_eq(entry()->cas, 7);
            ck_assert_uint_eq(entry()->meta, item_meta_word(8, 9));
            ck_assert_uint_eq(item_hash(entry()), HASH);
            ck_assert_uint_eq(entry()->owner, 0x5555);
        }
}
END_TEST

START_TEST(what_fits_into_an_entry_needs_no_blob)
{
    struct item_blob blob;
    uint64_t len;
    ck_assert_uint_eq(item_blob_size(16, 16), 0);
    ck_assert_uint_eq(item_blob_size(32, 0), 0);
    ck_assert_uint_eq(item_blob_size(16, 17), 17);
    ck_assert_uint_eq(item_blob_size(17, 16), 33);
    ck_assert_uint_eq(item_blob_prefix(16), 0);
    ck_assert_uint_eq(item_blob_prefix(17), 17);
    write_item(16, 16);
    ck_assert(!item_blob(entry(), &blob, &len));
    write_item(20, 20);
    ck_assert(item_blob(entry(), &blob, &len));
    ck_assert_uint_eq(blob.offset, BLOB);
    ck_assert_uint_eq(len, 40);
}
END_TEST

/* Seven bits of check find all but one in 128 of what may happen. */
START_TEST(a_changed_entry_is_not_valid)
{
    int missed = 0, tried = 0;
    write_item(10, 10);
    for (size_t at = offsetof(struct hop_entry, cas); at < 64; at++)
        for (int bit = 0; bit < 8; bit++) {
            if (at >= 16 && at < 24)
                continue; /* the meta word changes in place */
            pm.base[at] ^= (unsigned char)(1 << bit);
            missed += item_valid(entry());
            tried++;
            pm.base[at] ^= (unsigned char)(1 << bit);
        }
    ck_assert(item_valid(entry()));
    ck_assert_int_lt(missed, tried / 32);
}
END_TEST

/* Give an entry that was changed the check byte that fits. */
static bool valid_with_some_check(void)
{
    for (int check = 0; check < 256; check++) {
        entry()->check = (uint8_t)check;
        if (item_valid(entry()))
            return true;
    }
    return false;
}

START_TEST(impossible_forms_and_lengths_are_not_valid)
{
    write_item(10, 10);
    entry()->shape = HOP_INLINE_ITEM << 5 | 22; /* 23 and 10 bytes */
    ck_assert(!valid_with_some_check());
    entry()->shape = HOP_INLINE_ITEM << 5 | 21;
    ck_assert(valid_with_some_check());
    entry()->shape = 6 << 5;
    ck_assert(!valid_with_some_check());
    entry()->shape = HOP_FREE;
    ck_assert(!valid_with_some_check());
    write_item(10, 40);
    entry()->shape = HOP_NEAR_ITEM << 5 | 16;
    ck_assert(!valid_with_some_check());
    entry()->shape = HOP_NEAR_CHAIN << 5 | 15;
    ck_assert(valid_with_some_check());
    entry()->near.vlen = 0;
    ck_assert(!valid_with_some_check());
    write_item(20, 40);
    entry()->far.klen = 16;
    ck_assert(!valid_with_some_check());
    memset(entry(), 0, sizeof(*entry()));
    ck_assert(!item_valid(entry()));
}
END_TEST

/* Pieces of 100, 7 and the rest of the bytes. */
static void make_chain(uint64_t rest)
{
    struct hop_piece first = {BLOB + 256, 100, 0};
    struct hop_piece second = {BLOB + 512, 7, 0};
    struct hop_piece third = {0, (uint32_t)rest, 0};
    memcpy(pm.base + BLOB, &first, sizeof(first));
    memcpy(pm.base + BLOB + 256, &second, sizeof(second));
    memcpy(pm.base + BLOB + 512, &third, sizeof(third));
}

static size_t collect(const struct item_source *source, uint8_t *out)
{
    struct item_runs runs;
    size_t len = 0;
    item_runs_begin(&runs, pm.base, source);
    while (item_runs_next(&runs)) {
        memcpy(out + len, runs.bytes, runs.len);
        len += runs.len;
    }
    return len;
}

START_TEST(a_value_in_pieces_is_read_as_it_was_written)
{
    static uint8_t value[300], out[700];
    struct item_blob blob = {BLOB, true}, found;
    struct item_meta meta = {.hash = HASH};
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = (uint8_t)(i * 7);
    for (uint32_t klen = 10; klen <= 60; klen += 25) { /* near, far */
        struct item_value whole = {.head = {.bytes = value, .len = 130},
                                   .tail = {.bytes = value + 130, .len = 170}};
        make_chain(item_blob_size(klen, 300) - 107);
        item_write(&pm, entry(), &blob, bytes, klen, &whole, 300, &meta);
        ck_assert(item_valid(entry()));
        uint64_t len;
        ck_assert(item_blob(entry(), &found, &len));
        ck_assert(found.chained && found.offset == BLOB);
        struct item_text text = item_read(pm.base, entry());
        ck_assert_ptr_null(text.value);
        ck_assert_uint_eq(text.klen, klen);
        ck_assert(memcmp(text.key, bytes, klen) == 0);
        struct item_source source = item_value_source(pm.base, entry());
        ck_assert_uint_eq(collect(&source, out), 300);
        ck_assert(memcmp(out, value, 300) == 0);
    }
}
END_TEST

START_TEST(a_moved_item_is_the_same_with_its_new_meta_word)
{
    struct hop_entry *to = entry() + 3;
    write_item(16, 30);
    to->owner = 3;
    item_move(&pm, to, entry(), item_meta_word(100, 200));
    ck_assert(item_valid(to));
    ck_assert_uint_eq(to->exptime, 100);
    ck_assert_uint_eq(to->flags, 200);
    ck_assert_uint_eq(to->owner, 3);
    ck_assert_uint_eq(to->near.offset, BLOB);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("item");
    TCase *tcase = tcase_create("item");
    tcase_add_checked_fixture(tcase, map, unmap);
    tcase_add_test(tcase, every_size_is_read_as_it_was_written);
    tcase_add_test(tcase, what_fits_into_an_entry_needs_no_blob);
    tcase_add_test(tcase, a_changed_entry_is_not_valid);
    tcase_add_test(tcase, impossible_forms_and_lengths_are_not_valid);
    tcase_add_test(tcase, a_value_in_pieces_is_read_as_it_was_written);
    tcase_add_test(tcase, a_moved_item_is_the_same_with_its_new_meta_word);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
