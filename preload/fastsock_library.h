/*
 * Where the library and its modules are: beside the fastsock program, else
 * in ../lib from there; and whether the dynamic linker can open one.
 */
#ifndef PRELOAD_FASTSOCK_LIBRARY_H
#define PRELOAD_FASTSOCK_LIBRARY_H

#include <limits.h>
#include <stddef.h>

#define LIBRARY_NAME "libfastsock.so"

enum { LIBRARY_PLACES = 2, LIBRARY_PATH_MAX = PATH_MAX + 64 };

/* Where `name` would be in that place, there or not. */
void library_place(unsigned place, const char *name,
                   char path[LIBRARY_PATH_MAX]);

/* The real path of the first that can be read; 0 or -ENOENT. */
int library_find(const char *name, char path[PATH_MAX]);

/*
 * Can the dynamic linker open `name`, a path or a plain name? Asked in a
 * child, for ten seconds at most, as nothing of it must start up here.
 * judge, if not NULL, sees the handle there: NULL, or what is wrong with it.
 * 0; or -ELIBACC, and then error says why not.
 */
int library_try(const char *name, const char *(*judge)(void *handle),
                char *error, size_t size);

#endif
