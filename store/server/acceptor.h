/*
 * The listening sockets of the server: opens them, and gives out connections.
 *
 * Accepting can be paused (too many connections, no descriptors left): the
 * kernel then lets new ones wait in its backlog.
 */
#ifndef STORE_SERVER_ACCEPTOR_H
#define STORE_SERVER_ACCEPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "store/server/options.h"

#define ACCEPTOR_MAX 128
#define ADDRESS_TEXT 128 /* bytes of an address as text, with its NUL */

struct listener {
    int fd;
    bool is_unix;
    char address[ADDRESS_TEXT]; /* "tcp:127.0.0.1:11211" */
};

struct acceptor {
    struct listener listener[ACCEPTOR_MAX];
    unsigned n;
    bool paused;
    int64_t paused_at;    /* usec, monotonic */
    uint64_t paused_usec; /* of all pauses that are over */
    char unix_path[108];  /* removed at the end; "": none */
    dev_t unix_dev;       /* if it still is this file */
    ino_t unix_ino;
};

/* Opens everything the options ask for. 0 or -errno; then *error is one
 * sentence and nothing is open. */
int acceptor_open(struct acceptor *acceptor, const struct options *options,
                  char *error, size_t error_size);
void acceptor_close(struct acceptor *acceptor);

/* Let epoll_fd report listener i with the number first + i as its data.
 * 0 or -errno. */
int acceptor_watch(struct acceptor *acceptor, int epoll_fd, uint64_t first);
void acceptor_unwatch(struct acceptor *acceptor, int epoll_fd);

/* The next connection of listener i, or -errno: -EAGAIN when there is none. */
int acceptor_take(struct acceptor *acceptor, unsigned i);

/* Writes the ports to the file, as memcached does for
 * MEMCACHED_PORT_FILENAME. 0 or -errno. */
int acceptor_write_ports(const struct acceptor *acceptor, const char *path);

/* "tcp:1.2.3.4:5", "tcp6:[::1]:5", "unix:/path" into text. */
void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT]);

#endif
