/* The survey of a region: its header and size; and what its parts share. */
#include "store/tool/survey_private.h"

#include "store/pm/region.h"
#include "store/tool/mend.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define WORDS_MAX (1u << 24) /* grain words that there may be */

int survey_init(struct survey *survey, struct view *view, struct fixes *fixes)
{
    *survey = (struct survey){.view = view, .fixes = fixes};
    return space_map_init(&survey->space, view->size);
}

void survey_fini(struct survey *survey)
{
    space_map_fini(&survey->space);
    free(survey->owner);
    free(survey->ids);
    free(survey->order);
    if (survey->named)
        munmap(survey->named, SURVEY_NAMED);
    survey->owner = NULL;
    survey->ids = NULL;
    survey->order = NULL;
    survey->named = NULL;
}

void survey_tell(struct survey *survey, const struct survey_pool *pool,
                 enum damage_kind kind, uint64_t at, unsigned items,
                 const char *mend, const char *format, ...)
{
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    survey->n[kind]++;
    survey->damages++;
    survey->beyond += mend == NULL;
    survey->lost += items;
    struct damage damage = {.kind = kind,
                            .at = at,
                            .pool = pool ? pool->name : NULL,
                            .what = what,
                            .mend = mend,
                            .items = items};
    if (survey->report)
        survey->report(survey->context, &damage);
}

void *survey_more(void *list, size_t n, size_t *max, size_t size)
{
    if (n < *max)
        return list;
    size_t larger = *max ? 2 * *max : 64;
    void *more = realloc(list, larger * size);
    if (more)
        *max = larger;
    return more;
}

static bool power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* All but the size, which is judged by itself. */
static bool parts_fit(const struct region_header *h, uint64_t size)
{
    uint64_t slots = (uint64_t)h->slots * sizeof(struct region_slot);
    uint64_t words = (uint64_t)h->max_grains * sizeof(uint64_t);
    return h->header_size == REGION_HEADER_SIZE && power_of_two(h->grain) &&
           h->grain >= REGION_GRAIN_MIN && h->grain <= REGION_GRAIN_MAX &&
           h->slots > 0 && h->max_grains > 0 && h->max_grains <= WORDS_MAX &&
           h->directory == REGION_HEADER_SIZE &&
           h->words >= h->directory + slots && h->words % 8 == 0 &&
           h->words <= h->first && h->first - h->words >= words &&
           h->first % 4096 == 0 && h->first <= size &&
           size - h->first >= h->grain;
}

static bool size_fits(const struct region_header *h, uint64_t size)
{
    return size % 4096 == 0 && size >= h->first + h->grain &&
           (size - h->first) / h->grain <= h->max_grains;
}

static bool constants_fit(const struct region_header *h)
{
    static const char layout[sizeof(h->layout)] = REGION_LAYOUT;
    return memcmp(h->layout, layout, sizeof(layout)) == 0 &&
           h->version == REGION_VERSION &&
           (h->incompat & ~REGION_KNOWN_INCOMPAT) == 0;
}

static int look_at_header(struct survey *s)
{
    struct region_header h = *view_header(s->view);
    size_t at = 0;
    if (h.magic != REGION_MAGIC) {
        survey_tell(s, NULL, DAMAGE_HEADER, 0, 0, "it is written again",
                    "the first 8 bytes are not those of a pool");
        h.magic = REGION_MAGIC;
    }
    enum mend_result result = mend_sum(
        h.layout, offsetof(struct region_header, check) - 8, &h.check, &at);
    if (result == MEND_WORD && !constants_fit(&h))
        result = MEND_NONE;
    if (result == MEND_WORD)
        survey_tell(s, NULL, DAMAGE_HEADER, 8 + at, 0,
                    "the checksum tells the word that was there",
                    "one word of the header is wrong");
    else if (result == MEND_CHECK)
        survey_tell(
            s, NULL, DAMAGE_HEADER, offsetof(struct region_header, check), 0,
            "it is worked out again", "the checksum of the header is wrong");
    if (result == MEND_NONE || !constants_fit(&h) ||
        !parts_fit(&h, s->view->size)) {
        survey_tell(s, NULL, DAMAGE_HEADER, 0, 0, NULL, "%s",
                    result == MEND_NONE
                        ? "the checksum of the header does not match, in more "
                          "than one word"
                        : "the header describes parts that do not fit");
        return -EUCLEAN;
    }
    fixes_bytes(s->fixes, s->view, 0, &h, sizeof(h));
    return 0;
}

/* Where the last grain ends that the grain words give to a pool. */
static uint64_t end_of_pools(const struct survey *s)
{
    const struct region_header *h = view_header(s->view);
    uint64_t grains = (s->view->size - h->first) / h->grain, end = h->first;
    for (uint64_t g = 0; g < grains && g < h->max_grains; g++) {
        uint64_t word = view_word(s->view, h->words + 8 * g);
        const struct region_slot *slot = survey_slot_of(s, word >> 32);
        if (slot && (uint32_t)word < slot->grains)
            end = h->first + (g + 1) * h->grain;
    }
    return end;
}

static void set_size(struct survey *s, uint64_t size)
{
    fixes_word(s->fixes, s->view, offsetof(struct region_header, size), size);
}

/* A wrong size, a file that was cut short, and a longer file look alike; the
 * pools decide. */
static int look_at_size(struct survey *s)
{
    const struct region_header *h = view_header(s->view);
    uint64_t at = offsetof(struct region_header, size), size = h->size;
    uint64_t file = s->view->file_size / 4096 * 4096, end = end_of_pools(s);
    bool fits = size_fits(h, size) && size <= s->view->size;
    if (fits && size <= s->view->file_size && end <= size)
        return 0;
    if (size_fits(h, file) && end <= file) {
        survey_tell(
            s, NULL, DAMAGE_SIZE, at, 0, "it becomes the size of the file",
            "the header says %llu bytes, the file has %llu, in which "
            "all pools lie",
            (unsigned long long)size, (unsigned long long)s->view->file_size);
        set_size(s, file);
        return 0;
    }
    if (fits && end <= size && !s->view->device) {
        survey_tell(s, NULL, DAMAGE_TRUNCATED, s->view->file_size, 0,
                    "the file becomes as long as it was, with zeroes",
                    "the file has %llu of %llu bytes",
                    (unsigned long long)s->view->file_size,
                    (unsigned long long)size);
        s->grow_to = size;
        return 0;
    }
    survey_tell(s, NULL, DAMAGE_SIZE, at, 0, NULL,
                "the header says %llu bytes, the file has %llu, and the pools "
                "end at %llu",
                (unsigned long long)size,
                (unsigned long long)s->view->file_size,
                (unsigned long long)end);
    return -EUCLEAN;
}

static void look_at_rest(struct survey *s)
{
    static const uint8_t zero[sizeof(((struct region_header *)0)->more)];
    uint64_t at = offsetof(struct region_header, more);
    const struct region_header *h = view_header(s->view);
    if (h->compat != 0 || memcmp(h->more, zero, sizeof(zero)) == 0)
        return;
    survey_tell(s, NULL, DAMAGE_STRAY, at, 0, "they become zero",
                "reserved bytes of the header are not zero");
    fixes_bytes(s->fixes, s->view, at, zero, sizeof(zero));
}

int survey_region(struct survey *s)
{
    int rc = look_at_header(s);
    if (rc == 0)
        rc = survey_directory(s);
    if (rc == 0)
        rc = look_at_size(s);
    if (rc < 0)
        return rc;
    const struct region_header *h = view_header(s->view);
    look_at_rest(s);
    s->n_grains = (h->size - h->first) / h->grain;
    s->owner = calloc(s->n_grains + 1, sizeof(*s->owner));
    if (!s->owner)
        return -ENOMEM;
    rc = survey_grains(s);
    return rc == 0 ? s->fixes->error : rc;
}

int survey_all(struct survey *s)
{
    uint32_t slots = view_header(s->view)->slots;
    int rc = 0;
    for (uint32_t i = 0; i < slots && rc == 0; i++) {
        struct survey_pool pool;
        if (survey_slot(s, i)->state != REGION_SLOT_POOL)
            continue;
        rc = survey_pool_open(s, i, &pool);
        if (rc == 0) {
            rc = survey_pool(&pool);
            survey_pool_close(&pool);
        } else if (rc == -EUCLEAN) {
            rc = 0;
        }
    }
    return rc == 0 ? s->fixes->error : rc;
}
