/*
 * Can a program carry the library at all? Judged from its file, before it is
 * run or while it runs.
 */
#ifndef PRELOAD_FASTSOCK_PROGRAM_H
#define PRELOAD_FASTSOCK_PROGRAM_H

enum program_kind {
    PROGRAM_FITS,
    PROGRAM_STATIC,      /* no dynamic linker that would load the library */
    PROGRAM_OTHER_ARCH,  /* 32 bits, another machine */
    PROGRAM_OTHER_LIBC,  /* a dynamic linker that is not glibc's */
    PROGRAM_MORE_RIGHTS, /* setuid, setgid or with capabilities */
    PROGRAM_UNKNOWN      /* not readable, or nothing that we know */
};

/*
 * The file that execvp(command) would run, into path (PATH_MAX bytes). 0,
 * -ENOENT, or -EACCES when there is one that may not be executed.
 */
int program_find(const char *command, char *path);

/* Follows "#!" lines to the program that would really run. */
enum program_kind program_judge(const char *path);

/* Completes "NAME ...": what it is and what that means; NULL if it fits or
 * nothing is known. Static. */
const char *program_obstacle(enum program_kind kind);

#endif
