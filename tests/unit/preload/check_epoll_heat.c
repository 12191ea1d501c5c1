/* A registration becomes cold while other threads use its stream. */
#include "preload/epoll_private.h"

#include <check.h>
#include <stdlib.h>

#include "tests/support/run_suite.h"
#include "tests/unit/preload/silent_link.h"

enum { RING = 4096 };

static struct endpoint e;
static struct epoll_set set;
static struct epoll_reg reg;
static struct waiter waiter = {.id = 7};
static bool is_refused, was_asked;

static void want_room(struct link *link)
{
    (void)link;
    was_asked = true;
}

/* At that moment another thread's write is refused, and all is taken. */
static void set_marked(struct link *link, unsigned id, bool on)
{
    (void)link;
    (void)id;
    (void)on;
    if (is_refused) {
        atomic_fetch_add(&e.stream.refused, 1);
        epoll_sets_told(&e);
    }
}

static const struct transport_ops ops = {.arrived = silent_arrived,
                                         .freed = silent_freed,
                                         .want_room = want_room,
                                         .set_marked = set_marked};
static struct link link_up = {.ops = &ops,
                              .tx.size = RING,
                              .rx.size = RING,
                              .tx.span = RING,
                              .rx.span = RING};

/* Writable, and told so. */
static void start(void)
{
    e.stream.link = &link_up;
    e.stream.h.stage = STAGE_UP;
    e.stream.h.end = HANDOVER_NONE;
    e.regs = &reg;
    set.waiter = &waiter;
    reg = (struct epoll_reg){.set = &set,
                             .endpoint = &e,
                             .events = EPOLLIN | EPOLLOUT | EPOLLET,
                             .managed = true};
    reg.told_seen = atomic_load(&e.stream.told) - 1;
    atomic_store(&set.n_managed, 1);
    epoll_make_hot(&set, &reg);
    ck_assert_uint_eq(epoll_events_of(&reg, false), EPOLLOUT);
    ck_assert_uint_eq(epoll_events_of(&reg, true), 0);
}

static void stop(void)
{
    epoll_make_cold(&set, &reg);
    free(set.hot);
    set.hot = NULL;
    set.hot_size = 0;
}

START_TEST(one_without_news_is_cold)
{
    is_refused = false;
    ck_assert(epoll_cool_down(&set, &reg));
    ck_assert(!reg.hot);
    ck_assert(!was_asked);
}
END_TEST

START_TEST(room_after_a_refused_write_is_told_of_however_quiet_it_was)
{
    is_refused = true;
    ck_assert(epoll_cool_down(&set, &reg));
    ck_assert(reg.hot || reg.promote);
    ck_assert_uint_eq(epoll_events_of(&reg, false), EPOLLOUT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("epoll heat");
    TCase *tc = tcase_create("heat");

    tcase_add_checked_fixture(tc, start, stop);
    tcase_add_test(tc, one_without_news_is_cold);
    tcase_add_test(tc,
                   room_after_a_refused_write_is_told_of_however_quiet_it_was);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
