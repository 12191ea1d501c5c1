/*
 * Steps that make processes, end them, and pass descriptors to them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/differential/actor.h"

extern char **environ;

enum { SHARED_FD = 900, PAIR_FD = 901 };

static void on_user(int number)
{
    (void)number;
}

/* The kid has all slots of its parent, and each holds its descriptor. */
static void share_slots(struct actor *a, unsigned kid)
{
    for (int i = 0; i < SLOTS; i++) {
        struct slot *s = &a->shared->slot[a->process][i];

        a->shared->slot[kid][i] = *s;
        if (s->kind == SLOT_CONN)
            a->shared->conn[s->conn].holders[s->end]++;
    }
}

static void step_fork(struct actor *a, struct outcome *o)
{
    unsigned kid = a->process + CLIENT_KID;
    struct shared *shared = a->shared;
    int pair[2];
    pid_t pid;

    if (a->process > SERVER || shared->kid_pid[a->process] != 0 ||
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    share_slots(a, kid);
    shared->kid_pid[a->process] = -1;
    pid = fork();
    if (pid == 0) {
        close(pair[0]);
        actor_set_pair_fd(pair[1]);
        actor_become_kid(shared, kid);
    }
    close(pair[1]);
    actor_set_pair_fd(pair[0]);
    shared->kid_pid[a->process] = pid > 0 ? pid : 0;
    o->rc = pid > 0 ? 0 : -1;
    o->err = pid > 0 ? 0 : errno;
}

static void step_exit(struct actor *a)
{
    if (a->process < CLIENT_KID)
        return;
    switch (a->step->arg[0]) {
    case BY_EXIT:
        exit(5);
    case BY__EXIT:
        _exit(6);
    default:
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

static void step_image(struct actor *a, struct outcome *o)
{
    char shared_fd[12], process[12], at[12], pair[12];
    char *argv[] = {"differential", "image", shared_fd, process, at,
                    pair,           NULL};

    if (a->process < CLIENT_KID)
        return;
    snprintf(shared_fd, sizeof(shared_fd), "%d", SHARED_FD);
    snprintf(process, sizeof(process), "%u", a->process);
    snprintf(at, sizeof(at), "%u", a->at);
    snprintf(pair, sizeof(pair), "%d", PAIR_FD);
    dup2(actor_pair_fd(), PAIR_FD);
    if (a->step->arg[0] == 0)
        unsetenv("LD_PRELOAD");
    execv("/proc/self/exe", argv);
    o->rc = -1;
    o->err = errno;
}

static void step_spawn(struct actor *a, struct outcome *o)
{
    static char *const argv[] = {"true", NULL};
    int status = -1;
    pid_t pid = -1;

    switch (a->step->arg[0]) {
    case BY_SYSTEM:
        o->rc = system("exit 4");
        return;
    case BY_POSIX_SPAWN:
        if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ) != 0)
            pid = -1;
        break;
    default:
        pid = vfork();
        if (pid == 0) {
            execv("/bin/true", argv);
            _exit(1);
        }
    }
    if (pid > 0)
        waitpid(pid, &status, 0);
    o->rc = status;
}

/* ---- descriptors passed on ---- */

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static void step_pass(struct actor *a, struct outcome *o)
{
    const struct slot *s = slot_at(a, a->step->arg[0]);
    int fd = slot_fd(a, a->step->arg[0]);
    union control control = {.bytes = {0}};
    struct iovec iov = {"x", 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    if (a->process > SERVER)
        return;
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    o->rc = sendmsg(actor_pair_fd(), &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    o->err = o->rc < 0 ? errno : 0;
    if (o->rc < 0 || s == NULL)
        return;
    a->shared->passing[a->process].conn = s->conn;
    a->shared->passing[a->process].end = s->end;
    a->shared->passing[a->process].kind = s->kind;
    if (s->kind == SLOT_CONN) /* held by nobody, and yet open */
        a->shared->conn[s->conn].holders[s->end]++;
}

static void step_receive(struct actor *a, struct outcome *o)
{
    int slot = a->step->arg[0], fd = -1;
    union control control;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    unsigned parent = a->process - CLIENT_KID;

    if (a->process < CLIENT_KID || slot_at(a, slot) == NULL)
        return;
    o->rc = recvmsg(actor_pair_fd(), &msg, MSG_DONTWAIT);
    o->err = o->rc < 0 ? errno : 0;
    if (o->rc < 0 || CMSG_FIRSTHDR(&msg) == NULL)
        return;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    if (slot_fd(a, slot) >= 0) {
        close(fd);
        return;
    }
    slot_set(a, slot, fd, a->shared->passing[parent].kind,
             a->shared->passing[parent].conn, a->shared->passing[parent].end);
    if (a->shared->passing[parent].kind == SLOT_CONN)
        a->shared->conn[a->shared->passing[parent].conn]
            .holders[a->shared->passing[parent].end]--;
}

/* All handlers are of one kind: which one ran is not told to anybody. */
static void step_handler(struct actor *a)
{
    struct sigaction action = {.sa_handler = on_user,
                               .sa_flags = a->step->arg[0] ? SA_RESTART : 0};
    static const int numbers[] = {SIGPIPE, SIGUSR1, SIGUSR2};

    for (int i = 0; i < 3; i++) {
        struct sigaction now;

        sigaction(numbers[i], NULL, &now);
        if (i == 1)
            now.sa_handler = action.sa_handler;
        now.sa_flags = action.sa_flags;
        if (i < 2)
            sigaction(numbers[i], &now, NULL);
        else if (a->step->arg[0])
            signal(numbers[i], SIG_DFL);
    }
}

void step_process(struct actor *a, struct outcome *o)
{
    switch (a->step->op) {
    case OP_FORK:
        step_fork(a, o);
        break;
    case OP_EXIT:
        step_exit(a);
        break;
    case OP_IMAGE:
        step_image(a, o);
        break;
    case OP_SPAWN:
        step_spawn(a, o);
        break;
    case OP_PASS:
        step_pass(a, o);
        break;
    case OP_RECEIVE:
        step_receive(a, o);
        break;
    default:
        step_handler(a);
    }
}
