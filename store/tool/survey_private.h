/* What the parts of the survey share. */
#ifndef STORE_TOOL_SURVEY_PRIVATE_H
#define STORE_TOOL_SURVEY_PRIVATE_H

#include "store/tool/survey.h"

/* One damage, told. mend: NULL when there is nothing to be done. */
void survey_tell(struct survey *survey, const struct survey_pool *pool,
                 enum damage_kind kind, uint64_t at, unsigned items,
                 const char *mend, const char *format, ...)
    __attribute__((format(printf, 7, 8)));

/* Room for one more element in a list of them; NULL: no memory. */
void *survey_more(void *list, size_t n, size_t *max, size_t size);

#define SURVEY_NAMED ((size_t)1 << 29) /* bytes of a bit per id */

int survey_directory(struct survey *survey);

/* How many grain words lie in the view. */
static inline uint64_t survey_words(const struct survey *survey)
{
    const struct region_header *h = view_header(survey->view);
    uint64_t n = (survey->view->size - h->first) / h->grain;
    return n < h->max_grains ? n : h->max_grains;
}

/* The entry of survey->ids with this id, or NULL. */
struct survey_id *survey_find_id(const struct survey *survey, uint64_t id);

/* The slot in use that has this id, or NULL. After survey_directory(). */
struct region_slot *survey_slot_of(const struct survey *survey, uint64_t id);

/* Whose each grain is. Needs the size of the region. */
int survey_grains(struct survey *survey);

/* survey->order out of survey->owner. 0 or -ENOMEM. */
int survey_order_grains(struct survey *survey);

/* Whether all these bytes are the pool's. */
bool survey_covers(const struct survey_pool *pool, uint64_t at, uint64_t len);

/* The tree of table words, and its gaps as far as a bit mends them. 0 or
 * -ENOMEM. */
int survey_table(struct survey_pool *pool);

/* Look for a table word with one bit wrong: with that bit changed as many items
 * are named as the last close has counted, and nothing else is wrong, as fits()
 * says. It is told, and mended. False: there is none, and nothing was changed.
 * Nothing of the pool's contents may be taken. */
typedef bool survey_fits(struct survey_pool *pool);
bool survey_mend_word(struct survey_pool *pool, survey_fits *fits);

/* Once all that is in use is known: an empty segment into each gap. */
void survey_fill_gaps(struct survey_pool *pool);

/* The summary that the last close has left. changed: something else in the pool
 * was damaged, so that it may well not be true. */
void survey_summary(const struct survey_pool *pool, bool changed);

/* How many items the last close has counted; 0: nothing is known of that. */
uint64_t survey_told_items(const struct survey_pool *pool);

/* A pool without a table needs room for one. */
void survey_look_for_room(const struct survey_pool *pool);

/* Owner words and what they name. 0 or -ENOMEM. */
int survey_items(struct survey_pool *pool);

/* The entry as far as it can be judged alone, and where it belongs. */
static inline uint32_t survey_bucket(const struct survey_segment *segment,
                                     uint64_t hash)
{
    return ((uint32_t)(hash >> 24) & 0xffff) * segment->n >> 16;
}

static inline bool survey_in_segment(uint32_t prefix, uint32_t depth,
                                     uint64_t hash)
{
    return depth == 0 || ((uint32_t)(hash >> 32) ^ prefix) >> (32 - depth) == 0;
}

static inline const struct hop_entry *
survey_entry(const struct survey *survey, uint64_t segment_at, uint32_t place)
{
    return (const struct hop_entry *)(const void *)(survey->view->base +
                                                    segment_at) +
           place;
}

#endif
