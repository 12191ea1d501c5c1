/*
 * Steps that move bytes. Each byte says which connection, direction and
 * offset it belongs to.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "tests/differential/actor.h"
#include "tests/e2e/support/plain.h"

/* The program's own syscall(); ours goes past the library. */
long __real_syscall(long number, ...);

enum { LENGTH_MOST = 65536, VECTOR = 6, UNTOUCHED = 0xee };

/* Where a message came from, besides its bytes: the places in val. */
enum { V_NAME, V_FLAGS, V_CONTROL, V_PARTS, V_PART, V_TAIL = V_PART + 2 };

static uint64_t pattern_of(const struct actor *a, int slot, int sender)
{
    const struct slot *s = slot_at(a, slot);

    return (uint64_t)(s->conn * 2 + sender + 1);
}

/* Some pieces, some of them empty: the same ones for a step in every run. */
static int split(const struct actor *a, struct iovec *iov, uint8_t *buf,
                 size_t len)
{
    uint64_t chance = a->at * 1000003u + len;
    int n = 1 + (int)random_below(&chance, VECTOR);

    for (int i = 0; i < n; i++) {
        size_t part = i == n - 1 ? len : random_below(&chance, len + 1);

        iov[i].iov_base = buf;
        iov[i].iov_len = part;
        buf += part;
        len -= part;
    }
    return n;
}

static ssize_t send_by(const struct actor *a, int fd, uint8_t *buf, size_t len)
{
    struct iovec iov[VECTOR], iov2[VECTOR];
    struct msghdr msg = {.msg_iov = iov};
    struct mmsghdr both[2] = {{.msg_hdr.msg_iov = iov},
                              {.msg_hdr.msg_iov = iov2}};
    size_t half = len / 2;
    int flags = a->step->arg[3], rc;

    switch (a->step->arg[1]) {
    case BY_WRITE:
        return write(fd, buf, len);
    case BY_WRITEV:
        return writev(fd, iov, split(a, iov, buf, len));
    case BY_SEND:
        return send(fd, buf, len, flags);
    case BY_SENDTO:
        return sendto(fd, buf, len, flags, NULL, 0);
    case BY_SENDMSG:
        msg.msg_iovlen = (size_t)split(a, iov, buf, len);
        return sendmsg(fd, &msg, flags);
    case BY_SENDTO_NUMBER:
        return __real_syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);
    default:
        both[0].msg_hdr.msg_iovlen = (size_t)split(a, iov, buf, half);
        both[1].msg_hdr.msg_iovlen =
            (size_t)split(a, iov2, buf + half, len - half);
        rc = sendmmsg(fd, both, 2, flags);
        if (rc <= 0)
            return rc;
        return (ssize_t)both[0].msg_len + (rc == 2 ? both[1].msg_len : 0);
    }
}

static size_t length_asked(const struct actor *a)
{
    int32_t len = a->step->arg[2];

    return len < 0 ? 0 : len > LENGTH_MOST ? LENGTH_MOST : (size_t)len;
}

static void step_send(struct actor *a, struct outcome *o)
{
    static __thread uint8_t buf[LENGTH_MOST];
    int slot = a->step->arg[0], end = 0, fd = slot_fd(a, slot);
    size_t len = length_asked(a), before = a->again && o->rc > 0 ? o->rc : 0;
    struct conn *c = slot_conn(a, slot, &end);
    ssize_t rc;

    if (c != NULL)
        pattern_fill(pattern_of(a, slot, end), c->sent[end], buf, len);
    rc = before ? send(fd, buf, len - before, MSG_NOSIGNAL)
                : send_by(a, fd, buf, len);
    o->err = rc < 0 ? errno : 0;
    if (rc > 0 && c != NULL)
        c->sent[end] += (uint64_t)rc;
    if (rc < 0 && o->err != EAGAIN && c != NULL)
        c->reset[end] = c->reset[!end] = 1;
    if (rc > 0 && before)
        atomic_fetch_add(&a->shared->added_up, 1);
    o->rc = rc >= 0 ? rc + (ssize_t)before : before ? (ssize_t)before : rc;
    if (before)
        o->err = 0;
}

static ssize_t receive_msg(const struct actor *a, int fd, uint8_t *buf,
                           size_t len, struct outcome *o, bool many)
{
    struct iovec iov[VECTOR], iov2[VECTOR];
    struct sockaddr_storage name;
    char control[64];
    struct mmsghdr both[2] = {{.msg_hdr.msg_iov = iov},
                              {.msg_hdr.msg_iov = iov2}};
    struct msghdr *msg = &both[0].msg_hdr;
    size_t half = len / 2;
    int flags = a->step->arg[3];
    ssize_t rc;

    msg->msg_name = &name;
    msg->msg_namelen = sizeof(name);
    msg->msg_control = control;
    msg->msg_controllen = sizeof(control);
    if (many) {
        msg->msg_iovlen = (size_t)split(a, iov, buf, half);
        both[1].msg_hdr.msg_iovlen =
            (size_t)split(a, iov2, buf + half, len - half);
        rc = recvmmsg(fd, both, 2, flags, NULL);
        o->val[V_PARTS] = rc;
        for (ssize_t i = 0; i < rc; i++)
            o->val[V_PART + i] = both[i].msg_len;
        if (rc == 2)
            memmove(buf + both[0].msg_len, buf + half, both[1].msg_len);
        if (rc > 0)
            rc = o->val[V_PART] + (rc == 2 ? o->val[V_PART + 1] : 0);
    } else {
        msg->msg_iovlen = (size_t)split(a, iov, buf, len);
        rc = recvmsg(fd, msg, flags);
    }
    if (rc < 0)
        return rc;
    o->val[V_FLAGS] = msg->msg_flags;
    o->val[V_NAME] = msg->msg_namelen;
    o->val[V_CONTROL] = (int64_t)msg->msg_controllen;
    return rc;
}

static ssize_t receive_by(const struct actor *a, int fd, uint8_t *buf,
                          size_t len, struct outcome *o)
{
    struct iovec iov[VECTOR];
    struct sockaddr_storage name;
    socklen_t name_len = sizeof(name);
    int flags = a->step->arg[3];
    ssize_t rc;

    switch (a->step->arg[1]) {
    case BY_READ:
        return read(fd, buf, len);
    case BY_READV:
        return readv(fd, iov, split(a, iov, buf, len));
    case BY_RECV:
        return recv(fd, buf, len, flags);
    case BY_RECVFROM:
        rc = recvfrom(fd, buf, len, flags, (struct sockaddr *)&name, &name_len);
        if (rc >= 0)
            o->val[V_NAME] = name_len;
        return rc;
    case BY_RECVFROM_NUMBER:
        return __real_syscall(SYS_recvfrom, fd, buf, len, flags, NULL, NULL);
    default:
        return receive_msg(a, fd, buf, len, o, a->step->arg[1] == BY_RECVMMSG);
    }
}

static bool peeks(const struct actor *a)
{
    return a->step->arg[1] >= BY_RECV && (a->step->arg[3] & MSG_PEEK);
}

static bool drops(const struct actor *a)
{
    return a->step->arg[1] >= BY_RECV && (a->step->arg[3] & MSG_TRUNC);
}

/* Are these the next bytes of the other end? */
static void check_bytes(const struct actor *a, int slot, struct outcome *o,
                        const uint8_t *buf, size_t at, ssize_t rc)
{
    int end = 0;
    struct conn *c = slot_conn(a, slot, &end);
    ssize_t wrong;

    if (rc <= 0 || c == NULL)
        return;
    if (!drops(a)) {
        wrong = pattern_check(pattern_of(a, slot, !end), c->took[!end], buf,
                              (size_t)rc);
        if (wrong >= 0 && o->wrong < 0)
            o->wrong = (int64_t)at + wrong;
    }
    if (!peeks(a))
        c->took[!end] += (uint64_t)rc;
}

struct moment {
    uint64_t fine_us, coarse_us;
};

static uint64_t coarse_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/*
 * A blocking read that gave up long before its SO_RCVTIMEO. The kernel counts
 * that one in ticks, and where the processor that keeps them was late (a busy
 * host of a virtual machine) the next ones come together: 12 ms are over
 * after 9, or fewer. The coarse clock goes by the same ticks, and by it a read
 * of the kernel's is never early; the library's goes by the fine one. So it is
 * early if it was so by both.
 */
static bool came_early(const struct actor *a, int fd,
                       const struct moment *start)
{
    struct timeval limit = {0, 0};
    socklen_t len = sizeof(limit);
    bool may_wait =
        a->step->arg[1] < BY_RECV || !(a->step->arg[3] & MSG_DONTWAIT);

    return may_wait && !(fcntl(fd, F_GETFL) & O_NONBLOCK) &&
           getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &len) == 0 &&
           now_us() - start->fine_us < (uint64_t)limit.tv_usec / 2 &&
           coarse_us() - start->coarse_us < (uint64_t)limit.tv_usec / 2;
}

static void step_recv(struct actor *a, struct outcome *o)
{
    static __thread uint8_t buf[LENGTH_MOST];
    int slot = a->step->arg[0], fd = slot_fd(a, slot);
    size_t len = length_asked(a);
    size_t before = a->again && o->rc > 0 && !peeks(a) ? (size_t)o->rc : 0;
    struct moment start = {now_us(), coarse_us()};
    ssize_t rc;

    memset(buf, UNTOUCHED, len);
    rc = before ? recv(fd, buf, len - before,
                       MSG_DONTWAIT | (drops(a) ? MSG_TRUNC : 0))
                : receive_by(a, fd, buf, len, o);
    o->err = rc < 0 ? errno : 0;
    check_bytes(a, slot, o, buf, before, rc);
    if (rc > 0 && before)
        atomic_fetch_add(&a->shared->added_up, 1);
    if (rc >= 0 && !before && !drops(a))
        for (size_t i = (size_t)rc; i < len; i++)
            o->val[V_TAIL] |= buf[i] != UNTOUCHED;
    o->rc = rc >= 0 ? rc + (ssize_t)before : before ? (ssize_t)before : rc;
    if (before)
        o->err = 0;
    if (o->err == EAGAIN && !a->again)
        o->early = came_early(a, fd, &start);
}

/* ---- full and empty buffers ---- */

enum { BLOCK = 32768, FULL_ROUNDS = 4, LATE_ACK_US = 45000 };

/* Until nothing goes in any more, also a moment later. */
static void step_fill(struct actor *a, struct outcome *o)
{
    static uint8_t buf[BLOCK];
    int slot = a->step->arg[0], end = 0, fd = slot_fd(a, slot), full = 0;
    struct conn *c = slot_conn(a, slot, &end);
    size_t most = 64 << 20;

    while (c != NULL && full < FULL_ROUNDS && most > BLOCK) {
        ssize_t rc;

        pattern_fill(pattern_of(a, slot, end), c->sent[end], buf, BLOCK);
        rc = send(fd, buf, BLOCK, MSG_DONTWAIT | MSG_NOSIGNAL);
        o->err = rc < 0 ? errno : 0;
        if (rc < 0 && errno != EAGAIN)
            break;
        if (rc < 0) {
            pause_us(full++ == 0 ? LATE_ACK_US : 1000);
            continue;
        }
        full = 0;
        most -= (size_t)rc;
        c->sent[end] += (uint64_t)rc;
        c->filled[end] += (uint64_t)rc;
    }
    o->rc = most <= BLOCK;
}

static void step_drain(struct actor *a, struct outcome *o)
{
    static uint8_t buf[BLOCK];
    int slot = a->step->arg[0], end = 0, fd = slot_fd(a, slot);
    struct conn *c = slot_conn(a, slot, &end);
    uint64_t until = now_us() + 1000000 * (uint64_t)a->shared->slow;

    while (c != NULL && c->filled[!end] > 0 && now_us() < until) {
        uint64_t len = c->sent[!end] - c->took[!end];
        ssize_t rc, wrong;

        rc = recv(fd, buf, len > BLOCK ? BLOCK : (size_t)len, MSG_DONTWAIT);
        o->err = rc < 0 ? errno : 0;
        if (rc == 0 || (rc < 0 && errno != EAGAIN))
            break;
        if (rc < 0) {
            pause_us(50);
            continue;
        }
        wrong = pattern_check(pattern_of(a, slot, !end), c->took[!end], buf,
                              (size_t)rc);
        if (wrong >= 0)
            o->wrong = 0; /* how many bytes it was is not compared */
        c->took[!end] += (uint64_t)rc;
        if (c->sent[!end] == c->took[!end])
            c->filled[!end] = 0;
    }
    o->err = o->err == EAGAIN ? 0 : o->err;
    o->rc = c != NULL && c->filled[!end] == 0;
}

static void step_sendfile(struct actor *a, struct outcome *o)
{
    static uint8_t buf[LENGTH_MOST];
    int slot = a->step->arg[0], end = 0, fd = slot_fd(a, slot);
    struct conn *c = slot_conn(a, slot, &end);
    int32_t n = a->step->arg[1];
    size_t len = n < 0 || n > LENGTH_MOST ? 0 : (size_t)n;
    int file = memfd_create("differential", MFD_CLOEXEC);
    off_t from = 0;

    if (c != NULL)
        pattern_fill(pattern_of(a, slot, end), c->sent[end], buf, len);
    if (write(file, buf, len) != (ssize_t)len)
        return;
    o->rc = sendfile(fd, file, &from, len);
    o->err = o->rc < 0 ? errno : 0;
    if (o->rc > 0 && c != NULL)
        c->sent[end] += (uint64_t)o->rc;
    close(file);
}

void step_bytes(struct actor *a, struct outcome *o)
{
    int n = -1;

    switch (a->step->op) {
    case OP_SEND:
        step_send(a, o);
        break;
    case OP_RECV:
        step_recv(a, o);
        break;
    case OP_FILL:
        step_fill(a, o);
        break;
    case OP_DRAIN:
        step_drain(a, o);
        break;
    case OP_SENDFILE:
        step_sendfile(a, o);
        break;
    default:
        o->rc = ioctl(slot_fd(a, a->step->arg[0]), FIONREAD, &n);
        o->err = o->rc < 0 ? errno : 0;
        o->val[0] = n;
    }
}
