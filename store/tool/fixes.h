/*
 * What would put a damaged pool right: words, with what they hold now. They are
 * set in the view at once, so that what is looked at next is already right;
 * the file is another matter (kvpool_repair.c).
 */
#ifndef STORE_TOOL_FIXES_H
#define STORE_TOOL_FIXES_H

#include "store/tool/view.h"

struct fix {
    uint64_t at;  /* offset of an aligned word */
    uint64_t old; /* what the file holds */
    uint64_t new;
    size_t order; /* private */
};

struct fixes {
    struct fix *list;
    size_t n;
    size_t max;
    int error; /* sticky: some could not be kept */
};

void fixes_init(struct fixes *fixes);
void fixes_fini(struct fixes *fixes);

void fixes_word(struct fixes *fixes, struct view *view, uint64_t at,
                uint64_t value);

/* So many bytes, whole words; only words that differ are kept. */
void fixes_bytes(struct fixes *fixes, struct view *view, uint64_t at,
                 const void *bytes, size_t len);

/* Forget all but the first n, in the view as well. */
void fixes_rollback(struct fixes *fixes, struct view *view, size_t n);

/* One per word, by offset, none that changes nothing. */
void fixes_settle(struct fixes *fixes);

#endif
