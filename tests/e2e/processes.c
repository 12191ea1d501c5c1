/*
 * usage: processes [CASE]
 *
 * Descriptors and processes: duplicates, fork, exec, children of libc, and
 * descriptors that go to somebody who knows nothing. Each case gets a
 * connection that had time to leave TCP, and prints what happened; the output
 * on kernel TCP and under the library has to be the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

extern char **environ;

static const char *program;

static void settle(void)
{
    char c[8];

    for (int i = 0; i < 20; i++) {
        if (i == 15)
            time_to_move();
        (void)!write(a, "ping", 4);
        (void)!recv(b, c, 4, MSG_WAITALL);
        (void)!write(b, "pong", 4);
        (void)!recv(a, c, 4, MSG_WAITALL);
    }
    until_moved(a, b);
}

static void join(pid_t pid)
{
    int status;

    waitpid(pid, &status, 0);
    printf("  child: %x\n", (unsigned)status);
}

static void dup_then_close(void)
{
    int again = dup(a), file;
    char buf[200] = "";

    close(a);
    file = memfd_create("file", MFD_CLOEXEC);
    if (file != a) { /* the helper may have the number for a moment */
        dup2(file, a);
        close(file);
        file = a;
    }
    talk("after close", again, b);
    shutdown(again, SHUT_WR);
    said("b", recv(b, buf, sizeof(buf), 0));
    close(again);
    close(b);
    sleep_ms(50);
    said("in the file", pread(file, buf, sizeof(buf), 0));
}

static void dup2_and_fcntl(void)
{
    int high = fcntl(a, F_DUPFD_CLOEXEC, 40), other = dup2(a, 50);

    talk("dup", high, b);
    close(a);
    talk("dup2", other, b);
    said("onto", dup2(other, high));
    talk("onto", high, b);
    close(other);
    talk("left", high, b);
    said("over a socket", dup2(high, b));
    sleep_ms(20);
    said("gone", recv(high, &(char){0}, 1, 0));
}

static void close_calls(void)
{
    int keep = open("/dev/null", O_RDONLY | O_CLOEXEC);

    said("close_range", close_range((unsigned)a, (unsigned)a, 0));
    said("b reads", recv(b, &(char){0}, 1, 0));
    said("a", write(a, "x", 1));
    closefrom(keep);
    said("closefrom", fcntl(b, F_GETFD) >= 0 && b > keep ? 1 : 0);
}

static void close_every(void)
{
    int open_ones = 0;

    for (int fd = 3; fd < 70000; fd++)
        if (fd != a && fd != b)
            close(fd);
    talk("everything else closed", a, b);
    for (int fd = 3; fd < 70000; fd++)
        if (close(fd) == 0)
            open_ones++;
    printf("  closed %d\n", open_ones);
}

static void forks_by_turns(void)
{
    char buf[4];
    pid_t pid;

    (void)!write(a, "unread", 6);
    wait_unread(b, 6);
    pid = fork_limited(8);
    for (int i = 0; i < 2; i++) {
        if ((pid == 0) == (i == 0)) {
            said(pid == 0 ? "child reads" : "parent reads",
                 recv(b, buf, 3, MSG_WAITALL));
            printf("  %.3s\n", buf);
            talk(pid == 0 ? "child" : "parent", a, b);
            if (pid == 0) {
                fflush(stdout);
                _exit(7);
            }
        } else if (i == 0) {
            join(pid);
        }
    }
}

static void fork_and_close(void)
{
    pid_t pid = fork_limited(8);

    if (pid == 0) {
        close(b);
        sleep_ms(30);
        (void)!write(a, "bye", 3);
        exit(0);
    }
    close(a);
    said("from the child", recv(b, (char[8]){0}, 3, MSG_WAITALL));
    said("the end", recv(b, (char[8]){0}, 8, 0));
    join(pid);
}

static void vfork_exec(void)
{
    pid_t pid = vfork();

    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(9);
    }
    join(pid);
    talk("after vfork", a, b);
    pid = vfork();
    if (pid == 0)
        _exit(3);
    join(pid);
    talk("after vfork and _exit", a, b);
}

static void children_of_libc(void)
{
    char line[64] = "";
    FILE *pipe;

    spawn_true();
    talk("spawn", a, b);
    said("system", system("exit 5"));
    talk("system", a, b);
    pipe = popen("echo out", "re");
    if (pipe != NULL)
        (void)!fgets(line, sizeof(line), pipe);
    said("popen", pclose(pipe));
    printf("  %s", line);
    talk("popen", a, b);
    sleep_ms(20);
    talk("later", a, b);
}

/* The new image speaks to its descriptor and knows nothing more. */
static void exec_keeps(int to)
{
    char number[16];
    pid_t pid;

    (void)!write(a, "for the next image;", 19);
    wait_unread(b, 19);
    pid = fork_limited(8);
    if (pid == 0) {
        close(a);
        if (dup2(b, to) < 0 || (to == b && fcntl(b, F_SETFD, 0) < 0))
            _exit(1);
        snprintf(number, sizeof(number), "%d", to);
        execl(program, "processes", "image", number, (char *)NULL);
        _exit(1);
    }
    close(b);
    (void)!write(a, "more", 4);
    shutdown(a, SHUT_WR);
    for (char c; recv(a, &c, 1, 0) == 1;)
        putchar(c);
    printf("\n");
    join(pid);
}

static void image(int fd)
{
    char buf[64];
    ssize_t rc;

    while ((rc = read(fd, buf, sizeof(buf))) > 0)
        (void)!write(fd, buf, (size_t)rc);
    if (write(fd, "|done", 5) != 5)
        exit(1);
}

static void exec_as_3(void)
{
    exec_keeps(b == 3 ? 3 : 9);
}

static void exec_as_0(void)
{
    exec_keeps(0);
}

/* No fork in between: the very process that used the stream. */
static void exec_itself(void)
{
    pid_t pid = fork_limited(8);
    char number[16];

    if (pid == 0) {
        tcp_pair("4", 0, &a, &b);
        settle();
        (void)!write(a, "behind;", 7);
        wait_unread(b, 7);
        fcntl(a, F_SETFD, 0);
        fcntl(b, F_SETFD, 0);
        snprintf(number, sizeof(number), "%d:%d", a, b);
        execl(program, "processes", "both", number, (char *)NULL);
        _exit(1);
    }
    join(pid);
}

static void both_images(const char *numbers)
{
    char got[64] = "";

    if (sscanf(numbers, "%d:%d", &a, &b) != 2)
        exit(1);
    said("left behind", recv(b, got, 7, MSG_WAITALL));
    printf("  %s\n", got);
    talk("new image", a, b);
}

static void pass(int over, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {"x", 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    said("pass", sendmsg(over, &msg, 0));
}

static int passed(int over)
{
    char control[CMSG_SPACE(sizeof(int))], byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    int fd = -1;

    if (recvmsg(over, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    return fd;
}

/* To a process that has been there before and without the library. */
static void pass_on(void)
{
    int pair[2], port[2];
    char number[16];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || pipe(port) < 0)
        die("socketpair");
    unsetenv("LD_PRELOAD");
    snprintf(number, sizeof(number), "%d", pair[1]);
    if (posix_spawn(&pid, program, NULL, NULL,
                    (char *[]){"processes", "receiver", number, NULL},
                    environ) != 0)
        die("posix_spawn");
    close(pair[1]);
    tcp_pair("4", 0, &a, &b);
    settle();
    (void)!write(a, "before ", 7);
    wait_unread(b, 7);
    pass(pair[0], b);
    close(b);
    (void)!write(a, "and after", 9);
    shutdown(a, SHUT_WR);
    for (char c; recv(a, &c, 1, 0) == 1;)
        putchar(c);
    printf("\n");
    join(pid);
}

static void stdio(void)
{
    FILE *file;
    char line[64] = "";

    (void)!write(a, "first\nsecond\n", 13);
    wait_unread(b, 13);
    said("read", recv(b, line, 3, 0));
    file = fdopen(b, "r+");
    for (int i = 0; i < 2; i++)
        printf("  %s", fgets(line, sizeof(line), file));
    fprintf(file, "answer\n");
    fflush(file);
    memset(line, 0, sizeof(line));
    said("answer", recv(a, line, 7, MSG_WAITALL));
    printf("  %s", line);
    said("fclose", fclose(file));
    said("the end", recv(a, line, 7, 0));
}

static void sends_file(void)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    char want[5000], got[5000];

    (void)!pread(file, want, sizeof(want), 0);
    (void)!write(a, want, 1000);
    said("sendfile", sendfile(a, file, &(off_t){1000}, 4000));
    said("recv", recv(b, got, sizeof(got), MSG_WAITALL));
    printf("  %s\n", memcmp(want, got, 5000) == 0 ? "same" : "WRONG");
    talk("afterwards", a, b);
}

/* What libc writes past write(), and vectors with an offset. */
static void formats_and_vectors(void)
{
    char got[64] = {0}, text[] = "vector";
    struct iovec out = {text, 6}, in = {got, 6};

    said("dprintf", dprintf(a, "%d bytes and %s\n", 17, "a word"));
    said("recv", recv(b, got, 20, MSG_WAITALL));
    printf("  %s", got);
    talk("after dprintf", a, b);
    memset(got, 0, sizeof(got));
    said("pwritev2", pwritev2(b, &out, 1, -1, 0));
    said("preadv2", preadv2(a, &in, 1, -1, 0));
    printf("  %s\n", got);
    said("at 0", pwritev2(b, &out, 1, 0, 0));
    said("flags", preadv2(a, &in, 1, -1, RWF_NOWAIT));
    talk("after preadv2", a, b);
}

static void no_descriptors(void)
{
    struct rlimit limit;
    int fds[2000], n = 0, c, d;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 1024;
    setrlimit(RLIMIT_NOFILE, &limit);
    tcp_pair("4", 0, &c, &d);
    /* The helper may hold a low number for a moment (docs/limits.md). */
    for (int full = 0; n < 2000 && full < 20;) {
        fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fds[n] < 0) {
            full++;
            sleep_ms(10);
        } else {
            full = 0;
            n++;
        }
    }
    said("open", fds[n]);
    said("socket", socket(AF_INET, SOCK_STREAM, 0));
    for (int i = 0; i < 50; i++) {
        (void)!write(c, "x", 1);
        (void)!read(d, &(char){0}, 1);
    }
    talk("none left", c, d);
    talk("old one", a, b);
    while (n > 0)
        close(fds[--n]);
    talk("some left", c, d);
}

static void *reads(void *arg)
{
    char c;
    ssize_t rc = read(*(int *)arg, &c, 1);

    printf("  the reader: %s\n", rc == 1 ? "1" : rc == 0 ? "0" : "error");
    return NULL;
}

/* A byte is under way when the descriptor is closed by another thread. */
static void close_while_reading(void)
{
    pthread_t thread;

    thread = start_asleep(reads, &a);
    shutdown(a, SHUT_RD);
    pthread_join(thread, NULL);
    said("close", close(a));
    said("again", close(a));
    said("b", recv(b, &(char){0}, 1, 0));
}

static void becomes_daemon(void)
{
    int c[2];
    pid_t pid;

    if (pipe(c) < 0)
        die("pipe");
    pid = fork_limited(8);
    if (pid == 0) {
        if (daemon(0, 1) < 0)
            _exit(1);
        talk("daemon", a, b);
        fflush(stdout);
        (void)!write(c[1], "x", 1);
        _exit(0);
    }
    said("daemon", read(c[0], &(char){0}, 1));
    join(pid);
}

static void fork_per_connection(void)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);

    for (int i = 0; i < 5; i++) {
        int c = tcp_connect("4", port), d = accept(listener, NULL, NULL);
        pid_t pid = fork_limited(8);
        char word[32];

        if (pid == 0) {
            close(c);
            close(listener);
            image(d);
            exit(0);
        }
        close(d);
        snprintf(word, sizeof(word), "connection %d", i);
        (void)!write(c, word, strlen(word));
        shutdown(c, SHUT_WR);
        for (char ch; recv(c, &ch, 1, 0) == 1;)
            putchar(ch);
        printf("\n");
        close(c);
        join(pid);
    }
}

static void epoll_and_fork(void)
{
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 42};
    pid_t pid;

    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    (void)!write(a, "x", 1);
    said("before", epoll_wait(set, &event, 1, 1000));
    pid = fork_limited(8);
    if (pid == 0) {
        event.data.u64 = 0;
        said("in the child", epoll_wait(set, &event, 1, 1000));
        printf("  data %d\n", (int)event.data.u64);
        exit(0);
    }
    join(pid);
    said("read", read(b, &(char){0}, 1));
    said("empty", epoll_wait(set, &event, 1, 10));
    (void)!write(a, "y", 1);
    said("after", epoll_wait(set, &event, 1, 1000));
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"dup_then_close", dup_then_close},
    {"dup2_and_fcntl", dup2_and_fcntl},
    {"close_calls", close_calls},
    {"close_every", close_every},
    {"forks_by_turns", forks_by_turns},
    {"fork_and_close", fork_and_close},
    {"fork_per_connection", fork_per_connection},
    {"vfork_exec", vfork_exec},
    {"children_of_libc", children_of_libc},
    {"exec_as_3", exec_as_3},
    {"exec_as_0", exec_as_0},
    {"exec_itself", exec_itself},
    {"pass_on", pass_on},
    {"stdio", stdio},
    {"sends_file", sends_file},
    {"formats_and_vectors", formats_and_vectors},
    {"no_descriptors", no_descriptors},
    {"close_while_reading", close_while_reading},
    {"becomes_daemon", becomes_daemon},
    {"epoll_and_fork", epoll_and_fork},
};

static void run_case(size_t i)
{
    pid_t pid = fork_limited(10);

    if (pid == 0) {
        printf("%s\n", cases[i].name);
        signal(SIGPIPE, SIG_IGN);
        tcp_pair("4", 0, &a, &b);
        settle();
        cases[i].run();
        exit(0);
    }
    child_status(pid);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    program = "/proc/self/exe";
    time_limit(50);
    if (argc > 2) {
        if (strcmp(argv[1], "image") == 0)
            image(atoi(argv[2]));
        else if (strcmp(argv[1], "both") == 0)
            both_images(argv[2]);
        else
            image(passed(atoi(argv[2])));
        return 0;
    }
    close_inherited();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (argc < 2 || strcmp(argv[1], cases[i].name) == 0)
            run_case(i);
    return 0;
}
