/*
 * Streams of two processes in one: each has a helper, and for each stream a
 * thread that writes and one that reads, all at once, while the stream leaves
 * TCP and comes back. TCP is the kernel's, the links are the transport's own;
 * every byte is compared. Built with the thread sanitizer, it shows that the
 * locks of transport/stream/stream.h suffice.
 *
 *     streams [OPERATIONS [SEED]]     100,000 operations
 *     streams long [SEED]             10 million
 *
 * An operation is a call of an application, or an act of a helper's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "transport/backend/shm.h"
#include "transport/bell.h"
#include "transport/loop.h"
#include "transport/pause.h"
#include "transport/stream/stream.h"

enum {
    STREAMS = 3,
    BYTES_MOST = 300000, /* each way, of a stream */
    PIECE_MOST = 4096,
    HELD_MOST = 1000, /* tries of a writer */
    LIMIT_S = 60      /* of a round */
};

/* One end of one stream. */
struct end {
    struct stream stream; /* first */
    struct stream_bytes bytes;
    struct side *side;
    struct meeting meeting;
    int fd;
    uint64_t wrote, took, writes, reads;
    uint64_t least; /* bytes to write, and on until it was up */
    uint64_t write_seed, read_seed;
    uint8_t key; /* of its bytes */
    _Atomic bool seen_up, has_written, has_shut, has_read;
    bool closed;
};

/* One process. */
struct side {
    struct loop *loop;
    struct backend *shm;
    int ringer, bell;
    struct end ends[STREAMS];
    uint64_t seed;
    bool initiator;
    _Atomic bool careful;
};

static struct side sides[2];
static _Atomic uint64_t operations;
static _Atomic unsigned ups, returns;
static _Atomic(const char *) wrong;
static uint64_t deadline;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static unsigned pick(uint64_t *state, unsigned n)
{
    return (unsigned)((next_random(state) >> 11) % n);
}

/* Mostly few bytes, now and then many. */
static size_t some_bytes(uint64_t *state)
{
    return 1 + pick(state, 1u << (1 + pick(state, 12)));
}

static void fail(const char *what)
{
    const char *none = NULL;

    atomic_compare_exchange_strong(&wrong, &none, what);
}

/* False: something is wrong, here or elsewhere; true counts. */
static bool operate(void)
{
    if (clock_ns() > deadline)
        fail("stuck");
    atomic_fetch_add(&operations, 1);
    return atomic_load(&wrong) == NULL;
}

static uint8_t byte_at(const struct end *writer, uint64_t at)
{
    return (uint8_t)(at * 167 + (at >> 8) * 59 + writer->key);
}

static struct end *peer_of(struct end *e)
{
    return &sides[e->side == &sides[0]].ends[e - e->side->ends];
}

/* ---- applications ---- */

static ssize_t send_some(struct end *e, const uint8_t *bytes, size_t n)
{
    struct iovec iov[2] = {{(void *)bytes, n / 3},
                           {(void *)(bytes + n / 3), n - n / 3}};
    ssize_t rc;

    if (!stream_bare_enter(&e->stream))
        return stream_send(&e->stream, iov, 2, 0, 0);
    rc = tcp_calls_kernel.send(e->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (rc > 0)
        stream_count_out(&e->stream, (size_t)rc);
    stream_bare_leave(&e->stream);
    return rc;
}

/* Once one end has shut down it is too late. */
static bool was_up(struct end *e)
{
    if (stream_is_up(&e->stream))
        atomic_store(&e->seen_up, true);
    return atomic_load(&e->seen_up) || atomic_load(&peer_of(e)->seen_up);
}

static void *writes(void *arg)
{
    struct end *e = arg;
    uint8_t bytes[PIECE_MOST];
    unsigned held = 0;

    while ((e->wrote < e->least || !was_up(e)) && operate()) {
        size_t n = some_bytes(&e->write_seed);
        ssize_t rc;

        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_at(e, e->wrote + i);
        rc = send_some(e, bytes, n);
        e->writes++;
        if (rc > 0) {
            e->wrote += (uint64_t)rc;
            held = 0;
            /* A moment in which it may leave TCP. */
            if (e->wrote >= e->least || pick(&e->write_seed, 32) == 0)
                usleep(30);
        } else if (rc == STREAM_HELD && ++held == HELD_MOST) {
            stream_hold_expired(&e->stream);
        } else if (rc == -EAGAIN || rc == STREAM_HELD) {
            stream_ready(&e->stream);
            usleep(20);
        } else {
            fail("a write has failed");
        }
    }
    if (atomic_load(&wrong) != NULL)
        return NULL;
    atomic_store(&e->has_written, true);
    if (stream_shutdown(&e->stream, SHUT_WR) < 0)
        fail("shutdown has failed");
    atomic_store(&e->has_shut, true);
    return NULL;
}

static ssize_t recv_some(struct end *e, uint8_t *bytes, size_t n, int flags)
{
    struct iovec iov = {bytes, n};
    ssize_t rc;

    if (!stream_bare_enter(&e->stream))
        return stream_recv(&e->stream, &iov, 1, flags);
    rc = tcp_calls_kernel.recv(e->fd, bytes, n, flags | MSG_DONTWAIT);
    if (rc > 0 && !(flags & MSG_PEEK))
        stream_count_in(&e->stream, (size_t)rc);
    stream_bare_leave(&e->stream);
    return rc;
}

static void compare(struct end *e, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte_at(peer_of(e), e->took + i))
            fail("a byte was lost, repeated or out of order");
}

static void *reads(void *arg)
{
    struct end *e = arg;
    uint8_t bytes[PIECE_MOST];

    while (operate()) {
        int flags = pick(&e->read_seed, 8) == 0 ? MSG_PEEK : 0;
        ssize_t rc = recv_some(e, bytes, some_bytes(&e->read_seed), flags);

        e->reads++;
        if (rc > 0) {
            compare(e, bytes, (size_t)rc);
            e->took += flags ? 0 : (uint64_t)rc;
        } else if (rc == 0) {
            break;
        } else if (rc == -EAGAIN) {
            if (stream_unread(&e->stream) < 0)
                fail("less than nothing to read");
            usleep(20);
        } else {
            fail("a read has failed");
        }
    }
    if (atomic_load(&wrong) != NULL)
        return NULL;
    if (!atomic_load(&peer_of(e)->has_written) || e->took != peer_of(e)->wrote)
        fail("the end came too early");
    atomic_store(&e->has_read, true);
    return NULL;
}

/* ---- what the owner is told ---- */

static void on_wake(struct stream *s)
{
    (void)s;
}

static void on_managed(struct stream *s, bool on)
{
    (void)s;
    atomic_fetch_add(on ? &ups : &returns, 1);
}

static void on_kick(struct stream *s)
{
    loop_wake(((struct end *)s)->side->loop);
}

static struct stream_calls owner_calls[2];

static void on_message(void *owner, const struct control_message *m)
{
    struct end *e = owner;

    stream_message(&e->stream, m, REASON_NONE);
}

static void on_death(void *owner)
{
    stream_channel_dead(&((struct end *)owner)->stream);
}

static bool counts(void *owner, uint64_t *wrote, uint64_t *took)
{
    (void)owner;
    *wrote = *took = 0; /* what they name is not asked of shared memory */
    return true;
}

static void on_done(struct meeting *meeting, struct link *link, enum reason why)
{
    struct end *e = meeting->owner;

    if (link == NULL)
        fail(reason_token(why));
    else
        stream_set_link(&e->stream, link);
}

/* ---- helpers ---- */

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void say_willing(struct stream *s)
{
    struct control_message m = {.type = MESSAGE_WILLING};

    if (!s->willing_due || atomic_load(&s->bare) != 0 || s->link == NULL)
        return;
    s->willing_due = false;
    s->link->ops->send(s->link, &m);
}

/* Back to TCP, and up again once it is there. */
static void act(struct end *e, uint64_t *seed)
{
    struct stream *s = &e->stream;

    if (!operate())
        return;
    switch (pick(seed, 12)) {
    case 0:
        if (stream_is_up(s))
            stream_wish(s, WISH_RETURN, REASON_ADMINISTRATOR);
        break;
    case 1:
        stream_rest(s);
        stream_rest(s);
        break;
    case 2:
        stream_stir(s);
        break;
    default:
        if (s->wish == WISH_RETURN && stream_on_tcp(s))
            stream_wish(s, WISH_NONE, REASON_NONE);
        if (e->side->initiator && s->link != NULL)
            stream_try_up(s);
    }
}

static void help(struct end *e)
{
    struct stream *s = &e->stream;

    say_willing(s);
    stream_progress(s);
    if (stream_owes_answer(s))
        stream_answer(s, REASON_NONE);
    stream_check_foreign(s);
}

/* True: it is closed. */
static bool closes(struct end *e)
{
    struct stream *s = &e->stream;

    if (e->closed)
        return true;
    if (!atomic_load(&e->has_shut) || !atomic_load(&e->has_read))
        return false;
    stream_wish(s, WISH_CLOSE, REASON_CLOSED);
    if (!stream_on_tcp(s) ||
        (s->h.stage != STAGE_DEAD && s->leave_said && s->managed))
        return false;
    if (s->link != NULL)
        stream_drop_link(s);
    e->closed = true;
    return true;
}

static void *helps(void *arg)
{
    struct side *side = arg;
    unsigned open = STREAMS;

    for (int i = 0; i < STREAMS; i++)
        fastsock_backend_shm.meeting_start(side->shm, &side->ends[i].meeting);
    while (open > 0 && atomic_load(&wrong) == NULL) {
        loop_turn(side->loop, never, NULL);
        open = 0;
        for (int i = 0; i < STREAMS; i++) {
            struct end *e = &side->ends[i];

            if (e->closed)
                continue;
            help(e);
            if (pick(&side->seed, 4) == 0)
                act(e, &side->seed);
            open += !closes(e);
        }
        sched_yield();
    }
    return NULL;
}

/* ---- a round ---- */

static int keep(int fd)
{
    return fd;
}

/* As the transport opens them: unseen by TSan, which knows them by number. */
static void give_back(int fd)
{
    syscall(SYS_close, fd);
}

static void side_open(struct side *side, bool initiator, uint64_t *seed)
{
    static const struct loop_calls calls = {keep, give_back};
    static const struct link_events events = {.message = on_message,
                                              .channel_dead = on_death};
    struct backend_config config = {
        .max_memory = 1 << 30, .max_links = 16, .meet_ns = 20000000000};

    memset(side, 0, sizeof(*side));
    side->initiator = initiator;
    side->seed = next_random(seed);
    /* Names of bells are the host's: another run may have this seed, too. */
    config.bell_token = next_random(seed) ^ (uint64_t)getpid() << 32;
    config.ringer = side->ringer = bell_ringer_open();
    side->bell = bell_open(config.bell_token, 1);
    if (side->ringer < 0 || side->bell < 0 ||
        loop_create(&calls, &side->loop) < 0 ||
        fastsock_backend_shm.create(side->loop, &config, &events, &side->shm) <
            0) {
        fputs("no descriptors or memory for the test: free some\n", stderr);
        exit(EXIT_FAILURE);
    }
}

static void side_close(struct side *side)
{
    fastsock_backend_shm.destroy(side->shm);
    loop_destroy(side->loop);
    close(side->bell);
    close(side->ringer);
    for (int i = 0; i < STREAMS; i++)
        close(side->ends[i].fd);
}

static void end_open(struct side *side, int i, int fd, uint32_t ring,
                     uint64_t *seed)
{
    struct end *e = &side->ends[i];
    uint32_t pid = (uint32_t)getpid();
    struct stream_calls *owner = &owner_calls[!side->initiator];

    *owner = (struct stream_calls){.wake = on_wake,
                                   .managed = on_managed,
                                   .kick = on_kick,
                                   .careful = &side->careful};
    e->side = side;
    e->fd = fd;
    e->least = 1 + pick(seed, BYTES_MOST);
    e->key = (uint8_t)next_random(seed);
    e->write_seed = next_random(seed);
    e->read_seed = next_random(seed);
    e->meeting = (struct meeting){
        .name = {.family = 4,
                 .server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
                 .client = {127, 0, 0, 2},
                 .server_port = 9,
                 .client_port = (uint16_t)(1000 + i)},
        .initiator = side->initiator,
        .ring_size = ring,
        .owner = e,
        .counts = counts,
        .done = on_done,
    };
    stream_init(&e->stream, fd, side->initiator, &tcp_calls_kernel, owner,
                &e->bytes);
}

static void tcp_pair(int fds[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, len) < 0 ||
        listen(listener, 1) < 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
        connect(fds[0], (struct sockaddr *)&at, len) < 0)
        fail("no connection over loopback");
    fds[1] = accept(listener, NULL, NULL);
    close(listener);
}

static pthread_t start(void *(*body)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, body, arg) != 0) {
        fputs("no thread for the test: free some memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return thread;
}

static void run(uint64_t *seed)
{
    pthread_t threads[2 + 4 * STREAMS];
    uint32_t ring = 4096u << pick(seed, 5);
    unsigned n = 0;

    deadline = clock_ns() + LIMIT_S * UINT64_C(1000000000);
    for (int i = 0; i < 2; i++)
        side_open(&sides[i], i == 0, seed);
    sides[0].careful = pick(seed, 4) == 0;
    sides[1].careful = pick(seed, 4) == 0;
    for (int i = 0; i < STREAMS; i++) {
        int fds[2];

        tcp_pair(fds);
        for (int k = 0; k < 2; k++)
            end_open(&sides[k], i, fds[k], ring, seed);
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < STREAMS; k++) {
            threads[n++] = start(writes, &sides[i].ends[k]);
            threads[n++] = start(reads, &sides[i].ends[k]);
        }
    for (int i = 0; i < 2; i++)
        threads[n++] = start(helps, &sides[i]);
    while (n > 0)
        pthread_join(threads[--n], NULL);
    if (atomic_load(&wrong) == NULL)
        for (int i = 0; i < 2; i++)
            side_close(&sides[i]);
}

/* Where each end stood as something was wrong. */
static void say_ends(void)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < STREAMS; k++) {
            const struct end *e = &sides[i].ends[k];
            const struct stream *s = &e->stream;

            printf("  stream %d, %s: %s, %s; %llu of %llu bytes written in "
                   "%llu calls, %llu taken in %llu, counted %llu and %llu; "
                   "epoch %u, %u times up;%s%s%s%s%s%s wish %d\n",
                   k, i == 0 ? "initiator" : "acceptor",
                   handover_stage_name(s->h.stage), reason_token(s->why),
                   (unsigned long long)e->wrote, (unsigned long long)e->least,
                   (unsigned long long)e->writes, (unsigned long long)e->took,
                   (unsigned long long)e->reads, (unsigned long long)s->h.wrote,
                   (unsigned long long)s->h.took, s->h.epoch, s->ups,
                   atomic_load(&e->seen_up) ? " was up," : "",
                   atomic_load(&e->has_shut) ? " has shut," : "",
                   atomic_load(&e->has_read) ? " has read," : "",
                   e->closed ? " closed," : "", s->managed ? " managed," : "",
                   atomic_load(&s->guard) ? " guarded," : "", s->wish);
        }
}

int main(int argc, char **argv)
{
    uint64_t most = 100000, seed = (uint64_t)time(NULL) << 16 | 1, first;
    unsigned rounds = 0;

    if (argc > 1)
        most = strcmp(argv[1], "long") == 0 ? 10000000
                                            : strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10) | 1;
    first = seed;
    while (atomic_load(&operations) < most && atomic_load(&wrong) == NULL) {
        run(&seed);
        rounds++;
    }
    if (atomic_load(&wrong) != NULL)
        printf("%s, in round %u: ", atomic_load(&wrong), rounds);
    printf("%llu operations, %u times up, %u times back, seed %llu\n",
           (unsigned long long)atomic_load(&operations), atomic_load(&ups),
           atomic_load(&returns), (unsigned long long)first);
    if (atomic_load(&wrong) != NULL)
        say_ends();
    return atomic_load(&wrong) == NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}
