/*
 * usage: forks_and_users [CASE]
 *
 * Processes around a connection: forks beside threads that are busy, a server
 * that forked ahead, a spawned program that gets it as its standard input and
 * output, and users, roots and limits that change.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"

extern char **environ;

enum { THREADS = 4 };

static _Atomic bool enough;

static void *echoes(void *arg)
{
    uint64_t chance = (uint64_t)(uintptr_t)arg, off = 0;
    uint8_t buf[3000];
    int c, d;

    tcp_pair("4", SOCK_CLOEXEC, &c, &d);
    while (!enough) {
        size_t len = 1 + random_below(&chance, sizeof(buf));

        pattern_fill(0, off, buf, len);
        if (write(c, buf, len) != (ssize_t)len ||
            recv(d, buf, len, MSG_WAITALL) != (ssize_t)len ||
            pattern_check(0, off, buf, len) >= 0)
            die("an echo at %llu", (unsigned long long)off);
        off += len;
    }
    return (void *)(uintptr_t)(off > 0);
}

static void forks_beside_threads(void)
{
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++)
        thread[i] = run_thread(echoes, (void *)(uintptr_t)(i + 1));
    for (int i = 0; i < 24; i++) {
        pid_t pid;

        sleep_ms(4);
        pid = fork();
        if (pid == 0 && i % 6 == 0)
            kill(getpid(), SIGKILL);
        if (pid == 0 && i % 3 == 0)
            _exit(0);
        if (pid == 0 && i % 3 == 1)
            execl("/bin/true", "true", (char *)NULL);
        if (pid == 0) {
            for (int fd = 3; fd < 20; fd++)
                close(fd);
            sleep_ms(5);
            _exit(0);
        }
        if (pid < 0)
            die("fork");
        if (i % 2 == 0)
            waitpid(pid, NULL, 0);
    }
    while (waitpid(-1, NULL, 0) > 0)
        ;
    enough = true;
    for (int i = 0; i < THREADS; i++)
        printf("  every byte in its place: %d\n", end_of(thread[i]) != NULL);
    talk("after all", a, b);
}

static _Noreturn void serves(int listener)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char buf[2000];
        ssize_t n;

        while ((n = read(fd, buf, sizeof(buf))) > 0)
            if (write(fd, buf, (size_t)n) != n)
                _exit(1);
        close(fd);
    }
}

static void preforked(void)
{
    uint16_t port = 0;
    int listener = tcp_listen("4", &port);
    pid_t child[3];

    for (int i = 0; i < 3; i++) {
        child[i] = fork_limited(10);
        if (child[i] == 0)
            serves(listener);
    }
    close(listener);
    for (int i = 0; i < 6; i++) {
        int fd = tcp_connect("4", port), good = 0;
        char word[64], got[64];

        for (int k = 0; k < 60; k++) {
            int len = snprintf(word, sizeof(word), "%d says %d", i, k);

            (void)!write(fd, word, (size_t)len);
            good += recv(fd, got, (size_t)len, MSG_WAITALL) == len &&
                    memcmp(word, got, (size_t)len) == 0;
            if (k == 30)
                sleep_ms(20);
        }
        printf("  connection %d: %d\n", i, good);
        close(fd);
    }
    for (int i = 0; i < 3; i++) {
        kill(child[i], SIGTERM);
        waitpid(child[i], NULL, 0);
    }
}

static void spawned_with_actions(void)
{
    char *argv[] = {"cat", NULL}, got[32] = "";
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, b, 0);
    posix_spawn_file_actions_adddup2(&actions, b, 1);
    posix_spawn_file_actions_addclose(&actions, a);
    posix_spawn_file_actions_addclose(&actions, b);
    said("spawn", posix_spawnp(&pid, "cat", &actions, NULL, argv, environ));
    close(b);
    (void)!write(a, "through a cat", 13);
    said("back", recv(a, got, 13, MSG_WAITALL));
    printf("  %s\n", got);
    shutdown(a, SHUT_WR);
    said("cat", child_status(pid));
    said("end", read(a, got, 1));
    posix_spawn_file_actions_destroy(&actions);
}

/*
 * As shells and inetd do it: the child of a vfork gives out numbers and closes
 * them. Its memory is the parent's, its descriptors are its own.
 */
static void vfork_changes_numbers(void)
{
    char *argv[] = {"cat", NULL}, got[32] = "";
    int mine = open("/dev/null", O_RDWR | O_CLOEXEC);
    pid_t pid = vfork();

    if (pid == 0) {
        if (dup2(b, 0) != 0 || dup2(b, 1) != 1 || dup2(mine, a) != a ||
            close(b) != 0)
            _exit(1);
        execvp("cat", argv);
        _exit(2);
    }
    said("a is there", fcntl(a, F_GETFD));
    said("b", close(b));
    (void)!write(a, "through a cat", 13);
    said("back", recv(a, got, 13, MSG_WAITALL));
    printf("  %s\n", got);
    shutdown(a, SHUT_WR);
    said("cat", child_status(pid));
    said("end", read(a, got, 1));
}

/* One that closes all and ends: the parent has lost nothing. */
static void vfork_closes_all(void)
{
    pid_t pid = vfork();

    if (pid == 0) {
        close(a);
        _exit(dup2(0, b) == b && close_range(3, ~0u, 0) == 0 ? 4 : 5);
    }
    said("child", child_status(pid));
    talk("both are there", a, b);
    sleep_ms(20);
    talk("and later", a, b);
    close(a);
    said("the end", read(b, &(char){0}, 1));
}

static void another_user(void)
{
    int c, d;

    if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
        die("setuid");
    talk("as nobody", a, b);
    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    talk("a new one", c, d);
}

static void another_root(void)
{
    const char *root = getenv("E2E_ROOT");
    int c, d;

    if (getuid() == 0 && root != NULL && (chroot(root) < 0 || chdir("/") < 0))
        die("chroot to %s", root);
    talk("in there", a, b);
    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    talk("a new one", c, d);
}

static void lower_limits(void)
{
    struct rlimit limit = {12, 12};
    int c, d;

    said("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
    talk("with less", a, b);
    tcp_pair("4", 0, &c, &d);
    settle_pair(c, d);
    talk("a new one", c, d);
    while (dup(0) >= 0)
        ;
    said("full", dup(0));
    talk("when full", c, d);
    for (int fd = d + 1; fd < 12; fd++)
        close(fd);
}

/* Of two numbers the child gets one, and uses it later. */
static void child_gets_a_dup(void)
{
    char command[64], got[8] = "";
    FILE *child;
    int again;

    fcntl(a, F_SETFD, FD_CLOEXEC);
    fcntl(b, F_SETFD, FD_CLOEXEC);
    again = dup(a);
    snprintf(command, sizeof(command), "read word; printf late >&%d", again);
    child = popen(command, "we");
    if (child == NULL)
        die("popen");
    for (int i = 0; i < 10; i++) {
        talk("meanwhile", a, b);
        talk("answer", b, a);
        sleep_ms(10);
    }
    fprintf(child, "now\n");
    said("child", pclose(child));
    said("from the child", recv(b, got, 4, MSG_WAITALL));
    printf("  %s\n", got);
    talk("afterwards", a, b);
}

static const struct test_case cases[] = {
    {"forks_beside_threads", forks_beside_threads, GOES_UP},
    {"preforked", preforked, GOES_UP},
    {"spawned_with_actions", spawned_with_actions, GOES_UP},
    {"vfork_changes_numbers", vfork_changes_numbers, GOES_UP},
    {"vfork_closes_all", vfork_closes_all, GOES_UP},
    {"another_user", another_user, STAYS},
    {"another_root", another_root, STAYS},
    {"lower_limits", lower_limits, STAYS},
    {"child_gets_a_dup", child_gets_a_dup, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
