/*
 * Memory files: create one, judge one that came from a peer, map it.
 *
 * A memory file is anonymous (it vanishes with its last user) and sealed: its
 * size cannot change any more, so a mapping of it cannot be cut away under a
 * reader. The contents stay writable for whoever maps it. 0 or -errno.
 */
#ifndef TRANSPORT_SHARED_MEMORY_H
#define TRANSPORT_SHARED_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A new memory file of size bytes, zeroed and sealed; close-on-exec. name
 * shows in /proc only. *fd is the caller's to close.
 */
int memory_create(const char *name, size_t size, int *fd);

/*
 * Is fd, from whomever, such a file, of at_least to at_most bytes? -EBADF: no
 * memory file of ordinary pages; -EPERM: its size is not sealed; -ERANGE: too
 * small or too big. Map only what passed, with the size returned here.
 */
int memory_check(int fd, size_t at_least, size_t at_most, size_t *size);

/* Maps the first size bytes, shared. *out is taken back by memory_unmap. */
int memory_map(int fd, size_t size, bool writable, void **out);

/* NULL is allowed and does nothing. */
/* Whole pages of a shared mapping: their bytes are zero from now on. */
void memory_give_back(void *at, size_t size);
void memory_unmap(void *at, size_t size);

#endif
