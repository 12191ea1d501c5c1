/*
 * usage: members [CASE]
 *
 * Members of epoll sets that are closed, have two numbers, or are removed and
 * added again.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

static void closed_members(void)
{
    int number = b, c, d;
    uint16_t port = 0;

    new_set();
    add(b, EPOLLIN, 1);
    put(a, "x");
    wait_unread(b, 1);
    close(b);
    waits("closed", set, 10);
    c = tcp_listen("4", &port);
    if (dup2(c, number) != c) /* one of the library's was there for a moment */
        close(c);
    c = tcp_connect("4", port);
    d = dup2(c, number); /* over the listener */
    waits("another there", set, 10);
    add(d, EPOLLOUT, 2);
    waits("and added", set, 1000);
}

static void member_with_two_numbers(void)
{
    int again = dup(b);

    new_set();
    add(b, EPOLLIN, 1);
    add(again, EPOLLIN | EPOLLET, 2);
    put(a, "x");
    waits("both", set, 1000);
    waits("one", set, 0);
    take(b, 1);
    said("removed", ctl(EPOLL_CTL_DEL, again, 0, 0));
    put(a, "y");
    waits("the first", set, 1000);
}

/* The file is open under another number, so the registration stays. */
static void number_gone_file_open(void)
{
    int again = dup(b);

    new_set();
    add(b, EPOLLIN, 1);
    close(b);
    put(a, "x");
    waits("still there", set, 1000);
    said("not by this number", ctl(EPOLL_CTL_DEL, b, 0, 0));
    take(again, 1);
    waits("nothing", set, 0);
    close(again);
    waits("gone", set, 0);
}

/* As event loops do that remove a member and add it again for each request. */
static void deleted_and_added(void)
{
    struct pollfd p = {0, POLLIN, 0};
    int other, again;

    new_set();
    add(b, EPOLLIN | EPOLLET, 1);
    put(a, "x");
    waits("edge", set, 1000);
    for (uint64_t i = 2; i < 5; i++) {
        said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
        said("added", ctl(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLET, i));
        waits("edge of the new one", set, 1000);
    }
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("no member", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 5));
    said("added", ctl(EPOLL_CTL_ADD, b, EPOLLIN | EPOLLONESHOT, 6));
    said("twice", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 7));
    waits("once", set, 1000);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("twice removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    waits("nothing", set, 0);
    said("added", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 8));
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("exclusive", ctl(EPOLL_CTL_MOD, b, EPOLLEXCLUSIVE, 9));
    add(b, EPOLLIN | EPOLLEXCLUSIVE, 9);
    waits("bytes", set, 0);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    put(a, "y");
    wait_unread(b, 2);
    waits("nothing", set, 10);
    add(b, EPOLLIN, 10);
    other = set;
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    new_set();
    add(b, EPOLLIN, 11);
    waits("in another set", set, 0);
    waits("not here", other, 0);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    p.fd = set;
    said("poll of the set", poll(&p, 1, 0));
    add(b, EPOLLIN, 12);
    said("poll of the set", poll(&p, 1, 0));
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("poll of the set", poll(&p, 1, 0));
    new_set();
    again = dup(b);
    add(b, EPOLLIN, 13);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    add(again, EPOLLIN, 14);
    add(b, EPOLLIN, 15);
    waits("both", set, 0);
    said("removed", ctl(EPOLL_CTL_DEL, again, 0, 0));
    close(again);
    waits("one", set, 0);
    add(a, EPOLLIN, 16);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("removed", ctl(EPOLL_CTL_DEL, a, 0, 0));
    add(b, EPOLLIN, 17);
    add(a, EPOLLOUT, 18);
    waits("both", set, 1000);
    take(b, 2);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    close(b);
    waits("one", set, 0);
}

static const struct test_case cases[] = {
    {"closed_members", closed_members, STAYS},
    {"member_with_two_numbers", member_with_two_numbers, STAYS},
    {"number_gone_file_open", number_gone_file_open, RETURNS},
    {"deleted_and_added", deleted_and_added, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
