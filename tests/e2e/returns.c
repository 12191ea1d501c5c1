/*
 * usage: returns [CASE]
 *
 * Calls that only the kernel can serve, made of a stream that has left TCP:
 * what they do and say, and that the stream works on afterwards.
 */
#include <aio.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wordexp.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

static volatile sig_atomic_t signals_seen;

static void received(const char *what, int fd, size_t n)
{
    char buf[64] = "";

    if (recv(fd, buf, n, MSG_WAITALL) != (ssize_t)n)
        die("%s", what);
    printf("  %s: %s\n", what, buf);
}

static void urgent_byte(void)
{
    char c = '-';

    said("send", send(a, "abc", 3, MSG_OOB));
    wait_events(b, POLLPRI);
    said("at mark", sockatmark(b));
    said("recv", recv(b, &c, 1, MSG_OOB));
    printf("  %c\n", c);
    received("before it", b, 2);
    said("at mark", sockatmark(b));
    talk("afterwards", a, b);
}

static void urgent_byte_in_line(void)
{
    int on = 1;

    said("option", setsockopt(b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
    said("send", send(a, "abc", 3, MSG_OOB));
    sleep_ms(10);
    received("up to it", b, 2);
    said("at mark", sockatmark(b));
    received("it", b, 1);
    talk("afterwards", a, b);
}

/* Nobody has sent any, and both ends only ask. */
static void no_urgent_byte(void)
{
    said("recv", recv(b, &(char){0}, 1, MSG_OOB));
    talk("afterwards", a, b);
}

static void on_signal(int number)
{
    (void)number;
    signals_seen++;
}

static void asynchronous(void)
{
    signal(SIGIO, on_signal);
    said("owner", fcntl(b, F_SETOWN, getpid()));
    said("flags", fcntl(b, F_SETFL, O_ASYNC));
    said("write", write(a, "signal", 6));
    for (int i = 0; i < 200 && signals_seen == 0; i++)
        sleep_ms(5);
    printf("  %s\n", signals_seen > 0 ? "a signal" : "NO SIGNAL");
    received("read", b, 6);
    said("flags", fcntl(b, F_SETFL, 0));
    talk("afterwards", a, b);
}

static void asynchronous_by_ioctl(void)
{
    int on = 1, pid = getpid();

    signal(SIGIO, on_signal);
    said("owner", ioctl(b, FIOSETOWN, &pid));
    said("FIOASYNC", ioctl(b, FIOASYNC, &on));
    said("write", write(a, "signal", 6));
    for (int i = 0; i < 200 && signals_seen == 0; i++)
        sleep_ms(5);
    printf("  %s\n", signals_seen > 0 ? "a signal" : "NO SIGNAL");
    received("read", b, 6);
    talk("afterwards", a, b);
}

static void *reads_one(void *fd)
{
    ssize_t rc = recv(*(int *)fd, &(char){0}, 1, 0);

    return rc < 0 && errno == EINTR ? fd : NULL;
}

struct shot {
    pthread_t at;
    unsigned after_us;
    atomic_bool now;
};

static void *shoots(void *arg)
{
    struct shot *shot = arg;
    uint64_t until;

    while (!atomic_load(&shot->now))
        ;
    until = now_us() + shot->after_us;
    while (now_us() < until)
        ;
    pthread_kill(shot->at, SIGUSR1);
    return NULL;
}

/* True: the signal ended the call of the one that reads c. */
static bool shot_as_it_returns(int *c, int d, unsigned after_us)
{
    struct shot shot = {.at = start_asleep(reads_one, c), .after_us = after_us};
    pthread_t shooter = run_thread(shoots, &shot);
    uint64_t until;
    void *by_signal;
    int on = 1, rc;

    sleep_ms(1);
    atomic_store(&shot.now, true);
    setsockopt(d, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
    end_of(shooter);
    until = now_ms() + 2000;
    while ((rc = pthread_tryjoin_np(shot.at, &by_signal)) == EBUSY &&
           now_ms() < until)
        sleep_ms(1);
    return rc == 0 && by_signal != NULL;
}

/* The end that reads is woken for nothing, in the moment of the signal. */
static void signal_as_it_returns(void)
{
    enum { PAIRS = 12, STEP_US = 25 };
    struct sigaction action = {.sa_handler = on_signal};
    int c[PAIRS], d[PAIRS], n = 0;

    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < PAIRS; i++)
        tcp_pair("4", 0, &c[i], &d[i]);
    for (int i = 0; i < PAIRS; i++)
        settle_pair(c[i], d[i]);
    while (n < PAIRS && shot_as_it_returns(&c[n], d[n], (unsigned)n * STEP_US))
        n++;
    printf("  %d interrupted\n", n);
}

static void low_water(void)
{
    int least = 10;
    struct pollfd p = {b, POLLIN, 0};

    said("RCVLOWAT", setsockopt(b, SOL_SOCKET, SO_RCVLOWAT, &least, 4));
    said("write", write(a, "12345", 5));
    said("too few", poll(&p, 1, 30));
    said("write", write(a, "67890", 5));
    said("enough", poll(&p, 1, 1000));
    received("read", b, 10);
    talk("a word of ten", a, b);
}

/* A filter of packets would have taken our records, too. */
static void socket_filter(void)
{
    struct sock_filter all = {BPF_RET | BPF_K, 0, 0, 0xffffffff};
    struct sock_fprog program = {1, &all};

    said("filter", setsockopt(b, SOL_SOCKET, SO_ATTACH_FILTER, &program,
                              sizeof(program)));
    talk("filtered", a, b);
}

static void options_unheard_of(void)
{
    int on = 1;

    said("SO_MAX_PACING_RATE", setsockopt(a, SOL_SOCKET, SO_MAX_PACING_RATE,
                                          &(int){100000000}, sizeof(int)));
    talk("paced", a, b);
    said("number 9999", setsockopt(b, SOL_SOCKET, 9999, &on, sizeof(on)));
    said("of TCP", setsockopt(b, IPPROTO_TCP, 9999, &on, sizeof(on)));
    talk("afterwards", a, b);
}

static void zero_copy_receive(void)
{
    struct tcp_zerocopy_receive ask = {0};
    socklen_t len = sizeof(ask);

    said("write", write(a, "not a page", 10));
    wait_unread(b, 10);
    said("zero copy",
         getsockopt(b, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &ask, &len));
    received("read", b, 10);
    talk("afterwards", a, b);
}

static void time_stamps(void)
{
    int on = 1;

    said("option", setsockopt(b, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)));
    talk("stamped", a, b);
    said("ioctl", ioctl(b, 0x8906, (char[16]){0}) < 0 ? -1 : 0);
}

static void flags_unheard_of(void)
{
    said("send", send(a, "fast open", 9, MSG_FASTOPEN | MSG_NOSIGNAL));
    said("send", send(a, "abc", 3, 0x1000000));
    received("read", b, 3);
    said("errors", recv(b, &(char){0}, 1, MSG_ERRQUEUE));
    talk("afterwards", a, b);
}

static void splices(void)
{
    int pipes[2];

    if (pipe(pipes) < 0)
        die("pipe");
    said("tee", tee(b, pipes[1], 10, 0));
    said("vmsplice", vmsplice(b, &(struct iovec){"x", 1}, 1, 0));
    said("copy", copy_file_range(b, NULL, a, NULL, 10, 0));
    said("write", write(a, "through a pipe", 14));
    said("in", splice(b, NULL, pipes[1], NULL, 100, 0));
    said("out", splice(pipes[0], NULL, b, NULL, 100, 0));
    received("read", a, 14);
    said("sendfile", sendfile(a, pipes[0], NULL, 0));
    talk("afterwards", a, b);
}

static void wait_for_aio(const char *what, struct aiocb *cb)
{
    const struct aiocb *list[] = {cb};

    while (aio_error(cb) == EINPROGRESS)
        aio_suspend(list, 1, NULL);
    errno = aio_error(cb);
    said(what, aio_return(cb));
}

static void asynchronous_io(void)
{
    char text[] = "by a thread", in[16] = "";
    struct aiocb out = {.aio_fildes = a, .aio_buf = text, .aio_nbytes = 11};
    struct aiocb back = {.aio_fildes = b, .aio_buf = in, .aio_nbytes = 11};

    said("aio_write", aio_write(&out));
    wait_for_aio("written", &out);
    said("aio_read", aio_read(&back));
    wait_for_aio("read", &back);
    printf("  %s\n", in);
    talk("afterwards", a, b);
}

static void list_of_io(void)
{
    char text[] = "of a list", in[16] = "";
    struct aiocb out = {.aio_fildes = a,
                        .aio_buf = text,
                        .aio_nbytes = 9,
                        .aio_lio_opcode = LIO_WRITE};
    struct aiocb back = {.aio_fildes = b,
                         .aio_buf = in,
                         .aio_nbytes = 9,
                         .aio_lio_opcode = LIO_READ};
    struct aiocb *list[] = {&out, NULL, &back};

    said("lio_listio", lio_listio(LIO_WAIT, list, 3, NULL));
    printf("  %s\n", in);
    talk("afterwards", a, b);
}

static void back_trace(void)
{
    void *frames[1] = {NULL};
    char buf[16];

    backtrace_symbols_fd(frames, 1, a);
    said("read", recv(b, buf, sizeof(buf), 0) > 0 ? 1 : -1);
    talk("afterwards", a, b);
}

static void shell_words(void)
{
    wordexp_t words;

    said("wordexp", wordexp("$(echo two words)", &words, 0));
    printf("  %zu %s\n", words.we_wordc, words.we_wordv[0]);
    talk("afterwards", a, b);
}

static void image_by_descriptor(void)
{
    int file = open("/bin/echo", O_PATH | O_CLOEXEC), status;
    pid_t pid = fork_limited(5);
    char *argv[] = {"echo", "  from the new image", NULL}, *envp[] = {NULL};

    if (pid == 0) {
        execveat(file, "", argv, envp, AT_EMPTY_PATH);
        _exit(1);
    }
    waitpid(pid, &status, 0);
    said("status", status);
    said("not there", execveat(AT_FDCWD, "/nowhere", argv, envp, 0));
    talk("afterwards", a, b);
}

/* ---- lists of arguments ---- */

enum { LITTLE_STACK = 16384 };

static void execs_list(int kind)
{
    static char *const none[] = {NULL};

    if (kind == 0)
        execl("/bin/true", "true", (char *)NULL);
    else if (kind == 1)
        execlp("true", "true", (char *)NULL);
    else
        execle("/bin/true", "true", (char *)NULL, none);
    _exit(9);
}

static volatile sig_atomic_t exec_kind;

static void on_signal_exec(int number)
{
    (void)number;
    execs_list(exec_kind);
}

/* On a stack of its own, of little size, with nothing beyond it. */
static void list_on_a_little_stack(void)
{
    char *at = mmap(NULL, 65536 + LITTLE_STACK, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = {.ss_sp = at + 65536, .ss_size = LITTLE_STACK};
    struct sigaction action = {.sa_handler = on_signal_exec,
                               .sa_flags = SA_ONSTACK};

    mprotect(stack.ss_sp, LITTLE_STACK, PROT_READ | PROT_WRITE);
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (exec_kind = 0; exec_kind < 3; exec_kind++) {
        pid_t pid = fork_limited(5);
        int status;

        if (pid == 0) {
            raise(SIGUSR1);
            _exit(8);
        }
        waitpid(pid, &status, 0);
        printf("  status %x\n", (unsigned)status);
    }
    talk("afterwards", a, b);
}

#define TEN(x)      x, x, x, x, x, x, x, x, x, x
#define THOUSAND(x) TEN(TEN(TEN(x)))
#define MANY(x)     THOUSAND(x), THOUSAND(x), THOUSAND(x), THOUSAND(x), THOUSAND(x)

/* 5,001 arguments; the last one and the environment tell of themselves. */
static void list_of_many(void)
{
    static const char tell[] =
        "echo \"  $# ${HERE:-nowhere}\"; shift $(($# - 1)); echo \"  $1\"";
    static char here[] = "HERE=in the environment", *const with[] = {here,
                                                                     NULL};

    for (int kind = 0; kind < 3; kind++) {
        pid_t pid;

        fflush(stdout);
        pid = fork_limited(5);
        if (pid == 0) {
            if (kind == 0)
                execl("/bin/sh", "sh", "-c", tell, "sh", MANY("x"), "last",
                      (char *)NULL);
            else if (kind == 1)
                execlp("sh", "sh", "-c", tell, "sh", MANY("x"), "last",
                       (char *)NULL);
            else
                execle("/bin/sh", "sh", "-c", tell, "sh", MANY("x"), "last",
                       (char *)NULL, with);
            die("exec");
        }
        said("status", child_status(pid));
    }
    said("not there", execl("/nowhere", "sh", (char *)NULL));
    talk("afterwards", a, b);
}

static int cloned(void *word)
{
    alarm(5);
    talk(word, a, b);
    fflush(stdout);
    return 5;
}

static void fork_that_asks_nobody(void)
{
    static char stack[262144] __attribute__((aligned(16)));
    pid_t pid;
    int status;

    fflush(stdout);
    pid = _Fork();
    if (pid == 0) {
        alarm(5);
        talk("the child", a, b);
        fflush(stdout);
        _exit(3);
    }
    waitpid(pid, &status, 0);
    printf("  status %x\n", (unsigned)status);
    talk("the parent", a, b);
    fflush(stdout);
    pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        alarm(5);
        talk("the second child", a, b);
        fflush(stdout);
        _exit(4);
    }
    waitpid(pid, &status, 0);
    printf("  status %x\n", (unsigned)status);
    talk("the parent", a, b);
    fflush(stdout);
    pid = clone(cloned, stack + sizeof(stack), SIGCHLD, "the third child");
    waitpid(pid, &status, 0);
    printf("  status %x\n", (unsigned)status);
    talk("the parent", a, b);
}

/* What comes of it has to work, and go on working when the other is closed. */
static void takes_it_from_itself(void)
{
    int pidfd = pidfd_open(getpid(), 0), again = pidfd_getfd(pidfd, b, 0);

    talk("by the copy", a, again);
    close(b);
    talk("the copy alone", a, again);
    close(again);
    said("the end", recv(a, &(char){0}, 1, 0));
}

/* Who has returned stays on TCP for a while, and then goes up again. */
static void settles_first(void)
{
    const char *settle = getenv("FASTSOCK_SETTLE_MS");
    uint64_t least = settle != NULL ? strtoull(settle, NULL, 10) : 0, start;

    for (int i = 0; i < 2; i++) {
        until_moved(a, b);
        start = now_ms();
        spawn_true();
        until_moved(a, b);
        printf("  %s\n", now_ms() - start >= least ? "in time" : "TOO EARLY");
    }
}

static const struct test_case cases[] = {
    {"urgent_byte", urgent_byte, RETURNS},
    {"urgent_byte_in_line", urgent_byte_in_line, RETURNS},
    {"no_urgent_byte", no_urgent_byte, RETURNS},
    {"asynchronous", asynchronous, RETURNS},
    {"asynchronous_by_ioctl", asynchronous_by_ioctl, RETURNS},
    {"signal_as_it_returns", signal_as_it_returns, RETURNS},
    {"low_water", low_water, RETURNS},
    {"socket_filter", socket_filter, RETURNS},
    {"options_unheard_of", options_unheard_of, RETURNS},
    {"zero_copy_receive", zero_copy_receive, RETURNS},
    {"time_stamps", time_stamps, RETURNS},
    {"flags_unheard_of", flags_unheard_of, RETURNS},
    {"splices", splices, RETURNS},
    {"asynchronous_io", asynchronous_io, RETURNS},
    {"list_of_io", list_of_io, RETURNS},
    {"back_trace", back_trace, RETURNS},
    {"settles_first", settles_first, GOES_UP},
    {"shell_words", shell_words, GOES_UP},
    {"image_by_descriptor", image_by_descriptor, GOES_UP},
    {"list_on_a_little_stack", list_on_a_little_stack, GOES_UP},
    {"list_of_many", list_of_many, GOES_UP},
    {"fork_that_asks_nobody", fork_that_asks_nobody, GOES_UP},
    {"takes_it_from_itself", takes_it_from_itself, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
