/*
 * The loop. A turn: wait, read and execute, commit once, write once, forget
 * what has been closed.
 *
 * When the commit fails, the replies of the turn are thrown away and all
 * connections are closed: nothing is acknowledged that may be lost. When
 * connections or descriptors run out, accepting is paused and goes on when a
 * connection has been closed.
 */
#include "store/server/shard.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "config/log.h"
#include "store/server/connection.h"

#define EVENTS_MAX    128
#define ACCEPT_MAX    64  /* connections per turn and listener */
#define RETRY_MS      100 /* until accepting is tried again */
#define GRACE_SECONDS 5
#define INLINE_MAX    16384 /* bytes of a value that is buffered */
#define INLINE_ROOM   512   /* bytes: longest key, header and more */
#define RESERVE_SHARE 4     /* 1/4 of the pool for values under way */

/* What epoll data means: small numbers are ours, the rest are connections. */
enum { DATA_SIGNAL = 1, DATA_LISTENER = 2 };
#define DATA_SMALL (DATA_LISTENER + ACCEPTOR_MAX)

static void set_clock(struct shard *s)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME_COARSE, &ts);
    s->now = (uint32_t)ts.tv_sec;
    kv_set_time(s->kv, s->now);
}

static void set_limits(struct shard *s)
{
    struct kv_statistics kv;

    kv_stats(s->kv, &kv);
    s->inline_max = INLINE_MAX;
    if (s->options->item_max < INLINE_MAX + INLINE_ROOM)
        s->inline_max = s->options->item_max - INLINE_ROOM;
    s->reserve_max = kv.pool_size / RESERVE_SHARE;
    if (s->reserve_max < s->options->item_max)
        s->reserve_max = s->options->item_max;
}

int shard_init(struct shard *s, struct kv *kv, struct acceptor *acceptor,
               const struct options *options, int signal_fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = DATA_SIGNAL};
    int rc;

    memset(s, 0, sizeof(*s));
    s->kv = kv;
    s->options = options;
    s->acceptor = acceptor;
    s->signal_fd = signal_fd;
    s->verbosity = options->verbosity;
    TAILQ_INIT(&s->all);
    TAILQ_INIT(&s->again);
    TAILQ_INIT(&s->flush);
    TAILQ_INIT(&s->dead);
    set_clock(s);
    s->started = s->now;
    set_limits(s);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0)
        return -errno;
    if (signal_fd >= 0 &&
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, signal_fd, &event) < 0) {
        rc = -errno;
        goto close_epoll;
    }
    rc = acceptor_watch(acceptor, s->epoll_fd, DATA_LISTENER);
    if (rc < 0)
        goto close_epoll;
    return 0;

close_epoll:
    close(s->epoll_fd);
    return rc;
}

static void bury(struct shard *s)
{
    struct connection *c;

    while ((c = TAILQ_FIRST(&s->dead)) != NULL) {
        TAILQ_REMOVE(&s->dead, c, all);
        connection_free(c);
    }
}

static void abort_all(struct shard *s)
{
    struct connection *c;

    while ((c = TAILQ_FIRST(&s->all)) != NULL)
        connection_abort(c);
}

void shard_fini(struct shard *s)
{
    abort_all(s);
    bury(s);
    block_pool_fini(&s->blocks);
    close(s->epoll_fd);
}

static void pause_accepting(struct shard *s, const char *why)
{
    if (s->acceptor->paused)
        return;
    log_info("new connections have to wait: %s", why);
    s->counters.listen_disabled++;
    s->paused_at = s->now;
    acceptor_unwatch(s->acceptor, s->epoll_fd);
}

static bool is_full(const struct shard *s)
{
    return s->n_connections >= s->options->max_connections;
}

/* -o maxconns_fast: say why, and close. */
static void refuse_connection(struct shard *s, int fd)
{
    size_t len;
    const char *line = reply_text(REPLY_TOO_MANY, &len);

    s->counters.rejected_connections++;
    if (send(fd, line, len, MSG_NOSIGNAL) < 0)
        log_debug("<%d refused and gone", fd);
    close(fd);
}

static void accept_some(struct shard *s, unsigned listener)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        int fd;

        if (is_full(s) && !s->options->refuse_fast) {
            pause_accepting(s, "the limit -c is reached");
            return;
        }
        fd = acceptor_take(s->acceptor, listener);
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM || fd == -ENOBUFS) {
            pause_accepting(s, strerror(-fd));
            return;
        }
        if (fd == -EAGAIN || fd == -EINTR)
            return;
        if (fd < 0)
            continue; /* it was gone before it was accepted */
        if (is_full(s))
            refuse_connection(s, fd);
        else
            connection_open(s, fd, listener);
    }
}

static void stop(struct shard *s, enum shard_stop how)
{
    if (s->stop < how)
        s->stop = how;
}

static void take_signals(struct shard *s)
{
    struct signalfd_siginfo info;

    while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGUSR1)
            stop(s, SHARD_STOPS_GRACEFULLY);
        else if (info.ssi_signo == SIGINT || info.ssi_signo == SIGTERM)
            stop(s, SHARD_STOPS);
    }
}

static void take_events(struct shard *s, struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        uint64_t data = events[i].data.u64;

        if (data == DATA_SIGNAL)
            take_signals(s);
        else if (data < DATA_SMALL)
            accept_some(s, (unsigned)(data - DATA_LISTENER));
        else
            connection_ready(events[i].data.ptr, events[i].events);
    }
}

/* Connections that were put off go on; each once per turn. */
static void take_again(struct shard *s)
{
    struct connection *last = TAILQ_LAST(&s->again, connection_list), *c;

    while (last != NULL && (c = TAILQ_FIRST(&s->again)) != NULL) {
        TAILQ_REMOVE(&s->again, c, again);
        c->in_again = false;
        connection_resume(c);
        if (c == last)
            break;
    }
}

static void flush_all(struct shard *s)
{
    struct connection *c;

    while ((c = TAILQ_FIRST(&s->flush)) != NULL)
        connection_flush(c);
}

/* Room again for new connections? */
static void resume_accepting(struct shard *s)
{
    int rc;

    if (!s->acceptor->paused || s->stop != SHARD_RUNS || is_full(s))
        return;
    rc = acceptor_watch(s->acceptor, s->epoll_fd, DATA_LISTENER);
    if (rc < 0)
        log_error("cannot listen again: %s", strerror(-rc));
}

static int wait_ms(const struct shard *s, int timeout_ms)
{
    if (!TAILQ_EMPTY(&s->again) || s->behind)
        return 0;
    if (s->acceptor->paused && !is_full(s) &&
        (timeout_ms < 0 || timeout_ms > RETRY_MS))
        return RETRY_MS;
    return timeout_ms;
}

static int end_all(struct shard *s)
{
    log_error("the pool %s has failed; nothing of this turn is acknowledged. "
              "Check the disk and start again",
              s->options->pool);
    abort_all(s);
    bury(s);
    return -EIO;
}

int shard_turn(struct shard *s, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(s->epoll_fd, events, EVENTS_MAX, wait_ms(s, timeout_ms));

    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    set_clock(s);
    if (s->now != s->paused_at)
        resume_accepting(s);
    take_again(s);
    take_events(s, events, n);
    if (kv_commit(s->kv) != KV_OK || s->failed)
        return end_all(s);
    flush_all(s);
    if (s->failed) /* a value could not be sent */
        return end_all(s);
    kv_unpin_all(s->kv);
    s->behind = kv_catch_up(s->kv);
    if (!TAILQ_EMPTY(&s->dead)) {
        bury(s);
        resume_accepting(s);
    }
    return 0;
}

/* Whether a client waits for something that is under way. */
static bool is_idle(const struct shard *s)
{
    const struct connection *c;

    TAILQ_FOREACH(c, &s->all, all) {
        if (c->paused || c->large != NULL || output_pending(&c->out) > 0 ||
            byte_queue_len(&c->in) > 0)
            return false;
    }
    return true;
}

int shard_run(struct shard *s)
{
    int rc = 0;

    while (rc == 0 && s->stop == SHARD_RUNS)
        rc = shard_turn(s, -1);
    if (rc == 0 && s->stop == SHARD_STOPS_GRACEFULLY) {
        acceptor_unwatch(s->acceptor, s->epoll_fd);
        s->stop_by = s->now + GRACE_SECONDS;
        do
            rc = shard_turn(s, RETRY_MS);
        while (rc == 0 && s->stop == SHARD_STOPS_GRACEFULLY && !is_idle(s) &&
               s->now < s->stop_by);
    }
    return rc;
}
