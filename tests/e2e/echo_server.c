/*
 * usage: echo_server PORT_FILE [FAMILY]
 *
 * An ordinary epoll server: sends back what comes, drops a connection that
 * fails, ends in order after SIGTERM.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

static volatile sig_atomic_t ends;

static void on_term(int number)
{
    (void)number;
    ends = 1;
}

static void give_port(const char *path, uint16_t port)
{
    char temporary[4096];
    FILE *file;

    snprintf(temporary, sizeof(temporary), "%s.new", path);
    file = fopen(temporary, "w");
    if (file == NULL)
        die("%s", path);
    fprintf(file, "%u\n", port);
    fclose(file);
    if (rename(temporary, path) < 0)
        die("%s", path);
}

/* Echoes one piece; a peer that does not read loses its connection. */
static void serve(int fd)
{
    char buf[8192];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n < 0 && errno == EAGAIN)
        return;
    for (ssize_t done = 0; done < n;) {
        ssize_t rc = send(fd, buf + done, (size_t)(n - done), MSG_NOSIGNAL);

        if (rc <= 0) {
            if (errno == EAGAIN) {
                usleep(200);
                continue;
            }
            n = 0;
            break;
        }
        done += rc;
    }
    if (n <= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_term};
    struct epoll_event event = {.events = EPOLLIN};
    uint16_t port = 0;
    int listener, set;

    if (argc < 2)
        die("usage: echo_server PORT_FILE");
    time_limit(300);
    sigaction(SIGTERM, &action, NULL);
    listener = tcp_listen(argc > 2 ? argv[2] : "4", &port);
    make_nonblocking(listener);
    set = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = listener;
    epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
    give_port(argv[1], port);
    while (!ends) {
        int n = epoll_wait(set, &event, 1, 1000);

        if (n <= 0)
            continue;
        if (event.data.fd != listener) {
            serve(event.data.fd);
            continue;
        }
        event.data.fd =
            accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        event.events = EPOLLIN;
        if (event.data.fd >= 0)
            epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event);
    }
    return 0;
}
