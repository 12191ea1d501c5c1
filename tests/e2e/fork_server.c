/*
 * usage: fork_server PORTFILE WHO
 *
 * An echo server that forks for each connection. WHO serves it: "child", as
 * servers do, the parent closes; "epoll", the same with an epoll set of the
 * child's own; "parent", the child closes and lives on; "exits", the same, but
 * the child only ends; "execs", it becomes another program that does not get
 * the connection; "inherits", one that does; "killed", it is killed without
 * closing; "spawned", the same while a command of its own runs, which has the
 * connection; "unseen", the same when it has a child that the library has not
 * seen; "set", the child, by an epoll set that the parent had made and filled
 * before.
 * Without a fork for each, by an epoll set from before the only one: "early",
 * whose child lives on with the set; "ended", whose child has ended; "ran",
 * whose child runs a program that does not get the set.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

static void echo(int fd, int set)
{
    static char buf[65536];
    struct epoll_event event;
    ssize_t n;

    for (;;) {
        if (set >= 0 && epoll_wait(set, &event, 1, -1) != 1) {
            if (errno == EINTR)
                continue; /* told to end, before the client's end is seen */
            die("epoll_wait");
        }
        n = read(fd, buf, sizeof(buf));
        if (n <= 0)
            return;
        for (ssize_t at = 0; at < n;) {
            ssize_t rc = write(fd, buf + at, (size_t)(n - at));

            if (rc <= 0)
                die("write %zd", rc);
            at += rc;
        }
    }
}

static void put_in(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (set < 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll");
}

static int set_with(int fd)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    put_in(set, fd);
    return set;
}

static int early_set = -1;

static void make_early_set(const char *who)
{
    pid_t pid;

    early_set = epoll_create1(EPOLL_CLOEXEC);
    pid = fork_limited(20);
    if (pid == 0) {
        if (strcmp(who, "ran") == 0)
            execlp("sleep", "sleep", "2", (char *)NULL);
        if (strcmp(who, "early") == 0)
            sleep_ms(3000);
        _exit(0);
    }
    if (strcmp(who, "ended") == 0)
        waitpid(pid, NULL, 0);
}

/* Behind this call the library sees nothing of the process. */
static void fork_unseen(void)
{
    pid_t pid = unshare(CLONE_FILES) == 0 ? fork() : -1;

    if (pid < 0)
        die("unshare, fork");
    if (pid == 0) {
        sleep_ms(2000);
        _exit(0);
    }
}

static _Noreturn void child(int fd, int set, const char *who)
{
    if (strcmp(who, "exits") == 0)
        exit(0);
    if (strcmp(who, "unseen") == 0)
        fork_unseen();
    if (strcmp(who, "spawned") == 0)
        (void)!system("kill -KILL $PPID; exec sleep 2");
    if (strcmp(who, "killed") == 0 || strcmp(who, "unseen") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(who, "execs") == 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        execlp("no such program", "true", (char *)NULL);
        execlp("true", "true", (char *)NULL);
        die("exec");
    }
    if (strcmp(who, "inherits") == 0) {
        execlp("sleep", "sleep", "2", (char *)NULL);
        die("exec");
    }
    if (strcmp(who, "parent") == 0) {
        close(fd);
        sleep_ms(2000);
        exit(0);
    }
    if (strcmp(who, "epoll") == 0)
        set = set_with(fd);
    echo(fd, set);
    exit(0);
}

static void serve(int fd, const char *who)
{
    bool by_child = strcmp(who, "child") == 0 || strcmp(who, "epoll") == 0 ||
                    strcmp(who, "set") == 0;
    int set = strcmp(who, "set") == 0 ? set_with(fd) : -1;
    pid_t pid;

    if (early_set >= 0) {
        put_in(early_set, fd);
        echo(fd, early_set);
        close(fd);
        return;
    }
    pid = fork_limited(20);
    if (pid == 0)
        child(fd, set, who);
    if (!by_child) {
        if (strcmp(who, "parent") != 0 && strcmp(who, "inherits") != 0)
            waitpid(pid, NULL, 0);
        echo(fd, -1);
    }
    close(fd);
    if (set >= 0)
        close(set);
}

static volatile sig_atomic_t ends;

static void end(int number)
{
    (void)number;
    ends = 1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = end};
    uint16_t port = 0;
    int listener;
    FILE *file;

    if (argc < 3)
        die("usage: fork_server PORTFILE WHO");
    time_limit(30);
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGTERM, &action, NULL);
    listener = tcp_listen("4", &port);
    if (strcmp(argv[2], "early") == 0 || strcmp(argv[2], "ended") == 0 ||
        strcmp(argv[2], "ran") == 0)
        make_early_set(argv[2]);
    file = fopen(argv[1], "w");
    if (file == NULL || fprintf(file, "%u\n", port) < 0 || fclose(file) != 0)
        die("%s", argv[1]);
    while (!ends) {
        int fd = accept(listener, NULL, NULL);

        if (fd >= 0)
            serve(fd, argv[2]);
        else if (errno != EINTR)
            die("accept");
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}
