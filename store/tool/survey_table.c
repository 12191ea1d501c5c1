/*
 * The tree of table words. A word that leads nowhere is tried with each of its
 * bits changed: one of them may lead to a segment whose entries all belong
 * there. Otherwise an empty segment takes the place of what is lost.
 *
 * A word may also lead to what was a part of the table earlier. Entries do not
 * tell the two apart; what the last close has counted does.
 */
#include "store/tool/survey_private.h"

#include "store/engine/heap.h"

#include <errno.h>
#include <string.h>

#define NODES_MAX  4096 /* looked at for one word that is tried */
#define TRIALS_MAX 32   /* words with which all of a pool is looked at */

/* Where a table word leads, when that is possible at all. */
struct target {
    uint64_t at;
    uint64_t len;
    uint32_t places; /* of a segment; 0: a pair */
};

static bool find_target(const struct survey_pool *pool, uint64_t word,
                        uint32_t depth, struct target *target)
{
    target->at = (word & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    if (word & HOP_WORD_PAIR) {
        target->places = 0;
        target->len = sizeof(struct hop_pair);
        return depth < HOP_DEPTH_MAX &&
               (word & ~HOP_WORD_PAIR) >> HOP_WORD_PLACES == 0 &&
               survey_covers(pool, target->at, target->len);
    }
    target->places = (uint32_t)(word >> HOP_WORD_PLACES) * 64;
    target->len = target->places * sizeof(struct hop_entry);
    return target->places >= HOP_SEGMENT_MIN &&
           target->places <= HOP_SEGMENT_MAX && target->at % 64 == 0 &&
           survey_covers(pool, target->at, target->len);
}

static const struct hop_pair *pair_at(const struct survey_pool *pool,
                                      uint64_t at)
{
    return (const void *)(pool->survey->view->base + at);
}

static uint64_t right_of(uint64_t at)
{
    return at + offsetof(struct hop_pair, word) + sizeof(uint64_t);
}

static uint32_t right_prefix(uint32_t prefix, uint32_t depth)
{
    return prefix | (uint32_t)1 << (31 - depth);
}

static int add_segment(struct survey_pool *pool, const struct target *target,
                       uint64_t word_at, uint32_t prefix, uint32_t depth)
{
    void *more = survey_more(pool->segments, pool->n_segments,
                             &pool->max_segments, sizeof(*pool->segments));
    if (!more)
        return -ENOMEM;
    pool->segments = more;
    pool->segments[pool->n_segments++] = (struct survey_segment){
        target->at, word_at, target->places, prefix, depth};
    pool->places += target->places;
    return 0;
}

static int add_pair(struct survey_pool *pool, uint64_t at)
{
    static const uint8_t zero[sizeof(((struct hop_pair *)0)->zero)];
    const struct hop_pair *pair = pair_at(pool, at);
    struct survey *s = pool->survey;
    void *more = survey_more(pool->pairs, pool->n_pairs, &pool->max_pairs,
                             sizeof(*pool->pairs));
    if (!more)
        return -ENOMEM;
    pool->pairs = more;
    pool->pairs[pool->n_pairs++] = (struct region_part){at, sizeof(*pair)};
    if (memcmp(pair->zero, zero, sizeof(zero)) == 0)
        return 0;
    at += offsetof(struct hop_pair, zero);
    survey_tell(s, pool, DAMAGE_STRAY, at, 0, "they become zero",
                "reserved bytes of a pair of table words are not zero");
    fixes_bytes(s->fixes, s->view, at, zero, sizeof(zero));
    return 0;
}

/* doubtful: it may lead somewhere, but hardly where it should. */
static int add_gap(struct survey_pool *pool, uint64_t word_at, uint32_t prefix,
                   uint32_t depth, bool doubtful)
{
    void *more = survey_more(pool->gaps, pool->n_gaps, &pool->max_gaps,
                             sizeof(*pool->gaps));
    if (!more)
        return -ENOMEM;
    pool->gaps = more;
    pool->gaps[pool->n_gaps++] =
        (struct survey_gap){word_at, prefix, depth, doubtful};
    return 0;
}

/* One word that is tried: how many items below it are where they belong. */
struct trial {
    const struct survey_pool *pool;
    bool strict; /* one that does not is too many: all may stop */
    unsigned nodes;
    uint64_t right;
    uint64_t wrong;
    uint64_t places; /* looked at */
};

static bool is_free(const struct survey_pool *pool, const struct target *t)
{
    uint64_t end = t->at + t->len;
    return space_map_next(&pool->survey->space, t->at, end, true) == end;
}

static void try_segment(struct trial *trial, const struct target *target,
                        uint32_t prefix, uint32_t depth)
{
    const struct survey *s = trial->pool->survey;
    struct survey_segment segment = {.at = target->at, .n = target->places};
    trial->places += target->places;
    for (uint32_t b = 0; b < target->places; b++) {
        uint64_t owner = survey_entry(s, target->at, b)->owner;
        if (trial->strict && trial->wrong > 0)
            return;
        for (; owner != 0; owner &= owner - 1) {
            uint32_t place =
                (b + (uint32_t)__builtin_ctzll(owner)) % target->places;
            const struct hop_entry *e = survey_entry(s, target->at, place);
            bool right = item_valid(e) &&
                         survey_in_segment(prefix, depth, item_hash(e)) &&
                         survey_bucket(&segment, item_hash(e)) == b;
            trial->right += right;
            trial->wrong += !right;
        }
    }
}

/* Most of what a segment names belongs there. */
static bool segment_looks_right(const struct survey_pool *pool,
                                const struct target *target, uint32_t prefix,
                                uint32_t depth)
{
    struct trial trial = {.pool = pool};
    try_segment(&trial, target, prefix, depth);
    return trial.wrong <= trial.right;
}

static bool child_looks_right(const struct survey_pool *pool, uint64_t word,
                              uint32_t prefix, uint32_t depth)
{
    struct target target;
    return find_target(pool, word, depth, &target) &&
           (target.places == 0 ||
            segment_looks_right(pool, &target, prefix, depth));
}

/* Whether what it leads to looks as if it belonged there. A pair of which one
 * word is good is the right pair. */
static bool looks_right(const struct survey_pool *pool,
                        const struct target *target, uint32_t prefix,
                        uint32_t depth)
{
    if (target->places != 0 && depth == 0 && survey_told_items(pool) > 0) {
        struct trial trial = {.pool = pool};
        try_segment(&trial, target, prefix, depth);
        return trial.right > trial.wrong;
    }
    if (target->places != 0)
        return segment_looks_right(pool, target, prefix, depth);
    const struct hop_pair *pair = pair_at(pool, target->at);
    return child_looks_right(pool, pair->word[0], prefix, depth + 1) ||
           child_looks_right(pool, pair->word[1], right_prefix(prefix, depth),
                             depth + 1);
}

/* All that a table word names; depth bounds the recursion, and that nothing is
 * taken twice bounds the number of calls. */
static int take_word(struct survey_pool *pool, uint64_t word_at,
                     uint32_t prefix, uint32_t depth, bool doubt)
{
    struct survey *s = pool->survey;
    struct target target;
    if (!find_target(pool, view_word(s->view, word_at), depth, &target))
        return add_gap(pool, word_at, prefix, depth, false);
    if (doubt && !looks_right(pool, &target, prefix, depth))
        return add_gap(pool, word_at, prefix, depth, true);
    if (!space_map_take(&s->space, target.at, target.len, &s->work))
        return add_gap(pool, word_at, prefix, depth, false);
    if (target.places != 0)
        return add_segment(pool, &target, word_at, prefix, depth);
    int rc = add_pair(pool, target.at);
    if (rc == 0)
        rc = take_word(pool, target.at, prefix, depth + 1, doubt);
    if (rc == 0)
        rc = take_word(pool, right_of(target.at), right_prefix(prefix, depth),
                       depth + 1, doubt);
    return rc;
}

static bool try_word(struct trial *trial, uint64_t word, uint32_t prefix,
                     uint32_t depth)
{
    struct target target;
    if (++trial->nodes > NODES_MAX ||
        !find_target(trial->pool, word, depth, &target) ||
        !is_free(trial->pool, &target))
        return false;
    if (target.places != 0) {
        try_segment(trial, &target, prefix, depth);
        return true;
    }
    const struct hop_pair *pair = pair_at(trial->pool, target.at);
    return try_word(trial, pair->word[0], prefix, depth + 1) &&
           try_word(trial, pair->word[1], right_prefix(prefix, depth),
                    depth + 1);
}

/* The word with the bit changed that makes most sense; 0: none does. */
static uint64_t mended_word(const struct survey_pool *pool,
                            const struct survey_gap *gap)
{
    uint64_t word = view_word(pool->survey->view, gap->word_at);
    uint64_t best = 0, most = 0;
    for (unsigned bit = 0; bit < 64; bit++) {
        struct trial trial = {.pool = pool};
        uint64_t with = word ^ (uint64_t)1 << bit;
        if (!try_word(&trial, with, gap->prefix, gap->depth) ||
            trial.wrong > trial.right / 8 || trial.right <= most)
            continue;
        most = trial.right;
        best = with;
    }
    return best;
}

static int mend_gap(struct survey_pool *pool, const struct survey_gap *gap)
{
    struct survey *s = pool->survey;
    uint64_t word = mended_word(pool, gap);
    if (word == 0 && gap->doubtful) /* it is what there is */
        return take_word(pool, gap->word_at, gap->prefix, gap->depth, false);
    if (word == 0) {
        s->lost_more = true;
        return add_gap(pool, gap->word_at, gap->prefix, gap->depth, false);
    }
    survey_tell(s, pool, DAMAGE_TABLE, gap->word_at, 0,
                "with one bit changed it leads to its items",
                "a table word leads %s",
                gap->doubtful ? "elsewhere" : "nowhere");
    fixes_word(s->fixes, s->view, gap->word_at, word);
    return take_word(pool, gap->word_at, gap->prefix, gap->depth, false);
}

/* Those that are left are at the front of the list then. */
static int mend_gaps(struct survey_pool *pool)
{
    size_t n = pool->n_gaps;
    for (size_t i = 0; i < n; i++) {
        struct survey_gap gap = pool->gaps[i];
        int rc = mend_gap(pool, &gap);
        if (rc < 0)
            return rc;
    }
    pool->n_gaps -= n;
    memmove(pool->gaps, pool->gaps + n, pool->n_gaps * sizeof(*pool->gaps));
    return 0;
}

int survey_table(struct survey_pool *pool)
{
    const uint64_t *root = &pool->header->state.root;
    if (*root == 0)
        return 0;
    int rc = take_word(
        pool,
        (uint64_t)((const unsigned char *)root - pool->survey->view->base), 0,
        0, true);
    return rc == 0 && pool->n_gaps > 0 ? mend_gaps(pool) : rc;
}

/* What is looked for: a word with which the tree names as many items as the
 * last close has counted. */
struct search {
    struct survey_pool *pool;
    survey_fits *fits;
    uint64_t told;  /* items, by the last close */
    uint64_t named; /* by the tree as it is */
};

/* Over the whole survey, as with all steps that may be in vain. */
static bool may_search(const struct survey *s)
{
    return s->searched <
           ((uint64_t)1 << 22) + s->view->size / sizeof(struct hop_entry);
}

static uint64_t names_below(const struct survey_pool *pool, uint64_t word,
                            uint32_t depth)
{
    struct survey *s = pool->survey;
    struct target target;
    uint64_t n = 0;
    s->searched++;
    if (!may_search(s) || !find_target(pool, word, depth, &target))
        return 0;
    if (target.places == 0) {
        const struct hop_pair *pair = pair_at(pool, target.at);
        n = names_below(pool, pair->word[0], depth + 1);
        return n + names_below(pool, pair->word[1], depth + 1);
    }
    s->searched += target.places;
    for (uint32_t b = 0; b < target.places; b++)
        n += (unsigned)__builtin_popcountll(
            survey_entry(s, target.at, b)->owner);
    return n;
}

/* wanted: so many items are to be below it. */
static bool is_the_word(struct search *search, uint64_t word_at, uint64_t word,
                        uint32_t prefix, uint32_t depth, uint64_t wanted)
{
    struct survey *s = search->pool->survey;
    struct trial trial = {.pool = search->pool, .strict = true};
    size_t mark = s->fixes->n;
    bool whole = may_search(s) && try_word(&trial, word, prefix, depth);
    s->searched += trial.places + trial.nodes;
    if (!whole || trial.wrong > 0 || trial.right != wanted ||
        s->trials++ >= TRIALS_MAX)
        return false;
    fixes_word(s->fixes, s->view, word_at, word);
    if (search->fits(search->pool))
        return true;
    fixes_rollback(s->fixes, s->view, mark);
    return false;
}

/* This word, or one below it, with a bit changed. */
static bool search_word(struct search *search, uint64_t word_at,
                        uint32_t prefix, uint32_t depth)
{
    struct survey_pool *pool = search->pool;
    uint64_t word = view_word(pool->survey->view, word_at);
    uint64_t elsewhere = search->named - names_below(pool, word, depth);
    struct target target;
    if (!may_search(pool->survey))
        return false;
    for (unsigned bit = 0; bit < 64; bit++)
        if (is_the_word(search, word_at, word ^ (uint64_t)1 << bit, prefix,
                        depth, search->told - elsewhere)) {
            survey_tell(pool->survey, pool, DAMAGE_TABLE, word_at, 0,
                        "with one bit changed it leads to what the last close "
                        "has counted",
                        "a table word leads elsewhere");
            return true;
        }
    return find_target(pool, word, depth, &target) && target.places == 0 &&
           (search_word(search, target.at, prefix, depth + 1) ||
            search_word(search, right_of(target.at),
                        right_prefix(prefix, depth), depth + 1));
}

bool survey_mend_word(struct survey_pool *pool, survey_fits *fits)
{
    const struct survey *s = pool->survey;
    const uint64_t *root = &pool->header->state.root;
    struct search search = {
        .pool = pool, .fits = fits, .told = survey_told_items(pool)};
    if (*root == 0 || search.told == 0)
        return false;
    search.named = names_below(pool, *root, 0);
    return search_word(
        &search, (uint64_t)((const unsigned char *)root - s->view->base), 0, 0);
}

/* A free run of so many bytes on a cache line; 0: there is none. */
static uint64_t find_run(const struct survey_pool *pool, uint64_t len)
{
    const struct survey *s = pool->survey;
    for (size_t i = 0; i < pool->n_parts; i++) {
        uint64_t at = pool->parts[i].offset, end = at + pool->parts[i].size;
        while (at < end) {
            at = space_map_next(&s->space, at, end, false);
            at = (at + 63) / 64 * 64;
            uint64_t stop = space_map_next(&s->space, at, end, true);
            if (at < end && stop - at >= len)
                return at;
            at = stop;
        }
    }
    return 0;
}

void survey_fill_gaps(struct survey_pool *pool)
{
    static const unsigned char zero[HOP_SEGMENT_MIN * sizeof(struct hop_entry)];
    struct survey *s = pool->survey;
    for (size_t i = 0; i < pool->n_gaps; i++) {
        const struct survey_gap *gap = &pool->gaps[i];
        uint64_t at = find_run(pool, sizeof(zero));
        survey_tell(s, pool, DAMAGE_TABLE, gap->word_at, 0,
                    at != 0 ? "an empty segment takes its place" : NULL,
                    "a table word leads nowhere: the items of 1 in %lu keys "
                    "are lost",
                    1ul << gap->depth);
        s->lost_more = true;
        if (at == 0)
            continue;
        space_map_take(&s->space, at, sizeof(zero), &s->work);
        fixes_bytes(s->fixes, s->view, at, zero, sizeof(zero));
        fixes_word(s->fixes, s->view, gap->word_at,
                   (uint64_t)(HOP_SEGMENT_MIN / 64) << HOP_WORD_PLACES |
                       at / HOP_WORD_UNIT);
    }
}

void survey_look_for_room(const struct survey_pool *pool)
{
    uint64_t root = pool->header->state.root;
    uint64_t len = HOP_SEGMENT_MIN * sizeof(struct hop_entry) + HEAP_UNIT;
    if (root == 0 && find_run(pool, len) == 0)
        survey_tell(pool->survey, pool, DAMAGE_TABLE, pool->header_at, 0, NULL,
                    "the pool has no table, and no room for one");
}
