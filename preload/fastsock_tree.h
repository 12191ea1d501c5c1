/*
 * Files of /sys, /proc and /dev, of this machine or below a folder that
 * stands for its root. Symbolic links do not lead out of that folder.
 * Files may be long, binary, no files at all: reads are bounded and never
 * wait. Nothing is ever written.
 */
#ifndef PRELOAD_FASTSOCK_TREE_H
#define PRELOAD_FASTSOCK_TREE_H

#include <stdbool.h>
#include <stddef.h>

enum { TREE_NAMES_MAX = 256, TREE_NAME_MAX = 64 };

/* AT_FDCWD for NULL, else a descriptor to close, or -errno. */
int tree_open(const char *folder);

/* path is absolute, as on the machine. True: there is something. */
bool tree_has(int root, const char *path);

/* May this process read and write it? 0, -ENOENT, -EACCES ... */
int tree_may_use(int root, const char *path);

/*
 * The beginning of a file as a string, cut at the first NUL; its size, or
 * -errno. tree_line cuts at the first line end, and blanks at both ends.
 */
int tree_text(int root, const char *path, char *buf, size_t size);
int tree_line(int root, const char *path, char *buf, size_t size);

/* The names in a folder, sorted; too long ones are left out. */
struct tree_names {
    unsigned n;
    bool more; /* than TREE_NAMES_MAX */
    char name[TREE_NAMES_MAX][TREE_NAME_MAX];
};

/* 0 or -errno; then there are none. */
int tree_list(int root, const char *path, struct tree_names *names);

#endif
