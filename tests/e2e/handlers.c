/*
 * usage: handlers SEED MILLISECONDS [forks]
 *
 * A signal handler that runs again and again, wherever the program is, uses the
 * sockets that the program uses: it writes, reads, looks, connects and closes;
 * with "forks" it also makes children that end at once. What a program may call
 * there is in signal-safety(7). An echo server is the other end. In the end
 * each connection has to have given back as many bytes as were written to it,
 * and no call may hang. Prints "clean".
 */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { SLOTS = 6, AHEAD = 200000, SERVED_MOST = 64, PIECE = 20000 };

/* ---- the server ---- */

static struct {
    int fd;
    bool over; /* nothing more comes */
    size_t from, to;
    char bytes[2 * AHEAD + 2 * PIECE];
} served[SERVED_MOST];

static bool serve_one(int i)
{
    ssize_t n;

    if (served[i].from == served[i].to)
        served[i].from = served[i].to = 0;
    if (!served[i].over && sizeof(served[i].bytes) > served[i].to) {
        n = read(served[i].fd, served[i].bytes + served[i].to,
                 sizeof(served[i].bytes) - served[i].to);
        if (n == 0)
            served[i].over = true;
        else if (n > 0)
            served[i].to += (size_t)n;
        else if (errno != EAGAIN)
            return false;
    }
    if (served[i].to > served[i].from) {
        n = write(served[i].fd, served[i].bytes + served[i].from,
                  served[i].to - served[i].from);
        if (n > 0)
            served[i].from += (size_t)n;
        else if (errno != EAGAIN)
            return false;
    }
    return !served[i].over || served[i].from != served[i].to;
}

static short wanted_of(int i)
{
    bool in = !served[i].over && served[i].to < sizeof(served[i].bytes);

    return (short)((in ? POLLIN : 0) |
                   (served[i].to > served[i].from ? POLLOUT : 0));
}

static void serve(int listener)
{
    struct pollfd p[SERVED_MOST + 1];
    int n = 0;

    for (;;) {
        p[0] = (struct pollfd){.fd = listener, .events = POLLIN};
        for (int i = 0; i < n; i++)
            p[1 + i] =
                (struct pollfd){.fd = served[i].fd, .events = wanted_of(i)};
        poll(p, (nfds_t)n + 1, -1);
        if (n < SERVED_MOST && (p[0].revents & POLLIN)) {
            served[n].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
            served[n].over = false;
            served[n].from = served[n].to = 0;
            n += served[n].fd >= 0;
        }
        for (int i = n - 1; i >= 0; i--)
            if (!serve_one(i)) {
                close(served[i].fd);
                n--;
                memmove(&served[i], &served[n], sizeof(served[i]));
            }
    }
}

/* ---- the client ---- */

enum state { FREE, CHANGING, OPEN };

static struct slot {
    _Atomic int state; /* enum state */
    _Atomic int users; /* frames of this one thread */
    int fd;
    _Atomic long out, in;
} slots[SLOTS];

static uint16_t port;
static int set;
static uint64_t life; /* steps, about: of a connection */
static volatile const char *wrong;
static volatile unsigned long calls_of_handler;
static char zeroes[PIECE];

/* Nothing that the handler does may stop for what its own thread has to do. */
static void use(struct slot *s, uint64_t *random, bool handler)
{
    static char in[2][PIECE];
    size_t len =
        1 + random_below(random, random_below(random, 4) ? 300 : PIECE);
    int flags = handler || random_below(random, 2) ? MSG_DONTWAIT : 0;
    long ahead = atomic_load(&s->out) - atomic_load(&s->in);
    struct pollfd p = {.fd = s->fd, .events = POLLIN | POLLOUT};
    struct timeval now = {0, 0};
    socklen_t size = sizeof(int);
    int error;
    fd_set set_of_it;
    ssize_t n;

    switch (random_below(random, 8)) {
    case 0:
    case 1:
    case 2:
        if (ahead > AHEAD)
            break;
        n = random_below(random, 4) ? send(s->fd, zeroes, len, flags)
                                    : (flags ? -1 : write(s->fd, zeroes, len));
        if (n > 0)
            atomic_fetch_add(&s->out, n);
        break;
    case 3:
    case 4:
        n = recv(s->fd, in[handler], len, MSG_DONTWAIT);
        if (n > 0)
            atomic_fetch_add(&s->in, n);
        else if (n == 0)
            wrong = "an end";
        break;
    case 5:
        poll(&p, 1, handler ? 0 : 1);
        break;
    case 6:
        if (s->fd >= FD_SETSIZE)
            break;
        FD_ZERO(&set_of_it);
        FD_SET(s->fd, &set_of_it);
        select(s->fd + 1, &set_of_it, NULL, NULL, &now);
        break;
    default:
        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ||
            error != 0)
            wrong = "an error of the socket";
    }
}

/* A connect that a handler has interrupted goes on by itself: connect(2). */
static int connect_to_server(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0), error = 0;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t size = sizeof(error);

    if (fd < 0)
        die("socket");
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        return fd;
    if (errno != EINTR)
        die("connect");
    while (poll(&p, 1, -1) != 1)
        ;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
        wrong = "a connection that failed";
    return fd;
}

static void open_slot(struct slot *s, bool member)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};

    atomic_store(&s->out, 0);
    atomic_store(&s->in, 0);
    s->fd = connect_to_server();
    if (member)
        epoll_ctl(set, EPOLL_CTL_ADD, s->fd, &event);
    atomic_store(&s->state, OPEN);
}

/* A handler does not wait: for it all has come back, or it leaves it open. */
static void close_in_handler(struct slot *s)
{
    bool back = atomic_load(&s->in) == atomic_load(&s->out);

    if (back)
        close(s->fd);
    atomic_store(&s->state, back ? FREE : OPEN);
}

/* All that was written comes back, then the end. */
static void close_slot(struct slot *s)
{
    char bytes[4096]; /* of this frame: the handler reads, too */

    shutdown(s->fd, SHUT_WR);
    for (;;) {
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        ssize_t n = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        if (n == 0)
            break;
        if (n > 0)
            atomic_fetch_add(&s->in, n);
        else if (errno == EAGAIN)
            poll(&p, 1, 1000);
        else if (errno != EINTR) {
            wrong = "an error of a read";
            break;
        }
    }
    if (atomic_load(&s->in) != atomic_load(&s->out)) {
        fprintf(stderr, "fd %d: %ld written, %ld back\n", s->fd, s->out, s->in);
        wrong = "bytes that went astray";
    }
    close(s->fd);
    atomic_store(&s->state, FREE);
}

/* To have it alone. */
static bool take(struct slot *s, int from)
{
    if (atomic_load(&s->users) != 0)
        return false;
    return atomic_compare_exchange_strong(&s->state, &from, CHANGING);
}

static void one_step(uint64_t *random, bool handler)
{
    struct slot *s = &slots[random_below(random, SLOTS)];

    switch (random_below(random, life)) {
    case 0:
        if (take(s, OPEN))
            (handler ? close_in_handler : close_slot)(s);
        break;
    case 1:
    case 2:
    case 3:
        if (take(s, FREE))
            open_slot(s, !handler && random_below(random, 2));
        break;
    default:
        atomic_fetch_add(&s->users, 1);
        if (atomic_load(&s->state) == OPEN)
            use(s, random, handler);
        atomic_fetch_sub(&s->users, 1);
    }
}

static uint64_t handlers_random;

static timer_t timer;

static void next_signal(void)
{
    long us = 1 + (long)random_below(&handlers_random, 400);
    struct itimerspec once = {.it_value = {.tv_nsec = 1000 * us}};

    timer_settime(timer, 0, &once, NULL);
}

static _Atomic bool enough;

static bool forks;

static void make_a_child(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0)
        _exit(0);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        wrong = "a child that did not end well";
}

static void on_signal(int number)
{
    int error = errno;

    (void)number;
    calls_of_handler++;
    if (forks && random_below(&handlers_random, 100) == 0)
        make_a_child();
    one_step(&handlers_random, true);
    if (!atomic_load(&enough))
        next_signal();
    errno = error;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 2 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t until, random = seed;
    struct sigaction action = {.sa_handler = on_signal};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL,
                             .sigev_signo = SIGUSR1};
    struct itimerspec never = {.it_value = {0, 0}};
    struct epoll_event events[SLOTS];
    int listener;

    if (argc != 3 && argc != 4)
        die("usage: handlers SEED MILLISECONDS [forks]");
    forks = argc == 4;
    listener = tcp_listen("4", &port);
    if (fork_limited(60) == 0)
        serve(listener);
    close(listener);
    time_limit(60);
    set = epoll_create1(0);
    action.sa_flags = random_below(&random, 2) ? SA_RESTART : 0;
    life = random_below(&random, 2) ? 40 : 2000;
    handlers_random = next_random(&random);
    if (sigaction(SIGUSR1, &action, NULL) < 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
        die("timer");
    next_signal();
    until = now_ms() + strtoull(argv[2], NULL, 10);
    while (now_ms() < until && wrong == NULL) {
        one_step(&random, false);
        if (random_below(&random, 8) == 0)
            epoll_wait(set, events, SLOTS, 0);
    }
    atomic_store(&enough, true);
    timer_settime(timer, 0, &never, NULL);
    for (int i = 0; i < SLOTS; i++)
        if (wrong == NULL && take(&slots[i], OPEN))
            close_slot(&slots[i]);
    if (calls_of_handler == 0)
        die("no handler ran");
    printf("%s\n", wrong != NULL ? (const char *)wrong : "clean");
    return wrong != NULL;
}
