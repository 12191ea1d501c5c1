/*
 * usage: numbers [CASE]
 *
 * Calls by number, syscall(), which have a function of no name, or one that
 * says something else: as the kernel answers them.
 */
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
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

/* The offset is two arguments, of which x86-64 looks at the first. */
static void vectors(void)
{
    char in[8] = "";
    struct iovec out = {"vector", 6}, back = {in, 6};

    said("write", write(a, "letter", 6));
    said("preadv2", syscall(SYS_preadv2, b, &back, 1, -1L, -1L, 0));
    printf("  %s\n", in);
    said("pwritev2", syscall(SYS_pwritev2, a, &out, 1, -1L, 0L, 0));
    received("read", b, 6);
}

static void vectors_elsewhere(void)
{
    struct iovec out = {"vector", 6};

    said("at 0", syscall(SYS_pwritev2, a, &out, 1, 0L, 0L, 0));
    said("at 0", syscall(SYS_preadv2, a, &out, 1, 0L, 0L, 0));
    said("flags", syscall(SYS_pwritev2, a, &out, 1, -1L, -1L, 0x40000000));
    talk("afterwards", a, b);
}

static void submits(aio_context_t context, const char *what,
                    struct iocb *control)
{
    said(what, syscall(SYS_io_submit, context, 1L, &control));
}

static void is_done(aio_context_t context)
{
    struct timespec t = {3, 0};
    struct io_event event = {0};

    said("done", syscall(SYS_io_getevents, context, 1L, 1L, &event, &t));
    printf("  %lld\n", (long long)(event.res == 6 ? 6 : event.res & POLLIN));
}

/* The kernel's own asynchronous calls, of which another thread waits. */
static void submitted(void)
{
    static char word[] = "asleep", in[8];
    struct iocb polls = {.aio_lio_opcode = IOCB_CMD_POLL,
                         .aio_fildes = (uint32_t)b,
                         .aio_buf = POLLIN};
    struct iocb writes = {.aio_lio_opcode = IOCB_CMD_PWRITE,
                          .aio_fildes = (uint32_t)a,
                          .aio_buf = (uintptr_t)word,
                          .aio_nbytes = 6};
    struct iocb reads = {.aio_lio_opcode = IOCB_CMD_PREAD,
                         .aio_fildes = (uint32_t)b,
                         .aio_buf = (uintptr_t)in,
                         .aio_nbytes = 6};
    aio_context_t context = 0;

    said("io_setup", syscall(SYS_io_setup, 4L, &context));
    submits(context, "poll", &polls);
    said("write", write(a, "letter", 6));
    is_done(context);
    submits(context, "read", &reads);
    is_done(context);
    printf("  %s\n", in);
    submits(context, "write", &writes);
    is_done(context);
    received("read", b, 6);
    said("nowhere", syscall(SYS_io_submit, context, 1L, 8L));
    said("none", syscall(SYS_io_submit, context, -1L, 8L));
    said("io_destroy", syscall(SYS_io_destroy, context));
    talk("afterwards", a, b);
}

static const struct test_case cases[] = {
    {"set_polled", set_polled, RETURNS},
    {"set_selected", set_selected, RETURNS},
    {"vectors", vectors, STAYS},
    {"vectors_elsewhere", vectors_elsewhere, RETURNS},
    {"submitted", submitted, RETURNS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
