/*
 * usage: messages [CASE]
 *
 * Calls that do one thing after the other: lists of messages and long files,
 * while the number that they were given becomes another connection's or
 * another file's, and what is left of an error that came behind the first one.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

enum { MUCH = 32 << 20 };

static char much[MUCH], secret[] = "SECRET";

static struct mmsghdr message_of(struct iovec *iov)
{
    return (struct mmsghdr){.msg_hdr = {.msg_iov = iov, .msg_iovlen = 1}};
}

/* ---- numbers that become another connection's ---- */

/* The number is closed, and one end of this pair has it. */
static void give_number(int number, int *c, int *d)
{
    close(number);
    tcp_pair("4", 0, c, d);
    settle_pair(*c, *d);
    if (*c != number && *d != number) {
        if (dup2(*c, number) != number)
            die("dup2");
        close(*c);
        *c = number;
    }
}

static void *sends_two(void *arg)
{
    struct iovec iov[2] = {{much, MUCH}, {secret, 6}};
    struct mmsghdr m[2] = {message_of(&iov[0]), message_of(&iov[1])};

    *(int *)arg = sendmmsg(a, m, 2, 0);
    return NULL;
}

static void *sends_file(void *arg)
{
    int file = memfd_create("file", MFD_CLOEXEC);
    off_t at = 0;

    if (ftruncate(file, MUCH) < 0)
        die("file");
    *(int *)arg = sendfile(a, file, &at, MUCH) > 0;
    return NULL;
}

/* Who is in the call may end it early, but goes on with nobody else. */
static void nobody_else_gets(void *(*sends)(void *))
{
    char got[64];
    ssize_t n, all = 0;
    pthread_t sender;
    int c, d, rc = 0;

    sender = start_asleep(sends, &rc);
    give_number(a, &c, &d);
    while ((n = read(b, much, 65536)) > 0)
        all += n;
    end_of(sender);
    printf("  %s, then %zd\n", rc >= 1 && all > 65536 ? "sent" : "NOT SENT", n);
    said("one end", recv(c, got, sizeof(got), MSG_DONTWAIT));
    said("the other", recv(d, got, sizeof(got), MSG_DONTWAIT));
    talk("among them", c, d);
}

static void list_sent(void)
{
    nobody_else_gets(sends_two);
}

/* Calls that only the kernel can serve keep it on TCP from now on. */
static void list_sent_on_tcp(void)
{
    said("urgent", recv(a, &(char){0}, 1, MSG_OOB));
    nobody_else_gets(sends_two);
}

static void file_sent(void)
{
    nobody_else_gets(sends_file);
}

static void *receives_two(void *arg)
{
    char in[2][4];
    struct iovec iov[2] = {{in[0], 4}, {in[1], 4}};
    struct mmsghdr m[2] = {message_of(&iov[0]), message_of(&iov[1])};

    *(int *)arg = recvmmsg(b, m, 2, 0, NULL);
    return NULL;
}

static void list_received(void)
{
    char got[16] = "";
    pthread_t receiver;
    int c, d, rc = 0;

    receiver = start_asleep(receives_two, &rc);
    give_number(b, &c, &d);
    (void)!write(c, secret, 6);
    (void)!write(d, secret, 6);
    said("first", write(a, "one.", 4));
    (void)!write(a, "two.", 4);
    end_of(receiver);
    printf("  %s\n", rc >= 1 ? "received" : "NOT RECEIVED");
    for (int i = 0; i < 2; i++) {
        said("left", recv(i ? c : d, got, 6, MSG_DONTWAIT));
        printf("  %s\n", got);
    }
}

/* ---- a number that becomes another file's ---- */

struct sending {
    int file;
    off_t *at;
    ssize_t rc;
};

static void *sends_all_of_it(void *arg)
{
    struct sending *s = arg;

    s->rc = sendfile(a, s->file, s->at, MUCH);
    return NULL;
}

/* How many of those that are read are of the other file; adds to all. */
static ssize_t foreign_bytes(int flags, ssize_t *all)
{
    ssize_t n = recv(b, much, 65536, flags), foreign = 0;

    for (ssize_t i = 0; i < n; i++)
        foreign += much[i] != 0;
    *all += n > 0 ? n : 0;
    return foreign;
}

static void another_file(off_t *at)
{
    struct sending s = {memfd_create("zeros", MFD_CLOEXEC), at, 0};
    int other = memfd_create("others", MFD_CLOEXEC);
    ssize_t all = 0, foreign = 0;
    pthread_t sender;

    memset(much, 'S', MUCH);
    if (ftruncate(s.file, MUCH) < 0 || pwrite(other, much, MUCH, 0) != MUCH)
        die("files");
    sender = start_asleep(sends_all_of_it, &s);
    said("dup2", dup2(other, s.file) - s.file);
    while (pthread_tryjoin_np(sender, NULL) == EBUSY)
        foreign += foreign_bytes(MSG_DONTWAIT, &all);
    while (all < s.rc)
        foreign += foreign_bytes(0, &all);
    printf("  %s\n", all > 65536 && all == s.rc ? "sent" : "NOT SENT");
    said("of the other file", foreign);
    said("its position", lseek(other, 0, SEEK_CUR));
    if (at != NULL)
        printf("  %s\n", *at == all ? "as far" : "ELSEWHERE");
    talk("afterwards", a, b);
}

static void another_file_by_offset(void)
{
    off_t at = 0;

    another_file(&at);
}

static void another_file_by_position(void)
{
    another_file(NULL);
}

/* ---- what is left behind the first message ---- */

static void *resets(void *arg)
{
    struct linger now = {1, 0};

    until_asleep(getpid());
    setsockopt(a, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(a);
    return arg;
}

/* do_recvmmsg() of Linux keeps the error for the next call. */
static void reset_behind_one(void)
{
    pthread_t thread = 0;
    socklen_t len = sizeof(int);
    char byte;
    int rc, error = 0;

    for (int i = 0; i < 2; i++) {
        if (i > 0) {
            tcp_pair("4", 0, &a, &b);
            settle_pair(a, b);
        }
        said("write", write(a, "four", 4));
        thread = run_thread(resets, NULL);
        receives_two(&rc);
        said("recvmmsg", rc);
        end_of(thread);
        if (i > 0) {
            getsockopt(b, SOL_SOCKET, SO_ERROR, &error, &len);
            printf("  error: %s\n", error_name(error));
        } else {
            said("recv", recv(b, &byte, 1, 0));
        }
        said("recv", recv(b, &byte, 1, 0));
    }
}

/* Only the first of the list is there. */
static void list_cut_off(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mmsghdr *m = (struct mmsghdr *)(page + 4096) - 1;
    struct iovec iov = {secret, 6};
    char got[16] = "";

    mprotect(page + 4096, 4096, PROT_NONE);
    *m = message_of(&iov);
    said("sendmmsg", sendmmsg(a, m, 2, 0));
    said("read", recv(b, got, 6, MSG_WAITALL));
    talk("afterwards", a, b);
    said("none of it", sendmmsg(a, m + 1, 2, 0));
    said("none of it", recvmmsg(b, m + 1, 2, MSG_DONTWAIT, NULL));
    talk("afterwards", a, b);
    said("write", write(a, "letter", 6));
    wait_unread(b, 6);
    said("recvmmsg", recvmmsg(b, m, 2, 0, NULL));
    printf("  %s\n", secret);
}

/* What the call would tell by it is said too late to be undone. */
static void may_only_be_read(void)
{
    struct timespec *t = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    off_t *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int file = memfd_create("file", MFD_CLOEXEC);
    struct iovec iov = {secret, 6};
    struct mmsghdr m = message_of(&iov);
    char got[16] = "";

    *t = (struct timespec){3, 0};
    mprotect(t, 4096, PROT_READ);
    (void)!write(file, "letter", 6);
    said("sendfile", sendfile(a, file, at, 6));
    said("read", recv(b, got, 6, MSG_WAITALL));
    printf("  %s\n", got);
    said("write", write(a, "moment", 6));
    said("recvmmsg", recvmmsg(b, &m, 1, 0, t));
    printf("  %s\n", secret);
    talk("afterwards", a, b);
}

/* ---- control messages ---- */

/* At the very end of what is there: nobody may look behind it. */
static void control_lengths(void)
{
    static const size_t lengths[] = {0, 1, 15, 17, 64, 8192, SIZE_MAX};
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct cmsghdr *control = (struct cmsghdr *)(page + 4096) - 1;
    struct iovec iov = {secret, 6};
    struct mmsghdr m = message_of(&iov);
    int pair[2];

    mprotect(page + 4096, 4096, PROT_NONE);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        die("socketpair");
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    m.msg_hdr.msg_control = control;
    m.msg_hdr.msg_controllen = sizeof(*control);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        control->cmsg_len = lengths[i];
        said("sendmsg", sendmsg(pair[0], &m.msg_hdr, 0));
        said("sendmmsg", sendmmsg(pair[0], &m, 1, 0));
    }
    talk("still here", a, b);
    control->cmsg_len = 0;
    said("of a stream", sendmsg(a, &m.msg_hdr, 0));
    said("of a stream", sendmmsg(a, &m, 1, 0));
    talk("still here", a, b);
}

static const struct test_case cases[] = {
    {"list_sent", list_sent, GOES_UP},
    {"list_sent_on_tcp", list_sent_on_tcp, RETURNS},
    {"list_received", list_received, GOES_UP},
    {"file_sent", file_sent, GOES_UP},
    {"another_file_by_offset", another_file_by_offset, STAYS},
    {"another_file_by_position", another_file_by_position, STAYS},
    {"reset_behind_one", reset_behind_one, STAYS},
    {"list_cut_off", list_cut_off, STAYS},
    {"may_only_be_read", may_only_be_read, RETURNS},
    {"control_lengths", control_lengths, RETURNS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
