/*
 * usage: inherited [CASE]
 *
 * What a socket gets from elsewhere: options of its listener or from before
 * connect, and what another number or another process does to the same file,
 * before the stream is connected or leaves TCP, or while it is on a link.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/cases.h"

static const struct linger reset = {1, 0};
static const struct timeval soon = {0, 50000};
static const int ten = 10;

/* b is accepted by a listener that has this option. */
static void accept_with(int option, const void *value, socklen_t len)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);

    said("option", setsockopt(listener, SOL_SOCKET, option, value, len));
    close(a);
    close(b);
    a = tcp_connect("4", port);
    b = accept(listener, NULL, NULL);
    close(listener);
}

/* b connects, and has had this option before. */
static void connect_with(int option, const void *value, socklen_t len)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);

    to.sin_port = htons(port);
    close(a);
    close(b);
    b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    said("option", setsockopt(b, SOL_SOCKET, option, value, len));
    said("connect", connect(b, (struct sockaddr *)&to, sizeof(to)));
    a = accept(listener, NULL, NULL);
    close(listener);
}

static void moves(void)
{
    settle_pair(a, b);
    until_moved(a, b);
}

/* In a child, which ends: then the stream is ours alone, and moves. */
static void by_a_child(void (*does)(void))
{
    pid_t pid = fork_limited(5);

    if (pid == 0) {
        does();
        _exit(0);
    }
    said("child", child_status(pid));
}

/* Words of ten, since b may have to have so many. */
static void words_of_ten(void)
{
    char buf[16];

    for (int i = 0; i < 20; i++) {
        (void)!write(a, "0123456789", 10);
        (void)!recv(b, buf, 10, MSG_WAITALL);
        (void)!write(b, "x", 1);
        (void)!recv(a, buf, 1, 0);
    }
    time_to_move();
}

static void half_a_word(void)
{
    struct pollfd p = {b, POLLIN, 0};

    (void)!write(a, "12345", 5);
    wait_unread(b, 5);
    said("five", poll(&p, 1, 30));
    (void)!write(a, "67890", 5);
    said("ten", poll(&p, 1, 1000));
}

static void is_reset(void)
{
    said("close", close(b));
    wait_events(a, 0);
    show_events("a", a);
    said("read", read(a, &(char){0}, 1));
}

static void nothing_to_read(void)
{
    uint64_t start = now_ms();

    said("read", read(b, &(char){0}, 1));
    printf("  %s\n", now_ms() - start >= 40 ? "waited" : "at once");
}

static void linger_of_listener(void)
{
    accept_with(SO_LINGER, &reset, sizeof(reset));
    moves();
    is_reset();
}

static void time_out_of_listener(void)
{
    static char much[100000];

    accept_with(SO_SNDTIMEO, &soon, sizeof(soon));
    moves();
    while (send(b, much, sizeof(much), MSG_DONTWAIT) > 0)
        ;
    said("no room", write(b, much, 1));
}

static void low_water_of_listener(void)
{
    accept_with(SO_RCVLOWAT, &ten, sizeof(ten));
    words_of_ten();
    half_a_word();
}

static void time_stamps_of_listener(void)
{
    int on = 1;
    char control[128], buf[16];
    struct iovec iov = {buf, sizeof(buf)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};

    accept_with(SO_TIMESTAMP, &on, sizeof(on));
    settle_pair(a, b);
    (void)!write(a, "12345", 5);
    wait_unread(b, 5);
    said("recvmsg", recvmsg(b, &msg, 0));
    printf("  control %zu\n", msg.msg_controllen);
}

static void linger_from_before(void)
{
    connect_with(SO_LINGER, &reset, sizeof(reset));
    moves();
    is_reset();
}

static void time_out_from_before(void)
{
    connect_with(SO_RCVTIMEO, &soon, sizeof(soon));
    moves();
    nothing_to_read();
}

static void low_water_from_before(void)
{
    connect_with(SO_RCVLOWAT, &ten, sizeof(ten));
    words_of_ten();
    half_a_word();
}

static void lingers(void)
{
    setsockopt(b, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static void linger_of_a_child(void)
{
    by_a_child(lingers);
    moves();
    is_reset();
}

static void asks_for_ten(void)
{
    setsockopt(b, SOL_SOCKET, SO_RCVLOWAT, &ten, sizeof(ten));
}

static void low_water_of_a_child(void)
{
    by_a_child(asks_for_ten);
    words_of_ten();
    half_a_word();
}

static void does_not_block(void)
{
    make_nonblocking(b);
}

static void nonblock_of_a_child(void)
{
    by_a_child(does_not_block);
    moves();
    nothing_to_read();
}

static void has_little_time(void)
{
    setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
}

static void time_out_of_a_child(void)
{
    by_a_child(has_little_time);
    moves();
    nothing_to_read();
}

static void shuts(void)
{
    shutdown(b, SHUT_WR);
}

static void shutdown_by_a_child(void)
{
    by_a_child(shuts);
    for (int i = 0; i < 20; i++) {
        (void)!write(a, "x", 1);
        (void)!read(b, &(char){0}, 1);
    }
    time_to_move();
    said("the end", read(a, &(char){0}, 1));
    said("write", send(b, "x", 1, MSG_NOSIGNAL));
    show_events("a", a);
    show_events("b", b);
}

/* Flags and time-outs are the file's, whichever of its numbers is used. */
static void by_another_number(void)
{
    int again = dup(b);

    make_nonblocking(again);
    nothing_to_read();
    fcntl(b, F_SETFL, 0);
    setsockopt(again, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
    nothing_to_read();
    said("shutdown", shutdown(again, SHUT_WR));
    said("write", send(b, "x", 1, MSG_NOSIGNAL));
}

static void by_number(void)
{
    said("fcntl", syscall(SYS_fcntl, b, F_SETFL, O_NONBLOCK));
    nothing_to_read();
    said("fcntl", syscall(SYS_fcntl, b, F_SETFL, 0));
    said("setsockopt", syscall(SYS_setsockopt, b, SOL_SOCKET, SO_RCVTIMEO,
                               &soon, sizeof(soon)));
    nothing_to_read();
}

/* A new image, which gets a listener that has the time-out. */
static int serve_one(int listener)
{
    b = accept(listener, NULL, NULL);
    until_moved(b, -1);
    nothing_to_read();
    return 0;
}

static void time_out_of_anothers_listener(void)
{
    char program[256] = "", number[12];
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);
    char word[4];
    pid_t pid;

    (void)!readlink("/proc/self/exe", program, sizeof(program) - 1);
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
    fcntl(listener, F_SETFD, 0);
    snprintf(number, sizeof(number), "%d", listener);
    fflush(stdout);
    pid = fork_limited(10);
    if (pid == 0) {
        execl(program, "inherited", "listener", number, (char *)NULL);
        _exit(127);
    }
    close(listener);
    close(a);
    a = tcp_connect("4", port);
    while (recv(a, word, 4, MSG_WAITALL) == 4)
        (void)!write(a, word, 4);
    said("server", child_status(pid));
}

/* b anew, which is connected to nobody yet. Returns who will accept it. */
static int unconnected(uint16_t *port)
{
    int listener = tcp_listen("4", port);

    close(a);
    close(b);
    b = socket(AF_INET, SOCK_STREAM, 0);
    return listener;
}

static void connect_now(int listener, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    said("connect", connect(b, (struct sockaddr *)&to, sizeof(to)));
    a = accept(listener, NULL, NULL);
    settle_pair(a, b);
}

static void comes_from(const char *who)
{
    char word[8] = "";

    said(who, recv(a, word, 4, MSG_WAITALL));
    printf("  %s\n", word);
}

static void connected_by_a_child(void)
{
    uint16_t port = 0;
    int listener = unconnected(&port), ready[2];
    char word[8] = "";
    pid_t pid;

    if (pipe(ready) < 0)
        die("pipe");
    pid = fork_limited(8);
    if (pid == 0) {
        connect_now(listener, port);
        (void)!write(ready[1], "x", 1);
        comes_from("the parent");
        (void)!write(a, "back", 4);
        _exit(0);
    }
    (void)!read(ready[0], word, 1);
    said("write", send(b, "word", 4, MSG_NOSIGNAL));
    said("read", recv(b, word, 4, MSG_WAITALL));
    printf("  %s\n", word);
    said("child", child_status(pid));
    said("the end", read(b, word, 1));
}

static void behind_a_fork(bool child_writes)
{
    uint16_t port = 0;
    int listener = unconnected(&port), ready[2];
    pid_t pid;

    if (pipe(ready) < 0)
        die("pipe");
    pid = fork_limited(8);
    if (pid == 0) {
        (void)!read(ready[0], &(char){0}, 1);
        if (child_writes)
            (void)!write(b, "word", 4);
        _exit(0);
    }
    connect_now(listener, port);
    (void)!write(ready[1], "x", 1);
    if (child_writes)
        comes_from("the child");
    said("child", child_status(pid));
    talk("alone", a, b);
}

static void connected_behind_a_fork(void)
{
    behind_a_fork(true);
}

/* Once the child has ended the stream is ours alone. */
static void connected_beside_a_child(void)
{
    behind_a_fork(false);
    moves();
}

/* Of system(), which nobody sees being made. */
static void connected_beside_a_command(void)
{
    uint16_t port = 0;
    int listener = unconnected(&port), ready[2];

    if (pipe(ready) < 0 || dup2(ready[0], 8) < 0 || dup2(b, 9) < 0)
        die("pipe");
    said("system", system("{ read go <&8; printf word >&9; } &"));
    connect_now(listener, port);
    (void)!write(ready[1], "go\n", 3);
    comes_from("the command");
    talk("afterwards", a, b);
}

static const struct test_case cases[] = {
    {"linger_of_listener", linger_of_listener, STAYS},
    {"time_out_of_listener", time_out_of_listener, STAYS},
    {"linger_from_before", linger_from_before, STAYS},
    {"time_out_from_before", time_out_from_before, STAYS},
    {"low_water_from_before", low_water_from_before, GOES_UP},
    {"linger_of_a_child", linger_of_a_child, GOES_UP},
    {"low_water_of_a_child", low_water_of_a_child, GOES_UP},
    {"low_water_of_listener", low_water_of_listener, GOES_UP},
    {"time_stamps_of_listener", time_stamps_of_listener, GOES_UP},
    {"nonblock_of_a_child", nonblock_of_a_child, GOES_UP},
    {"time_out_of_a_child", time_out_of_a_child, GOES_UP},
    {"shutdown_by_a_child", shutdown_by_a_child, GOES_UP},
    {"connected_by_a_child", connected_by_a_child, GOES_UP},
    {"connected_behind_a_fork", connected_behind_a_fork, GOES_UP},
    {"connected_beside_a_child", connected_beside_a_child, GOES_UP},
    {"connected_beside_a_command", connected_beside_a_command, GOES_UP},
    {"by_another_number", by_another_number, STAYS},
    {"by_number", by_number, STAYS},
    {"time_out_of_anothers_listener", time_out_of_anothers_listener, STAYS},
};

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "listener") == 0) {
        time_limit(10);
        return serve_one(atoi(argv[2]));
    }
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
