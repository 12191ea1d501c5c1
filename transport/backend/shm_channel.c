/*
 * Channels: the SOCK_SEQPACKET connection between two processes that have
 * met, over which rendezvous and handover messages go.
 *
 * A channel that says anything malformed, blocks our sends, leads to no link
 * in time, or ends is closed; its links are told (channel_dead) and go on as
 * far as they can. Only the helper reads and closes. Any thread may send, under
 * the stage lock of a stream whose link belongs to the channel: channel_close()
 * hides the channel first and then visits every such stream under that lock, so
 * nobody can still be using it when it is freed.
 */
#include "transport/backend/shm_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "config/log.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"
#include "transport/shared_memory.h"

enum {
    MESSAGES_A_TURN = 64,
    MESSAGES_A_DRAIN = 1024, /* more than a socket holds */
    MESSAGE_WEIGHT = 4096,   /* of one message in a socket, at most */
    UNSENT_FIRST = 64,
    UNSENT_MOST = 65536, /* four of each link: its peer is stopped for long */
    UNANSWERED_MOST = 64,
    ANSWER_NS = 20000000 /* without any answer, and as many again are asked */
};

/* A message that waits for room in the socket. */
struct unsent {
    size_t len;
    int fd; /* that goes with it, ours; -1: none */
    uint8_t bytes[HELLO_SIZE];
};

static int put(struct channel *channel, const void *bytes, size_t len, int fd)
{
    struct iovec iov = {(void *)bytes, len};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t rc;

    if (fd >= 0) {
        struct cmsghdr *c;

        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(int));
    }
    rc = kernel_sendmsg(channel->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc < 0)
        return (int)rc;
    return rc == (ssize_t)len ? 0 : -EPIPE;
}

/* Lock held. The i-th of those that wait. */
static struct unsent *unsent_at(struct channel *channel, unsigned i)
{
    return &channel->unsent[(channel->first_unsent + i) % channel->unsent_size];
}

/* Lock held. */
static void free_unsent(struct channel *channel)
{
    memory_unmap(channel->unsent,
                 channel->unsent_size * sizeof(*channel->unsent));
    channel->unsent = NULL;
    channel->unsent_size = channel->first_unsent = 0;
}

/*
 * Lock held. Not from malloc(): a signal handler may write to a socket, and
 * the call that it interrupted may be inside malloc() itself.
 */
static bool make_room(struct channel *channel)
{
    unsigned size = channel->unsent_size;
    unsigned twice = size != 0 ? 2 * size : UNSENT_FIRST;
    struct unsent *grown;

    if (channel->n_unsent < size)
        return true;
    if (twice > UNSENT_MOST)
        return false;
    grown = mmap(NULL, twice * sizeof(*grown), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (grown == MAP_FAILED)
        return false;
    for (unsigned i = 0; i < size; i++)
        grown[i] = *unsent_at(channel, i);
    free_unsent(channel);
    channel->unsent = grown;
    channel->unsent_size = twice;
    return true;
}

/* Lock held. */
static int send_later(struct channel *channel, const void *bytes, size_t len,
                      int fd)
{
    struct loop *loop = channel->shm->loop;
    struct unsent *u;

    if (!make_room(channel))
        return -EAGAIN;
    u = unsent_at(channel, channel->n_unsent);
    u->len = len;
    memcpy(u->bytes, bytes, len);
    u->fd = -1;
    if (fd >= 0) {
        u->fd = loop_calls(loop)->keep(kernel_fcntl(fd, F_DUPFD_CLOEXEC, 0));
        if (u->fd < 0)
            return u->fd;
    }
    if (channel->n_unsent++ == 0)
        loop_change(loop, &channel->watch, EPOLLIN | EPOLLOUT);
    return 0;
}

/* Lock held. */
static void forget_first(struct channel *channel)
{
    struct unsent *u = unsent_at(channel, 0);

    if (u->fd >= 0)
        loop_calls(channel->shm->loop)->close(u->fd);
    channel->first_unsent = (channel->first_unsent + 1) % channel->unsent_size;
    if (--channel->n_unsent == 0)
        free_unsent(channel);
}

/* There is room again. False: the peer is gone. */
static bool send_unsent(struct channel *channel)
{
    int rc = 0;

    lock_enter(&channel->lock);
    while (rc == 0 && channel->n_unsent > 0) {
        struct unsent *u = unsent_at(channel, 0);

        rc = put(channel, u->bytes, u->len, u->fd);
        if (rc == 0)
            forget_first(channel);
    }
    if (channel->n_unsent == 0)
        loop_change(channel->shm->loop, &channel->watch, EPOLLIN);
    lock_leave(&channel->lock);
    return rc == 0 || rc == -EAGAIN;
}

int channel_send(struct channel *channel, const struct control_message *m,
                 const struct hello_body *body, int fd)
{
    uint8_t bytes[HELLO_SIZE];
    size_t len = MESSAGE_SIZE;
    int rc = -EAGAIN;

    if (atomic_load(&channel->dead))
        return -EPIPE;
    message_encode(m, bytes);
    if (body != NULL) {
        hello_encode(body, bytes + MESSAGE_SIZE);
        len = HELLO_SIZE;
    }
    if (lock_is_mine(&channel->lock))
        return -EAGAIN; /* a signal handler, in the midst of this */
    lock_enter(&channel->lock);
    atomic_fetch_add(&channel->under_way, MESSAGE_WEIGHT);
    if (channel->n_unsent == 0)
        rc = put(channel, bytes, len, fd);
    if (rc == -EAGAIN)
        rc = send_later(channel, bytes, len, fd);
    lock_leave(&channel->lock);
    if (rc == 0 || (rc == -EMFILE && fd >= 0))
        return rc;
    /* Gone, or it does not read: give it up so that the other end notices. */
    atomic_store(&channel->dead, true);
    kernel_shutdown(channel->watch.fd, SHUT_RDWR);
    return -EPIPE;
}

/* Some are never answered: their stream is not accepted, or not ready. */
static bool is_asked_enough(struct channel *channel)
{
    if (channel->unanswered < UNANSWERED_MOST)
        return false;
    if (clock_ns() < channel->answered_ns + ANSWER_NS)
        return true;
    channel->unanswered = 0;
    channel->answered_ns = clock_ns();
    return false;
}

/* The kernel is asked only when so much has been sent since the last time. */
bool channel_is_crowded(struct channel *channel)
{
    int64_t before = atomic_load(&channel->under_way);
    int now = 0;

    if (is_asked_enough(channel))
        return true;
    if (before <= channel->room / 2)
        return false;
    if (kernel_ioctl(channel->watch.fd, SIOCOUTQ, &now) < 0)
        return true;
    now += (int)(channel->n_unsent * MESSAGE_WEIGHT);
    /* What others send meanwhile stays counted. */
    atomic_fetch_add(&channel->under_way, now - before);
    return now > channel->room / 2;
}

static int take_descriptor(struct msghdr *msg)
{
    int found = -1;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL;
         c = CMSG_NXTHDR(msg, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (found < 0)
                found = fd;
            else
                kernel_close(fd);
        }
    }
    return found;
}

static struct shm_link *find_link(struct channel *channel,
                                  const struct control_message *m)
{
    uint32_t idx = m->link & 0xffff, id = m->link >> 16;

    if (idx >= SHM_LINKS || m->stream > 1)
        return NULL;
    for (struct arena *p = channel->arenas; p != NULL; p = p->next)
        if (p->id == id && (uint32_t)p->side != m->stream)
            return p->link[idx];
    return NULL;
}

static void peer_said_bye(struct channel *channel,
                          const struct control_message *m)
{
    struct shm_link *l = find_link(channel, m);
    uint32_t idx = m->link & 0xffff, id = m->link >> 16;

    if (l != NULL)
        channel->shm->events->channel_dead(l->link.owner);
    if (m->stream != 1 || idx >= SHM_LINKS)
        return;
    for (struct arena *p = channel->arenas; p != NULL; p = p->next)
        if (p->side == 0 && p->id == id) {
            arena_leave_slot(p, idx, SLOT_PEER);
            p->lost |= m->reason == REASON_NO_MEMORY;
        }
}

static void answered(struct channel *channel)
{
    channel->answered_ns = clock_ns();
    if (channel->unanswered > 0)
        channel->unanswered--;
}

/* What is not for the channel itself. */
static void for_link(struct channel *channel, const struct control_message *m)
{
    struct control_message pong = {.type = MESSAGE_PONG, .number = m->number};
    struct shm_link *l = find_link(channel, m);

    if (l == NULL)
        return;
    if (m->type == MESSAGE_PING) {
        l->link.ops->send(&l->link, &pong);
        return;
    }
    /* The answer to the last question is behind all that was said before. */
    if (m->type == MESSAGE_PONG && (l->asked == 0 || --l->asked > 0))
        return;
    channel->shm->events->message(l->link.owner, m);
}

/*
 * False: the peer broke a rule. no_fd: a descriptor came and there was none
 * left for it here; the first link of that arena will be refused.
 */
static bool handle(struct channel *channel, const uint8_t *bytes, size_t len,
                   int fd, bool no_fd)
{
    struct control_message m;
    struct hello_body body;
    struct arena *p;
    int rc = message_decode(bytes, len, &m);

    if (rc == -EOPNOTSUPP)
        return true;
    if (rc < 0)
        return false;
    if (message_body_size(m.type) != 0) {
        if (hello_decode(bytes + MESSAGE_SIZE, len - MESSAGE_SIZE, &body) < 0)
            return false;
        if (!channel->greeted) {
            channel->greeted = true;
            channel->bell_token = body.bell;
            for (p = channel->arenas; p != NULL; p = p->next)
                p->bell_token = body.bell;
        }
    }
    switch (m.type) {
    case MESSAGE_HELLO:
        meet_hello(channel, &m, &body);
        return true;
    case MESSAGE_WELCOME:
        answered(channel);
        meet_welcome(channel, &m, &body);
        return true;
    case MESSAGE_REFUSE:
        answered(channel);
        meet_refused(channel, &m);
        return true;
    case MESSAGE_RINGS:
        if (no_fd)
            rc = -ENOMEM;
        else
            rc = fd < 0 ? -EBADF : arena_guest(channel, fd, m.link >> 16, &p);
        if (rc < 0)
            log_info("shared memory offered by pid %u was refused (%d)",
                     channel->pid, -rc);
        return rc == 0 || rc == -ENOMEM;
    case MESSAGE_BYE:
        peer_said_bye(channel, &m);
        return true;
    default:
        for_link(channel, &m);
        return true;
    }
}

/* False once the channel has to be closed. */
static bool read_one(struct channel *channel, bool *more)
{
    uint8_t bytes[HELLO_SIZE + 1];
    struct iovec iov = {bytes, sizeof(bytes)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n = kernel_recvmsg(channel->watch.fd, &msg,
                               MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    bool ok, no_fd;
    int fd;

    *more = false;
    if (n == -EAGAIN || n == -EINTR)
        return !atomic_load(&channel->dead);
    if (n <= 0)
        return false;
    *more = true;
    fd = take_descriptor(&msg);
    no_fd = (msg.msg_flags & MSG_CTRUNC) && fd < 0;
    ok = !(msg.msg_flags & MSG_TRUNC) &&
         (no_fd || !(msg.msg_flags & MSG_CTRUNC)) &&
         handle(channel, bytes, (size_t)n, fd, no_fd);
    if (fd >= 0)
        kernel_close(fd);
    if (!ok)
        log_warn("pid %u broke the rules of the rendezvous channel; its "
                 "streams stay on TCP",
                 channel->pid);
    return ok;
}

/* A peer must not lead us deeper with each message, nor talk without end. */
void channel_drain(struct channel *channel)
{
    bool more = true;

    if (channel->drains)
        return; /* an outer call reads on */
    channel->drains = true;
    for (int i = 0; i < MESSAGES_A_DRAIN && more; i++)
        if (!read_one(channel, &more)) {
            /* Closed at the next event of the loop; deaf from now on. */
            atomic_store(&channel->dead, true);
            kernel_shutdown(channel->watch.fd, SHUT_RDWR);
            break;
        }
    channel->drains = false;
}

static void on_channel(struct watch *watch, uint32_t events)
{
    struct channel *channel = watch->arg;
    bool more = true;

    if ((events & EPOLLOUT) && !send_unsent(channel)) {
        channel_close(channel);
        return;
    }
    for (int i = 0; i < MESSAGES_A_TURN && more; i++)
        if (!read_one(channel, &more)) {
            channel_close(channel);
            return;
        }
}

static void on_no_link(struct timer *timer)
{
    channel_close(timer->arg);
}

void channel_met(struct channel *channel)
{
    channel->met = true;
    loop_timer_clear(channel->shm->loop, &channel->timer);
}

struct channel *channel_open(struct shm *shm, int fd, uint32_t pid)
{
    const struct loop_calls *calls = loop_calls(shm->loop);
    struct channel *channel = calloc(1, sizeof(*channel));
    int kept = calls->keep(fd);
    socklen_t len;

    if (channel == NULL || kept < 0)
        goto close_fd;
    channel->shm = shm;
    channel->serial = ++shm->last_serial;
    channel->pid = pid;
    channel->watch.fd = kept;
    channel->watch.ready = on_channel;
    channel->watch.arg = channel;
    len = sizeof(channel->room);
    kernel_getsockopt(kept, SOL_SOCKET, SO_SNDBUF, &channel->room, &len);
    if (loop_add(shm->loop, &channel->watch, EPOLLIN) < 0)
        goto close_fd;
    channel->timer.expired = on_no_link;
    channel->timer.arg = channel;
    loop_timer_set(shm->loop, &channel->timer,
                   clock_ns() + shm->config.meet_ns);
    channel->next = shm->channels;
    shm->channels = channel;
    return channel;
close_fd:
    if (kept >= 0)
        calls->close(kept);
    free(channel);
    return NULL;
}

void channel_close(struct channel *channel)
{
    struct shm *shm = channel->shm;
    struct channel **at = &shm->channels;
    struct arena *next;

    atomic_store(&channel->dead, true);
    while (*at != channel)
        at = &(*at)->next;
    *at = channel->next;
    loop_remove(shm->loop, &channel->watch);
    loop_timer_clear(shm->loop, &channel->timer);
    for (struct arena *p = channel->arenas; p != NULL; p = p->next) {
        atomic_store(&p->alive, false);
        atomic_store(&p->channel, NULL);
    }
    for (struct arena *p = channel->arenas; p != NULL; p = next) {
        next = p->next;
        for (unsigned i = 0; i < SHM_LINKS; i++)
            if (p->link[i] != NULL)
                shm->events->channel_dead(p->link[i]->link.owner);
        arena_put(p);
    }
    meet_channel_gone(channel);
    loop_calls(shm->loop)->close(channel->watch.fd);
    while (channel->n_unsent > 0)
        forget_first(channel);
    free_unsent(channel); /* made, and then there was no descriptor */
    free(channel);
}
