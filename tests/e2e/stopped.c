/*
 * usage: stopped [handler]
 *
 * "handler": a signal handler writes to the stream whose write it interrupts;
 * it may be refused, but no call may hang and the counts must agree.
 *
 * Otherwise: exec with an inherited connection whose peer is stopped: it cannot
 * return to TCP in time. The new image must see a reset or the application's
 * bytes, but never a record. Prints "clean" or what it read.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

static int after_exec(int fd, pid_t peer)
{
    char bytes[256];
    ssize_t n;

    kill(peer, SIGCONT);
    signal(SIGPIPE, SIG_IGN);
    n = write(fd, "A", 1);
    n = n == 1 ? read(fd, bytes, sizeof(bytes)) : -1;
    if (n > 0 && (n != 1 || bytes[0] != 'A'))
        printf("read %zd bytes that nobody wrote\n", n);
    else
        printf("clean\n");
    kill(peer, SIGKILL);
    return 0;
}

static int echo(int listener)
{
    int fd = accept(listener, NULL, NULL);
    char bytes[64];
    ssize_t n;

    while ((n = read(fd, bytes, sizeof(bytes))) > 0)
        if (write(fd, bytes, (size_t)n) != n)
            break;
    return 0;
}

static int pipe_fd;
static volatile long by_handler;

static void on_alarm(int number)
{
    ssize_t n;

    (void)number;
    n = write(pipe_fd, "h", 1);
    if (n > 0)
        by_handler += n;
}

/* One end writes much while its handler writes a little; the other counts. */
static int handler_writes(void)
{
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    static char bytes[65536];
    long written = 0, taken = 0;
    uint16_t port;
    int listener = tcp_listen("4", &port);
    ssize_t n;

    if (fork_limited(40) == 0) {
        int fd = accept(listener, NULL, NULL);

        while ((n = read(fd, bytes, sizeof(bytes))) > 0)
            taken += n;
        n = write(fd, &taken, sizeof(taken));
        return n == sizeof(taken) ? 0 : 1;
    }
    pipe_fd = tcp_connect("4", port);
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &often, NULL);
    for (uint64_t end = now_ms() + 1500; now_ms() < end;) {
        n = write(pipe_fd, bytes, sizeof(bytes));
        if (n > 0)
            written += n;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    shutdown(pipe_fd, SHUT_WR);
    n = read(pipe_fd, &taken, sizeof(taken));
    if (n != sizeof(taken) || taken != written + by_handler)
        printf("%ld written, %ld arrived\n", written + by_handler, taken);
    else
        printf("clean\n");
    return 0;
}

int main(int argc, char **argv)
{
    uint16_t port;
    char number[16], pid[16], c = 'x';
    int listener, fd;
    pid_t peer;

    if (argc == 2)
        return handler_writes();
    if (argc == 3)
        return after_exec(atoi(argv[1]), atoi(argv[2]));
    listener = tcp_listen("4", &port);
    peer = fork_limited(30);
    if (peer == 0)
        return echo(listener);
    fd = tcp_connect("4", port);
    for (int i = 0; i < 200; i++) {
        if (write(fd, &c, 1) != 1 || read(fd, &c, 1) != 1)
            return 1;
        usleep(500);
    }
    kill(peer, SIGSTOP);
    usleep(100000);
    snprintf(number, sizeof(number), "%d", fd);
    snprintf(pid, sizeof(pid), "%d", (int)peer);
    execl(argv[0], argv[0], number, pid, (char *)NULL);
    return 1;
}
