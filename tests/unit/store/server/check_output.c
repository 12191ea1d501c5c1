#include "store/server/output.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

#define TOTAL (4 << 20) /* bytes of a round */

static unsigned long state = 1;

static size_t below(size_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
}

/* Takes what has come and compares it with what was put in. */
static void receive(int fd, const char *want, size_t *at)
{
    static char buf[1 << 20];
    ssize_t n = read(fd, buf, 1 + below(sizeof(buf)));

    if (n > 0) {
        ck_assert(memcmp(buf, want + *at, (size_t)n) == 0);
        *at += (size_t)n;
    }
}

START_TEST(bytes_leave_in_order_however_little_the_kernel_takes)
{
    char *data = malloc(TOTAL);
    struct block_pool pool = {0};
    struct output out = {0};
    size_t put = 0, got = 0, sent = 0;
    int ends[2], small = 8192;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
                     0);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = (char)below(256);
    while (got < TOTAL) {
        for (size_t n = below(40); n > 0 && put < TOTAL; n--) {
            size_t len = below(4) == 0 ? OUTPUT_BORROW_FROM + below(50000)
                                       : 1 + below(300);

            if (len > TOTAL - put)
                len = TOTAL - put;
            ck_assert_int_eq(below(3)
                                 ? output_borrow(&out, &pool, data + put, len)
                                 : output_put(&out, &pool, data + put, len),
                             0);
            put += len;
        }
        ck_assert_uint_eq(output_pending(&out), put - sent);
        if (output_pending(&out) > 0) {
            ssize_t n = output_send(&out, &pool, ends[1]);

            ck_assert(n > 0 || n == -EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
        }
        if (below(2))
            ck_assert_int_eq(output_settle(&out, &pool), 0);
        receive(ends[0], data, &got);
    }
    ck_assert_uint_eq(output_pending(&out), 0);
    output_fini(&out, &pool);
    block_pool_fini(&pool);
    close(ends[0]);
    close(ends[1]);
    free(data);
}
END_TEST

START_TEST(settled_bytes_no_longer_need_what_they_were_borrowed_from)
{
    static char lent[OUTPUT_BORROW_FROM], back[sizeof(lent) + 2];
    struct block_pool pool = {0};
    struct output out = {0};
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    memset(lent, 'x', sizeof(lent));
    output_put(&out, &pool, "<", 1);
    output_borrow(&out, &pool, lent, sizeof(lent));
    output_put(&out, &pool, ">", 1);
    ck_assert_int_eq(output_settle(&out, &pool), 0);
    memset(lent, 'y', sizeof(lent));
    ck_assert_int_eq(output_send(&out, &pool, ends[1]), sizeof(back));
    ck_assert_int_eq(recv(ends[0], back, sizeof(back), MSG_WAITALL),
                     sizeof(back));
    ck_assert_int_eq(back[0], '<');
    ck_assert_int_eq(back[1], 'x');
    ck_assert_int_eq(back[sizeof(back) - 2], 'x');
    ck_assert_int_eq(back[sizeof(back) - 1], '>');
    block_pool_fini(&pool);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(a_peer_that_is_gone_is_an_error_and_no_signal)
{
    struct block_pool pool = {0};
    struct output out = {0};
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    close(ends[0]);
    output_put(&out, &pool, "x", 1);
    ck_assert_int_eq(output_send(&out, &pool, ends[1]), -EPIPE);
    ck_assert_uint_eq(output_pending(&out), 1);
    output_fini(&out, &pool);
    block_pool_fini(&pool);
    close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("output");
    TCase *t = tcase_create("output");

    tcase_add_test(t, bytes_leave_in_order_however_little_the_kernel_takes);
    tcase_add_test(t,
                   settled_bytes_no_longer_need_what_they_were_borrowed_from);
    tcase_add_test(t, a_peer_that_is_gone_is_an_error_and_no_signal);
    suite_add_tcase(s, t);
    return run_suite(s);
}
