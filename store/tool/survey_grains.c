/*
 * Grain words: each pool has every index once. A word that is missing is looked
 * for among those that say nothing: one that differs in a bit, or the
 * neighbour of the grain before or after.
 */
#include "store/tool/survey_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FEW        8   /* missing words of a pool that are looked for */
#define SOUGHT_MAX 256 /* and of all pools */

struct grain {
    uint32_t slot;
    uint32_t index;
    uint64_t number;
};

/* A slot for which words are missing. */
struct missing {
    uint32_t slot;
    uint64_t n;
    uint64_t *own; /* grains by index; UINT64_MAX: missing */
};

struct grains {
    struct survey *survey;
    struct grain *list; /* of slots in use, by slot, index, number */
    size_t n;
    struct missing *missing;
    size_t n_missing;
    size_t max_missing;
};

static uint64_t word_at(const struct survey *s, uint64_t grain)
{
    return view_header(s->view)->words + 8 * grain;
}

static uint64_t word_of(const struct survey *s, uint32_t slot, uint64_t index)
{
    return survey_slot(s, slot)->id << 32 | index;
}

/* Enough of a pool to name it. */
static struct survey_pool name_pool(struct survey *s, uint32_t slot)
{
    struct survey_pool pool = {.survey = s, .slot = slot};
    memcpy(pool.name, survey_slot(s, slot)->name, REGION_NAME_MAX);
    return pool;
}

static int by_slot(const void *a, const void *b)
{
    const struct grain *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot > y->slot ? 1 : -1;
    if (x->index != y->index)
        return x->index > y->index ? 1 : -1;
    return x->number > y->number ? 1 : -1;
}

static int list_grains(struct grains *l)
{
    struct survey *s = l->survey;
    const struct region_slot *first = survey_slot(s, 0);
    size_t max = 0;
    for (uint64_t g = 0; g < s->n_grains; g++) {
        uint64_t word = view_word(s->view, word_at(s, g));
        const struct region_slot *slot = survey_slot_of(s, word >> 32);
        s->orphans += word != 0 && !slot;
        if (!slot)
            continue;
        void *more = survey_more(l->list, l->n, &max, sizeof(*l->list));
        if (!more)
            return -ENOMEM;
        l->list = more;
        l->list[l->n++] =
            (struct grain){(uint32_t)(slot - first), (uint32_t)word, g};
    }
    if (l->n > 0)
        qsort(l->list, l->n, sizeof(*l->list), by_slot);
    return 0;
}

static bool has_header(const struct survey *s, uint64_t grain, uint64_t id)
{
    const struct region_header *h = view_header(s->view);
    const struct pool_header *pool =
        (const void *)(s->view->base + h->first + grain * h->grain);
    return pool->magic == POOL_MAGIC && pool->id == id;
}

static bool is_free(const struct survey *s, uint64_t grain)
{
    return grain < s->n_grains && s->owner[grain] == 0;
}

/* A grain that no pool has yet: the one with the pool's header, one whose word
 * is a bit off, or one beside that of the index before or after. UINT64_MAX:
 * none. */
static uint64_t find_lost(const struct survey *s, uint64_t word,
                          uint64_t before, uint64_t after)
{
    for (uint64_t g = 0; g < s->n_grains; g++) {
        uint64_t now = view_word(s->view, word_at(s, g));
        if (!is_free(s, g))
            continue;
        if ((uint32_t)word == 0
                ? has_header(s, g, word >> 32)
                : now != 0 && __builtin_popcountll(now ^ word) == 1)
            return g;
    }
    if (before != UINT64_MAX && is_free(s, before + 1))
        return before + 1;
    if (after != UINT64_MAX && after > 0 && is_free(s, after - 1))
        return after - 1;
    return UINT64_MAX;
}

/* Of several grains of one index: the one with the pool's header is its first
 * one, others lie beside the grain before or after. */
static size_t choose(const struct grains *l, size_t i, size_t end,
                     uint64_t before, uint64_t after)
{
    const struct grain *list = l->list;
    uint64_t id = survey_slot(l->survey, list[i].slot)->id;
    bool first = list[i].index == 0;
    for (size_t k = i; k < end; k++)
        if (first ? has_header(l->survey, list[k].number, id)
                  : (before != UINT64_MAX && list[k].number == before + 1) ||
                        (after != UINT64_MAX && list[k].number + 1 == after))
            return k;
    while (!first && i + 1 < end && has_header(l->survey, list[i].number, id))
        i++;
    return i;
}

static void release(struct survey *s, const struct survey_pool *pool,
                    uint64_t grain)
{
    survey_tell(s, pool, DAMAGE_GRAINS, word_at(s, grain), 0,
                "this one becomes free",
                "two grains say that they are the same one of the pool");
    fixes_word(s->fixes, s->view, word_at(s, grain), 0);
}

/* The grains of one slot, list[i] to list[end], by index in own[]. */
static void take_words(struct grains *l, size_t i, size_t end, uint64_t n,
                       uint64_t *own, const struct survey_pool *pool)
{
    struct survey *s = l->survey;
    uint64_t known = 0; /* the last index whose grain is known */
    for (uint64_t k = 0; k < n; k++)
        own[k] = UINT64_MAX;
    while (i < end && l->list[i].index < n) {
        size_t next = i + 1;
        uint32_t index = l->list[i].index;
        while (next < end && l->list[next].index == index)
            next++;
        uint64_t after = next < end && l->list[next].index == index + 1
                             ? l->list[next].number
                             : UINT64_MAX;
        uint64_t before = own[known] == UINT64_MAX
                              ? UINT64_MAX
                              : own[known] + (index - known) - 1;
        size_t chosen = choose(l, i, next, before, after);
        own[index] = l->list[chosen].number;
        known = index;
        s->owner[own[index]] = 1 + pool->slot;
        for (; i < next; i++)
            if (i != chosen)
                release(s, pool, l->list[i].number);
    }
}

static void set_grains(struct survey *s, uint32_t slot, uint64_t n)
{
    const struct region_slot *at = survey_slot(s, slot);
    struct survey_pool pool = name_pool(s, slot);
    uint64_t offset =
        (uint64_t)((const unsigned char *)&at->grains - s->view->base);
    survey_tell(s, &pool, DAMAGE_GRAINS, offset, 0,
                n > 0 ? "it becomes as many as there are" : NULL,
                "the pool is to have %llu grains, and has %llu",
                (unsigned long long)at->grains, (unsigned long long)n);
    if (n > 0)
        fixes_word(s->fixes, s->view, offset, n);
}

static bool none_after(const struct missing *m, uint64_t k)
{
    while (++k < m->n)
        if (m->own[k] != UINT64_MAX)
            return false;
    return true;
}

/* Once it is known whose all other grains are. */
static void find_missing(struct survey *s, const struct missing *m)
{
    struct survey_pool pool = name_pool(s, m->slot);
    uint64_t *own = m->own;
    for (uint64_t k = 0; k < m->n; k++) {
        if (own[k] != UINT64_MAX)
            continue;
        uint64_t word = word_of(s, m->slot, k);
        if (s->sought++ < SOUGHT_MAX)
            own[k] = find_lost(s, word, k > 0 ? own[k - 1] : UINT64_MAX,
                               k + 1 < m->n ? own[k + 1] : UINT64_MAX);
        if (own[k] != UINT64_MAX) {
            s->owner[own[k]] = 1 + m->slot;
            survey_tell(s, &pool, DAMAGE_GRAINS, word_at(s, own[k]), 0,
                        "it becomes that grain's",
                        "the word of grain %llu of the pool is wrong",
                        (unsigned long long)k);
            fixes_word(s->fixes, s->view, word_at(s, own[k]), word);
        } else if (k > 0 && none_after(m, k)) {
            set_grains(s, m->slot, k);
            return;
        } else {
            survey_tell(s, &pool, DAMAGE_GRAINS, word_at(s, 0), 0, NULL,
                        "no grain says that it is number %llu of the pool",
                        (unsigned long long)k);
        }
    }
}

/* How many of the indexes from 0 on are there, below n. */
static uint64_t count_present(const struct grains *l, size_t i, size_t end,
                              uint64_t n, uint64_t *unbroken)
{
    uint64_t present = 0;
    *unbroken = 0;
    for (size_t k = i; k < end && l->list[k].index < n; k++) {
        if (k > i && l->list[k].index == l->list[k - 1].index)
            continue;
        if (l->list[k].index == present)
            *unbroken = present + 1;
        present++;
    }
    return present;
}

/* How many grains the pool has, when its slot cannot be right. */
static uint64_t judge_number(struct grains *l, uint32_t slot, size_t i,
                             size_t end)
{
    struct survey *s = l->survey;
    uint64_t n = survey_slot(s, slot)->grains, unbroken;
    uint64_t present = count_present(l, i, end, n, &unbroken);
    bool bit = __builtin_popcountll(n ^ present) == 1 && n - present > 1;
    if (n > 0 && n <= s->n_grains &&
        (present > unbroken || n == present || (n - present <= FEW && !bit)))
        return n;
    count_present(l, i, end, UINT32_MAX, &unbroken);
    set_grains(s, slot, unbroken);
    return unbroken;
}

static void count_more(struct grains *l, size_t i, size_t end, uint64_t n)
{
    struct survey *s = l->survey;
    uint32_t more = 0;
    for (; i < end; i++)
        more += l->list[i].index >= n;
    survey_find_id(s, survey_slot(s, l->list[end - 1].slot)->id)->more = more;
}

static int look_at_slot(struct grains *l, uint32_t slot, size_t i, size_t end)
{
    struct survey *s = l->survey;
    struct survey_pool pool = name_pool(s, slot);
    uint64_t n = judge_number(l, slot, i, end);
    count_more(l, i, end, n);
    uint64_t *own = malloc((n + 1) * sizeof(*own));
    if (!own)
        return -ENOMEM;
    take_words(l, i, end, n, own, &pool);
    for (uint64_t k = 0; k < n; k++) {
        if (own[k] != UINT64_MAX)
            continue;
        void *more = survey_more(l->missing, l->n_missing, &l->max_missing,
                                 sizeof(*l->missing));
        if (!more)
            break;
        l->missing = more;
        l->missing[l->n_missing++] = (struct missing){slot, n, own};
        return 0;
    }
    free(own);
    return 0;
}

static int by_owner(const void *a, const void *b)
{
    const struct survey_grain *x = a, *y = b;
    if (x->owner != y->owner)
        return x->owner > y->owner ? 1 : -1;
    return x->number > y->number ? 1 : -1;
}

int survey_order_grains(struct survey *s)
{
    size_t n = 0;
    for (uint64_t g = 0; g < s->n_grains; g++)
        n += s->owner[g] != 0;
    free(s->order);
    s->n_order = 0;
    s->order = malloc((n + 1) * sizeof(*s->order));
    if (!s->order)
        return -ENOMEM;
    for (uint64_t g = 0; g < s->n_grains; g++)
        if (s->owner[g] != 0)
            s->order[s->n_order++] =
                (struct survey_grain){s->owner[g], (uint32_t)g};
    qsort(s->order, s->n_order, sizeof(*s->order), by_owner);
    return 0;
}

int survey_grains(struct survey *s)
{
    struct grains l = {.survey = s};
    int rc = list_grains(&l);
    for (size_t i = 0, end; i < l.n && rc == 0; i = end) {
        for (end = i; end < l.n && l.list[end].slot == l.list[i].slot;)
            end++;
        rc = look_at_slot(&l, l.list[i].slot, i, end);
    }
    for (size_t i = 0; i < l.n_missing; i++) {
        find_missing(s, &l.missing[i]);
        free(l.missing[i].own);
    }
    free(l.missing);
    free(l.list);
    return rc == 0 ? survey_order_grains(s) : rc;
}
