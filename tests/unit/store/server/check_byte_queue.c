#include "store/server/byte_queue.h"

#include <check.h>
#include <string.h>

#include "tests/support/run_suite.h"

START_TEST(bytes_come_out_in_the_order_they_went_in)
{
    struct block_pool pool = {0};
    struct byte_queue q = {0};
    unsigned char next_in = 0, next_out = 0;
    unsigned wrong = 0;

    for (int round = 1; round < 2000; round++) {
        size_t n = (size_t)round * 37 % 9000 + 1;
        char *room = byte_queue_room(&q, &pool, n);

        ck_assert_ptr_nonnull(room);
        for (size_t i = 0; i < n; i++)
            room[i] = (char)next_in++;
        q.end += n;
        n = (size_t)round * 91 % (byte_queue_len(&q) + 1);
        for (size_t i = 0; i < n; i++)
            wrong += (unsigned char)q.data[q.start + i] != next_out++;
        byte_queue_take(&q, &pool, n);
    }
    ck_assert_uint_eq(wrong, 0);
    byte_queue_fini(&q, &pool);
    block_pool_fini(&pool);
}
END_TEST

START_TEST(an_empty_queue_gives_its_block_to_the_next)
{
    struct block_pool pool = {0};
    struct byte_queue a = {0}, b = {0};
    char *block = byte_queue_room(&a, &pool, 1);

    a.end++;
    byte_queue_take(&a, &pool, 1);
    ck_assert_ptr_null(a.data);
    ck_assert_uint_eq(pool.n, 1);
    ck_assert_ptr_eq(byte_queue_room(&b, &pool, 100), block);
    ck_assert_uint_eq(pool.n, 0);
    byte_queue_fini(&b, &pool);
    block_pool_fini(&pool);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("byte_queue");
    TCase *t = tcase_create("byte_queue");

    tcase_add_test(t, bytes_come_out_in_the_order_they_went_in);
    tcase_add_test(t, an_empty_queue_gives_its_block_to_the_next);
    suite_add_tcase(s, t);
    return run_suite(s);
}
