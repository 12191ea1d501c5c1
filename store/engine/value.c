/* The bytes of a value that was found, run after run. */
#include "store/engine/durable.h"
#include "store/engine/engine_state.h"
#include "store/engine/item.h"

#include <string.h>

bool durable_next_run(const struct kv *kv, const struct kv_item *item,
                      struct kv_run *run)
{
    struct item_runs runs = {.base = kv->pm->base,
                             .next = run->next,
                             .left = item->len - run->end,
                             .chained = true};
    if (run->end == 0) {
        struct item_source source = {.bytes = item->value,
                                     .len = item->len,
                                     .chain = item->chain,
                                     .skip = item->skip};
        item_runs_begin(&runs, kv->pm->base, &source);
    }
    if (!item_runs_next(&runs))
        return false;
    run->bytes = runs.bytes;
    run->len = (uint32_t)runs.len;
    run->next = runs.next;
    run->end += run->len;
    return true;
}

size_t durable_copy_value(const struct kv *kv, const struct kv_item *item,
                          size_t from, void *to, size_t len)
{
    struct kv_run run = {0};
    size_t done = 0;
    while (done < len && durable_next_run(kv, item, &run)) {
        if (run.end <= from)
            continue;
        size_t at = run.end - run.len, skip = from > at ? from - at : 0;
        size_t n = run.len - skip < len - done ? run.len - skip : len - done;
        memcpy((char *)to + done, (const char *)run.bytes + skip, n);
        done += n;
        from += n;
    }
    return done;
}
