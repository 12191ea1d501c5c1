/*
 * usage: withdraws [CASE]
 *
 * A process goes where the library cannot follow: into a filter of system
 * calls, into another network, or it gives its work to a ring in the kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

/* Kills at whatever the library would call and the program does not. */
static void only_what_is_needed(void)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#define ALLOW(number)                                                          \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),                         \
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
        ALLOW(SYS_read),
        ALLOW(SYS_write),
        ALLOW(SYS_recvfrom),
        ALLOW(SYS_sendto),
        ALLOW(SYS_close),
        ALLOW(SYS_epoll_wait),
        ALLOW(SYS_epoll_ctl),
        ALLOW(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        die("seccomp");
}

/* One after the other, since printf may allocate. */
static void filtered(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 5};
    int set = epoll_create1(EPOLL_CLOEXEC), rc[8], n = 0;
    char buf[32] = "";

    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    (void)!write(a, "before ", 7);
    wait_unread(b, 7);
    fflush(stdout);
    only_what_is_needed();
    rc[n++] = epoll_wait(set, &event, 1, 1000);
    rc[n++] = (int)read(b, buf, 7);
    rc[n++] = (int)write(a, "and after", 9);
    rc[n++] = epoll_wait(set, &event, 1, 1000);
    rc[n++] = (int)recv(b, buf + 7, 9, MSG_WAITALL);
    rc[n++] = (int)send(b, "answer", 6, MSG_NOSIGNAL);
    rc[n++] = (int)read(a, (char[8]){0}, 6);
    rc[n++] = close(b);
    for (int i = 0; i < n; i++) {
        char line[16] = "  0\n";

        line[2] = rc[i] < 0 ? '-' : (char)('0' + rc[i] % 10);
        (void)!write(1, line, 4);
    }
    (void)!write(1, "  ", 2);
    (void)!write(1, buf, strlen(buf));
    (void)!write(1, "\n", 1);
}

static void in_child(void (*run)(void))
{
    pid_t pid = fork_limited(9);

    if (pid == 0) {
        tcp_pair("4", 0, &a, &b);
        settle_pair(a, b);
        until_moved(a, b); /* who withdraws leaves no report */
        run();
        syscall(SYS_exit_group, 0);
    }
    printf("  status %d\n", child_status(pid));
}

static void filter_of_calls(void)
{
    in_child(filtered);
}

static void strictest(void)
{
    char buf[8] = "";

    (void)!write(a, "word", 4);
    wait_unread(b, 4);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    (void)!read(b, buf, 4);
    (void)!write(b, buf, 4);
    (void)!read(a, buf + 4, 4);
    (void)!write(1, "  ", 2);
    (void)!write(1, buf, 8);
    (void)!write(1, "\n", 1);
    syscall(SYS_exit, 0);
}

static void strict_mode(void)
{
    in_child(strictest);
}

/* Programs ask in this way whether there are filters. */
static void asks_for_filters(void)
{
    said("null", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
    said("by number", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL));
    said("mode", prctl(PR_GET_SECCOMP));
    talk("still here", a, b);
}

static void another_network(void)
{
    int old;

    said("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNET));
    talk("old connection", a, b);
    old = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    said("socket", old < 0 ? -1 : 0);
    close(b);
    said("the end", read(a, &(char){0}, 1));
}

/* By the descriptor of one; who may not gets an error, and goes on. */
static void joins_a_network(void)
{
    int pipes[2], there;
    char path[64];
    pid_t pid;

    if (pipe(pipes) < 0)
        die("pipe");
    pid = fork_limited(5);
    if (pid == 0) {
        (void)!unshare(CLONE_NEWNET);
        (void)!write(pipes[1], "x", 1);
        sleep_ms(5000);
        _exit(0);
    }
    (void)!read(pipes[0], path, 1);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
    there = open(path, O_RDONLY | O_CLOEXEC);
    tcp_pair("4", 0, &a, &b);
    settle_pair(a, b);
    until_moved(a, b);
    said("setns", setns(there, CLONE_NEWNET));
    talk("old connection", a, b);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    shutdown(a, SHUT_WR);
    said("the end", read(b, path, 1));
}

static void own_users(void)
{
    int c, d;

    said("unshare", unshare(CLONE_NEWUSER));
    talk("old connection", a, b);
    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    talk("a new one", c, d);
}

static void own_descriptors(void)
{
    said("unshare", unshare(CLONE_FILES));
    talk("alone", a, b);
}

/* The same by another name. */
static void own_descriptors_by_range(void)
{
    said("close_range", close_range((unsigned)b + 1, ~0u, CLOSE_RANGE_UNSHARE));
    talk("alone", a, b);
    said("close", close(b));
    wait_events(a, POLLRDHUP);
    show_events("a", a);
}

/* Of a thread: what it closes, and opens, is its own. */
static void *closes_its_own(void *arg)
{
    int flags = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;

    said("marks", close_range((unsigned)b, (unsigned)b, flags));
    said("of its own", fcntl(b, F_GETFD));
    said("closes", close_range((unsigned)a, (unsigned)b, CLOSE_RANGE_UNSHARE));
    said("closed", fcntl(a, F_GETFD));
    return arg;
}

static void descriptors_of_a_thread(void)
{
    pthread_t thread;

    fcntl(b, F_SETFD, 0);
    pthread_create(&thread, NULL, closes_its_own, NULL);
    pthread_join(thread, NULL);
    said("of all", fcntl(b, F_GETFD));
    talk("here", a, b);
    said("close", close(b));
    wait_events(a, POLLRDHUP);
    show_events("a", a);
}

/* A child on our table of descriptors, in memory of its own. */
static int opens[2], tells[2];

static void writes_by_number(int *fds)
{
    if (read(tells[0], fds, sizeof(int)) != sizeof(int) ||
        write(*fds, "word", 4) != 4)
        _exit(9);
}

static int uses_our_table(void *arg)
{
    int fds[2];

    tcp_pair("4", 0, &fds[0], &fds[1]);
    settle_pair(fds[0], fds[1]);
    (void)!write(fds[0], "word", 4);
    (void)!write(opens[1], fds, sizeof(fds));
    writes_by_number(fds);
    return arg != NULL;
}

static void reads_word(const char *what, int fd)
{
    char word[8] = "";

    said(what, recv(fd, word, 4, MSG_WAITALL));
    printf("  %s\n", word);
}

static void shares_table(bool by_number)
{
    static char stack[262144] __attribute__((aligned(16)));
    int fds[2];
    pid_t pid;

    if (pipe(opens) < 0 || pipe(tells) < 0)
        die("pipe");
    fflush(stdout);
    if (by_number)
        pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    else
        pid = clone(uses_our_table, stack + sizeof(stack),
                    CLONE_FILES | SIGCHLD, NULL);
    if (pid == 0)
        _exit(uses_our_table(NULL));
    said("numbers", read(opens[0], fds, sizeof(fds)));
    reads_word("of the child", fds[1]);
    talk("by the child's numbers", fds[0], fds[1]);
    talk("by ours", a, b);
    tcp_pair("4", 0, &fds[0], &fds[1]);
    settle_pair(fds[0], fds[1]);
    (void)!write(tells[1], fds, sizeof(int));
    reads_word("by the child", fds[1]);
    said("child", child_status(pid));
    said("unshare", unshare(CLONE_FILES));
    talk("alone", a, b);
}

static void shares_descriptors(void)
{
    shares_table(false);
}

static void shares_descriptors_by_number(void)
{
    shares_table(true);
}

/* Neither a range nor flags: nothing is closed. */
static void odd_ranges(void)
{
    said("flags",
         close_range((unsigned)b, (unsigned)b, 8 | CLOSE_RANGE_UNSHARE));
    said("order",
         close_range((unsigned)b, (unsigned)b - 1, CLOSE_RANGE_UNSHARE));
    talk("here", a, b);
}

static pthread_barrier_t at_once;

static void *unshares(void *arg)
{
    (void)arg;
    pthread_barrier_wait(&at_once);
    return (void *)(intptr_t)unshare(CLONE_FILES);
}

static void threads_at_once(void)
{
    enum { THREADS = 8 };
    pthread_t thread[THREADS];

    pthread_barrier_init(&at_once, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        thread[i] = run_thread(unshares, NULL);
    for (int i = 0; i < THREADS; i++)
        said("unshare", (ssize_t)(intptr_t)end_of(thread[i]));
    talk("after all of them", a, b);
}

static void harmless_namespaces(void)
{
    said("unshare", unshare(CLONE_FS | CLONE_SYSVSEM));
    said("no such flag", unshare(0x40));
    said("setns", setns(a, 0));
    talk("still here", a, b);
}

struct ring {
    int fd;
    struct io_uring_params p;
    char *sq, *cq;
    struct io_uring_sqe *sqes;
};

static unsigned *at(char *base, unsigned off)
{
    return (unsigned *)(base + off);
}

static int ring_call(struct ring *r, int op, int fd, void *buf, unsigned len)
{
    struct io_uring_cqe *cqes =
        (struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes);
    unsigned head = *at(r->cq, r->p.cq_off.head);
    unsigned tail = *at(r->sq, r->p.sq_off.tail);
    int rc;

    memset(&r->sqes[0], 0, sizeof(r->sqes[0]));
    r->sqes[0].opcode = (uint8_t)op;
    r->sqes[0].fd = fd;
    r->sqes[0].addr = (uintptr_t)buf;
    r->sqes[0].len = len;
    at(r->sq, r->p.sq_off.array)[tail & (r->p.sq_entries - 1)] = 0;
    __atomic_store_n(at(r->sq, r->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL,
                0) < 0)
        return -1;
    rc = cqes[head & (r->p.cq_entries - 1)].res;
    __atomic_store_n(at(r->cq, r->p.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return rc;
}

static void ring_in_the_kernel(void)
{
    struct ring r = {0};
    char in[16] = "";

    said("not a ring", syscall(SYS_io_uring_setup, 0, NULL));
    talk("no ring yet", a, b);
    r.fd = (int)syscall(SYS_io_uring_setup, 4, &r.p);
    if (r.fd < 0) {
        printf("  no rings here\n");
        return;
    }
    r.sq = mmap(NULL, r.p.sq_off.array + r.p.sq_entries * 4,
                PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, IORING_OFF_SQ_RING);
    r.cq = mmap(NULL, r.p.cq_off.cqes + r.p.cq_entries * 16,
                PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, IORING_OFF_CQ_RING);
    r.sqes = mmap(NULL, r.p.sq_entries * sizeof(*r.sqes),
                  PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, IORING_OFF_SQES);
    said("ring sends", ring_call(&r, IORING_OP_SEND, a, "by a ring", 9));
    said("ring receives", ring_call(&r, IORING_OP_RECV, b, in, 9));
    printf("  %s\n", in);
    talk("afterwards", a, b);
}

static void *last_thread(void *fd)
{
    sleep_ms(60);
    (void)!write(*(int *)fd, "last few words", 14);
    return NULL;
}

/* The process ends when its last thread does, and not with a reset. */
static void main_thread_leaves(void)
{
    static uint16_t port;
    static int c;
    int listener = tcp_listen("4", &port), d;
    char buf[32] = "";
    pthread_t thread;
    pid_t pid = fork_limited(9);

    if (pid == 0) {
        c = tcp_connect("4", port);
        until_moved(c, -1);
        pthread_create(&thread, NULL, last_thread, &c);
        pthread_exit(NULL);
    }
    d = accept(listener, NULL, NULL);
    echo_words(d, buf);
    said("read", recv(d, buf + 4, 10, MSG_WAITALL));
    printf("  %s\n", buf);
    said("the end", read(d, buf, 1));
    printf("  status %d\n", child_status(pid));
}

static const struct test_case cases[] = {
    {"main_thread_leaves", main_thread_leaves, GOES_UP},
    {"filter_of_calls", filter_of_calls, GOES_UP},
    {"strict_mode", strict_mode, GOES_UP},
    {"asks_for_filters", asks_for_filters, STAYS},
    {"another_network", another_network, RETURNS},
    {"joins_a_network", joins_a_network, RETURNS},
    {"own_users", own_users, RETURNS},
    {"own_descriptors", own_descriptors, RETURNS},
    {"own_descriptors_by_range", own_descriptors_by_range, RETURNS},
    {"descriptors_of_a_thread", descriptors_of_a_thread, RETURNS},
    {"shares_descriptors", shares_descriptors, RETURNS},
    {"shares_descriptors_by_number", shares_descriptors_by_number, RETURNS},
    {"odd_ranges", odd_ranges, STAYS},
    {"threads_at_once", threads_at_once, RETURNS},
    {"harmless_namespaces", harmless_namespaces, STAYS},
    {"ring_in_the_kernel", ring_in_the_kernel, RETURNS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
