/* Who has a file locked, as far as the kernel tells. */
#ifndef STORE_TOOL_HOLDER_H
#define STORE_TOOL_HOLDER_H

#include <stddef.h>
#include <stdint.h>

enum { HOLDER_MAX = 64 };

/*
 * "pid 123 (kvserver)", "pid 123", or "another program", of a lock on this open
 * file. opener: the pid in the pool, believed when the kernel does not say who
 * it is. Returns buf.
 */
const char *holder_of(int fd, uint64_t opener, char buf[HOLDER_MAX]);

#endif
