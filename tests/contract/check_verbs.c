/*
 * The RDMA transport, in the guest: 10.7.0.1 and 10.7.0.2 on a wire. Besides
 * the common cases: hostile numbers, a wire that is cut, a peer that dies, a
 * fork, and memory that may not be locked.
 */
#include "tests/contract/contract.h"
#include "tests/contract/verbs/memory_cases.h"
#include "transport/backend/verbs_private.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static const char *myself; /* the path of this program */

static void name(unsigned n, struct connection_name *out)
{
    *out = (struct connection_name){.family = 4,
                                    .server = {10, 7, 0, 2},
                                    .client = {10, 7, 0, 1},
                                    .server_port = 7007,
                                    .client_port = (uint16_t)(10000 + n)};
}

static struct verbs_link *of(struct party *p)
{
    return (struct verbs_link *)p->link;
}

static void must_break_and_meet_again(void)
{
    ck_assert(turn_until(&left[0].breaks, 1));
    ck_assert(turn_until(&left[0].deaths, 1));
    ck_assert(turn_until(&right[0].breaks, 1));
    ck_assert(turn_until(&right[0].deaths, 1));
    drop(&left[0]);
    drop(&right[0]);
    turn(10);
    must_meet(5);
    left[5].link->ops->commit(left[5].link, 3);
    must_land(right[5].link, 0, 3);
    ck_assert_int_eq(left[0].breaks, 1);
    ck_assert_int_eq(right[0].breaks, 1);
}

START_TEST(a_piece_for_a_link_that_is_not_there_is_passed_over)
{
    uint32_t idx;

    must_meet(0);
    idx = of(&left[0])->peer_idx;
    of(&left[0])->peer_idx = VERBS_LINKS - 1;
    /* More of them than there are credits: each is given back all the same. */
    for (uint64_t at = 1; at <= 3 * VERBS_DATA; at++) {
        left[0].link->ops->commit(left[0].link, at);
        turn(1);
    }
    ck_assert_uint_eq(right[0].link->ops->arrived(right[0].link), 0);
    while (atomic_load(&of(&left[0])->posted) < 3 * VERBS_DATA)
        turn(1);
    of(&left[0])->peer_idx = idx;
    left[0].link->ops->commit(left[0].link, 3 * VERBS_DATA + 7);
    must_land(right[0].link, 0, 7);
    ck_assert_int_eq(right[0].breaks, 0);
}
END_TEST

START_TEST(more_than_the_ring_holds_breaks_that_link_and_no_other)
{
    uint64_t limit = clock_ns() + contract->patience_ns, landed = 0;
    int rc;

    must_meet(0);
    must_meet(1);
    left[0].link->ops->commit(left[0].link, RING + 1);
    do
        rc = right[0].link->ops->landed(right[0].link, 0, landed, &landed);
    while (rc == 0 && clock_ns() < limit);
    ck_assert_int_eq(rc, -EPROTO);
    left[1].link->ops->commit(left[1].link, 9);
    must_land(right[1].link, 0, 9);
    ck_assert_int_eq(right[1].breaks, 0);
}
END_TEST

START_TEST(a_release_out_of_bounds_breaks_a_rule_and_sets_nothing)
{
    static const uint64_t values[] = {
        0,     1,     9999,       10000,     10001,      10500,
        10501, 14096, 1ull << 32, INT64_MAX, 1ull << 63, UINT64_MAX};
    struct link *r;

    must_meet(0);
    r = right[0].link;
    r->ops->start(r, 1, 10000, 0);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint64_t v = values[i], freed = 7;
        bool sound = v <= 10500; /* below: of an earlier epoch */

        atomic_store(&of(&right[0])->words->release_in, v);
        ck_assert_int_eq(r->ops->freed(r, 10000, 10500, &freed),
                         sound ? 0 : -EPROTO);
        ck_assert_uint_eq(freed, !sound ? 7 : v < 10000 ? 10000 : v);
        freed = 7;
        ck_assert_int_eq(r->ops->freed(r, 10400, 10500, &freed),
                         v >= 10400 && v <= 10500 ? 0 : -EPROTO);
    }
}
END_TEST

START_TEST(a_message_of_no_known_type_ends_the_connection)
{
    struct control_message m = {.type = (enum message_type)99};

    must_meet(0);
    verbs_say(of(&left[0])->peer, &m, NULL, 0);
    must_break_and_meet_again();
}
END_TEST

START_TEST(a_credit_for_what_was_not_sent_ends_the_connection)
{
    struct control_message m = {.type = MESSAGE_CREDIT, .number = 1};

    must_meet(0);
    verbs_say(of(&left[0])->peer, &m, NULL, 0);
    must_break_and_meet_again();
}
END_TEST

START_TEST(keys_that_lead_nowhere_end_the_connection)
{
    must_meet(0);
    of(&left[0])->key ^= 0x5a5a5a;
    left[0].link->ops->commit(left[0].link, 10);
    must_break_and_meet_again();
}
END_TEST

START_TEST(more_messages_than_were_allowed_end_the_connection)
{
    must_meet(0);
    of(&left[0])->peer->control.size = 1000;
    for (int i = 0; i < 2 * VERBS_CONTROL; i++) {
        struct control_message m = {.type = MESSAGE_WILLING};

        left[0].link->ops->send(left[0].link, &m);
        verbs_poll(of(&left[0])->peer->device, true);
        verbs_poll(of(&right[0])->peer->device, true);
    }
    must_break_and_meet_again();
}
END_TEST

/* HELLO, WELCOME and CONFIRM with any numbers, sound by themselves. */
START_TEST(any_numbers_in_a_rendezvous_harm_nobody_else)
{
    static const enum message_type types[] = {
        MESSAGE_CONFIRM, MESSAGE_REFUSE, MESSAGE_BYE,  MESSAGE_PROPOSE,
        MESSAGE_PING,    MESSAGE_PONG,   MESSAGE_WANT, MESSAGE_ROOM};
    uint64_t x = 88172645463325252;

    must_meet(0);
    must_meet(1);
    for (int i = 0; i < 400; i++) {
        struct control_message m = {.epoch = 1};
        struct device_body d = {0};
        uint8_t bytes[DEVICE_BODY_SIZE];

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        m.type = types[x % 8];
        m.link = 1 + (uint32_t)(x >> 8) % (i % 2 ? 1000 : UINT32_MAX);
        if (m.link == of(&left[1])->peer_idx)
            continue; /* its own stream it may spoil */
        m.number = x >> 3;
        m.reason = (uint32_t)(x >> 20);
        d.index = x >> 5 & 0xffff;
        d.key = x;
        d.ring = x << 3;
        device_encode(&d, bytes);
        verbs_say(of(&left[0])->peer, &m, bytes,
                  m.type == MESSAGE_CONFIRM ? DEVICE_BODY_SIZE : 0);
        turn(1);
    }
    left[1].link->ops->commit(left[1].link, 9);
    must_land(right[1].link, 0, 9);
    ck_assert_int_eq(right[1].deaths + right[1].breaks, 0);
    must_meet(2);
}
END_TEST

START_TEST(a_wire_that_is_cut_breaks_the_link_and_leaves_the_copy)
{
    must_meet(0);
    left[0].link->ops->commit(left[0].link, 10);
    must_land(right[0].link, 0, 10);
    ck_assert_int_eq(system("tc qdisc add dev va root netem loss 100%"), 0);
    for (uint64_t i = 10; i < 500; i++)
        left[0].link->tx.bytes[i] = byte_at(i);
    left[0].link->ops->commit(left[0].link, 500);
    right[0].link->ops->commit(right[0].link, 1);
    ck_assert(turn_until(&left[0].breaks, 1));
    ck_assert(turn_until(&left[0].deaths, 1));
    ck_assert_int_eq(system("tc qdisc del dev va root"), 0);
    ck_assert_str_eq(reason_token(left[0].why), "link_broken");
    ck_assert(!left[0].link->ops->delivered(left[0].link, 500));
    for (uint64_t i = 10; i < 500; i++)
        ck_assert_uint_eq(left[0].link->tx.bytes[i], byte_at(i));
    ck_assert_int_eq(left[0].link->ops->drain(left[0].link), -EPIPE);
    must_break_and_meet_again();
}
END_TEST

START_TEST(a_wire_that_loses_some_packets_loses_no_byte)
{
    uint64_t at = 0;

    must_meet(0);
    ck_assert_int_eq(system("tc qdisc add dev va root netem loss 3%"), 0);
    for (int i = 0; i < 60; i++) {
        for (uint64_t k = 0; k < 2000; k++) {
            uint8_t byte = byte_at(at + k);

            ring_put(&left[0].link->tx, at + k, &byte, 1);
        }
        left[0].link->ops->commit(left[0].link, at + 2000);
        must_land(right[0].link, at, at + 2000);
        for (uint64_t k = 0; k < 2000; k++) {
            uint8_t byte;

            ring_get(&right[0].link->rx, at + k, &byte, 1);
            ck_assert_uint_eq(byte, byte_at(at + k));
        }
        at += 2000;
        right[0].link->ops->release(right[0].link, at);
    }
    ck_assert_int_eq(system("tc qdisc del dev va root"), 0);
    ck_assert_int_eq(left[0].breaks + right[0].breaks, 0);
}
END_TEST

START_TEST(a_killed_peer_is_noticed_when_all_that_arrived_was_read)
{
    uint64_t limit;
    int out[2];
    pid_t pid;
    char c;

    side_stop(&there);
    ck_assert_int_eq(pipe(out), 0);
    pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execl(myself, myself, "--peer", NULL);
        _exit(1);
    }
    close(out[1]);
    ck_assert_int_eq((int)read(out[0], &c, 1), 1); /* it listens */
    party_start(&left[0], &here, true, 0);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert_str_eq(reason_token(left[0].why), "none");
    left[0].link->ops->start(left[0].link, 1, 0, 0);
    ck_assert(turn_until(&left[0].messages, 1)); /* it has committed */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert(turn_until(&left[0].breaks, 1));
    ck_assert(turn_until(&left[0].deaths, 1));
    limit = clock_ns() + contract->patience_ns;
    while (left[0].link->ops->peer_alive(left[0].link) && clock_ns() < limit)
        turn(1);
    ck_assert(!left[0].link->ops->peer_alive(left[0].link));
    must_land(left[0].link, 0, 1000);
    for (uint64_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(left[0].link->rx.bytes[i], byte_at(i));
}
END_TEST

/* The other process of the case above: it is killed. */
START_TEST(the_other_process)
{
    struct control_message m = {.type = MESSAGE_WILLING};
    struct link *r;

    side_start(&there, 2);
    listen_there(true);
    ck_assert_int_eq((int)write(1, "l", 1), 1);
    party_start(&right[0], &there, false, 0);
    ck_assert(turn_until(&right[0].done, 1));
    r = right[0].link;
    r->ops->start(r, 1, 0, 0);
    for (uint64_t i = 0; i < 1000; i++)
        r->tx.bytes[i] = byte_at(i);
    r->ops->commit(r, 1000);
    r->ops->send(r, &m);
    turn_until(&right[0].deaths, 1);
}
END_TEST

START_TEST(a_forked_child_that_ends_disturbs_nothing)
{
    int status;
    pid_t pid;

    must_meet(0);
    pid = fork();
    if (pid == 0) {
        alarm(10);
        exit(0); /* with all that the libraries do then */
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    left[0].link->tx.bytes[5] = 77;
    left[0].link->ops->commit(left[0].link, 100);
    must_land(right[0].link, 0, 100);
    ck_assert_uint_eq(right[0].link->rx.bytes[5], 77);
    must_meet(1);
}
END_TEST

/* In a process of its own: the rights of an open device cannot change. */
START_TEST(links_until_no_more_memory_may_be_locked)
{
    unsigned n = 0;

    side_start(&here, 1);
    side_start(&there, 2);
    listen_there(true);
    do {
        party_start(&right[n], &there, false, n);
        party_start(&left[n], &here, true, n);
        ck_assert(turn_until(&left[n].done, 1));
        ck_assert(turn_until(&right[n].done, 1));
    } while (left[n].link != NULL && right[n].link != NULL && ++n < MANY);
    ck_assert_uint_gt(n, 0);
    ck_assert_uint_lt(n, MANY);
    ck_assert_str_eq(reason_token(left[n].why), "memlock");
    /* What was there before goes on. */
    left[0].link->ops->start(left[0].link, 1, 0, 0);
    right[0].link->ops->start(right[0].link, 1, 0, 0);
    left[0].link->ops->commit(left[0].link, 10);
    must_land(right[0].link, 0, 10);
}
END_TEST

static void forgo_rights(void)
{
    struct __user_cap_header_struct header = {.version =
                                                  _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    struct rlimit limit = {600 * 1024, 600 * 1024};

    if (syscall(SYS_capget, &header, data) != 0)
        abort();
    data[0].effective &= ~(1u << CAP_IPC_LOCK);
    if (syscall(SYS_capset, &header, data) != 0 ||
        setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        abort();
}

START_TEST(memory_that_may_not_be_locked_is_a_reason_of_its_own)
{
    int status;
    pid_t pid;

    side_stop(&here);
    side_stop(&there);
    pid = fork();
    if (pid == 0) {
        execl(myself, myself, "--memlock", NULL);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(no_descriptor_of_a_device_stays_where_the_application_has_its_own)
{
    char path[32], target[64];

    must_meet(0);
    for (int fd = 0; fd < KEPT_FROM; fd++) {
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = '\0';
        ck_assert_msg(strstr(target, "infiniband") == NULL, "%d is %s", fd,
                      target);
    }
}
END_TEST

START_TEST(where_no_route_leads_no_peer_is_sought)
{
    party_start(&left[0], &here, true, 0);
    contract->ops->meeting_cancel(&left[0].meeting);
    left[0].meeting.name.server[2] = 99;
    contract->ops->meeting_start(here.backend, &left[0].meeting);
    ck_assert(turn_until(&left[0].done, 1));
    ck_assert_str_eq(reason_token(left[0].why), "no_route");
    left[0].meeting.name.server[0] = 127;
    left[0].done = 0;
    contract->ops->meeting_start(here.backend, &left[0].meeting);
    ck_assert_int_eq(left[0].done, 1);
    ck_assert_str_eq(reason_token(left[0].why), "no_route");
}
END_TEST

/* What a case that failed left behind. */
static void mend_wire(void)
{
    if (system("tc qdisc del dev va root 2>/dev/null") == -1)
        ck_abort_msg("no shell");
}

static void more(TCase *tcase)
{
    tcase_add_checked_fixture(tcase, mend_wire, NULL);
    add_verbs_memory_cases(tcase);
    tcase_add_test(tcase, a_piece_for_a_link_that_is_not_there_is_passed_over);
    tcase_add_test(tcase,
                   more_than_the_ring_holds_breaks_that_link_and_no_other);
    tcase_add_test(tcase,
                   a_release_out_of_bounds_breaks_a_rule_and_sets_nothing);
    tcase_add_test(tcase, a_message_of_no_known_type_ends_the_connection);
    tcase_add_test(tcase, a_credit_for_what_was_not_sent_ends_the_connection);
    tcase_add_test(tcase, keys_that_lead_nowhere_end_the_connection);
    tcase_add_test(tcase, more_messages_than_were_allowed_end_the_connection);
    tcase_add_test(tcase, any_numbers_in_a_rendezvous_harm_nobody_else);
    tcase_add_test(tcase,
                   a_wire_that_is_cut_breaks_the_link_and_leaves_the_copy);
    tcase_add_test(tcase, a_wire_that_loses_some_packets_loses_no_byte);
    tcase_add_test(tcase,
                   a_killed_peer_is_noticed_when_all_that_arrived_was_read);
    tcase_add_test(tcase, a_forked_child_that_ends_disturbs_nothing);
    tcase_add_test(tcase, memory_that_may_not_be_locked_is_a_reason_of_its_own);
    tcase_add_test(
        tcase,
        no_descriptor_of_a_device_stays_where_the_application_has_its_own);
    tcase_add_test(tcase, where_no_route_leads_no_peer_is_sought);
}

static const struct contract verbs = {.ops = &fastsock_backend_verbs,
                                      .device = true,
                                      .asks = true,
                                      .name = name,
                                      .patience_ns = 20000000000,
                                      .n_links = 70,
                                      .more = more};

/* What another case starts as a process: one test, here and now. */
static int run_one(const TTest *test, enum print_output output)
{
    Suite *suite = suite_create("process");
    TCase *tcase = tcase_create("process");
    SRunner *runner = srunner_create(suite);
    int failed;

    tcase_add_test(tcase, test);
    suite_add_tcase(suite, tcase);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, output);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

static bool any_device(void)
{
    int n = 0;
    struct ibv_device **list = ibv_get_device_list(&n);

    if (list != NULL)
        ibv_free_device_list(list);
    return n > 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--memlock") == 0)
        forgo_rights();
    if (!any_device()) {
        puts("there is no RDMA device: run it with make check-guest");
        return 77;
    }
    contract = &verbs;
    myself = argv[0];
    if (argc > 1 && strcmp(argv[1], "--peer") == 0)
        return run_one(the_other_process, CK_SILENT);
    if (argc > 1 && strcmp(argv[1], "--memlock") == 0)
        return run_one(links_until_no_more_memory_may_be_locked, CK_MINIMAL);
    return contract_run("verbs", &verbs);
}
