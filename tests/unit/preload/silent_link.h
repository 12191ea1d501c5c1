/*
 * A link on which nothing comes, and whose peer takes all at once and rings
 * nobody.
 */
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

static void silent_none(struct peer *peer)
{
    (void)peer;
}

static void silent_arm(struct peer *peer, unsigned id, bool on)
{
    (void)peer;
    (void)id;
    (void)on;
}

static bool silent_has_mark(struct peer *peer, unsigned id)
{
    (void)peer;
    (void)id;
    return false;
}

static void silent_set_marked(struct link *link, unsigned id, bool on)
{
    (void)link;
    (void)id;
    (void)on;
}

static void silent_watch(struct link *link, uint64_t ids)
{
    (void)link;
    (void)ids;
}

static void silent_want_room(struct link *link)
{
    (void)link;
}

static bool silent_is_here(struct link *link, unsigned cpu)
{
    (void)link;
    (void)cpu;
    return false;
}

static const struct transport_ops silent_ops = {
    .arrived = silent_arrived,
    .freed = silent_freed,
    .watch = silent_watch,
    .want_room = silent_want_room,
    .peer_is_here = silent_is_here,
    .set_marked = silent_set_marked,
    .peer_get = silent_none,
    .peer_put = silent_none,
    .peer_arm = silent_arm,
    .peer_has_mark = silent_has_mark,
};

#endif
