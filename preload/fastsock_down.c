/*
 * fastsock down and up: asks a process to bring streams back to kernel TCP
 * and keep them there, or to let them leave it again.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "preload/admin_layout.h"
#include "preload/fastsock_command.h"
#include "preload/fastsock_target.h"
#include "preload/fastsock_text.h"

enum { ANSWER_S = 2, LOOK_MS = 10, LOOKS = 500 };

static const char *words(uint32_t command)
{
    return command == ADMIN_DOWN ? "down" : "up";
}

/* The listener's process, as far as it can be seen from here; 0: it cannot. */
static pid_t who_listens(int fd)
{
    struct ucred who;
    socklen_t len = sizeof(who);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 ? 0
                                                                   : who.pid;
}

/* How many streams it is about, or -errno. */
static int ask(const struct target *target, uint32_t command, int fd)
{
    struct admin_request request = {ADMIN_MAGIC, command, fd, 0};
    struct admin_reply reply = {0};
    struct timeval limit = {.tv_sec = ANSWER_S};
    struct sockaddr_un un;
    socklen_t len = admin_address(target->inode, &un);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), rc;

    if (s < 0)
        return -errno;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    rc = -ECONNREFUSED;
    if (connect(s, (struct sockaddr *)&un, len) < 0)
        goto close_socket;
    rc = -EPERM;
    if (who_listens(s) != target->pid)
        goto close_socket;
    rc = -ETIMEDOUT;
    if (send(s, &request, sizeof(request), MSG_NOSIGNAL) < 0)
        goto close_socket;
    switch (recv(s, &reply, sizeof(reply), 0)) {
    case sizeof(reply):
        rc = reply.magic == ADMIN_MAGIC ? reply.result : -EPROTO;
        break;
    case 0:
        rc = -EACCES;
        break;
    }
close_socket:
    close(s);
    return rc;
}

/* Streams that are not on kernel TCP (or reset). */
static unsigned still_away(struct target *target, int fd)
{
    unsigned n = segment_highest(&target->segment), away = 0;
    struct segment_row row;

    for (unsigned i = 0; i < n; i++)
        away += segment_row(&target->segment, i, &row) &&
                (fd == ADMIN_ALL || row.fd == (unsigned)fd) &&
                row.stage != STATS_STAGE_RAW && row.stage != STATS_STAGE_DEAD;
    return away;
}

static unsigned wait_until_back(struct target *target, int fd)
{
    struct timespec t = {0, LOOK_MS * 1000000};
    unsigned away;

    for (int i = 0; (away = still_away(target, fd)) > 0 && i < LOOKS; i++)
        nanosleep(&t, NULL);
    return away;
}

static int failed(const struct target *target, uint32_t command, int fd, int rc)
{
    const char *name = words(command);
    int pid = (int)target->pid;

    switch (rc) {
    case -ECONNREFUSED:
        text_error(name,
                   "process %d does not listen: no stream of it has tried to "
                   "leave kernel TCP yet, or it is in another network "
                   "namespace ('nsenter -t %d -n fastsock %s %d')",
                   pid, pid, name, pid);
        break;
    case -EACCES:
        text_error(name, "process %d obeys its own user and root only", pid);
        break;
    case -EBADF:
        text_error(name,
                   "descriptor %d of process %d is no connected TCP socket "
                   "under the library: 'fastsock ss -p %d' lists those",
                   fd, pid, pid);
        break;
    case -EPERM:
        text_error(name,
                   "something else than process %d listens under its name: "
                   "nothing was asked",
                   pid);
        break;
    default:
        text_error(name, "process %d did not answer (%s): is it stopped?", pid,
                   strerror(-rc));
    }
    return COMMAND_FAILED;
}

static int report_up(const struct target *target, int fd, int n)
{
    if (fd == ADMIN_ALL)
        printf("%d stream%s of process %d (%s), and new ones, may leave kernel "
               "TCP again.\n",
               n, n == 1 ? "" : "s", (int)target->pid, target->head.program);
    else
        printf("Descriptor %d of process %d (%s) may leave kernel TCP again.\n",
               fd, (int)target->pid, target->head.program);
    return COMMAND_DONE;
}

static int report_down(struct target *target, int fd, int n)
{
    unsigned away = wait_until_back(target, fd);
    int pid = (int)target->pid;

    if (away > 0) {
        text_error("down",
                   "%u of %d stream%s not back on kernel TCP yet: their peers "
                   "do not answer; they come back when those do",
                   away, n, n == 1 ? " is" : "s are");
        return COMMAND_FAILED;
    }
    if (fd == ADMIN_ALL)
        printf("%d stream%s of process %d (%s) %s on kernel TCP; they and new "
               "ones stay there until 'fastsock up %d'.\n",
               n, n == 1 ? "" : "s", pid, target->head.program,
               n == 1 ? "is" : "are", pid);
    else
        printf("Descriptor %d of process %d (%s) is on kernel TCP and stays "
               "there until 'fastsock up %d/%d'.\n",
               fd, pid, target->head.program, pid, fd);
    return COMMAND_DONE;
}

static int tell(int argc, char **argv, uint32_t command)
{
    struct target target;
    int status = COMMAND_FAILED, fd, rc;
    pid_t pid;

    if (argc != 2 || !command_pid_fd(argv[1], &pid, &fd))
        return command_usage(argv[0], "expected PID or PID/FD, not '%s'",
                             argc == 2  ? argv[1]
                             : argc < 2 ? "nothing"
                                        : argv[2]);
    if (target_open(pid, &target) != TARGET_OPEN) {
        text_error(argv[0],
                   "process %d has no streams under the library that can be "
                   "seen: 'fastsock explain %d' says why",
                   (int)pid, (int)pid);
    } else {
        rc = ask(&target, command, fd);
        if (rc < 0)
            status = failed(&target, command, fd, rc);
        else if (command == ADMIN_DOWN)
            status = report_down(&target, fd, rc);
        else
            status = report_up(&target, fd, rc);
    }
    target_close(&target);
    return status;
}

int command_down(int argc, char **argv)
{
    return tell(argc, argv, ADMIN_DOWN);
}

int command_up(int argc, char **argv)
{
    return tell(argc, argv, ADMIN_UP);
}
