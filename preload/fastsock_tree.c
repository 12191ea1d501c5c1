/*
 * See fastsock_tree.h. Below a folder the kernel resolves paths as if that
 * folder were the root; on a kernel that cannot, links are not followed.
 */
#include "preload/fastsock_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES_MAX = 65536 };

int tree_open(const char *folder)
{
    int fd;

    if (folder == NULL)
        return AT_FDCWD;
    fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_in(int root, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd;

    if (root == AT_FDCWD)
        fd = open(path, flags | O_CLOEXEC);
    else
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
    if (fd < 0 && root != AT_FDCWD && (errno == ENOSYS || errno == EPERM))
        fd = openat(root, path + strspn(path, "/"),
                    flags | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

bool tree_has(int root, const char *path)
{
    int fd = open_in(root, path, O_PATH);

    if (fd < 0)
        return false;
    close(fd);
    return true;
}

int tree_may_use(int root, const char *path)
{
    int fd = open_in(root, path, O_PATH), rc;
    char own[64];

    if (fd < 0)
        return fd;
    snprintf(own, sizeof(own), "/proc/self/fd/%d", fd);
    rc = access(own, R_OK | W_OK) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

int tree_text(int root, const char *path, char *buf, size_t size)
{
    int fd = open_in(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    size_t at = 0;
    struct stat st;
    ssize_t n = 0;

    buf[0] = '\0';
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    while (at < size - 1) {
        n = read(fd, buf + at, size - 1 - at);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    if (n < 0)
        n = -errno;
    close(fd);
    buf[at] = '\0';
    return n < 0 ? (int)n : (int)strlen(buf);
}

int tree_line(int root, const char *path, char *buf, size_t size)
{
    int rc = tree_text(root, path, buf, size);
    size_t blank = strspn(buf, " \t"), len;

    if (rc < 0) {
        buf[0] = '\0';
        return rc;
    }
    len = strcspn(buf, "\n");
    if (blank > len)
        blank = len;
    while (len > blank && strchr(" \t\r", buf[len - 1]) != NULL)
        len--;
    memmove(buf, buf + blank, len - blank);
    buf[len - blank] = '\0';
    return (int)(len - blank);
}

static int compare_names(const void *a, const void *b)
{
    return strverscmp(a, b);
}

int tree_list(int root, const char *path, struct tree_names *names)
{
    int fd = open_in(root, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    const struct dirent *entry;
    unsigned seen = 0;
    DIR *folder;

    names->n = 0;
    names->more = false;
    if (fd < 0)
        return fd;
    folder = fdopendir(fd);
    if (folder == NULL) {
        close(fd);
        return -ENOMEM;
    }
    while ((entry = readdir(folder)) != NULL && seen++ < ENTRIES_MAX) {
        size_t len = strlen(entry->d_name);

        if (entry->d_name[0] == '.' || len >= TREE_NAME_MAX)
            continue;
        if (names->n == TREE_NAMES_MAX) {
            names->more = true;
            break;
        }
        memcpy(names->name[names->n++], entry->d_name, len + 1);
    }
    closedir(folder);
    qsort(names->name, names->n, sizeof(names->name[0]), compare_names);
    return 0;
}
