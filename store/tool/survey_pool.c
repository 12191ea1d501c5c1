/*
 * One pool: where its grains are, its header, its state; the order in which the
 * rest of it is looked at.
 *
 * Nothing in a pool's header is unknown but the seed of its hash: what cannot
 * be mended by the checksum is written anew around it.
 */
#include "store/tool/survey_private.h"

#include "store/pm/region.h"
#include "store/tool/mend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRETCHES 32 /* pools that are tried with more grains */

static uint64_t grain_at(const struct survey *s, uint64_t grain)
{
    const struct region_header *h = view_header(s->view);
    return h->first + grain * h->grain;
}

/* The part from `at` on, joined to the one before where they are neighbours. */
static int add_part(struct survey_pool *pool, size_t *max, uint64_t at,
                    uint64_t size)
{
    struct region_part *last =
        pool->n_parts ? &pool->parts[pool->n_parts - 1] : NULL;
    pool->space += size;
    if (size == 0)
        return 0;
    if (last && last->offset + last->size == at) {
        last->size += size;
        return 0;
    }
    void *more =
        survey_more(pool->parts, pool->n_parts, max, sizeof(*pool->parts));
    if (!more)
        return -ENOMEM;
    pool->parts = more;
    pool->parts[pool->n_parts++] = (struct region_part){at, size};
    return 0;
}

/* Where the grains of a slot begin in survey->order. */
static size_t first_of(const struct survey *s, uint32_t slot)
{
    size_t low = 0, high = s->n_order;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->order[mid].owner < slot + 1)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Its grains by their numbers, and which one has the header. */
static int find_grains(struct survey_pool *pool)
{
    struct survey *s = pool->survey;
    const struct region_header *h = view_header(s->view);
    const struct region_slot *slot = survey_slot(s, pool->slot);
    const struct survey_id *id = survey_find_id(s, slot->id);
    size_t max = 0;
    int rc = 0;
    pool->grains = 0;
    pool->header_at = 0;
    pool->more_grains = id ? id->more : 0;
    for (size_t i = first_of(s, pool->slot);
         i < s->n_order && s->order[i].owner == 1 + pool->slot && rc == 0;
         i++) {
        uint64_t g = s->order[i].number, head = 0;
        uint64_t word = view_word(s->view, h->words + 8 * g);
        if (word >> 32 != slot->id || (uint32_t)word >= slot->grains)
            continue;
        pool->grains++;
        if ((uint32_t)word == 0) {
            pool->header_at = grain_at(s, g);
            head = POOL_HEADER_SIZE;
        }
        rc = add_part(pool, &max, grain_at(s, g) + head, h->grain - head);
    }
    if (rc == 0 && (pool->grains != slot->grains || pool->header_at == 0))
        return -EUCLEAN;
    return rc;
}

bool survey_covers(const struct survey_pool *pool, uint64_t at, uint64_t len)
{
    size_t low = 0, high = pool->n_parts;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (pool->parts[mid].offset <= at)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return false;
    const struct region_part *part = &pool->parts[low - 1];
    return at - part->offset <= part->size &&
           len <= part->size - (at - part->offset);
}

static void set_constants(struct pool_header *h, uint64_t id)
{
    memset(h->layout, 0, sizeof(h->layout));
    memcpy(h->layout, POOL_LAYOUT, sizeof(POOL_LAYOUT));
    h->magic = POOL_MAGIC;
    h->version = POOL_VERSION;
    h->header_size = POOL_HEADER_SIZE;
    h->incompat = 0;
    h->compat = 0;
    h->id = id;
    h->zero = 0;
    memset(h->reserved, 0, sizeof(h->reserved));
}

static bool constants_fit(const struct pool_header *h, uint64_t id)
{
    static const char layout[sizeof(h->layout)] = POOL_LAYOUT;
    return memcmp(h->layout, layout, sizeof(layout)) == 0 &&
           h->version == POOL_VERSION && h->header_size == POOL_HEADER_SIZE &&
           (h->incompat & ~POOL_KNOWN_INCOMPAT) == 0 && h->id == id;
}

/* The checksum does not match. */
static int mend_header(struct survey_pool *pool, struct pool_header *h,
                       uint64_t id)
{
    size_t len = offsetof(struct pool_header, check) - 8, at = len;
    size_t seed = offsetof(struct pool_header, seed) - 8;
    struct pool_header anew = *h;
    set_constants(&anew, id);
    enum mend_result result = mend_sum(anew.layout, len, &anew.check, &at);
    if (result == MEND_NONE ||
        (result == MEND_WORD && (at < seed || at >= seed + sizeof(h->seed)))) {
        survey_tell(pool->survey, pool, DAMAGE_POOL, pool->header_at, 0, NULL,
                    "the checksum of the pool's header does not match, and its "
                    "hash seed is lost");
        return -EUCLEAN;
    }
    survey_tell(pool->survey, pool, DAMAGE_POOL, pool->header_at, 0,
                "it is written anew; the checksum vouches for the hash seed",
                "the checksum of the pool's header does not match");
    *h = anew;
    return 0;
}

static int refuse_unknown(struct survey_pool *pool, const struct pool_header *h)
{
    struct survey *s = pool->survey;
    survey_tell(s, pool, DAMAGE_POOL, pool->header_at, 0, NULL,
                "the pool has version %u and features 0x%llx; this program "
                "knows version %u: use another one",
                h->version, (unsigned long long)h->incompat, POOL_VERSION);
    s->foreign = true;
    return -EUCLEAN;
}

static int look_at_header(struct survey_pool *pool)
{
    struct survey *s = pool->survey;
    struct pool_header h = *pool->header;
    uint64_t id = survey_slot(s, pool->slot)->id;
    int rc = 0;
    if (h.check != region_pool_check(&h)) {
        rc = mend_header(pool, &h, id);
    } else if (h.version != POOL_VERSION ||
               (h.incompat & ~POOL_KNOWN_INCOMPAT) != 0) {
        rc = refuse_unknown(pool, &h);
    } else if (!constants_fit(&h, id)) {
        survey_tell(s, pool, DAMAGE_POOL, pool->header_at, 0, NULL,
                    "in the place of the pool's header is that of another "
                    "one");
        rc = -EUCLEAN;
    } else if (h.magic != POOL_MAGIC) {
        survey_tell(s, pool, DAMAGE_POOL, pool->header_at, 0,
                    "it is written again",
                    "the first 8 bytes of the pool's header are wrong");
        h.magic = POOL_MAGIC;
    }
    if (rc == 0)
        fixes_bytes(s->fixes, s->view, pool->header_at, &h, sizeof(h));
    return rc;
}

int survey_pool_open(struct survey *s, uint32_t slot, struct survey_pool *pool)
{
    const struct region_slot *at = survey_slot(s, slot);
    *pool = (struct survey_pool){.survey = s, .slot = slot};
    if (at->check != region_slot_check(at))
        return -EUCLEAN; /* that was told */
    memcpy(pool->name, at->name, REGION_NAME_MAX);
    int rc = find_grains(pool);
    if (rc == 0) {
        pool->header =
            (struct pool_header *)(void *)(s->view->base + pool->header_at);
        rc = look_at_header(pool);
    }
    if (rc < 0) {
        survey_pool_close(pool);
        return rc;
    }
    memcpy(&pool->seed, pool->header->seed, sizeof(pool->seed));
    return 0;
}

void survey_pool_close(struct survey_pool *pool)
{
    free(pool->parts);
    free(pool->segments);
    free(pool->pairs);
    free(pool->gaps);
    pool->parts = pool->pairs = NULL;
    pool->segments = NULL;
    pool->gaps = NULL;
}

static void set_state(struct survey_pool *pool, const uint64_t *word,
                      uint64_t value, const char *mend, const char *what)
{
    struct survey *s = pool->survey;
    uint64_t at = (uint64_t)((const unsigned char *)word - s->view->base);
    survey_tell(s, pool, DAMAGE_STATE, at, 0, mend, "%s is %llu", what,
                (unsigned long long)*word);
    fixes_word(s->fixes, s->view, at, value);
}

/* Without the highest bits until it is at most max: one of them was wrong. */
static uint64_t without_high_bits(uint64_t value, uint64_t max)
{
    while (value > max)
        value &= ~((uint64_t)1 << (63 - (unsigned)__builtin_clzll(value)));
    return value;
}

static void look_at_flush(struct survey_pool *pool)
{
    struct pool_state *state = &pool->header->state;
    if (state->flush_live > 1)
        set_state(pool, &state->flush_live, state->flush_live & 1,
                  "its lowest bit counts",
                  "the number of the flush record that counts");
    struct pool_flush *flush = &state->flush[state->flush_live];
    if (flush->mark > state->cas_ceiling)
        set_state(pool, &flush->mark,
                  without_high_bits(flush->mark, state->cas_ceiling),
                  "the bits that cannot be are cleared",
                  "the mark of a flush is above all cas ids, and all items "
                  "would be gone: it");
    if (flush->when > UINT32_MAX)
        set_state(pool, &flush->when, (uint32_t)flush->when,
                  "the bits that cannot be are cleared",
                  "the time of a flush to come");
}

static void look_at_state(struct survey_pool *pool)
{
    struct pool_state *state = &pool->header->state;
    uint64_t ceiling = state->cas_ceiling;
    if (state->clean > 1)
        set_state(pool, &state->clean, 0, "it becomes 0: not closed in order",
                  "the word that says whether the pool was closed");
    uint64_t above = pool->max_cas + POOL_CEILING_STEP;
    if (ceiling == 0 || ceiling > POOL_CEILING_MAX || ceiling <= pool->max_cas)
        set_state(pool, &state->cas_ceiling,
                  above < POOL_CEILING_MAX ? above : POOL_CEILING_MAX,
                  "it becomes larger than that of any item",
                  "the ceiling of the cas ids is not above them: it");
    look_at_flush(pool);
    if (state->root == 0 && ceiling > 1 && state->clean == 1) {
        survey_tell(pool->survey, pool, DAMAGE_TABLE,
                    (uint64_t)((const unsigned char *)&state->root -
                               pool->survey->view->base),
                    0, "the pool stays empty",
                    "the pool was used, and has no table: all its items are "
                    "lost");
        pool->survey->lost_more = true;
        fixes_word(pool->survey->fixes, pool->survey->view,
                   (uint64_t)((const unsigned char *)&state->clean -
                              pool->survey->view->base),
                   0);
    }
}

static int look_at_contents(struct survey_pool *pool)
{
    uint64_t before = pool->survey->damages;
    int rc = survey_table(pool);
    if (rc == 0)
        rc = survey_items(pool);
    if (rc < 0)
        return rc;
    survey_fill_gaps(pool);
    survey_look_for_room(pool);
    look_at_state(pool);
    survey_summary(pool, pool->survey->damages > before);
    return 0;
}

/* As if its contents had not been looked at. */
static void forget_contents(struct survey_pool *pool)
{
    for (size_t i = 0; i < pool->n_parts; i++)
        space_map_give(&pool->survey->space, pool->parts[i].offset,
                       pool->parts[i].size);
    pool->n_segments = pool->n_pairs = pool->n_gaps = 0;
    pool->places = pool->items = pool->conflicts = pool->max_cas = 0;
    pool->chained = 0;
}

/* How many damages there would be; nothing is told or changed. keep: when there
 * is none the contents have been looked at, and need not be again. */
static uint64_t try_contents(struct survey_pool *pool, bool keep)
{
    struct survey *s = pool->survey, saved = *s;
    size_t mark = s->fixes->n;
    s->report = NULL;
    s->lines = saved.lines && keep;
    int rc = look_at_contents(pool);
    uint64_t n = rc < 0 ? UINT64_MAX : s->damages - saved.damages;
    if (keep && n == 0) {
        s->report = saved.report;
        return 0;
    }
    fixes_rollback(s->fixes, s->view, mark);
    *s = saved;
    forget_contents(pool);
    return n;
}

static uint64_t count_damages(struct survey_pool *pool)
{
    return try_contents(pool, false);
}

static bool is_whole(struct survey_pool *pool)
{
    return count_damages(pool) == 0;
}

static int find_grains_again(struct survey_pool *pool)
{
    int rc = survey_order_grains(pool->survey);
    pool->n_parts = 0;
    pool->space = 0;
    free(pool->parts);
    pool->parts = NULL;
    return rc == 0 ? find_grains(pool) : rc;
}

/* The grains from number `from` on become the pool's, as long as there are
 * such that no pool has; how many it has then. */
static uint64_t take_more_grains(struct survey_pool *pool, uint64_t from)
{
    struct survey *s = pool->survey;
    const struct region_header *h = view_header(s->view);
    uint64_t id = survey_slot(s, pool->slot)->id, n = from, before;
    do {
        before = n;
        for (uint64_t g = 0; g < s->n_grains; g++)
            if (s->owner[g] == 0 &&
                view_word(s->view, h->words + 8 * g) == (id << 32 | n)) {
                s->owner[g] = 1 + pool->slot;
                n++;
            }
    } while (n > before);
    return n;
}

/* Words of more grains than the slot says were left by a growth that did not
 * come to its end, or the slot is wrong: then a part of the items is missing.
 */
static int look_for_more_grains(struct survey_pool *pool)
{
    struct survey *s = pool->survey;
    const struct region_slot *slot = survey_slot(s, pool->slot);
    uint64_t at =
        (uint64_t)((const unsigned char *)&slot->grains - s->view->base);
    uint64_t old = slot->grains, without = count_damages(pool);
    size_t mark = s->fixes->n;
    if (without == 0)
        return 0;
    uint64_t n = take_more_grains(pool, old);
    fixes_word(s->fixes, s->view, at, n);
    int rc = find_grains_again(pool);
    if (rc < 0)
        return rc;
    if (n > old && count_damages(pool) < without) {
        survey_tell(s, pool, DAMAGE_GRAINS, at, 0,
                    "it becomes as many as there are",
                    "the pool is to have %llu grains, and its items lie in "
                    "%llu",
                    (unsigned long long)old, (unsigned long long)n);
        return 0;
    }
    fixes_rollback(s->fixes, s->view, mark);
    return find_grains_again(pool);
}

int survey_pool(struct survey_pool *pool)
{
    int rc = 0;
    if (pool->more_grains > 0 && pool->survey->stretched++ < STRETCHES)
        rc = look_for_more_grains(pool);
    if (rc == 0 && survey_told_items(pool) > 0) {
        if (try_contents(pool, true) == 0)
            return 0;
        survey_mend_word(pool, is_whole);
    }
    return rc == 0 ? look_at_contents(pool) : rc;
}
