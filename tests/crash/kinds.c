/*
 * One step of each kind of operation. What only prepares it is not looked at;
 * what may or may not happen (a displacement, an eviction) is looked at when
 * the counters say that it did.
 */
#include "tests/crash/kinds.h"

#include <string.h>

#define LARGE_MOST 1200 /* bytes; now and then more */

uint32_t kinds_large_len(struct script *s)
{
    return script_roll(s, 8) ? 33 + script_roll(s, LARGE_MOST)
                             : 33 + script_roll(s, 2900);
}

uint32_t kinds_any_len(struct script *s)
{
    return script_roll(s, 2) ? script_roll(s, 33) : kinds_large_len(s);
}

/* A key that is there, or is not; made so without a look. */
static int prepare(struct script *s, bool present)
{
    int k = script_pick(s, present);
    if (k >= 0)
        return k;
    k = script_pick(s, !present);
    if (present)
        script_put(s, k, kinds_any_len(s));
    else
        script_erase(s, k);
    script_commit(s);
    return k;
}

/* Keep some half of the keys there. */
static void balance(struct script *s)
{
    int there = 0;
    for (int k = 0; k < s->model.n_keys; k++)
        there += model_now(&s->model, k)->present;
    while (there > s->model.n_keys * 2 / 3) {
        script_erase(s, script_pick(s, true));
        there--;
    }
    script_commit(s);
}

static void step_put_inline(struct script *s)
{
    balance(s);
    int k = prepare(s, false);
    uint32_t room =
        s->model.keys[k].len < 32 ? 33 - (uint32_t)s->model.keys[k].len : 1;
    script_look(s);
    script_put(s, k, script_roll(s, room));
    script_commit(s);
    script_skip(s);
}

static void step_put_large(struct script *s)
{
    balance(s);
    int k = prepare(s, false);
    script_look(s);
    script_put(s, k, kinds_large_len(s));
    script_commit(s);
    script_skip(s);
}

static void step_replace(struct script *s)
{
    int k = prepare(s, true);
    script_look(s);
    if (script_roll(s, 2))
        script_put(s, k, kinds_any_len(s));
    else
        script_modify(s, k, script_roll(s, 100));
    script_commit(s);
    script_skip(s);
}

static void step_erase(struct script *s)
{
    int k = prepare(s, true);
    if (script_roll(s, 2)) { /* soon something else lies in its place */
        script_look(s);
        script_erase(s, k);
        script_commit(s);
        script_put(s, prepare(s, false), kinds_any_len(s));
    } else {
        script_look(s);
        script_erase(s, k);
    }
    script_commit(s);
    script_skip(s);
    script_put(s, k, kinds_any_len(s));
    script_commit(s);
}

static void step_touch(struct script *s)
{
    int k = prepare(s, true);
    script_look(s);
    script_touch(s, k);
    if (script_roll(s, 3) == 0)
        script_touch(s, prepare(s, true));
    script_commit(s);
    script_skip(s);
}

static void step_arithmetic(struct script *s)
{
    int k = (int)script_roll(s, (uint32_t)s->model.n_keys);
    script_number(s, k);
    script_commit(s);
    script_look(s);
    for (uint32_t n = 1 + script_roll(s, 3); n > 0; n--)
        script_arith(s, k);
    script_commit(s);
    script_skip(s);
}

/* A key that is not there and has no free place within reach; -1: none. */
static int pick_crowded(struct script *s)
{
    for (int k = 0; k < s->model.n_keys; k++) {
        const struct key *key = &s->model.keys[k];
        if (!model_now(&s->model, k)->present &&
            subject_crowded(s->kv, key->name, key->len))
            return k;
    }
    return -1;
}

/* The item that lies nearest beyond the reach of a key's bucket; -1: none. */
static int pick_beyond(struct script *s, int k)
{
    const struct key *key = &s->model.keys[k];
    uint32_t nearest = UINT32_MAX;
    int best = -1;
    for (int i = 0; i < s->model.n_keys; i++) {
        const struct key *item = &s->model.keys[i];
        if (!model_now(&s->model, i)->present)
            continue;
        uint32_t distance =
            subject_distance(s->kv, key->name, key->len, item->name, item->len);
        if (distance >= SUBJECT_REACH && distance < nearest) {
            nearest = distance;
            best = i;
        }
    }
    return best;
}

/* Into a table as full as it gets before it grows; in half of the cases the
 * place that another item moves to was left by the commit before. */
static void step_displacement(struct script *s)
{
    struct kv_statistics now;
    int k = -1;
    for (int i = 0; i < 4000 && (k = pick_crowded(s)) < 0; i++) {
        kv_stats(s->kv, &now);
        if (now.items >= now.table_entries * 27 / 32)
            for (int n = 0; n < 48; n++)
                script_erase(s, script_pick(s, true));
        else if ((k = script_pick(s, false)) >= 0)
            script_put(s, k, script_roll(s, 8));
        script_commit(s);
    }
    if (k < 0)
        return;
    script_look(s);
    int beyond = script_roll(s, 2) ? pick_beyond(s, k) : -1;
    if (beyond >= 0) {
        script_erase(s, beyond);
        script_commit(s);
    }
    script_put(s, k, script_roll(s, 8));
    script_commit(s);
    kv_stats(s->kv, &now);
    if (now.displacements == s->before.displacements)
        script_unlook(s);
    script_skip(s);
}

static void step_eviction(struct script *s)
{
    struct kv_statistics now;
    kv_stats(s->kv, &now);
    for (int i = 0; i < 500 && now.evictions == 0; i++) {
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                   500 + script_roll(s, 2500));
        script_commit(s);
        kv_stats(s->kv, &now);
    }
    script_look(s);
    for (uint32_t n = 1 + script_roll(s, 3); n > 0; n--)
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                   500 + script_roll(s, 2500));
    script_commit(s);
    kv_stats(s->kv, &now);
    if (now.evictions == s->before.evictions)
        script_unlook(s);
    script_skip(s);
}

void kinds_any_operation(struct script *s, int k)
{
    bool there = model_now(&s->model, k)->present;
    switch (script_roll(s, there ? 8 : 3)) {
    case 3:
        script_modify(s, k, script_roll(s, 60));
        break;
    case 4:
    case 5:
        script_erase(s, k);
        break;
    case 6:
        script_touch(s, k);
        break;
    default:
        script_put(s, k, kinds_any_len(s));
    }
}

/* Few keys, so that many operations meet the same one. */
static void step_batch(struct script *s)
{
    int first = (int)script_roll(s, (uint32_t)s->model.n_keys);
    int keys = 1 + (int)script_roll(s, 5);
    script_look(s);
    for (uint32_t n = 2 + script_roll(s, 14); n > 0; n--)
        kinds_any_operation(s, (first + (int)script_roll(s, (uint32_t)keys)) %
                                   s->model.n_keys);
    script_commit(s);
    script_skip(s);
}

static void step_batch_call(struct script *s)
{
    int keys[SCRIPT_BATCH];
    uint32_t lens[SCRIPT_BATCH], n = 2 + script_roll(s, SCRIPT_BATCH - 1);
    int first = (int)script_roll(s, (uint32_t)s->model.n_keys);
    for (uint32_t i = 0; i < n; i++) {
        keys[i] = (first + (int)script_roll(s, 8)) % s->model.n_keys;
        lens[i] = kinds_any_len(s);
    }
    script_look(s);
    script_put_batch(s, keys, lens, n);
    script_skip(s);
}

static void step_flush_all(struct script *s)
{
    for (int i = 0; i < 12; i++)
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                   script_roll(s, 100));
    script_commit(s);
    script_look(s);
    for (uint32_t n = 1 + script_roll(s, 2); n > 0; n--) {
        if (script_roll(s, 3) == 0)
            kinds_any_operation(s,
                                (int)script_roll(s, (uint32_t)s->model.n_keys));
        script_flush_all(s, script_roll(s, 2) ? SUBJECT_NOW
                                              : 2000 + script_roll(s, 1000));
        if (script_roll(s, 2) == 0)
            script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                       script_roll(s, 60));
    }
    script_commit(s);
    if (script_roll(s, 2)) /* the other record is the one that counts now */
        script_flush_all(s, SUBJECT_NOW);
    script_commit(s);
    script_skip(s);
}

/* A large item of at most some bytes; -1: none. */
static int pick_large(struct script *s, uint32_t most)
{
    int n = s->model.n_keys, first = (int)script_roll(s, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        const struct state *now = model_now(&s->model, (first + i) % n);
        if (now->present && now->len > 900 && now->len < most)
            return (first + i) % n;
    }
    return -1;
}

/* Parts of values, small and large, behind their ends as well. */
static void step_write(struct script *s)
{
    int k = script_pick(s, true);
    if (k < 0)
        return;
    uint32_t len = model_now(&s->model, k)->len;
    script_look(s);
    script_write(s, k, script_roll(s, len + 20), script_roll(s, 700));
    if (script_roll(s, 3) == 0)
        kinds_any_operation(s, k);
    script_commit(s);
    script_skip(s);
}

/* A value that is held while its item goes, and released: its space is not
 * used before, nor before the commit after which the item is gone. */
static void step_held(struct script *s)
{
    static unsigned char kept[8192], now[8192];
    int k = pick_large(s, sizeof(kept));
    struct kv_item held;
    if (k < 0) {
        k = (int)script_roll(s, (uint32_t)s->model.n_keys);
        script_put(s, k, 1000 + script_roll(s, 2000));
        script_commit(s);
        return;
    }
    const struct key *key = &s->model.keys[k];
    if (kv_hold(s->kv, key->name, key->len, &held) != KV_OK) {
        script_wrong(s, "key %d cannot be held", k);
        return;
    }
    size_t len = kv_copy_value(s->kv, &held, 0, kept, sizeof(kept));
    script_look(s);
    if (script_roll(s, 2))
        script_erase(s, k);
    else
        script_put(s, k, kinds_large_len(s));
    for (uint32_t n = script_roll(s, 4); n > 0; n--) { /* or at once */
        script_put(s, (k + 1) % s->model.n_keys, (uint32_t)len);
        if (n < 3)
            script_commit(s);
    }
    if (kv_copy_value(s->kv, &held, 0, now, sizeof(now)) != len ||
        memcmp(now, kept, len) != 0)
        script_wrong(s, "the held value of key %d has changed", k);
    kv_release(s->kv, &held);
    script_put(s, (k + 3) % s->model.n_keys, (uint32_t)len);
    script_commit(s);
    script_put(s, (k + 4) % s->model.n_keys, (uint32_t)len);
    script_commit(s);
    script_skip(s);
}

/* Large values in a pool without room: what is freed is used again by the
 * very next operation. */
static void step_reuse(struct script *s)
{
    struct kv_statistics now;
    int k;
    for (int i = 0; i < 200 && (k = script_pick(s, false)) >= 0; i++) {
        kv_stats(s->kv, &now);
        if (now.heap_free < 1000)
            break;
        uint32_t most = now.heap_free < 3000 ? (uint32_t)now.heap_free : 3000;
        script_put(s, k, most - script_roll(s, most / 2) - 100);
        script_commit(s);
        if (!model_now(&s->model, k)->present)
            break;
    }
    int gone = pick_large(s, UINT32_MAX), other = pick_large(s, 2500);
    if (gone < 0 || other < 0 || gone == other)
        return;
    script_look(s);
    script_erase(s, gone);
    script_commit(s);
    if (script_roll(s, 2))
        script_modify(s, other, script_roll(s, 200));
    else
        script_put(s, gone, 1000 + script_roll(s, 1900));
    script_commit(s);
    script_skip(s);
}

/* One segment, written anew larger. */
static void step_growth(struct script *s)
{
    struct kv_statistics now;
    for (int i = 0; i < 400; i++) {
        int k = script_pick(s, false);
        if (k < 0)
            return;
        script_look(s);
        script_put(s, k, script_roll(s, 8));
        if (script_roll(s, 4) == 0)
            script_erase(s, prepare(s, true));
        script_commit(s);
        kv_stats(s->kv, &now);
        if (now.growths == s->before.growths)
            script_unlook(s);
        script_skip(s);
        if (now.growths != s->before.growths)
            return;
    }
}

/* Fewer and fewer items, until a segment gets smaller or two become one. */
static void step_shrink(struct script *s)
{
    struct kv_statistics now;
    kv_stats(s->kv, &now);
    while (now.shrinks == 0 && now.items < 1400) {
        for (int i = 0; i < 16; i++)
            script_put(s, script_pick(s, false), script_roll(s, 40));
        script_commit(s);
        kv_stats(s->kv, &now);
    }
    for (int i = 0; i < 800; i++) {
        script_look(s);
        for (int n = 0; n < 3; n++) {
            int k = script_pick(s, true);
            if (k < 0)
                return;
            if (n == 2 && script_roll(s, 3) == 0)
                script_put(s, k, script_roll(s, 40));
            else
                script_erase(s, k);
        }
        script_commit(s);
        kv_stats(s->kv, &now);
        if (now.shrinks == s->before.shrinks)
            script_unlook(s);
        script_skip(s);
        if (now.shrinks != s->before.shrinks)
            return;
    }
}

/* The largest segment there is becomes two. */
static void step_split(struct script *s)
{
    struct kv_statistics now;
    kv_stats(s->kv, &now);
    while (now.items < 1320) {
        for (int i = 0; i < 8; i++)
            script_put(s, script_pick(s, false), script_roll(s, 8));
        script_commit(s);
        kv_stats(s->kv, &now);
    }
    step_growth(s);
}

const struct script_kind script_kinds[] = {
    {.name = "put-inline",
     .keys = 48,
     .stored = 24,
     .steps = 12,
     .step = step_put_inline},
    {.name = "put-large",
     .keys = 48,
     .stored = 24,
     .steps = 6,
     .step = step_put_large},
    {.name = "replace",
     .keys = 48,
     .stored = 40,
     .steps = 8,
     .step = step_replace},
    {.name = "erase",
     .keys = 48,
     .stored = 40,
     .steps = 12,
     .step = step_erase},
    {.name = "touch",
     .keys = 48,
     .stored = 40,
     .steps = 20,
     .step = step_touch},
    {.name = "arithmetic",
     .keys = 24,
     .stored = 24,
     .steps = 10,
     .step = step_arithmetic},
    {.name = "write-part",
     .keys = 24,
     .stored = 20,
     .steps = 8,
     .step = step_write},
    {.name = "held", .keys = 30, .stored = 20, .steps = 6, .step = step_held},
    {.name = "reuse", .keys = 200, .stored = 0, .steps = 8, .step = step_reuse},
    {.name = "displacement",
     .keys = 1200,
     .stored = 0,
     .steps = 12,
     .step = step_displacement},
    {.name = "growth",
     .keys = 700,
     .stored = 60,
     .steps = 3,
     .step = step_growth},
    {.name = "region-split",
     .keys = 1600,
     .steps = 2,
     .size = 1 << 20,
     .step = step_split},
    {.name = "shrink",
     .keys = 1600,
     .steps = 6,
     .size = 1 << 20,
     .step = step_shrink},
    {.name = "eviction",
     .keys = 220,
     .stored = 40,
     .steps = 12,
     .cache = true,
     .step = step_eviction},
    {.name = "batch", .keys = 40, .stored = 30, .steps = 6, .step = step_batch},
    {.name = "batch-call",
     .keys = 40,
     .stored = 30,
     .steps = 6,
     .step = step_batch_call},
    {.name = "flush-all",
     .keys = 32,
     .stored = 24,
     .steps = 6,
     .step = step_flush_all},
    {.name = "region-create",
     .keys = 8,
     .by_itself = true,
     .step = step_region_create},
    {.name = "file-create", .keys = 8, .by_itself = true, .step = step_create},
    {.name = "pool-create",
     .keys = 8,
     .by_itself = true,
     .step = step_pool_create},
    {.name = "pool-first",
     .keys = 8,
     .by_itself = true,
     .step = step_pool_first},
    {.name = "pool-grow", .keys = 8, .by_itself = true, .step = step_pool_grow},
    {.name = "pool-regrow",
     .keys = 8,
     .by_itself = true,
     .step = step_pool_regrow},
    {.name = "region-grow",
     .keys = 8,
     .by_itself = true,
     .step = step_region_grow},
    {.name = "pool-delete",
     .keys = 8,
     .by_itself = true,
     .step = step_pool_delete},
    {.name = "restore", .keys = 40, .by_itself = true, .step = step_restore},
    {.name = "reopen", .keys = 24, .by_itself = true, .step = step_reopen},
    {.name = "repair", .keys = 32, .by_itself = true, .step = step_repair},
    {.name = NULL},
};
