/*
 * usage: calls FAMILY SEED STEPS SETTLE_MS [moving | returns | peeking]
 *
 * Both ends of one connection in one thread, so that every result is decided:
 * random calls of every family in both directions, with the result, errno,
 * flags and bytes of each printed. The output on kernel TCP and under the
 * library has to be the same, line for line. "moving": the stream may change
 * its carrier meanwhile; a read may then end early where it does, as any read
 * of a stream may, so all reads are MSG_WAITALL and readiness is not printed.
 * "returns": also, streams are forced back to TCP at random steps. "peeking":
 * the stream may move, but a reader that looks ahead sees all as on TCP.
 *
 * SETTLE_MS is waited before the first call, or until both ends of TCP have
 * sent something that is not from here, and a little of it now and then in the
 * other modes: time for the library to move the stream.
 *
 * What the kernel's TCP sent goes to standard error: "kernel_sent N of M".
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { PIECE_MOST = 4000, QUEUED_MOST = 30000, VECTOR = 5 };

static int end[2]; /* client, server */
static int extra[2], epfd, event_fd;
static uint64_t sent[2]; /* by each end */
static uint64_t took[2]; /* by the other end, of those */
static uint64_t chance;
static bool moving, rests;
static unsigned settle;
static uint64_t seed;

static uint64_t below(uint64_t n)
{
    return random_below(&chance, n);
}

static void print_result(const char *what, int from, size_t asked, int flags,
                         ssize_t rc)
{
    int error = errno;

    printf("%c %s %zu flags %x: %zd %s", from ? 's' : 'c', what, asked,
           (unsigned)flags, rc, rc < 0 ? error_name(error) : "");
}

static int split(struct iovec *iov, uint8_t *buf, size_t len)
{
    int n = 1 + (int)below(VECTOR);

    for (int i = 0; i < n; i++) {
        size_t part = i == n - 1 ? len : below(len + 1);

        iov[i].iov_base = buf;
        iov[i].iov_len = part;
        buf += part;
        len -= part;
    }
    return n;
}

static ssize_t send_by(int family, int fd, uint8_t *buf, size_t len, int flags)
{
    struct iovec iov[VECTOR], iov2[VECTOR];
    struct msghdr msg = {.msg_iov = iov};
    struct mmsghdr both[2] = {{.msg_hdr.msg_iov = iov},
                              {.msg_hdr.msg_iov = iov2}};
    size_t half = len / 2;
    int rc;

    switch (family) {
    case 0:
        return write(fd, buf, len);
    case 1:
        return writev(fd, iov, split(iov, buf, len));
    case 2:
        return send(fd, buf, len, flags);
    case 3:
        return sendto(fd, buf, len, flags, NULL, 0);
    case 4:
        msg.msg_iovlen = (size_t)split(iov, buf, len);
        return sendmsg(fd, &msg, flags);
    default:
        both[0].msg_hdr.msg_iovlen = (size_t)split(iov, buf, half);
        both[1].msg_hdr.msg_iovlen =
            (size_t)split(iov2, buf + half, len - half);
        rc = sendmmsg(fd, both, 2, flags);
        if (rc != 2)
            return rc;
        return (ssize_t)(both[0].msg_len + both[1].msg_len);
    }
}

static void step_send(int from)
{
    static const char *const names[] = {"write",  "writev",  "send",
                                        "sendto", "sendmsg", "sendmmsg"};
    static uint8_t buf[PIECE_MOST];
    size_t len = below(8) == 0 ? below(PIECE_MOST) : below(200);
    int family = (int)below(6);
    int flags = family < 2 ? 0
                           : (below(2) ? MSG_NOSIGNAL : 0) |
                                 (below(2) ? MSG_DONTWAIT : 0);
    ssize_t rc;

    if (sent[from] - took[from] + len > QUEUED_MOST)
        return;
    pattern_fill(seed + (unsigned)from, sent[from], buf, len);
    rc = send_by(family, end[from], buf, len, flags);
    print_result(names[family], from, len, flags, rc);
    printf("\n");
    if (rc > 0)
        sent[from] += (uint64_t)rc;
    if (!moving && wait_unread(end[!from], (int)(sent[from] - took[from])) !=
                       (int)(sent[from] - took[from]))
        printf("FIONREAD is not what was sent\n");
}

struct received {
    int msg_flags, parts;
    size_t part[2];
    socklen_t name_len;
    size_t control_len;
};

static ssize_t receive_msg(int fd, uint8_t *buf, size_t len, int flags,
                           struct received *got, bool many)
{
    struct iovec iov[VECTOR], iov2[VECTOR];
    struct sockaddr_storage name;
    char control[64];
    struct mmsghdr both[2] = {{.msg_hdr.msg_iov = iov},
                              {.msg_hdr.msg_iov = iov2}};
    struct msghdr *msg = &both[0].msg_hdr;
    size_t half = len / 2;
    ssize_t rc;

    msg->msg_name = &name;
    msg->msg_namelen = sizeof(name);
    msg->msg_control = control;
    msg->msg_controllen = sizeof(control);
    if (many) {
        msg->msg_iovlen = (size_t)split(iov, buf, half);
        both[1].msg_hdr.msg_iovlen =
            (size_t)split(iov2, buf + half, len - half);
        rc = recvmmsg(fd, both, 2, flags, NULL);
        got->parts = rc < 0 ? 0 : (int)rc;
        for (int i = 0; i < got->parts; i++)
            got->part[i] = both[i].msg_len;
        if (rc == 2 && both[0].msg_len == half && !(flags & MSG_PEEK))
            rc = (ssize_t)(both[0].msg_len + both[1].msg_len);
        else if (rc >= 1)
            rc = both[0].msg_len;
    } else {
        msg->msg_iovlen = (size_t)split(iov, buf, len);
        rc = recvmsg(fd, msg, flags);
    }
    got->msg_flags = msg->msg_flags;
    got->name_len = msg->msg_namelen;
    got->control_len = msg->msg_controllen;
    return rc;
}

static ssize_t receive_by(int family, int fd, uint8_t *buf, size_t len,
                          int flags, struct received *got)
{
    struct iovec iov[VECTOR];
    struct sockaddr_storage name;

    switch (family) {
    case 0:
        return read(fd, buf, len);
    case 1:
        return readv(fd, iov, split(iov, buf, len));
    case 2:
        return recv(fd, buf, len, flags);
    case 3:
        got->name_len = sizeof(name);
        return recvfrom(fd, buf, len, flags, (struct sockaddr *)&name,
                        &got->name_len);
    default:
        return receive_msg(fd, buf, len, flags, got, family == 5);
    }
}

/* Flags that let the call return at once with what is there. */
static int receive_flags(int family, uint64_t queued, size_t len)
{
    int flags = 0;

    if (family < 2)
        return 0;
    if (queued == 0 || below(2))
        flags |= MSG_DONTWAIT;
    if (below(4) == 0 && family != 5)
        flags |= MSG_PEEK;
    if (below(3) == 0 && len <= queued)
        flags |= MSG_WAITALL;
    if (below(16) == 0 && family == 2)
        flags |= MSG_TRUNC;
    return flags;
}

static void step_receive(int from)
{
    static const char *const names[] = {"read",     "readv",   "recv",
                                        "recvfrom", "recvmsg", "recvmmsg"};
    static uint8_t buf[PIECE_MOST];
    uint64_t queued = sent[from] - took[from];
    int family = (int)below(6), fd = end[!from], flags;
    size_t len = 1 + (below(4) == 0 ? below(PIECE_MOST) : below(300));
    struct received got = {0};
    ssize_t rc, wrong = -1;

    if (family == 5 && queued < len)
        family = 4; /* the second message would block */
    if (moving && (len > queued || family == 5))
        return;
    if (moving && family < 2)
        family += 2;
    flags = moving ? MSG_WAITALL : receive_flags(family, queued, len);
    if (family < 2 && queued == 0)
        return;
    memset(buf, 0xee, sizeof(buf));
    rc = receive_by(family, fd, buf, len, flags, &got);
    print_result(names[family], !from, len, flags, rc);
    if (rc > 0 && !(flags & MSG_TRUNC))
        wrong =
            pattern_check(seed + (unsigned)from, took[from], buf, (size_t)rc);
    printf(" name %u control %zu mflags %x parts %d %zu %zu %016llx%s\n",
           got.name_len, got.control_len, (unsigned)got.msg_flags, got.parts,
           got.part[0], got.part[1],
           (unsigned long long)bytes_hash(buf, sizeof(buf)),
           wrong >= 0 ? " WRONG BYTES" : "");
    if (rc > 0 && !(flags & MSG_PEEK))
        took[from] += (uint64_t)rc;
}

static void step_poll(bool signals)
{
    struct pollfd fds[6] = {{end[0], POLLIN | POLLOUT | POLLRDHUP, 0},
                            {end[1], POLLIN, 0},
                            {extra[0], POLLIN, 0},
                            {event_fd, POLLIN | POLLOUT, 0},
                            {-1, POLLIN, 0},
                            {end[1], POLLPRI | POLLOUT | POLLRDNORM, 0}};
    struct timespec none = {0, 0};
    sigset_t mask;
    int rc;

    sigemptyset(&mask);
    rc = signals ? ppoll(fds, 6, &none, &mask) : poll(fds, 6, 0);
    printf("%s %d:", signals ? "ppoll" : "poll", rc);
    for (int i = 0; i < 6; i++)
        printf(" %x", (unsigned)fds[i].revents);
    printf("\n");
}

/*
 * Not by number: while a descriptor of the library's is made it has a low one
 * for a moment, and the program's next is one higher (docs/limits.md).
 */
static const char *role_of(int fd)
{
    return fd == end[0]     ? "end 0"
           : fd == end[1]   ? "end 1"
           : fd == extra[0] ? "pipe 0"
           : fd == extra[1] ? "pipe 1"
                            : NULL;
}

static void step_select(bool signals)
{
    struct timespec none = {0, 0};
    struct timeval zero = {0, 0};
    fd_set in, out, except;
    int rc, top = 0;

    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    for (int i = 0; i < 2; i++) {
        FD_SET(end[i], &in);
        FD_SET(end[i], &out);
        FD_SET(end[i], &except);
        FD_SET(extra[i], i == 0 ? &in : &out);
        top = end[i] > top ? end[i] : top;
        top = extra[i] > top ? extra[i] : top;
    }
    rc = signals ? pselect(top + 1, &in, &out, &except, &none, NULL)
                 : select(top + 1, &in, &out, &except, &zero);
    printf("%s %d:", signals ? "pselect" : "select", rc);
    for (int i = 0; i <= top; i++)
        if (role_of(i) != NULL || FD_ISSET(i, &in) || FD_ISSET(i, &out) ||
            FD_ISSET(i, &except))
            printf(" %s %d%d%d", role_of(i) != NULL ? role_of(i) : "?",
                   !!FD_ISSET(i, &in), !!FD_ISSET(i, &out),
                   !!FD_ISSET(i, &except));
    printf("\n");
}

/* Ten looks: descriptors of different kinds may come by turns. */
static void step_epoll(void)
{
    struct epoll_event events[8];
    uint32_t seen[4] = {0};

    for (int round = 0; round < 10; round++) {
        int n = epoll_wait(epfd, events, 8, 0);

        for (int i = 0; i < n; i++)
            if (events[i].data.u64 < 4)
                seen[events[i].data.u64] |= events[i].events;
            else
                printf("an event with data %llx\n",
                       (unsigned long long)events[i].data.u64);
    }
    printf("epoll: %x %x %x %x\n", seen[0], seen[1], seen[2], seen[3]);
}

static void step_ask(void)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    struct linger linger = {-1, -1};
    int which = (int)below(2), error = -1, unread = -1;

    if (!moving)
        ioctl(end[which], FIONREAD, &unread);
    getpeername(end[which], (struct sockaddr *)&name, &len);
    printf("ask: unread %d peer %u", unread, len);
    len = sizeof(error);
    getsockopt(end[which], SOL_SOCKET, SO_ERROR, &error, &len);
    len = sizeof(linger);
    getsockopt(end[which], SOL_SOCKET, SO_LINGER, &linger, &len);
    printf(" error %d linger %d %d fl %x fd %x\n", error, linger.l_onoff,
           linger.l_linger, (unsigned)fcntl(end[which], F_GETFL),
           (unsigned)fcntl(end[which], F_GETFD));
}

static void step_others(void)
{
    uint64_t one = 1;
    char c = 'x';

    if (below(2))
        (void)!write(extra[1], &c, 1);
    else if (below(2))
        (void)!read(extra[0], &c, 1);
    if (below(3) == 0)
        (void)!write(event_fd, &one, sizeof(one));
    else if (below(3) == 0)
        (void)!read(event_fd, &one, sizeof(one));
}

static void set_up(const char *family)
{
    uint64_t data = 0;
    int fds[4], on = 1;

    if (pipe2(extra, O_CLOEXEC | O_NONBLOCK) < 0)
        die("pipe");
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    tcp_pair(family, 0, &end[0], &end[1]);
    for (int i = 0; i < 2; i++)
        setsockopt(end[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    epfd = epoll_create1(EPOLL_CLOEXEC);
    fds[0] = end[0];
    fds[1] = end[1];
    fds[2] = extra[0];
    fds[3] = event_fd;
    for (; data < 4; data++) {
        struct epoll_event event = {.events = data == 1 ? EPOLLIN
                                                        : EPOLLIN | EPOLLOUT,
                                    .data.u64 = data};

        if (epoll_ctl(epfd, EPOLL_CTL_ADD, fds[data], &event) < 0)
            die("epoll_ctl");
    }
}

static void step(void)
{
    int from = (int)below(2);

    switch (moving ? 4 + below(8) : below(12)) {
    case 0:
        step_poll(false);
        break;
    case 1:
        step_poll(true);
        break;
    case 2:
        step_select(below(2));
        break;
    case 3:
        step_epoll();
        break;
    case 4:
        step_ask();
        break;
    case 5:
        step_others();
        break;
    default:
        if (below(2))
            step_send(from);
        else
            step_receive(from);
    }
}

/* Reads all there is and waits: a good moment to leave TCP. */
static void rest(void)
{
    for (int from = 0; from < 2; from++)
        while (took[from] < sent[from])
            step_receive(from);
    sleep_ms(rests ? 4 + settle / 10 : 0);
}

static void settle_down(void)
{
    uint64_t until_ms = now_ms() + settle;

    while (now_ms() < until_ms &&
           (kernel_sent(end[0]) == 0 || kernel_sent(end[1]) == 0))
        sleep_ms(1);
    sleep_ms(settle / 100);
}

int main(int argc, char **argv)
{
    bool returns = argc > 5 && strcmp(argv[5], "returns") == 0;
    int steps;

    if (argc < 5)
        die("usage: calls FAMILY SEED STEPS SETTLE_MS [returns]");
    setvbuf(stdout, NULL, _IOLBF, 0);
    time_limit(60);
    seed = chance = strtoull(argv[2], NULL, 10);
    steps = atoi(argv[3]);
    rests = argc > 5;
    moving = rests && strcmp(argv[5], "peeking") != 0;
    set_up(argv[1]);
    settle = (unsigned)atoi(argv[4]);
    settle_down();
    for (int i = 0; i < steps; i++) {
        if (returns && below(200) == 0)
            spawn_true();
        if (rests && i % 150 == 149)
            rest();
        step();
    }
    rest();
    fprintf(stderr, "kernel_sent %llu of %llu\n",
            (unsigned long long)(kernel_sent(end[0]) + kernel_sent(end[1])),
            (unsigned long long)(sent[0] + sent[1]));
    return 0;
}
