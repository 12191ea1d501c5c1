/* See fixes.h. */
#include "store/tool/fixes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void fixes_init(struct fixes *fixes)
{
    *fixes = (struct fixes){.list = NULL};
}

void fixes_fini(struct fixes *fixes)
{
    free(fixes->list);
    fixes_init(fixes);
}

static bool more_room(struct fixes *fixes)
{
    size_t max = fixes->max ? 2 * fixes->max : 64;
    struct fix *list = realloc(fixes->list, max * sizeof(*list));
    if (!list)
        return false;
    fixes->list = list;
    fixes->max = max;
    return true;
}

void fixes_word(struct fixes *fixes, struct view *view, uint64_t at,
                uint64_t value)
{
    uint64_t old = view_word(view, at);
    if (old == value || fixes->error < 0)
        return;
    if (fixes->n == fixes->max && !more_room(fixes)) {
        fixes->error = -ENOMEM;
        return;
    }
    int rc = view_patch(view, at, value);
    if (rc < 0) {
        fixes->error = rc;
        return;
    }
    fixes->list[fixes->n] = (struct fix){at, old, value, fixes->n};
    fixes->n++;
}

void fixes_bytes(struct fixes *fixes, struct view *view, uint64_t at,
                 const void *bytes, size_t len)
{
    const unsigned char *from = bytes;
    for (size_t off = 0; off < len; off += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, from + off, sizeof(word));
        fixes_word(fixes, view, at + off, word);
    }
}

void fixes_rollback(struct fixes *fixes, struct view *view, size_t n)
{
    while (fixes->n > n) {
        const struct fix *fix = &fixes->list[--fixes->n];
        view_patch(view, fix->at, fix->old);
    }
}

static int by_place(const void *a, const void *b)
{
    const struct fix *x = a, *y = b;
    if (x->at != y->at)
        return x->at > y->at ? 1 : -1;
    return x->order > y->order ? 1 : -1;
}

/* Of one word the first fix has what the file holds, the last one what it is
 * to hold. */
void fixes_settle(struct fixes *fixes)
{
    struct fix *list = fixes->list;
    size_t kept = 0;
    if (fixes->n > 0)
        qsort(list, fixes->n, sizeof(*list), by_place);
    for (size_t i = 0; i < fixes->n;) {
        struct fix fix = list[i++];
        for (; i < fixes->n && list[i].at == fix.at; i++)
            fix.new = list[i].new;
        if (fix.new != fix.old)
            list[kept++] = fix;
    }
    fixes->n = kept;
}
