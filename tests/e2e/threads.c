/*
 * usage: threads [CASE]
 *
 * Threads and signals at awkward moments: several threads in one socket, a
 * descriptor replaced or closed under a thread that waits, threads that are
 * cancelled or jump out, signals in a storm.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

enum { THREADS = 4, TOTAL = 2000000 };

/* ---- several threads in one socket ---- */

static void *writes_all(void *arg)
{
    static uint8_t buf[TOTAL];
    int fd = *(int *)arg;

    pattern_fill(1, 0, buf, TOTAL);
    for (size_t at = 0; at < TOTAL;) {
        size_t n = TOTAL - at < 30000 ? TOTAL - at : 30000;
        ssize_t rc = write(fd, buf + at, n);

        if (rc <= 0)
            die("write %zd", rc);
        at += (size_t)rc;
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static _Atomic uint64_t read_bytes, read_sum;

static void *reads_some(void *arg)
{
    uint8_t buf[5000];
    ssize_t n;

    (void)arg;
    while ((n = read(b, buf, sizeof(buf))) > 0) {
        uint64_t sum = 0;

        for (ssize_t i = 0; i < n; i++)
            sum += buf[i];
        atomic_fetch_add(&read_bytes, (uint64_t)n);
        atomic_fetch_add(&read_sum, sum);
    }
    return NULL;
}

static void threads_read_one(void)
{
    pthread_t reader[THREADS], writer;

    for (int i = 0; i < THREADS; i++)
        reader[i] = run_thread(reads_some, NULL);
    writer = run_thread(writes_all, &a);
    end_of(writer);
    for (int i = 0; i < THREADS; i++)
        end_of(reader[i]);
    printf("  %llu bytes, sum %llu\n", (unsigned long long)read_bytes,
           (unsigned long long)read_sum);
}

static void *writes_letter(void *arg)
{
    char buf[1000];

    memset(buf, *(char *)arg, sizeof(buf));
    for (int i = 0; i < 300; i++)
        for (size_t at = 0; at < sizeof(buf);) {
            ssize_t rc = write(a, buf + at, sizeof(buf) - at);

            if (rc <= 0)
                die("write %zd", rc);
            at += (size_t)rc;
        }
    return NULL;
}

static void threads_write_one(void)
{
    static char letter[] = "wxyz";
    unsigned count[256] = {0}, total = 0;
    pthread_t writer[THREADS];
    uint8_t buf[4000];
    ssize_t n = 1;

    for (int i = 0; i < THREADS; i++)
        writer[i] = run_thread(writes_letter, letter + i);
    while (total < THREADS * 300 * 1000 && n > 0) {
        n = read(b, buf, sizeof(buf));
        for (ssize_t i = 0; i < n; i++)
            count[buf[i]]++;
        total += n > 0 ? (unsigned)n : 0;
    }
    for (int i = 0; i < THREADS; i++) {
        end_of(writer[i]);
        printf("  %c: %u\n", letter[i], count[(uint8_t)letter[i]]);
    }
}

/* ---- a descriptor that changes under a thread ---- */

static void *reads_word(void *arg)
{
    char *word = arg;
    ssize_t n = read(b, word, 30);

    word[n > 0 ? n : 0] = '\0';
    return NULL;
}

static void dup2_over_a_reader(void)
{
    char word[32] = "";
    pthread_t reader;
    int c, d;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    reader = start_asleep(reads_word, word);
    said("dup2", dup2(d, b) - b); /* a low number may be the library's */
    (void)!write(a, "to the old one", 14);
    end_of(reader);
    printf("  it read: %s\n", word);
    close(d);
    talk("the new one", c, b);
}

/* The call goes on without its number, and the file ends with it. */
static void close_beside_a_reader(void)
{
    char word[32] = "";
    pthread_t reader = start_asleep(reads_word, word);

    said("close", close(b));
    sleep_ms(30);
    said("write", write(a, "to who waits", 12));
    end_of(reader);
    printf("  it read: %s\n", word);
    said("the end", read(a, word, 1));
}

static void *writes_at_once(void *arg)
{
    enum { MUCH = 16 * TOTAL };
    static uint8_t buf[MUCH];

    pattern_fill(1, 0, buf, MUCH);
    *(ssize_t *)arg = write(a, buf, MUCH);
    return NULL;
}

/* All that it says has been written arrives, and then the end. */
static void read_what_was_written(pthread_t writer, ssize_t *written)
{
    static uint8_t buf[100000];
    ssize_t total = 0, n;

    while ((n = read(b, buf, sizeof(buf))) > 0) {
        if (pattern_check(1, (uint64_t)total, buf, (size_t)n) >= 0)
            die("wrong bytes at %zd", total);
        total += n;
    }
    end_of(writer);
    printf("  %s, then %zd\n",
           total == *written && total > TOTAL ? "all of it" : "NOT ALL", n);
}

static void close_beside_a_writer(void)
{
    ssize_t written = 0;
    pthread_t writer = start_asleep(writes_at_once, &written);

    said("close", close(a));
    sleep_ms(30);
    read_what_was_written(writer, &written);
}

static void dup2_over_a_writer(void)
{
    ssize_t written = 0;
    pthread_t writer = start_asleep(writes_at_once, &written);
    int c, d;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    said("dup2", dup2(c, a) - a);
    close(c);
    talk("the new one", a, d);
    read_what_was_written(writer, &written);
    talk("afterwards", a, d);
}

static void *polls(void *arg)
{
    struct pollfd p = {.fd = b, .events = POLLIN};

    *(int *)arg = poll(&p, 1, 3000);
    return (void *)(intptr_t)p.revents;
}

static void close_beside_a_poller(void)
{
    int rc = -1;
    pthread_t poller = start_asleep(polls, &rc);

    said("close", close(b));
    sleep_ms(30);
    (void)!write(a, "x", 1);
    printf("  events %x", (unsigned)(intptr_t)end_of(poller));
    printf(" of %d\n", rc);
    wait_events(a, 0);
    show_events("the other end", a);
}

static void *selects(void *arg)
{
    struct timeval limit = {3, 0};
    fd_set in;

    FD_ZERO(&in);
    FD_SET(b, &in);
    *(int *)arg = select(b + 1, &in, NULL, NULL, &limit);
    return NULL;
}

static void dup2_over_a_selecter(void)
{
    pthread_t selecter;
    int c, d, rc = -1;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    selecter = start_asleep(selects, &rc);
    said("dup2", dup2(d, b) - b); /* a low number may be the library's */
    (void)!write(a, "x", 1);
    end_of(selecter);
    printf("  select: %d\n", rc);
    talk("the new one", c, b);
}

static _Atomic bool enough;

/* How often a new file got the number of a connection that was never free. */
static void *opens(void *arg)
{
    intptr_t taken = 0;

    while (!atomic_load(&enough)) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        taken += fd == *(int *)arg;
        if (fd >= 0 && fd != *(int *)arg)
            close(fd);
    }
    return (void *)taken;
}

static void dup2_beside_an_opener(void)
{
    pthread_t opener;
    int c, d, number;

    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    number = dup(b);
    opener = run_thread(opens, &number);
    for (int i = 0; i < 3000; i++)
        if (dup2(i % 2 ? b : d, number) != number)
            die("dup2");
    atomic_store(&enough, true);
    printf("  taken: %d\n", (int)(intptr_t)end_of(opener));
    talk("the last one", a, number);
}

/* A wait goes on with the set that it began with, whoever has its number. */
struct set_wait {
    int set, rc;
    struct epoll_event event;
};

static void *waits_in_set(void *arg)
{
    struct set_wait *w = arg;

    w->rc = epoll_wait(w->set, &w->event, 1, 3000);
    return NULL;
}

static pthread_t begin_wait(struct set_wait *w)
{
    w->event = (struct epoll_event){.events = EPOLLIN, .data.u32 = 7};
    w->set = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(w->set, EPOLL_CTL_ADD, b, &w->event) < 0)
        die("epoll_ctl");
    return start_asleep(waits_in_set, w);
}

static void end_wait(const struct set_wait *w, pthread_t waiter)
{
    end_of(waiter);
    printf("  %d event, %u for %u\n", w->rc, w->event.events,
           w->event.data.u32);
}

static void close_beside_a_set_waiter(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 8};
    struct set_wait w;

    for (int i = 0; i < 3; i++) {
        pthread_t waiter = begin_wait(&w);
        int other;

        said("close", close(w.set));
        other = epoll_create1(EPOLL_CLOEXEC);
        said("same number", other - w.set);
        said("ctl", epoll_ctl(other, EPOLL_CTL_ADD, b, &event));
        (void)!write(a, "x", 1);
        end_wait(&w, waiter);
        said("the other", epoll_wait(other, &w.event, 1, 1000));
        said("read", read(b, &(char){0}, 1));
        close(other);
    }
}

static void dup2_over_a_set_waiter(void)
{
    struct set_wait w;
    pthread_t waiter = begin_wait(&w);

    said("dup2", dup2(STDERR_FILENO, w.set) - w.set);
    sleep_ms(20);
    (void)!write(a, "x", 1);
    end_wait(&w, waiter);
    talk("xafter it", b, a);
}

/* ---- out of a call, without its return ---- */

static int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;

    while (dir != NULL && readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static void *waits_in_read(void *arg)
{
    (void)arg;
    (void)!read(b, &(char){0}, 1);
    return NULL;
}

static void *waits_in_epoll(void *arg)
{
    struct epoll_event event;

    epoll_wait(*(int *)arg, &event, 1, -1);
    return NULL;
}

static void cancelled_reader(void)
{
    for (int i = 0; i < 3; i++) {
        pthread_t reader = start_asleep(waits_in_read, NULL);

        pthread_cancel(reader);
        printf("  cancelled: %d\n", end_of(reader) == PTHREAD_CANCELED);
        talk("after it", a, b);
    }
}

static void cancelled_in_epoll(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 7};
    int set = epoll_create1(EPOLL_CLOEXEC);

    epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
    for (int i = 0; i < 3; i++) {
        pthread_t waiter = start_asleep(waits_in_epoll, &set);

        pthread_cancel(waiter);
        printf("  cancelled: %d\n", end_of(waiter) == PTHREAD_CANCELED);
        (void)!write(a, "x", 1);
        said("then", epoll_wait(set, &event, 1, 1000));
        said("read", read(b, &(char){0}, 1));
    }
}

static void *polls_set(void *arg)
{
    struct pollfd p = {.fd = *(int *)arg, .events = POLLIN};

    poll(&p, 1, -1);
    return NULL;
}

/* Sets that are closed after their waiter was cancelled leave nothing open. */
static void cancelled_and_closed(void)
{
    int before = 0, after = 0;

    for (int i = 0; i < 12; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        int set = epoll_create1(EPOLL_CLOEXEC);
        pthread_t waiter;

        epoll_ctl(set, EPOLL_CTL_ADD, b, &event);
        waiter = start_asleep(i % 2 ? polls_set : waits_in_epoll, &set);
        pthread_cancel(waiter);
        end_of(waiter);
        close(set);
        if (i == 3)
            before = descriptors();
    }
    after = descriptors();
    printf("  %d more descriptors\n", after - before);
}

static sigjmp_buf away;

static void jumps(int number)
{
    (void)number;
    siglongjmp(away, 1);
}

static void jumps_out(void)
{
    struct itimerval soon = {.it_value = {0, 20000}};
    volatile int times = 0;

    signal(SIGALRM, jumps);
    if (sigsetjmp(away, 1) == 0 || ++times < 3) {
        setitimer(ITIMER_REAL, &soon, NULL);
        said("read", read(b, &(char){0}, 1));
    }
    printf("  %d times\n", times);
    talk("after it", a, b);
}

/* ---- signals ---- */

static _Atomic unsigned signals;

static void counts(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void storm(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct itimerval each = {{0, 500}, {0, 500}};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &each, NULL);
}

static void calm(void)
{
    struct itimerval none = {{0, 0}, {0, 0}};

    setitimer(ITIMER_REAL, &none, NULL);
}

static void reads_to_the_end(void)
{
    uint8_t buf[7000];
    uint64_t total = 0;
    ssize_t n;

    while ((n = read(b, buf, sizeof(buf))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || pattern_check(1, total, buf, (size_t)n) >= 0)
            die("read %zd at %llu", n, (unsigned long long)total);
        total += (uint64_t)n;
    }
    printf("  %llu bytes\n", (unsigned long long)total);
}

static void storm_of_signals(void)
{
    sigset_t alarm_only;
    pthread_t writer;

    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    writer = run_thread(writes_all, &a);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    storm(counts, 0);
    reads_to_the_end();
    calm();
    end_of(writer);
    printf("  signals: %d\n", signals > 0);
}

static int hc, hd; /* the handler's own connection */
static _Atomic unsigned handled, mishandled;

static void talks(int number)
{
    int error = errno;
    char c[4];

    (void)number;
    if (write(hc, "tick", 4) == 4 && read(hd, c, 4) == 4)
        atomic_fetch_add(&handled, 1);
    else
        atomic_fetch_add(&mishandled, 1);
    errno = error;
}

static void handler_that_talks(void)
{
    sigset_t alarm_only;
    pthread_t writer;

    tcp_pair("4", 0, &hc, &hd);
    settle_pair(hc, hd);
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm_only, NULL);
    writer = run_thread(writes_all, &a);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    storm(talks, SA_RESTART);
    reads_to_the_end();
    calm();
    end_of(writer);
    printf("  handled: %d, not: %u\n", handled > 0, mishandled);
    talk("its own", hc, hd);
}

static const struct test_case cases[] = {
    {"threads_read_one", threads_read_one, STAYS},
    {"threads_write_one", threads_write_one, STAYS},
    {"dup_over_a_reader", dup2_over_a_reader, GOES_UP},
    {"close_beside_a_reader", close_beside_a_reader, GOES_UP},
    {"dup_over_a_writer", dup2_over_a_writer, GOES_UP},
    {"close_beside_a_writer", close_beside_a_writer, GOES_UP},
    {"close_beside_a_poller", close_beside_a_poller, GOES_UP},
    {"dup_over_a_selecter", dup2_over_a_selecter, GOES_UP},
    {"dup_beside_an_opener", dup2_beside_an_opener, GOES_UP},
    {"close_beside_a_set_waiter", close_beside_a_set_waiter, STAYS},
    {"dup_over_a_set_waiter", dup2_over_a_set_waiter, STAYS},
    {"cancelled_reader", cancelled_reader, STAYS},
    {"cancelled_in_epoll", cancelled_in_epoll, STAYS},
    {"cancelled_and_closed", cancelled_and_closed, STAYS},
    {"jumps_out", jumps_out, STAYS},
    {"storm_of_signals", storm_of_signals, STAYS},
    {"handler_that_talks", handler_that_talks, STAYS},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
