/* Few are held at a time: short lists suffice. */
#include "store/engine/hold.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void holds_init(struct holds *holds)
{
    holds->n = 0;
    for (size_t i = 0; i < HOLD_LISTS; i++)
        LIST_INIT(&holds->lists[i]);
}

static struct hold_list *list_of(struct holds *holds, uint64_t offset)
{
    return &holds->lists[(offset * 0x9e3779b97f4a7c15u) >> 58];
}

struct hold *holds_find(struct holds *holds, uint64_t offset)
{
    struct hold *hold;
    LIST_FOREACH(hold, list_of(holds, offset), link)
        if (hold->offset == offset)
            return hold;
    return NULL;
}

struct hold *holds_blob(struct holds *holds, uint64_t offset, uint64_t len,
                        bool chained)
{
    struct hold *hold = holds_find(holds, offset);
    if (hold) {
        hold->refs++;
        return hold;
    }
    hold = malloc(sizeof(*hold));
    if (!hold)
        return NULL;
    *hold = (struct hold){
        .offset = offset, .len = len, .refs = 1, .chained = chained};
    LIST_INSERT_HEAD(list_of(holds, offset), hold, link);
    holds->n++;
    return hold;
}

struct hold *holds_copy(struct holds *holds, const void *bytes, size_t len)
{
    struct hold *hold = malloc(sizeof(*hold) + len);
    if (!hold)
        return NULL;
    *hold = (struct hold){.len = len, .refs = 1};
    if (len > 0)
        memcpy(hold->bytes, bytes, len);
    holds->n++;
    return hold;
}

bool holds_drop(struct holds *holds, struct hold *hold)
{
    assert(hold->refs > 0);
    if (--hold->refs > 0)
        return false;
    if (hold->offset != 0)
        LIST_REMOVE(hold, link);
    holds->n--;
    return true;
}
