/*
 * See pair.h.
 */
#include "tests/differential/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/e2e/support/plain.h"

enum { KERNEL_LIMIT_MS = 5000, LIMIT_MS = 10000 };

const char *mode_name(enum mode mode)
{
    static const char *const names[MODES] = {"kernel", "both", "client",
                                             "server", "breaks"};

    return names[mode];
}

struct shared *pair_attach(int fd)
{
    void *at = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                    MAP_SHARED, fd, 0);

    return at == MAP_FAILED ? NULL : at;
}

/*
 * Streams go up as soon as they are there, and writers wait for it. After a
 * return they stay on TCP, so that every result is decided.
 */
static void set_environment(enum mode mode, unsigned end,
                            const struct pair_setup *setup)
{
    bool with = mode == MODE_BOTH || mode == MODE_BREAKS ||
                (mode == MODE_CLIENT && end == CLIENT) ||
                (mode == MODE_SERVER && end == SERVER);

    unsetenv("LD_PRELOAD");
    setenv("FASTSOCK_CONFIG", "", 1);
    setenv("FASTSOCK_UPGRADE_AFTER", "0", 1);
    setenv("FASTSOCK_HANDOVER_HOLD_USEC", "100000", 1);
    setenv("FASTSOCK_RING_SIZE", "65536", 1);
    setenv("FASTSOCK_SETTLE_MS", "600000", 1);
    if (with)
        setenv("LD_PRELOAD",
               mode == MODE_BREAKS ? setup->breaking : setup->library, 1);
}

static pid_t start(const struct pair *pair, unsigned end,
                   const struct pair_setup *setup)
{
    char number[12];
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    if (dup2(pair->fd, SHARED_FD) < 0)
        _exit(126);
    set_environment(pair->mode, end, setup);
    snprintf(number, sizeof(number), "%u", end);
    execl("/proc/self/exe", "differential", "actor", number, (char *)NULL);
    _exit(127);
}

static bool begin(struct pair *pair, const struct pair_setup *setup)
{
    pair->fd = memfd_create("differential", MFD_CLOEXEC);
    if (pair->fd < 0 || ftruncate(pair->fd, sizeof(struct shared)) < 0)
        return false;
    pair->shared = pair_attach(pair->fd);
    if (pair->shared == NULL)
        return false;
    pair->rounds = 0;
    for (unsigned end = 0; end < 2; end++)
        pair->pid[end] = start(pair, end, setup);
    return pair->pid[0] > 0 && pair->pid[1] > 0;
}

void pair_end(struct pair *pair)
{
    if (pair->shared == NULL)
        return;
    for (unsigned end = 0; end < 2; end++) {
        if (pair->pid[end] <= 0)
            continue;
        kill(pair->pid[end], SIGKILL);
        waitpid(pair->pid[end], NULL, 0);
    }
    munmap(pair->shared, sizeof(struct shared));
    close(pair->fd);
    pair->shared = NULL;
}

static bool somebody_died(struct pair *pair)
{
    int status = 0;

    for (unsigned end = 0; end < 2; end++)
        if (waitpid(pair->pid[end], &status, WNOHANG) != 0) {
            printf("the %s of the mode \"%s\" died: status %x\n",
                   end == CLIENT ? "client" : "server", mode_name(pair->mode),
                   (unsigned)status);
            pair->pid[end] = 0;
            return true;
        }
    return false;
}

static void clear(struct shared *s, const struct program *program,
                  const struct shared *expected)
{
    char *from = (char *)&s->port;

    s->program = *program;
    memset(s->seen, 0, sizeof(s->seen));
    memset(s->state, 0, sizeof(s->state));
    memset(s->taken, 0, sizeof(s->taken));
    if (expected != NULL) {
        memcpy(s->expected, expected->seen, sizeof(s->expected));
        memcpy(s->expected_state, expected->state, sizeof(s->expected_state));
        memcpy(s->expected_taken, expected->taken, sizeof(s->expected_taken));
    }
    for (int i = 0; i < PROCESSES; i++)
        for (int k = 0; k < SLOTS; k++) {
            memset(&s->slot[i][k], 0, sizeof(struct slot));
            s->slot[i][k].fd = -1;
        }
    memset(from, 0, (size_t)((char *)s->slot - from));
    memset(s->conn, 0, sizeof(s->conn));
    memset((void *)&s->ups, 0,
           (size_t)((char *)s + sizeof(*s) - (char *)&s->ups));
    atomic_store(&s->turn, 0);
    atomic_store(&s->stop, 0);
    atomic_store(&s->finished, 0);
}

enum pair_result pair_run(struct pair *pair, const struct pair_setup *setup,
                          const struct program *program,
                          const struct shared *expected)
{
    unsigned limit =
        (pair->mode == MODE_KERNEL ? KERNEL_LIMIT_MS : LIMIT_MS) * setup->slow;
    struct shared *s;
    uint64_t until;
    uint32_t done;

    if (pair->shared == NULL && !begin(pair, setup)) {
        fprintf(stderr, "differential: no processes: %s\n", strerror(errno));
        exit(2);
    }
    s = pair->shared;
    s->mode = pair->mode;
    s->slow = setup->slow;
    clear(s, program, expected);
    until = now_ms() + limit;
    atomic_store(&s->round, ++pair->rounds);
    futex_wake_all(&s->round);
    while ((done = atomic_load(&s->finished)) < 2) {
        if (somebody_died(pair))
            return PAIR_DIED;
        if (now_ms() > until)
            return PAIR_HUNG;
        futex_wait(&s->finished, done, 100);
    }
    return PAIR_DONE;
}
