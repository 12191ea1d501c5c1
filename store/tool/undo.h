/*
 * What a repair has changed, word by word, so that it can be taken back: a text
 * file. Written and synced before the pool is touched.
 */
#ifndef STORE_TOOL_UNDO_H
#define STORE_TOOL_UNDO_H

#include "store/tool/fixes.h"

/* 0 or -errno with a sentence. -EEXIST: there is one already. grow_to: 0, or
 * what the file was made longer to. */
int undo_write(const char *path, const struct fixes *fixes, uint64_t file_size,
               uint64_t grow_to, char *error, size_t error_size);

/* The words of such a file: `old` is what the pool should hold now. file_size:
 * bytes that the pool's file had. 0, -EINVAL or -errno with a sentence. */
int undo_read(const char *path, struct fixes *fixes, uint64_t *file_size,
              uint64_t *grow_to, char *error, size_t error_size);

#endif
