/*
 * Listening sockets, made as memcached makes them: every address of the list,
 * IPv4 and IPv6 each on its own, options set once on the listener and
 * inherited by what it accepts.
 */
#include "store/server/acceptor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int64_t monotonic_usec(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void address_text(const struct sockaddr *address, char text[ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;

        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "tcp:%s:%u", host, ntohs(in->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;

        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof(host));
        snprintf(text, ADDRESS_TEXT, "tcp6:[%s]:%u", host,
                 ntohs(in->sin6_port));
    } else if (address->sa_family == AF_UNIX) {
        const struct sockaddr_un *un = (const struct sockaddr_un *)address;

        snprintf(text, ADDRESS_TEXT, "unix:%.107s", un->sun_path);
    } else {
        snprintf(text, ADDRESS_TEXT, "unknown");
    }
}

static int add_listener(struct acceptor *acceptor, int fd, bool is_unix)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    struct listener *l;

    if (acceptor->n == ACCEPTOR_MAX)
        return -EMFILE;
    l = &acceptor->listener[acceptor->n++];
    l->fd = fd;
    l->is_unix = is_unix;
    if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
        address.ss_family = AF_UNSPEC;
    address_text((struct sockaddr *)&address, l->address);
    return 0;
}

static int listen_on(struct acceptor *acceptor, const struct addrinfo *ai,
                     int backlog)
{
    int fd =
        socket(ai->ai_family, ai->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
               ai->ai_protocol);
    int on = 1, rc;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, backlog) < 0)
        rc = -errno;
    else
        rc = add_listener(acceptor, fd, false);
    if (rc < 0)
        close(fd);
    return rc;
}

/* Cuts "host", "host:port", "[v6]", "[v6]:port" or "v6" in place; NULL: it is
 * none of them. */
static const char *cut_address(char *text, const char **port)
{
    char *end, *colon;

    if (strncmp(text, "notls:", 6) == 0)
        text += 6;
    if (text[0] == '[') {
        end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return NULL;
        if (end[1] == ':')
            *port = end + 2;
        *end = '\0';
        return text;
    }
    colon = strchr(text, ':');
    if (colon != NULL && strchr(colon + 1, ':') == NULL) {
        *port = colon + 1;
        *colon = '\0';
    }
    return text;
}

/* Opens every socket of one address, NULL: of all addresses. */
static int open_address(struct acceptor *acceptor, const char *address,
                        const struct options *options, char *error,
                        size_t error_size)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM};
    char number[16], text[300] = "", *given = NULL;
    const char *host = NULL, *port = number;
    struct addrinfo *list, *ai;
    int rc = -EADDRNOTAVAIL, opened = 0, why;

    snprintf(number, sizeof(number), "%d",
             options->port == -1 ? 0 : options->port);
    if (address != NULL) {
        snprintf(text, sizeof(text), "%s", address);
        given = text;
        host = cut_address(given, &port);
        if (host != NULL && strcmp(host, "*") == 0)
            host = NULL;
        else if (host == NULL || *host == '\0' || *port == '\0') {
            snprintf(error, error_size,
                     "cannot listen on \"%s\": expected HOST, HOST:PORT or "
                     "[IPV6]:PORT after -l",
                     address);
            return -EINVAL;
        }
    }
    why = getaddrinfo(host, port, &hints, &list);
    if (why != 0) {
        snprintf(error, error_size, "cannot listen on \"%s\" port %s: %s",
                 address != NULL ? address : "*", port, gai_strerror(why));
        return -EINVAL;
    }
    for (ai = list; ai != NULL; ai = ai->ai_next) {
        int one = listen_on(acceptor, ai, (int)options->backlog);

        opened += one == 0;
        /* A host without IPv6 has no such address: the others will do. */
        if (one < 0 && one != -EAFNOSUPPORT &&
            !(host == NULL && one == -EADDRNOTAVAIL)) {
            rc = one;
            opened = 0;
            break;
        }
    }
    freeaddrinfo(list);
    if (opened > 0)
        return 0;
    snprintf(error, error_size,
             "cannot listen on %s port %s: %s; choose another with -l and -p",
             address != NULL ? address : "any address", port, strerror(-rc));
    return rc;
}

/*
 * Makes room for address: a socket file that nobody listens on is removed. fd
 * only asks, and is as before unless somebody answers. 0 or -EADDRINUSE; then
 * *error is one sentence.
 */
static int remove_stale(int fd, const struct sockaddr_un *address, char *error,
                        size_t error_size)
{
    struct stat st;
    int why;

    if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return 0;
    why = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0
              ? errno
              : 0;
    if (why == ECONNREFUSED)
        unlink(address->sun_path);
    if (why == ECONNREFUSED || why == ENOENT)
        return 0;
    if (why == 0 || why == EAGAIN) /* EAGAIN: its backlog is full */
        snprintf(error, error_size,
                 "cannot listen on the UNIX socket %s: another process listens "
                 "on it; stop that one, or choose another path with -s",
                 address->sun_path);
    else
        snprintf(error, error_size,
                 "cannot listen on the UNIX socket %s: another process may "
                 "use it (%s); remove the file, or choose another path with -s",
                 address->sun_path, strerror(why));
    return -EADDRINUSE;
}

/* Notes which file it is, so that no other one is removed in its place. */
static void note_unix(struct acceptor *acceptor, const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return;
    strcpy(acceptor->unix_path, path);
    acceptor->unix_dev = st.st_dev;
    acceptor->unix_ino = st.st_ino;
}

static int open_unix(struct acceptor *acceptor, const struct options *options,
                     char *error, size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t old;
    int fd, rc;

    if (strlen(options->unix_path) >= sizeof(address.sun_path)) {
        snprintf(error, error_size,
                 "the path after -s is too long: expected at most %zu bytes",
                 sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, options->unix_path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    rc = remove_stale(fd, &address, error, error_size);
    if (rc < 0)
        goto close_fd;
    old = umask((mode_t)(~options->unix_mask & 0777));
    rc =
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    umask(old);
    if (rc == 0 && listen(fd, (int)options->backlog) < 0)
        rc = -errno;
    if (rc == 0)
        rc = add_listener(acceptor, fd, true);
    if (rc < 0) {
        snprintf(error, error_size, "cannot listen on the UNIX socket %s: %s",
                 options->unix_path, strerror(-rc));
        goto close_fd;
    }
    note_unix(acceptor, address.sun_path);
    return 0;

close_fd:
    close(fd);
    return rc;
}

int acceptor_open(struct acceptor *acceptor, const struct options *options,
                  char *error, size_t error_size)
{
    int rc = 0;

    *acceptor = (struct acceptor){0};
    if (options->unix_path != NULL)
        rc = open_unix(acceptor, options, error, error_size);
    else if (options->n_listen == 0)
        rc = open_address(acceptor, NULL, options, error, error_size);
    for (unsigned i = 0;
         rc == 0 && options->unix_path == NULL && i < options->n_listen; i++)
        rc = open_address(acceptor, options->listen[i], options, error,
                          error_size);
    if (rc < 0)
        acceptor_close(acceptor);
    return rc;
}

/* While the socket is open no other file can have its number. */
static void remove_unix(const struct acceptor *acceptor)
{
    struct stat st;

    if (lstat(acceptor->unix_path, &st) == 0 &&
        st.st_dev == acceptor->unix_dev && st.st_ino == acceptor->unix_ino)
        unlink(acceptor->unix_path);
}

void acceptor_close(struct acceptor *acceptor)
{
    if (acceptor->unix_path[0] != '\0')
        remove_unix(acceptor);
    acceptor->unix_path[0] = '\0';
    for (unsigned i = 0; i < acceptor->n; i++)
        close(acceptor->listener[i].fd);
    acceptor->n = 0;
}

int acceptor_watch(struct acceptor *acceptor, int epoll_fd, uint64_t first)
{
    for (unsigned i = 0; i < acceptor->n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = first + i};

        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, acceptor->listener[i].fd,
                      &event) < 0)
            return -errno;
    }
    if (acceptor->paused)
        acceptor->paused_usec +=
            (uint64_t)(monotonic_usec() - acceptor->paused_at);
    acceptor->paused = false;
    return 0;
}

void acceptor_unwatch(struct acceptor *acceptor, int epoll_fd)
{
    if (acceptor->paused)
        return;
    for (unsigned i = 0; i < acceptor->n; i++)
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, acceptor->listener[i].fd, NULL);
    acceptor->paused = true;
    acceptor->paused_at = monotonic_usec();
}

int acceptor_take(struct acceptor *acceptor, unsigned i)
{
    int fd = accept4(acceptor->listener[i].fd, NULL, NULL,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int acceptor_write_ports(const struct acceptor *acceptor, const char *path)
{
    char temporary[4096];
    FILE *file;
    int rc = 0;

    if (snprintf(temporary, sizeof(temporary), "%s.lck", path) >=
        (int)sizeof(temporary))
        return -ENAMETOOLONG;
    file = fopen(temporary, "we");
    if (file == NULL)
        return -errno;
    for (unsigned i = 0; i < acceptor->n; i++) {
        const struct listener *l = &acceptor->listener[i];
        const char *port = strrchr(l->address, ':');

        if (!l->is_unix && port != NULL)
            fprintf(file, "TCP %s: %s\n",
                    strncmp(l->address, "tcp6", 4) == 0 ? "INET6" : "INET",
                    port + 1);
    }
    if (fclose(file) != 0 || rename(temporary, path) < 0)
        rc = -errno;
    return rc;
}
