/*
 * usage: closes [CASE]
 *
 * A socket that is closed, or its number given to another one, while threads
 * are busy with it, and after a thread has left a call on it in the middle.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

enum { ROUNDS = 10 };

static int from, to;
static _Atomic long wrote, took;

static void *writes(void *arg)
{
    uint8_t buf[1500];
    ssize_t n;

    (void)arg;
    for (;;) {
        pattern_fill(1, (uint64_t)wrote, buf, sizeof(buf));
        n = write(from, buf, sizeof(buf));
        if (n <= 0)
            return NULL;
        wrote += n;
    }
}

/* How it ended: 0 or an error; -1: bytes that nobody wrote. */
static void *reads(void *arg)
{
    uint8_t buf[2000];
    ssize_t n;

    (void)arg;
    while ((n = read(to, buf, sizeof(buf))) > 0) {
        if (pattern_check(1, (uint64_t)took, buf, (size_t)n) >= 0)
            return (void *)-1;
        took += n;
    }
    return (void *)(intptr_t)(n == 0 ? 0 : errno);
}

static void until_some(long more)
{
    long enough = took + more;

    for (int i = 0; i < 5000 && took < enough; i++)
        sleep_ms(1);
}

/* What it says has been written arrives, and then the end. */
static void close_beside_a_busy_writer(void)
{
    int wrong = 0;

    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t reader, writer;
        intptr_t end;

        tcp_pair("4", 0, &from, &to);
        settle_pair(from, to);
        wrote = took = 0;
        reader = run_thread(reads, NULL);
        writer = run_thread(writes, NULL);
        until_some(100000);
        close(from);
        end_of(writer);
        end = (intptr_t)end_of(reader);
        close(to);
        wrong += end != 0 || took != wrote;
    }
    printf("  %d of %d went wrong\n", wrong, ROUNDS);
}

/* The connection goes on by its other number, and the reader ends. */
static void close_one_of_two_beside_a_busy_reader(void)
{
    int wrong = 0;

    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < ROUNDS; i++) {
        pthread_t reader, writer;
        intptr_t end;
        uint8_t c;
        int other;

        tcp_pair("4", 0, &from, &to);
        settle_pair(from, to);
        other = dup(to);
        wrote = took = 0;
        writer = run_thread(writes, NULL);
        reader = run_thread(reads, NULL);
        until_some(100000);
        close(to);
        end = (intptr_t)end_of(reader);
        wrong += end != EBADF || read(other, &c, 1) != 1;
        shutdown(other, SHUT_RDWR);
        close(other);
        end_of(writer);
        close(from);
    }
    printf("  %d of %d went wrong\n", wrong, ROUNDS);
}

static void *closes(void *arg)
{
    return (void *)(intptr_t)close(*(int *)arg);
}

/* Of several threads one closes the number; its other one goes on. */
static void threads_that_close_one_number(void)
{
    int wrong = 0;

    for (int i = 0; i < ROUNDS; i++) {
        pthread_t thread[3];
        int ok = 0, other;
        char c = 'x';

        tcp_pair("4", 0, &from, &to);
        settle_pair(from, to);
        other = dup(to);
        for (int k = 0; k < 3; k++)
            thread[k] = run_thread(closes, &to);
        for (int k = 0; k < 3; k++)
            ok += end_of(thread[k]) == NULL;
        wrong += ok != 1 || write(from, &c, 1) != 1 || read(other, &c, 1) != 1;
        close(other);
        close(from);
    }
    printf("  %d of %d went wrong\n", wrong, ROUNDS);
}

/* Somebody else is given the number while the last bytes are still sent. */
static void number_of_one_that_lingers(void)
{
    static uint8_t buf[100000];
    struct linger wait = {1, 3};
    int number = a, next = -1;
    pthread_t closer;
    ssize_t n;

    while (send(a, buf, sizeof(buf), MSG_DONTWAIT) > 0)
        ;
    said("linger", setsockopt(a, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait)));
    closer = run_thread(closes, &number);
    for (int i = 0; i < 5000 && next != number; i++) {
        if (next >= 0)
            close(next);
        next = socket(AF_INET, SOCK_STREAM, 0);
        sleep_ms(1);
    }
    printf("  the same number: %d\n", next == number);
    said("close of the next", close(next));
    said("and again", close(next));
    while ((n = read(b, buf, sizeof(buf))) > 0)
        ;
    said("the end", n);
    said("the first close", (ssize_t)end_of(closer));
}

/* ---- a call that was left in the middle ---- */

static void *waits_in_read(void *arg)
{
    (void)arg;
    (void)!read(b, &(char){0}, 1);
    return NULL;
}

static void end_at_a(void)
{
    struct pollfd p = {.fd = a, .events = POLLIN};
    char c;

    printf("  poll %d\n", poll(&p, 1, 5000));
    said("read", recv(a, &c, 1, MSG_DONTWAIT));
}

static void cancelled_then_closed(void)
{
    pthread_t reader = start_asleep(waits_in_read, NULL);

    pthread_cancel(reader);
    printf("  cancelled: %d\n", end_of(reader) == PTHREAD_CANCELED);
    said("close", close(b));
    end_at_a();
}

static sigjmp_buf away;

static void jumps(int number)
{
    (void)number;
    siglongjmp(away, 1);
}

static void jump_out_of_read(void)
{
    struct itimerval soon = {.it_value = {0, 20000}};

    signal(SIGALRM, jumps);
    if (sigsetjmp(away, 1) == 0) {
        setitimer(ITIMER_REAL, &soon, NULL);
        said("read", read(b, &(char){0}, 1));
    }
}

static void jumped_then_closed(void)
{
    jump_out_of_read();
    said("close", close(b));
    end_at_a();
}

static void jumped_then_dup2(void)
{
    jump_out_of_read();
    said("dup2", dup2(STDERR_FILENO, b) - b);
    end_at_a();
}

static const struct test_case cases[] = {
    {"close_beside_a_busy_writer", close_beside_a_busy_writer, STAYS},
    {"close_one_of_two", close_one_of_two_beside_a_busy_reader, STAYS},
    {"threads_that_close", threads_that_close_one_number, STAYS},
    {"number_of_one_that_lingers", number_of_one_that_lingers, GOES_UP},
    {"cancelled_then_closed", cancelled_then_closed, GOES_UP},
    {"jumped_then_closed", jumped_then_closed, GOES_UP},
    {"jumped_then_dup2", jumped_then_dup2, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
