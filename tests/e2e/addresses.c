/*
 * usage: addresses [CASE]
 *
 * One connection, several names: IPv4 inside IPv6, addresses with a scope,
 * wildcards, ports that the kernel rewrites, a socket that is its own peer.
 * For "redirected" tests/e2e/addresses.sh has set the kernel up.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/support/cases.h"

static void show_name(const char *what, const struct sockaddr_storage *s)
{
    const struct sockaddr_in6 *in6 = (const void *)s;
    const struct sockaddr_in *in4 = (const void *)s;
    char text[64] = "?";

    if (s->ss_family == AF_INET)
        inet_ntop(AF_INET, &in4->sin_addr, text, sizeof(text));
    else if (s->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
    printf("  %s: %s scope %d\n", what, text,
           s->ss_family == AF_INET6 && in6->sin6_scope_id != 0);
}

static void show_names(int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);

    getsockname(fd, (void *)&name, &len);
    show_name("own", &name);
    len = sizeof(name);
    getpeername(fd, (void *)&name, &len);
    show_name("peer", &name);
}

static struct sockaddr_storage address(const char *text, uint16_t port,
                                       const char *device)
{
    struct sockaddr_storage s = {0};
    struct sockaddr_in6 *in6 = (void *)&s;
    struct sockaddr_in *in4 = (void *)&s;

    if (inet_pton(AF_INET, text, &in4->sin_addr) == 1) {
        in4->sin_family = AF_INET;
        in4->sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        if (device != NULL)
            in6->sin6_scope_id = if_nametoindex(device);
    } else {
        die("%s is no address", text);
    }
    return s;
}

static socklen_t length(const struct sockaddr_storage *s)
{
    return s->ss_family == AF_INET ? sizeof(struct sockaddr_in)
                                   : sizeof(struct sockaddr_in6);
}

/* Listens at one address, connects to another, and talks. */
static void between(const char *listens, const char *connects,
                    const char *device, const char *binds)
{
    struct sockaddr_storage at = address(listens, 0, device), to, from;
    int listener = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), c, d;
    socklen_t len = sizeof(at);

    if (bind(listener, (void *)&at, length(&at)) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (void *)&at, &len) < 0)
        die("listen at %s", listens);
    to =
        address(connects, ntohs(((struct sockaddr_in *)&at)->sin_port), device);
    c = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (binds != NULL) {
        from = address(binds, 0, device);
        said("bind", bind(c, (void *)&from, length(&from)));
    }
    if (connect(c, (void *)&to, length(&to)) < 0)
        die("connect to %s", connects);
    d = accept(listener, NULL, NULL);
    show_names(c);
    show_names(d);
    close(a);
    close(b);
    a = c;
    b = d;
    settle_pair(a, b);
    until_moved(a, b);
    talk("a word", a, b);
    show_names(a);
    show_names(b);
    shutdown(a, SHUT_WR);
    said("the end", read(b, &(char){0}, 1));
    close(listener);
}

static void mapped(void)
{
    between("::", "127.0.0.1", NULL, NULL);
}

static void mapped_both(void)
{
    between("::", "::ffff:127.0.0.1", NULL, NULL);
}

static void mapped_client(void)
{
    between("0.0.0.0", "::ffff:127.0.0.2", NULL, NULL);
}

static void wildcard(void)
{
    between("0.0.0.0", "0.0.0.0", NULL, NULL);
}

static void wildcard_six(void)
{
    between("::", "::", NULL, NULL);
}

static void other_loopback(void)
{
    between("127.0.0.9", "127.0.0.9", NULL, "127.0.0.7");
}

static void with_scope(void)
{
    const char *device = getenv("E2E_DEVICE");

    if (device == NULL) {
        printf("  no device\n");
        settle_pair(a, b);
        return;
    }
    between("::", "fe80::1234", device, NULL);
}

/* The server sees the address that it listens at, the client another one. */
static void redirected(void)
{
    struct sockaddr_storage at = address("127.0.0.1", 7002, NULL);
    struct sockaddr_storage to = address("127.0.0.1", 7001, NULL);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), d, on = 1;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (void *)&at, length(&at)) < 0 ||
        listen(listener, 1) < 0 || connect(c, (void *)&to, length(&to)) < 0)
        die("redirected");
    d = accept(listener, NULL, NULL);
    close(a);
    close(b);
    a = c;
    b = d;
    settle_pair(a, b);
    talk("by another name", a, b);
}

/* Both names of the pair are taken, at the same time, by another pair. */
static void redirected_twice(void)
{
    struct sockaddr_storage at = address("127.0.0.1", 7001, NULL);
    struct sockaddr_storage from = address("127.0.0.1", 7003, NULL);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), e, on = 1;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    said("listen", bind(listener, (void *)&at, length(&at)) < 0
                       ? -1
                       : listen(listener, 1));
    redirected();
    e = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    said("bind", bind(e, (void *)&from, length(&from)));
    close(e);
    close(listener);
}

/* Simultaneous open with itself: one socket is both ends. */
static void own_peer(void)
{
    struct sockaddr_storage own = address("127.0.0.1", 0, NULL);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(own);
    char buf[8] = "";

    if (bind(c, (void *)&own, length(&own)) < 0 ||
        getsockname(c, (void *)&own, &len) < 0)
        die("bind");
    said("connect", connect(c, (void *)&own, len));
    for (int i = 0; i < 30; i++) {
        if (write(c, "myself", 6) != 6 || recv(c, buf, 6, MSG_WAITALL) != 6)
            die("to myself");
        if (i == 15)
            time_to_move();
    }
    printf("  %s\n", buf);
    shutdown(c, SHUT_WR);
    said("the end", read(c, buf, 1));
}

static void disconnects(void)
{
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);
    struct sockaddr_storage to = address("127.0.0.1", port, NULL);

    said("disconnect", connect(a, &none, sizeof(none)));
    wait_events(b, POLLRDHUP);
    show_events("b", b);
    said("read", read(b, (char[8]){0}, 8));
    said("connect", connect(a, (void *)&to, length(&to)));
    close(b);
    b = accept(listener, NULL, NULL);
    settle_pair(a, b);
    talk("another life", a, b);
}

static const struct test_case cases[] = {
    {"mapped", mapped, STAYS},
    {"mapped_both", mapped_both, STAYS},
    {"mapped_client", mapped_client, STAYS},
    {"wildcard", wildcard, STAYS},
    {"wildcard_six", wildcard_six, STAYS},
    {"other_loopback", other_loopback, STAYS},
    {"with_scope", with_scope, STAYS},
    {"own_peer", own_peer, GOES_UP},
    {"disconnects", disconnects, RETURNS},
    {"redirected", redirected, GOES_UP},
    {"redirected_twice", redirected_twice, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
