/*
 * A pool file that is looked at: mapped privately, so that what is put right in
 * the view never reaches the file. Locked meanwhile, so that no program works
 * in it; many may look at once.
 *
 * A file that ends too early is followed by zeroes in the view. What cannot be
 * read at all (a media error, a file cut short under us) ends the program with
 * TOOL_DAMAGED and a sentence.
 */
#ifndef STORE_TOOL_VIEW_H
#define STORE_TOOL_VIEW_H

#include "store/pm/region_layout.h"

#include <stdbool.h>
#include <stddef.h>

struct view {
    const char *path; /* for sentences */
    int fd;
    bool device;
    uint64_t file_size;
    unsigned char *base;
    uint64_t size;        /* bytes mapped, whole pages */
    unsigned char *owned; /* device: one byte per large page that is a copy */
};

enum view_mode {
    VIEW_GLANCE, /* whoever has it open: no lock, look at headers only */
    VIEW_READ,   /* nobody writes meanwhile */
    VIEW_WRITE   /* nobody reads or writes meanwhile, for who will write */
};

/*
 * 0, or -errno with a sentence in *error. -EBUSY: open in another program,
 * which is named. -EINVAL: no pool, or one of a version or with features that
 * this program does not know. -EUCLEAN: damaged beyond being looked at.
 */
int view_open(struct view *view, const char *path, enum view_mode mode,
              char *error, size_t error_size);
void view_close(struct view *view);

/* Whether another program has it open now. */
bool view_in_use(const struct view *view);

/* The header; whatever is in it. */
static inline struct region_header *view_header(const struct view *view)
{
    return (struct region_header *)(void *)view->base;
}

/* Change an aligned word, in the view only. 0 or -errno. */
int view_patch(struct view *view, uint64_t at, uint64_t value);

static inline uint64_t view_word(const struct view *view, uint64_t at)
{
    return *(const uint64_t *)(const void *)(view->base + at);
}

#endif
