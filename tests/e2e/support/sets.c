/*
 * See sets.h.
 */
#include "tests/e2e/support/sets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

int set;

int ctl(int op, int fd, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};

    return epoll_ctl(set, op, fd, &event);
}

void add(int fd, uint32_t events, uint64_t data)
{
    if (ctl(EPOLL_CTL_ADD, fd, events, data) < 0)
        die("EPOLL_CTL_ADD");
}

void new_set(void)
{
    set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0)
        die("epoll_create1");
}

static int by_data(const void *x, const void *y)
{
    const struct epoll_event *e = x, *f = y;

    return e->data.u64 < f->data.u64 ? -1 : e->data.u64 > f->data.u64;
}

/* All that one call reports, in the order of the data. */
void waits(const char *what, int epfd, int ms)
{
    struct epoll_event events[8];
    int n = epoll_wait(epfd, events, 8, ms);

    printf("  %s: %d", what, n);
    if (n > 0)
        qsort(events, (size_t)n, sizeof(events[0]), by_data);
    for (int i = 0; i < n; i++)
        printf(" %x/%llx", events[i].events,
               (unsigned long long)events[i].data.u64);
    printf("%s\n", n < 0 ? error_name(errno) : "");
}

void put(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        die("write");
}

void take(int fd, size_t n)
{
    char buf[64];

    if (recv(fd, buf, n, MSG_WAITALL) != (ssize_t)n)
        die("recv %zu", n);
}
