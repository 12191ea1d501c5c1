/* Who waits where its peer runs moves to another CPU, if it is asked to. */
#include "preload/spread.h"

#include <check.h>
#include <sched.h>

#include "preload/process.h"
#include "tests/support/run_suite.h"
#include "transport/pause.h"

static uint32_t peer_cpu;

static bool is_here(struct link *link, uint32_t cpu)
{
    (void)link;
    return cpu == peer_cpu;
}

static const struct transport_ops ops = {.peer_is_here = is_here};
static struct link link_up = {.ops = &ops};
static cpu_set_t before;

static bool peer_is_here(struct link *link, bool initiator)
{
    return spread_is_here(spread_look(link, initiator));
}

/* The peer ran last where this thread is, and stays there. */
static void start(void)
{
    cpu_set_t one;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(before), &before), 0);
    peer_cpu = cpu_now();
    CPU_ZERO(&one);
    CPU_SET(peer_cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(before), &before), 0);
    peer_cpu = cpu_now();
    process.settings.spread = true;
}

static void may_run_as_before(void)
{
    cpu_set_t now;

    ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
    ck_assert(CPU_EQUAL(&now, &before));
}

START_TEST(a_client_moves)
{
    if (CPU_COUNT(&before) < 2)
        return;
    ck_assert(!peer_is_here(&link_up, true));
    may_run_as_before();
}
END_TEST

START_TEST(it_does_so_now_and_then)
{
    if (CPU_COUNT(&before) < 2)
        return;
    ck_assert(!peer_is_here(&link_up, true));
    peer_cpu = cpu_now();
    for (int i = 0; i < 100 && peer_cpu == cpu_now(); i++)
        peer_is_here(&link_up, true);
    may_run_as_before();
}
END_TEST

START_TEST(a_server_does_not)
{
    ck_assert(peer_is_here(&link_up, false) ||
              cpu_now() != peer_cpu); /* the scheduler may have moved it */
    may_run_as_before();
}
END_TEST

START_TEST(nobody_does_by_default)
{
    process.settings.spread = false;
    ck_assert(peer_is_here(&link_up, true) || cpu_now() != peer_cpu);
}
END_TEST

START_TEST(who_may_use_one_cpu_stays)
{
    cpu_set_t one, now;

    CPU_ZERO(&one);
    CPU_SET(peer_cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
    ck_assert(peer_is_here(&link_up, true));
    ck_assert_int_eq(sched_getaffinity(0, sizeof(now), &now), 0);
    ck_assert(CPU_EQUAL(&now, &one));
}
END_TEST

START_TEST(no_link_no_peer)
{
    ck_assert(!peer_is_here(NULL, true));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("spread");
    TCase *tc = tcase_create("spread");

    tcase_add_checked_fixture(tc, start, NULL);
    tcase_add_test(tc, a_client_moves);
    tcase_add_test(tc, it_does_so_now_and_then);
    tcase_add_test(tc, a_server_does_not);
    tcase_add_test(tc, nobody_does_by_default);
    tcase_add_test(tc, who_may_use_one_cpu_stays);
    tcase_add_test(tc, no_link_no_peer);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
