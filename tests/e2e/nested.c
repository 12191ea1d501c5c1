/*
 * usage: nested [CASE]
 *
 * Epoll sets in epoll sets: levels and edges, threads that sleep outside,
 * streams and sets that come and go meanwhile.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
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

/* One in another one, where an empty one stands ready to be put into it. */
static int outer_set, middle_set, empty_set;

static void nest_middle(void)
{
    new_set();
    empty_set = set;
    new_set();
    middle_set = set;
    new_set();
    outer_set = set;
    add(middle_set, EPOLLIN, 2);
}

/* Nothing is there when the empty one is put in, and what comes is told. */
static void show_middle(void)
{
    struct pollfd p = {middle_set, POLLIN, 0};

    set = middle_set;
    add(empty_set, EPOLLIN, 3);
    waits("outer", outer_set, 0);
    said("poll", poll(&p, 1, 0));
    waits("outer", outer_set, 10);
    set = empty_set;
    add(b, EPOLLIN, 4);
    waits("outer", outer_set, 0);
    put(a, "x");
    waits("outer", outer_set, 1000);
    waits("middle", middle_set, 0);
    said("poll", poll(&p, 1, 1000));
    take(b, 1);
    waits("outer", outer_set, 0);
}

static int hold_on[2]; /* a pipe: who reads it goes on when there is a byte */

static void stays_a_while(int number)
{
    char byte;

    (void)number;
    (void)!read(hold_on[0], &byte, 1);
}

/* A thread is held up in its sleep as a set is put in; another one is not. */
static void nested_held_up(void)
{
    struct sigaction action = {.sa_handler = stays_a_while};
    struct nested_wait late = {.n = 0}, early = {.n = 0};
    pthread_t first, second;

    if (pipe(hold_on) < 0)
        die("pipe");
    sigaction(SIGUSR1, &action, NULL);
    until_moved(a, b);
    nest_middle();
    late.set = early.set = outer_set;
    first = start_asleep(waits_in_nested, &late);
    second = start_asleep(waits_in_nested, &early);
    pthread_kill(first, SIGUSR1);
    sleep_ms(20);
    show_middle();
    put(a, "y"); /* it may have been told of the first one */
    end_of(second);
    printf("  %d %x\n", early.n, early.event.events);
    take(b, 1);
    (void)!write(hold_on[1], "x", 1);
    end_of(first);
    printf("  %d\n", late.n);
    talk("afterwards", a, b);
}

static sigjmp_buf out;

static void jumps(int number)
{
    (void)number;
    siglongjmp(out, 1);
}

static void jumps_out_of_wait(void)
{
    struct sigaction action = {.sa_handler = jumps};
    struct itimerval soon = {.it_value = {0, 50000}};
    struct nested_wait w = {.set = outer_set};

    sigaction(SIGALRM, &action, NULL);
    if (sigsetjmp(out, 1) == 0) {
        setitimer(ITIMER_REAL, &soon, NULL);
        waits_in_nested(&w);
    }
}

/* A thread has left its sleep by a jump, and is the one that looks. */
static void nested_jumped(void)
{
    until_moved(a, b);
    nest_middle();
    jumps_out_of_wait();
    show_middle();
    talk("afterwards", a, b);
}

static void *jumps_and_stays(void *arg)
{
    struct sigaction action = {.sa_handler = jumps};
    char byte;

    sigaction(SIGUSR1, &action, NULL);
    if (sigsetjmp(out, 1) == 0)
        waits_in_nested(arg);
    (void)!read(hold_on[0], &byte, 1);
    return NULL;
}

/* Another one has, and never looks again. */
static void nested_jumped_apart(void)
{
    struct nested_wait w = {.n = 0};
    pthread_t thread;

    if (pipe(hold_on) < 0)
        die("pipe");
    until_moved(a, b);
    nest_middle();
    w.set = outer_set;
    thread = start_asleep(jumps_and_stays, &w);
    pthread_kill(thread, SIGUSR1);
    sleep_ms(20);
    show_middle();
    (void)!write(hold_on[1], "x", 1);
    end_of(thread);
    talk("afterwards", a, b);
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
    {"nested_held_up", nested_held_up, GOES_UP},
    {"nested_jumped", nested_jumped, GOES_UP},
    {"nested_jumped_apart", nested_jumped_apart, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
