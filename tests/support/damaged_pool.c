/* See damaged_pool.h. */
#include "tests/support/damaged_pool.h"

#include "store/engine/audit.h"
#include "store/engine/heap.h"
#include "store/engine/item.h"
#include "store/pm/region.h"
#include "store/tool/survey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SMALL     (80u << 10)
#define LARGE     (1u << 20)
#define FIRST_RUN 8224 /* what the engine wants a pool to begin with */
#define RUNS_MAX  64

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "damaged_pool: %s\n", what);
    abort();
}

/* Some random bytes, the same ones each time. */
static unsigned char byte_of(unsigned item, unsigned i)
{
    return (unsigned char)(item * 131 + i * 7 + (i >> 3));
}

static void store(struct kv *kv, const char *key, unsigned number, unsigned len)
{
    unsigned char value[4096];
    for (unsigned i = 0; i < len; i++)
        value[i] = byte_of(number, i);
    kv_store(kv, KV_SET, key, strlen(key), number,
             number % 5 ? 0 : UINT32_MAX - number, 0, value, len, NULL);
}

static void fill(struct kv *kv, bool larger)
{
    unsigned n = larger ? 8000 : 90;
    char key[64];
    for (unsigned i = 0; i < n; i++) {
        snprintf(key, sizeof(key), i % 3 ? "key%u" : "a-much-longer-key-%u", i);
        store(kv, key, i, larger ? i % 30 : i * 7 % 300);
    }
    for (unsigned i = 0; larger && i < n; i++) {
        snprintf(key, sizeof(key), i % 3 ? "key%u" : "a-much-longer-key-%u", i);
        if (i % 40 != 0)
            kv_delete(kv, key, strlen(key));
        kv_commit(kv);
    }
}

/* Values until nothing fits, then every other one goes: room for chains. */
static void make_chains(struct kv *kv)
{
    char key[64];
    unsigned n = 0, size = 700;
    enum kv_result result = KV_OK;
    static unsigned char value[3000];
    for (; result == KV_OK; n++) {
        snprintf(key, sizeof(key), "f%u", n);
        result =
            kv_store(kv, KV_SET, key, strlen(key), 0, 0, 0, value, size, NULL);
    }
    for (unsigned i = 0; i < n; i += 2) {
        snprintf(key, sizeof(key), "f%u", i);
        kv_delete(kv, key, strlen(key));
    }
    kv_commit(kv);
    store(kv, "chain", 500, 3000);
    store(kv, "a-chain-whose-key-is-longer", 501, 2500);
    for (unsigned i = 1; i < n; i += 2) {
        snprintf(key, sizeof(key), "f%u", i);
        if (i % 16 != 1)
            kv_delete(kv, key, strlen(key));
    }
    kv_commit(kv);
}

static bool note(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    struct damaged_pool *pool = context;
    struct damaged_item *out = &pool->items[pool->n_items];
    must(pool->n_items < DAMAGED_ITEMS && klen < sizeof(out->key),
         "too many items");
    memcpy(out->key, key, klen);
    out->klen = (uint32_t)klen;
    out->len = item->len;
    out->flags = item->flags;
    out->exptime = item->exptime;
    out->cas = item->cas;
    pool->n_items++;
    return true;
}

static void find_places(struct damaged_pool *pool, struct kv *kv)
{
    const struct hop_segment *s = hop_segment(&kv->table, 0);
    const unsigned char *base = kv->pm->base;
    uint64_t root = kv->pool.header->state.root;
    while (!s->entries)
        s++;
    pool->table_at = (uint64_t)((unsigned char *)s->entries - base);
    pool->places = s->n;
    pool->head_at = (uint64_t)((unsigned char *)kv->pool.header - base);
    if (root & HOP_WORD_PAIR)
        pool->pair_at = (root & HOP_WORD_OFFSET) * HOP_WORD_UNIT;
    for (unsigned i = 0; i < pool->n_items; i++) {
        struct damaged_item *it = &pool->items[i];
        struct kv_item found;
        struct item_blob blob = {.offset = 0};
        uint64_t hash = kv_hash(kv, it->key, it->klen), len;
        uint32_t place = hop_find(&kv->table, hash, it->key, it->klen);
        const struct hop_entry *entry = kv_entry(kv, place);
        must(kv_get(kv, it->key, it->klen, &found) == KV_OK, "no item");
        it->entry_at = (uint64_t)((const unsigned char *)entry - base);
        if (item_blob(entry, &blob, &len))
            it->blob_at = blob.offset;
        if (blob.offset && blob.chained)
            pool->chain_at = blob.offset;
        it->value = malloc(it->len + 1);
        must(it->value != NULL, "no memory");
        kv_copy_value(kv, &found, 0, it->value, it->len);
    }
    must(pool->chain_at != 0, "no chain");
}

/* Another seed for a pool that was just made. */
static void set_seed(struct region *region, uint64_t seed)
{
    struct pool_header *h =
        (void *)(region->pm.base + region_grain_at(region, 0));
    must(h->magic == POOL_MAGIC, "no pool in the first grain");
    memcpy(h->seed, &seed, sizeof(seed));
    h->check = region_pool_check(h);
}

/* A region with two pools, of which the first one is the engine's. */
static void make_region(struct damaged_pool *pool, uint64_t seed)
{
    struct region_options options = {.size = pool->size, .policy = PM_PROCESS};
    uint64_t other = pool->size / 5;
    struct region region;
    char error[256];
    must(region_open(&region, pool->path, &options, error, sizeof(error)) == 0,
         error);
    must(pool_create(&region, "default", pool_free_space(&region) - other,
                     FIRST_RUN, error, sizeof(error)) == 0,
         error);
    if (seed != 0)
        set_seed(&region, seed);
    must(pool_create(&region, "other", 0, FIRST_RUN, error, sizeof(error)) == 0,
         error);
    region_close(&region);
}

void damaged_pool_make(struct damaged_pool *pool, bool larger, uint64_t seed)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    char error[256];
    struct kv *kv;
    *pool = (struct damaged_pool){.size = larger ? LARGE : SMALL};
    pool->fd = memfd_create("damaged", MFD_CLOEXEC);
    snprintf(pool->path, sizeof(pool->path), "/proc/self/fd/%d", pool->fd);
    make_region(pool, seed);
    must(kv_open(pool->path, &options, &kv, error, sizeof(error)) == 0, error);
    fill(kv, larger);
    make_chains(kv);
    kv_each(kv, note, pool);
    find_places(pool, kv);
    kv_close(kv);
    pool->good = malloc(pool->size);
    must(pool->good != NULL, "no memory");
    pool->bytes =
        mmap(NULL, pool->size, PROT_READ | PROT_WRITE, MAP_SHARED, pool->fd, 0);
    must(pool->bytes != MAP_FAILED, "no mapping");
    memcpy(pool->good, pool->bytes, pool->size);
}

void damaged_pool_fini(struct damaged_pool *pool)
{
    for (unsigned i = 0; i < pool->n_items; i++)
        free(pool->items[i].value);
    munmap(pool->bytes, pool->size);
    free(pool->good);
    close(pool->fd);
}

void damaged_pool_restore(struct damaged_pool *pool)
{
    must(ftruncate(pool->fd, (off_t)pool->size) == 0, "no file");
    memcpy(pool->bytes, pool->good, pool->size);
}

void damaged_pool_flip(struct damaged_pool *pool, uint64_t at, uint64_t bit)
{
    damaged_pool_restore(pool);
    pool->bytes[at + bit / 8] ^= (unsigned char)(1u << bit % 8);
}

void damaged_pool_fix_entry(struct hop_entry *entry)
{
    for (int check = 1; check < 256; check += 2) {
        entry->check = (uint8_t)check;
        if (item_valid(entry))
            return;
    }
}

/* Where an entry says that its bytes lie, as far as that is in the file. */
static unsigned list_runs(const struct damaged_pool *pool,
                          const unsigned char *bytes,
                          const struct hop_entry *entry,
                          struct region_part runs[RUNS_MAX])
{
    struct item_blob blob;
    struct hop_piece piece;
    uint64_t len;
    unsigned n = 0;
    if (!item_valid(entry) || !item_blob(entry, &blob, &len))
        return 0;
    if (!blob.chained) {
        runs[0] = (struct region_part){blob.offset, heap_round(len)};
        return 1;
    }
    for (uint64_t at = blob.offset;
         n < RUNS_MAX && at != 0 && at <= pool->size - sizeof(piece);
         at = piece.next) {
        memcpy(&piece, bytes + at, sizeof(piece));
        runs[n++] = (struct region_part){
            at, heap_round(sizeof(piece) + (uint64_t)piece.len)};
    }
    return n;
}

bool damaged_pool_claims(const struct damaged_pool *pool,
                         const struct hop_entry *entry,
                         const struct damaged_item *item)
{
    struct region_part a[RUNS_MAX], b[RUNS_MAX];
    unsigned n = list_runs(pool, pool->bytes, entry, a);
    unsigned m = list_runs(
        pool, pool->good,
        (const struct hop_entry *)(const void *)(pool->good + item->entry_at),
        b);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < m; j++)
            if (a[i].offset < b[j].offset + b[j].size &&
                b[j].offset < a[i].offset + a[i].size)
                return true;
    return false;
}

static void see(void *context, const struct damage *damage)
{
    struct damaged_outcome *out = context;
    out->kinds |= (uint64_t)1 << damage->kind;
}

static int survey(struct view *view, struct fixes *fixes, struct survey *s,
                  struct damaged_outcome *out)
{
    int rc = survey_init(s, view, fixes);
    s->report = see;
    s->context = out;
    if (rc == 0)
        rc = survey_region(s);
    if (rc == 0)
        rc = survey_all(s);
    survey_fini(s);
    return rc == -EUCLEAN ? 0 : rc;
}

/* The file as repair leaves it. False: it is not looked at at all. */
static bool mend(struct damaged_pool *pool, struct damaged_outcome *out)
{
    char error[256] = "";
    struct fixes fixes;
    struct view view;
    struct survey s;
    if (view_open(&view, pool->path, VIEW_READ, error, sizeof(error)) < 0) {
        out->refused = true;
        if (error[0] == '\0')
            snprintf(out->error, sizeof(out->error), "refused without a word");
        return false;
    }
    fixes_init(&fixes);
    if (survey(&view, &fixes, &s, out) < 0)
        snprintf(out->error, sizeof(out->error), "the survey failed");
    out->damages = s.damages;
    out->beyond = s.beyond;
    out->lost = s.lost;
    out->lost_more = s.lost_more;
    if (s.damages == 0 && fixes.n > 0)
        snprintf(out->error, sizeof(out->error), "fixes without a damage");
    fixes_settle(&fixes);
    view_close(&view);
    if (s.grow_to != 0)
        must(ftruncate(pool->fd, (off_t)s.grow_to) == 0, "no file");
    for (size_t i = 0; i < fixes.n; i++) {
        const struct fix *fix = &fixes.list[i];
        must(pwrite(pool->fd, &fix->new, 8, (off_t)fix->at) == 8, "no write");
    }
    fixes_fini(&fixes);
    return true;
}

static bool is_clean(struct damaged_pool *pool)
{
    struct damaged_outcome none = {0};
    struct fixes fixes;
    struct view view;
    struct survey s;
    char error[256];
    if (view_open(&view, pool->path, VIEW_READ, error, sizeof(error)) < 0)
        return false;
    fixes_init(&fixes);
    int rc = survey(&view, &fixes, &s, &none);
    view_close(&view);
    fixes_fini(&fixes);
    return rc == 0 && s.damages == 0;
}

static bool is_changed(struct kv *kv, const struct damaged_item *it,
                       const struct kv_item *found)
{
    static unsigned char value[1 << 20];
    if (found->len != it->len || found->flags != it->flags ||
        found->exptime != it->exptime || found->cas != it->cas)
        return true;
    kv_copy_value(kv, found, 0, value, it->len);
    return memcmp(value, it->value, it->len) != 0;
}

static void compare(struct damaged_pool *pool, struct kv *kv,
                    struct damaged_outcome *out)
{
    struct kv_statistics stats;
    unsigned there = 0;
    for (unsigned i = 0; i < pool->n_items; i++) {
        const struct damaged_item *it = &pool->items[i];
        struct kv_item found;
        if (kv_get(kv, it->key, it->klen, &found) != KV_OK) {
            out->missing++;
            out->fate[i] = DAMAGED_MISSING;
            continue;
        }
        there++;
        if (is_changed(kv, it, &found)) {
            out->changed++;
            out->fate[i] = DAMAGED_CHANGED;
        }
    }
    kv_stats(kv, &stats);
    if (stats.items > there)
        out->strangers = (unsigned)(stats.items - there);
}

static void open_by_engine(struct damaged_pool *pool,
                           struct damaged_outcome *out)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    char error[200] = "", fault[128] = "";
    struct kv *kv;
    if (kv_open(pool->path, &options, &kv, error, sizeof(error)) < 0) {
        out->missing = pool->n_items; /* no directory, no pool */
        memset(out->fate, DAMAGED_MISSING, sizeof(out->fate));
        if (!strstr(error, "has no pool"))
            snprintf(out->error, sizeof(out->error),
                     "clean, but refused: %.200s", error);
        return;
    }
    while (kv_catch_up(kv))
        continue;
    if (kv->stats.repaired > 0)
        snprintf(out->error, sizeof(out->error),
                 "clean, but the engine repairs %llu",
                 (unsigned long long)kv->stats.repaired);
    else if (audit(kv, fault, sizeof(fault)) < 0)
        snprintf(out->error, sizeof(out->error), "clean, but %.128s", fault);
    compare(pool, kv, out);
    kv_close(kv);
}

struct damaged_outcome damaged_pool_judge(struct damaged_pool *pool)
{
    struct damaged_outcome out = {0};
    if (!mend(pool, &out) || out.error[0] || out.beyond > 0)
        return out;
    if (out.damages > 0 && !is_clean(pool))
        snprintf(out.error, sizeof(out.error), "not clean after a repair");
    else
        open_by_engine(pool, &out);
    return out;
}
