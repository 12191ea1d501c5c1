/*
 * The life of a connection, one read and one write per turn.
 *
 * Happy path: bytes are read into the shard's buffer, whole requests are
 * executed out of it, the rest of a half request moves to `in`; after the
 * commit one write sends all replies. With a large value in progress the read
 * goes straight to the pool.
 *
 * A client that does not read its replies: what the kernel does not take
 * stays in `out`, borrowed values are copied, and reading stops at
 * OUTPUT_LIMIT. Input that is read already waits (`paused`) until the output
 * is below half of it. So does a get with many keys, in the middle of its line
 * (`waiting`).
 */
#include "store/server/connection.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "config/log.h"
#include "store/server/execute.h"
#include "store/server/large_value.h"

#define READ_MIN 4096 /* bytes of room for the rest of a request */
#define LONG_INPUT_MAX                                                         \
    (256 << 20) /* bytes of all lines longer than a block                      \
                 */

static void want_flush(struct connection *c)
{
    if (!c->in_flush && !c->dead) {
        c->in_flush = true;
        TAILQ_INSERT_TAIL(&c->shard->flush, c, flush);
    }
}

int connection_open(struct shard *shard, int fd, unsigned listener)
{
    struct connection *c = calloc(1, sizeof(*c));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int rc = -ENOMEM;

    if (c == NULL)
        goto close_fd;
    c->shard = shard;
    c->fd = fd;
    c->listener = listener;
    c->interest = EPOLLIN;
    c->last_command = shard->now;
    parser_init(&c->parser, shard->inline_max);
    if (epoll_ctl(shard->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        rc = -errno;
        goto free_connection;
    }
    TAILQ_INSERT_TAIL(&shard->all, c, all);
    shard->n_connections++;
    shard->counters.total_connections++;
    log_debug("<%d new client connection", fd);
    return 0;

free_connection:
    free(c);
close_fd:
    close(fd);
    return rc;
}

/* close() alone ends the watch only with the last reference to the socket, and
 * who reads /proc/PID/fd at that moment holds one: an event would come for a
 * connection that is freed. */
static void stop_watching(struct connection *c)
{
    if (epoll_ctl(c->shard->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL) < 0)
        log_error("connection %d cannot leave epoll: %s", c->fd,
                  strerror(errno));
}

void connection_abort(struct connection *c)
{
    struct shard *s = c->shard;

    if (c->dead)
        return;
    log_debug("<%d connection closed.", c->fd);
    c->dead = true;
    large_value_cancel(c);
    output_fini(&c->out, &s->blocks);
    stop_watching(c);
    close(c->fd);
    s->n_connections--;
    if (c->in_again)
        TAILQ_REMOVE(&s->again, c, again);
    if (c->in_flush)
        TAILQ_REMOVE(&s->flush, c, flush);
    TAILQ_REMOVE(&s->all, c, all);
    TAILQ_INSERT_TAIL(&s->dead, c, all);
}

void connection_free(struct connection *c)
{
    byte_queue_fini(&c->in, &c->shard->blocks);
    output_fini(&c->out, &c->shard->blocks);
    free(c);
}

void connection_reply(struct connection *c, const void *data, size_t len)
{
    if (!c->dead && output_put(&c->out, &c->shard->blocks, data, len) < 0)
        connection_abort(c);
}

void connection_reply_text(struct connection *c, enum reply_text text)
{
    size_t len;
    const char *line = reply_text(text, &len);

    log_debug(">%d %.*s", c->fd, (int)len - 2, line);
    connection_reply(c, line, len);
}

void connection_replyf(struct connection *c, const char *format, ...)
{
    char line[512];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    if (n > 0)
        connection_reply(
            c, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* A request of used bytes, which begins at in; what is left of a get is kept.
 * Bytes that are done with. */
static size_t execute_or_wait(struct connection *c, const char *in, size_t used,
                              struct command *command)
{
    if (execute_command(c, command))
        return used;
    c->waiting =
        (struct waiting_get){.kind = command->kind,
                             .exptime = command->exptime,
                             .keys = (size_t)(command->keys - in),
                             .keys_end = (size_t)(command->keys_end - in),
                             .used = used};
    c->paused = true;
    return 0;
}

/* Its line is not parsed again: it may be long and the turns many. */
static size_t go_on_with_get(struct connection *c, const char *in)
{
    struct waiting_get get = c->waiting;
    struct command command = {.kind = get.kind,
                              .exptime = get.exptime,
                              .line = in,
                              .keys = in + get.keys,
                              .keys_end = in + get.keys_end};

    c->waiting.used = 0;
    return execute_or_wait(c, in, get.used, &command);
}

/* Execute the first request of in; bytes that are done with, 0: no more. */
static size_t step(struct connection *c, const char *in, size_t len)
{
    struct command command;
    size_t used;

    if (c->large != NULL)
        return large_value_feed(c, in, len);
    if (c->waiting.used > 0)
        return go_on_with_get(c, in);
    switch (parser_next(&c->parser, in, len, &used, &command)) {
    case PARSE_MORE:
    case PARSE_SKIPPED:
        return used;
    case PARSE_CLOSE:
        c->closing = true;
        return 0;
    case PARSE_BODY:
        log_debug("<%d %.*s", c->fd, (int)command.line_len, command.line);
        large_value_begin(c, &command);
        return used;
    case PARSE_COMMAND:
        log_debug("<%d %.*s", c->fd,
                  command.line_len < 1024 ? (int)command.line_len : 1024,
                  command.line);
        return execute_or_wait(c, in, used, &command);
    }
    return 0;
}

/* Execute whole requests of in; returns the bytes that are done with. */
static size_t execute_all(struct connection *c, const char *in, size_t len)
{
    size_t done = 0, used;

    c->last_command = c->shard->now;
    while (done < len && !c->closing && !c->dead) {
        if (output_pending(&c->out) >= OUTPUT_LIMIT) {
            c->paused = true;
            break;
        }
        used = step(c, in + done, len - done);
        if (used == 0)
            break;
        done += used;
    }
    return done;
}

/* Bytes have come to the shard's buffer. */
static void execute_input(struct connection *c, size_t len)
{
    const char *in = c->shard->input;
    size_t done = execute_all(c, in, len);
    char *room;

    if (done < len && !c->closing && !c->dead) {
        room = byte_queue_room(&c->in, &c->shard->blocks, len - done);
        if (room == NULL) {
            connection_abort(c);
            return;
        }
        memcpy(room, in + done, len - done);
        c->in.end += len - done;
    }
}

/* Bytes have come to the connection's own queue. */
static void execute_queue(struct connection *c)
{
    size_t len = byte_queue_len(&c->in);
    size_t done = execute_all(c, c->in.data + c->in.start, len);

    byte_queue_take(&c->in, &c->shard->blocks, c->closing ? len : done);
}

/* A read straight into the pool; what is behind the value to the buffer. */
static ssize_t read_large(struct connection *c)
{
    struct iovec list[2];
    size_t room;
    ssize_t n;

    list[0].iov_base = large_value_room(c, &room);
    list[0].iov_len = room;
    list[1].iov_base = c->shard->input;
    list[1].iov_len = sizeof(c->shard->input);
    n = readv(c->fd, list, 2);
    if (n <= 0)
        return n;
    large_value_added(c, (size_t)n < room ? (size_t)n : room);
    if ((size_t)n > room)
        execute_input(c, (size_t)n - room);
    return n;
}

/* Whether all endless lines together would take too much memory if that of c
 * grew. Asked once per doubling. */
static bool is_too_much_input(const struct connection *c)
{
    const struct connection *other;
    size_t sum = 2 * c->in.cap;

    TAILQ_FOREACH(other, &c->shard->all, all)
        sum += other->in.cap > BLOCK_SIZE ? other->in.cap : 0;
    return sum > LONG_INPUT_MAX;
}

static ssize_t read_queue(struct connection *c)
{
    size_t len = byte_queue_len(&c->in), want = READ_MIN;
    char *room;
    ssize_t n;

    if (c->parser.need > len + want)
        want = c->parser.need - len;
    if (c->in.cap - len < want && len >= BLOCK_SIZE - READ_MIN &&
        is_too_much_input(c)) {
        errno = ENOMEM;
        return -1;
    }
    room = byte_queue_room(&c->in, &c->shard->blocks, want);
    if (room == NULL) {
        errno = ENOMEM;
        return -1;
    }
    n = read(c->fd, room, c->in.cap - c->in.end);
    if (n > 0) {
        c->in.end += (size_t)n;
        execute_queue(c);
    }
    return n;
}

static ssize_t read_input(struct connection *c)
{
    ssize_t n = read(c->fd, c->shard->input, sizeof(c->shard->input));

    if (n > 0)
        execute_input(c, (size_t)n);
    return n;
}

static void receive(struct connection *c)
{
    bool queued = byte_queue_len(&c->in) > 0;
    ssize_t n = queued             ? read_queue(c)
                : c->large != NULL ? read_large(c)
                                   : read_input(c);

    if (n > 0) {
        c->shard->counters.bytes_read += (uint64_t)n;
    } else if (n == 0) {
        c->closing = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        c->shard->failed |= errno == EFAULT; /* the pool takes no bytes */
        log_info("connection %d: %s", c->fd, strerror(errno));
        connection_abort(c);
    }
}

/* After executing: is there anything to write, or to close? */
static void settle_turn(struct connection *c)
{
    if (!c->dead && (c->closing || c->paused || c->interest != EPOLLIN ||
                     output_pending(&c->out) > 0))
        want_flush(c);
}

void connection_ready(struct connection *c, uint32_t events)
{
    if (c->dead)
        return;
    if ((events & EPOLLIN) != 0 && !c->paused && !c->closing)
        receive(c);
    else if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0)
        connection_abort(c);
    settle_turn(c);
}

void connection_resume(struct connection *c)
{
    c->paused = false;
    execute_queue(c);
    settle_turn(c);
}

/* Ask epoll for what can be gone on with. */
static void set_interest(struct connection *c)
{
    size_t pending = output_pending(&c->out);
    bool readable = !c->closing && !c->paused && pending < OUTPUT_LIMIT;
    uint32_t interest = (readable ? EPOLLIN : 0) | (pending > 0 ? EPOLLOUT : 0);
    struct epoll_event event = {.events = interest, .data.ptr = c};

    if (interest == c->interest)
        return;
    c->interest = interest;
    if (epoll_ctl(c->shard->epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0)
        connection_abort(c);
}

/* One write. false: the connection is gone. */
static bool send_some(struct connection *c)
{
    struct shard *s = c->shard;
    ssize_t n = output_send(&c->out, &s->blocks, c->fd);

    if (n > 0)
        s->counters.bytes_written += (uint64_t)n;
    if ((n < 0 && n != -EAGAIN && n != -EINTR) ||
        output_settle(&c->out, &s->blocks) < 0) {
        s->failed |= n == -EFAULT; /* a value is no longer there */
        log_info("connection %d: %s", c->fd,
                 n < 0 ? strerror((int)-n) : "no memory for its replies");
        connection_abort(c);
        return false;
    }
    return true;
}

void connection_flush(struct connection *c)
{
    struct shard *s = c->shard;
    size_t pending;

    c->in_flush = false;
    TAILQ_REMOVE(&s->flush, c, flush);
    if (output_pending(&c->out) > 0 && !send_some(c))
        return;
    pending = output_pending(&c->out);
    if (c->closing && pending == 0) {
        connection_abort(c);
        return;
    }
    if (c->paused && pending < OUTPUT_LIMIT / 2 && !c->in_again) {
        c->in_again = true;
        s->counters.yields++;
        TAILQ_INSERT_TAIL(&s->again, c, again);
    }
    if (pending > 0 || c->interest != EPOLLIN)
        set_interest(c);
}
