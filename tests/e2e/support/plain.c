/*
 * See plain.h.
 */
#include "tests/e2e/support/plain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

_Noreturn void die(const char *format, ...)
{
    int error = errno;
    va_list args;

    fflush(stdout);
    fprintf(stderr, "pid %d: ", (int)getpid());
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, " (errno %s)\n", error_name(error));
    exit(2);
}

/* How many times slower than usual this machine is. */
static unsigned slowness(void)
{
    const char *slow = getenv("SLOW");

    return slow != NULL && atoi(slow) > 0 ? (unsigned)atoi(slow) : 1;
}

void time_limit(unsigned seconds)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(seconds * slowness());
}

void close_inherited(void)
{
    if (close_range(3, ~0U, 0) < 0)
        die("close_range");
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
    return next_random(state) % n;
}

static uint64_t pattern_word(uint64_t seed, uint64_t idx)
{
    uint64_t state = seed * UINT64_C(0x2545f4914f6cdd1d) + idx;

    return next_random(&state);
}

void pattern_fill(uint64_t seed, uint64_t off, void *buf, size_t len)
{
    uint8_t *p = buf;

    for (size_t done = 0; done < len;) {
        uint64_t word = pattern_word(seed, (off + done) / 8);
        unsigned at = (off + done) % 8;
        size_t n = 8 - at;

        if (n > len - done)
            n = len - done;
        memcpy(p + done, (uint8_t *)&word + at, n);
        done += n;
    }
}

ssize_t pattern_check(uint64_t seed, uint64_t off, const void *buf, size_t len)
{
    const uint8_t *p = buf;

    for (size_t done = 0; done < len;) {
        uint64_t word = pattern_word(seed, (off + done) / 8);
        unsigned at = (off + done) % 8;
        size_t n = 8 - at;

        if (n > len - done)
            n = len - done;
        for (size_t i = 0; i < n; i++)
            if (p[done + i] != ((uint8_t *)&word)[at + i])
                return (ssize_t)(done + i);
        done += n;
    }
    return -1;
}

uint64_t bytes_hash(const void *buf, size_t len)
{
    const uint8_t *p = buf;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Loopback, or for family 4 the address of another device of this host. */
static socklen_t address_of(const char *family, bool listens, uint16_t port,
                            struct sockaddr_storage *out)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    static const uint8_t mapped[16] = {
        [10] = 255, [11] = 255, [12] = 127, [15] = 1};

    const char *other = getenv("E2E_ADDRESS");

    memset(out, 0, sizeof(*out));
    if (strcmp(family, "4") == 0) {
        in4->sin_family = AF_INET;
        in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (other != NULL && inet_pton(AF_INET, other, &in4->sin_addr) != 1)
            die("E2E_ADDRESS is %s: expected an IPv4 address", other);
        in4->sin_port = htons(port);
        return sizeof(*in4);
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    if (strcmp(family, "6") == 0)
        in6->sin6_addr = in6addr_loopback;
    else if (!listens)
        memcpy(&in6->sin6_addr, mapped, 16);
    return sizeof(*in6);
}

const char *six_if_here(void)
{
    struct sockaddr_in6 own = {.sin6_family = AF_INET6,
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&own, sizeof(own));

    if (fd >= 0)
        close(fd);
    return rc < 0 ? "4" : "6";
}

static int tcp_socket(const char *family, int flags)
{
    int fd = socket(strcmp(family, "4") == 0 ? AF_INET : AF_INET6,
                    SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

    if (fd < 0)
        die("socket");
    return fd;
}

int tcp_listen(const char *family, uint16_t *port)
{
    struct sockaddr_storage addr;
    socklen_t len = address_of(family, true, *port, &addr);
    int fd = tcp_socket(family, 0), on = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        die("listen");
    len = sizeof(addr);
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        die("getsockname");
    *port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
    return fd;
}

int tcp_connect(const char *family, uint16_t port)
{
    struct sockaddr_storage addr;
    socklen_t len = address_of(family, false, port, &addr);
    int fd = tcp_socket(family, 0);

    if (connect(fd, (struct sockaddr *)&addr, len) < 0)
        die("connect to port %u", port);
    return fd;
}

void tcp_pair(const char *family, int flags, int *client, int *server)
{
    uint16_t port = 0;
    int listener = tcp_listen(family, &port);

    *client = tcp_connect(family, port);
    *server = accept4(listener, NULL, NULL, SOCK_CLOEXEC | flags);
    if (*server < 0)
        die("accept");
    if (flags & SOCK_NONBLOCK)
        make_nonblocking(*client);
    close(listener);
}

void make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        die("O_NONBLOCK");
}

int not_open_below(int number)
{
    while (--number > 0 && fcntl(number, F_GETFD) >= 0) {
    }
    return number;
}

uint64_t kernel_sent(int fd)
{
    enum { FIN_WAIT1 = 4, LAST_ACK = 9, CLOSING = 11 };
    struct tcp_info info;
    socklen_t len = sizeof(info);
    uint64_t unsent;

    memset(&info, 0, sizeof(info));
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    unsent = info.tcpi_notsent_bytes;
    if (unsent > 0 &&
        (info.tcpi_state == FIN_WAIT1 || info.tcpi_state == LAST_ACK ||
         info.tcpi_state == CLOSING))
        unsent--; /* the FIN, which counts as one */
    return info.tcpi_bytes_sent - info.tcpi_bytes_retrans + unsent;
}

int wait_unread(int fd, int n)
{
    uint64_t until = now_ms() + 2000;
    int unread = -1;

    while (ioctl(fd, FIONREAD, &unread) == 0 && unread < n && now_ms() < until)
        usleep(20);
    return unread;
}

void wait_events(int fd, short events)
{
    struct pollfd p = {fd, events, 0};

    poll(&p, 1, 2000);
}

void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}

void time_to_move(void)
{
    const char *patience = getenv("E2E_PATIENCE");

    sleep_ms(25 * (patience != NULL ? (unsigned)atoi(patience) : 1));
}

/* What TCP had to send for a word to the other end and one back. */
static uint64_t words_by_tcp(int fd, int other)
{
    uint64_t before = kernel_sent(fd) + (other < 0 ? 0 : kernel_sent(other));
    char word[4] = "word";

    if (write(fd, word, 4) != 4 ||
        (other >= 0 && (recv(other, word, 4, MSG_WAITALL) != 4 ||
                        write(other, word, 4) != 4)) ||
        recv(fd, word, 4, MSG_WAITALL) != 4)
        die("a word: %s", strerror(errno));
    return kernel_sent(fd) + (other < 0 ? 0 : kernel_sent(other)) - before;
}

void until_moved(int fd, int other)
{
    enum { LIMIT_MS = 6000, EACH_MS = 10, IN_A_ROW = 3 };
    uint64_t until = now_ms() + LIMIT_MS * slowness();

    if (getenv("E2E_PATIENCE") == NULL)
        return;
    for (int quiet = 0; now_ms() < until;) {
        quiet = words_by_tcp(fd, other) == 0 ? quiet + 1 : 0;
        if (quiet == IN_A_ROW)
            return;
        if (quiet == 0)
            sleep_ms(EACH_MS);
    }
    die("it never left TCP");
}

uint64_t now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
    return now_us() / 1000;
}

const char *error_name(int error)
{
    const char *name = error == 0 ? "0" : strerrorname_np(error);

    return name != NULL ? name : "?";
}

pid_t fork_limited(unsigned seconds)
{
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        time_limit(seconds);
    return pid;
}

int child_status(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    if (WIFSIGNALED(status))
        die("child %d was killed by signal %d", (int)pid, WTERMSIG(status));
    return WEXITSTATUS(status);
}

void spawn_true(void)
{
    static char *const argv[] = {"true", NULL};
    pid_t pid;

    if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) != 0)
        die("posix_spawn");
    child_status(pid);
}
