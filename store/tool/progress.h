/*
 * How far a long work has come, on standard error: a bar where that is a
 * terminal, lines where they were asked for, else nothing. Nothing is shown
 * of a work that takes less than half a second, but in lines its end.
 */
#ifndef STORE_TOOL_PROGRESS_H
#define STORE_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what;
    uint64_t total; /* 0: not known */
    uint64_t done;
    uint64_t next;    /* done at which the clock is looked at */
    uint64_t started; /* ns */
    uint64_t shown;   /* ns */
    unsigned percent; /* the last one in a line */
    bool bar;
    bool lines;
};

/* what: a word, "checked". lines: asked for. */
void progress_begin(struct progress *progress, const char *what, uint64_t total,
                    bool lines);

/* So much of the total is done now; cheap. */
void progress_show(struct progress *progress);
static inline void progress_add(struct progress *progress, uint64_t n)
{
    progress->done += n;
    if (progress->done >= progress->next)
        progress_show(progress);
}

/* The work is over: a bar goes away. */
void progress_end(struct progress *progress);

#endif
