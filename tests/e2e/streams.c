/*
 * usage: streams WAIT FAMILY SEED BYTES [threads] [returns=N] [delay=MS]
 *                [greet=MS]
 *        streams WAIT FAMILY SEED BYTES server PORT_FILE | client PORT
 *                [until=FILE]
 *
 * Both ends send BYTES at the same time and check every byte that comes.
 * WAIT: blocking (two threads per end), or one thread per end that waits
 * with poll, ppoll, select, pselect, epoll-lt, epoll-et or epoll-oneshot on
 * the connection, a pipe, an eventfd and a timer at once; none may starve.
 * The ends are two processes, or with "threads" two threads of one, or
 * programs of their own. returns=N: each end forces the stream back to TCP N
 * times on the way. delay=MS: they rest before the first byte; greet=MS: they
 * exchange 64 bytes first and rest then; until=FILE: they do so again and
 * again until the client sees FILE.
 *
 * Prints "end NAME out N in N kernel_sent N" for each end.
 */
#include <errno.h>
#include <fcntl.h>
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
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { BLOCK = 70000, LIMIT = 40 };

struct side {
    const char *name, *wait;
    int fd;
    uint64_t seed_out, seed_in, chance;
    uint64_t bytes, out, in;
    unsigned returns, returned;
    int pipe[2], event, timer, epfd;
    uint64_t others_rung, others_seen, ticks, rounds_without;
    bool done_out, done_in;
};

static size_t some(uint64_t *chance)
{
    switch (random_below(chance, 4)) {
    case 0:
        return 1 + random_below(chance, 16);
    case 1:
        return 1 + random_below(chance, 1500);
    case 2:
        return 1 + random_below(chance, 9000);
    default:
        return 1 + random_below(chance, BLOCK);
    }
}

static ssize_t call_out(struct side *s, uint64_t *chance, uint8_t *buf,
                        size_t len)
{
    size_t cut = random_below(chance, len + 1);
    struct iovec iov[2] = {{buf, cut}, {buf + cut, len - cut}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    switch (random_below(chance, 5)) {
    case 0:
        return write(s->fd, buf, len);
    case 1:
        return writev(s->fd, iov, 2);
    case 2:
        return send(s->fd, buf, len, MSG_NOSIGNAL);
    case 3:
        return sendto(s->fd, buf, len, 0, NULL, 0);
    default:
        return sendmsg(s->fd, &msg, 0);
    }
}

static ssize_t call_in(struct side *s, uint64_t *chance, uint8_t *buf,
                       size_t len)
{
    size_t cut = random_below(chance, len + 1);
    struct iovec iov[2] = {{buf, cut}, {buf + cut, len - cut}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    switch (random_below(chance, 5)) {
    case 0:
        return read(s->fd, buf, len);
    case 1:
        return readv(s->fd, iov, 2);
    case 2:
        return recv(s->fd, buf, len, 0);
    case 3:
        return recvfrom(s->fd, buf, len, 0, NULL, NULL);
    default:
        return recvmsg(s->fd, &msg, 0);
    }
}

/* True when it cannot go on now. */
static bool move_out(struct side *s, uint64_t *chance)
{
    uint8_t buf[BLOCK];
    size_t len = some(chance);
    ssize_t rc;

    if (len > s->bytes - s->out)
        len = (size_t)(s->bytes - s->out);
    if (len > 0) {
        pattern_fill(s->seed_out, s->out, buf, len);
        rc = call_out(s, chance, buf, len);
        if (rc < 0 && errno == EAGAIN)
            return true;
        if (rc <= 0)
            die("%s: a write of %zu at %llu gave %zd", s->name, len,
                (unsigned long long)s->out, rc);
        s->out += (uint64_t)rc;
    }
    if (s->out == s->bytes) {
        s->done_out = true;
        if (shutdown(s->fd, SHUT_WR) < 0)
            die("%s: shutdown", s->name);
    }
    return false;
}

static bool move_in(struct side *s, uint64_t *chance)
{
    uint8_t buf[BLOCK];
    size_t len = some(chance);
    ssize_t rc = call_in(s, chance, buf, len), wrong;

    if (rc < 0 && errno == EAGAIN)
        return true;
    if (rc < 0)
        die("%s: a read at %llu", s->name, (unsigned long long)s->in);
    if (rc == 0) {
        if (s->in != s->bytes)
            die("%s: end of file at %llu of %llu", s->name,
                (unsigned long long)s->in, (unsigned long long)s->bytes);
        s->done_in = true;
        return true;
    }
    wrong = pattern_check(s->seed_in, s->in, buf, (size_t)rc);
    if (wrong >= 0)
        die("%s: wrong byte at %llu, %zd into a read of %zd", s->name,
            (unsigned long long)s->in + (uint64_t)wrong, wrong, rc);
    s->in += (uint64_t)rc;
    if (s->returned < s->returns &&
        s->in >= s->bytes / (s->returns + 1) * (s->returned + 1)) {
        s->returned++;
        spawn_true();
    }
    return false;
}

static void *blocking_out(void *arg)
{
    struct side *s = arg;
    uint64_t chance = s->chance + 1;

    while (!s->done_out)
        move_out(s, &chance);
    return NULL;
}

static void run_blocking(struct side *s)
{
    uint64_t chance = s->chance;
    pthread_t thread;

    if (pthread_create(&thread, NULL, blocking_out, s) != 0)
        die("pthread_create");
    while (!s->done_in)
        move_in(s, &chance);
    pthread_join(thread, NULL);
}

/* ---- one thread, several descriptors ---- */

enum { OTHERS = 3 };

static void make_others(struct side *s)
{
    struct itimerspec each = {{0, 1000000}, {0, 1000000}};

    if (pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
        die("pipe");
    s->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (s->event < 0 || timerfd_settime(s->timer, 0, &each, NULL) < 0)
        die("eventfd, timerfd");
}

static void ring_others(struct side *s)
{
    uint64_t one = 1;

    if (s->others_rung != s->others_seen || random_below(&s->chance, 8) != 0)
        return;
    s->others_rung++;
    s->rounds_without = 0;
    if (random_below(&s->chance, 2))
        (void)!write(s->pipe[1], "x", 1);
    else
        (void)!write(s->event, &one, sizeof(one));
}

static void other_ready(struct side *s, int fd)
{
    uint64_t buf = 0;
    ssize_t rc = read(fd, &buf, fd == s->pipe[0] ? 1 : sizeof(buf));

    if (rc <= 0)
        return;
    if (fd == s->timer)
        s->ticks += buf;
    else
        s->others_seen++;
}

static short wanted(struct side *s)
{
    return (short)((s->done_in ? 0 : POLLIN) | (s->done_out ? 0 : POLLOUT));
}

static short wait_poll(struct side *s)
{
    struct pollfd fds[4] = {{s->pipe[0], POLLIN, 0},
                            {s->fd, wanted(s), 0},
                            {s->event, POLLIN, 0},
                            {s->timer, POLLIN, 0}};
    struct timespec limit = {10, 0};
    int rc =
        s->wait[1] == 'p' ? ppoll(fds, 4, &limit, NULL) : poll(fds, 4, 10000);

    if (rc == 0 || (rc < 0 && errno != EINTR))
        die("%s: %s gave %d", s->name, s->wait, rc);
    for (int i = 0; i < 4 && rc > 0; i++)
        if (i != 1 && (fds[i].revents & POLLIN))
            other_ready(s, fds[i].fd);
    return rc > 0 ? fds[1].revents : 0;
}

static short wait_select(struct side *s)
{
    int fds[OTHERS] = {s->pipe[0], s->event, s->timer}, top = s->fd, rc;
    struct timeval limit = {10, 0};
    struct timespec limit_ns = {10, 0};
    fd_set in, out;

    FD_ZERO(&in);
    FD_ZERO(&out);
    for (int i = 0; i < OTHERS; i++) {
        FD_SET(fds[i], &in);
        top = fds[i] > top ? fds[i] : top;
    }
    if (!s->done_in)
        FD_SET(s->fd, &in);
    if (!s->done_out)
        FD_SET(s->fd, &out);
    rc = s->wait[0] == 'p' ? pselect(top + 1, &in, &out, NULL, &limit_ns, NULL)
                           : select(top + 1, &in, &out, NULL, &limit);
    if (rc == 0 || (rc < 0 && errno != EINTR))
        die("%s: %s gave %d", s->name, s->wait, rc);
    if (rc < 0)
        return 0;
    for (int i = 0; i < OTHERS; i++)
        if (FD_ISSET(fds[i], &in))
            other_ready(s, fds[i]);
    return (short)((FD_ISSET(s->fd, &in) ? POLLIN : 0) |
                   (FD_ISSET(s->fd, &out) ? POLLOUT : 0));
}

static void epoll_set_up(struct side *s)
{
    int fds[OTHERS] = {s->pipe[0], s->event, s->timer};
    struct epoll_event event = {.events = EPOLLIN};

    s->epfd = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < OTHERS; i++) {
        event.data.fd = fds[i];
        if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, fds[i], &event) < 0)
            die("epoll_ctl");
    }
    event.data.u64 = UINT64_MAX; /* nothing that looks like a descriptor */
    event.events = EPOLLIN | EPOLLOUT;
    if (s->wait[6] == 'e')
        event.events |= EPOLLET;
    if (s->wait[6] == 'o')
        event.events |= EPOLLONESHOT;
    if (epoll_ctl(s->epfd, EPOLL_CTL_ADD, s->fd, &event) < 0)
        die("epoll_ctl");
}

/* LT and ONESHOT say again what they wait for. */
static void epoll_again(struct side *s)
{
    struct epoll_event event = {.data.u64 = UINT64_MAX};

    if (s->wait[6] == 'e')
        return;
    event.events = (uint32_t)wanted(s);
    if (s->wait[6] == 'o')
        event.events |= EPOLLONESHOT;
    if (epoll_ctl(s->epfd, EPOLL_CTL_MOD, s->fd, &event) < 0)
        die("epoll_ctl");
}

static short wait_epoll(struct side *s)
{
    struct epoll_event events[4];
    int n = epoll_wait(s->epfd, events, 4, 10000);
    short ready = 0;

    if (n == 0 || (n < 0 && errno != EINTR))
        die("%s: %s gave %d, out %llu in %llu", s->name, s->wait, n,
            (unsigned long long)s->out, (unsigned long long)s->in);
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 == UINT64_MAX)
            ready = (short)events[i].events;
        else
            other_ready(s, events[i].data.fd);
    return ready;
}

static void run_waiting(struct side *s)
{
    bool edge = strcmp(s->wait, "epoll-et") == 0;
    bool is_epoll = s->wait[0] == 'e';

    make_nonblocking(s->fd);
    make_others(s);
    if (is_epoll)
        epoll_set_up(s);
    while (!s->done_in || !s->done_out) {
        short ready = is_epoll                          ? wait_epoll(s)
                      : strstr(s->wait, "poll") != NULL ? wait_poll(s)
                                                        : wait_select(s);

        ring_others(s);
        if (s->others_rung != s->others_seen && ++s->rounds_without > 1000)
            die("%s: %s does not show the pipe or the eventfd", s->name,
                s->wait);
        if (ready & (POLLERR | POLLNVAL))
            die("%s: events %x", s->name, (unsigned)ready);
        if (!s->done_in && (ready & (POLLIN | POLLHUP)))
            while (!move_in(s, &s->chance) && edge)
                ;
        if (!s->done_out && (ready & POLLOUT))
            while (!move_out(s, &s->chance) && edge && !s->done_out)
                ;
        if (is_epoll)
            epoll_again(s);
    }
}

static unsigned greet_ms;
static const char *rest_until; /* or NULL */

/* Of the client: whether it has greeted enough. */
static bool is_enough(int fd, uint64_t since_ms, uint64_t *sent)
{
    uint64_t before = *sent;

    *sent = kernel_sent(fd);
    if (rest_until != NULL)
        return access(rest_until, F_OK) == 0;
    return *sent == before || now_ms() - since_ms >= greet_ms;
}

static void greet(int fd, bool client)
{
    char bytes[64] = "how do you do", last[64] = "good bye";
    uint64_t since_ms = now_ms(), sent = UINT64_MAX;
    bool enough = false;

    while (!enough) {
        enough = client && is_enough(fd, since_ms, &sent);
        if (client && write(fd, enough ? last : bytes, 64) != 64)
            die("a greeting");
        if (recv(fd, bytes, 64, MSG_WAITALL) != 64)
            die("a greeting's answer");
        if (!client && write(fd, bytes, 64) != 64)
            die("a greeting in return");
        if (memcmp(bytes, last, 64) == 0)
            enough = true;
        else if (strcmp(bytes, "how do you do") != 0)
            die("a greeting with other bytes");
        else if (client)
            sleep_ms(rest_until != NULL ? 100 : 20);
    }
}

static void *run(void *arg)
{
    struct side *s = arg;
    uint64_t greeted;

    if (greet_ms != 0 || rest_until != NULL)
        greet(s->fd, s->name[0] == 'c');
    greeted = kernel_sent(s->fd);
    if (strcmp(s->wait, "blocking") == 0)
        run_blocking(s);
    else
        run_waiting(s);
    printf("end %s out %llu in %llu kernel_sent %llu\n", s->name,
           (unsigned long long)s->out, (unsigned long long)s->in,
           (unsigned long long)(kernel_sent(s->fd) - greeted));
    fflush(stdout);
    close(s->fd);
    return NULL;
}

static void give_port(const char *path, uint16_t port)
{
    char temporary[4096];
    FILE *file;

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "w");
    if (file == NULL)
        die("%s", path);
    fprintf(file, "%u\n", port);
    fclose(file);
    if (rename(temporary, path) < 0)
        die("%s", path);
}

static int accept_one(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        die("accept");
    close(listener);
    return fd;
}

static int run_two_processes(struct side *side, const char *family,
                             unsigned delay)
{
    uint16_t port = 0;
    int listener = tcp_listen(family, &port), status;
    pid_t pid = fork_limited(LIMIT);

    if (pid == 0) {
        close(listener);
        side[0].fd = tcp_connect(family, port);
        sleep_ms(delay);
        run(&side[0]);
        exit(0);
    }
    side[1].fd = accept_one(listener);
    sleep_ms(delay);
    run(&side[1]);
    status = child_status(pid);
    return status;
}

static void run_two_threads(struct side *side, const char *family,
                            unsigned delay)
{
    pthread_t thread;

    tcp_pair(family, 0, &side[0].fd, &side[1].fd);
    sleep_ms(delay);
    if (pthread_create(&thread, NULL, run, &side[0]) != 0)
        die("pthread_create");
    run(&side[1]);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    struct side side[2] = {{.name = "client"}, {.name = "server"}};
    unsigned delay = 0;
    bool threads = false;
    uint16_t port = 0;

    if (argc < 5)
        die("usage: streams WAIT FAMILY SEED BYTES [threads] [returns=N]");
    time_limit(LIMIT);
    signal(SIGPIPE, SIG_IGN); /* say what happened, whichever thread sees it */
    for (int i = 0; i < 2; i++) {
        side[i].wait = argv[1];
        side[i].bytes = strtoull(argv[4], NULL, 10);
        side[i].seed_out = strtoull(argv[3], NULL, 10) * 2 + (unsigned)i;
        side[i].seed_in = side[i].seed_out ^ 1;
        side[i].chance = side[i].seed_out * 1000;
    }
    for (int i = 5; i < argc; i++)
        if (strncmp(argv[i], "returns=", 8) == 0)
            side[0].returns = side[1].returns = (unsigned)atoi(argv[i] + 8);
        else if (strncmp(argv[i], "delay=", 6) == 0)
            delay = (unsigned)atoi(argv[i] + 6);
        else if (strncmp(argv[i], "greet=", 6) == 0)
            greet_ms = (unsigned)atoi(argv[i] + 6);
        else if (strncmp(argv[i], "until=", 6) == 0)
            rest_until = argv[i] + 6;
        else if (strcmp(argv[i], "threads") == 0)
            threads = true;
    if (argc > 6 && strcmp(argv[5], "client") == 0) {
        side[0].fd = tcp_connect(argv[2], (uint16_t)atoi(argv[6]));
        sleep_ms(delay);
        run(&side[0]);
    } else if (argc > 6 && strcmp(argv[5], "server") == 0) {
        int listener = tcp_listen(argv[2], &port);

        give_port(argv[6], port);
        side[1].fd = accept_one(listener);
        sleep_ms(delay);
        run(&side[1]);
    } else if (threads) {
        side[0].returns = 0;
        run_two_threads(side, argv[2], delay);
    } else {
        return run_two_processes(side, argv[2], delay);
    }
    return 0;
}
