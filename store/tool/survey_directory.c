/*
 * The slots of the directory. A slot whose checksum does not match is mended
 * by it, or made anew out of the only id that the grain words know and no other
 * slot has.
 */
#include "store/tool/survey_private.h"

#include "store/pm/region.h"
#include "store/tool/mend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REBUILDS 32 /* slots that are tried to be made anew */

static uint64_t slot_at(const struct survey *s, uint32_t i)
{
    return view_header(s->view)->directory + i * sizeof(struct region_slot);
}

static bool name_fits(const char *name)
{
    size_t len = strnlen(name, REGION_NAME_MAX + 1);
    if (len == 0 || len > REGION_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 33 || name[i] == 127)
            return false;
    return true;
}

static bool content_fits(const struct region_slot *slot)
{
    return slot->id > 0 && slot->id <= UINT32_MAX && name_fits(slot->name) &&
           slot->name[REGION_NAME_MAX] == '\0';
}

static bool is_zero(const struct region_slot *slot)
{
    static const struct region_slot zero;
    return memcmp(&slot->grains, &zero.grains,
                  sizeof(zero) - offsetof(struct region_slot, grains)) == 0;
}

static void put_slot(struct survey *s, uint32_t i,
                     const struct region_slot *slot)
{
    fixes_bytes(s->fixes, s->view, slot_at(s, i), slot, sizeof(*slot));
}

/* The id of a first grain with a pool's header, in no other slot than this
 * one; 0: there is none, or more than one. */
static uint64_t orphan(const struct survey *s, uint32_t except)
{
    const struct region_header *h = view_header(s->view);
    uint64_t found = 0, n = survey_words(s);
    for (uint64_t g = 0; g < n; g++) {
        uint64_t word = view_word(s->view, h->words + 8 * g), id = word >> 32;
        const struct pool_header *pool =
            (const void *)(s->view->base + h->first + g * h->grain);
        if (id == 0 || (uint32_t)word != 0 || pool->magic != POOL_MAGIC ||
            pool->id != id)
            continue;
        bool taken = false;
        for (uint32_t i = 0; i < h->slots && i < 1024; i++)
            taken |= i != except && survey_slot(s, i)->id == id;
        if (taken)
            continue;
        if (found != 0 && found != id)
            return 0;
        found = id;
    }
    return found;
}

static void name_anew(struct region_slot *slot)
{
    memset(slot->name, 0, sizeof(slot->name));
    snprintf(slot->name, sizeof(slot->name), "lost-%llu",
             (unsigned long long)slot->id);
}

static void give_up(struct survey *s, uint32_t i)
{
    survey_tell(s, NULL, DAMAGE_SLOT, slot_at(s, i), 0, NULL,
                "slot %u of the directory does not match its checksum, in more "
                "than one word",
                i);
}

static void rebuild(struct survey *s, uint32_t i, struct region_slot *slot)
{
    slot->id = s->rebuilt++ < REBUILDS ? orphan(s, i) : 0;
    if (slot->id == 0) {
        give_up(s, i);
        return;
    }
    bool named = name_fits(slot->name);
    if (!named)
        name_anew(slot);
    size_t len = strlen(slot->name);
    memset(slot->name + len, 0, sizeof(slot->name) - len);
    slot->check = region_slot_check(slot);
    survey_tell(s, NULL, DAMAGE_SLOT, slot_at(s, i), 0,
                named ? "the pool that no other slot has gets it, with the "
                        "name that is there"
                      : "the pool that no other slot has gets it, with a new "
                        "name",
                "slot %u of the directory does not match its checksum", i);
    put_slot(s, i, slot);
}

/* Which ids the grain words speak of. 0 or -ENOMEM. */
static int note_names(struct survey *s)
{
    const struct region_header *h = view_header(s->view);
    void *named = mmap(NULL, SURVEY_NAMED, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (named == MAP_FAILED)
        return -ENOMEM;
    s->named = named;
    for (uint64_t g = 0; g < survey_words(s); g++) {
        uint64_t id = view_word(s->view, h->words + 8 * g) >> 32;
        s->named[id / 64] |= (uint64_t)1 << id % 64;
    }
    return 0;
}

static bool has_grains(const struct survey *s, uint64_t id)
{
    return s->named[id / 64] >> id % 64 & 1;
}

static void set_state(struct survey *s, uint32_t i, uint64_t state,
                      const char *why)
{
    survey_tell(s, NULL, DAMAGE_SLOT, slot_at(s, i), 0,
                state == REGION_SLOT_FREE ? "the slot becomes free"
                                          : "the slot becomes a pool's",
                "slot %u of the directory has state %llu, %s", i,
                (unsigned long long)survey_slot(s, i)->state, why);
    fixes_word(s->fixes, s->view, slot_at(s, i), state);
}

static void look_at_state(struct survey *s, uint32_t i)
{
    const struct region_slot *slot = survey_slot(s, i);
    bool grains = has_grains(s, slot->id);
    if (slot->state > REGION_SLOT_ZEROING)
        set_state(s, i, grains ? REGION_SLOT_POOL : REGION_SLOT_FREE,
                  "which there is not");
    else if (!grains) {
        set_state(s, i, REGION_SLOT_FREE, "but no grain");
        s->lost_more = true;
    }
}

static void look_at_slot(struct survey *s, uint32_t i)
{
    struct region_slot slot = *survey_slot(s, i);
    size_t at;
    if (slot.state == REGION_SLOT_FREE)
        return;
    if (is_zero(&slot)) {
        set_state(s, i, REGION_SLOT_FREE, "and nothing else");
        return;
    }
    enum mend_result result = mend_sum(&slot.id,
                                       offsetof(struct region_slot, check) -
                                           offsetof(struct region_slot, id),
                                       &slot.check, &at);
    bool fits = content_fits(&slot);
    if (result == MEND_NONE || (result != MEND_WHOLE && !fits)) {
        slot = *survey_slot(s, i);
        rebuild(s, i, &slot);
    } else if (!fits) {
        give_up(s, i);
    } else if (result != MEND_WHOLE) {
        survey_tell(s, NULL, DAMAGE_SLOT,
                    slot_at(s, i) + offsetof(struct region_slot, id) + at, 0,
                    "its checksum tells what was there",
                    "one word of slot %u of the directory is wrong", i);
        put_slot(s, i, &slot);
    }
    slot = *survey_slot(s, i);
    if (content_fits(&slot) && slot.check == region_slot_check(&slot))
        look_at_state(s, i);
}

static int by_id(const void *a, const void *b)
{
    const struct survey_id *x = a, *y = b;
    if (x->id != y->id)
        return x->id > y->id ? 1 : -1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

struct survey_id *survey_find_id(const struct survey *s, uint64_t id)
{
    size_t low = 0, high = s->n_ids;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->ids[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->n_ids && s->ids[low].id == id ? &s->ids[low] : NULL;
}

struct region_slot *survey_slot_of(const struct survey *s, uint64_t id)
{
    const struct survey_id *found = survey_find_id(s, id);
    return found ? survey_slot(s, found->slot) : NULL;
}

static int list_ids(struct survey *s)
{
    uint32_t slots = view_header(s->view)->slots;
    size_t max = 0;
    for (uint32_t i = 0; i < slots; i++) {
        const struct region_slot *slot = survey_slot(s, i);
        if (slot->state == REGION_SLOT_FREE || slot->id == 0 ||
            slot->id > UINT32_MAX)
            continue;
        void *more = survey_more(s->ids, s->n_ids, &max, sizeof(*s->ids));
        if (!more)
            return -ENOMEM;
        s->ids = more;
        s->ids[s->n_ids++] = (struct survey_id){.id = slot->id, .slot = i};
    }
    if (s->n_ids > 0)
        qsort(s->ids, s->n_ids, sizeof(*s->ids), by_id);
    return 0;
}

static void drop_double_ids(struct survey *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->n_ids; i++) {
        if (kept > 0 && s->ids[kept - 1].id == s->ids[i].id)
            set_state(s, s->ids[i].slot, REGION_SLOT_FREE,
                      "and the id of another one");
        else
            s->ids[kept++] = s->ids[i];
    }
    s->n_ids = kept;
}

struct name {
    const char *name;
    uint32_t slot;
};

static int by_name(const void *a, const void *b)
{
    const struct name *x = a, *y = b;
    int order = strncmp(x->name, y->name, REGION_NAME_MAX);
    return order != 0 ? order : (x->slot > y->slot) - (x->slot < y->slot);
}

static int rename_doubles(struct survey *s)
{
    struct name *names = calloc(s->n_ids + 1, sizeof(*names));
    size_t n = 0;
    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < s->n_ids; i++)
        if (survey_slot(s, s->ids[i].slot)->state == REGION_SLOT_POOL)
            names[n++] = (struct name){survey_slot(s, s->ids[i].slot)->name,
                                       s->ids[i].slot};
    qsort(names, n, sizeof(*names), by_name);
    for (size_t i = 1; i < n; i++) {
        struct region_slot slot = *survey_slot(s, names[i].slot);
        if (strncmp(names[i - 1].name, slot.name, REGION_NAME_MAX) != 0)
            continue;
        survey_tell(s, NULL, DAMAGE_SLOT, slot_at(s, names[i].slot), 0,
                    "it gets a new name",
                    "slot %u of the directory has the name of another one",
                    names[i].slot);
        name_anew(&slot);
        slot.check = region_slot_check(&slot);
        put_slot(s, names[i].slot, &slot);
    }
    free(names);
    return 0;
}

int survey_directory(struct survey *s)
{
    uint32_t slots = view_header(s->view)->slots;
    int rc = note_names(s);
    for (uint32_t i = 0; i < slots && rc == 0; i++)
        look_at_slot(s, i);
    if (rc == 0)
        rc = list_ids(s);
    if (rc < 0)
        return rc;
    drop_double_ids(s);
    return rename_doubles(s);
}
