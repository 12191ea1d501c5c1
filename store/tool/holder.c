/* See holder.h. The kernel's list names device, inode and process. */
#include "store/tool/holder.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static long find_lock(const struct stat *st)
{
    FILE *locks = fopen("/proc/locks", "re");
    char line[256];
    long found = 0;
    if (!locks)
        return 0;
    while (found == 0 && fgets(line, sizeof(line), locks)) {
        unsigned major_number, minor_number;
        unsigned long long inode;
        long pid;
        if (sscanf(line, "%*s FLOCK %*s %*s %ld %x:%x:%llu", &pid,
                   &major_number, &minor_number, &inode) == 4 &&
            major_number == major(st->st_dev) &&
            minor_number == minor(st->st_dev) && inode == st->st_ino)
            found = pid;
    }
    fclose(locks);
    return found;
}

static void name_of(long pid, char name[32])
{
    char path[48];
    snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
    FILE *comm = fopen(path, "re");
    name[0] = '\0';
    if (!comm)
        return;
    if (!fgets(name, 32, comm))
        name[0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    for (char *at = name; *at != '\0'; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    fclose(comm);
}

const char *holder_of(int fd, uint64_t opener, char buf[HOLDER_MAX])
{
    struct stat st;
    char name[32] = "";
    long pid = fstat(fd, &st) == 0 ? find_lock(&st) : 0;
    if (pid <= 0 && opener > 0 && opener <= INT_MAX)
        pid = (long)opener;
    if (pid > 0)
        name_of(pid, name);
    if (pid <= 0)
        snprintf(buf, HOLDER_MAX, "another program");
    else if (name[0] == '\0')
        snprintf(buf, HOLDER_MAX, "pid %ld", pid);
    else
        snprintf(buf, HOLDER_MAX, "pid %ld (%s)", pid, name);
    return buf;
}
