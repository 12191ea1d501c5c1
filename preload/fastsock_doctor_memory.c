/*
 * What the shared memory transport needs: sealed memory files, abstract UNIX
 * sockets that carry credentials, and a uid that means somebody.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "preload/fastsock_doctor.h"
#include "preload/fastsock_tree.h"
#include "transport/shared_memory.h"

enum { TRIED_SIZE = 4096, UID_NOBODY = 65534 };

/* Makes one, judges it as a peer would, and maps it. */
static int try_memory(void)
{
    void *at = NULL;
    size_t size;
    int fd, rc;

    rc = memory_create("fastsock.doctor", TRIED_SIZE, &fd);
    if (rc < 0)
        return rc;
    rc = memory_check(fd, TRIED_SIZE, TRIED_SIZE, &size);
    if (rc == 0)
        rc = memory_map(fd, size, true, &at);
    memory_unmap(at, TRIED_SIZE);
    close(fd);
    return rc;
}

/* Meets itself at an abstract name and asks who that is. */
static int try_socket(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(name.sun_family), size = sizeof(struct ucred);
    int kind = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, rc = 0;
    int listener = socket(AF_UNIX, kind, 0), fd = socket(AF_UNIX, kind, 0);
    struct ucred who = {0};

    if (listener < 0 || fd < 0 ||
        bind(listener, (struct sockaddr *)&name, len) < 0)
        rc = -errno;
    len = sizeof(name);
    if (rc == 0 && (getsockname(listener, (struct sockaddr *)&name, &len) < 0 ||
                    listen(listener, 1) < 0 ||
                    connect(fd, (struct sockaddr *)&name, len) < 0 ||
                    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0))
        rc = -errno;
    if (rc == 0 && who.uid != geteuid())
        rc = -EPERM;
    if (fd >= 0)
        close(fd);
    if (listener >= 0)
        close(listener);
    return rc;
}

static void say_memory(struct doctor *d)
{
    int rc = try_memory();

    if (rc == 0) {
        doctor_say(d, DOCTOR_OK, "memfd", "sealed memory files work");
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "memfd",
               "a sealed memory file could not be made (%s): it takes Linux "
               "3.17, and a container's seccomp profile has to allow "
               "memfd_create",
               strerror(-rc));
    doctor_lacks(&d->shm, "no sealed memory files (%s)", strerror(-rc));
}

static void say_socket(struct doctor *d)
{
    int rc = try_socket();

    if (rc == 0) {
        doctor_say(d, DOCTOR_OK, "sockets",
                   "abstract UNIX sockets work; two containers meet there "
                   "only if they share their network namespace");
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "sockets",
               "abstract UNIX sockets do not work (%s): allow AF_UNIX in the "
               "service (RestrictAddressFamilies=), the seccomp or the "
               "AppArmor profile",
               strerror(-rc));
    doctor_lacks(&d->shm, "no abstract UNIX sockets (%s)", strerror(-rc));
}

/* "0 0 4294967295": every uid is itself. */
static bool maps_all(const char *map)
{
    unsigned long inside, outside, count;

    return sscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3 &&
           inside == 0 && outside == 0 && count == UINT32_MAX;
}

static void say_user(struct doctor *d)
{
    char map[128], nobody[32];

    if (tree_line(d->root, "/proc/sys/kernel/overflowuid", nobody,
                  sizeof(nobody)) > 0 &&
        strcmp(nobody, "65534") != 0)
        doctor_say(d, DOCTOR_HINT, "user",
                   "kernel.overflowuid is %s: keep 65534, the uid that the "
                   "library takes for somebody without a uid here",
                   nobody);
    if (doctor_live(d) && geteuid() == UID_NOBODY) {
        doctor_say(d, DOCTOR_MISSING, "user",
                   "uid 65534 stands for everybody who has no uid here, and "
                   "memory is not shared with it: run as a user of its own");
        doctor_lacks(&d->shm, "uid 65534 is nobody's");
        return;
    }
    if (tree_line(d->root, "/proc/self/uid_map", map, sizeof(map)) <= 0)
        doctor_say(d, DOCTOR_HINT, "user",
                   "/proc/self/uid_map cannot be read, so user namespaces "
                   "cannot be told apart: mount /proc");
    else if (maps_all(map))
        doctor_say(d, DOCTOR_OK, "user",
                   "this is the first user namespace; memory is shared with "
                   "the same user and those of the setting users");
    else
        doctor_say(d, DOCTOR_HINT, "user",
                   "this is a user namespace of its own: processes outside of "
                   "it stay on TCP; run both ends in the same one");
}

void doctor_examine_memory(struct doctor *d)
{
    if (doctor_live(d)) {
        say_memory(d);
        say_socket(d);
    } else {
        doctor_say(d, DOCTOR_HINT, "memfd",
                   "memory files and UNIX sockets cannot be tried in a saved "
                   "tree: run fastsock doctor on the machine itself");
    }
    say_user(d);
}
