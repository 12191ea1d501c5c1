#include "store/engine/memory_table.h"

#include "store/engine/hash.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct memory_table table;

static void add(uint32_t key)
{
    struct memory_item *item = calloc(1, sizeof(*item) + sizeof(key));
    ck_assert_ptr_nonnull(item);
    memcpy(item->bytes, &key, sizeof(key));
    item->klen = sizeof(key);
    item->hash = hash_key(7, &key, sizeof(key));
    memory_table_insert(&table, item);
}

static struct memory_item **find(uint32_t key)
{
    return memory_table_find(&table, hash_key(7, &key, sizeof(key)), &key,
                             sizeof(key));
}

START_TEST(items_are_found_at_every_moment_while_chains_double)
{
    ck_assert_int_eq(memory_table_init(&table), 0);
    for (uint32_t n = 0; n < 3000; n++) {
        add(n);
        for (uint32_t k = n % 7; k <= n; k += 499)
            ck_assert_ptr_nonnull(*find(k));
        ck_assert_ptr_nonnull(*find(n));
        ck_assert_ptr_null(*find(n + 1));
    }
    for (uint32_t n = 0; n < 3000; n += 2)
        free(memory_table_remove(&table, find(n)));
    for (uint32_t n = 0; n < 3000; n++)
        ck_assert(!*find(n) == (n % 2 == 0));
    ck_assert_uint_eq(table.n, 1500);
    ck_assert_uint_ge(memory_table_bytes(&table), 1500 * sizeof(void *));
    memory_table_fini(&table);
}
END_TEST

START_TEST(a_walk_meets_each_item_once_while_chains_double_around_it)
{
    static unsigned char seen[1000];
    uint32_t others = 1000;
    uint64_t cursor = 0;
    ck_assert_int_eq(memory_table_init(&table), 0);
    for (uint32_t k = 0; k < 1000; k++)
        add(k);
    do {
        const struct memory_item *item =
            *memory_table_chain(&table, cursor, &cursor);
        for (; item; item = item->next) {
            uint32_t key;
            memcpy(&key, item->bytes, sizeof(key));
            if (key < 1000)
                seen[key]++;
        }
        for (int i = 0; i < 5 && others < 6000; i++)
            add(others++);
    } while (cursor != 0);
    ck_assert_uint_gt(others, 4000);
    for (uint32_t k = 0; k < 1000; k++)
        ck_assert_uint_eq(seen[k], 1);
    memory_table_fini(&table);
}
END_TEST

START_TEST(the_list_is_in_the_order_of_use)
{
    ck_assert_int_eq(memory_table_init(&table), 0);
    for (uint32_t k = 0; k < 4; k++)
        add(k);
    memory_table_touch(&table, *find(1));
    memory_table_touch(&table, *find(1));
    ck_assert_ptr_eq(TAILQ_FIRST(&table.used), *find(1));
    ck_assert_ptr_eq(TAILQ_LAST(&table.used, memory_list), *find(0));
    memory_table_fini(&table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory table");
    TCase *tcase = tcase_create("memory table");
    tcase_add_test(tcase, items_are_found_at_every_moment_while_chains_double);
    tcase_add_test(tcase,
                   a_walk_meets_each_item_once_while_chains_double_around_it);
    tcase_add_test(tcase, the_list_is_in_the_order_of_use);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
