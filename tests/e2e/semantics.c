/*
 * usage: semantics [CASE]
 *
 * What POSIX and Linux promise about a connection that ends, waits or is
 * interrupted, one case after the other. Each case gets a fresh connection,
 * lets it settle, and prints what every call said; the output on kernel TCP
 * and under the library has to be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/plain.h"

static int a, b; /* client, server */
static void *volatile nowhere;
static volatile sig_atomic_t signals_seen, pipes_seen;

static void said(const char *what, ssize_t rc)
{
    int error = errno;

    printf("  %s: %zd %s\n", what, rc, rc < 0 ? error_name(error) : "");
}

static void show_events(const char *what, int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};

    poll(&p, 1, 0);
    printf("  %s: events %x\n", what, (unsigned)p.revents);
}

static void read_all(const char *what, int fd)
{
    char buf[4096];
    ssize_t rc;
    size_t total = 0;

    while ((rc = recv(fd, buf, sizeof(buf), 0)) > 0)
        total += (size_t)rc;
    printf("  %s: %zu bytes, then", what, total);
    said("", rc);
}

static void write_n(int fd, size_t n)
{
    static char buf[1 << 20];

    said("write", write(fd, buf, n));
}

/* Both ends exchange a little, so that the stream is what it will be. */
static void settle(void)
{
    char c[8];

    for (int i = 0; i < 20; i++) {
        (void)!write(a, "ping", 4);
        (void)!recv(b, c, 4, MSG_WAITALL);
        (void)!write(b, "pong", 4);
        (void)!recv(a, c, 4, MSG_WAITALL);
    }
    time_to_move();
}

static void half_close_client_first(void)
{
    write_n(a, 1000);
    said("shutdown", shutdown(a, SHUT_WR));
    said("write after", send(a, "x", 1, MSG_NOSIGNAL));
    read_all("b reads", b);
    show_events("b", b);
    write_n(b, 500);
    said("shutdown", shutdown(b, SHUT_WR));
    read_all("a reads", a);
    sleep_ms(10);
    show_events("a", a);
    show_events("b", b);
}

static void half_close_server_first(void)
{
    said("shutdown", shutdown(b, SHUT_WR));
    wait_events(a, POLLRDHUP);
    show_events("a", a);
    write_n(a, 3000);
    read_all("a reads", a);
    said("shutdown again", shutdown(b, SHUT_WR));
    said("close", close(a));
    read_all("b reads", b);
}

static void shutdown_read(void)
{
    char c[8];

    write_n(b, 100);
    wait_unread(a, 100);
    said("shutdown", shutdown(a, SHUT_RD));
    show_events("a", a);
    said("read", read(a, c, 8));
    read_all("a reads", a);
    said("b still writes", send(b, "more", 4, MSG_NOSIGNAL));
    sleep_ms(10);
    write_n(a, 10);
    said("b reads", recv(b, c, 8, 0));
}

static void shutdown_both(void)
{
    char c[8];

    said("shutdown", shutdown(a, SHUT_RDWR));
    said("write", send(a, "x", 1, MSG_NOSIGNAL));
    said("read", read(a, c, 8));
    wait_events(b, POLLRDHUP);
    show_events("b", b);
    read_all("b reads", b);
    said("shutdown", shutdown(b, SHUT_RDWR));
    sleep_ms(10);
    show_events("a", a);
    show_events("b", b);
}

static void close_with_unread(void)
{
    write_n(a, 2000);
    wait_unread(b, 2000);
    said("close", close(b));
    wait_events(a, 0);
    show_events("a", a);
    read_all("a reads", a);
    said("write", send(a, "x", 1, MSG_NOSIGNAL));
    said("read again", recv(a, &(char){0}, 1, 0));
}

static void reset_after_data(void)
{
    struct linger reset = {1, 0};

    write_n(b, 3000);
    wait_unread(a, 3000);
    said("linger", setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, 8));
    said("close", close(b));
    wait_events(a, 0);
    show_events("a", a);
    said("write", send(a, "x", 1, MSG_NOSIGNAL));
}

static void linger_waits(void)
{
    struct linger wait = {1, 5}, got = {0};
    socklen_t len = sizeof(got);
    uint64_t start = now_ms();

    said("linger", setsockopt(a, SOL_SOCKET, SO_LINGER, &wait, 8));
    getsockopt(a, SOL_SOCKET, SO_LINGER, &got, &len);
    printf("  linger %d %d\n", got.l_onoff, got.l_linger);
    write_n(a, 100000);
    said("close", close(a));
    printf("  %s\n", now_ms() - start < 4000 ? "in time" : "late");
    read_all("b reads", b);
}

static void write_after_close(void)
{
    said("close", close(b));
    wait_events(a, POLLRDHUP);
    show_events("a", a);
    said("first write", write(a, "x", 1));
    wait_events(a, 0);
    show_events("a", a);
    said("second write", write(a, "x", 1));
    said("third write", send(a, "x", 1, MSG_NOSIGNAL));
    printf("  SIGPIPE %d\n", (int)pipes_seen);
    read_all("a reads", a);
}

static void time_outs(void)
{
    struct timeval t = {0, 50000};
    uint64_t start = now_ms(), ms;
    char c;
    ssize_t total = 0, rc;
    static char buf[65536];

    said("RCVTIMEO", setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)));
    said("SNDTIMEO", setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)));
    said("read", read(a, &c, 1));
    ms = now_ms() - start;
    printf("  %s\n", ms >= 40 && ms < 8000 ? "in time" : "not in time");
    while ((rc = write(a, buf, sizeof(buf))) > 0)
        total += rc;
    said("write into the full", rc);
    printf("  %s\n", total > 65536 ? "after some" : "too early");
    said("peek", recv(b, &c, 1, MSG_PEEK));
}

static void time_out_inherited(void)
{
    struct timeval t = {0, 50000};
    uint16_t port = 0;
    int listener = tcp_listen("4", &port), c, d;
    char byte;

    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    c = tcp_connect("4", port);
    d = accept(listener, NULL, NULL);
    for (int i = 0; i < 20; i++) {
        (void)!write(c, "x", 1);
        (void)!read(d, &byte, 1);
        (void)!write(d, "x", 1);
        (void)!read(c, &byte, 1);
    }
    time_to_move();
    said("read", read(d, &byte, 1));
    close(c);
    close(d);
    close(listener);
}

static void on_signal(int number)
{
    (void)number;
    signals_seen++;
}

static void on_pipe(int number)
{
    (void)number;
    pipes_seen++;
}

static void *poke(void *arg)
{
    pthread_t *thread = arg;

    until_asleep(getpid());
    pthread_kill(*thread, SIGUSR1);
    sleep_ms(40);
    (void)!write(b, "late", 4);
    return NULL;
}

static void interrupted(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    struct pollfd p = {a, POLLIN, 0};
    pthread_t self = pthread_self(), thread;
    char c[8];

    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, poke, &self);
        if (i == 0)
            said("read", read(a, c, 8));
        else if (i == 1)
            said("poll", poll(&p, 1, 1000));
        else
            said("WAITALL", recv(a, c, 4, MSG_WAITALL));
        pthread_join(thread, NULL);
        while (recv(a, c, 8, MSG_DONTWAIT) > 0)
            ;
    }
    printf("  signals %d\n", (int)signals_seen);
    signals_seen = 0;
}

static void interrupted_restarting(void)
{
    interrupted(SA_RESTART);
}

static void interrupted_plain(void)
{
    interrupted(0);
}

static void counts(void)
{
    int n = -1;

    write_n(a, 12345);
    wait_unread(b, 12345);
    ioctl(b, FIONREAD, &n);
    printf("  unread %d\n", n);
    sleep_ms(300); /* the kernel acknowledges late */
    n = -1;
    ioctl(a, SIOCOUTQ, &n);
    printf("  unsent %d\n", n);
    said("read", read(b, (char[100]){0}, 100));
    ioctl(b, FIONREAD, &n);
    printf("  unread %d\n", n);
}

static void odd_lengths(void)
{
    struct mmsghdr many[3] = {0};
    char c[8];

    said("write 0", write(a, c, 0));
    said("send 0", send(a, c, 0, 0));
    said("read 0", read(b, c, 0));
    said("recv 0", recv(b, c, 0, MSG_DONTWAIT));
    said("recv", recv(b, c, 1, MSG_DONTWAIT));
    said("bad address", write(a, nowhere, 5));
    said("write", write(a, "hi", 2));
    wait_unread(b, 2);
    said("recv 0", recv(b, c, 0, MSG_DONTWAIT));
    said("read to nowhere", read(b, nowhere, 5));
    said("read", read(b, c, 8));
    close(a);
    sleep_ms(10);
    said("recvmmsg at the end", recvmmsg(b, many, 3, 0, NULL));
    said("pread", pread(b, c, 1, 0));
    said("lseek", lseek(b, 0, SEEK_CUR));
}

static void *closes_soon(void *arg)
{
    until_asleep(getpid());
    shutdown(*(int *)arg, SHUT_RDWR);
    return NULL;
}

static void shutdown_wakes(void)
{
    pthread_t thread;
    char c;

    pthread_create(&thread, NULL, closes_soon, &a);
    said("read", read(a, &c, 1));
    pthread_join(thread, NULL);
    read_all("b reads", b);
}

static void options(void)
{
    int v = 0;
    socklen_t len = sizeof(v);

    getsockopt(a, SOL_SOCKET, SO_TYPE, &v, &len);
    printf("  type %d", v);
    getsockopt(a, SOL_SOCKET, SO_ERROR, &v, &len);
    printf(" error %d", v);
    v = 1;
    said("nodelay", setsockopt(a, IPPROTO_TCP, TCP_NODELAY, &v, len));
    said("sockatmark", sockatmark(a));
    said("again",
         connect(
             a, (struct sockaddr *)&(struct sockaddr_in){.sin_family = AF_INET},
             16));
    said("listen", listen(a, 1));
    said("accept", accept(a, NULL, NULL));
    said("bad level", getsockopt(a, 12345, 1, &v, &len));
    said("too short", setsockopt(a, SOL_SOCKET, SO_LINGER, &v, 1));
}

static void urgent(void)
{
    char c = '-';

    said("OOB", send(a, "abc", 3, MSG_OOB));
    wait_events(b, POLLPRI);
    show_events("b", b);
    said("recv OOB", recv(b, &c, 1, MSG_OOB));
    printf("  %c\n", c);
    said("recv", recv(b, (char[8]){0}, 8, 0));
}

static void connects_later(void)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port), c, d, error = -1;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd p;
    socklen_t len = sizeof(error);
    char buf[4];

    c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    said("read too early", read(c, buf, 1));
    said("connect", connect(c, (struct sockaddr *)&to, sizeof(to)));
    p = (struct pollfd){c, POLLOUT, 0};
    said("poll", poll(&p, 1, 1000));
    getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("  events %x error %d\n", (unsigned)p.revents, error);
    d = accept(listener, NULL, NULL);
    for (int i = 0; i < 30; i++) {
        (void)!write(c, "abcd", 4);
        (void)!recv(d, buf, 4, MSG_WAITALL);
        sleep_ms(1);
    }
    said("read", read(c, buf, 4));
    close(listener);
    close(d);
    wait_events(c, POLLIN);
    said("read", read(c, buf, 4));
    close(c);
    c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    said("refused", connect(c, (struct sockaddr *)&to, sizeof(to)));
    p.fd = c;
    poll(&p, 1, 1000);
    getsockopt(c, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("  events %x error %d\n", (unsigned)p.revents, error);
    close(c);
}

static int epoll_says(int set, int ms)
{
    struct epoll_event event = {0};
    int n = epoll_wait(set, &event, 1, ms);

    return n <= 0 ? n : (int)event.events;
}

/* One shot is one, whatever carries the stream when it is fired. */
static void one_shot(void)
{
    for (int i = 0; i < 5; i++) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};
        int c, d, set = epoll_create1(EPOLL_CLOEXEC);
        char byte;

        tcp_pair("4", 0, &c, &d);
        epoll_ctl(set, EPOLL_CTL_ADD, d, &event);
        (void)!write(c, "x", 1);
        printf("  fired %x", (unsigned)epoll_says(set, 1000));
        (void)!read(d, &byte, 1);
        sleep_ms(15);
        for (int k = 0; k < 20; k++) {
            (void)!write(c, "x", 1);
            (void)!recv(d, &byte, 1, 0);
        }
        (void)!write(c, "x", 1);
        printf(" up %x", (unsigned)epoll_says(set, 10));
        spawn_true();
        shutdown(c, SHUT_RDWR);
        sleep_ms(2);
        shutdown(d, SHUT_WR);
        printf(" back %x", (unsigned)epoll_says(set, 10));
        epoll_ctl(set, EPOLL_CTL_MOD, d, &event);
        printf(" again %x", (unsigned)epoll_says(set, 1000));
        printf(" and %x\n", (unsigned)epoll_says(set, 5));
        close(c);
        close(d);
        close(set);
    }
}

/* Threads that wait on one set share each event and see no other. */
static struct {
    int set, fd;
    _Atomic int events, strange, bytes;
} sharing;

static void *shares(void *arg)
{
    struct epoll_event event;
    char c;

    (void)arg;
    while (epoll_wait(sharing.set, &event, 1, 300) == 1) {
        if (event.data.u64 != 77)
            atomic_fetch_add(&sharing.strange, 1);
        while (recv(sharing.fd, &c, 1, MSG_DONTWAIT) == 1)
            atomic_fetch_add(&sharing.bytes, 1);
        event.events = EPOLLIN | EPOLLONESHOT;
        event.data.u64 = 77;
        epoll_ctl(sharing.set, EPOLL_CTL_MOD, sharing.fd, &event);
    }
    return NULL;
}

static void threads_share_a_set(void)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT,
                                .data.u64 = 77};
    pthread_t thread[4];

    sharing.set = epoll_create1(EPOLL_CLOEXEC);
    sharing.fd = b;
    epoll_ctl(sharing.set, EPOLL_CTL_ADD, b, &event);
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, shares, NULL);
    for (int i = 0; i < 1000; i++) {
        (void)!write(a, "x", 1);
        if (i % 10 == 0)
            usleep(300);
        if (i % 250 == 249)
            spawn_true();
    }
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    printf("  bytes %d strange %d\n", (int)sharing.bytes, (int)sharing.strange);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"half_close_client_first", half_close_client_first},
    {"half_close_server_first", half_close_server_first},
    {"shutdown_read", shutdown_read},
    {"shutdown_both", shutdown_both},
    {"shutdown_wakes", shutdown_wakes},
    {"close_with_unread", close_with_unread},
    {"reset_after_data", reset_after_data},
    {"linger_waits", linger_waits},
    {"write_after_close", write_after_close},
    {"time_outs", time_outs},
    {"time_out_inherited", time_out_inherited},
    {"interrupted_restarting", interrupted_restarting},
    {"interrupted_plain", interrupted_plain},
    {"counts", counts},
    {"odd_lengths", odd_lengths},
    {"options", options},
    {"urgent", urgent},
    {"connects_later", connects_later},
    {"one_shot", one_shot},
    {"threads_share_a_set", threads_share_a_set},
};

/* Each in a process of its own, so that a hang or crash is one case's. */
static void run_case(size_t i)
{
    struct sigaction action = {.sa_handler = on_pipe};
    pid_t pid = fork_limited(10);

    if (pid == 0) {
        printf("%s\n", cases[i].name);
        sigaction(SIGPIPE, &action, NULL);
        tcp_pair("4", 0, &a, &b);
        settle();
        cases[i].run();
        fflush(stdout);
        exit(0);
    }
    child_status(pid);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    time_limit(50);
    close_inherited();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (argc < 2 || strcmp(argv[1], cases[i].name) == 0)
            run_case(i);
    return 0;
}
