#include "store/protocol/parse.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/run_suite.h"

#define INLINE_MAX 64
#define LOG_MAX    65536

/* Every request that matters, in one stream. */
static const char corpus[] =
    "get a\r\n"
    "get a b  c\n"
    " gets key\r\n"
    "gat 10 a b\r\n"
    "gats -1 a\r\n"
    "gat x a\r\n"
    "gat 5\r\n"
    "set k 1 2 3\r\nabc\r\n"
    "set k 0 0 0\r\n\r\n"
    "add k 0 0 2 noreply\r\n\r\n\r\n"
    "replace k 4294967295 -1 5\r\na\nb\rc\r\n"
    "append k 0 0 1\r\nx\r\n"
    "prepend k 0 0 1\r\nx\r\n"
    "cas k 0 0 1 18446744073709551615 noreply\r\nx\r\n"
    "set k 0 0 3\r\nabcdefgh\r\n"
    "set k 0 0 -1\r\n"
    "set k 0 0 100\r\n"
    "0123456789012345678901234567890123456789012345678\r\n"
    "012345678901234567890123456789012345678901234567\n\r\n"
    "incr k 5\r\ndecr k -1\r\nincr k 1 noreply\r\n"
    "touch k 100\r\ntouch k x\r\n"
    "delete k\r\ndelete k 0\r\ndelete k 1\r\ndelete k noreply\r\n"
    "flush_all\r\nflush_all 10 noreply\r\nflush_all x\r\n"
    "verbosity 1\r\nverbosity\r\nversion\r\nstats items\r\nshutdown x\r\n"
    "\r\n\n\ra\r\nbogus command\r\nmg k v\r\n"
    "get a\0b\r\n"
    "quit\r\n";

static void log_span(char *log, const char *name, const char *at, size_t len)
{
    sprintf(log + strlen(log), " %s[", name);
    for (size_t i = 0; i < len; i++)
        sprintf(log + strlen(log), at[i] >= ' ' ? "%c" : "\\%02x",
                (unsigned char)at[i]);
    strcat(log, "]");
}

static void log_command(char *log, struct command *c)
{
    const char *word;
    size_t len;

    sprintf(log + strlen(log), "\n%d noreply=%d refusal=%d", c->kind,
            c->noreply, c->kind == COMMAND_REFUSED ? (int)c->refusal : -1);
    if (c->kind == COMMAND_REFUSED)
        return;
    log_span(log, "key", c->key, c->key_len);
    sprintf(log + strlen(log), " flags=%u exptime=%d/%d number=%llu", c->flags,
            c->exptime, c->has_exptime, (unsigned long long)c->number);
    if (c->value != NULL)
        log_span(log, "value", c->value, c->value_len);
    while (c->keys != NULL && command_next_word(c, &word, &len))
        log_span(log, "word", word, len);
}

struct reader {
    struct parser parser;
    char bytes[4096];
    size_t len;
    size_t body; /* bytes of a long value still to come, with its end */
    char log[LOG_MAX];
};

static void reader_init(struct reader *r)
{
    memset(r, 0, sizeof(*r));
    parser_init(&r->parser, INLINE_MAX);
}

static void drop(struct reader *r, size_t n)
{
    memmove(r->bytes, r->bytes + n, r->len - n);
    r->len -= n;
}

/* Shows the parser len more bytes; from a copy that is exactly as long. */
static enum parse_result show(struct reader *r, const char *in, size_t len)
{
    enum parse_result result;

    memcpy(r->bytes + r->len, in, len);
    r->len += len;
    do {
        struct command c;
        char *exact = malloc(r->len + 1);
        size_t used;

        memcpy(exact, r->bytes, r->len);
        exact[r->len] = '!';
        result = parser_next(&r->parser, exact, r->len, &used, &c);
        ck_assert_uint_le(used, r->len);
        if (result == PARSE_COMMAND || result == PARSE_BODY)
            log_command(r->log, &c);
        if (result == PARSE_BODY) {
            strcat(r->log, " long");
            parser_skip(&r->parser, (uint64_t)c.value_len + 2);
        }
        free(exact);
        drop(r, used);
    } while (result != PARSE_MORE && result != PARSE_CLOSE && r->len > 0);
    return result;
}

START_TEST(every_split_point_gives_the_same_commands)
{
    static struct reader whole, split;
    size_t len = sizeof(corpus) - 1;

    reader_init(&whole);
    show(&whole, corpus, len);
    ck_assert_uint_eq(whole.len, 0);
    for (size_t at = 0; at <= len; at++) {
        reader_init(&split);
        show(&split, corpus, at);
        show(&split, corpus + at, len - at);
        ck_assert_str_eq(split.log, whole.log);
    }
    reader_init(&split);
    for (size_t at = 0; at < len; at++)
        show(&split, corpus + at, 1);
    ck_assert_str_eq(split.log, whole.log);
}
END_TEST

static struct command parse_one(const char *line)
{
    struct command c;

    ck_assert(text_parse(line, strlen(line), &c));
    return c;
}

static void refused(const char *line, enum reply_text with)
{
    struct command c = parse_one(line);

    ck_assert_msg(c.kind == COMMAND_REFUSED && c.refusal == with,
                  "%s: kind %d, refusal %d", line, c.kind, c.refusal);
}

START_TEST(numbers_are_read_as_strtoul_reads_them)
{
    ck_assert_uint_eq(parse_one("set k 4294967297 0 1").flags, 1);
    ck_assert_uint_eq(parse_one("set k +1 0 1").flags, 1);
    ck_assert_uint_eq(parse_one("set k \t7 0 1\r").flags, 7);
    ck_assert_uint_eq(parse_one("set k -18446744073709551615 0 1").flags, 1);
    ck_assert_int_eq(parse_one("set k 0 99999999999 1").exptime, 1215752191);
    ck_assert_int_eq(parse_one("set k 0 -1 1").exptime, -1);
    refused("set k -1 0 1", REPLY_BAD_FORMAT);
    refused("set k 18446744073709551616 0 1", REPLY_BAD_FORMAT);
    refused("set k 0 9223372036854775808 1", REPLY_BAD_FORMAT);
    refused("set k 0x1 0 1", REPLY_BAD_FORMAT);
    refused("set k 1x 0 1", REPLY_BAD_FORMAT);
    refused("set k 0 0 2147483646", REPLY_BAD_FORMAT);
    refused("cas k 0 0 1 -1", REPLY_BAD_FORMAT);
    refused("incr k -1", REPLY_BAD_DELTA);
    ck_assert(parse_one("incr k 18446744073709551615").number == UINT64_MAX);
}
END_TEST

START_TEST(a_key_has_at_most_250_bytes)
{
    char line[400];

    sprintf(line, "get %0250d", 0);
    ck_assert_int_eq(parse_one(line).kind, COMMAND_GET);
    sprintf(line, "get %0251d", 0);
    refused(line, REPLY_BAD_FORMAT);
    sprintf(line, "get a %0251d b", 0);
    refused(line, REPLY_BAD_FORMAT);
    sprintf(line, "delete %0251d", 0);
    refused(line, REPLY_BAD_FORMAT);
    sprintf(line, "delete %0251d x", 0);
    refused(line, REPLY_BAD_DELETE);
    sprintf(line, "set %0251d 0 0 1", 0);
    refused(line, REPLY_BAD_FORMAT);
    sprintf(line, "incr %0251d x", 0);
    refused(line, REPLY_BAD_FORMAT);
    sprintf(line, "touch %0251d x", 0);
    refused(line, REPLY_BAD_FORMAT);
}
END_TEST

START_TEST(noreply_silences_a_refused_line_but_not_an_unknown_one)
{
    ck_assert(parse_one("set k x 0 1 noreply").noreply);
    ck_assert(parse_one("flush_all x noreply").noreply);
    ck_assert(parse_one("set k 0 0 noreply").noreply);
    ck_assert(!parse_one("set k 0 noreply").noreply);
    ck_assert(!parse_one("bogus noreply").noreply);
}
END_TEST

START_TEST(web_browsers_are_sent_away)
{
    struct command c;

    ck_assert(!text_parse("POST / HTTP/1.0", 15, &c));
    ck_assert(!text_parse("GET / HTTP/1.1", 14, &c));
    ck_assert(text_parse("get HTTP/1.1", 12, &c));
    ck_assert(text_parse("x HTTP/1.1", 10, &c));
}
END_TEST

START_TEST(the_binary_protocol_is_closed_only_at_the_beginning)
{
    static struct reader r;

    reader_init(&r);
    ck_assert_int_eq(show(&r, "\x80", 1), PARSE_CLOSE);
    reader_init(&r);
    show(&r, "version\r\n", 9);
    ck_assert_int_eq(show(&r, "\x80 \r\n", 4), PARSE_COMMAND);
}
END_TEST

START_TEST(a_long_line_without_end_is_closed_unless_it_is_a_get)
{
    static struct reader r;
    static char line[PARSE_LINE_MAX + 2];

    memset(line, 'a', sizeof(line));
    reader_init(&r);
    ck_assert_int_eq(show(&r, line, PARSE_LINE_MAX), PARSE_MORE);
    ck_assert_int_eq(show(&r, line, 1), PARSE_CLOSE);
    reader_init(&r);
    memcpy(line, "gets ", 5);
    ck_assert_int_eq(show(&r, line, sizeof(line)), PARSE_MORE);
    reader_init(&r);
    memcpy(line, "gat  ", 5);
    ck_assert_int_eq(show(&r, line, sizeof(line)), PARSE_CLOSE);
}
END_TEST

START_TEST(a_get_of_100000_keys_is_one_command)
{
    size_t n = 100000, len = 3, used, words = 0, word_len;
    char *line = malloc(n * 8 + 16);
    const char *word;
    struct parser p;
    struct command c;

    memcpy(line, "get", 3);
    for (size_t i = 0; i < n; i++)
        len += (size_t)sprintf(line + len, " k%zu", i);
    memcpy(line + len, "\r\n", 2);
    len += 2;
    parser_init(&p, INLINE_MAX);
    ck_assert_int_eq(parser_next(&p, line, len - 1, &used, &c), PARSE_MORE);
    ck_assert_int_eq(parser_next(&p, line, len, &used, &c), PARSE_COMMAND);
    ck_assert_uint_eq(used, len);
    while (command_next_word(&c, &word, &word_len))
        words++;
    ck_assert_uint_eq(words, n);
    free(line);
}
END_TEST

START_TEST(a_long_value_is_handed_over_with_its_line_only)
{
    struct parser p;
    struct command c;
    const char in[] = "set k 5 0 65\r\nxxx";
    size_t used;

    parser_init(&p, INLINE_MAX);
    ck_assert_int_eq(parser_next(&p, in, strlen(in), &used, &c), PARSE_BODY);
    ck_assert_uint_eq(used, 14);
    ck_assert_uint_eq(c.value_len, 65);
    ck_assert_ptr_null(c.value);
    parser_skip(&p, 3);
    ck_assert_int_eq(parser_next(&p, in + used, 3, &used, &c), PARSE_SKIPPED);
    ck_assert_uint_eq(used, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("parse");
    TCase *t = tcase_create("parse");

    tcase_add_test(t, every_split_point_gives_the_same_commands);
    tcase_add_test(t, numbers_are_read_as_strtoul_reads_them);
    tcase_add_test(t, a_key_has_at_most_250_bytes);
    tcase_add_test(t, noreply_silences_a_refused_line_but_not_an_unknown_one);
    tcase_add_test(t, web_browsers_are_sent_away);
    tcase_add_test(t, the_binary_protocol_is_closed_only_at_the_beginning);
    tcase_add_test(t, a_long_line_without_end_is_closed_unless_it_is_a_get);
    tcase_add_test(t, a_get_of_100000_keys_is_one_command);
    tcase_add_test(t, a_long_value_is_handed_over_with_its_line_only);
    suite_add_tcase(s, t);
    return run_suite(s);
}
