/* A link on which nothing comes, and whose peer takes all at once. */
#ifndef TESTS_UNIT_PRELOAD_SILENT_LINK_H
#define TESTS_UNIT_PRELOAD_SILENT_LINK_H

#include "transport/transport.h"

static uint64_t silent_arrived(struct link *link)
{
    (void)link;
    return 0;
}

static int silent_freed(struct link *link, uint64_t before, uint64_t wrote,
                        uint64_t *out)
{
    (void)link;
    (void)before;
    *out = wrote;
    return 0;
}

#endif
