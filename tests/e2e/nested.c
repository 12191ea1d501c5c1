/*
 * usage: nested [CASE]
 *
 * Epoll sets in epoll sets: levels and edges, threads that sleep outside,
 * streams and sets that come and go meanwhile.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

/* b in a new set, and that in another one, which is `set` from then on. */
static int nest_b(uint32_t events)
{
    int inner;

    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    new_set();
    add(inner, events, 2);
    return inner;
}

static void nested(void)
{
    int inner;

    inner = nest_b(EPOLLIN);
    waits("outer", set, 0);
    put(a, "x");
    waits("outer", set, 1000);
    waits("inner", inner, 0);
    take(b, 1);
    waits("outer", set, 0);
    talk("afterwards", a, b);
}

/* The stream is on its link when it comes into a set that is nested. */
static void nested_before(void)
{
    int outer, inner;

    new_set();
    outer = set;
    new_set();
    inner = set;
    set = outer;
    add(inner, EPOLLIN, 2);
    set = inner;
    add(b, EPOLLIN, 1);
    put(a, "x");
    waits("outer", outer, 1000);
    waits("inner", inner, 0);
    take(b, 1);
    waits("outer", outer, 0);
}

/* Two sets in one, which is in another one. */
static void nested_deep(void)
{
    int outer, middle, inner, other, c, d;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    new_set();
    other = set;
    add(d, EPOLLIN | EPOLLOUT, 2);
    new_set();
    middle = set;
    add(inner, EPOLLIN, 3);
    add(other, EPOLLIN, 4);
    add(a, EPOLLIN | EPOLLET, 5);
    new_set();
    outer = set;
    add(middle, EPOLLIN, 6);
    waits("outer", outer, 1000);
    waits("middle", middle, 1000);
    waits("other", other, 1000);
    put(a, "x");
    put(c, "y");
    put(b, "z");
    waits("middle", middle, 1000);
    waits("inner", inner, 1000);
    waits("other", other, 1000);
    waits("middle again", middle, 0);
    take(b, 1);
    waits("middle without b", middle, 0);
    set = other;
    said("removed", ctl(EPOLL_CTL_DEL, d, 0, 0));
    waits("middle without d", middle, 0);
    waits("outer", outer, 0);
    said("closed", close(inner));
    put(a, "x");
    waits("outer without inner", outer, 50);
    close(middle);
    waits("outer without middle", outer, 0);
}

/* Whoever asked for edges is told of news, not of what is still there. */
static void nested_edges(void)
{
    int inner;

    inner = nest_b(EPOLLIN | EPOLLET);
    waits("outer", set, 0);
    for (int i = 0; i < 3; i++) {
        put(a, "x");
        waits("outer", set, 1000);
        waits("outer again", set, 0);
    }
    take(b, 3);
    waits("outer, all read", set, 0);
    waits("inner", inner, 0);
    put(a, "y");
    waits("outer", set, 1000);
    waits("inner", inner, 0);
    take(b, 1);
    for (int i = 0; i < 3; i++) {
        put(a, "x");
        said("modified", ctl(EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLONESHOT, 3));
        waits("one shot", set, 1000);
        waits("one shot again", set, 0);
        take(b, 1);
    }
}

struct nested_wait {
    int set, n;
    struct epoll_event event;
};

static void *waits_in_nested(void *arg)
{
    struct nested_wait *w = arg;

    w->n = epoll_wait(w->set, &w->event, 1, 3000);
    return NULL;
}

static void *polls_set(void *arg)
{
    struct nested_wait *w = arg;
    struct pollfd p = {w->set, POLLIN, 0};

    w->n = poll(&p, 1, 3000);
    w->event.events = (uint32_t)p.revents;
    return NULL;
}

/* A thread that sleeps is woken by what comes, and by nothing else. */
static void nested_asleep(void)
{
    static void *(*const ways[])(void *) = {waits_in_nested, polls_set};
    struct nested_wait w = {.n = 0};
    int inner, c, d;

    tcp_pair("4", 0, &c, &d);
    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    add(d, EPOLLIN | EPOLLET, 2);
    new_set();
    add(inner, EPOLLIN, 3);
    w.set = set;
    for (int i = 0; i < 8; i++) {
        pthread_t waiter = start_asleep(ways[i % 2], &w);

        put(i < 4 ? a : c, "x");
        end_of(waiter);
        printf("  %d: %d %x\n", i, w.n, w.event.events);
        take(i < 4 ? b : d, 1);
        if (i == 5)
            settle_pair(c, d); /* now it is on a link as well */
        waits("then", set, 0);
    }
}

/* The stream comes and goes while it is in an inner set. */
static void nested_moves(void)
{
    nest_b(EPOLLIN);
    for (int i = 0; i < 3; i++) {
        put(a, "x");
        waits("outer", set, 1000);
        spawn_true();
        waits("outer", set, 1000);
        take(b, 1);
        waits("outer", set, 0);
        settle_pair(a, b);
    }
}

/* What comes on one stream while the other one's is read is news, too. */
static void nested_by_turns(void)
{
    int inner, c, d;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    add(d, EPOLLIN, 2);
    new_set();
    add(inner, EPOLLIN | EPOLLET, 3);
    waits("outer", set, 0);
    for (int i = 0; i < 6; i++) {
        put(i % 2 ? c : a, "x");
        waits("outer", set, 1000);
        waits("inner", inner, 0);
        take(i % 2 ? d : b, 1);
    }
}

static void on_alarm(int number)
{
    (void)number;
}

/* It is readable still, but nobody is to be told: the thread sleeps. */
static void nested_and_told(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {.it_value = {0, 50000}};
    int inner;

    inner = nest_b(EPOLLIN | EPOLLET);
    put(a, "x");
    waits("outer", set, 1000);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    waits("outer, interrupted", set, 10000);
    for (int i = 0; i < 2; i++) {
        struct pollfd p = {inner, i ? POLLPRI : 0, 0};

        setitimer(ITIMER_REAL, &soon, NULL);
        said("poll, interrupted", poll(&p, 1, 10000));
    }
}

/* Neither the outer set's own stream nor the inner set starves. */
static void nested_one_place(void)
{
    unsigned seen = 0;
    int c, d;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    nest_b(EPOLLIN);
    add(d, EPOLLIN, 4);
    put(a, "x");
    put(c, "x");
    for (int i = 0; i < 32; i++) {
        struct epoll_event event;

        if (epoll_wait(set, &event, 1, 1000) == 1)
            seen |= event.data.u32;
    }
    printf("  seen %u\n", seen);
}

/* More sets in sets than the library watches at once. */
static void nested_many(void)
{
    int outer, middle, leaf = -1;

    new_set();
    outer = set;
    new_set();
    middle = set;
    for (int i = 0; i < 40; i++) {
        new_set();
        leaf = set;
        set = middle;
        add(leaf, EPOLLIN, 1);
    }
    set = leaf;
    add(b, EPOLLIN, 2);
    set = outer;
    add(middle, EPOLLIN, 3);
    waits("outer", outer, 0);
    put(a, "x");
    waits("outer", outer, 1000);
    waits("leaf", leaf, 1000);
}

/* A set that is open under another number stays where it was put. */
static void nested_with_two_numbers(void)
{
    int outer, inner, other;

    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    new_set();
    outer = set;
    add(inner, EPOLLIN, 2);
    other = dup(inner);
    close(inner);
    put(a, "x");
    waits("outer", outer, 1000);
    waits("the other number", other, 1000);
    close(other);
    waits("outer, closed", outer, 0);
}

/* Put in while a thread sleeps outside already. */
static void nested_late(void)
{
    struct nested_wait w = {.n = 0};
    pthread_t waiter;
    int inner;

    new_set();
    inner = set;
    add(b, EPOLLIN, 1);
    new_set();
    w.set = set;
    waiter = start_asleep(waits_in_nested, &w);
    add(inner, EPOLLIN, 2);
    sleep_ms(20);
    put(a, "x");
    end_of(waiter);
    printf("  %d %x\n", w.n, w.event.events);
}

static const struct test_case cases[] = {
    {"nested", nested, STAYS},
    {"nested_before", nested_before, STAYS},
    {"nested_deep", nested_deep, STAYS},
    {"nested_edges", nested_edges, STAYS},
    {"nested_asleep", nested_asleep, STAYS},
    {"nested_moves", nested_moves, GOES_UP},
    {"nested_by_turns", nested_by_turns, STAYS},
    {"nested_and_told", nested_and_told, STAYS},
    {"nested_one_place", nested_one_place, STAYS},
    {"nested_many", nested_many, GOES_UP},
    {"nested_with_two_numbers", nested_with_two_numbers, RETURNS},
    {"nested_late", nested_late, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
