/*
 * usage: transfers [CASE]
 *
 * Bytes in and out as man 2 recv and man 2 send have them: each MSG_ flag,
 * each odd length and vector, and addresses that lead nowhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

static volatile sig_atomic_t pipes_seen;
static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

/* What compilers would see through. */
static void *volatile nowhere, *volatile far = (void *)-1;
static volatile int minus_one = -1;
static volatile size_t all_ones = SIZE_MAX, negative = (size_t)SSIZE_MAX + 1,
                       large = INT_MAX, larger = (size_t)1 << 40;

static void put(int fd, size_t n)
{
    if (write(fd, letters, n) != (ssize_t)n)
        die("write %zu", n);
}

static void got(const char *what, ssize_t rc, const char *bytes)
{
    int error = errno;

    printf("  %s: %zd %.*s%s\n", what, rc, rc > 0 ? (int)rc : 0, bytes,
           rc < 0 ? error_name(error) : "");
}

struct later {
    int fd;
    size_t n;
    bool end;
    pthread_t wake, thread;
};

static void *write_later(void *arg)
{
    struct later *l = arg;

    until_asleep(getpid());
    if (l->n > 0)
        put(l->fd, l->n);
    if (l->end)
        shutdown(l->fd, SHUT_WR);
    if (l->wake != 0)
        pthread_kill(l->wake, SIGUSR1);
    return NULL;
}

static void in_a_while(struct later *l)
{
    if (pthread_create(&l->thread, NULL, write_later, l) != 0)
        die("pthread_create");
}

static void peeks(void)
{
    char buf[64] = "";

    got("nothing", recv(b, buf, 8, MSG_PEEK | MSG_DONTWAIT), buf);
    put(a, 20);
    wait_unread(b, 20);
    got("peek", recv(b, buf, 8, MSG_PEEK), buf);
    got("peek more", recv(b, buf, 64, MSG_PEEK), buf);
    got("peek 0", recv(b, buf, 0, MSG_PEEK), buf);
    got("read", read(b, buf, 8), buf);
    got("peek", recv(b, buf, 64, MSG_PEEK | MSG_DONTWAIT), buf);
    got("read", read(b, buf, 64), buf);
    got("nothing", recv(b, buf, 8, MSG_PEEK | MSG_DONTWAIT), buf);
    shutdown(a, SHUT_WR);
    got("the end", recv(b, buf, 8, MSG_PEEK), buf);
    got("the end", recv(b, buf, 8, 0), buf);
}

static void peek_waits_for_all(void)
{
    struct later l = {.fd = a, .n = 10};
    char buf[64] = "";

    put(a, 5);
    wait_unread(b, 5);
    in_a_while(&l);
    got("both", recv(b, buf, 15, MSG_PEEK | MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
    got("dont wait", recv(b, buf, 64, MSG_PEEK | MSG_WAITALL | MSG_DONTWAIT),
        buf);
    l = (struct later){.fd = a, .end = true};
    in_a_while(&l);
    got("until the end", recv(b, buf, 64, MSG_PEEK | MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
    got("read", read(b, buf, 64), buf);
}

static void waits_for_all(void)
{
    struct timeval t = {0, 50000};
    struct later l = {.fd = a, .n = 10};
    char buf[64] = "";

    put(a, 5);
    in_a_while(&l);
    got("both", recv(b, buf, 15, MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
    put(a, 5);
    wait_unread(b, 5);
    got("dont wait", recv(b, buf, 15, MSG_WAITALL | MSG_DONTWAIT), buf);
    put(a, 6);
    wait_unread(b, 6);
    setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    got("time-out", recv(b, buf, 15, MSG_WAITALL), buf);
    t.tv_usec = 0;
    setsockopt(b, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    put(a, 7);
    wait_unread(b, 7);
    make_nonblocking(b);
    got("not blocking", recv(b, buf, 15, MSG_WAITALL), buf);
    got("nothing", recv(b, buf, 15, MSG_WAITALL), buf);
    fcntl(b, F_SETFL, 0);
    put(a, 8);
    l = (struct later){.fd = a, .end = true};
    in_a_while(&l);
    got("until the end", recv(b, buf, 15, MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
}

static void on_signal(int number)
{
    pipes_seen += number == SIGPIPE;
}

static void all_but_interrupted(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct later l = {.fd = a, .wake = pthread_self()};
    char buf[64] = "";

    sigaction(SIGUSR1, &action, NULL);
    put(a, 5);
    wait_unread(b, 5);
    in_a_while(&l);
    got("a part", recv(b, buf, 15, MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
    in_a_while(&l);
    got("nothing", recv(b, buf, 15, MSG_WAITALL), buf);
    pthread_join(l.thread, NULL);
}

static void truncates(void)
{
    char buf[64] = "untouched";

    put(a, 20);
    wait_unread(b, 20);
    got("peek", recv(b, buf, 6, MSG_TRUNC | MSG_PEEK), "");
    got("drop", recv(b, buf, 6, MSG_TRUNC), "");
    got("drop", recv(b, NULL, 4, MSG_TRUNC), "");
    printf("  %s\n", buf);
    got("rest", recv(b, buf, 64, 0), buf);
    put(a, 5);
    wait_unread(b, 5);
    got("more than is there", recv(b, buf, 64, MSG_TRUNC), "");
    got("nothing", recv(b, buf, 64, MSG_TRUNC | MSG_DONTWAIT), "");
}

static void pipes(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct iovec iov = {(void *)letters, 3};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr many[2] = {{.msg_hdr = msg}, {.msg_hdr = msg}};

    sigaction(SIGPIPE, &action, NULL);
    shutdown(a, SHUT_WR);
    said("write", write(a, letters, 3));
    said("writev", writev(a, &iov, 1));
    said("send", send(a, letters, 3, 0));
    said("sendto", sendto(a, letters, 3, 0, NULL, 0));
    said("sendmsg", sendmsg(a, &msg, 0));
    said("sendmmsg", sendmmsg(a, many, 2, 0));
    printf("  signals %d\n", (int)pipes_seen);
    said("send", send(a, letters, 3, MSG_NOSIGNAL));
    said("sendto", sendto(a, letters, 3, MSG_NOSIGNAL, NULL, 0));
    said("sendmsg", sendmsg(a, &msg, MSG_NOSIGNAL));
    said("sendmmsg", sendmmsg(a, many, 2, MSG_NOSIGNAL));
    said("write 0", write(a, letters, 0));
    printf("  signals %d\n", (int)pipes_seen);
}

static void more_follows(void)
{
    char buf[64] = "";

    said("send", send(a, "first ", 6, MSG_MORE));
    said("send", send(a, "second ", 7, MSG_MORE | MSG_EOR));
    said("send", send(a, "third", 5, MSG_CONFIRM | MSG_DONTROUTE));
    got("all", recv(b, buf, 18, MSG_WAITALL), buf);
}

static void nothing_at_all(void)
{
    struct iovec none[3] = {{NULL, 0}, {(void *)letters, 0}, {NULL, 0}};
    struct msghdr msg = {.msg_iov = none, .msg_iovlen = 3};
    char buf[64] = "";

    said("send", send(a, NULL, 0, 0));
    said("sendto", sendto(a, NULL, 0, 0, NULL, 0));
    said("writev", writev(a, none, 3));
    said("writev none", writev(a, NULL, 0));
    said("sendmsg", sendmsg(a, &msg, 0));
    said("readv", readv(b, none, 3));
    said("readv none", readv(b, NULL, 0));
    msg.msg_iovlen = 0;
    said("sendmsg none", sendmsg(a, &msg, 0));
    said("recvmsg none", recvmsg(b, &msg, MSG_DONTWAIT));
    put(a, 3);
    wait_unread(b, 3);
    said("recv", recv(b, NULL, 0, 0));
    said("recvmsg none", recvmsg(b, &msg, 0));
    none[1] = (struct iovec){buf, 2};
    said("readv", readv(b, none, 3));
    got("read", read(b, buf, 64), buf);
    shutdown(a, SHUT_WR);
    wait_events(b, POLLRDHUP);
    said("at the end", recv(b, NULL, 0, 0));
}

static void lengths(void)
{
    struct iovec iov[2] = {{(void *)letters, 5}, {(void *)letters, all_ones}};
    struct iovec in[2];
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    static char buf[64];

    said("write", write(a, letters, all_ones));
    said("write", write(a, letters, negative));
    said("writev", writev(a, iov, 2));
    said("sendmsg", sendmsg(a, &msg, 0));
    iov[1].iov_len = negative;
    said("writev", writev(a, iov, 2));
    said("sendmsg", sendmsg(a, &msg, 0));
    put(a, 10);
    wait_unread(b, 10);
    said("read", read(b, buf, all_ones));
    said("read", read(b, buf, negative));
    in[0] = (struct iovec){buf, 2};
    in[1] = (struct iovec){buf + 2, all_ones};
    said("readv", readv(b, in, 2));
    msg.msg_iov = in;
    said("recvmsg", recvmsg(b, &msg, 0));
    got("read", read(b, buf, large), buf);
    put(a, 10);
    wait_unread(b, 10);
    got("recv", recv(b, buf, larger, 0), buf);
}

static void vectors(void)
{
    static struct iovec iov[1025];
    static char bytes[1025];
    struct msghdr msg = {.msg_iov = iov};

    for (int i = 0; i < 1025; i++)
        iov[i] = (struct iovec){&bytes[i], 1};
    memset(bytes, 'v', sizeof(bytes));
    said("writev -1", writev(a, iov, minus_one));
    said("writev 1025", writev(a, iov, 1025));
    said("writev 1024", writev(a, iov, 1024));
    msg.msg_iovlen = 1025;
    said("sendmsg 1025", sendmsg(a, &msg, 0));
    msg.msg_iovlen = 1024;
    said("sendmsg 1024", sendmsg(a, &msg, 0));
    wait_unread(b, 2048);
    memset(bytes, 0, sizeof(bytes));
    said("readv -1", readv(b, iov, minus_one));
    said("readv 1025", readv(b, iov, 1025));
    said("readv 1024", readv(b, iov, 1024));
    msg.msg_iovlen = 1025;
    said("recvmsg 1025", recvmsg(b, &msg, 0));
    msg.msg_iovlen = 1024;
    said("recvmsg 1024", recvmsg(b, &msg, MSG_WAITALL));
    printf("  %s\n", memchr(bytes, 0, 1024) == NULL ? "all" : "WRONG");
}

enum { HUGE_LEN = 16 << 20 };

static void *writes_huge(void *arg)
{
    said("written", write(a, arg, HUGE_LEN));
    return NULL;
}

/* One call of 16 MiB at each end, as one may make of TCP. */
static void huge(void)
{
    char *out = mmap(NULL, HUGE_LEN, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *in = mmap(NULL, HUGE_LEN, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    ssize_t rc;

    pattern_fill(7, 0, out, HUGE_LEN);
    pthread_create(&thread, NULL, writes_huge, out);
    rc = recv(b, in, HUGE_LEN, MSG_WAITALL);
    pthread_join(thread, NULL);
    said("read", rc);
    printf("  %s\n", memcmp(in, out, HUGE_LEN) == 0 ? "same" : "WRONG");
}

static void many_messages(void)
{
    char in[3][4] = {"", "", ""};
    struct iovec iov[3];
    struct mmsghdr m[3] = {0};
    struct timespec t = {0, 30000000}, odd = {0, -1};
    uint64_t start = now_ms();

    for (int i = 0; i < 3; i++) {
        iov[i] = (struct iovec){in[i], 4};
        m[i].msg_hdr.msg_iov = &iov[i];
        m[i].msg_hdr.msg_iovlen = 1;
    }
    said("none wanted", recvmmsg(b, m, 0, 0, NULL));
    said("odd time", recvmmsg(b, m, 3, MSG_DONTWAIT, &odd));
    put(a, 10);
    wait_unread(b, 10);
    said("wait for one", recvmmsg(b, m, 3, MSG_WAITFORONE, NULL));
    printf("  %u %u %u\n", m[0].msg_len, m[1].msg_len, m[2].msg_len);
    put(a, 10);
    wait_unread(b, 10);
    said("dont wait", recvmmsg(b, m, 3, MSG_DONTWAIT, NULL));
    said("nothing", recvmmsg(b, m, 3, MSG_DONTWAIT, NULL));
    put(a, 12);
    wait_unread(b, 12);
    said("in time", recvmmsg(b, m, 3, 0, &t));
    printf("  %s left\n", t.tv_sec == 0 && t.tv_nsec > 0 ? "some" : "WRONG");
    put(a, 12);
    wait_unread(b, 12);
    t.tv_nsec = 0;
    said("no time", recvmmsg(b, m, 3, 0, &t));
    printf("  %ld %ld\n", (long)t.tv_sec, t.tv_nsec);
    said("rest", recvmmsg(b, m, 2, 0, NULL));
    said("sent", sendmmsg(a, m, 3, 0));
    said("none sent", sendmmsg(a, m, 0, 0));
    said("all", recv(b, in, 12, MSG_WAITALL));
    printf("  %s\n", now_ms() - start < 5000 ? "at once" : "late");
}

/* A short write ends the list: what follows must not overtake its rest. */
static void many_messages_and_no_room(void)
{
    static char big[1 << 20];
    struct iovec iov[2] = {{big, sizeof(big)}, {big, sizeof(big)}};
    struct mmsghdr m[2] = {{.msg_hdr = {.msg_iov = &iov[0], .msg_iovlen = 1}},
                           {.msg_hdr = {.msg_iov = &iov[1], .msg_iovlen = 1}}};
    ssize_t rc;

    while ((rc = sendmmsg(a, m, 2, MSG_DONTWAIT)) >= 0)
        if (rc == 2 && m[0].msg_len < sizeof(big))
            printf("  WRONG: more after a short one\n");
    said("full", rc);
}

static void *reads_huge(void *arg)
{
    said("read", recv(b, arg, HUGE_LEN, MSG_WAITALL));
    return NULL;
}

static void files(void)
{
    int file = memfd_create("file", MFD_CLOEXEC), pipes[2];
    char *all = mmap(NULL, HUGE_LEN, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    off_t at = 7;
    char buf[32] = "";
    pthread_t thread;
    ssize_t rc;

    (void)!write(file, letters, 26);
    lseek(file, 3, SEEK_SET);
    got("where it stands", sendfile(a, file, NULL, 5), "");
    said("moved on", lseek(file, 0, SEEK_CUR));
    got("at 7", sendfile(a, file, &at, 6), "");
    printf("  offset %ld\n", (long)at);
    said("not moved", lseek(file, 0, SEEK_CUR));
    at = 20;
    said("beyond the end", sendfile(a, file, &at, 100));
    said("at the end", sendfile(a, file, &at, 100));
    said("nothing", sendfile(a, file, &at, 0));
    got("all", recv(b, buf, 17, MSG_WAITALL), buf);
    at = -1;
    said("before it", sendfile(a, file, &at, 1));
    said("nowhere", sendfile(a, file, far, 1));
    said("not open", sendfile(a, 99, NULL, 1));
    if (pipe(pipes) < 0 || ftruncate(file, HUGE_LEN) < 0)
        die("file");
    at = 0;
    pthread_create(&thread, NULL, reads_huge, all);
    rc = sendfile(a, file, &at, HUGE_LEN);
    pthread_join(thread, NULL);
    said("huge", rc);
    printf("  %s\n", memcmp(all, letters, 26) == 0 && all[HUGE_LEN - 1] == 0
                         ? "same"
                         : "WRONG");
    make_nonblocking(a);
    at = 0;
    while (sendfile(a, file, &at, HUGE_LEN) > 0)
        ;
    said("full", sendfile(a, file, &at, 1));
    shutdown(a, SHUT_WR);
    said("shut down", sendfile(a, file, &at, 1));
}

static void leads_nowhere(const char *name, void *at)
{
    struct iovec iov = {at, 5};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    char buf[8] = "";

    printf("  %s\n", name);
    said("write", write(a, at, 5));
    said("send", send(a, at, 5, 0));
    said("sendmsg", sendmsg(a, &msg, 0));
    said("writev", writev(a, &iov, 1));
    put(a, 5);
    wait_unread(b, 5);
    said("read", read(b, at, 5));
    said("recv", recv(b, at, 5, 0));
    said("recvmsg", recvmsg(b, &msg, 0));
    said("readv", readv(b, &iov, 1));
    said("recvfrom", recvfrom(b, at, 5, MSG_PEEK, NULL, NULL));
    got("is still there", read(b, buf, 8), buf);
}

static void bad_addresses(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    said("good", write(a, page, 8192));
    said("good", recv(b, page, 8192, MSG_WAITALL));
    mprotect(page, 8192, PROT_NONE);
    leads_nowhere("what may not be touched", page);
    munmap(page, 8192);
    leads_nowhere("what is gone", page);
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    put(a, 5);
    wait_unread(b, 5);
    said("may not be written", read(b, page, 5));
    said("may be read", write(a, page, 5));
    said("read", recv(b, (char[10]){0}, 10, MSG_WAITALL));
    leads_nowhere("null", nowhere);
    leads_nowhere("all ones", (void *)-1);
    leads_nowhere("the kernel's half", (void *)0xffff888000000000);
    leads_nowhere("no address at all", (void *)0x1234567812345678);
}

/* The vector or the message itself leads nowhere. */
static void bad_vectors(void)
{
    struct msghdr msg = {.msg_iovlen = 1, .msg_iov = (void *)-1};

    put(a, 5);
    wait_unread(b, 5);
    said("readv", readv(b, (void *)-1, 1));
    said("writev", writev(a, (void *)-1, 1));
    said("readv null", readv(b, nowhere, 1));
    said("writev null", writev(a, nowhere, 1));
    said("recvmsg", recvmsg(b, &msg, 0));
    said("sendmsg", sendmsg(a, &msg, 0));
    said("recvmsg null", recvmsg(b, nowhere, 0));
    said("sendmsg null", sendmsg(a, nowhere, 0));
    said("recvmmsg null", recvmmsg(b, nowhere, 1, 0, NULL));
    said("sendmmsg null", sendmmsg(a, nowhere, 1, 0));
    said("read", read(b, (char[8]){0}, 8));
}

/* TCP names nobody; what is to say so is written when the bytes are taken. */
static void bad_names(void)
{
    char buf[8], name[32] = "untouched";
    socklen_t odd = (socklen_t)-1, len = sizeof(name);
    struct iovec iov = {buf, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_name = far,
                         .msg_namelen = 16,
                         .msg_control = far,
                         .msg_controllen = 64};

    put(a, 8);
    wait_unread(b, 8);
    said("length nowhere", recvfrom(b, buf, 1, 0, (void *)name, far));
    said("odd length", recvfrom(b, buf, 1, 0, (void *)name, &odd));
    said("name nowhere", recvfrom(b, buf, 1, 0, far, &len));
    printf("  %u %s\n", len, name);
    said("no name", recvfrom(b, buf, 1, 0, NULL, far));
    said("message", recvmsg(b, &msg, 0));
    printf("  %u %zu\n", msg.msg_namelen, msg.msg_controllen);
    said("peer", getpeername(b, far, &len));
    said("peer", getpeername(b, (void *)name, far));
    got("left", read(b, buf, 8), buf);
    said("sendto", sendto(a, buf, 1, 0, far, 16));
    said("sendto", sendto(a, buf, 1, 0, (void *)name, 16));
    said("sendto", sendto(a, buf, 1, 0, (void *)name, 200));
    said("sendto", sendto(a, buf, 1, 0, NULL, 16));
    said("no length", sendto(a, buf, 1, 0, far, 0));
    msg = (struct msghdr){
        .msg_iov = &iov, .msg_iovlen = 1, .msg_name = far, .msg_namelen = 16};
    said("sendmsg", sendmsg(a, &msg, 0));
    said("sendmmsg", sendmmsg(a, &(struct mmsghdr){.msg_hdr = msg}, 1, 0));
    msg.msg_namelen = 0;
    said("no length", sendmsg(a, &msg, 0));
    msg.msg_name = name;
    msg.msg_namelen = odd;
    said("odd length", sendmsg(a, &msg, 0));
    msg.msg_name = NULL;
    said("of no name", sendmsg(a, &msg, 0));
    wait_unread(b, 5);
    said("of no name", recvmsg(b, &msg, 0));
    printf("  %d\n", (int)msg.msg_namelen);
    shutdown(a, SHUT_WR);
    read_all("arrived", b);
}

static const struct test_case cases[] = {
    {"peeks", peeks, STAYS},
    {"peek_waits_for_all", peek_waits_for_all, RETURNS},
    {"waits_for_all", waits_for_all, STAYS},
    {"all_but_interrupted", all_but_interrupted, STAYS},
    {"truncates", truncates, STAYS},
    {"pipes", pipes, STAYS},
    {"more_follows", more_follows, STAYS},
    {"nothing_at_all", nothing_at_all, STAYS},
    {"lengths", lengths, STAYS},
    {"vectors", vectors, STAYS},
    {"huge", huge, STAYS},
    {"files", files, STAYS},
    {"many_messages", many_messages, STAYS},
    {"many_messages_and_no_room", many_messages_and_no_room, STAYS},
    {"bad_addresses", bad_addresses, STAYS},
    {"bad_vectors", bad_vectors, STAYS},
    {"bad_names", bad_names, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
