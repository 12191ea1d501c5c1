/*
 * One client: bytes in, commands, bytes out.
 *
 * Commands are executed as they are read; their replies wait in `out` until
 * the shard has committed. At most one read per turn; a client that does not
 * read its replies is not read from. All calls belong to the shard's thread.
 */
#ifndef STORE_SERVER_CONNECTION_H
#define STORE_SERVER_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "store/protocol/parse.h"
#include "store/server/output.h"
#include "store/server/shard.h"

struct large_value;

/* A get that waits until its client has read. Its line stays in front of the
 * input, which may move: what is left of the keys are offsets in it. */
struct waiting_get {
    enum command_kind kind;
    int32_t exptime; /* seconds, as in the command */
    size_t keys;     /* bytes in front of the next key */
    size_t keys_end;
    size_t used; /* bytes of the request; 0: none waits */
};

struct connection {
    struct shard *shard;
    int fd;
    unsigned listener;     /* index in the acceptor */
    uint32_t interest;     /* epoll events that are asked for */
    uint32_t last_command; /* unix seconds */
    bool paused;           /* whole requests may be waiting in `in` */
    bool closing;          /* close when everything is written */
    bool dead;             /* closed; freed at the end of the turn */
    bool in_again, in_flush;
    struct parser parser;
    struct waiting_get waiting;
    struct byte_queue in;      /* the beginning of a request */
    struct large_value *large; /* a value on its way into the pool, or NULL */
    struct output out;
    TAILQ_ENTRY(connection) all, again, flush;
};

/* Takes fd and serves it; 0 or -errno (fd is closed then). */
int connection_open(struct shard *shard, int fd, unsigned listener);

/* epoll has said events. */
void connection_ready(struct connection *connection, uint32_t events);

/* Go on with what has been read already. */
void connection_resume(struct connection *connection);

/* Write what is pending. Only after the commit. */
void connection_flush(struct connection *connection);

/* Close at once; the memory stays until connection_free(). */
void connection_abort(struct connection *connection);
void connection_free(struct connection *connection);

/* Replies, for those who execute commands. Without memory the connection is
 * aborted, so there is nothing to check. */
void connection_reply(struct connection *connection, const void *data,
                      size_t len);
void connection_reply_text(struct connection *connection, enum reply_text text);
/* Of at most 511 bytes: the rest is cut off. */
void connection_replyf(struct connection *connection, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
