/* The fastsock command at the door of a process. */
#include "preload/admin.h"

#include <check.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/admin_layout.h"
#include "preload/stats.h"
#include "tests/support/run_suite.h"
#include "transport/loop.h"

static struct endpoint one;
static struct loop *loop;

static int keep(int fd)
{
    return fd;
}

static void let_go(int fd)
{
    close(fd);
}

static void start(void)
{
    static const struct loop_calls calls = {keep, let_go};

    ck_assert_ptr_nonnull(stats_open_row(&one));
    ck_assert_int_eq(loop_create(&calls, &loop), 0);
    admin_start(loop);
}

static bool never_sleep(void *arg)
{
    (void)arg;
    return false;
}

static void turn(int times)
{
    for (int i = 0; i < times; i++)
        loop_turn(loop, never_sleep, NULL);
}

static int call(void)
{
    struct sockaddr_un un;
    socklen_t len = admin_address(stats_inode(), &un);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, len), 0);
    turn(1);
    return fd;
}

static void ask(int fd, uint32_t command, int32_t about)
{
    struct admin_request request = {ADMIN_MAGIC, command, about, 0};

    ck_assert_int_eq(send(fd, &request, sizeof(request), MSG_NOSIGNAL),
                     sizeof(request));
    turn(2);
}

static int answer(int fd)
{
    struct admin_reply reply;

    ck_assert_int_eq(recv(fd, &reply, sizeof(reply), 0), sizeof(reply));
    ck_assert_uint_eq(reply.magic, ADMIN_MAGIC);
    ck_assert_int_eq(recv(fd, &reply, sizeof(reply), 0), 0);
    close(fd);
    return reply.result;
}

START_TEST(each_request_has_one_answer)
{
    int fd = call();

    ask(fd, ADMIN_DOWN, ADMIN_ALL);
    ck_assert_int_eq(answer(fd), 0);
    fd = call();
    ask(fd, ADMIN_UP, ADMIN_ALL);
    ck_assert_int_eq(answer(fd), 0);
}
END_TEST

START_TEST(requests_about_nothing_are_refused)
{
    static const int32_t odd[] = {0, 999, INT32_MAX};
    int fd;

    for (int i = 0; i < 3; i++) {
        fd = call();
        ask(fd, ADMIN_DOWN, odd[i]);
        ck_assert_int_eq(answer(fd), -EBADF);
    }
    fd = call();
    ask(fd, ADMIN_DOWN, INT32_MIN);
    ck_assert_int_eq(answer(fd), -EINVAL);
    fd = call();
    ask(fd, 77, ADMIN_ALL);
    ck_assert_int_eq(answer(fd), -EOPNOTSUPP);
}
END_TEST

START_TEST(what_is_no_request_is_hung_up_on)
{
    char c = 'x';
    int fd = call();

    ck_assert_int_eq(send(fd, &c, 1, MSG_NOSIGNAL), 1);
    turn(2);
    ck_assert_int_eq(recv(fd, &c, 1, 0), 0);
    close(fd);
}
END_TEST

START_TEST(callers_beyond_the_fourth_wait_for_their_turn)
{
    int fd[8];

    for (int i = 0; i < 8; i++)
        fd[i] = call();
    for (int i = 7; i >= 0; i--)
        ask(fd[i], ADMIN_UP, ADMIN_ALL);
    turn(16);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(answer(fd[i]), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("admin");
    TCase *t = tcase_create("requests");

    tcase_add_checked_fixture(t, start, NULL);
    tcase_add_test(t, each_request_has_one_answer);
    tcase_add_test(t, requests_about_nothing_are_refused);
    tcase_add_test(t, what_is_no_request_is_hung_up_on);
    tcase_add_test(t, callers_beyond_the_fourth_wait_for_their_turn);
    suite_add_tcase(suite, t);
    return run_suite(suite);
}
