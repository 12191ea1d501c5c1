/*
 * usage: readiness [CASE]
 *
 * epoll, poll and select as man 7 epoll has them, where programs rely on the
 * fine print: several sets, edges, one shots, half-closed ends, arguments that
 * are wrong.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

/* What compilers would see through. */
static void *volatile nowhere = (void *)8;
static volatile int minus_one = -1, too_much = INT_MAX;
static volatile nfds_t too_many = 1u << 30;

static void two_sets(void)
{
    int other;

    new_set();
    other = set;
    add(b, EPOLLIN | EPOLLET, 1);
    new_set();
    add(b, EPOLLIN, 2);
    put(a, "x");
    waits("edge", other, 1000);
    waits("level", set, 1000);
    waits("edge again", other, 0);
    waits("level again", set, 0);
    take(b, 1);
    waits("edge", other, 0);
    waits("level", set, 0);
    close(other);
    put(a, "y");
    waits("the one left", set, 1000);
}

static void set_polled(void)
{
    struct pollfd p = {0, POLLIN, 0};
    fd_set in;

    new_set();
    add(b, EPOLLIN, 1);
    p.fd = set;
    said("poll", poll(&p, 1, 0));
    put(a, "x");
    said("poll", poll(&p, 1, 1000));
    FD_ZERO(&in);
    FD_SET(set, &in);
    said("select", select(set + 1, &in, NULL, NULL, &(struct timeval){1, 0}));
    waits("the set", set, 0);
}

static void set_with_two_numbers(void)
{
    int other;

    new_set();
    add(b, EPOLLIN, 1);
    other = dup(set);
    put(a, "x");
    waits("one", set, 1000);
    waits("the other", other, 1000);
    close(set);
    waits("the other alone", other, 1000);
    set = other;
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    waits("nothing", other, 0);
}

static void user_data(void)
{
    static const uint64_t odd[] = {0, UINT64_MAX, UINT64_C(1) << 63, 3,
                                   0x1234567890abcdef};

    new_set();
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        said("ctl",
             ctl(i == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, b, EPOLLIN, odd[i]));
        put(a, "x");
        waits("it", set, 1000);
        take(b, 1);
    }
}

static void edges(void)
{
    new_set();
    add(b, EPOLLIN | EPOLLOUT | EPOLLET, 7);
    waits("at first", set, 1000);
    waits("no more", set, 0);
    put(a, "0123456789");
    waits("ten bytes", set, 1000);
    take(b, 3);
    waits("three taken", set, 0);
    put(a, "x");
    wait_unread(b, 8);
    waits("one more", set, 1000);
    take(b, 8);
    waits("all taken", set, 0);
    put(a, "y");
    waits("again", set, 1000);
    said("mod", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLET, 8));
    waits("by the change", set, 1000);
    waits("once", set, 0);
    said("mod", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 9));
    waits("level", set, 0);
    waits("level", set, 0);
}

static void one_shots(void)
{
    new_set();
    add(b, EPOLLIN | EPOLLONESHOT, 1);
    put(a, "x");
    waits("fires", set, 1000);
    put(a, "y");
    wait_unread(b, 2);
    waits("is spent", set, 10);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 2));
    waits("fires", set, 1000);
    take(b, 2);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 3));
    waits("nothing there", set, 0);
    shutdown(a, SHUT_WR);
    waits("the end", set, 1000);
    waits("is spent", set, 10);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLET | EPOLLONESHOT, 4));
    waits("fires", set, 1000);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
}

static void exclusive(void)
{
    int first;

    new_set();
    first = set;
    said("add", ctl(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLEXCLUSIVE, 1));
    said("mod", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 1));
    new_set();
    said("one shot",
         ctl(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    said("rdhup",
         ctl(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
    said("add", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 2));
    said("mod", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLEXCLUSIVE, 1));
    put(a, "x");
    waits("one", first, 1000);
    waits("the other", set, 1000);
    take(b, 1);
    waits("one", first, 0);
}

static void half_closed(void)
{
    int asked;

    new_set();
    asked = set;
    add(b, EPOLLIN | EPOLLRDHUP, 1);
    new_set();
    add(b, EPOLLIN, 2);
    put(a, "last");
    shutdown(a, SHUT_WR);
    wait_events(b, POLLRDHUP);
    waits("asked", asked, 1000);
    waits("not asked", set, 1000);
    take(b, 4);
    waits("asked", asked, 1000);
    waits("not asked", set, 1000);
    shutdown(b, SHUT_WR);
    wait_events(b, 0);
    waits("asked", asked, 1000);
    waits("not asked", set, 1000);
    wait_events(a, 0);
    show_events("a", a);
}

static void only_hang_ups(void)
{
    new_set();
    add(b, 0, 1);
    add(a, EPOLLRDHUP | EPOLLET, 2);
    put(a, "x");
    waits("bytes", set, 10);
    take(b, 1);
    shutdown(b, SHUT_WR);
    waits("half", set, 1000);
    waits("half, again", set, 10);
    shutdown(a, SHUT_WR);
    wait_events(a, 0);
    wait_events(b, 0);
    waits("both", set, 1000);
}

static void wrong_arguments(void)
{
    static struct epoll_event low; /* with much room behind it */
    struct epoll_event event = {0};
    struct timespec odd = {0, 1000000000};

    new_set();
    add(b, EPOLLIN, 1);
    said("twice", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 1));
    said("no member", ctl(EPOLL_CTL_MOD, a, EPOLLIN, 1));
    said("no member", ctl(EPOLL_CTL_DEL, a, EPOLLIN, 1));
    said("no such thing", ctl(77, b, EPOLLIN, 1));
    said("no event", epoll_ctl(set, EPOLL_CTL_MOD, b, NULL));
    said("no set", epoll_ctl(a, EPOLL_CTL_ADD, b, &event));
    said("itself", ctl(EPOLL_CTL_ADD, set, EPOLLIN, 1));
    said("not open", ctl(EPOLL_CTL_ADD, 99, EPOLLIN, 1));
    said("no room", epoll_wait(set, &event, 0, 0));
    said("less than no room", epoll_wait(set, &event, minus_one, 0));
    said("not a set", epoll_wait(b, &event, 1, 0));
    said("odd time", epoll_pwait2(set, &event, 1, &odd, NULL));
    put(a, "x");
    wait_unread(b, 1);
    said("too much room", epoll_wait(set, &event, too_much, 0));
    too_much /= (int)sizeof(event);
    said("just enough", epoll_pwait(set, &low, too_much, 0, NULL));
    too_much++;
    said("one too many", epoll_pwait(set, &low, too_much, 0, NULL));
    said("nowhere", epoll_wait(set, nowhere, 1, 0));
    waits("all the same", set, 0);
}

static void polls(void)
{
    struct pollfd p[5] = {{b, POLLIN, 0},
                          {b, POLLOUT | POLLWRNORM, 0},
                          {-1, POLLIN, 0},
                          {99, POLLIN, 0},
                          {b, 0, 0}};
    fd_set in;
    int none;

    put(a, "x");
    wait_unread(b, 1);
    said("poll", poll(p, 5, 0));
    for (int i = 0; i < 5; i++)
        printf("  %x\n", (unsigned)p[i].revents);
    said("none", poll(NULL, 0, 0));
    said("nowhere", poll(nowhere, 1, 0));
    said("too many", poll(p, too_many, 0));
    said("odd time", ppoll(p, 5, &(struct timespec){0, -1}, NULL));
    FD_ZERO(&in);
    FD_SET(b, &in);
    said("select", select(b + 1, &in, NULL, NULL, &(struct timeval){0, 0}));
    /* select(2) does not look beyond the process's table: at least 64. */
    none = not_open_below(64);
    FD_SET(none, &in);
    said("not open",
         select(none + 1, &in, NULL, NULL, &(struct timeval){0, 0}));
    said("odd time", select(1, NULL, NULL, NULL, &(struct timeval){-1, 0}));
    said("less than none", select(-1, &in, NULL, NULL, NULL));
    said("nowhere",
         select(b + 1, nowhere, NULL, NULL, &(struct timeval){0, 0}));
}

static void time_outs(void)
{
    struct timeval left = {0, 30000};
    struct epoll_event event;
    struct pollfd p = {b, POLLIN, 0};
    uint64_t start = now_ms();
    fd_set in;

    new_set();
    add(b, EPOLLIN, 1);
    said("epoll_wait", epoll_wait(set, &event, 1, 30));
    said("pwait2",
         epoll_pwait2(set, &event, 1, &(struct timespec){0, 30000000}, NULL));
    said("poll", poll(&p, 1, 30));
    said("ppoll", ppoll(&p, 1, &(struct timespec){0, 30000000}, NULL));
    FD_ZERO(&in);
    FD_SET(b, &in);
    said("select", select(b + 1, &in, NULL, NULL, &left));
    printf("  left %ld, set %d, %s\n", (long)left.tv_usec, FD_ISSET(b, &in),
           now_ms() - start >= 145 ? "after all" : "TOO EARLY");
    put(a, "x");
    wait_unread(b, 1);
    left = (struct timeval){2, 0};
    FD_SET(b, &in);
    said("select", select(b + 1, &in, NULL, NULL, &left));
    printf("  %s\n",
           left.tv_sec == 1 || left.tv_sec == 2 ? "some left" : "NONE");
}

/* Longer than a clock of nanoseconds goes. */
static void long_time_outs(void)
{
    static const struct timeval times[] = {{4000000000, 0},
                                           {4000000001, 0},
                                           {LONG_MAX / 2, 999999},
                                           {LONG_MAX, 0},
                                           {LONG_MAX, 2000000}};

    until_moved(a, b);
    put(a, "x");
    wait_unread(b, 1);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct timeval left = times[i];
        fd_set in;

        FD_ZERO(&in);
        FD_SET(b, &in);
        said("select", select(b + 1, &in, NULL, NULL, &left));
        printf("  left %s, %s\n", left.tv_sec > 3999990000 ? "much" : "LITTLE",
               left.tv_usec >= 0 && left.tv_usec < 1000000 ? "a time" : "NONE");
    }
}

static void on_signal(int number)
{
    (void)number;
}

static void masks(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct pollfd p = {b, POLLIN, 0};
    struct epoll_event event;
    struct timespec second = {1, 0};
    sigset_t usr1, none;
    fd_set in;

    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    new_set();
    add(b, EPOLLIN, 1);
    FD_ZERO(&in);
    FD_SET(b, &in);
    raise(SIGUSR1);
    said("epoll_pwait", epoll_pwait(set, &event, 1, 1000, &none));
    raise(SIGUSR1);
    said("pwait2", epoll_pwait2(set, &event, 1, &second, &none));
    raise(SIGUSR1);
    said("ppoll", ppoll(&p, 1, &second, &none));
    raise(SIGUSR1);
    said("pselect", pselect(b + 1, &in, NULL, NULL, &second, &none));
    raise(SIGUSR1);
    said("blocked", epoll_wait(set, &event, 1, 20));
}

static volatile int handled;

static void count_signal(int number)
{
    (void)number;
    handled++;
}

/* What is blocked comes in where the mask lets it, also without a wait. */
static void masks_at_once(void)
{
    static const char *const of[] = {"stream", "set", "both"};
    struct sigaction action = {.sa_handler = count_signal};
    struct timespec zero = {0, 0}, short_time = {0, 1};
    sigset_t usr1, none;

    sigemptyset(&none);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    sigaction(SIGUSR1, &action, NULL);
    sigprocmask(SIG_BLOCK, &usr1, NULL);
    new_set();
    add(b, EPOLLIN, 1);
    until_moved(a, b);
    for (int i = 0; i < 3; i++) {
        struct pollfd p[2] = {{i == 1 ? -1 : b, POLLIN, 0},
                              {i == 0 ? -1 : set, POLLIN, 0}};
        fd_set in;

        printf(" %s\n", of[i]);
        raise(SIGUSR1);
        said("ppoll", ppoll(p, 2, &zero, &none));
        said("again", ppoll(p, 2, &zero, &none));
        raise(SIGUSR1);
        said("in a moment", ppoll(p, 2, &short_time, &none));
        raise(SIGUSR1);
        said("blocked", ppoll(p, 2, &zero, &usr1));
        FD_ZERO(&in);
        for (int k = 0; k < 2; k++)
            if (p[k].fd >= 0)
                FD_SET(p[k].fd, &in);
        said("pselect",
             pselect((b > set ? b : set) + 1, &in, NULL, NULL, &zero, &none));
        raise(SIGUSR1);
        put(a, "x");
        wait_unread(b, 1);
        said("something there", ppoll(p, 2, &zero, &none));
        take(b, 1);
        said("nothing there", ppoll(p, 2, &zero, &none));
        printf("  handled %d\n", handled);
    }
}

static atomic_bool enough;

static void *sends_what_is_ignored(void *thread)
{
    while (!atomic_load(&enough))
        pthread_kill(*(pthread_t *)thread, SIGWINCH);
    return NULL;
}

static void ignored_signals(void)
{
    struct sigaction action = {.sa_handler = count_signal};
    pthread_t self = pthread_self(), thread;
    struct epoll_event event;
    int interrupted = 0;

    sigaction(SIGUSR1, &action, NULL); /* which nobody sends */
    until_moved(a, b);
    new_set();
    add(b, EPOLLIN, 1);
    pthread_create(&thread, NULL, sends_what_is_ignored, &self);
    for (int i = 0; i < 300; i++)
        interrupted += epoll_wait(set, &event, 1, 1) < 0;
    atomic_store(&enough, true);
    pthread_join(thread, NULL);
    printf("  interrupted %d\n", interrupted);
}

/* One at a time, each gets its turn; so do descriptors of the kernel's. */
static void turns(void)
{
    int c[3], d[3], bell = eventfd(1, EFD_CLOEXEC), seen[5] = {0};

    new_set();
    for (int i = 0; i < 3; i++) {
        tcp_pair("4", 0, &c[i], &d[i]);
        settle_pair(c[i], d[i]);
        add(d[i], EPOLLIN, (uint64_t)i);
        put(c[i], "busy");
        wait_unread(d[i], 4);
    }
    add(bell, EPOLLIN, 3);
    for (int i = 0; i < 200; i++) {
        struct epoll_event event = {.data.u64 = 4};

        epoll_wait(set, &event, 1, 1000);
        seen[event.data.u64 < 4 ? event.data.u64 : 4]++;
    }
    for (int i = 0; i < 5; i++)
        printf("  %d: %s\n", i,
               seen[i] > 5 ? "often"
               : seen[i]   ? "rarely"
                           : "never");
}

struct later {
    int fd;
    void (*what)(int fd);
};

static void *act_later(void *arg)
{
    struct later *l = arg;

    sleep_ms(30);
    l->what(l->fd);
    return NULL;
}

static void writes_one(int fd)
{
    put(fd, "x");
}

static void shuts_down(int fd)
{
    shutdown(fd, SHUT_WR);
}

static void adds_it(int fd)
{
    add(fd, EPOLLIN | EPOLLOUT, 5);
}

static void woken(const char *what, struct later l)
{
    pthread_t thread;

    pthread_create(&thread, NULL, act_later, &l);
    waits(what, set, 2000);
    pthread_join(thread, NULL);
}

static void sleepers_wake(void)
{
    struct pollfd p = {b, POLLIN, 0};
    struct later l = {a, writes_one};
    pthread_t thread;

    new_set();
    add(b, EPOLLIN, 1);
    woken("a byte", l);
    take(b, 1);
    woken("another member", (struct later){a, adds_it});
    ctl(EPOLL_CTL_DEL, a, 0, 0);
    pthread_create(&thread, NULL, act_later, &l);
    said("poll", poll(&p, 1, 2000));
    pthread_join(thread, NULL);
    take(b, 1);
    woken("the end", (struct later){a, shuts_down});
}

/* Two processes with one set: each sees what the other one puts in. */
static void set_of_two(void)
{
    int to_parent[2], to_child[2], c, d;
    char byte;
    pid_t pid;

    if (pipe(to_parent) < 0 || pipe(to_child) < 0)
        die("pipe");
    new_set();
    add(b, EPOLLIN, 1);
    pid = fork_limited(9);
    if (pid == 0) {
        tcp_pair("4", 0, &c, &d);
        settle_pair(c, d);
        until_moved(c, d);
        add(d, EPOLLIN, 2);
        put(c, "x");
        waits("the child", set, 1000);
        fflush(stdout);
        (void)!write(to_parent[1], "x", 1);
        (void)!read(to_child[0], &byte, 1);
        take(d, 1);
        waits("the child", set, 1000);
        fflush(stdout);
        _exit(0);
    }
    (void)!read(to_parent[0], &byte, 1);
    waits("the parent", set, 1000);
    put(a, "y");
    wait_unread(b, 1);
    (void)!write(to_child[1], "x", 1);
    said("child", child_status(pid));
    waits("the parent", set, 1000);
    take(b, 1);
    waits("nothing", set, 0);
}

static const struct test_case cases[] = {
    {"two_sets", two_sets, STAYS},
    {"set_polled", set_polled, STAYS},
    {"set_with_two_numbers", set_with_two_numbers, RETURNS},
    {"user_data", user_data, STAYS},
    {"edges", edges, STAYS},
    {"one_shots", one_shots, STAYS},
    {"exclusive", exclusive, STAYS},
    {"half_closed", half_closed, STAYS},
    {"only_hang_ups", only_hang_ups, STAYS},
    {"wrong_arguments", wrong_arguments, STAYS},
    {"polls", polls, STAYS},
    {"time_outs", time_outs, STAYS},
    {"long_time_outs", long_time_outs, STAYS},
    {"masks", masks, STAYS},
    {"masks_at_once", masks_at_once, STAYS},
    {"ignored_signals", ignored_signals, STAYS},
    {"turns", turns, STAYS},
    {"set_of_two", set_of_two, GOES_UP},
    {"sleepers_wake", sleepers_wake, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
