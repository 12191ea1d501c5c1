/*
 * See fastsock_target.h. The segment is the first descriptor of its name that
 * holds one and was made by the process itself: a child that was made without
 * the library's knowledge still has its parent's.
 */
#include "preload/fastsock_target.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/fastsock_sockets.h"

#define SEGMENT_LINK "/memfd:" STATS_NAME " (deleted)"
#define KERNEL_FLAG  0x00200000u /* of a thread of the kernel */

/* Is it one of the numbers that its name spaces know the process by? */
static bool pid_belongs(pid_t pid, uint32_t seen)
{
    char path[64], line[512], *at, *end;
    bool found = false;
    FILE *file;

    if ((uint32_t)pid == seen)
        return true;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "NStgid:", 7) != 0)
            continue;
        for (at = line + 7; !found; at = end) {
            unsigned long number = strtoul(at, &end, 10);

            if (end == at)
                break;
            found = number == seen;
        }
        break;
    }
    fclose(file);
    return found;
}

/* A living process with memory of its own; true when that is not known. */
static bool is_program(pid_t pid)
{
    char path[64], text[1024], state, *at;
    unsigned flags;
    size_t n;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return errno != ENOENT;
    n = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[n] = '\0';
    at = strrchr(text, ')');
    if (at == NULL ||
        sscanf(at + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return n > 0;
    return state != 'Z' && state != 'X' && (flags & KERNEL_FLAG) == 0;
}

/*
 * Judged before it is opened: opening whatever the name stands for by now
 * could block or do something to a device.
 */
static int open_candidate(int dir, const char *name)
{
    char path[64];
    struct stat st;
    int found, rc;

    found = openat(dir, name, O_PATH | O_CLOEXEC);
    if (found < 0)
        return -errno;
    rc = -EPROTO;
    if (fstat(found, &st) < 0 || !S_ISREG(st.st_mode))
        goto close_found;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
    rc = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (rc < 0)
        rc = -errno;
close_found:
    close(found);
    return rc;
}

static enum target_state try_candidate(int dir, const char *name,
                                       struct target *target)
{
    int fd = open_candidate(dir, name), rc;
    struct stat st;

    if (fd < 0)
        return fd == -ENOENT ? TARGET_NO_SEGMENT : TARGET_DAMAGED;
    target->inode = fstat(fd, &st) == 0 ? st.st_ino : 0;
    rc = segment_open(fd, &target->segment);
    close(fd);
    if (rc == -EPROTONOSUPPORT)
        return TARGET_OTHER_RELEASE;
    if (rc == -EAGAIN)
        return TARGET_NO_SEGMENT;
    if (rc < 0)
        return TARGET_DAMAGED;
    segment_head(&target->segment, &target->head);
    if (pid_belongs(target->pid, target->head.pid))
        return TARGET_OPEN;
    segment_close(&target->segment);
    return TARGET_NO_SEGMENT;
}

static enum target_state search(DIR *dir, struct target *target)
{
    enum target_state state = TARGET_NO_SEGMENT, found;
    char link[sizeof(SEGMENT_LINK)];
    struct dirent *entry;
    ssize_t len;

    while (state != TARGET_OPEN && (entry = readdir(dir)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        len = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link));
        if (len < 0 && (errno == EACCES || errno == EPERM))
            return TARGET_UNREADABLE;
        if (len != (ssize_t)sizeof(link) - 1 ||
            memcmp(link, SEGMENT_LINK, sizeof(link) - 1) != 0)
            continue;
        found = try_candidate(dirfd(dir), entry->d_name, target);
        if (found != TARGET_NO_SEGMENT)
            state = found;
    }
    return state;
}

static void read_network(struct target *target)
{
    char path[64];
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)target->pid);
    len = readlink(path, target->network, sizeof(target->network) - 1);
    target->network[len > 0 ? len : 0] = '\0';
}

enum target_state target_open(pid_t pid, struct target *target)
{
    char path[64];
    DIR *dir;

    *target = (struct target){.pid = pid, .state = TARGET_GONE};
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    if (dir == NULL) {
        bool denied = errno == EACCES || errno == EPERM;

        if (denied && is_program(pid))
            target->state = TARGET_UNREADABLE;
        return target->state;
    }
    target->state = search(dir, target);
    closedir(dir);
    if (target->state == TARGET_OPEN)
        read_network(target);
    else if (!is_program(pid))
        target->state = TARGET_GONE;
    return target->state;
}

void target_close(struct target *target)
{
    if (target->state == TARGET_OPEN)
        segment_close(&target->segment);
    free(target->sockets);
    target->sockets = NULL;
    target->state = TARGET_GONE;
}

bool target_row(struct target *target, unsigned i, struct segment_row *out)
{
    const struct target_socket *socket;

    if (!segment_row(&target->segment, i, out))
        return false;
    if (out->family != 0)
        return true;
    if (!target->sockets_read) {
        target->sockets_read = true;
        target->sockets = sockets_read(target->pid, &target->n_sockets);
    }
    socket =
        sockets_find(target->sockets, target->n_sockets, target->pid, out->fd);
    if (socket != NULL) {
        out->family = socket->family;
        out->local = socket->local;
        out->peer = socket->peer;
    }
    return true;
}

int target_each(void (*each)(void *arg, struct target *target), void *arg)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    struct target target;

    if (proc == NULL)
        return -errno;
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (!isdigit((unsigned char)entry->d_name[0]) || pid == getpid())
            continue;
        target_open(pid, &target);
        each(arg, &target);
        target_close(&target);
    }
    closedir(proc);
    return 0;
}

bool target_carries_library(pid_t pid)
{
    char path[64], *line = NULL;
    size_t room = 0;
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && getline(&line, &room, file) > 0)
        found = strstr(line, "/libfastsock.so") != NULL;
    free(line);
    fclose(file);
    return found;
}

bool target_was_asked(pid_t pid)
{
    char path[64], *variable = NULL;
    size_t room = 0;
    bool found = false;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && getdelim(&variable, &room, '\0', file) > 0)
        found = strncmp(variable, "LD_PRELOAD=", 11) == 0 &&
                strstr(variable, "libfastsock.so") != NULL;
    free(variable);
    fclose(file);
    return found;
}

bool target_has_ring(pid_t pid)
{
    static const char ring[] = "anon_inode:[io_uring]";
    char path[64], link[sizeof(ring)];
    struct dirent *entry;
    bool found = false;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    dir = opendir(path);
    if (dir == NULL)
        return false;
    while (!found && (entry = readdir(dir)) != NULL)
        found = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link)) ==
                    (ssize_t)sizeof(ring) - 1 &&
                memcmp(link, ring, sizeof(ring) - 1) == 0;
    closedir(dir);
    return found;
}

bool target_is_filtered(pid_t pid)
{
    char path[64], *line = NULL;
    size_t room = 0;
    bool found = false;
    FILE *file;
    int mode;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && getline(&line, &room, file) > 0)
        found = sscanf(line, "Seccomp: %d", &mode) == 1 && mode != 0;
    free(line);
    fclose(file);
    return found;
}

const char *target_name(pid_t pid, char *buf, size_t size)
{
    char path[64], name[64] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    file = fopen(path, "re");
    if (file == NULL || fgets(name, sizeof(name), file) == NULL)
        strcpy(name, "?");
    if (file != NULL)
        fclose(file);
    name[strcspn(name, "\n")] = '\0';
    segment_printable(name, size - 1, buf);
    return buf;
}
