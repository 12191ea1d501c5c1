/*
 * A pool file that can be changed and put back word by word.
 *
 * The words are kept twice: in memory, and in a file that recovery opens.
 * image_set() changes both and remembers what was there; image_rollback()
 * undoes. What recovery wrote into the file is undone by image_restore().
 * The hash depends on the contents only.
 */
#ifndef TESTS_CRASH_IMAGE_H
#define TESTS_CRASH_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct image_undo {
    uint32_t word;
    uint64_t value;
};

struct image {
    int fd;
    char path[32];
    size_t size;     /* words */
    uint64_t *file;  /* the mapped file */
    uint64_t *words; /* what the file should be */
    uint64_t hash;   /* of words */
    struct image_undo *undo;
    size_t n_undo, max_undo;
};

/* A copy of words[]. 0 or -errno. */
int image_init(struct image *image, const uint64_t *words, size_t size);
void image_fini(struct image *image);

void image_set(struct image *image, uint32_t word, uint64_t value);

/* Back to when n_undo was this. */
void image_rollback(struct image *image, size_t n_undo);

/* The file's words as they should be again. */
void image_restore(struct image *image, uint32_t first, uint32_t n);

/* The same for all of it, also if the file has another length now. */
int image_restore_all(struct image *image);

/* The hash of one word in its place; 0 for 0. */
uint64_t image_mix(uint64_t word, uint64_t value);

#endif
