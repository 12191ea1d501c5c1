#include "tests/unit/config/mistakes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct rule_list list;
static char error[RULE_ERROR_MAX];

static void start_list(void)
{
    start();
    rules_init(&list);
    error[0] = '\0';
}

static void stop_list(void)
{
    rules_fini(&list);
    stop();
}

/* "10.0.0.1" or "::1"; "" is a UNIX socket, NULL is no address. */
static const struct sockaddr *address(const char *text, uint16_t port,
                                      struct sockaddr_storage *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

    memset(out, 0, sizeof(*out));
    if (text == NULL)
        return NULL;
    if (text[0] == '\0') {
        out->ss_family = AF_UNIX;
    } else if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    } else {
        ck_assert_int_eq(inet_pton(AF_INET6, text, &in6->sin6_addr), 1);
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
    }
    return (const struct sockaddr *)out;
}

/* The local end is always port 5555, the peer's 11211. */
static const struct {
    const char *rules;
    const char *program;
    const char *local, *peer;
    bool client;
    int which; /* -1: none */
} matches[] = {
    {"", "a", "10.0.0.1", "10.0.0.2", true, -1},
    /* programs */
    {"program=redis*", "redis-server", "10.0.0.1", "10.0.0.2", true, 0},
    {"program=redis*", "/usr/bin/redis-cli", "10.0.0.1", "10.0.0.2", true, 0},
    {"program=redis*", "/redis/memcached", "10.0.0.1", "10.0.0.2", true, -1},
    {"program=redis", "redis-server", "10.0.0.1", "10.0.0.2", true, -1},
    {"program=[ab]?", "b1", "10.0.0.1", "10.0.0.2", true, 0},
    {"program=[ab", "b1", "10.0.0.1", "10.0.0.2", true, -1},
    {"program=a", NULL, "10.0.0.1", "10.0.0.2", true, -1},
    {"program=*", NULL, "10.0.0.1", "10.0.0.2", true, 0},
    {"program=a b", "a b", "10.0.0.1", "10.0.0.2", true, 0},
    /* roles */
    {"role=client", "a", "10.0.0.1", "10.0.0.2", true, 0},
    {"role=client", "a", "10.0.0.1", "10.0.0.2", false, -1},
    {"role=server", "a", "10.0.0.1", "10.0.0.2", false, 0},
    {"role=server", "a", "10.0.0.1", "10.0.0.2", true, -1},
    /* the server's port, whichever end we are */
    {"port=11211", "a", "10.0.0.1", "10.0.0.2", true, 0},
    {"port=11211", "a", "10.0.0.1", "10.0.0.2", false, -1},
    {"port=5555", "a", "10.0.0.1", "10.0.0.2", false, 0},
    {"port=5555", "a", "10.0.0.1", "10.0.0.2", true, -1},
    {"port=11211-11211", "a", "::1", "::1", true, 0},
    {"port=1-11210", "a", "::1", "::1", true, -1},
    {"port=11212-65535", "a", "::1", "::1", true, -1},
    {"port=1-65535", "a", "::1", NULL, true, -1},
    {"port=1-65535", "a", NULL, "::1", false, -1},
    /* peers */
    {"peer=10.0.0.2", "a", "10.0.0.1", "10.0.0.2", true, 0},
    {"peer=10.0.0.2", "a", "10.0.0.2", "10.0.0.1", true, -1},
    {"peer=10.0.0.2", "a", "10.0.0.1", "10.0.0.2", false, 0},
    {"peer=10.0.0.0/8", "a", "10.0.0.1", "10.255.1.2", true, 0},
    {"peer=10.0.0.0/8", "a", "10.0.0.1", "11.0.0.0", true, -1},
    {"peer=10.128.0.0/9", "a", "10.0.0.1", "10.127.0.1", true, -1},
    {"peer=10.128.0.0/9", "a", "10.0.0.1", "10.200.0.1", true, 0},
    {"peer=10.0.0.2/31", "a", "10.0.0.1", "10.0.0.3", true, 0},
    {"peer=10.0.0.2/31", "a", "10.0.0.1", "10.0.0.4", true, -1},
    {"peer=0.0.0.0/0", "a", "10.0.0.1", "255.255.255.255", true, 0},
    {"peer=0.0.0.0/0", "a", "::1", "::1", true, -1},
    {"peer=::/0", "a", "::1", "2001:db8::1", true, 0},
    {"peer=::/0", "a", "::1", "10.0.0.1", true, -1},
    {"peer=::/0", "a", "::1", "::ffff:10.0.0.1", true, -1},
    {"peer=2001:db8::/32", "a", "::1", "2001:db8:ffff::9", true, 0},
    {"peer=2001:db8::/32", "a", "::1", "2001:db9::", true, -1},
    {"peer=::1", "a", "::1", "::1", true, 0},
    {"peer=::1", "a", "::1", "::2", true, -1},
    {"peer=fe80::/10", "a", "::1", "febf::1", true, 0},
    {"peer=fe80::/10", "a", "::1", "fec0::1", true, -1},
    {"peer=10.0.0.0/8", "a", "::1", NULL, true, -1},
    {"peer=10.0.0.0/8", "a", "", "", true, -1},
    /* an IPv4-mapped address is an IPv4 address, on both sides */
    {"peer=10.0.0.0/8", "a", "::1", "::ffff:10.1.1.1", true, 0},
    {"peer=10.0.0.0/8", "a", "::1", "::ffff:11.1.1.1", true, -1},
    {"peer=::ffff:10.0.0.0/104", "a", "::1", "10.1.1.1", true, 0},
    {"peer=::ffff:10.0.0.0/104", "a", "::1", "::ffff:10.1.1.1", true, 0},
    {"peer=::ffff:0:0/96", "a", "::1", "10.1.1.1", true, 0},
    {"peer=::ffff:0:0/96", "a", "::1", "2001:db8::1", true, -1},
    /* all conditions hold, and the first rule wins */
    {"program=a,port=11211,role=client,peer=::1", "a", "::1", "::1", true, 0},
    {"program=a,port=11211,role=client,peer=::2", "a", "::1", "::1", true, -1},
    {"program=b; ; poll_usec=1; program=a;", "a", "::1", "::1", true, 1},
    {"program=a; poll_usec=1", "a", "::1", "::1", true, 0},
    {"program=b; poll_usec=1", "a", NULL, NULL, true, 1},
};

START_TEST(the_first_rule_whose_conditions_all_hold_is_found)
{
    struct sockaddr_storage local, peer;
    const struct rule *found;

    ck_assert_msg(rules_parse(&list, matches[_i].rules, error) == 0, "%s",
                  error);
    found = rules_match(&list, matches[_i].program, matches[_i].client,
                        address(matches[_i].local, 5555, &local),
                        address(matches[_i].peer, 11211, &peer));
    if (matches[_i].which < 0)
        ck_assert_msg(found == NULL, "%s", matches[_i].rules);
    else
        ck_assert_msg(found == &list.rule[matches[_i].which], "%s",
                      matches[_i].rules);
}
END_TEST

static const struct {
    const char *rules;
    const char *expected;
} wrong[] = {
    {"x", "expected key=value"},
    {"=x", "expected key=value"},
    {"port=1,", "expected key=value"},
    {",port=1", "expected key=value"},
    {"port=1,,role=client", "expected key=value"},
    {"name=x", "expected program, role, peer"},
    {"Port=1", "expected program, role, peer"},
    {"settle_ms=1", "expected program, role, peer"},
    {"port=1,port=2", "expected port once"},
    {"poll_usec=1;poll_usec=1,poll_usec=1", "expected poll_usec once"},
    {"program=", "program: expected the base name"},
    {"program=/bin/sh", "program: expected the base name"},
    {"role=", "role: expected client or server"},
    {"role=Client", "role: expected client or server"},
    {"port=", "port: expected a port 1 to 65535"},
    {"port=0", "port: expected"},
    {"port=65536", "port: expected"},
    {"port=-1", "port: expected"},
    {"port=1-", "port: expected"},
    {"port=2-1", "port: expected"},
    {"port=1-2-3", "port: expected"},
    {"port=1-65536", "port: expected"},
    {"port=http", "port: expected"},
    {"port=000001", "port: expected"},
    {"peer=", "peer: expected an IPv4"},
    {"peer=localhost", "peer: expected an IPv4"},
    {"peer=10.0.0", "peer: expected an IPv4"},
    {"peer=10.0.0.0/", "peer: expected an IPv4"},
    {"peer=10.0.0.0/33", "peer: expected an IPv4"},
    {"peer=10.0.0.0/-1", "peer: expected an IPv4"},
    {"peer=::/129", "peer: expected an IPv4"},
    {"peer=10.0.0.0/8/8", "peer: expected an IPv4"},
    {"peer=fe80::1%lo", "peer: expected an IPv4"},
    {"peer=1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", "peer: "},
    {"peer=10.0.0.1/8", "peer: expected a network without bits beyond"},
    {"peer=::ffff:10.0.0.0/64", "peer: expected a network without bits"},
    {"peer=::1/127", "peer: expected a network without bits"},
    {"accelerate=maybe", "accelerate: expected true or false"},
    {"poll_usec=1000001", "poll_usec: expected a number 0 to 1000000"},
    {"upgrade_after=-1", "upgrade_after: expected a number 0 to 1000000000"},
    {"upgrade_bytes=1T", "upgrade_bytes: expected a number"},
    {"transports=rdma", "transports: expected some of shm|verbs"},
    {"transports=shm+shm", "transports: expected some of shm|verbs"},
    {"ring_size=6000", "ring_size: expected a power of two"},
};

START_TEST(every_mistake_in_a_rule_says_what_was_expected)
{
    ck_assert_int_eq(rules_parse(&list, wrong[_i].rules, error), -EINVAL);
    ck_assert_msg(strstr(error, wrong[_i].expected) != NULL,
                  "'%s' does not say '%s'", error, wrong[_i].expected);
    ck_assert_ptr_nonnull(strstr(error, "got "));
}
END_TEST

START_TEST(a_word_that_is_too_long_is_refused)
{
    char text[RULE_PROGRAM_MAX + 16];

    memset(text, 'x', sizeof(text));
    memcpy(text, "program=", 8);
    text[8 + RULE_PROGRAM_MAX - 1] = '\0';
    ck_assert_int_eq(rules_parse(&list, text, error), 0);
    text[8 + RULE_PROGRAM_MAX - 1] = 'x';
    text[8 + RULE_PROGRAM_MAX] = '\0';
    ck_assert_int_eq(rules_parse(&list, text, error), -EINVAL);
    ck_assert_int_eq(rules_parse(&list, text + 8, error), -EINVAL);
}
END_TEST

START_TEST(a_rule_overrides_what_it_names_and_nothing_else)
{
    struct stream_settings out;

    ck_assert_int_eq(rules_parse(&list,
                                 " poll_usec = 7 , ring_size=64K ;"
                                 "accelerate=no,upgrade_after=0,"
                                 "upgrade_bytes=1",
                                 error),
                     0);
    rule_apply(&list.rule[0], &settings, &out);
    ck_assert(out.accelerate);
    ck_assert_uint_eq(out.poll_usec, 7);
    ck_assert_uint_eq(out.ring_size, 65536);
    ck_assert_uint_eq(out.upgrade_after, settings.upgrade_after);
    ck_assert_uint_eq(out.upgrade_bytes, settings.upgrade_bytes);
    rule_apply(&list.rule[1], &settings, &out);
    ck_assert(!out.accelerate);
    ck_assert_uint_eq(out.poll_usec, settings.poll_usec);
    ck_assert_uint_eq(out.ring_size, settings.ring_size);
    ck_assert_uint_eq(out.upgrade_after, 0);
    ck_assert_uint_eq(out.upgrade_bytes, 1);
}
END_TEST

START_TEST(a_rule_may_choose_other_transports)
{
    struct stream_settings out;

    ck_assert_int_eq(rules_parse(&list, "transports=verbs+shm,port=7", error),
                     0);
    rule_apply(&list.rule[0], &settings, &out);
    ck_assert_str_eq(out.transports, "verbs,shm");
    rule_apply(NULL, &settings, &out);
    ck_assert_str_eq(out.transports, settings.transports);
}
END_TEST

START_TEST(a_rule_may_accelerate_what_the_settings_do_not)
{
    struct stream_settings out;

    settings.accelerate = false;
    ck_assert_int_eq(rules_parse(&list, "accelerate=1", error), 0);
    rule_apply(&list.rule[0], &settings, &out);
    ck_assert(out.accelerate);
    rule_apply(NULL, &settings, &out);
    ck_assert(!out.accelerate);
    ck_assert_uint_eq(out.ring_size, settings.ring_size);
}
END_TEST

START_TEST(there_are_at_most_1024_rules)
{
    struct rule rule = {.set = 0};

    for (int i = 0; i < RULES_MAX; i++)
        ck_assert_int_eq(rules_add(&list, &rule, error), 0);
    ck_assert_int_eq(rules_add(&list, &rule, error), -EINVAL);
    ck_assert_uint_eq(list.n, RULES_MAX);
}
END_TEST

START_TEST(a_mistake_in_the_variable_is_a_complaint_that_names_it)
{
    ck_assert_int_eq(load_variable("FASTSOCK_RULES=port=1;port=x"), -EINVAL);
    ck_one_mistake("FASTSOCK_RULES: ", "port: expected a port 1 to 65535");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rules");
    TCase *t = tcase_create("rules");

    tcase_add_checked_fixture(t, start_list, stop_list);
    tcase_add_loop_test(t, the_first_rule_whose_conditions_all_hold_is_found, 0,
                        (int)(sizeof(matches) / sizeof(matches[0])));
    tcase_add_loop_test(t, every_mistake_in_a_rule_says_what_was_expected, 0,
                        (int)(sizeof(wrong) / sizeof(wrong[0])));
    tcase_add_test(t, a_word_that_is_too_long_is_refused);
    tcase_add_test(t, a_rule_overrides_what_it_names_and_nothing_else);
    tcase_add_test(t, a_rule_may_choose_other_transports);
    tcase_add_test(t, a_rule_may_accelerate_what_the_settings_do_not);
    tcase_add_test(t, there_are_at_most_1024_rules);
    tcase_add_test(t, a_mistake_in_the_variable_is_a_complaint_that_names_it);
    suite_add_tcase(suite, t);
    return run(suite);
}
