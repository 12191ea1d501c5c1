/*
 * What the last close has left for the next open to believe. An open that
 * believes a summary which is not true would write over items, so all of it
 * that is believed is held against what the survey has found.
 */
#include "store/tool/survey_private.h"

#include "store/pm/region.h"

#include <string.h>

struct counts {
    uint64_t items;
    uint64_t bytes;
    uint64_t expiring;
};

static bool count_item(void *context, const struct survey_pool *pool,
                       const struct hop_entry *entry)
{
    struct counts *counts = context;
    struct item_text text = item_read(pool->survey->view->base, entry);
    counts->items++;
    counts->bytes += text.klen + text.vlen;
    counts->expiring += entry->exptime != 0;
    return true;
}

/* The grains that it calls empty are. */
static bool empty_is_true(const struct survey_pool *pool,
                          const struct pool_summary *summary)
{
    const struct survey *s = pool->survey;
    const struct region_header *h = view_header(s->view);
    for (uint64_t g = 0; g < s->n_grains; g++) {
        uint64_t index = (uint32_t)view_word(s->view, h->words + 8 * g);
        uint64_t at = h->first + g * h->grain, end = at + h->grain;
        if (s->owner[g] != 1 + pool->slot || index == 0 ||
            index >= summary->grains || index >= POOL_SUMMARY_GRAINS ||
            (summary->empty[index / 64] >> index % 64 & 1) == 0)
            continue;
        if (space_map_next(&s->space, at, end, true) != end)
            return false;
    }
    return true;
}

/* What is not as the last close has told, or NULL. */
static const char *contradiction(const struct survey_pool *pool,
                                 const struct pool_summary *summary)
{
    struct counts counts = {0};
    survey_each(pool, count_item, &counts);
    if (summary->items > counts.items)
        return "items that the last close has counted are not there";
    if (summary->items < counts.items)
        return "there are items that the last close has not counted";
    if (summary->bytes != counts.bytes || summary->expiring != counts.expiring)
        return "items are not as the last close has counted them";
    if (!empty_is_true(pool, summary))
        return "there is something where the last close has told of nothing";
    return NULL;
}

static bool find_summary(const struct survey_pool *pool,
                         struct pool_summary *summary)
{
    const struct pool_state *state = &pool->header->state;
    memcpy(summary,
           pool->survey->view->base + pool->header_at + POOL_SUMMARY_AT,
           sizeof(*summary));
    return state->clean == 1 && summary->magic == POOL_SUMMARY_MAGIC;
}

static uint64_t check_of(const struct pool_summary *summary)
{
    return region_sum(&summary->cas,
                      sizeof(*summary) - offsetof(struct pool_summary, cas));
}

uint64_t survey_told_items(const struct survey_pool *pool)
{
    struct pool_summary summary;
    return find_summary(pool, &summary) &&
                   summary.check == check_of(&summary) &&
                   summary.cas == pool->header->state.cas_ceiling
               ? summary.items
               : 0;
}

void survey_summary(const struct survey_pool *pool, bool changed)
{
    static const char mend[] = "the summary is dropped: the next open looks at "
                               "all";
    struct survey *s = pool->survey;
    uint64_t at = pool->header_at + POOL_SUMMARY_AT;
    struct pool_summary summary;
    const char *what = NULL;
    if (!find_summary(pool, &summary))
        return; /* nobody believes it */
    if (summary.check != check_of(&summary))
        what = "the summary of the last close does not match its checksum";
    else if (summary.cas == pool->header->state.cas_ceiling)
        what = contradiction(pool, &summary);
    if (!what)
        return;
    if (!changed || summary.check != check_of(&summary))
        survey_tell(s, pool, DAMAGE_SUMMARY, at, 0, mend, "%s", what);
    fixes_word(s->fixes, s->view, at, 0);
}
