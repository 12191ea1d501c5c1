/*
 * usage: passes [CASE]
 *
 * Calls that touch a descriptor and move no bytes: the kernel answers them as
 * it always does, and the stream stays where it is. And numbers that libc
 * gives back without close().
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <mqueue.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <termios.h>
#include <unistd.h>
#include <utmp.h>

#include "tests/e2e/support/cases.h"

static void *volatile nowhere = (void *)8; /* compilers would see through */

static void of_files(void)
{
    struct stat st;
    struct statx stx;
    struct statfs fs;
    struct statvfs vfs;
    struct flock lock = {.l_type = F_WRLCK};
    char buf[64];
    struct iovec iov = {buf, 1};

    said("fstat", fstat(a, &st));
    printf("  mode %o size %ld\n", (unsigned)st.st_mode, (long)st.st_size);
    said("statx", statx(a, "", AT_EMPTY_PATH, STATX_MODE, &stx));
    said("fstatat", fstatat(a, "", &st, AT_EMPTY_PATH));
    said("fstatfs", fstatfs(a, &fs));
    said("fstatvfs", fstatvfs(a, &vfs));
    said("lseek", lseek(a, 0, SEEK_CUR));
    said("pread", pread(b, buf, 1, 0));
    said("pwrite", pwrite(a, "x", 1, 0));
    said("preadv", preadv(b, &iov, 1, 0));
    said("pwritev", pwritev(a, &iov, 1, 0));
    said("readahead", readahead(a, 0, 1));
    said("ftruncate", ftruncate(a, 0));
    said("fsync", fsync(a));
    said("fdatasync", fdatasync(a));
    said("syncfs", syncfs(a));
    said("sync_file_range", sync_file_range(a, 0, 1, 0));
    errno = posix_fallocate(a, 0, 1);
    said("posix_fallocate", errno ? -1 : 0);
    said("fallocate", fallocate(a, 0, 0, 1));
    errno = posix_fadvise(a, 0, 1, POSIX_FADV_NORMAL);
    said("posix_fadvise", errno ? -1 : 0);
    said("flock", flock(a, LOCK_EX | LOCK_NB));
    said("lockf", lockf(a, F_TEST, 1));
    said("F_GETLK", fcntl(a, F_GETLK, &lock));
    said("fchmod", fchmod(a, 0600));
    said("fchdir", fchdir(a));
    said("fpathconf", fpathconf(a, _PC_PIPE_BUF));
    said("fgetxattr", fgetxattr(a, "user.none", buf, 1));
    said("futimens", futimens(a, NULL));
    said("openat", openat(a, "x", O_RDONLY));
    said("fdopendir", fdopendir(a) == NULL ? -1 : 0);
    said("mmap", mmap(NULL, 4096, PROT_WRITE, MAP_PRIVATE, a, 0) == MAP_FAILED
                     ? -1
                     : 0);
    talk("still here", a, b);
}

static void of_terminals(void)
{
    struct termios t;
    struct winsize w;
    char buf[64];

    said("isatty", isatty(a) ? 0 : -1);
    said("tcgetattr", tcgetattr(a, &t));
    said("TCGETS", ioctl(a, TCGETS, &t));
    said("TIOCGWINSZ", ioctl(a, TIOCGWINSZ, &w));
    said("tcflush", tcflush(a, TCIOFLUSH));
    said("tcgetpgrp", tcgetpgrp(a));
    errno = ttyname_r(a, buf, sizeof(buf));
    said("ttyname_r", errno ? -1 : 0);
    errno = ptsname_r(a, buf, sizeof(buf));
    said("ptsname_r", errno ? -1 : 0);
    talk("still here", a, b);
}

static void of_other_kinds(void)
{
    struct itimerspec when = {{0, 0}, {0, 0}};
    struct mq_attr attr;
    uint64_t n = 1;

    said("inotify", inotify_add_watch(a, "/", IN_CREATE));
    said("timerfd", timerfd_settime(a, 0, &when, NULL));
    said("mq", mq_getattr(a, &attr));
    said("epoll_ctl", epoll_ctl(a, EPOLL_CTL_ADD, b, NULL));
    said("epoll_wait", epoll_wait(a, &(struct epoll_event){0}, 1, 0));
    said("eventfd_write", eventfd_write(a, 0x6565656565656565));
    said("eventfd_read", eventfd_read(b, &n));
    printf("  %llx\n", (unsigned long long)n);
    talk("still here", a, b);
}

static void names(void)
{
    struct sockaddr_storage name, other;
    socklen_t len = sizeof(name), other_len = sizeof(other);
    struct ifreq {
        char name[16], rest[24];
    } ifreq = {.name = "lo"};

    said("getsockname", getsockname(a, (void *)&name, &len));
    said("getpeername", getpeername(b, (void *)&other, &other_len));
    printf("  %s\n", len == other_len && memcmp(&name, &other, len) == 0
                         ? "the same"
                         : "DIFFERENT");
    said("isfdtype", isfdtype(a, S_IFSOCK));
    said("sockatmark", sockatmark(a));
    said("bind", bind(a, (void *)&name, len));
    said("connect", connect(a, (void *)&name, len));
    said("connect", connect(a, nowhere, len));
    said("connect", connect(a, NULL, len));
    said("listen", listen(a, 1));
    said("SIOCGIFINDEX", ioctl(a, 0x8933, &ifreq) < 0 ? -1 : 0);
    said("F_GETOWN", fcntl(a, F_GETOWN));
    said("F_GETFL", fcntl(a, F_GETFL));
    said("FIOCLEX", ioctl(a, FIOCLEX));
    talk("still here", a, b);
}

static const struct {
    const char *name;
    int level, option, value;
} kept[] = {
    {"keepalive", SOL_SOCKET, SO_KEEPALIVE, 1},
    {"send buffer", SOL_SOCKET, SO_SNDBUF, 100000},
    {"receive buffer", SOL_SOCKET, SO_RCVBUF, 120000},
    {"low water", SOL_SOCKET, SO_RCVLOWAT, 1},
    {"priority", SOL_SOCKET, SO_PRIORITY, 3},
    {"urgent in line", SOL_SOCKET, SO_OOBINLINE, 0},
    {"reuse", SOL_SOCKET, SO_REUSEADDR, 1},
    {"no delay", IPPROTO_TCP, TCP_NODELAY, 1},
    {"cork", IPPROTO_TCP, TCP_CORK, 1},
    {"cork", IPPROTO_TCP, TCP_CORK, 0},
    {"idle", IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {"interval", IPPROTO_TCP, TCP_KEEPINTVL, 7},
    {"count", IPPROTO_TCP, TCP_KEEPCNT, 5},
    {"user time-out", IPPROTO_TCP, TCP_USER_TIMEOUT, 30000},
    {"not sent", IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384},
    {"tos", IPPROTO_IP, IP_TOS, 16},
    {"ttl", IPPROTO_IP, IP_TTL, 33},
};

static void options(void)
{
    struct timeval t = {3, 500000}, back;
    socklen_t len = sizeof(back);

    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        int value = -1;

        len = sizeof(value);
        said(kept[i].name, setsockopt(a, kept[i].level, kept[i].option,
                                      &kept[i].value, sizeof(int)));
        getsockopt(a, kept[i].level, kept[i].option, &value, &len);
        printf("  is %d (%u)\n", value, len);
    }
    for (int which = SO_RCVTIMEO; which <= SO_SNDTIMEO; which++) {
        said("time-out", setsockopt(a, SOL_SOCKET, which, &t, sizeof(t)));
        len = sizeof(back);
        getsockopt(a, SOL_SOCKET, which, &back, &len);
        printf("  is %ld %ld\n", (long)back.tv_sec, (long)back.tv_usec);
    }
    said("bad level", setsockopt(a, 12345, 1, &len, sizeof(len)));
    said("bad pointer", setsockopt(a, SOL_SOCKET, SO_LINGER, (void *)8, 8));
    said("bad pointer", getsockopt(a, SOL_SOCKET, SO_LINGER, (void *)8, &len));
    said("bad length", getsockopt(a, SOL_SOCKET, SO_ERROR, &len, (void *)8));
    said("FIONREAD", ioctl(a, FIONREAD, (void *)8));
    talk("still here", a, b);
}

/*
 * Who gets the number next is not taken for the socket that had it. The helper
 * may have it for a moment, so it is not always the first that is given out.
 */
static void is_new(const char *what, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int pipes[2], set;

    if (pipe(pipes) < 0)
        die("pipe");
    if (pipes[1] == fd)
        pipes[1] = dup(fd);
    if (pipes[0] != fd) {
        dup2(pipes[0], fd);
        close(pipes[0]);
    }
    set = epoll_create1(EPOLL_CLOEXEC);
    said(what, epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    (void)!write(pipes[1], "x", 1);
    said("ready", epoll_wait(set, &event, 1, 1000));
    said("read", read(fd, &(char){0}, 1));
    close(set);
    close(fd);
    close(pipes[1]);
}

static void closed_by_stdio(void)
{
    int again = dup(b), number = b;
    FILE *file = fdopen(b, "r+");

    (void)!write(a, "line\n", 5);
    printf("  %s", fgets((char[16]){0}, 16, file));
    said("fclose", fclose(file));
    talk("the other one", a, again);
    is_new("the number", number);
    file = fdopen(again, "r+");
    said("freopen", freopen("/dev/null", "r", file) == NULL ? -1 : 0);
    said("the end", read(a, &(char){0}, 1));
    printf("  %s\n", fgetc(file) == EOF ? "empty" : "SOMETHING");
    fclose(file);
}

static void standard_ones(void)
{
    int out = dup(1), master, slave;
    char buf[8] = "";

    fflush(stdout);
    dup2(b, 0);
    talk("as 0", a, 0);
    if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
        die("openpty");
    fflush(stdout);
    said("login_tty", login_tty(slave));
    fflush(stdout);
    (void)!write(master, "typed\n", 6);
    dup2(out, 1);
    said("from the terminal", read(0, buf, sizeof(buf)));
    talk("the first one", a, b);
}

/* stdio reads them past every name, whichever call gave the number. */
static void standard_from_the_start(void)
{
    for (int accepts = 0; accepts < 2; accepts++) {
        uint16_t port = 0;
        int listener = tcp_listen("4", &port), other = -1;
        char line[16] = "";

        if (accepts)
            other = tcp_connect("4", port);
        close(0);
        if (accepts) {
            said("accept", accept(listener, NULL, NULL));
        } else {
            said("socket", tcp_connect("4", port));
            other = accept(listener, NULL, NULL);
        }
        settle_pair(0, other);
        said("write", write(other, "line\n", 5));
        printf("  %s", fgets(line, sizeof(line), stdin));
        talk("both ways", other, 0);
        close(other);
        close(listener);
        said("the end", fgets(line, sizeof(line), stdin) == NULL ? 0 : -1);
        clearerr(stdin);
    }
}

static int open_kind(int kind)
{
    sigset_t none;

    sigemptyset(&none);
    return kind == 0   ? open("/dev/null", O_RDWR)
           : kind == 1 ? openat(AT_FDCWD, "/dev/null", O_RDWR)
           : kind == 2 ? creat("/dev/null", 0600)
           : kind == 3 ? memfd_create("x", 0)
           : kind == 4 ? eventfd(0, 0)
           : kind == 5 ? signalfd(-1, &none, 0)
           : kind == 6 ? timerfd_create(CLOCK_MONOTONIC, 0)
           : kind == 7 ? inotify_init1(0)
           : kind == 8 ? socket(AF_UNIX, SOCK_DGRAM, 0)
                       : epoll_create1(0);
}

/*
 * Closed by number, past every name but syscall(). At that very moment the
 * helper may have the number for a moment: then once more.
 */
static void closed_by_number(void)
{
    static const char *const kinds[] = {
        "open",     "openat",  "creat",         "memfd",  "eventfd",
        "signalfd", "timerfd", "inotify_init1", "socket", "epoll",
    };

    for (int i = 0, tries = 0; i < 10; i++) {
        int c, d, filler, fd;
        char byte = 'x';

        tcp_pair("4", 0, &c, &d);
        filler = open("/dev/null", O_RDONLY); /* where it listened */
        settle_pair(c, d);
        syscall(SYS_close, d);
        fd = open_kind(i);
        if (fd == d || ++tries > 10) {
            printf("  %s: %s\n", kinds[i], fd == d ? "that number" : "another");
            said("write", write(fd, &byte, 1));
            said("the end", read(c, &byte, 1));
        } else {
            i--;
        }
        close(fd);
        close(filler);
        close(c);
    }
}

/* Nothing becomes of a dup2 onto a number that is no longer allowed. */
static void beyond_the_limit(void)
{
    struct rlimit before, less;
    int low = open("/dev/null", O_RDONLY), high = dup2(a, 300);

    close(a);
    getrlimit(RLIMIT_NOFILE, &before);
    less = before;
    less.rlim_cur = 300;
    setrlimit(RLIMIT_NOFILE, &less);
    said("dup2", dup2(low, high));
    said("dup3", dup3(low, high, O_CLOEXEC));
    said("no such", dup2(299, high));
    setrlimit(RLIMIT_NOFILE, &before);
    talk("still here", high, b);
    said("dup2", dup2(low, high) == high ? 0 : -1);
    said("b", read(b, &(char){0}, 1));
}

/* Whatever of the library's own lies in a range stays, and works. */
static void ranges_around_it(void)
{
    int c, d, low;

    said("all above", close_range((unsigned)b + 1, ~0u, 0));
    talk("still here", a, b);
    said("a billion more", close_range((unsigned)b + 1, 1000000000, 0));
    tcp_pair("4", SOCK_CLOEXEC, &c, &d);
    settle_pair(c, d);
    talk("a new one", c, d);
    low = dup2(d, 20);
    closefrom(21);
    close(d);
    talk("at 20", c, low);
    said("to be closed by exec", close_range(3, ~0u, CLOSE_RANGE_CLOEXEC));
    printf("  %d\n", fcntl(low, F_GETFD));
    talk("not yet", c, low);
    said("no such range", close_range(9, 8, 0));
    said("no such flag", close_range(3, 200, 0x100));
    said("all", close_range(3, ~0u, 0));
    said("a", write(a, "x", 1));
    said("20", read(low, &(char){0}, 1));
}

/* The other end, in another process, is told all and then the end. */
static void range_of_all(void)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port), d;
    char buf[16] = "";
    pid_t pid = fork_limited(9);

    if (pid == 0) {
        int c = tcp_connect("4", port);

        until_moved(c, -1);
        (void)!write(c, "last words", 10);
        close_range(3, ~0u, 0);
        sleep_ms(100);
        _exit(0);
    }
    d = accept(listener, NULL, NULL);
    echo_words(d, buf);
    said("read", recv(d, buf + 4, 6, MSG_WAITALL));
    printf("  %s\n", buf);
    said("the end", read(d, buf, 1));
    said("child", child_status(pid));
}

/* Sockets that libc makes for itself, and gives back. */
static void of_libc_itself(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    struct ifaddrs *addresses;
    struct if_nameindex *list;
    char name[64];
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    said("getaddrinfo", getaddrinfo("127.0.0.1", "80", &hints, &found));
    freeaddrinfo(found);
    said("getnameinfo", getnameinfo((void *)&at, sizeof(at), name, sizeof(name),
                                    NULL, 0, NI_NUMERICHOST));
    printf("  %s\n", name);
    said("getaddrinfo", getaddrinfo("localhost", NULL, &hints, &found));
    freeaddrinfo(found);
    said("gethostbyname", gethostbyname("localhost") != NULL ? 0 : -1);
    said("getifaddrs", getifaddrs(&addresses));
    freeifaddrs(addresses);
    said("if_nametoindex", if_nametoindex("lo") > 0 ? 0 : -1);
    list = if_nameindex();
    said("if_nameindex", list != NULL ? 0 : -1);
    if_freenameindex(list);
    openlog("passes", LOG_NDELAY, LOG_USER);
    syslog(LOG_DEBUG, "nothing to be done");
    closelog();
    talk("still here", a, b);
}

static const struct test_case cases[] = {
    {"of_files", of_files, STAYS},
    {"of_terminals", of_terminals, STAYS},
    {"of_other_kinds", of_other_kinds, STAYS},
    {"names", names, STAYS},
    {"options", options, STAYS},
    {"ranges_around_it", ranges_around_it, STAYS},
    {"range_of_all", range_of_all, GOES_UP},
    {"of_libc_itself", of_libc_itself, STAYS},
    {"closed_by_stdio", closed_by_stdio, RETURNS},
    {"standard_ones", standard_ones, RETURNS},
    {"standard_from_the_start", standard_from_the_start, STAYS},
    {"closed_by_number", closed_by_number, GOES_UP},
    {"beyond_the_limit", beyond_the_limit, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
