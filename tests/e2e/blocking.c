/*
 * usage: blocking [CASE]
 *
 * Calls that wait: what interrupts them, what they have done by then, what a
 * full connection says, and what is left of one that was reset.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

enum { MUCH = 32 << 20 };

static volatile sig_atomic_t signals_seen;
static char much[MUCH];

static void on_signal(int number)
{
    (void)number;
    signals_seen++;
}

static void catches(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

    sigaction(SIGUSR1, &action, NULL);
}

static void *signals(void *thread)
{
    until_asleep(getpid());
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void *signals_and_reads(void *thread)
{
    signals(thread);
    sleep_ms(30);
    while (recv(b, much + MUCH / 2, 65536, 0) > 0)
        ;
    return NULL;
}

static void with_thread(void *(*does)(void *), ssize_t (*call)(void))
{
    pthread_t self = pthread_self(), thread;
    ssize_t rc;

    pthread_create(&thread, NULL, does, &self);
    rc = call();
    if (rc > 0)
        printf("  %s\n", rc == MUCH ? "all of it" : "a part");
    else
        said("nothing", rc);
    shutdown(a, SHUT_WR);
    pthread_join(thread, NULL);
    printf("  signals %d\n", (int)signals_seen);
}

static ssize_t writes_much(void)
{
    return write(a, much, MUCH);
}

static ssize_t reads_all(void)
{
    return recv(a, much, MUCH, MSG_WAITALL);
}

static ssize_t writes_vectors(void)
{
    struct iovec iov[2] = {{much, 10}, {much + 10, MUCH - 10}};

    return writev(a, iov, 2);
}

static void write_interrupted(void)
{
    catches(0);
    with_thread(signals, writes_much);
}

static void write_restarted(void)
{
    catches(SA_RESTART);
    with_thread(signals_and_reads, writes_much);
}

static void writev_interrupted(void)
{
    catches(0);
    with_thread(signals, writes_vectors);
}

static void read_interrupted(void)
{
    catches(0);
    with_thread(signals, reads_all);
}

static ssize_t fill(int fd)
{
    ssize_t rc, all = 0;

    while ((rc = send(fd, much, 100000, MSG_DONTWAIT)) > 0)
        all += rc;
    return rc < 0 && errno == EAGAIN ? all : -1;
}

static void interrupted_without_room(void)
{
    catches(0);
    said("full", fill(a) > 65536 ? 0 : -1);
    with_thread(signals, writes_much);
}

/* What it had written by then arrives, and no lock is left behind. */
static void *writes_for_ever(void *arg)
{
    (void)!write(a, much, MUCH);
    return arg;
}

static void write_cancelled(void)
{
    pthread_t writer = start_asleep(writes_for_ever, NULL);
    ssize_t rc, all = 0;

    pthread_cancel(writer);
    printf("  cancelled: %d\n", end_of(writer) == PTHREAD_CANCELED);
    said("full", fill(a) >= 0 ? 0 : -1);
    said("shutdown", shutdown(a, SHUT_WR));
    while ((rc = read(b, much, 65536)) > 0)
        all += rc;
    printf("  %s, then %zd\n", all > 65536 ? "a part" : "TOO LITTLE", rc);
}

/* Each signal finds a call that has begun, and ends it. */
static void many_signals(void)
{
    struct itimerval each = {{0, 2000}, {0, 2000}}, none = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    pthread_t self = pthread_self(), thread;
    ssize_t rc = 1, all = 0;

    catches(SA_RESTART);
    sigaction(SIGALRM, &action, NULL);
    pthread_create(&thread, NULL, signals_and_reads, &self);
    setitimer(ITIMER_REAL, &each, NULL);
    for (; rc > 0 && all < MUCH; all += rc)
        rc = write(a, much, (size_t)(MUCH - all));
    said("write", rc > 0 ? 0 : -1);
    setitimer(ITIMER_REAL, &none, NULL);
    shutdown(a, SHUT_WR);
    pthread_join(thread, NULL);
    printf("  %s\n", signals_seen > 5 ? "many signals" : "FEW SIGNALS");
}

static void time_out_with_a_part(void)
{
    struct timeval t = {0, 60000};
    uint64_t start;
    ssize_t rc;

    said("time-out", setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)));
    start = now_ms();
    rc = write(a, much, MUCH);
    printf("  %s after %s\n", rc > 0 && rc < MUCH ? "a part" : "WRONG",
           now_ms() - start >= 50 ? "a while" : "NO TIME");
    said("full", fill(a) >= 0 ? 0 : -1);
    said("no room", write(a, much, 1000));
}

/* A call with a time-out is never restarted: signal(7). */
static void time_out_interrupted(void)
{
    struct timeval t = {5, 0};

    catches(SA_RESTART);
    setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
    said("full", fill(a) > 65536 ? 0 : -1);
    for (int i = 0; i < 2; i++) {
        pthread_t self = pthread_self(), thread = run_thread(signals, &self);

        said(i ? "write" : "read", i ? writes_much() : reads_all());
        end_of(thread);
    }
    printf("  signals %d\n", (int)signals_seen);
}

/* Less than none is none: sock_set_timeout() of Linux. */
static void time_out_below_zero(void)
{
    struct timeval t = {-1, 0};

    said("option", setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)));
    said("read", read(a, much, 1));
    said("option", setsockopt(a, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)));
    said("full", fill(a) > 65536 ? 0 : -1);
    said("write", write(a, much, 1));
}

static void *reads_and_writes(void *arg)
{
    until_asleep(getpid());
    while (recv(b, much, 65536, MSG_DONTWAIT) > 0)
        ;
    (void)!write(b, "x", 1);
    return arg;
}

/* So many seconds that neither nanoseconds nor ticks can count them. */
static void time_out_beyond_counting(void)
{
    for (int i = 0; i < 4; i++) {
        struct timeval t = {i < 2 ? LONG_MAX : 18446744074, 0}, is = {0, 0};
        int name = i % 2 ? SO_SNDTIMEO : SO_RCVTIMEO;
        socklen_t len = sizeof(is);
        pthread_t thread;

        said("option", setsockopt(a, SOL_SOCKET, name, &t, len));
        said("option", getsockopt(a, SOL_SOCKET, name, &is, &len));
        printf("  is %ld %ld\n", (long)is.tv_sec, (long)is.tv_usec);
        said("full", fill(a) > 65536 ? 0 : -1);
        thread = run_thread(reads_and_writes, NULL);
        said(i % 2 ? "write" : "read",
             i % 2 ? write(a, much, 1) : read(a, much, 1));
        end_of(thread);
    }
}

struct closed {
    int rc;
    uint64_t ms; /* it took */
};

static void *closes_a(void *arg)
{
    struct closed *closed = arg;
    uint64_t start = now_ms();

    closed->rc = close(a);
    closed->ms = now_ms() - start;
    return NULL;
}

/*
 * Who lingers waits for what TCP has to send, since the peer has no room for
 * it; meanwhile all others go up and return as ever.
 */
static void lingers(bool shut)
{
    int c, d, little = 16384, some = 32768, two = 2;
    struct linger wait = {1, 4};
    struct closed closed;
    pthread_t closer;
    ssize_t left, n;
    uint64_t start;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    until_moved(c, d);
    setsockopt(a, SOL_SOCKET, SO_SNDBUF, &some, sizeof(some));
    setsockopt(b, SOL_SOCKET, SO_RCVBUF, &little, sizeof(little));
    left = fill(a);
    setsockopt(b, SOL_SOCKET, SO_RCVLOWAT, &two, sizeof(two));
    said("linger", setsockopt(a, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)));
    if (shut)
        said("shutdown", shutdown(a, SHUT_WR));
    pthread_create(&closer, NULL, closes_a, &closed);
    sleep_ms(100);
    while (left > 50000 && (n = read(b, much, (size_t)left - 50000)) > 0)
        left -= n;
    sleep_ms(400);
    start = now_ms();
    spawn_true();
    printf("  %s\n", now_ms() - start < 900 ? "in time" : "late");
    talk("others", c, d);
    while ((n = read(b, much, 65536)) > 0)
        left -= n;
    pthread_join(closer, NULL);
    said("close", closed.rc);
    printf("  %s\n", closed.ms >= 400 ? "waited" : "at once");
    said("left", left);
    said("the end", n);
}

static void lingers_for_tcp(void)
{
    lingers(false);
}

static void lingers_behind_a_shutdown(void)
{
    lingers(true);
}

static void full_and_empty_again(void)
{
    struct pollfd p = {a, POLLOUT, 0};
    ssize_t all = fill(a);
    pthread_t thread;

    said("poll", poll(&p, 1, 0));
    make_nonblocking(a);
    said("write", write(a, "x", 1));
    said("sendto", sendto(a, "x", 1, 0, NULL, 0));
    pthread_create(&thread, NULL, signals_and_reads,
                   &(pthread_t){pthread_self()});
    catches(0);
    while (poll(&p, 1, 2000) < 0)
        ;
    printf("  room: %x, %s\n", (unsigned)p.revents,
           all > 65536 ? "much had been written" : "LITTLE");
    said("write", write(a, "x", 1));
    shutdown(a, SHUT_WR);
    pthread_join(thread, NULL);
}

static void error_of(const char *what, int fd)
{
    int error = -1;
    socklen_t len = sizeof(error);

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    printf("  %s: %s\n", what, error_name(error));
}

static void name_of(const char *what, int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    said(what, getpeername(fd, (void *)&name, &len));
}

static void reset_by_peer(void)
{
    struct linger now = {1, 0};

    error_of("before", a);
    setsockopt(b, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(b);
    wait_events(a, 0);
    show_events("a", a);
    error_of("once", a);
    error_of("twice", a);
    name_of("peer", a);
    said("read", read(a, much, 1));
    said("send", send(a, much, 1, MSG_NOSIGNAL));
    said("shutdown", shutdown(a, SHUT_WR));
    show_events("a", a);
}

static void reset_told_by_read(void)
{
    said("write", write(a, "unread", 6));
    wait_unread(b, 6);
    close(b);
    sleep_ms(30);
    said("read", read(a, much, 1));
    said("read", read(a, much, 1));
    error_of("left", a);
    said("send", send(a, much, 1, MSG_NOSIGNAL));
}

static void ended_in_order(void)
{
    shutdown(b, SHUT_WR);
    shutdown(a, SHUT_WR);
    sleep_ms(30);
    name_of("a", a);
    said("read", read(a, much, 1));
    said("read", read(b, much, 1));
    sleep_ms(30);
    name_of("a", a);
    name_of("b", b);
    error_of("a", a);
    said("shutdown", shutdown(a, SHUT_WR));
    said("shutdown", shutdown(b, SHUT_RDWR));
}

static pid_t forked;

static void forks(int number)
{
    (void)number;
    forked = fork();
}

/*
 * A handler forks in the midst of that call: in both processes it says EINTR,
 * and in both it can be made again. The child's results are its exit status.
 */
static void fork_in_handler(int (*waits)(int ms))
{
    struct sigaction action = {.sa_handler = forks};
    pthread_t self = pthread_self(), thread;
    int status, rc;

    sigaction(SIGUSR1, &action, NULL);
    thread = run_thread(signals, &self);
    rc = waits(5000);
    rc = rc < 0 && errno == EINTR ? 1 : 0;
    if (forked == 0) {
        if (waits(20) == 0)
            rc |= 2;
        if (write(b, "word", 4) == 4 && waits(2000) == 1)
            rc |= 4;
        _exit(read(a, much, 100) == 4 ? rc | 8 : rc);
    }
    pthread_join(thread, NULL);
    printf("  parent: %d\n", rc);
    waitpid(forked, &status, 0);
    printf("  child: %x\n", (unsigned)status);
    said("write", write(b, "more", 4));
    printf("  parent: %d\n", waits(2000));
    said("read", read(a, much, 100));
}

static int waits_in_poll(int ms)
{
    struct pollfd p[2] = {{a, POLLIN, 0}, {-1, 0, 0}};

    return poll(p, 2, ms);
}

static int set;

static int waits_in_epoll(int ms)
{
    struct epoll_event event;

    return epoll_wait(set, &event, 1, ms);
}

static int waits_in_recv(int ms)
{
    struct timeval t = {ms / 1000, ms % 1000 * 1000};
    ssize_t rc;

    setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    rc = recv(a, much, 1, MSG_PEEK);
    return rc < 0 && errno == EAGAIN ? 0 : (int)rc;
}

static void fork_in_poll(void)
{
    fork_in_handler(waits_in_poll);
}

static void fork_in_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN};

    set = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(set, EPOLL_CTL_ADD, a, &event);
    fork_in_handler(waits_in_epoll);
}

static void fork_in_recv(void)
{
    fork_in_handler(waits_in_recv);
}

/* Nothing of the library's own takes the only place for an event. */
static void room_for_one(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int ends[2];

    said("pipe", pipe(ends));
    set = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(set, EPOLL_CTL_ADD, a, &event);
    event.data.u32 = 7;
    epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event);
    said("word", write(ends[1], "word", 4));
    for (int i = 0; i < 3; i++)
        said("ready", epoll_wait(set, &event, 1, 0));
    printf("  it is %u\n", event.data.u32);
}

/* By whatever name a handler was set: its kind decides, the last one's. */
static sighandler_t by_sigaction(int number, sighandler_t handler)
{
    struct sigaction action = {.sa_handler = handler};

    return sigaction(number, &action, NULL) < 0 ? SIG_ERR : SIG_DFL;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static sighandler_t by_siginterrupt(int number, sighandler_t handler)
{
    signal(number, handler);
    return siginterrupt(number, 1) < 0 ? SIG_ERR : SIG_DFL;
}

static sighandler_t by_sigignore(int number, sighandler_t handler)
{
    (void)handler;
    return sigignore(number) < 0 ? SIG_ERR : SIG_DFL;
}

static const struct {
    const char *name;
    sighandler_t (*set)(int, sighandler_t);
} ways[] = {
    {"sigaction", by_sigaction},       {"signal", signal},
    {"siginterrupt", by_siginterrupt}, {"sigset", sigset},
    {"sysv_signal", sysv_signal},      {"ssignal", ssignal},
    {"sigignore", by_sigignore},       {"sigaction again", by_sigaction},
};
#pragma GCC diagnostic pop

/* Where data and a signal wait for a thread that is late, data come first. */
static void *signals_and_writes(void *thread)
{
    sig_atomic_t before = signals_seen;

    signals(thread);
    for (int i = 0; i < 50 && signals_seen == before; i++)
        sleep_ms(2);
    (void)!write(b, "x", 1);
    return NULL;
}

static void handlers_by_any_name(void)
{
    pthread_t self = pthread_self(), thread;
    char c;

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        ssize_t rc;

        if (ways[i].set(SIGUSR1, on_signal) == SIG_ERR)
            die("%s", ways[i].name);
        pthread_create(&thread, NULL, signals_and_writes, &self);
        rc = recv(a, &c, 1, 0);
        said(ways[i].name, rc);
        if (rc < 0 && recv(a, &c, 1, 0) != 1)
            die("the byte of %s", ways[i].name);
        pthread_join(thread, NULL);
    }
    printf("  signals %d\n", (int)signals_seen);
}

static const struct test_case cases[] = {
    {"write_interrupted", write_interrupted, STAYS},
    {"write_restarted", write_restarted, STAYS},
    {"writev_interrupted", writev_interrupted, STAYS},
    {"read_interrupted", read_interrupted, STAYS},
    {"interrupted_without_room", interrupted_without_room, STAYS},
    {"write_cancelled", write_cancelled, STAYS},
    {"many_signals", many_signals, STAYS},
    {"handlers_by_any_name", handlers_by_any_name, STAYS},
    {"time_out_with_a_part", time_out_with_a_part, STAYS},
    {"time_out_interrupted", time_out_interrupted, STAYS},
    {"time_out_below_zero", time_out_below_zero, STAYS},
    {"time_out_beyond_counting", time_out_beyond_counting, STAYS},
    {"lingers_for_tcp", lingers_for_tcp, RETURNS},
    {"lingers_behind_a_shutdown", lingers_behind_a_shutdown, RETURNS},
    {"full_and_empty_again", full_and_empty_again, STAYS},
    {"reset_by_peer", reset_by_peer, STAYS},
    {"reset_told_by_read", reset_told_by_read, STAYS},
    {"ended_in_order", ended_in_order, STAYS},
    {"room_for_one", room_for_one, STAYS},
    {"fork_in_poll", fork_in_poll, GOES_UP},
    {"fork_in_epoll", fork_in_epoll, GOES_UP},
    {"fork_in_recv", fork_in_recv, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
