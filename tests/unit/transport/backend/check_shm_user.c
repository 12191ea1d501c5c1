/* Whom the kernel says to be at the other end of a channel. */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/run_suite.h"
#include "transport/backend/shm_private.h"

static struct shm shm;

/* A socket by which a child has connected, in a namespace of its own or not. */
static int called_by(bool own_namespace, pid_t *child)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), fd, said = 0, to[2];
    uid_t uid = geteuid();
    socklen_t len = sizeof(name);
    char map[32];

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&name, 2), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *)&name, &len);
    ck_assert_int_eq(pipe(to), 0);
    *child = fork();
    if (*child == 0) {
        FILE *f = NULL;

        if (own_namespace && (unshare(CLONE_NEWUSER) < 0 ||
                              (f = fopen("/proc/self/uid_map", "w")) == NULL))
            said = 77;
        snprintf(map, sizeof(map), "%u %u 1\n", uid, uid);
        if (f != NULL && (fputs(map, f) < 0 || fclose(f) != 0))
            said = 77;
        fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        if (connect(fd, (struct sockaddr *)&name, len) < 0)
            said = 1;
        (void)!write(to[1], &said, sizeof(said));
        pause();
    }
    ck_assert_int_eq(read(to[0], &said, sizeof(said)), sizeof(said));
    fd = said == 0 ? accept(listener, NULL, NULL) : -1;
    ck_assert_msg(fd >= 0 || (own_namespace && said == 77), "no connection");
    close(listener);
    close(to[0]);
    close(to[1]);
    return fd;
}

static void over(int fd, pid_t child)
{
    close(fd);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

START_TEST(the_same_user_may_be_met)
{
    uint32_t pid = 0;
    pid_t child;
    int fd = called_by(false, &child);

    ck_assert(channel_user_allowed(&shm, fd, &pid));
    ck_assert_int_eq((pid_t)pid, child);
    over(fd, child);
}
END_TEST

START_TEST(the_same_number_in_another_user_namespace_may_not)
{
    uint32_t pid = 0;
    pid_t child;
    int fd = called_by(true, &child);

    if (fd >= 0) /* else the system allows nobody to make one */
        ck_assert(!channel_user_allowed(&shm, fd, &pid));
    over(fd, child);
}
END_TEST

START_TEST(no_descriptor_is_left_open)
{
    uint32_t pid = 0;
    pid_t child;
    int fd = called_by(false, &child), before = dup(fd), after;

    close(before);
    ck_assert(channel_user_allowed(&shm, fd, &pid));
    after = dup(fd);
    ck_assert_int_eq(after, before);
    close(after);
    over(fd, child);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shm_user");
    TCase *t = tcase_create("user");

    tcase_add_test(t, the_same_user_may_be_met);
    tcase_add_test(t, the_same_number_in_another_user_namespace_may_not);
    tcase_add_test(t, no_descriptor_is_left_open);
    suite_add_tcase(s, t);
    return run_suite(s);
}
