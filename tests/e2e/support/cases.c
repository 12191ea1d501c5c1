/*
 * See cases.h.
 */
#include "tests/e2e/support/cases.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int a, b;

void said(const char *what, ssize_t rc)
{
    int error = errno;

    printf("  %s: %zd%s%s\n", what, rc, rc < 0 ? " " : "",
           rc < 0 ? error_name(error) : "");
}

void show_events(const char *what, int fd)
{
    struct pollfd p = {fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};

    poll(&p, 1, 0);
    printf("  %s: events %x\n", what, (unsigned)p.revents);
}

void read_all(const char *what, int fd)
{
    char buf[4096];
    ssize_t rc;
    size_t total = 0;

    while ((rc = recv(fd, buf, sizeof(buf), 0)) > 0)
        total += (size_t)rc;
    printf("  %s: %zu bytes, then", what, total);
    said("", rc);
}

void settle_pair(int c, int d)
{
    char word[8];

    for (int i = 0; i < 20; i++) {
        (void)!write(c, "ping", 4);
        (void)!recv(d, word, 4, MSG_WAITALL);
        (void)!write(d, "pong", 4);
        (void)!recv(c, word, 4, MSG_WAITALL);
    }
    time_to_move();
}

void echo_words(int fd, char *word)
{
    while (recv(fd, word, 4, MSG_WAITALL) == 4 && memcmp(word, "last", 4) != 0)
        if (write(fd, word, 4) != 4)
            die("echo");
}

void talk(const char *word, int from, int to)
{
    char got[64];
    size_t n = strlen(word);

    for (int i = 0; i < 2; i++) {
        ssize_t rc = write(i ? to : from, word, n);

        memset(got, 0, sizeof(got));
        if (rc != (ssize_t)n ||
            recv(i ? from : to, got, n, MSG_WAITALL) != (ssize_t)n)
            printf("  %s: lost (%zd)\n", word, rc);
        else
            printf("  %s: %s\n", word, got);
    }
}

/* Each in a process of its own, so that a hang or crash is one case's. */
static void run_case(const struct test_case *c)
{
    static const char *const paths[] = {
        [GOES_UP] = "goes_up",
        [STAYS] = "stays",
        [RETURNS] = "returns",
        [UNSEEN] = "unseen",
    };
    pid_t pid = fork_limited(10);

    if (pid == 0) {
        printf("%s %s\n", c->name, paths[c->path]);
        signal(SIGPIPE, SIG_IGN);
        tcp_pair("4", 0, &a, &b);
        settle_pair(a, b);
        c->run();
        fflush(stdout);
        exit(0);
    }
    child_status(pid);
}

int run_cases(const struct test_case *cases, size_t n, int argc, char **argv)
{
    int found = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    time_limit(50);
    close_inherited();
    for (size_t i = 0; i < n; i++)
        if (argc < 2 || strcmp(argv[1], cases[i].name) == 0) {
            run_case(&cases[i]);
            found++;
        }
    if (found == 0)
        die("there is no case %s", argv[1]);
    return 0;
}
