/* See judge.h. */
#include "tests/crash/judge.h"

#include "tests/crash/offline.h"
#include "tests/crash/subject.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIME_AFTER                                                             \
    5000 /* all times of flush_all are before, exptimes after                  \
          */

/* One look at all items of a recovered pool. */
struct look {
    const struct expectation *expected;
    struct kv *kv;
    unsigned char *seen; /* by key */
    uint64_t pools;      /* bytes of all pools */
    bool clean;          /* said the check before the recovery */
    bool fine;
    char *what;
    size_t what_size;
};

__attribute__((format(printf, 2, 3))) static bool wrong(struct look *l,
                                                        const char *format, ...)
{
    va_list args;
    if (!l->fine)
        return false; /* the first one counts */
    l->fine = false;
    va_start(args, format);
    vsnprintf(l->what, l->what_size, format, args);
    va_end(args);
    return false;
}

/* copy: of a value in pieces, for the caller to free; else NULL. */
static struct state state_of(const struct kv *kv, const struct kv_item *item,
                             unsigned char **copy)
{
    *copy = NULL;
    if (!item->value) {
        *copy = malloc((size_t)item->len + 1);
        if (!*copy)
            exit(2);
        kv_copy_value(kv, item, 0, *copy, item->len);
    }
    return (struct state){
        .present = true,
        .len = item->len,
        .flags = item->flags,
        .exptime = item->exptime,
        .cas = item->cas,
        .bytes = *copy ? *copy : (unsigned char *)(uintptr_t)item->value};
}

static bool visit(void *context, const void *name, size_t len,
                  const struct kv_item *item)
{
    struct look *l = context;
    const struct expectation *e = l->expected;
    int k = model_find(e->model, name, len);
    if (k < 0)
        return wrong(l, "an item that nobody stored: %.*s",
                     (int)(len < 60 ? len : 60), (const char *)name);
    if (l->seen[k])
        return wrong(l, "key %d is there twice", k);
    l->seen[k] = 1;
    unsigned char *copy;
    struct state state = state_of(l->kv, item, &copy);
    bool allowed = model_allows(e->model, e->window, k, &state);
    free(copy);
    if (!allowed)
        return wrong(l,
                     "key %d has neither an old nor a new state: %u bytes, "
                     "flags %u, exptime %u, cas %llu",
                     k, state.len, state.flags, state.exptime,
                     (unsigned long long)state.cas);
    return true;
}

/* What the walk found is what a lookup finds. */
static void look_up(struct look *l, int k)
{
    const struct expectation *e = l->expected;
    const struct key *key = &e->model->keys[k];
    struct kv_item item;
    enum kv_result result = kv_get(l->kv, key->name, key->len, &item);
    if (result != (l->seen[k] ? KV_OK : KV_MISS)) {
        wrong(l, "key %d: a walk %s it, a lookup says %d", k,
              l->seen[k] ? "finds" : "does not find", (int)result);
    } else if (l->seen[k]) {
        unsigned char *copy;
        struct state state = state_of(l->kv, &item, &copy);
        if (!model_allows(e->model, e->window, k, &state))
            wrong(l, "key %d reads as neither an old nor a new state", k);
        free(copy);
    }
}

static void look_at_items(struct look *l)
{
    const struct expectation *e = l->expected;
    int flushed = 0, kept = 0;
    kv_each(l->kv, visit, l);
    for (int k = 0; k < e->model->n_keys && l->fine; k++) {
        if (!l->seen[k] && !model_allows(e->model, e->window, k, NULL))
            wrong(l, "key %d is lost", k);
        bool changed = model_changed(e->model, e->window, k);
        if (changed || k % 16 == (int)(e->window.begun % 16))
            look_up(l, k);
        if (changed && model_flush_only(e->model, e->window, k)) {
            flushed += !l->seen[k];
            kept += l->seen[k];
        }
    }
    if (flushed > 0 && kept > 0 && !e->model->cache)
        wrong(l, "half a flush: %d keys gone, %d there", flushed, kept);
}

static bool count(void *context, const void *name, size_t len,
                  const struct kv_item *item)
{
    (void)name;
    (void)len;
    (void)item;
    ++*(int *)context;
    return true;
}

/* A flush for later comes when its time has come, and no other one does. */
static void look_at_flush(struct look *l)
{
    const struct expectation *e = l->expected;
    uint32_t low, high;
    int before = 0, after = 0;
    model_flush_range(e->model, e->window, &low, &high);
    kv_each(l->kv, count, &before);
    kv_set_time(l->kv, TIME_AFTER);
    kv_each(l->kv, count, &after);
    if (low != 0 && after > 0)
        wrong(l, "a flush for later is forgotten: %d items there", after);
    if (high == 0 && after != before)
        wrong(l, "a flush that nobody asked for: %d of %d items there", after,
              before);
    kv_set_time(l->kv, SUBJECT_NOW);
}

/* A recovered pool is as good as any other. */
static void use(struct look *l)
{
    const struct model *model = l->expected->model;
    unsigned char value[300];
    char fault[200] = "no memory";
    memset(value, 'u', sizeof(value));
    for (int i = 0; i < 24; i++) {
        const struct key *key = &model->keys[i * 5 % model->n_keys];
        size_t len = (size_t)(i * 37) % sizeof(value);
        if (i % 4 == 3)
            kv_delete(l->kv, key->name, key->len);
        else
            kv_store(l->kv, KV_SET, key->name, key->len, 0, 0, 0, value, len,
                     NULL);
        if (i % 5 == 0 && kv_commit(l->kv) != KV_OK)
            wrong(l, "a commit after the recovery fails");
    }
    kv_commit(l->kv);
    if (model->region != 0 && kv_region_free(subject_region(l->kv)) > 0 &&
        kv_pool_grow(l->kv, 1, fault, sizeof(fault)) < 0)
        wrong(l, "after the recovery: %s", fault);
    if (subject_audit(l->kv, fault, sizeof(fault)) < 0)
        wrong(l, "in use after the recovery: %s", fault);
}

static bool visit_pool(void *context, const struct kv_pool_info *info)
{
    struct look *l = context;
    const struct expectation *e = l->expected;
    struct state state = {.present = true,
                          .flags = (uint32_t)(info->size / 4096)};
    int k = model_find_pool(e->model, info->name);
    l->pools += info->size;
    if (k < 0)
        return wrong(l, "a pool that nobody made: %s", info->name);
    if (l->seen[k])
        return wrong(l, "pool %s is there twice", info->name);
    l->seen[k] = 1;
    if (!model_allows(e->model, e->window, k, &state))
        return wrong(l, "pool %s has a size that nobody gave it: %llu",
                     info->name, (unsigned long long)info->size);
    return true;
}

/* Another pool than the one of the items: it can be opened, and has its item as
 * long as it may be there; once it is gone and zeroed nobody can read it. */
static void look_at_secret(struct look *l, const struct image *image)
{
    static const char secret[] = MODEL_SECRET MODEL_SECRET;
    const struct model *model = l->expected->model;
    struct window window = l->expected->window;
    int k = model->secret_pool;
    char fault[200] = "no memory";
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    struct kv_item item;
    struct kv *kv;
    if (k == 0)
        return;
    bool zeroed = model->zeroed != 0 && model->zeroed < window.begun;
    if (!l->seen[k]) {
        if (zeroed && memmem(image->file, image->size * 8, MODEL_SECRET,
                             strlen(MODEL_SECRET)))
            wrong(l, "a pool was deleted and zeroed, and can be read");
        return;
    }
    if (kv_pool_open(subject_region(l->kv), model->keys[k].name, &options, &kv,
                     fault, sizeof(fault)) < 0) {
        wrong(l, "%s", fault);
        return;
    }
    if (subject_audit(kv, fault, sizeof(fault)) < 0)
        wrong(l, "another pool: %s", fault);
    bool found = kv_get(kv, "k", 1, &item) == KV_OK &&
                 item.len == sizeof(secret) - 1 &&
                 memcmp(item.value, secret, item.len) == 0;
    if (!found && window.begun <= model->secret_end)
        wrong(l, "a pool that is there has lost its item");
    subject_abandon(kv);
}

static void look_at_pools(struct look *l, const struct image *image)
{
    const struct model *model = l->expected->model;
    struct window window = l->expected->window;
    struct kv_region *region = subject_region(l->kv);
    kv_pool_each(region, visit_pool, l);
    for (int k = model->n_keys; k < model->n_keys + model->n_pools; k++)
        if (!l->seen[k] && !model_allows(model, window, k, NULL))
            wrong(l, "pool %s is lost", model->keys[k].name);
    if (!model_allows_region(model, window, l->pools + kv_region_free(region)))
        wrong(l, "pools have %llu bytes and %llu are free, of %llu",
              (unsigned long long)l->pools,
              (unsigned long long)kv_region_free(region),
              (unsigned long long)model->region);
    look_at_secret(l, image);
}

static void look_at_state(struct look *l)
{
    const struct expectation *e = l->expected;
    struct kv_statistics stats;
    kv_stats(l->kv, &stats);
    if (stats.was_clean && e->phase == PHASE_OPEN)
        wrong(l, "an open pool says that it was closed in order");
    if (!stats.was_clean && e->phase == PHASE_CLOSED)
        wrong(l, "a pool that was closed in order does not say so");
    if (stats.cas <= model_cas(e->model, e->window))
        wrong(l, "cas id %llu would be given twice",
              (unsigned long long)stats.cas);
}

/* At last, as a pool that was closed in order is not looked at before. */
static void look_at_all(struct look *l)
{
    const struct expectation *e = l->expected;
    struct kv_statistics stats;
    char fault[200] = "no memory";
    if (subject_audit(l->kv, fault, sizeof(fault)) < 0)
        wrong(l, "audit: %s", fault);
    kv_stats(l->kv, &stats);
    if (stats.repaired > 0 && !(e->damaged && e->phase == PHASE_OPENING))
        wrong(l, "%llu entries had to be repaired",
              (unsigned long long)stats.repaired);
    if (stats.repaired > 0 && l->clean)
        wrong(l, "kvpool check finds nothing, the recovery repairs %llu",
              (unsigned long long)stats.repaired);
}

/* What a crash leaves is no damage for who looks without opening it, either. */
static void check_offline(struct look *l, const char *path)
{
    const struct expectation *e = l->expected;
    char what[300] = "";
    enum offline_verdict verdict = offline_check(path, what, sizeof(what));
    l->clean = verdict == OFFLINE_CLEAN;
    if (verdict == OFFLINE_FAILED ||
        (verdict == OFFLINE_REFUSED && e->phase != PHASE_MAKING) ||
        (verdict == OFFLINE_DAMAGED && !e->damaged))
        wrong(l, "kvpool check: %s", what);
}

static void restore(struct image *image, const struct recorder *r, bool all)
{
    if (all) {
        image_restore_all(image);
        return;
    }
    for (size_t i = 0; i < r->n_events; i++)
        if (r->events[i].kind == EVENT_STORE || r->events[i].kind == EVENT_COPY)
            image_restore(image, r->events[i].first, r->events[i].n);
}

bool judge(struct image *image, struct recorder *recorder,
           const struct expectation *e, char *what, size_t what_size)
{
    struct look l = {
        .expected = e, .fine = true, .what = what, .what_size = what_size};
    char error[256] = "";
    bool making = e->phase == PHASE_MAKING;

    recorder_restart(recorder);
    check_offline(&l, image->path);
    if (e->phase == PHASE_EMPTY) {
        if (subject_try_region(image->path, &recorder->hook, error,
                               sizeof(error)) < 0)
            wrong(&l, "the region does not open: %s", error);
        goto restore_image;
    }
    l.seen = calloc((size_t)(e->model->n_keys + e->model->n_pools), 1);
    if (!l.seen ||
        subject_open(image->path, making ? SUBJECT_POOL : 0, e->model->cache,
                     &recorder->hook, &l.kv, error, sizeof(error)) < 0) {
        wrong(&l, "does not open: %s", error);
        goto restore_image;
    }
    recorder_mark(recorder, EVENT_OPENED, 0);
    look_at_state(&l);
    look_at_items(&l);
    if (e->model->region != 0 && l.fine)
        look_at_pools(&l, image);
    if (e->model->n_flushes > 0 && l.fine)
        look_at_flush(&l);
    if (e->use && l.fine)
        use(&l);
    if (l.fine)
        look_at_all(&l);
    subject_abandon(l.kv);

restore_image:
    restore(image, recorder, making);
    free(l.seen);
    return l.fine;
}
