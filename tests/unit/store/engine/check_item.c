/* The forms of an item, and what counts as whole. */
#include "store/engine/item.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE 8192u
#define BLOB 4096u

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
    struct item_value value = {bytes + 1, bytes + 3, vlen / 3, vlen - vlen / 3};
    struct item_meta meta = {.cas = 7, .exptime = 8, .flags = 9, .tag = 10};
    item_write(&pm, entry(), item_blob_size(klen, vlen) ? BLOB : 0, bytes, klen,
               &value, vlen, &meta);
}

START_TEST(every_size_is_read_as_it_was_written)
{
    for (uint32_t klen = 1; klen <= 40; klen++)
        for (uint32_t vlen = 0; vlen <= 40; vlen++) {
            entry()->owner = 0x5555;
            write_item(klen, vlen);
            ck_assert(item_valid(entry(), BLOB, SIZE));
            struct item_text text = item_read(pm.base, entry());
            ck_assert_uint_eq(text.klen, klen);
            ck_assert_uint_eq(text.vlen, vlen);
            ck_assert(memcmp(text.key, bytes, klen) == 0);
            ck_assert(memcmp(text.value, bytes + 1, vlen / 3) == 0);
            ck_assert(
                memcmp(text.value + vlen / 3, bytes + 3, vlen - vlen / 3) == 0);
            ck_assert_uint_eq(entry()->cas, 7);
            ck_assert_uint_eq(entry()->meta, item_meta_word(8, 9));
            ck_assert_uint_eq(entry()->tag, 10);
            ck_assert_uint_eq(entry()->owner, 0x5555);
        }
}
END_TEST

START_TEST(what_fits_into_an_entry_needs_no_blob)
{
    uint64_t offset, len;
    ck_assert_uint_eq(item_blob_size(16, 16), 0);
    ck_assert_uint_eq(item_blob_size(32, 0), 0);
    ck_assert_uint_eq(item_blob_size(16, 17), 17);
    ck_assert_uint_eq(item_blob_size(17, 16), 33);
    ck_assert_uint_eq(item_blob_prefix(16), 0);
    ck_assert_uint_eq(item_blob_prefix(17), 17);
    write_item(16, 16);
    ck_assert(!item_blob(entry(), &offset, &len));
    write_item(20, 20);
    ck_assert(item_blob(entry(), &offset, &len));
    ck_assert_uint_eq(offset, BLOB);
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
            missed += item_valid(entry(), BLOB, SIZE);
            tried++;
            pm.base[at] ^= (unsigned char)(1 << bit);
        }
    ck_assert(item_valid(entry(), BLOB, SIZE));
    ck_assert_int_lt(missed, tried / 32);
}
END_TEST

/* Give an entry that was changed the check byte that fits. */
static bool valid_with_some_check(void)
{
    for (int check = 0; check < 256; check++) {
        entry()->check = (uint8_t)check;
        if (item_valid(entry(), BLOB, SIZE))
            return true;
    }
    return false;
}

START_TEST(lengths_and_offsets_out_of_bounds_are_not_valid)
{
    write_item(10, 10);
    entry()->klen = 0;
    ck_assert(!valid_with_some_check());
    entry()->klen = 23;
    ck_assert(!valid_with_some_check());
    entry()->klen = 33;
    ck_assert(!valid_with_some_check());
    entry()->klen = 10;
    ck_assert(valid_with_some_check());
    entry()->form = 4;
    ck_assert(!valid_with_some_check());
    entry()->form = HOP_FREE;
    ck_assert(!valid_with_some_check());
    write_item(10, 40);
    entry()->near.offset = SIZE - 39;
    ck_assert(!valid_with_some_check());
    entry()->near.offset = SIZE - 40;
    ck_assert(valid_with_some_check());
    entry()->near.offset = UINT64_MAX - 20;
    ck_assert(!valid_with_some_check());
    entry()->near.offset = 64; /* the table is no place for values */
    ck_assert(!valid_with_some_check());
    write_item(20, 40);
    entry()->far.vlen = UINT32_MAX;
    ck_assert(!valid_with_some_check());
    entry()->far.vlen = 40;
    entry()->far.klen = 16;
    ck_assert(!valid_with_some_check());
    entry()->far.klen = 256;
    ck_assert(!valid_with_some_check());
    memset(entry(), 0, sizeof(*entry()));
    ck_assert(!item_valid(entry(), BLOB, SIZE));
}
END_TEST

START_TEST(a_moved_item_is_the_same_with_its_new_meta_word)
{
    struct hop_entry *to = entry() + 3;
    write_item(16, 30);
    to->owner = 3;
    item_move(&pm, to, entry(), item_meta_word(100, 200));
    ck_assert(item_valid(to, BLOB, SIZE));
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
    tcase_add_test(tcase, lengths_and_offsets_out_of_bounds_are_not_valid);
    tcase_add_test(tcase, a_moved_item_is_the_same_with_its_new_meta_word);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
