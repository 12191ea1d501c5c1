/*
 * usage: numbers [CASE]
 *
 * Calls by number, syscall(), which have a function of no name, or one that
 * says something else: as the kernel answers them.
 */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

static void received(const char *what, int fd, size_t n)
{
    char buf[64] = "";

    if (recv(fd, buf, n, MSG_WAITALL) != (ssize_t)n)
        die("%s", what);
    printf("  %s: %s\n", what, buf);
}

static void *writes_word(void *arg)
{
    until_asleep(getpid());
    (void)!write(a, "word", 4);
    return arg;
}

/* A set that holds the stream is asked, by which only the kernel goes. */
static void set_polled(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct timespec t = {3, 0};
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct pollfd p = {set, POLLIN, 0};
    pthread_t writer;

    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    writer = run_thread(writes_word, NULL);
    said("ppoll", syscall(SYS_ppoll, &p, 1, &t, NULL, 8));
    end_of(writer);
    printf("  events %x\n", (unsigned)p.revents);
    said("epoll_wait", epoll_wait(set, &event, 1, 1000));
    received("read", b, 4);
    talk("afterwards", a, b);
}

static void set_selected(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    struct timespec t = {3, 0};
    int set = epoll_create1(EPOLL_CLOEXEC);
    pthread_t writer;
    fd_set in;

    FD_ZERO(&in);
    FD_SET(set, &in);
    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    writer = run_thread(writes_word, NULL);
    said("pselect6", syscall(SYS_pselect6, set + 1, &in, NULL, NULL, &t, NULL));
    end_of(writer);
    printf("  %s\n", FD_ISSET(set, &in) ? "in it" : "NOT IN IT");
    received("read", b, 4);
    talk("afterwards", a, b);
}

static const struct test_case cases[] = {
    {"set_polled", set_polled, RETURNS},
    {"set_selected", set_selected, RETURNS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
