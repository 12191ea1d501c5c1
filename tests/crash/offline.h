/*
 * What `kvpool check` says to an image, before any recovery has been there.
 */
#ifndef TESTS_CRASH_OFFLINE_H
#define TESTS_CRASH_OFFLINE_H

#include <stdbool.h>
#include <stddef.h>

enum offline_verdict {
    OFFLINE_CLEAN,
    OFFLINE_DAMAGED, /* *what has the first damage */
    OFFLINE_REFUSED, /* it is no pool yet; *what has the sentence */
    OFFLINE_FAILED   /* no memory */
};

/* The file is not changed. */
enum offline_verdict offline_check(const char *path, char *what,
                                   size_t what_size);

#endif
