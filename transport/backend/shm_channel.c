/*
 * Channels: the SOCK_SEQPACKET connection between two processes that have
 * met, over which rendezvous and handover messages go.
 *
 * A channel that says anything malformed, blocks our sends, or ends is
 * closed; its links are told (channel_dead) and go on as far as they can.
 * Only the helper reads and closes. Any thread may send, under the stage lock
 * of a stream whose link belongs to the channel: channel_close() hides the
 * channel first and then visits every such stream under that lock, so nobody
 * can still be using it when it is freed.
 */
#include "transport/backend/shm_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include "config/log.h"
#include "transport/kernel_calls.h"

enum { OVERFLOW_UID = 65534, MESSAGES_A_TURN = 64 };

static bool other_user_namespace(uint32_t pid)
{
    char path[64];
    struct stat ours, theirs;

    snprintf(path, sizeof(path), "/proc/%u/ns/user", pid);
    if (stat("/proc/self/ns/user", &ours) < 0 || stat(path, &theirs) < 0)
        return false;
    return ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev;
}

/* The same user by default; an unmapped user is nobody's friend. */
bool channel_user_allowed(struct shm *shm, int fd, uint32_t *pid)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    if (kernel_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
        return false;
    *pid = (uint32_t)who.pid;
    if (who.uid == OVERFLOW_UID || other_user_namespace(*pid))
        return false;
    if (who.uid == geteuid())
        return true;
    for (unsigned i = 0; i < shm->config.n_users; i++)
        if (shm->config.users[i] == who.uid)
            return true;
    return false;
}

int channel_send(struct channel *channel, const struct control_message *m,
                 const struct hello_body *body, int fd)
{
    uint8_t bytes[HELLO_SIZE];
    struct iovec iov = {bytes, MESSAGE_SIZE};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t rc;

    if (atomic_load(&channel->dead))
        return -EPIPE;
    message_encode(m, bytes);
    if (body != NULL) {
        hello_encode(body, bytes + MESSAGE_SIZE);
        iov.iov_len = HELLO_SIZE;
    }
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
    if (rc == (ssize_t)iov.iov_len)
        return 0;
    /* Gone, or it does not read: give it up so that the other end notices. */
    atomic_store(&channel->dead, true);
    kernel_shutdown(channel->watch.fd, SHUT_RDWR);
    return -EPIPE;
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
        if (p->side == 0 && p->id == id)
            p->busy[idx] &= (uint8_t)~SLOT_PEER;
}

/* False: the peer broke a rule. */
static bool handle(struct channel *channel, const uint8_t *bytes, size_t len,
                   int fd)
{
    struct control_message m;
    struct hello_body body;
    struct shm_link *l;
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
        meet_welcome(channel, &m, &body);
        return true;
    case MESSAGE_REFUSE:
        meet_refused(channel, &m);
        return true;
    case MESSAGE_RINGS:
        rc = fd < 0 ? -EBADF : arena_guest(channel, fd, m.link >> 16, &p);
        if (rc < 0)
            log_info("shared memory offered by pid %u was refused (%d)",
                     channel->pid, -rc);
        return rc == 0 || rc == -ENOMEM;
    case MESSAGE_BYE:
        peer_said_bye(channel, &m);
        return true;
    default:
        l = find_link(channel, &m);
        if (l != NULL)
            channel->shm->events->message(l->link.owner, &m);
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
    int fd;
    bool ok;

    *more = false;
    if (n == -EAGAIN || n == -EINTR)
        return !atomic_load(&channel->dead);
    if (n <= 0)
        return false;
    *more = true;
    fd = take_descriptor(&msg);
    ok = !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
         handle(channel, bytes, (size_t)n, fd);
    if (fd >= 0)
        kernel_close(fd);
    if (!ok)
        log_warn("pid %u broke the rules of the rendezvous channel; its "
                 "streams stay on TCP", channel->pid);
    return ok;
}

void channel_drain(struct channel *channel)
{
    bool more = true;

    while (more)
        if (!read_one(channel, &more)) {
            /* Closed at the next event of the loop; deaf from now on. */
            atomic_store(&channel->dead, true);
            kernel_shutdown(channel->watch.fd, SHUT_RDWR);
            return;
        }
}

static void on_channel(struct watch *watch, uint32_t events)
{
    struct channel *channel = watch->arg;
    bool more = true;

    (void)events;
    for (int i = 0; i < MESSAGES_A_TURN && more; i++)
        if (!read_one(channel, &more)) {
            channel_close(channel);
            return;
        }
}

struct channel *channel_open(struct shm *shm, int fd)
{
    const struct loop_calls *calls = loop_calls(shm->loop);
    struct channel *channel = calloc(1, sizeof(*channel));
    int kept = calls->keep(fd);

    if (channel == NULL || kept < 0)
        goto close_fd;
    channel->shm = shm;
    channel->watch.fd = kept;
    channel->watch.ready = on_channel;
    channel->watch.arg = channel;
    channel->pid = 0;
    if (loop_add(shm->loop, &channel->watch, EPOLLIN) < 0)
        goto close_fd;
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
    free(channel);
}
