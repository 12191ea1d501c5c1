#include "preload/fd_table.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/run_suite.h"

static struct object endpoint = {.kind = OBJECT_ENDPOINT},
                     set = {.kind = OBJECT_EPOLL};

START_TEST(every_number_is_safe_to_ask_for)
{
    static const int numbers[] = {
        INT_MIN, -100, -1, 0, 1023, FD_ROWS - 1, FD_ROWS, FD_ROWS + 1, INT_MAX};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        ck_assert_ptr_null(fd_find(numbers[i]));
        ck_assert_ptr_null(fd_endpoint(numbers[i]));
        ck_assert_ptr_null(fd_set_row(numbers[i], NULL));
    }
    ck_assert_ptr_null(fd_set_row(-1, &endpoint));
    ck_assert_ptr_null(fd_set_row(FD_ROWS, &endpoint));
    ck_assert_ptr_null(fd_find(-1));
    ck_assert_ptr_null(fd_find(FD_ROWS));
}
END_TEST

START_TEST(a_row_is_found_replaced_and_forgotten)
{
    ck_assert_ptr_null(fd_set_row(7, &endpoint));
    ck_assert_ptr_eq(fd_find(7), &endpoint);
    ck_assert_ptr_null(fd_find(6));
    ck_assert_ptr_null(fd_find(8));
    ck_assert_ptr_eq(fd_set_row(7, &set), &endpoint);
    ck_assert_ptr_eq(fd_find(7), &set);
    ck_assert_ptr_eq(fd_set_row(7, NULL), &set);
    ck_assert_ptr_null(fd_find(7));
}
END_TEST

START_TEST(only_a_socket_is_an_endpoint)
{
    fd_set_row(7, &endpoint);
    fd_set_row(8, &set);
    ck_assert_ptr_eq(fd_endpoint(7), (struct endpoint *)&endpoint);
    ck_assert_ptr_null(fd_endpoint(8));
    fd_set_row(7, NULL);
    fd_set_row(8, NULL);
}
END_TEST

START_TEST(the_rows_used_end_behind_the_highest_ever_set)
{
    ck_assert_uint_eq(fd_rows_used(), 0);
    fd_set_row(500, NULL);
    ck_assert_uint_eq(fd_rows_used(), 0);
    fd_set_row(9, &set);
    fd_set_row(3, &set);
    ck_assert_uint_eq(fd_rows_used(), 10);
    fd_set_row(9, NULL);
    ck_assert_uint_eq(fd_rows_used(), 10);
    fd_set_row(FD_ROWS - 1, &set);
    ck_assert_uint_eq(fd_rows_used(), FD_ROWS);
}
END_TEST

START_TEST(a_descriptor_of_ours_moves_out_of_the_applications_way)
{
    int low = open("/dev/null", O_RDONLY), high = ours_keep(low);

    ck_assert_int_ge(high, 64);
    ck_assert_int_lt(fcntl(low, F_GETFD), 0);
    ck_assert_int_eq(fcntl(high, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(fd_find(high)->kind, OBJECT_OURS);
    ck_assert_ptr_null(fd_endpoint(high));
    ours_close(high);
    ck_assert_int_lt(fcntl(high, F_GETFD), 0);
    ck_assert_ptr_null(fd_find(high));
    ours_close(-1);
}
END_TEST

/* As the kernel says. */
static long table_size(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[128];
    long n = 0;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "FDSize: %ld", &n) == 1)
            break;
    fclose(f);
    return n;
}

START_TEST(room_for_ours_is_made_once_and_in_a_child_again)
{
    struct rlimit many;
    int status;
    pid_t child;

    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &many), 0);
    ck_assert_uint_ge(many.rlim_max, 4096);
    many.rlim_cur = 4096;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
    ck_assert_int_lt(table_size(), 3072);
    ours_make_room(0);
    ck_assert_int_gt(table_size(), 3072);
    ck_assert_int_eq(fcntl(3072, F_GETFD), -1);
    ck_assert_ptr_null(fd_find(3072));
    child = fork();
    if (child == 0) {
        long before = table_size();

        ours_make_room(0);
        if (before > 3072 || table_size() > before)
            _exit(1); /* the parent's flag */
        ours_after_fork(true);
        ours_make_room(0);
        _exit(table_size() > 3072 ? 0 : 2);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(a_failure_is_passed_on)
{
    ck_assert_int_eq(ours_keep(-EMFILE), -EMFILE);
    ck_assert_int_lt(ours_keep(-1), 0);
}
END_TEST

START_TEST(where_there_is_no_room_above_a_descriptor_stays_where_it_is)
{
    struct rlimit limit = {32, 32};
    int low = open("/dev/null", O_RDONLY);

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(ours_keep(low), low);
    ck_assert_int_eq(fd_find(low)->kind, OBJECT_OURS);
    ours_close(low);
    ck_assert_ptr_null(fd_find(low));
}
END_TEST

static _Atomic bool enough;

static void *come_and_go(void *arg)
{
    int fd = *(int *)arg;

    while (!atomic_load(&enough)) {
        ours_close(ours_copy(fd));
        ours_close(ours_keep(dup(fd)));
    }
    return NULL;
}

START_TEST(at_a_fork_no_descriptor_of_ours_is_open_without_its_row)
{
    int fd = open("/dev/null", O_RDONLY), high = ours_copy(fd), seen = 0;
    pthread_t thread;

    ck_assert_int_eq(fcntl(high, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(pthread_create(&thread, NULL, come_and_go, &fd), 0);
    for (int i = 0; i < 100000 && (i < 20000 || seen == 0); i++) {
        bool open_now;

        ours_before_fork();
        open_now = fcntl(high + 1, F_GETFD) >= 0;
        ck_assert_int_eq(open_now, fd_find(high + 1) != NULL);
        seen += open_now;
        ours_after_fork(false);
    }
    atomic_store(&enough, true);
    pthread_join(thread, NULL);
    ours_close(high);
    close(fd);
}
END_TEST

START_TEST(the_child_of_a_fork_may_change_what_is_ours)
{
    ours_before_fork();
    ours_after_fork(true);
    ours_close(ours_copy(0));
    ours_before_fork();
    ours_after_fork(false);
    ours_close(ours_copy(0));
}
END_TEST

START_TEST(of_two_that_close_a_number_one_does)
{
    static struct object other = {.kind = OBJECT_ENDPOINT};

    fd_set_row(70, &endpoint);
    ck_assert(fd_claim(70, &endpoint));
    ck_assert(fd_is_claimed(70));
    ck_assert(!fd_claim(70, &endpoint));
    ck_assert(!fd_is_claimed(71));
    ck_assert_ptr_eq(fd_find(70), &endpoint);
    fd_forget(70, &endpoint);
    ck_assert_ptr_null(fd_find(70));
    ck_assert(!fd_is_claimed(70));
    fd_set_row(70, &other);
    fd_forget(70, &endpoint); /* somebody else's by now */
    ck_assert_ptr_eq(fd_find(70), &other);
    ck_assert(!fd_claim(70, &endpoint));
    ck_assert(fd_claim(70, &other));
    fd_unclaim(70);
    fd_set_row(70, NULL);
}
END_TEST

/* The kernel has closed it and gives it out, before close() is through. */
START_TEST(who_is_given_a_number_that_is_being_closed_ends_the_claim)
{
    static struct object other = {.kind = OBJECT_ENDPOINT};
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), high = ours_copy(fd);

    fd_set_row(70, &endpoint);
    ck_assert(fd_claim(70, &endpoint));
    ck_assert_ptr_null(fd_set_row(70, &other)); /* it is cared for */
    ck_assert(!fd_is_claimed(70));
    fd_forget(70, &endpoint);
    ck_assert(fd_claim(70, &other));
    fd_forget(70, &other);
    ours_close(high);
    fd_set_row(high, &endpoint);
    ck_assert(fd_claim(high, &endpoint));
    ck_assert_int_eq(ours_copy(fd), high); /* one of ours it may be, too */
    ck_assert(!fd_is_claimed(high));
    ours_close(high);
    close(fd);
}
END_TEST

static void *lets_go(void *arg)
{
    usleep(20000);
    fd_unclaim(70);
    return arg;
}

START_TEST(who_closes_the_next_one_waits_for_who_closed_the_last)
{
    static struct object other = {.kind = OBJECT_ENDPOINT};
    pthread_t thread;

    fd_set_row(70, &endpoint);
    ck_assert(fd_claim(70, &endpoint));
    fd_rows[70] = &other; /* and it has not said so yet */
    pthread_create(&thread, NULL, lets_go, NULL);
    ck_assert(fd_claim(70, &other));
    pthread_join(thread, NULL);
    fd_forget(70, &other);
}
END_TEST

START_TEST(in_the_child_of_a_fork_nobody_goes_on_closing)
{
    static struct object other = {.kind = OBJECT_ENDPOINT};

    fd_set_row(70, &endpoint);
    fd_set_row(71, &other);
    ck_assert(fd_claim(70, &endpoint));
    fd_forget_claimed();
    ck_assert_ptr_null(fd_find(70));
    ck_assert_ptr_eq(fd_find(71), &other);
    ck_assert(!fd_is_claimed(70));
    fd_set_row(71, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fd_table");
    TCase *t = tcase_create("fd_table");

    tcase_add_test(t, every_number_is_safe_to_ask_for);
    tcase_add_test(t, a_row_is_found_replaced_and_forgotten);
    tcase_add_test(t, only_a_socket_is_an_endpoint);
    tcase_add_test(t, the_rows_used_end_behind_the_highest_ever_set);
    tcase_add_test(t, a_descriptor_of_ours_moves_out_of_the_applications_way);
    tcase_add_test(t, room_for_ours_is_made_once_and_in_a_child_again);
    tcase_add_test(t, a_failure_is_passed_on);
    tcase_add_test(t,
                   where_there_is_no_room_above_a_descriptor_stays_where_it_is);
    tcase_add_test(t, at_a_fork_no_descriptor_of_ours_is_open_without_its_row);
    tcase_add_test(t, the_child_of_a_fork_may_change_what_is_ours);
    tcase_add_test(t, of_two_that_close_a_number_one_does);
    tcase_add_test(t,
                   who_is_given_a_number_that_is_being_closed_ends_the_claim);
    tcase_add_test(t, who_closes_the_next_one_waits_for_who_closed_the_last);
    tcase_add_test(t, in_the_child_of_a_fork_nobody_goes_on_closing);
    suite_add_tcase(s, t);
    return run_suite(s);
}
