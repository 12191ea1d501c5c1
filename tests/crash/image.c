/* See image.h. */
#include "tests/crash/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_WORDS 512

uint64_t image_mix(uint64_t word, uint64_t value)
{
    if (value == 0)
        return 0;
    uint64_t h = (value ^ word * 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
    h = (h ^ h >> 31 ^ word) * 0x94d049bb133111eb;
    return h ^ h >> 29;
}

int image_init(struct image *image, const uint64_t *words, size_t size)
{
    int rc = -ENOMEM;
    *image = (struct image){.fd = -1, .size = size};
    image->words = calloc(size, 8);
    if (!image->words)
        return rc;
    memcpy(image->words, words, size * 8);
    image->fd = memfd_create("image", MFD_CLOEXEC);
    if (image->fd < 0)
        goto free_words;
    snprintf(image->path, sizeof(image->path), "/proc/self/fd/%d", image->fd);
    rc = image_restore_all(image);
    if (rc < 0)
        goto close_fd;
    for (size_t i = 0; i < size; i++)
        image->hash += image_mix(i, words[i]);
    return 0;

close_fd:
    close(image->fd);
free_words:
    free(image->words);
    return rc;
}

void image_fini(struct image *image)
{
    if (image->file)
        munmap(image->file, image->size * 8);
    close(image->fd);
    free(image->words);
    free(image->undo);
    *image = (struct image){.fd = -1};
}

static void change(struct image *image, uint32_t word, uint64_t value)
{
    image->hash += image_mix(word, value) - image_mix(word, image->words[word]);
    image->words[word] = value;
    image->file[word] = value;
}

void image_set(struct image *image, uint32_t word, uint64_t value)
{
    if (word >= image->size || image->words[word] == value)
        return;
    if (image->n_undo == image->max_undo) {
        size_t max = image->max_undo * 2 + 256;
        void *more = realloc(image->undo, max * sizeof(*image->undo));
        if (!more) {
            fputs("crash: no memory to undo\n", stderr);
            exit(2);
        }
        image->undo = more;
        image->max_undo = max;
    }
    image->undo[image->n_undo++] =
        (struct image_undo){word, image->words[word]};
    change(image, word, value);
}

void image_rollback(struct image *image, size_t n_undo)
{
    while (image->n_undo > n_undo) {
        struct image_undo *undo = &image->undo[--image->n_undo];
        change(image, undo->word, undo->value);
    }
}

void image_restore(struct image *image, uint32_t first, uint32_t n)
{
    if (first >= image->size)
        return;
    if (n > image->size - first)
        n = (uint32_t)(image->size - first);
    memcpy(image->file + first, image->words + first, (size_t)n * 8);
}

int image_restore_all(struct image *image)
{
    static const uint64_t zeros[PAGE_WORDS];
    if (ftruncate(image->fd, 0) < 0 ||
        ftruncate(image->fd, (off_t)(image->size * 8)) < 0)
        return -errno;
    if (!image->file) {
        void *file = mmap(NULL, image->size * 8, PROT_READ | PROT_WRITE,
                          MAP_SHARED, image->fd, 0);
        if (file == MAP_FAILED)
            return -errno;
        image->file = file;
    }
    for (size_t i = 0; i < image->size; i += PAGE_WORDS) {
        size_t n = image->size - i < PAGE_WORDS ? image->size - i : PAGE_WORDS;
        if (memcmp(image->words + i, zeros, n * 8) != 0)
            memcpy(image->file + i, image->words + i, n * 8);
    }
    return 0;
}
