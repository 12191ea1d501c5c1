#include "store/server/connection.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "tests/unit/store/server/one_shard.h"

#define LARGE 200000 /* bytes of a value that goes straight to the pool */
#define QUIET 100    /* turns without a reply: there is none */

static char reply[8 << 20];
static char value[LARGE + 1];

static void setup(void)
{
    shard_start();
    memset(value, 'v', LARGE);
}

/* Sends and turns the loop until nothing more comes back. */
static const char *talk(int fd, const char *request, size_t len)
{
    size_t sent = 0, got = 0;

    for (int quiet = 0; quiet < QUIET;) {
        ssize_t n = send(fd, request + sent, len - sent, MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        ck_assert_int_eq(shard_turn(shard, 0), 0);
        n = read(fd, reply + got, sizeof(reply) - 1 - got);
        if (n > 0)
            got += (size_t)n;
        quiet = n > 0 ? 0 : quiet + 1;
    }
    reply[got] = '\0';
    return reply;
}

static const char *say(int fd, const char *request)
{
    return talk(fd, request, strlen(request));
}

static char *large_set(const char *key, const char *end)
{
    char *request = malloc(LARGE + 400);

    sprintf(request, "set %s 5 0 %d\r\n%s%s", key, LARGE, value, end);
    return request;
}

START_TEST(what_is_set_is_got)
{
    int fd = client();

    ck_assert_str_eq(say(fd, "set k 7 0 2\r\nhi\r\n"), "STORED\r\n");
    ck_assert_str_eq(say(fd, "get k x k\r\n"),
                     "VALUE k 7 2\r\nhi\r\nVALUE k 7 2\r\nhi\r\nEND\r\n");
    close(fd);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    int fd = client();

    ck_assert_str_eq(say(fd, "set n 0 0 1\r\n1\r\nincr n 4\r\nget n\r\n"
                             "delete n noreply\r\nget n\r\nversion\r\n"),
                     "STORED\r\n5\r\nVALUE n 0 1\r\n5\r\nEND\r\nEND\r\n"
                     "VERSION 1.6.18\r\n");
    close(fd);
}
END_TEST

START_TEST(a_request_may_come_byte_by_byte)
{
    const char *request = "set k 0 0 3\r\nabc\r\nget k\r\n";
    int fd = client();
    char all[200] = "";

    for (; *request != '\0'; request++) {
        ck_assert_int_eq(write(fd, request, 1), 1);
        shard_turn(shard, 0);
    }
    strcat(all, say(fd, ""));
    ck_assert_str_eq(all, "STORED\r\nVALUE k 0 3\r\nabc\r\nEND\r\n");
    close(fd);
}
END_TEST

START_TEST(a_large_value_comes_back_whole)
{
    char *set = large_set("big", "\r\nversion\r\n");
    static char want[LARGE + 200];
    int fd = client();

    ck_assert_str_eq(say(fd, set), "STORED\r\nVERSION 1.6.18\r\n");
    sprintf(want, "VALUE big 5 %d\r\n%s\r\nEND\r\n", LARGE, value);
    ck_assert_str_eq(say(fd, "get big\r\n"), want);
    ck_assert_uint_eq(shard->reserved, 0);
    free(set);
    close(fd);
}
END_TEST

START_TEST(a_large_value_with_a_bad_end_is_not_stored)
{
    char *set = large_set("big", "xyversion\r\n");
    int fd = client();

    ck_assert_str_eq(say(fd, set),
                     "CLIENT_ERROR bad data chunk\r\nVERSION 1.6.18\r\n");
    ck_assert_str_eq(say(fd, "get big\r\n"), "END\r\n");
    ck_assert_uint_eq(shard->reserved, 0);
    free(set);
    close(fd);
}
END_TEST

START_TEST(a_client_that_leaves_amid_a_large_value_leaves_nothing)
{
    char *set = large_set("big", "");
    int fd = client();

    say(fd, set);
    ck_assert_uint_eq(shard->reserved, LARGE);
    close(fd);
    shard_turn(shard, 0);
    ck_assert_uint_eq(shard->reserved, 0);
    ck_assert_uint_eq(shard->n_connections, 0);
    free(set);
}
END_TEST

START_TEST(too_much_reserved_is_out_of_memory_and_swallowed)
{
    char *set = large_set("big", "\r\nversion\r\n");
    int fd = client();

    shard->reserve_max = LARGE - 1;
    ck_assert_str_eq(say(fd, set), "SERVER_ERROR out of memory storing "
                                   "object\r\nVERSION 1.6.18\r\n");
    free(set);
    close(fd);
}
END_TEST

START_TEST(too_large_a_value_is_swallowed_and_the_old_one_goes)
{
    static char set[2 << 20];
    int fd = client();
    int n = sprintf(set, "set k 0 0 1500000\r\n");

    memset(set + n, 'x', 1500000);
    strcpy(set + n + 1500000, "\r\nget k\r\n");
    say(fd, "set k 0 0 1\r\n1\r\n");
    ck_assert_str_eq(say(fd, set),
                     "SERVER_ERROR object too large for cache\r\nEND\r\n");
    close(fd);
}
END_TEST

START_TEST(a_get_beyond_the_output_limit_goes_on_where_it_stopped)
{
    char *set = large_set("big", "\r\n");
    int fd = client();
    char get[256] = "get";
    size_t want =
        20 * (size_t)(LARGE + 2 + sizeof("VALUE big 5 200000\r\n") - 1) + 5;

    say(fd, set);
    for (int i = 0; i < 20; i++)
        strcat(get, " big");
    strcat(get, "\r\n");
    ck_assert_uint_eq(strlen(say(fd, get)), want);
    ck_assert_str_eq(reply + want - 5, "END\r\n");
    free(set);
    close(fd);
}
END_TEST

START_TEST(a_client_that_does_not_read_is_not_read_from)
{
    char *set = large_set("big", "\r\n");
    struct connection *c;
    int fd = client();
    size_t got = 0;

    say(fd, set);
    for (int i = 0; i < 200; i++) {
        ck_assert_int_ge(write(fd, "get big\r\n", 9), 0);
        shard_turn(shard, 0);
    }
    c = TAILQ_FIRST(&shard->all);
    ck_assert_uint_lt(output_pending(&c->out), OUTPUT_LIMIT + LARGE + 400);
    ck_assert_uint_gt(output_pending(&c->out), OUTPUT_LIMIT / 2);
    for (int quiet = 0; quiet < 5; quiet++) {
        ssize_t n = read(fd, reply, sizeof(reply));

        shard_turn(shard, 0);
        if (n > 0) {
            got += (size_t)n;
            quiet = 0;
        }
    }
    ck_assert_uint_eq(got, 200 * (size_t)(LARGE + 2 + 20 + 5));
    ck_assert_uint_eq(output_pending(&c->out), 0);
    free(set);
    close(fd);
}
END_TEST

START_TEST(a_value_replaced_in_the_same_turn_is_sent_as_it_was_read)
{
    static char want[LARGE + 200];
    char *set = large_set("big", "\r\n");
    int fd = client();

    say(fd, set);
    sprintf(want, "VALUE big 5 %d\r\n%s\r\nEND\r\nSTORED\r\n", LARGE, value);
    ck_assert_str_eq(say(fd, "get big\r\nset big 0 0 1\r\nx\r\n"), want);
    free(set);
    close(fd);
}
END_TEST

START_TEST(quit_answers_what_came_before_and_closes)
{
    int fd = client();
    char c;

    ck_assert_str_eq(say(fd, "version\r\nquit\r\nversion\r\n"),
                     "VERSION 1.6.18\r\n");
    ck_assert_int_eq(read(fd, &c, 1), 0);
    ck_assert_uint_eq(shard->n_connections, 0);
    close(fd);
}
END_TEST

/* As while another process looks at /proc/PID/fd: close() ends the number,
 * the socket lives on. */
START_TEST(a_closed_connection_is_not_heard_of_while_others_hold_its_socket)
{
    struct epoll_event event;
    int ends[2], held;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
                     0);
    held = dup(ends[1]);
    ck_assert_int_ge(held, 0);
    ck_assert_int_eq(connection_open(shard, ends[1], 0), 0);
    ck_assert_str_eq(say(ends[0], "quit\r\n"), "");
    ck_assert_uint_eq(shard->n_connections, 0);
    ck_assert_int_eq(write(ends[0], "version\r\n", 9), 9);
    close(ends[0]);
    ck_assert_int_eq(epoll_wait(shard->epoll_fd, &event, 1, 0), 0);
    close(held);
}
END_TEST

static double number_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    ck_assert_msg(at != NULL, "%s", name);
    return strtod(at + strlen(name), NULL);
}

START_TEST(stats_of_the_medium_are_what_the_stores_cost)
{
    enum { STORES = 100, LEN = 500 };
    static char request[LEN + 100];
    int fd = client();
    double fences = number_of(say(fd, "stats pm\r\n"), "STAT pm_fences ");

    for (int i = 0; i < STORES; i++) { /* each is a turn of its own */
        snprintf(request, sizeof(request), "set key%02d 0 0 %d\r\n%0*d\r\n", i,
                 LEN, LEN, i);
        ck_assert_str_eq(say(fd, request), "STORED\r\n");
    }
    const char *text = say(fd, "stats pm\r\n");
    double flushed = number_of(text, "STAT pm_flushed_bytes ");

    ck_assert_double_eq(number_of(text, "STAT pm_stores "), STORES);
    ck_assert_double_eq(number_of(text, "STAT pm_stored_bytes "),
                        STORES * (5 + LEN));
    fences = number_of(text, "STAT pm_fences ") - fences;
    ck_assert(fences >= 2 * STORES && fences < 2.3 * STORES);
    ck_assert(flushed > STORES * LEN && flushed < 2.5 * STORES * LEN);
    ck_assert_double_eq_tol(number_of(text, "STAT pm_write_amplification "),
                            flushed / (STORES * (5 + LEN)), 0.006);
    ck_assert_str_eq(text + strlen(text) - 5, "END\r\n");
    close(fd);
}
END_TEST

/* What is alone in its turn, and what shares one. */
START_TEST(stats_of_the_medium_tell_what_each_kind_of_operation_costs)
{
    static const char *const expected[] = {
        "STAT pm_insert_count 3\r\n",
        "STAT pm_insert_stored_bytes 6\r\n",
        "STAT pm_replace_count 2\r\n",
        "STAT pm_replace_stored_bytes 8\r\n",
        "STAT pm_replace_fences_per_op 2.000\r\n",
        "STAT pm_replace_flushed_bytes_per_op 128.0\r\n",
        "STAT pm_replace_write_amplification 32.00\r\n",
        "STAT pm_append_count 1\r\n",
        "STAT pm_append_stored_bytes 6\r\n",
        "STAT pm_touch_count 3\r\n",
        "STAT pm_touch_stored_bytes 0\r\n",
        "STAT pm_touch_fences_per_op 1.000\r\n",
        "STAT pm_touch_flushed_bytes_per_op 64.0\r\n",
        "STAT pm_touch_write_amplification 0.00\r\n",
        "STAT pm_delete_count 2\r\n",
        "STAT pm_delete_fences_per_op 1.500\r\n",
        "STAT pm_evict_count 0\r\n",
        "STAT pm_evict_fences_per_op 0.000\r\n"};
    int fd = client();
    const char *line;

    say(fd, "set a 0 0 1\r\n1\r\n");
    say(fd, "set b 0 0 1\r\n1\r\n");
    say(fd, "set c 0 0 1\r\n1\r\n");
    say(fd, "set a 0 0 3\r\n222\r\n");
    say(fd, "replace a 0 0 3\r\n333\r\n");
    say(fd, "append a 0 0 2\r\n44\r\n");
    say(fd, "touch a 0\r\ntouch b 0\r\n");
    say(fd, "delete a\r\n");
    say(fd, "touch c 0\r\ndelete b\r\n");

    const char *text = say(fd, "stats pm\r\n");
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        ck_assert_msg(strstr(text, expected[i]) != NULL, "%s is not in %s",
                      expected[i], text);
    /* As clients take them apart: three words, the last one a number. */
    for (line = text; strncmp(line, "END\r\n", 5) != 0;
         line = strchr(line, '\n') + 1) {
        char name[64], number[32], rest[8];
        ck_assert_int_eq(
            sscanf(line, "STAT %63s %31s%7[^\n]", name, number, rest), 3);
        ck_assert_str_eq(rest, "\r");
    }
    close(fd);
}
END_TEST

START_TEST(stats_end_and_name_what_operators_scrape)
{
    static const char *const names[] = {"STAT pid ",
                                        "STAT curr_connections 1\r\n",
                                        "STAT cmd_get 0\r\n",
                                        "STAT limit_maxbytes 8388608\r\n",
                                        "STAT curr_items 0\r\n",
                                        "STAT evictions 0\r\n"};
    int fd = client();
    const char *text = say(fd, "stats\r\n");

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        ck_assert_msg(strstr(text, names[i]) != NULL, "%s", names[i]);
    ck_assert_str_eq(text + strlen(text) - 5, "END\r\n");
    ck_assert_str_eq(say(fd, "stats reset\r\n"), "RESET\r\n");
    ck_assert_str_eq(say(fd, "stats bogus\r\n"), "ERROR\r\n");
    close(fd);
}
END_TEST

START_TEST(a_stat_as_long_as_a_path_ends_its_line)
{
    static char path_of_many[sizeof(options.pool)];
    char expected[sizeof(options.pool) + 64];
    int fd = client();

    for (size_t len = 480; len < sizeof(path_of_many); len += len / 8) {
        memset(path_of_many, 'p', len);
        strcpy(options.pool, path_of_many);
        sprintf(expected, "\r\nSTAT memory_file %s\r\nSTAT ", path_of_many);
        ck_assert_msg(strstr(say(fd, "stats settings\r\n"), expected) != NULL,
                      "no line of %zu bytes", len);
    }
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("connection");
    TCase *t = tcase_create("connection");

    tcase_add_checked_fixture(t, setup, shard_end);
    tcase_add_test(t, what_is_set_is_got);
    tcase_add_test(t, pipelined_requests_are_answered_in_order);
    tcase_add_test(t, a_request_may_come_byte_by_byte);
    tcase_add_test(t, a_large_value_comes_back_whole);
    tcase_add_test(t, a_large_value_with_a_bad_end_is_not_stored);
    tcase_add_test(t, a_client_that_leaves_amid_a_large_value_leaves_nothing);
    tcase_add_test(t, too_much_reserved_is_out_of_memory_and_swallowed);
    tcase_add_test(t, too_large_a_value_is_swallowed_and_the_old_one_goes);
    tcase_add_test(t, a_get_beyond_the_output_limit_goes_on_where_it_stopped);
    tcase_add_test(t, a_client_that_does_not_read_is_not_read_from);
    tcase_add_test(t, a_value_replaced_in_the_same_turn_is_sent_as_it_was_read);
    tcase_add_test(t, quit_answers_what_came_before_and_closes);
    tcase_add_test(
        t, a_closed_connection_is_not_heard_of_while_others_hold_its_socket);
    tcase_add_test(t, stats_of_the_medium_are_what_the_stores_cost);
    tcase_add_test(t,
                   stats_of_the_medium_tell_what_each_kind_of_operation_costs);
    tcase_add_test(t, stats_end_and_name_what_operators_scrape);
    tcase_add_test(t, a_stat_as_long_as_a_path_ends_its_line);
    suite_add_tcase(s, t);
    return run_suite(s);
}
