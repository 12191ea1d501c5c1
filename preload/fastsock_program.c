/*
 * See fastsock_program.h. Programs are read as files from a stranger: counts
 * are bounded and every read may be short.
 */
#include "preload/fastsock_program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { SCRIPTS_MAX = 4, HEADERS_MAX = 256, LINE_MAX_BYTES = 255 };

/* 0, -ENOENT or -EACCES. */
static int executable(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == EACCES ? -EACCES : -ENOENT;
    if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return -EACCES;
    return 0;
}

int program_find(const char *command, char *path)
{
    const char *list = getenv("PATH");
    int rc, worst = -ENOENT;

    if (strchr(command, '/') != NULL) {
        if (snprintf(path, PATH_MAX, "%s", command) >= PATH_MAX)
            return -ENOENT;
        return executable(path);
    }
    if (command[0] == '\0')
        return -ENOENT;
    if (list == NULL)
        list = "/bin:/usr/bin";
    for (;;) {
        size_t len = strcspn(list, ":");

        if (snprintf(path, PATH_MAX, "%.*s%s%s", (int)len, list,
                     len > 0 ? "/" : "./", command) < PATH_MAX) {
            rc = executable(path);
            if (rc == 0)
                return 0;
            if (rc == -EACCES)
                worst = rc;
        }
        if (list[len] == '\0')
            return worst;
        list += len + 1;
    }
}

/* The interpreter of a script: "#!/bin/sh", "#! /usr/bin/env python3". */
static bool script_program(const char *line, char *path)
{
    char copy[LINE_MAX_BYTES + 1], *word, *rest;

    snprintf(copy, sizeof(copy), "%s", line + 2);
    copy[strcspn(copy, "\n")] = '\0';
    word = strtok_r(copy, " \t", &rest);
    if (word == NULL)
        return false;
    snprintf(path, PATH_MAX, "%s", word);
    if (strcmp(word, "/usr/bin/env") != 0 && strcmp(word, "/bin/env") != 0)
        return true;
    do
        word = strtok_r(NULL, " \t", &rest);
    while (word != NULL && (word[0] == '-' || strchr(word, '=') != NULL));
    return word != NULL && program_find(word, path) == 0;
}

static bool same_machine(const ElfW(Ehdr) * theirs)
{
    ElfW(Ehdr) own;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    bool same = true;

    if (fd < 0)
        return true;
    if (pread(fd, &own, sizeof(own), 0) == (ssize_t)sizeof(own))
        same = memcmp(own.e_ident, theirs->e_ident, EI_DATA + 1) == 0 &&
               own.e_machine == theirs->e_machine;
    close(fd);
    return same;
}

static enum program_kind judge_linker(int fd, const ElfW(Phdr) * interp)
{
    char name[128] = "";
    size_t len = interp->p_filesz;

    if (len >= sizeof(name))
        len = sizeof(name) - 1;
    if (pread(fd, name, len, (off_t)interp->p_offset) < 0)
        return PROGRAM_UNKNOWN;
    return strstr(name, "/ld-musl") != NULL ? PROGRAM_OTHER_LIBC : PROGRAM_FITS;
}

static enum program_kind judge_headers(int fd, const ElfW(Ehdr) * head)
{
    unsigned n = head->e_phnum < HEADERS_MAX ? head->e_phnum : HEADERS_MAX;

    if (!same_machine(head))
        return PROGRAM_OTHER_ARCH;
    if (head->e_phentsize != sizeof(ElfW(Phdr)))
        return PROGRAM_UNKNOWN;
    for (unsigned i = 0; i < n; i++) {
        ElfW(Phdr) ph;
        off_t at = (off_t)(head->e_phoff + i * sizeof(ph));

        if (pread(fd, &ph, sizeof(ph), at) != (ssize_t)sizeof(ph))
            return PROGRAM_UNKNOWN;
        if (ph.p_type == PT_INTERP)
            return judge_linker(fd, &ph);
    }
    return PROGRAM_STATIC;
}

/* The kernel will tell the dynamic linker to ignore what we preload. */
static bool more_rights(int fd)
{
    struct stat st;
    mode_t sgid = S_ISGID | S_IXGRP;

    if (fstat(fd, &st) < 0)
        return false;
    if ((st.st_mode & S_ISUID) != 0 && st.st_uid != getuid())
        return true;
    if ((st.st_mode & sgid) == sgid && st.st_gid != getgid())
        return true;
    return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static enum program_kind judge_file(const char *path, char *next)
{
    union {
        ElfW(Ehdr) elf;
        char line[LINE_MAX_BYTES + 1];
    } head;
    enum program_kind kind = PROGRAM_UNKNOWN;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n;

    next[0] = '\0';
    if (fd < 0)
        return PROGRAM_UNKNOWN;
    memset(&head, 0, sizeof(head));
    n = pread(fd, &head, LINE_MAX_BYTES, 0);
    if (n > 2 && memcmp(head.line, "#!", 2) == 0) {
        if (!script_program(head.line, next))
            next[0] = '\0';
    } else if (n >= (ssize_t)sizeof(head.elf) &&
               memcmp(head.elf.e_ident, ELFMAG, SELFMAG) == 0) {
        kind = judge_headers(fd, &head.elf);
        if (kind == PROGRAM_FITS && more_rights(fd))
            kind = PROGRAM_MORE_RIGHTS;
    }
    close(fd);
    return kind;
}

enum program_kind program_judge(const char *path)
{
    char at[PATH_MAX], next[PATH_MAX];
    enum program_kind kind;

    snprintf(at, sizeof(at), "%s", path);
    for (unsigned i = 0; i < SCRIPTS_MAX; i++) {
        kind = judge_file(at, next);
        if (next[0] == '\0')
            return kind;
        memcpy(at, next, sizeof(at));
    }
    return PROGRAM_UNKNOWN;
}

const char *program_obstacle(enum program_kind kind)
{
    switch (kind) {
    case PROGRAM_STATIC:
        return "is statically linked: it cannot carry the library and stays "
               "on TCP; build it with dynamic linking to accelerate it";
    case PROGRAM_OTHER_ARCH:
        return "is built for another machine or word size than the library: "
               "it stays on TCP; use a library built for it";
    case PROGRAM_OTHER_LIBC:
        return "does not use the GNU C library: it cannot carry the library";
    case PROGRAM_MORE_RIGHTS:
        return "runs with more rights than its caller (setuid, setgid or file "
               "capabilities): the system ignores LD_PRELOAD and it stays on "
               "TCP; start it as the user that it needs instead";
    default:
        return NULL;
    }
}
