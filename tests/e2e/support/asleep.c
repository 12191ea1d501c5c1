/*
 * See asleep.h.
 */
#include "tests/e2e/support/asleep.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/support/plain.h"

enum { LOOKS = 5, EACH_MS = 5, MOST_MS = 2000 };

pthread_t run_thread(void *(*body)(void *), void *arg)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, body, arg) != 0)
        die("pthread_create");
    return thread;
}

void *end_of(pthread_t thread)
{
    void *result;

    pthread_join(thread, &result);
    return result;
}

static bool sleeps(pid_t tid)
{
    char path[64], text[256];
    const char *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; /* it has ended: there is nothing to wait for */
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')');
    return at != NULL && at[1] == ' ' && at[2] == 'S';
}

void until_asleep(pid_t tid)
{
    int found = 0;

    for (int ms = 0; found < LOOKS && ms < MOST_MS; ms += EACH_MS) {
        sleep_ms(EACH_MS);
        found = sleeps(tid) ? found + 1 : 0;
    }
}

struct starting {
    void *(*body)(void *);
    void *arg;
    _Atomic pid_t tid;
};

static void *begin(void *arg)
{
    struct starting *s = arg;
    void *(*body)(void *) = s->body;
    void *its_own = s->arg;

    atomic_store(&s->tid, gettid()); /* the last that is seen of it here */
    return body(its_own);
}

pthread_t start_asleep(void *(*body)(void *), void *arg)
{
    struct starting s = {.body = body, .arg = arg};
    pthread_t thread = run_thread(begin, &s);
    pid_t tid;

    while ((tid = atomic_load(&s.tid)) == 0)
        sleep_ms(1);
    until_asleep(tid);
    return thread;
}
