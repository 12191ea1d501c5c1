/* Large pages for files whose file system gives small ones by itself. */
#ifndef STORE_PM_LARGE_PAGES_H
#define STORE_PM_LARGE_PAGES_H

#include <stdint.h>

#define LARGE_PAGE ((uint64_t)2 << 20)

/*
 * Give a file of a tmpfs large pages up to size, which becomes the file's if
 * it was smaller. What it holds stays. They stay with the file: who maps it at
 * an address that fits has them. Where they cannot be had, on another file
 * system or at an older kernel, nothing happens, so it fails never; memory for
 * what is not in large pages is still to be allocated.
 */
void large_pages_take(int fd, uint64_t size);

#endif
