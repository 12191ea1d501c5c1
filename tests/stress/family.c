/*
 * Processes that hold one thing come and go: they fork, two threads at once
 * too, close, end, are killed, run a program that has it or not, or die while
 * one of theirs is being made. Who is told that it is alone has to be: all of
 * them have an end of a pipe, and the other end knows.
 *
 *     family           400 families
 *     family long      5,000
 */
#include "preload/family.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "preload/members.h"

enum { DEPTH = 4, STEPS = 30, CHILDREN = 8, PROCESSES = 4 };

/* Its allocator does not survive a fork beside another thread of the process.
 */
#ifdef __SANITIZE_ADDRESS__
enum { BESIDE_THREADS_HANGS = true };
#else
enum { BESIDE_THREADS_HANGS = false };
#endif

/* What all processes of a run see. */
static struct seen {
    _Atomic unsigned made, begun, execs, alone, wrong, killed;
} * seen;

struct holder {
    struct holding e;
    int in, out; /* of the pipe: everybody has both */
    uint64_t chance;
    unsigned depth, n;
    pid_t child[CHILDREN];
};

static unsigned random_below(struct holder *h, unsigned n)
{
    h->chance ^= h->chance << 13;
    h->chance ^= h->chance >> 7;
    h->chance ^= h->chance << 17;
    return (unsigned)(h->chance >> 20) % n;
}

static void rest(struct holder *h)
{
    struct timespec t = {0, 1 + (long)random_below(h, 300000)};

    nanosleep(&t, NULL);
}

static _Noreturn void hold(struct holder *h);

static pid_t make_child(struct holder *h)
{
    struct timespec t = {0, 100000};
    unsigned begun;
    pid_t pid;

    if (atomic_fetch_add(&seen->made, 1) >= PROCESSES)
        return -1;
    begun = atomic_load(&seen->begun);
    family_grows(&h->e);
    pid = fork();
    if (pid != 0) {
        /* Mostly: one that is killed before it has its name counts for ever. */
        for (int i = begun % 16 == 0 ? 50 : 0;
             i < 50 && atomic_load(&seen->begun) == begun; i++)
            nanosleep(&t, NULL);
        return pid;
    }
    members_forked();
    family_forked(&h->e);
    atomic_fetch_add(&seen->begun, 1);
    h->chance ^= (uint64_t)getpid() << 32;
    h->depth++;
    h->n = 0;
    hold(h);
}

static void *fork_beside(void *arg)
{
    return (void *)(intptr_t)make_child(arg);
}

static void add(struct holder *h, pid_t pid)
{
    if (pid > 0 && h->n < CHILDREN)
        h->child[h->n++] = pid;
}

/* Two threads at once, mostly one. */
static void forks(struct holder *h)
{
    pthread_t thread;
    void *pid;
    bool two;

    if (h->depth >= DEPTH)
        return;
    two = random_below(h, 3) == 0 && !BESIDE_THREADS_HANGS &&
          pthread_create(&thread, NULL, fork_beside, h) == 0;
    add(h, make_child(h));
    if (two && pthread_join(thread, &pid) == 0)
        add(h, (pid_t)(intptr_t)pid);
}

static void kills(struct holder *h)
{
    if (h->n == 0)
        return;
    kill(h->child[--h->n], SIGKILL);
    atomic_fetch_add(&seen->killed, 1);
    if (random_below(h, 4) != 0)
        waitpid(h->child[h->n], NULL, 0);
}

/*
 * It gives its own end up for a moment: then nobody has one. Who runs another
 * program is told to be gone just before the kernel closes what it had.
 */
static void looks(struct holder *h)
{
    struct pollfd p = {.fd = h->in};
    char path[64];

    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    if (!family_is_alone(&h->e))
        return;
    close(h->out);
    if (poll(&p, 1, atomic_load(&seen->execs) > 0 ? 1000 : 0) != 1 ||
        !(p.revents & POLLHUP))
        atomic_fetch_add(&seen->wrong, 1);
    atomic_fetch_add(&seen->alone, 1);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", h->in);
    h->out = open(path, O_WRONLY | O_CLOEXEC);
    if (h->out < 0)
        _exit(2);
    atomic_store(&seen->made, 0);
    add(h, make_child(h)); /* and from now on there are two again */
}

static void runs_nothing(struct holder *h)
{
    member_hides();
    atomic_fetch_add(&seen->execs, 1);
    family_execs(&h->e);
    execl("/does/not/exist", "true", (char *)NULL);
    family_exec_failed(&h->e);
    atomic_fetch_sub(&seen->execs, 1);
    member_shows();
}

static _Noreturn void runs(struct holder *h, bool inherited)
{
    member_hides();
    if (inherited) {
        fcntl(h->out, F_SETFD, 0);
    } else {
        atomic_fetch_add(&seen->execs, 1);
        family_execs(&h->e);
    }
    execl("/bin/sleep", "sleep", "0.01", (char *)NULL);
    _exit(2);
}

/* Killed with a child that is not counted, as in the midst of system(). */
static _Noreturn void dies_in_spawn(struct holder *h)
{
    member_hides();
    if (fork() == 0) {
        struct timespec t = {0, 10000000};

        fcntl(h->out, F_SETFD, 0);
        nanosleep(&t, NULL);
        _exit(0);
    }
    kill(getpid(), SIGKILL);
    _exit(2);
}

static _Noreturn void ends(struct holder *h)
{
    unsigned how = random_below(h, 32);

    if (how == 0)
        runs(h, true);
    if (how == 1)
        dies_in_spawn(h);
    if (how < 3)
        runs(h, false);
    if (how < 8)
        kill(getpid(), SIGKILL);
    if (how < 12) {
        close(h->out);
        family_leave(&h->e);
        rest(h);
    }
    _exit(0);
}

static _Noreturn void hold(struct holder *h)
{
    for (int i = 0; i < STEPS; i++)
        switch (random_below(h, 8)) {
        case 0:
        case 1:
            forks(h);
            break;
        case 2:
            kills(h);
            break;
        case 3:
            if (random_below(h, 8) == 0)
                runs_nothing(h);
            break;
        case 4:
        case 5:
            looks(h);
            break;
        default:
            rest(h);
        }
    for (int i = 0; h->depth == 0 && i < STEPS; i++) {
        rest(h);
        looks(h);
    }
    ends(h);
}

/* The first of a family: its parent has nothing of it. */
static _Noreturn void begin(uint64_t seed)
{
    struct holder *h = calloc(1, sizeof(*h));
    int fds[2];

    if (h == NULL || pipe2(fds, O_CLOEXEC) < 0)
        _exit(2);
    h->in = fds[0];
    h->out = fds[1];
    h->chance = seed * 0x9e3779b97f4a7c15 | 1;
    atomic_store(&seen->made, 0);
    atomic_store(&seen->execs, 0);
    add(h, make_child(h));
    add(h, make_child(h));
    for (int i = 0; i < 2; i++)
        forks(h);
    hold(h);
}

int main(int argc, char **argv)
{
    bool is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    int families = is_long ? 5000 : 400;
    uint64_t seed = is_long ? (uint64_t)time(NULL) : 1;

#ifdef __SANITIZE_THREAD__
    puts("a child of two threads makes threads: not under this sanitizer");
    return 77;
#endif
    seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
        return 2;
    for (int i = 0; i < families; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return 2;
        if (pid == 0)
            begin(seed + (uint64_t)i);
        while (wait(NULL) > 0 || errno == EINTR)
            ;
    }
    printf("%d families, %u killed, %u alone, %u of them wrongly\n", families,
           atomic_load(&seen->killed), atomic_load(&seen->alone),
           atomic_load(&seen->wrong));
    return atomic_load(&seen->wrong) != 0 || atomic_load(&seen->alone) < 10;
}
