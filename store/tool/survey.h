/*
 * Everything in a pool file, looked at: a second reading of
 * docs/pm-layout.md, that shares with the engine only what an entry is. It
 * believes nothing, tells each damage, and works out what would put it right;
 * it goes on in the view as if that had been done. So after a survey the view
 * is whole, but for what nothing can mend.
 *
 * Happy path: survey_init(), survey_region(), then for each slot in use
 * survey_pool_open(), survey_pool(), survey_each(), survey_pool_close().
 */
#ifndef STORE_TOOL_SURVEY_H
#define STORE_TOOL_SURVEY_H

#include "store/engine/hop_layout.h"
#include "store/engine/item.h"
#include "store/tool/damage.h"
#include "store/tool/fixes.h"
#include "store/tool/progress.h"
#include "store/tool/space_map.h"
#include "store/tool/view.h"

typedef void survey_report(void *context, const struct damage *damage);

struct survey_id {
    uint64_t id;
    uint32_t slot;
    uint32_t more; /* grains beyond its number, left by a growth given up */
};

/* A grain that a pool has. */
struct survey_grain {
    uint32_t owner; /* 1 + slot */
    uint32_t number;
};

struct survey {
    struct view *view;
    struct fixes *fixes;
    survey_report *report; /* may be NULL */
    void *context;         /* of report */
    bool lines;            /* progress in lines */
    uint64_t n[DAMAGE_KINDS];
    uint64_t damages;      /* of all kinds */
    uint64_t beyond;       /* those that cannot be mended */
    uint64_t lost;         /* items */
    bool lost_more;        /* and some that cannot be counted */
    bool foreign;          /* a pool that this program does not know */
    uint64_t grow_to;      /* bytes that the file has to be made, or 0 */
    uint64_t work;         /* steps that were in vain; bounded */
    struct survey_id *ids; /* of the slots in use, by id */
    size_t n_ids;
    uint64_t n_grains;
    uint64_t orphans;           /* grains that name a pool which is not there */
    uint32_t *owner;            /* per grain: 1 + slot, or 0 */
    struct survey_grain *order; /* of all pools, by owner, then number */
    size_t n_order;
    uint64_t *named;    /* a bit per id: a grain word has it */
    unsigned rebuilt;   /* slots for which all grains were looked at */
    unsigned sought;    /* grain words that were looked for */
    unsigned stretched; /* pools for which more grains were tried */
    uint64_t searched;  /* places and words, for a table word; bounded */
    unsigned trials;    /* table words with which a pool was looked at */
    struct space_map space;
};

/* A segment of a table. */
struct survey_segment {
    uint64_t at;
    uint64_t word_at; /* of the table word that names it */
    uint32_t n;       /* places */
    uint32_t prefix;  /* hash bits 63 to 32 */
    uint32_t depth;   /* how many of them count */
};

/* A table word that leads nowhere. */
struct survey_gap {
    uint64_t word_at;
    uint32_t prefix;
    uint32_t depth;
    bool doubtful; /* it leads where hardly anything belongs */
};

struct survey_pool {
    struct survey *survey;
    char name[REGION_NAME_MAX + 1];
    uint32_t slot;
    struct pool_header *header; /* in the view */
    uint64_t header_at;
    uint64_t grains;
    uint64_t more_grains;      /* that a growth that was given up has left */
    struct region_part *parts; /* as struct pool has them */
    size_t n_parts;
    uint64_t space; /* bytes of all parts */
    uint64_t seed;
    struct survey_segment *segments;
    size_t n_segments;
    size_t max_segments;
    struct region_part *pairs;
    size_t n_pairs;
    size_t max_pairs;
    struct survey_gap *gaps;
    size_t n_gaps;
    size_t max_gaps;
    uint64_t places;
    uint64_t items;
    uint64_t chained;   /* items in pieces */
    uint64_t conflicts; /* items whose bytes another one has */
    uint64_t max_cas;
};

/* 0 or -ENOMEM. */
int survey_init(struct survey *survey, struct view *view, struct fixes *fixes);
void survey_fini(struct survey *survey);

/* Header, directory, grain words. 0; -EUCLEAN: too damaged to look further;
 * -ENOMEM. */
int survey_region(struct survey *survey);

static inline struct region_slot *survey_slot(const struct survey *survey,
                                              uint32_t i)
{
    const struct region_header *h = view_header(survey->view);
    return (struct region_slot *)(void *)(survey->view->base + h->directory) +
           i;
}

/* Its grains and its header. 0; -EUCLEAN: it cannot be looked into; -ENOMEM. */
int survey_pool_open(struct survey *survey, uint32_t slot,
                     struct survey_pool *pool);
void survey_pool_close(struct survey_pool *pool);

/* Table, items and state. 0 or -ENOMEM. */
int survey_pool(struct survey_pool *pool);

/* Call visit for each item of a pool that was surveyed, until it returns
 * false. The key lies in the view. */
typedef bool survey_visit(void *context, const struct survey_pool *pool,
                          const struct hop_entry *entry);
void survey_each(const struct survey_pool *pool, survey_visit *visit,
                 void *context);

/* Whether a client would still see it at that second. */
bool survey_flushed(const struct survey_pool *pool,
                    const struct hop_entry *entry, uint64_t now);

/* All pools: open, survey, close. 0 or -ENOMEM. */
int survey_all(struct survey *survey);

#endif
