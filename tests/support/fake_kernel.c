/*
 * See fake_kernel.h.
 */
#include "tests/support/fake_kernel.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>

enum { FD_FIRST = 1000, ENDS = 8, BUFFER_MOST = 1 << 18 };
enum { STATE_ESTABLISHED = 1, STATE_HALF = 8 };

/* One direction, kept at the end that writes. */
struct path {
    uint8_t bytes[BUFFER_MOST];
    uint64_t read, arrived, written; /* offsets since the start */
    bool fin, fin_arrived;
    bool rst;
};

struct end {
    struct path out;
    bool closed;       /* nobody holds it */
    bool gone;         /* reset, by whomever */
    bool disconnected; /* connect(AF_UNSPEC) */
    bool shut_rd;
    int error; /* sk_err: told once */
    struct linger linger;
};

static struct end ends[ENDS];
static struct fake_tcp_settings now;
static uint64_t chance_state, clock_now;
static int n_ends;

uint64_t fake_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * UINT64_C(0x2545f4914f6cdd1d) >> 16;
}

static bool chance(unsigned of_256)
{
    return of_256 != 0 && (fake_random(&chance_state) & 255) < of_256;
}

static struct end *end_of(int fd)
{
    assert(fd >= FD_FIRST && fd < FD_FIRST + n_ends);
    return &ends[fd - FD_FIRST];
}

static struct end *other(int fd)
{
    return &ends[(fd - FD_FIRST) ^ 1];
}

void fake_tcp_start(const struct fake_tcp_settings *settings, uint64_t seed)
{
    n_ends = 0;
    now = *settings;
    assert(now.buffer <= BUFFER_MOST);
    chance_state = seed * 2 + 1;
    clock_now = 1;
}

struct fake_tcp_settings *fake_tcp_settings(void)
{
    return &now;
}

void fake_tcp_connect(int fd[2])
{
    assert(n_ends + 2 <= ENDS);
    for (int i = 0; i < 2; i++) {
        struct end *e = &ends[n_ends];

        /* The buffer keeps what it had: nobody reads it. */
        memset((char *)e + sizeof(e->out.bytes), 0,
               sizeof(*e) - sizeof(e->out.bytes));
        fd[i] = FD_FIRST + n_ends++;
    }
}

static void arrive_reset(struct end *at, struct end *from)
{
    from->out.rst = false;
    if (at->gone)
        return;
    at->gone = true;
    at->error = from->out.fin_arrived ? EPIPE : ECONNRESET;
    at->out.written = at->out.arrived; /* nothing of it goes out any more */
    at->out.fin = at->out.fin_arrived;
}

/* This end is over and says so. What is under way arrives up to a point. */
static void send_reset(struct end *e)
{
    struct path *out = &e->out;
    uint64_t under_way = out->written - out->arrived;

    if (e->gone)
        return;
    e->gone = true;
    if (under_way > 0)
        out->written -= fake_random(&chance_state) % (under_way + 1);
    if (under_way > 0 || out->fin != out->fin_arrived)
        out->fin = out->fin_arrived;
    out->rst = true;
}

size_t fake_tcp_under_way(int from)
{
    struct path *out = &end_of(from)->out;

    return (size_t)(out->written - out->arrived) +
           (out->fin && !out->fin_arrived) + out->rst;
}

/* shutdown() of both ways, and its FIN is on the way: as closed. */
static bool is_over(const struct end *e)
{
    return e->shut_rd && e->out.fin;
}

size_t fake_tcp_deliver(int from, size_t n)
{
    struct end *e = end_of(from), *peer = other(from);
    struct path *out = &e->out;
    size_t left = (size_t)(out->written - out->arrived);
    size_t moved = n < left ? n : left;

    out->arrived += moved;
    if (moved > 0 && (peer->closed || peer->gone || is_over(peer))) {
        send_reset(peer);
        return moved;
    }
    if (moved < n && out->arrived == out->written) {
        if (out->fin && !out->fin_arrived) {
            out->fin_arrived = true;
            moved++;
        }
        if (out->rst && moved < n) {
            arrive_reset(peer, e);
            moved++;
        }
    }
    return moved;
}

static void settle(int fd)
{
    if (!now.by_hand) {
        fake_tcp_deliver(fd, SIZE_MAX);
        fake_tcp_deliver(((fd - FD_FIRST) ^ 1) + FD_FIRST, SIZE_MAX);
    }
}

void fake_tcp_close(int fd)
{
    struct end *e = end_of(fd);
    struct path *in = &other(fd)->out;

    if (e->closed)
        return;
    e->closed = true;
    if (in->arrived > in->read ||
        (e->linger.l_onoff && e->linger.l_linger == 0))
        send_reset(e);
    else if (!e->gone)
        e->out.fin = true;
    settle(fd);
}

static size_t room(struct end *e)
{
    uint64_t used = e->out.written - e->out.read;

    return used < now.buffer ? (size_t)(now.buffer - used) : 0;
}

static void put(struct end *e, const uint8_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        e->out.bytes[(e->out.written + i) % BUFFER_MOST] = from[i];
    e->out.written += n;
}

static void get(struct path *in, uint8_t *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = in->bytes[(in->read + i) % BUFFER_MOST];
}

static int told_error(struct end *e)
{
    int error = e->error;

    e->error = 0;
    return error;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    struct end *e = end_of(fd);
    size_t done = 0, most = room(e);

    (void)flags;
    if (chance(now.interrupts))
        return -EINTR;
    if (e->error != 0)
        return -told_error(e);
    if (e->gone || e->out.fin)
        return -EPIPE;
    if (most == 0 || chance(now.again))
        return -EAGAIN;
    if (chance(now.short_writes))
        most = 1 + fake_random(&chance_state) % most;
    for (size_t i = 0; i < msg->msg_iovlen && done < most; i++) {
        size_t n = msg->msg_iov[i].iov_len;

        if (n > most - done)
            n = most - done;
        put(e, msg->msg_iov[i].iov_base, n);
        done += n;
    }
    settle(fd);
    return (ssize_t)done;
}

static ssize_t nothing_to_read(struct end *e, struct path *in)
{
    if (in->fin_arrived)
        return 0;
    if (e->error != 0)
        return -told_error(e);
    if (e->disconnected)
        return -ENOTCONN;
    return e->gone || e->shut_rd ? 0 : -EAGAIN;
}

static ssize_t fake_recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct end *e = end_of(fd);
    struct path *in = &other(fd)->out;
    uint64_t read_before = in->read;
    size_t done = 0;

    if (chance(now.interrupts))
        return -EINTR;
    if (in->arrived == in->read)
        return nothing_to_read(e, in);
    if (chance(now.again))
        return -EAGAIN;
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        size_t n = msg->msg_iov[i].iov_len;

        if (n > in->arrived - in->read)
            n = (size_t)(in->arrived - in->read);
        if (!(flags & MSG_TRUNC))
            get(in, msg->msg_iov[i].iov_base, n);
        in->read += n;
        done += n;
    }
    if (flags & MSG_PEEK)
        in->read = read_before;
    return (ssize_t)done;
}

static ssize_t fake_send(int fd, const void *buf, size_t len, int flags)
{
    struct iovec iov = {(void *)buf, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return fake_sendmsg(fd, &msg, flags);
}

static ssize_t fake_recv(int fd, void *buf, size_t len, int flags)
{
    struct iovec iov = {buf, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    return fake_recvmsg(fd, &msg, flags);
}

static int fake_shutdown(int fd, int how)
{
    struct end *e = end_of(fd);

    if (e->gone)
        return -ENOTCONN;
    if (how != SHUT_WR)
        e->shut_rd = true;
    if (how != SHUT_RD)
        e->out.fin = true;
    settle(fd);
    return 0;
}

static int fake_getsockopt(int fd, int level, int name, void *value,
                           socklen_t *len)
{
    struct end *e = end_of(fd);
    struct path *in = &other(fd)->out;
    struct tcp_info *info = value;

    if (level == SOL_SOCKET && name == SO_LINGER) {
        memcpy(value, &e->linger, sizeof(e->linger));
        return 0;
    }
    if (level == SOL_SOCKET && name == SO_ERROR) {
        *(int *)value = told_error(e);
        return 0;
    }
    if (level != IPPROTO_TCP || name != TCP_INFO || *len < sizeof(*info))
        return -ENOPROTOOPT;
    memset(info, 0, sizeof(*info));
    info->tcpi_state = STATE_ESTABLISHED;
    if (e->gone || e->out.fin || in->fin_arrived)
        info->tcpi_state = STATE_HALF;
    info->tcpi_bytes_acked =
        e->out.arrived + e->out.fin_arrived + ((fd - FD_FIRST) % 2 == 0);
    info->tcpi_bytes_received = in->arrived + in->fin_arrived;
    return 0;
}

static int fake_setsockopt(int fd, int level, int name, const void *value,
                           socklen_t len)
{
    if (level != SOL_SOCKET || name != SO_LINGER ||
        len != sizeof(struct linger))
        return -ENOPROTOOPT;
    memcpy(&end_of(fd)->linger, value, len);
    return 0;
}

static int fake_ioctl(int fd, unsigned long command, void *arg)
{
    struct end *e = end_of(fd);
    struct path *in = &other(fd)->out;

    if (command == SIOCOUTQ)
        *(int *)arg = (int)(e->out.written - e->out.arrived);
    else if (command == FIONREAD)
        *(int *)arg = (int)(in->arrived - in->read);
    else
        return -EINVAL;
    return 0;
}

/* Only ever AF_UNSPEC: the connection is reset and forgets its bytes. */
static int fake_connect(int fd, const void *addr, socklen_t len)
{
    struct end *e = end_of(fd);
    struct path *in = &other(fd)->out;

    (void)addr;
    (void)len;
    send_reset(e);
    in->read = in->arrived;
    e->disconnected = true;
    e->error = ECONNRESET;
    settle(fd);
    return 0;
}

static int fake_poll(struct pollfd *fds, unsigned n, int ms)
{
    struct end *e = end_of(fds[0].fd);
    struct path *in = &other(fds[0].fd)->out;
    short ready = 0;

    assert(n == 1 && ms == 0);
    if (in->arrived > in->read || in->fin_arrived || e->gone || e->shut_rd)
        ready |= POLLIN | POLLRDNORM;
    if (in->fin_arrived || e->gone || e->shut_rd)
        ready |= POLLRDHUP;
    if (room(e) > 0 || e->gone)
        ready |= POLLOUT | POLLWRNORM;
    ready &= fds[0].events;
    if (e->gone || (e->out.fin && in->fin_arrived))
        ready |= POLLHUP;
    if (e->error != 0)
        ready |= POLLERR;
    fds[0].revents = ready;
    return ready != 0;
}

static uint64_t fake_now(void)
{
    return clock_now;
}

void fake_clock_advance(uint64_t ns)
{
    clock_now += ns;
}

void fake_tcp_foreign_write(int fd, const void *bytes, size_t n)
{
    put(end_of(fd), bytes, n);
    settle(fd);
}

size_t fake_tcp_foreign_read(int fd, void *bytes, size_t n)
{
    struct path *in = &other(fd)->out;

    if (n > in->arrived - in->read)
        n = (size_t)(in->arrived - in->read);
    get(in, bytes, n);
    in->read += n;
    return n;
}

size_t fake_tcp_unread(int fd)
{
    struct path *in = &other(fd)->out;

    return (size_t)(in->arrived - in->read);
}

const uint8_t *fake_tcp_queue(int from, size_t *n)
{
    static uint8_t copy[BUFFER_MOST];
    struct path *out = &end_of(from)->out;

    *n = (size_t)(out->written - out->read);
    get(out, copy, *n);
    return copy;
}

bool fake_tcp_said_fin(int fd)
{
    return end_of(fd)->out.fin;
}

bool fake_tcp_was_reset(int fd)
{
    return end_of(fd)->gone;
}

const struct tcp_calls fake_tcp_calls = {
    .recv = fake_recv,
    .recvmsg = fake_recvmsg,
    .send = fake_send,
    .sendmsg = fake_sendmsg,
    .shutdown = fake_shutdown,
    .getsockopt = fake_getsockopt,
    .setsockopt = fake_setsockopt,
    .ioctl = fake_ioctl,
    .connect = fake_connect,
    .poll = fake_poll,
    .now_ns = fake_now,
};
