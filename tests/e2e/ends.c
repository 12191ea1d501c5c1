/*
 * usage: ends [CASE]
 *
 * A process ends: what handlers and destructors still do with its connections,
 * and threads that use them up to the last moment. They are gone then, and see
 * nothing of it; the other end gets what was written, and the end.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

enum { ROUNDS = 5 };

static pid_t child;

/* A child whose connection `a` has left TCP does it; `b` is our end. */
static void start_child(void (*does)(void))
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);
    char word[4];

    close(b);
    child = fork_limited(8);
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        close(a);
        a = tcp_connect("4", port);
        until_moved(a, -1);
        (void)!write(a, "last", 4);
        does();
        _exit(8);
    }
    b = accept(listener, NULL, NULL);
    close(listener);
    echo_words(b, word);
}

static void show_status(void)
{
    int status;

    waitpid(child, &status, 0);
    printf("  status %x\n", (unsigned)status);
}

/* Its words come back to it until it ends. */
static void answer_child(void (*does)(void))
{
    char word[4];

    start_child(does);
    echo_words(b, word);
    (void)!write(b, word, 4);
    echo_words(b, word);
    said("the end", recv(b, word, 1, 0));
    show_status();
}

static void word_and_back(const char *who)
{
    char word[8] = "";
    ssize_t n = write(a, "word", 4);

    printf("  %s: %zd, %zd %s\n", who, n, recv(a, word, 4, MSG_WAITALL), word);
}

static void at_exit(void)
{
    word_and_back("atexit");
}

static void on_its_exit(int status, void *arg)
{
    (void)arg;
    printf("  status %d\n", status);
    word_and_back("on_exit");
}

static void load_library(void)
{
    char path[4096] = "", *name;
    void *library;
    int *to;

    (void)!readlink("/proc/self/exe", path, sizeof(path) - 64);
    name = strrchr(path, '/');
    strcpy(name + 1, "library/last_words.so");
    library = dlopen(path, RTLD_NOW);
    to = library != NULL ? dlsym(library, "last_words_to") : NULL;
    if (to == NULL)
        die("%s: %s", path, dlerror());
    *to = a;
}

static void exits_with_handlers(void)
{
    atexit(at_exit);
    on_exit(on_its_exit, NULL);
    load_library();
    exit(3);
}

static void handlers_at_exit(void)
{
    answer_child(exits_with_handlers);
}

static void at_first(void)
{
    word_and_back("first");
}

static void at_last(void)
{
    word_and_back("second");
    (void)!write(a, "last", 4);
    said("back", recv(a, (char[4]){0}, 4, MSG_WAITALL));
}

static void exits_quickly(void)
{
    at_quick_exit(at_last);
    at_quick_exit(at_first);
    quick_exit(4);
}

static void handlers_at_quick_exit(void)
{
    answer_child(exits_quickly);
}

/* ---- threads that go on ---- */

static char block[5000];

/* Only an error ends it, and the process with it: there is none. */
static void *writes_on(void *arg)
{
    while (write(a, block, sizeof(block)) > 0)
        ;
    _exit(9);
    return arg;
}

static void *reads_on(void *arg)
{
    static char bytes[sizeof(block)];

    while (read(a, bytes, sizeof(bytes)) > 0)
        ;
    _exit(9);
    return arg;
}

static void *forks_on(void *arg)
{
    for (;;) {
        pid_t pid = fork();

        if (pid == 0) {
            ssize_t n = write(a, "x", 1);

            _exit(n == 1 ? 0 : 9);
        }
        if (pid < 0 || child_status(pid) != 0)
            _exit(9);
    }
    return arg;
}

static void *exits_too(void *arg)
{
    pthread_barrier_wait(arg);
    _exit(0);
}

static void ends_by_exit(void)
{
    run_thread(writes_on, NULL);
    sleep_ms(10);
    exit(0);
}

static void ends_at_once(void)
{
    run_thread(writes_on, NULL);
    sleep_ms(10);
    _exit(0);
}

static void ends_quickly(void)
{
    run_thread(writes_on, NULL);
    sleep_ms(10);
    quick_exit(0);
}

static void ends_without_signals(void)
{
    signal(SIGPIPE, SIG_IGN);
    ends_by_exit();
}

static void ends_beside_a_reader(void)
{
    run_thread(reads_on, NULL);
    sleep_ms(10);
    exit(0);
}

static void ends_beside_forks(void)
{
    run_thread(forks_on, NULL);
    sleep_ms(10);
    exit(0);
}

static void on_alarm(int number)
{
    (void)number;
    if (send(a, block, 100, MSG_DONTWAIT | MSG_NOSIGNAL) == 0)
        _exit(9);
}

static void ends_beside_handlers(void)
{
    struct itimerval often = {{0, 300}, {0, 300}};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    ends_by_exit();
}

/* Which of the two comes first is not told; all was written before. */
static void ends_twice(void)
{
    pthread_barrier_t both;

    pthread_barrier_init(&both, NULL, 2);
    run_thread(exits_too, &both);
    (void)!write(a, block, sizeof(block));
    pthread_barrier_wait(&both);
    _exit(0);
}

static void rounds(void (*does)(void), bool all_of_it)
{
    for (int i = 0; i < ROUNDS; i++) {
        char bytes[4096];
        size_t total = 0;
        ssize_t n;

        start_child(does);
        while ((n = read(b, bytes, sizeof(bytes))) > 0)
            total += (size_t)n;
        said("the end", n);
        if (all_of_it)
            printf("  of %zu\n", total);
        show_status();
    }
}

static void writer_at_exit(void)
{
    rounds(ends_by_exit, false);
}

static void writer_at_end(void)
{
    rounds(ends_at_once, false);
}

static void writer_at_quick_exit(void)
{
    rounds(ends_quickly, false);
}

static void writer_without_signals(void)
{
    rounds(ends_without_signals, false);
}

static void writer_and_handlers(void)
{
    rounds(ends_beside_handlers, false);
}

static void forks_at_exit(void)
{
    rounds(ends_beside_forks, false);
}

static void two_ends(void)
{
    rounds(ends_twice, true);
}

/* What lies unread when it ends resets the connection. */
static void reader_at_exit(void)
{
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < ROUNDS; i++) {
        start_child(ends_beside_a_reader);
        while (write(b, block, sizeof(block)) > 0)
            ;
        show_status();
    }
}

static const struct test_case cases[] = {
    {"handlers_at_exit", handlers_at_exit, GOES_UP},
    {"handlers_at_quick_exit", handlers_at_quick_exit, GOES_UP},
    {"writer_at_exit", writer_at_exit, GOES_UP},
    {"writer_at_end", writer_at_end, GOES_UP},
    {"writer_at_quick_exit", writer_at_quick_exit, GOES_UP},
    {"writer_without_signals", writer_without_signals, GOES_UP},
    {"writer_and_handlers", writer_and_handlers, GOES_UP},
    {"reader_at_exit", reader_at_exit, GOES_UP},
    {"forks_at_exit", forks_at_exit, GOES_UP},
    {"two_ends", two_ends, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
