/*
 * The happy path: take room for the new segments; commit what is pending, so
 * that the old one in the pool is all there is to know; put each item into an
 * image of its new segment, in memory; copy the images into the pool; give the
 * table word that named the old segment its new value, which the next commit
 * makes durable. Until then a crash finds the old segment, which nobody
 * writes any more; its room is free after that commit.
 *
 * A table that gets empty shrinks in the same way: a sparse segment is written
 * anew smaller, or with its sibling as one in the place of their pair.
 *
 * It fails, with nothing changed, when there is no room for any of the plans,
 * or an item finds no place in an image.
 */
#include "store/engine/grow.h"

#include "store/engine/item.h"
#include "store/engine/recover.h"
#include "store/engine/space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define USUAL       1024u
#define USUAL_LARGE 1536u

/* How a segment is written anew. */
struct plan {
    uint32_t parts; /* 1 or 2 */
    uint32_t n;     /* places of each */
};

/* A segment under construction. */
struct image {
    struct hop_entry *entries; /* in memory */
    uint32_t *from;            /* by index: the item's old place */
    uint64_t offset;           /* its room in the pool */
    uint32_t number;
};

struct growth {
    struct kv *kv;
    uint32_t old[2]; /* numbers of the segments */
    uint32_t n_old;
    uint32_t prefix;   /* hash bits that lead to the new ones ... */
    uint32_t depth;    /* ... and how many of them */
    uint64_t *word;    /* table word that will name what is new */
    uint64_t old_pair; /* offset of a pair that goes; 0: none */
    struct plan plan;
    struct image image[2];
    uint64_t pair; /* offset of the pair, with two parts */
};

/* The i-th choice for a segment; false: no more. */
static bool choose(const struct hop_segment *s, uint32_t i, struct plan *plan)
{
    uint32_t half = (s->n_used * 5 / 8 + 63) / 64 * 64; /* 80 % full */
    bool two = s->depth < HOP_DEPTH_MAX;
    if (half < HOP_SEGMENT_MIN)
        half = HOP_SEGMENT_MIN;
    if (i == 0) {
        *plan = s->n < USUAL         ? (struct plan){1, s->n * 2}
                : s->n < USUAL_LARGE ? (struct plan){1, USUAL_LARGE}
                                     : (struct plan){2, USUAL};
        if (plan->n > USUAL_LARGE)
            plan->n = USUAL_LARGE;
        return plan->parts == 1 || two;
    }
    *plan = (struct plan){2, half};
    return i == 1 && two;
}

static void give_back(struct growth *g)
{
    struct kv *kv = g->kv;
    uint64_t bytes = g->plan.n * sizeof(struct hop_entry);
    for (uint32_t i = 0; i < 2; i++) {
        struct image *image = &g->image[i];
        if (image->number != HOP_NONE) {
            lru_drop_chunk(&kv->lru, image->number);
            hop_drop_segment(&kv->table, image->number);
        }
        if (image->offset != 0)
            heap_free(&kv->heap, image->offset, bytes);
        free(image->entries);
        free(image->from);
        *image = (struct image){.number = HOP_NONE};
    }
    if (g->pair != 0)
        heap_free(&kv->heap, g->pair, sizeof(struct hop_pair));
    g->pair = 0;
}

static bool take_room(struct growth *g)
{
    uint64_t bytes = g->plan.n * sizeof(struct hop_entry);
    for (uint32_t i = 0; i < g->plan.parts; i++) {
        g->image[i].offset = heap_alloc_lines(&g->kv->heap, bytes);
        if (g->image[i].offset == 0)
            return false;
    }
    if (g->plan.parts == 2)
        g->pair = heap_alloc(&g->kv->heap, sizeof(struct hop_pair));
    return g->plan.parts == 1 || g->pair != 0;
}

static bool make_image(struct growth *g, uint32_t i, uint32_t prefix,
                       uint32_t depth)
{
    struct image *image = &g->image[i];
    struct kv *kv = g->kv;
    uint32_t number;
    image->entries = calloc(g->plan.n, sizeof(*image->entries));
    image->from = calloc(g->plan.n, sizeof(*image->from));
    if (!image->entries || !image->from ||
        hop_add_segment(&kv->table, image->entries, g->plan.n, prefix, depth,
                        &number) < 0)
        return false;
    if (lru_add_chunk(&kv->lru, number, g->plan.n) < 0) {
        hop_drop_segment(&kv->table, number);
        return false;
    }
    image->number = number;
    return true;
}

static bool make_images(struct growth *g)
{
    uint32_t prefix = g->prefix, depth = g->depth;
    if (g->plan.parts == 1)
        return make_image(g, 0, prefix, depth);
    return hop_deepen(&g->kv->table, depth + 1) == 0 &&
           make_image(g, 0, prefix, depth + 1) &&
           make_image(g, 1, prefix | (uint32_t)1 << (31 - depth), depth + 1);
}

/* A place in the image that the bucket reaches; items move to make one. */
static uint32_t image_place(struct growth *g, struct image *image,
                            uint32_t bucket)
{
    struct hop_table *table = &g->kv->table;
    struct hop_move move;
    uint32_t place;
    while ((place = hop_free_place(table, bucket)) == HOP_NONE) {
        if (!hop_find_move(table, bucket, &move))
            return HOP_NONE;
        struct hop_entry *owner = hop_entry(table, move.bucket);
        struct hop_entry *to = hop_entry(table, move.to);
        memcpy(&to->cas, &hop_entry(table, move.from)->cas,
               sizeof(*to) - offsetof(struct hop_entry, cas));
        owner->owner ^=
            (uint64_t)1 << hop_distance(table, move.bucket, move.from) |
            (uint64_t)1 << hop_distance(table, move.bucket, move.to);
        image->from[move.to & HOP_INDEX] = image->from[move.from & HOP_INDEX];
        hop_claim(table, move.to);
        hop_mark(table, move.to, hop_mark_of(item_hash(to)));
        hop_unclaim(table, move.from);
        hop_mark(table, move.from, 0);
    }
    return place;
}

static bool put_item(struct growth *g, uint32_t from)
{
    struct hop_table *table = &g->kv->table;
    const struct hop_entry *entry = hop_entry(table, from);
    uint32_t part = g->plan.parts == 2 ? entry->tag >> (31 - g->depth) & 1 : 0;
    struct image *image = &g->image[part];
    uint32_t bucket = hop_bucket_in(table, image->number, item_hash(entry));
    uint32_t place = image_place(g, image, bucket);
    if (place == HOP_NONE)
        return false;
    struct hop_entry *to = hop_entry(table, place);
    memcpy(&to->cas, &entry->cas,
           sizeof(*to) - offsetof(struct hop_entry, cas));
    hop_entry(table, bucket)->owner |= (uint64_t)1
                                       << hop_distance(table, bucket, place);
    hop_claim(table, place);
    hop_mark(table, place, hop_mark_of(item_hash(to)));
    image->from[place & HOP_INDEX] = from;
    return true;
}

static bool put_items(struct growth *g, uint32_t old)
{
    struct hop_table *table = &g->kv->table;
    uint32_t n = hop_segment(table, old)->n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bucket = old << HOP_SHIFT | i;
        uint64_t owner = hop_entry(table, bucket)->owner;
        for (; owner != 0; owner &= owner - 1)
            if (!put_item(g, hop_place_at(table, bucket,
                                          (uint32_t)__builtin_ctzll(owner))))
                return false;
    }
    return true;
}

/* Into the pool, and recency to the new places. */
static void move_in(struct growth *g, struct image *image, uint64_t *word)
{
    struct kv *kv = g->kv;
    struct hop_segment *s = hop_segment(&kv->table, image->number);
    unsigned char *at = kv_at(kv, image->offset);
    pm_copy(kv->pm, at, image->entries, g->plan.n * sizeof(struct hop_entry));
    s->entries = (struct hop_entry *)(void *)at;
    s->word = word;
    for (uint32_t i = 0; i < g->plan.n; i++)
        if (s->used[i / 64] >> i % 64 & 1)
            lru_move(&kv->lru, image->from[i], image->number << HOP_SHIFT | i);
    hop_enter(&kv->table, image->number);
    free(image->entries);
    free(image->from);
    image->entries = NULL;
    image->from = NULL;
}

static void drop_old(struct growth *g, uint32_t number)
{
    struct kv *kv = g->kv;
    struct hop_segment old = *hop_segment(&kv->table, number);
    lru_drop_chunk(&kv->lru, number);
    hop_drop_segment(&kv->table, number);
    heap_retire(&kv->heap,
                (uint64_t)((unsigned char *)old.entries - kv->pm->base),
                old.n * sizeof(struct hop_entry), 0);
}

static void adopt(struct growth *g, enum kv_kind why)
{
    struct kv *kv = g->kv;
    uint64_t before = kv->pm->flushed;
    uint64_t word[2] = {grow_segment_word(g->image[0].offset, g->plan.n),
                        grow_segment_word(g->image[1].offset, g->plan.n)};
    if (g->plan.parts == 1) {
        move_in(g, &g->image[0], g->word);
        commit_write(&kv->commit, g->word, word[0]);
    } else {
        struct hop_pair image = {.word = {word[0], word[1]}};
        struct hop_pair *pair = (void *)kv_at(kv, g->pair);
        pm_copy(kv->pm, pair, &image, sizeof(image));
        move_in(g, &g->image[0], &pair->word[0]);
        move_in(g, &g->image[1], &pair->word[1]);
        commit_write(&kv->commit, g->word, grow_pair_word(g->pair));
    }
    for (uint32_t i = 0; i < g->n_old; i++)
        drop_old(g, g->old[i]);
    if (g->old_pair != 0)
        heap_retire(&kv->heap, g->old_pair, sizeof(struct hop_pair), 0);
    costs_note(&kv->costs, why, kv->pm->flushed - before, 0);
    kv->moves++;
    hop_prepare(&kv->table);
}

/* KV_OK; KV_NO_SPACE: not by this plan; KV_IO. */
static enum kv_result carry_out(struct growth *g, enum kv_kind why)
{
    enum kv_result result = KV_NO_SPACE;
    if (take_room(g))
        result = space_commit(g->kv);
    if (result == KV_OK && !(make_images(g) && put_items(g, g->old[0]) &&
                             (g->n_old == 1 || put_items(g, g->old[1]))))
        result = KV_NO_SPACE;
    if (result == KV_OK)
        adopt(g, why);
    else
        give_back(g);
    return result;
}

enum kv_result grow_segment(struct kv *kv, uint32_t segment)
{
    const struct hop_segment *s = hop_segment(&kv->table, segment);
    struct growth g = {.kv = kv,
                       .old = {segment},
                       .n_old = 1,
                       .prefix = s->prefix,
                       .depth = s->depth,
                       .word = s->word,
                       .image = {{.number = HOP_NONE}, {.number = HOP_NONE}}};
    for (uint32_t i = 0; choose(hop_segment(&kv->table, segment), i, &g.plan);
         i++) {
        enum kv_result result = carry_out(&g, KV_KIND_GROW);
        kv->stats.growths += result == KV_OK;
        if (result != KV_NO_SPACE)
            return result;
    }
    if (!recover_pays(kv))
        return KV_NO_SPACE;
    return recover_rest(kv) < 0 ? KV_IO : grow_segment(kv, segment);
}

/* The table word at which so many of these hash bits arrive. */
static uint64_t *word_at(struct kv *kv, uint32_t prefix, uint32_t depth)
{
    uint64_t *word = &kv->pool.header->state.root;
    for (uint32_t d = 0; d < depth; d++) {
        uint64_t value = commit_read(&kv->commit, word);
        assert(value & HOP_WORD_PAIR);
        struct hop_pair *pair =
            (void *)kv_at(kv, (value & HOP_WORD_OFFSET) * HOP_WORD_UNIT);
        word = &pair->word[prefix >> (31 - d) & 1];
    }
    return word;
}

/* Places for so many items, half of them free. */
static uint32_t half_full(uint32_t used)
{
    uint32_t n = (2 * used + 63) / 64 * 64;
    return n < HOP_SEGMENT_MIN ? HOP_SEGMENT_MIN : n;
}

/* The segment and its sibling become one, and their pair goes. */
static bool plan_merge(struct growth *g, const struct hop_segment *s)
{
    struct hop_table *table = &g->kv->table;
    if (s->depth == 0)
        return false;
    uint32_t bit = (uint32_t)1 << (32 - s->depth);
    uint32_t number = hop_segment_of(table, (uint64_t)(s->prefix ^ bit) << 32);
    const struct hop_segment *other = hop_segment(table, number);
    uint32_t used = s->n_used + other->n_used;
    if (other->depth != s->depth || used > (s->n + other->n) / GROW_SPARSE_PART)
        return false;
    g->old[1] = number;
    g->n_old = 2;
    g->prefix = s->prefix & ~bit;
    g->depth = s->depth - 1;
    g->word = word_at(g->kv, g->prefix, g->depth);
    g->old_pair = (commit_read(&g->kv->commit, g->word) & HOP_WORD_OFFSET) *
                  HOP_WORD_UNIT;
    g->plan = (struct plan){1, half_full(used)};
    return true;
}

enum kv_result grow_smaller(struct kv *kv, uint32_t segment)
{
    const struct hop_segment *s = hop_segment(&kv->table, segment);
    struct growth g = {.kv = kv,
                       .old = {segment},
                       .n_old = 1,
                       .prefix = s->prefix,
                       .depth = s->depth,
                       .word = s->word,
                       .plan = {1, half_full(s->n_used)},
                       .image = {{.number = HOP_NONE}, {.number = HOP_NONE}}};
    if (kv->recovery.active ||
        (!plan_merge(&g, s) &&
         (!grow_is_sparse(kv, segment) || g.plan.n > s->n / 2)))
        return KV_NO_SPACE;
    enum kv_result result = carry_out(&g, KV_KIND_SHRINK);
    kv->stats.shrinks += result == KV_OK;
    return result;
}

enum kv_result grow_first(struct kv *kv)
{
    struct growth g = {.kv = kv,
                       .plan = {1, HOP_SEGMENT_MIN},
                       .image = {{.number = HOP_NONE}, {.number = HOP_NONE}}};
    uint64_t *root = &kv->pool.header->state.root;
    if (!take_room(&g) || !make_image(&g, 0, 0, 0)) {
        give_back(&g);
        return KV_NO_SPACE;
    }
    uint64_t word = grow_segment_word(g.image[0].offset, g.plan.n);
    uint64_t before = kv->pm->flushed;
    move_in(&g, &g.image[0], root);
    costs_note(&kv->costs, KV_KIND_GROW, kv->pm->flushed - before, 0);
    commit_write(&kv->commit, root, word);
    return KV_OK;
}
