/*
 * Gets whose replies are more than a client may leave waiting: what is left of
 * one is done later. All calls of the parser come by here and are counted.
 */
#include "store/server/connection.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "tests/unit/store/server/one_shard.h"

#define QUIET     20        /* turns without a reply: there is none */
#define BIG       300000    /* bytes of a value that fills the output alone */
#define MIDDLE    16000     /* bytes of one that is copied into the output */
#define REPLY_MAX (4 << 20) /* bytes */

static char reply[REPLY_MAX], want[REPLY_MAX], request[BIG + 100];
static uint64_t looked; /* bytes that the parser was shown */

enum parse_result __real_parser_next(struct parser *parser, const char *in,
                                     size_t len, size_t *used,
                                     struct command *command);
enum parse_result __wrap_parser_next(struct parser *parser, const char *in,
                                     size_t len, size_t *used,
                                     struct command *command);
bool __real_text_parse(const char *line, size_t len, struct command *command);
bool __wrap_text_parse(const char *line, size_t len, struct command *command);

enum parse_result __wrap_parser_next(struct parser *parser, const char *in,
                                     size_t len, size_t *used,
                                     struct command *command)
{
    looked += len;
    return __real_parser_next(parser, in, len, used, command);
}

bool __wrap_text_parse(const char *line, size_t len, struct command *command)
{
    looked += len;
    return __real_text_parse(line, len, command);
}

/* Sends text and turns the loop until nothing more comes back; the bytes of
 * the reply. */
static size_t say(int fd, const char *text, size_t len)
{
    size_t sent = 0, got = 0;

    for (int quiet = 0; quiet < QUIET;) {
        ssize_t n = send(fd, text + sent, len - sent, MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        ck_assert_int_eq(shard_turn(shard, 0), 0);
        n = read(fd, reply + got, sizeof(reply) - got);
        if (n > 0)
            got += (size_t)n;
        quiet = n > 0 ? 0 : quiet + 1;
    }
    return got;
}

static void store(const char *key, size_t value_len)
{
    int fd = client();
    int n = sprintf(request, "set %s 7 0 %zu\r\n", key, value_len);

    memset(request + n, key[0], value_len);
    memcpy(request + n + value_len, "\r\n", 2);
    ck_assert_uint_eq(say(fd, request, (size_t)n + value_len + 2), 8);
    ck_assert_int_eq(memcmp(reply, "STORED\r\n", 8), 0);
    close(fd);
}

static void setup(void)
{
    shard_start();
    store("BIG", BIG);
    store("middle", MIDDLE);
    store("a", 1);
    store("b", 0);
    store("c", 100);
}

/* What is looked at while a get of n keys is gone on with 20 times. */
static uint64_t looked_in_20_resumes(size_t n)
{
    size_t len = 3 + 7 * n + 2, sent = 0;
    char *line = malloc(len + 1);
    int fd = client();
    uint64_t goal;

    memcpy(line, "get", 3);
    for (size_t i = 0; i < n; i++)
        memcpy(line + 3 + 7 * i, " middle", 7);
    memcpy(line + len - 2, "\r\n", 2);
    while (sent < len) {
        ssize_t sent_now = send(fd, line + sent, len - sent, MSG_NOSIGNAL);

        if (sent_now > 0)
            sent += (size_t)sent_now;
        ck_assert_int_eq(shard_turn(shard, 0), 0);
    }
    while (read(fd, reply, sizeof(reply)) <= 0)
        ck_assert_int_eq(shard_turn(shard, 0), 0);
    looked = 0;
    for (goal = shard->counters.yields + 20; shard->counters.yields < goal;) {
        ck_assert_int_eq(shard_turn(shard, 0), 0);
        (void)!read(fd, reply, sizeof(reply));
    }
    ck_assert(!TAILQ_FIRST(&shard->all)->dead);
    close(fd);
    ck_assert_int_eq(shard_turn(shard, 0), 0);
    free(line);
    return looked;
}

START_TEST(a_get_that_goes_on_is_not_parsed_again)
{
    uint64_t of_short = looked_in_20_resumes(1000);
    uint64_t of_long = looked_in_20_resumes(1000000);

    ck_assert_msg(of_short == 0 && of_long == 0,
                  "20 resumes have looked at %llu bytes of a short line and "
                  "%llu of a long one",
                  (unsigned long long)of_short, (unsigned long long)of_long);
}
END_TEST

/* Keys of a line, one of which is BIG; each with what is in front of it. */
#define KEYS 6
static const char *const keys[KEYS] = {" a",      " missing", "  b",
                                       " middle", " c",       "   a"};

/* As name, the keys and BIG in front of key number big; KEYS + 1: everywhere.
 * The length. */
static size_t write_line(char *line, const char *name, int big)
{
    size_t len = (size_t)sprintf(line, "%s", name);

    for (int i = 0; i <= KEYS; i++) {
        if (i == big || big > KEYS)
            len += (size_t)sprintf(line + len, " BIG");
        if (i < KEYS)
            len += (size_t)sprintf(line + len, "%s", keys[i]);
    }
    return len;
}

/* What each key alone is answered with, one after the other, into out. */
static size_t ask_for_each(char *out, const char *name, int big)
{
    char line[300];
    size_t len = 0;

    for (int i = 0; i < 2 * KEYS + 1; i++) {
        bool is_big = i % 2 == 0;
        int fd;
        size_t got;

        if (is_big && i / 2 != big && big <= KEYS)
            continue;
        fd = client();
        got = say(fd, line,
                  (size_t)sprintf(line, "%s%s\r\n", name,
                                  is_big ? " BIG" : keys[i / 2]));
        ck_assert_uint_ge(got, 5);
        ck_assert_int_eq(memcmp(reply + got - 5, "END\r\n", 5), 0);
        memcpy(out + len, reply, got - 5);
        len += got - 5;
        close(fd);
    }
    memcpy(out + len, "END\r\n", 5);
    return len + 5;
}

static void must_answer(const char *text, size_t len, const char *expected,
                        size_t expected_len)
{
    uint64_t before = shard->counters.yields;
    int fd = client();
    size_t got = say(fd, text, len);

    ck_assert_msg(got == expected_len && memcmp(reply, expected, got) == 0,
                  "%s: %zu bytes of reply, expected %zu", text, got,
                  expected_len);
    ck_assert_uint_gt(shard->counters.yields, before);
    close(fd);
}

/* The same request cut in two: its line is gone on with from another buffer. */
static void must_answer_in_pieces(const char *text, size_t len, size_t cut,
                                  const char *expected, size_t expected_len)
{
    int fd = client();
    size_t got;

    ck_assert_int_eq(send(fd, text, cut, MSG_NOSIGNAL), (ssize_t)cut);
    ck_assert_int_eq(shard_turn(shard, 0), 0);
    got = say(fd, text + cut, len - cut);
    ck_assert_msg(got == expected_len && memcmp(reply, expected, got) == 0,
                  "cut at %zu: %zu bytes of reply, expected %zu", cut, got,
                  expected_len);
    close(fd);
}

START_TEST(a_get_interrupted_anywhere_is_answered_as_its_keys_are)
{
    static const char *const names[] = {"get", "gets", "gat 0", "gats 100",
                                        "bget"};
    static const struct {
        const char *text;
        size_t len;
    } ends[] = {{"\r\n", 2}, {"\n", 1}, {" \r\n", 3}, {"\0 BIG\r\n", 7}};
    char line[600];

    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        for (int big = 0; big <= KEYS; big++) {
            size_t want_len = ask_for_each(want, names[n], big);
            size_t len = write_line(line, names[n], big), end;

            memcpy(want + want_len, "VERSION 1.6.18\r\n", 16);
            for (size_t e = 0; e < sizeof(ends) / sizeof(ends[0]); e++) {
                memcpy(line + len, ends[e].text, ends[e].len);
                end = len + ends[e].len;
                strcpy(line + end, "version\r\n");
                /* Alone, a get whose last key is BIG is not interrupted. */
                if (big < KEYS)
                    must_answer(line, end + 9, want, want_len + 16);
                must_answer_in_pieces(line, end + 9, len / 2, want,
                                      want_len + 16);
                must_answer_in_pieces(line, end + 9, end, want, want_len + 16);
            }
        }
    }
}
END_TEST

START_TEST(a_get_interrupted_at_every_key_is_answered_whole)
{
    char line[600];
    size_t want_len = ask_for_each(want, "gets", KEYS + 1);
    size_t len = write_line(line, "gets", KEYS + 1);

    len += (size_t)sprintf(line + len, "\r\n");
    must_answer(line, len, want, want_len);
}
END_TEST

START_TEST(gets_one_behind_the_other_are_interrupted_each_for_itself)
{
    char line[1200];
    size_t want_len = ask_for_each(want, "gats 0", 2), len;

    want_len += ask_for_each(want + want_len, "get", 0);
    memcpy(want + want_len, "STORED\r\n", 8);
    want_len += 8;
    want_len += ask_for_each(want + want_len, "gets", 5);
    len = write_line(line, "gats 0", 2);
    len += (size_t)sprintf(line + len, "\r\n");
    len += write_line(line + len, "get", 0);
    len += (size_t)sprintf(line + len, "\r\nset new 0 0 1\r\nx\r\n");
    len += write_line(line + len, "gets", 5);
    len += (size_t)sprintf(line + len, "\r\n");
    must_answer(line, len, want, want_len);
}
END_TEST

START_TEST(an_interrupted_gat_touches_all_of_its_keys_alike)
{
    char line[600];
    size_t len = write_line(line, "gat -1", 2);
    int fd = client();

    len += (size_t)sprintf(line + len, "\r\nget b c middle a BIG\r\n");
    ck_assert_uint_gt(say(fd, line, len), BIG + MIDDLE);
    ck_assert_uint_eq(shard->counters.touch_hits, 5);
    ck_assert_uint_eq(say(fd, "get b c middle a BIG\r\n", 22), 5);
    close(fd);
}
END_TEST

/* All of the line is looked at before any of it is done. */
START_TEST(a_key_too_long_behind_the_interruption_refuses_the_whole_line)
{
    char line[600];
    int fd = client();
    size_t len = (size_t)sprintf(line, "get BIG a BIG %0251d\r\nget b\r\n", 0);
    const char *const answer = "CLIENT_ERROR bad command line format\r\n"
                               "VALUE b 7 0\r\n\r\nEND\r\n";

    ck_assert_uint_eq(say(fd, line, len), strlen(answer));
    ck_assert_int_eq(memcmp(reply, answer, strlen(answer)), 0);
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("long get");
    TCase *t = tcase_create("long get");

    tcase_add_checked_fixture(t, setup, shard_end);
    tcase_add_test(t, a_get_that_goes_on_is_not_parsed_again);
    tcase_add_test(t, a_get_interrupted_anywhere_is_answered_as_its_keys_are);
    tcase_add_test(t, a_get_interrupted_at_every_key_is_answered_whole);
    tcase_add_test(t,
                   gets_one_behind_the_other_are_interrupted_each_for_itself);
    tcase_add_test(t, an_interrupted_gat_touches_all_of_its_keys_alike);
    tcase_add_test(
        t, a_key_too_long_behind_the_interruption_refuses_the_whole_line);
    suite_add_tcase(s, t);
    return run_suite(s);
}
