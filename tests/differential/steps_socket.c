/*
 * Steps in the life of a socket: made, connected, accepted, asked, changed,
 * shut, duplicated, closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "tests/differential/actor.h"

enum { BUFFER = 32768 };

static int64_t result(struct outcome *o, int64_t rc)
{
    o->rc = rc;
    o->err = rc < 0 ? errno : 0;
    return rc;
}

/* A new descriptor: which number it got is not compared. */
static void result_fd(const struct actor *a, struct outcome *o, int slot,
                      int fd, int kind, int conn, int end)
{
    result(o, fd < 0 ? -1 : 0);
    if (fd < 0)
        return;
    if (slot_at(a, slot) == NULL || slot_fd(a, slot) >= 0)
        close(fd); /* a program that was cut: the place is taken */
    else
        slot_set(a, slot, fd, kind, conn, end);
}

static socklen_t address(const struct actor *a, bool listens,
                         struct sockaddr_storage *out)
{
    static const uint8_t mapped[16] = {
        [10] = 255, [11] = 255, [12] = 127, [15] = 1};
    struct sockaddr_in *in4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    uint16_t port = htons(listens ? 0 : a->shared->port);

    memset(out, 0, sizeof(*out));
    if (a->shared->program.family == 4) {
        in4->sin_family = AF_INET;
        in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in4->sin_port = port;
        return sizeof(*in4);
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = port;
    if (a->shared->program.family == 6)
        in6->sin6_addr = in6addr_loopback;
    else if (!listens)
        memcpy(&in6->sin6_addr, mapped, 16);
    return sizeof(*in6);
}

/* Small buffers, so that they are soon full; no Nagle, so that all arrives. */
static int new_socket(const struct actor *a, int flags)
{
    int fd = socket(a->shared->program.family == 4 ? AF_INET : AF_INET6,
                    SOCK_STREAM | flags, 0);
    int on = 1, size = BUFFER;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static void step_listen(struct actor *a, struct outcome *o)
{
    struct sockaddr_storage addr;
    socklen_t len = address(a, true, &addr);
    int fd = new_socket(a, SOCK_CLOEXEC), rc;

    rc = bind(fd, (struct sockaddr *)&addr, len);
    if (rc == 0)
        rc = listen(fd, 16);
    if (rc == 0)
        rc = getsockname(fd, (struct sockaddr *)&addr, &len);
    a->shared->port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
    result_fd(a, o, a->step->arg[0], rc < 0 ? -1 : fd, SLOT_LISTEN, 0, 0);
}

static bool is_conn(int n)
{
    return n >= 0 && n < CONNS;
}

/* A connect() that may not wait, and then the wait for it. */
static void step_connect(struct actor *a, struct outcome *o)
{
    struct sockaddr_storage addr;
    socklen_t len = address(a, false, &addr);
    int flags = a->step->arg[2], error = 0;
    int fd = new_socket(a, flags);
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    if (!is_conn(a->step->arg[1])) {
        close(fd);
        return;
    }
    result(o, connect(fd, (struct sockaddr *)&addr, len));
    o->val[0] = o->err;
    if (o->rc < 0 && o->err == EINPROGRESS) {
        poll(&p, 1, 1000);
        len = sizeof(error);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
        o->val[1] = p.revents;
        o->val[2] = error;
        o->rc = error == 0 ? 0 : -1;
    }
    if (o->rc < 0) {
        close(fd);
        return;
    }
    if (slot_fd(a, a->step->arg[0]) >= 0 || slot_at(a, a->step->arg[0]) == NULL)
        close(fd);
    else
        slot_set(a, a->step->arg[0], fd, SLOT_CONN, a->step->arg[1], 0);
}

static void step_accept(struct actor *a, struct outcome *o)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    int listener = slot_fd(a, a->step->arg[1]), on = 1, fd;
    struct pollfd p = {.fd = listener, .events = POLLIN};

    if (!is_conn(a->step->arg[2]) || poll(&p, 1, 100) != 1) {
        result(o, -1);
        o->err = ETIMEDOUT; /* nobody has connected */
        return;
    }
    memset(&name, 0, sizeof(name));
    if (a->step->arg[3] == BY_ACCEPT)
        fd = accept(listener, (struct sockaddr *)&name, &len);
    else
        fd = accept4(listener, (struct sockaddr *)&name, &len, a->step->arg[4]);
    o->val[0] = len;
    o->val[1] = name.ss_family;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    result_fd(a, o, a->step->arg[0], fd, SLOT_CONN, a->step->arg[2], 1);
}

static void step_close(struct actor *a, struct outcome *o)
{
    struct slot *s = slot_at(a, a->step->arg[0]);
    int fd = slot_fd(a, a->step->arg[0]);

    result(o, close(fd));
    if (s != NULL && s->kind != SLOT_NONE)
        slot_clear(a, s);
}

static void step_shutdown(struct actor *a, struct outcome *o)
{
    int end = 0, how = a->step->arg[1];
    struct conn *c = slot_conn(a, a->step->arg[0], &end);

    if (result(o, shutdown(slot_fd(a, a->step->arg[0]), how)) != 0 || c == NULL)
        return;
    c->shut[end] |= how != SHUT_RD;
    c->deaf[end] |= how != SHUT_WR;
}

static void step_dup(struct actor *a, struct outcome *o)
{
    struct slot *s = slot_at(a, a->step->arg[0]);
    int fd = slot_fd(a, a->step->arg[0]), slot = a->step->arg[1], new = -1;
    int conn = s != NULL ? s->conn : 0, end = s != NULL ? s->end : 0;
    int kind = s != NULL ? s->kind : SLOT_NONE;

    switch (a->step->arg[2]) {
    case BY_DUP:
        new = dup(fd);
        break;
    case BY_DUPFD:
        new = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        break;
    default: /* onto what is there, if there is anything */
        new = dup2(fd, slot_fd(a, slot) >= 0 ? slot_fd(a, slot) : 150 + slot);
        if (new >= 0 && slot != a->step->arg[0] && slot_at(a, slot) != NULL &&
            slot_fd(a, slot) >= 0)
            slot_clear(a, slot_at(a, slot));
    }
    if (new < 0 || slot == a->step->arg[0])
        result(o, new < 0 ? -1 : 0);
    else
        result_fd(a, o, slot, new, kind, conn, end);
}

static void step_nonblock(struct actor *a, struct outcome *o)
{
    int fd = slot_fd(a, a->step->arg[0]), on = a->step->arg[1] != 0, flags;

    if (a->step->arg[2] == BY_IOCTL) {
        result(o, ioctl(fd, FIONBIO, &on));
        return;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    result(o, fcntl(fd, F_SETFL, flags));
}

static void step_names(struct actor *a, struct outcome *o)
{
    int fd = slot_fd(a, a->step->arg[0]);
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    memset(&name, 0, sizeof(name));
    o->val[0] = getsockname(fd, (struct sockaddr *)&name, &len);
    o->val[1] = len;
    o->val[2] = name.ss_family;
    len = sizeof(name);
    memset(&name, 0, sizeof(name));
    result(o, getpeername(fd, (struct sockaddr *)&name, &len));
    o->val[3] = len;
    o->val[4] = name.ss_family;
}

static const struct {
    int level, name;
    socklen_t len;
} options[OPTS] = {
    [OPT_RCVTIMEO] = {SOL_SOCKET, SO_RCVTIMEO, sizeof(struct timeval)},
    [OPT_SNDTIMEO] = {SOL_SOCKET, SO_SNDTIMEO, sizeof(struct timeval)},
    [OPT_LINGER] = {SOL_SOCKET, SO_LINGER, sizeof(struct linger)},
    [OPT_RCVLOWAT] = {SOL_SOCKET, SO_RCVLOWAT, sizeof(int)},
    [OPT_ERROR] = {SOL_SOCKET, SO_ERROR, sizeof(int)},
    [OPT_TYPE] = {SOL_SOCKET, SO_TYPE, sizeof(int)},
    [OPT_ACCEPTCONN] = {SOL_SOCKET, SO_ACCEPTCONN, sizeof(int)},
};

/* Milliseconds, or the seconds of a linger (-1: off), or the number itself. */
static void step_setopt(struct actor *a, struct outcome *o)
{
    int which = a->step->arg[1] % OPTS, value = a->step->arg[2];
    struct timeval time = {value / 1000, value % 1000 * 1000};
    struct linger linger = {value >= 0, value >= 0 ? value : 0};
    const void *from = &value;

    if (which == OPT_RCVTIMEO || which == OPT_SNDTIMEO)
        from = &time;
    else if (which == OPT_LINGER)
        from = &linger;
    result(o, setsockopt(slot_fd(a, a->step->arg[0]), options[which].level,
                         options[which].name, from, options[which].len));
}

static void step_getopt(struct actor *a, struct outcome *o)
{
    int which = a->step->arg[1] % OPTS;
    union {
        int n[2];
        struct timeval time;
        struct linger linger;
    } got = {{0}};
    socklen_t len = options[which].len;

    result(o, getsockopt(slot_fd(a, a->step->arg[0]), options[which].level,
                         options[which].name, &got, &len));
    o->val[0] = got.n[0];
    o->val[1] = len;
    if (which == OPT_LINGER)
        o->val[2] = got.linger.l_linger;
    else if (which == OPT_RCVTIMEO || which == OPT_SNDTIMEO)
        o->val[2] = got.time.tv_usec;
}

void step_socket(struct actor *a, struct outcome *o)
{
    int fd = slot_fd(a, a->step->arg[0]);

    switch (a->step->op) {
    case OP_LISTEN:
        step_listen(a, o);
        break;
    case OP_CONNECT:
        step_connect(a, o);
        break;
    case OP_ACCEPT:
        step_accept(a, o);
        break;
    case OP_UP:
        settle_up(a, a->step->arg[0]);
        break;
    case OP_SHUTDOWN:
        step_shutdown(a, o);
        break;
    case OP_CLOSE:
        step_close(a, o);
        break;
    case OP_DUP:
        step_dup(a, o);
        break;
    case OP_NONBLOCK:
        step_nonblock(a, o);
        break;
    case OP_FLAGS:
        result(o, fcntl(fd, F_GETFL));
        o->val[0] = fcntl(fd, F_GETFD);
        break;
    case OP_NAMES:
        step_names(a, o);
        break;
    case OP_SETOPT:
        step_setopt(a, o);
        break;
    case OP_GETOPT:
        step_getopt(a, o);
        break;
    case OP_PAUSE:
        pause_us((unsigned)a->step->arg[0] % 1000 * 1000);
        break;
    default:
        break;
    }
}
