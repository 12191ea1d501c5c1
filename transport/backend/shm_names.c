/*
 * Abstract UNIX names by which two processes that do not know each other yet
 * find one another. See shm_meet.c for what they say then.
 *
 * The accepting end binds a name derived from the address pair ("m") and the
 * connecting end connects to it. Whoever comes too early must not poll: a
 * connecting end that finds nobody binds a name of its own ("w", wanted) and
 * the accepting end, once it has bound, pokes that name.
 *
 * A name costs a descriptor for as long as it is bound, and descriptors are
 * the application's. So only a few meetings have one; the others wait in line,
 * and one that nobody came to for a while makes room for them. Between two
 * processes that know each other no name is needed.
 *
 * Anybody may bind or connect to an abstract name, so each side looks at the
 * kernel's credentials before it says a word. And who may call may call again
 * and again, so callers without a link are few, too: the oldest goes. One that
 * means it has said HELLO when it is looked at next.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>

#include "transport/backend/shm_private.h"
#include "transport/kernel_calls.h"
#include "transport/pause.h"

enum {
    NAMES_MOST = 16,    /* at once; twice that where somebody is waiting */
    TURN_NS = 20000000, /* a name is kept so long when others want one */
    ROOM_NS = 1000000,  /* for a channel to be read by its other end */
    LOOKS_A_TURN = 16,  /* in vain */
    CALLERS_OF_ONE = 2 * NAMES_MOST, /* as many may come in a turn */
    CALLERS_MOST = 4 * NAMES_MOST
};

int meeting_address(const struct connection_name *name, char kind,
                    char out[108])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[37];
    char *p = out + 1;
    int n = 0;

    bytes[n++] = name->family;
    for (int i = 0; i < (name->family == 4 ? 4 : 16); i++)
        bytes[n++] = name->server[i];
    bytes[n++] = (uint8_t)(name->server_port >> 8);
    bytes[n++] = (uint8_t)name->server_port;
    for (int i = 0; i < (name->family == 4 ? 4 : 16); i++)
        bytes[n++] = name->client[i];
    bytes[n++] = (uint8_t)(name->client_port >> 8);
    bytes[n++] = (uint8_t)name->client_port;
    memset(out, 0, 108);
    memcpy(p, "fastsock.", 9);
    p += 9;
    *p++ = kind;
    *p++ = '.';
    for (int i = 0; i < n; i++) {
        *p++ = digits[bytes[i] >> 4];
        *p++ = digits[bytes[i] & 15];
    }
    return (int)(p - out);
}

static socklen_t address_of(const struct meeting *m, char kind,
                            struct sockaddr_un *un)
{
    un->sun_family = AF_UNIX;
    return (socklen_t)(sizeof(un->sun_family) +
                       (size_t)meeting_address(&m->name, kind, un->sun_path));
}

static int unix_socket(void)
{
    return kernel_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
                         0);
}

static void unbind(struct meeting *m)
{
    struct shm *shm = shm_of(m);

    if (m->listener.fd < 0)
        return;
    loop_remove(shm->loop, &m->listener);
    loop_calls(shm->loop)->close(m->listener.fd);
    m->listener.fd = -1;
    TAILQ_REMOVE(&shm->named, m, line);
    shm->n_named--;
}

static void serve_line_soon(struct shm *shm)
{
    if (!TAILQ_EMPTY(&shm->waiting) && !shm->turn.added)
        loop_timer_set(shm->loop, &shm->turn, clock_ns() + 1);
}

void names_leave(struct meeting *m)
{
    if (m->waits)
        TAILQ_REMOVE(&shm_of(m)->waiting, m, line);
    m->waits = false;
    unbind(m);
    serve_line_soon(shm_of(m));
}

/* 0 when a channel now carries our HELLO. */
static int call_on(struct meeting *m)
{
    struct sockaddr_un un;
    socklen_t len = address_of(m, 'm', &un);
    struct channel *channel;
    int fd = unix_socket(), rc;
    uint32_t pid;

    if (fd < 0)
        return fd;
    rc = kernel_connect(fd, &un, len);
    if (rc < 0) {
        kernel_close(fd);
        return rc;
    }
    if (!channel_user_allowed(shm_of(m), fd, &pid)) {
        m->why = REASON_OTHER_USER;
        kernel_close(fd);
        return -EPERM;
    }
    channel = channel_open(shm_of(m), fd, pid);
    if (channel == NULL)
        return -ENOMEM;
    meet_called(m, channel);
    return meet_say_hello(m, channel) ? 0 : -EPIPE;
}

/*
 * True: it needs no name any more. asks: it waits for somebody's answer, who
 * may be the one to ask.
 */
static bool ask_or_call(struct meeting *m)
{
    enum asked asked = meet_ask_known(m);

    m->asks = asked == ASKED_LATER;
    return asked != ASKED_NOBODY || call_on(m) == 0;
}

/* Does anybody listen there? Who does is told that we are here. */
static bool poke(struct meeting *m)
{
    struct sockaddr_un un;
    socklen_t len = address_of(m, 'w', &un);
    int fd = unix_socket(), rc;

    if (fd < 0)
        return false;
    rc = kernel_connect(fd, &un, len);
    kernel_close(fd);
    return rc == 0;
}

/* Who comes cannot be let in, and would be reported without end. */
static bool cannot_accept(int fd)
{
    return fd < 0 && fd != -EAGAIN && fd != -EINTR;
}

static void on_wanted(struct watch *watch, uint32_t events)
{
    struct meeting *m = watch->arg;
    int fd = kernel_accept4(watch->fd, SOCK_CLOEXEC);

    (void)events;
    if (fd >= 0)
        kernel_close(fd);
    if (ask_or_call(m)) {
        names_leave(m);
        if (m->asks)
            names_wait_to_ask(m);
    } else if (cannot_accept(fd)) {
        meet_fail(m, REASON_LIMIT);
    }
}

static bool has_links(const struct channel *channel)
{
    for (struct arena *p = channel->arenas; p != NULL; p = p->next)
        if (atomic_load(&p->refs) > 1)
            return true;
    return false;
}

/*
 * The oldest one is the last of the list. Of those outside of our namespace of
 * process ids all have the id 0: they are not one process.
 */
static void make_room_for_caller(struct shm *shm, uint32_t pid)
{
    struct channel *oldest = NULL, *its_oldest = NULL;
    unsigned n = 0, of_it = 0;

    for (struct channel *c = shm->channels; c != NULL; c = c->next) {
        if (c->called_ns != 0 || has_links(c))
            continue;
        if (pid != 0 && c->pid == pid) {
            its_oldest = c;
            of_it++;
        }
        if (!c->met) {
            oldest = c;
            n++;
        }
    }
    if (of_it >= CALLERS_OF_ONE)
        channel_close(its_oldest);
    else if (n >= CALLERS_MOST)
        channel_close(oldest);
}

static void on_caller(struct watch *watch, uint32_t events)
{
    struct meeting *m = watch->arg;
    struct shm *shm = shm_of(m);
    int fd = kernel_accept4(watch->fd, SOCK_CLOEXEC | SOCK_NONBLOCK);
    uint32_t pid;

    (void)events;
    if (cannot_accept(fd))
        meet_fail(m, REASON_LIMIT);
    if (fd < 0)
        return;
    if (!channel_user_allowed(shm, fd, &pid)) {
        m->why = REASON_OTHER_USER;
        kernel_close(fd);
        return;
    }
    make_room_for_caller(shm, pid);
    channel_open(shm, fd, pid); /* its HELLO finds the meeting by name */
}

static int bind_name(struct meeting *m, char kind)
{
    struct shm *shm = shm_of(m);
    const struct loop_calls *calls = loop_calls(shm->loop);
    struct sockaddr_un un;
    socklen_t len = address_of(m, kind, &un);
    int fd = calls->keep(unix_socket());
    int rc;

    if (fd < 0)
        return fd;
    rc = kernel_bind(fd, &un, len);
    if (rc == 0)
        rc = kernel_listen(fd, 8);
    m->listener.fd = fd;
    m->listener.ready = kind == 'w' ? on_wanted : on_caller;
    m->listener.arg = m;
    if (rc == 0)
        rc = loop_add(shm->loop, &m->listener, EPOLLIN);
    if (rc < 0) {
        calls->close(fd);
        m->listener.fd = -1;
        return rc;
    }
    m->bound_ns = clock_ns();
    TAILQ_INSERT_TAIL(&shm->named, m, line);
    shm->n_named++;
    return 0;
}

/* May finish the meeting. */
static void take_name(struct meeting *m)
{
    int rc = bind_name(m, m->initiator ? 'w' : 'm');

    if (rc < 0) {
        meet_fail(m, m->initiator        ? REASON_NO_PEER_LIBRARY
                     : rc == -EADDRINUSE ? REASON_OTHER_USER
                                         : REASON_LIMIT);
        return;
    }
    if (!m->initiator) {
        poke(m);
        return;
    }
    if (ask_or_call(m)) /* it may have come meanwhile */
        names_leave(m);
    if (m->asks)
        names_wait_to_ask(m);
}

static void wait_in_line(struct meeting *m)
{
    m->waits = true;
    TAILQ_INSERT_TAIL(&shm_of(m)->waiting, m, line);
    serve_line_soon(shm_of(m));
}

/* Room for one more name? Takes one from who has had it for long. */
static bool make_room(struct shm *shm)
{
    struct meeting *first = TAILQ_FIRST(&shm->named);

    if (shm->n_named < NAMES_MOST)
        return true;
    if (clock_ns() < first->bound_ns + TURN_NS)
        return false;
    unbind(first);
    wait_in_line(first);
    return shm->n_named < NAMES_MOST;
}

/* May finish the meeting. */
static void ask_in_turn(struct meeting *m)
{
    switch (meet_ask_known(m)) {
    case ASKED_SOMEBODY:
        break;
    case ASKED_LATER:
        names_wait_to_ask(m);
        break;
    case ASKED_NOBODY:
        names_seek(m);
        break;
    }
}

/*
 * Who has to wait for a channel goes to the end of the line: its peer may be
 * stopped, and the others wait for something else. They are looked at a few at
 * a time, since each look costs a system call.
 */
void names_on_turn(struct timer *timer)
{
    struct shm *shm = timer->arg;
    struct meeting *m = TAILQ_FIRST(&shm->waiting), *next;
    bool room = true;

    for (int looks = 0; m != NULL && looks < LOOKS_A_TURN; m = next) {
        bool asks = m->asks;

        next = TAILQ_NEXT(m, line);
        if (!asks && !(room = room && make_room(shm)))
            continue;
        TAILQ_REMOVE(&shm->waiting, m, line);
        m->waits = m->asks = false;
        if (asks)
            ask_in_turn(m);
        else
            take_name(m);
        looks += m->waits;
    }
    if (!TAILQ_EMPTY(&shm->waiting))
        loop_timer_set(shm->loop, &shm->turn, clock_ns() + ROOM_NS);
}

void names_ask_instead(struct shm *shm, const struct connection_name *name)
{
    struct meeting *m;

    TAILQ_FOREACH(m, &shm->waiting, line)
        if (m->initiator && m->name.family == name->family &&
            m->name.server_port == name->server_port &&
            memcmp(m->name.server, name->server, 16) == 0)
            m->asks = true;
    serve_line_soon(shm);
}

void names_wait_to_ask(struct meeting *m)
{
    m->asks = true;
    wait_in_line(m);
}

void names_seek(struct meeting *m)
{
    int rc = call_on(m);

    if (rc == 0)
        return;
    if (rc == -EPERM)
        meet_fail(m, REASON_OTHER_USER);
    else if (shm_of(m)->n_named < NAMES_MOST)
        take_name(m);
    else
        wait_in_line(m);
}

void names_offer(struct meeting *m)
{
    struct shm *shm = shm_of(m);

    if (shm->n_named < NAMES_MOST || (shm->n_named < 2 * NAMES_MOST && poke(m)))
        take_name(m);
    else
        wait_in_line(m);
}
