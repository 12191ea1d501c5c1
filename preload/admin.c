/*
 * See admin.h and admin_layout.h. A few callers are served at once, each for
 * one request; more of them wait in the kernel's queue.
 */
#include "preload/admin.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "config/log.h"
#include "preload/admin_layout.h"
#include "preload/fd_table.h"
#include "preload/helper.h"
#include "preload/stats.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum { CALLERS = 4, CALLER_NS = 1000000000 };

struct caller {
    struct watch watch; /* fd -1: free */
    struct timer timer;
};

static struct {
    struct loop *loop;
    struct watch listener;
    struct caller caller[CALLERS];
} admin;

static void hang_up(struct caller *c)
{
    loop_timer_clear(admin.loop, &c->timer);
    loop_remove(admin.loop, &c->watch);
    ours_close(c->watch.fd);
    c->watch.fd = -1;
    if (!admin.listener.added)
        loop_add(admin.loop, &admin.listener, EPOLLIN);
}

static void on_silence(struct timer *timer)
{
    hang_up(timer->arg);
}

/* Each endpoint is found once: under the number that its stream has. */
static int hold(int32_t fd, bool on)
{
    unsigned from = fd == ADMIN_ALL ? 0 : (unsigned)fd;
    unsigned end = fd == ADMIN_ALL ? fd_rows_used() : from + 1;
    int n = 0;

    if (fd == ADMIN_ALL)
        helper_hold_new(on);
    for (unsigned i = from; i < end; i++) {
        struct endpoint *e = fd_endpoint((int)i);

        if (e == NULL || e->state != ENDPOINT_CONNECTED ||
            (fd == ADMIN_ALL && e->stream.fd != (int)i))
            continue;
        helper_hold(e, on);
        n++;
    }
    return n > 0 || fd == ADMIN_ALL ? n : -EBADF;
}

static int obey(const struct admin_request *r)
{
    if (r->fd < ADMIN_ALL)
        return -EINVAL;
    switch (r->command) {
    case ADMIN_DOWN:
        return hold(r->fd, true);
    case ADMIN_UP:
        return hold(r->fd, false);
    default:
        return -EOPNOTSUPP;
    }
}

static void on_request(struct watch *watch, uint32_t events)
{
    struct caller *c = watch->arg;
    struct admin_request r;
    struct admin_reply reply = {.magic = ADMIN_MAGIC};
    ssize_t n = kernel_recv(watch->fd, &r, sizeof(r), MSG_DONTWAIT);

    (void)events;
    if (n == -EAGAIN || n == -EINTR)
        return;
    if (n == (ssize_t)sizeof(r) && r.magic == ADMIN_MAGIC) {
        reply.result = obey(&r);
        log_info("the fastsock command asked for %s of %d: %d",
                 r.command == ADMIN_DOWN ? "down" : "up", r.fd, reply.result);
        kernel_send(watch->fd, &reply, sizeof(reply),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    hang_up(c);
}

static bool may_ask(int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    return kernel_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 &&
           (who.uid == geteuid() || who.uid == 0);
}

static struct caller *free_caller(void)
{
    for (int i = 0; i < CALLERS; i++)
        if (admin.caller[i].watch.fd < 0)
            return &admin.caller[i];
    return NULL;
}

static void on_caller(struct watch *watch, uint32_t events)
{
    struct caller *c = free_caller();
    int fd;

    (void)events;
    if (c == NULL) { /* until one of them hangs up */
        loop_remove(admin.loop, watch);
        return;
    }
    fd = kernel_accept4(watch->fd, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && !may_ask(fd)) {
        kernel_close(fd);
        return;
    }
    fd = ours_keep(fd);
    if (fd < 0)
        return;
    c->watch = (struct watch){.fd = fd, .ready = on_request, .arg = c};
    c->timer.expired = on_silence;
    c->timer.arg = c;
    if (loop_add(admin.loop, &c->watch, EPOLLIN) < 0) {
        ours_close(fd);
        c->watch.fd = -1;
        return;
    }
    loop_timer_set(admin.loop, &c->timer, clock_ns() + CALLER_NS);
}

void admin_start(struct loop *loop)
{
    uint64_t inode = stats_inode();
    struct sockaddr_un un;
    socklen_t len;
    int fd, rc;

    if (admin.loop != NULL)
        return; /* the thread has begun again */
    admin.loop = loop;
    for (int i = 0; i < CALLERS; i++)
        admin.caller[i].watch.fd = -1;
    if (inode == 0)
        return;
    len = admin_address(inode, &un);
    fd = ours_keep(kernel_socket(
        AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (fd < 0)
        return;
    admin.listener = (struct watch){.fd = fd, .ready = on_caller};
    rc = kernel_bind(fd, &un, len);
    if (rc == 0)
        rc = kernel_listen(fd, CALLERS);
    if (rc == 0)
        rc = loop_add(loop, &admin.listener, EPOLLIN);
    if (rc < 0) {
        log_warn("'fastsock down' cannot reach this process (%s)",
                 strerror(-rc));
        ours_close(fd);
    }
}

void admin_after_fork(void)
{
    memset(&admin, 0, sizeof(admin));
}
