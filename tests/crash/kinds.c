/*
 * One step of each kind of operation. What only prepares it is not looked at;
 * what may or may not happen (a displacement, an eviction) is looked at when
 * the counters say that it did.
 */
#include "tests/crash/script.h"

#define LARGE_MOST 1200 /* bytes; now and then more */

static uint32_t large_len(struct script *s)
{
    return script_roll(s, 8) ? 33 + script_roll(s, LARGE_MOST)
                             : 33 + script_roll(s, 2900);
}

static uint32_t any_len(struct script *s)
{
    return script_roll(s, 2) ? script_roll(s, 33) : large_len(s);
}

/* A key that is there, or is not; made so without a look. */
static int prepare(struct script *s, bool present)
{
    int k = script_pick(s, present);
    if (k >= 0)
        return k;
    k = script_pick(s, !present);
    if (present)
        script_put(s, k, any_len(s));
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
    script_put(s, k, large_len(s));
    script_commit(s);
    script_skip(s);
}

static void step_replace(struct script *s)
{
    int k = prepare(s, true);
    script_look(s);
    if (script_roll(s, 2))
        script_put(s, k, any_len(s));
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
        script_put(s, prepare(s, false), any_len(s));
    } else {
        script_look(s);
        script_erase(s, k);
    }
    script_commit(s);
    script_skip(s);
    script_put(s, k, any_len(s));
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

/* A table as full as it gets before it grows; then it is looked at. */
static void step_displacement(struct script *s)
{
    struct kv_statistics now;
    for (int i = 0; i < 100; i++) {
        int k = script_pick(s, false);
        kv_stats(s->kv, &now);
        if (k < 0 || now.items >= now.table_entries * 27 / 32) {
            for (int n = 0; n < 48; n++)
                script_erase(s, script_pick(s, true));
            script_commit(s);
            continue;
        }
        bool full = now.items >= now.table_entries * 3 / 4;
        if (full)
            script_look(s);
        script_put(s, k, script_roll(s, 8));
        script_commit(s);
        kv_stats(s->kv, &now);
        if (full && now.displacements != s->before.displacements)
            break;
        if (full)
            script_unlook(s);
    }
    script_skip(s);
}

static void step_eviction(struct script *s)
{
    struct kv_statistics now;
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

static void any_operation(struct script *s, int k)
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
        script_put(s, k, any_len(s));
    }
}

/* Few keys, so that many operations meet the same one. */
static void step_batch(struct script *s)
{
    int first = (int)script_roll(s, (uint32_t)s->model.n_keys);
    int keys = 1 + (int)script_roll(s, 5);
    script_look(s);
    for (uint32_t n = 2 + script_roll(s, 14); n > 0; n--)
        any_operation(s, (first + (int)script_roll(s, (uint32_t)keys)) %
                             s->model.n_keys);
    script_commit(s);
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
            any_operation(s, (int)script_roll(s, (uint32_t)s->model.n_keys));
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

static void step_create(struct script *s)
{
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_MAKING, 0);
    script_open(s, SUBJECT_POOL);
    if (!s->kv)
        return;
    recorder_mark(&s->log, EVENT_OPENED, 0);
    script_put(s, 0, script_roll(s, 33));
    if (script_roll(s, 2)) /* an id that was given, and nothing that has it */
        script_erase(s, 0);
    else
        script_put(s, 1, large_len(s));
    script_commit(s);
}

/* Closing in order, opening again, and a crash at any moment of it. */
static void step_reopen(struct script *s)
{
    script_open(s, SUBJECT_POOL);
    for (int i = 0; i < 20 && s->kv; i++)
        script_put(s, i % s->model.n_keys, any_len(s));
    for (int i = 0; i < 6 && s->kv; i++) {
        script_commit(s);
        script_look(s);
        if (script_roll(s, 2))
            any_operation(s, (int)script_roll(s, (uint32_t)s->model.n_keys));
        recorder_mark(&s->log, EVENT_CLOSING, 0);
        script_close(s);
        s->model.acked = s->model.ops;
        recorder_mark(&s->log, EVENT_ACK, s->model.acked);
        recorder_mark(&s->log, EVENT_CLOSED, 0);
        recorder_mark(&s->log, EVENT_OPENING, 0);
        script_open(s, 0);
        recorder_mark(&s->log, EVENT_OPENED, 0);
        if (s->kv)
            script_put(s, i, any_len(s));
    }
}

/* A crash while damaged entries are dropped. */
static void step_repair(struct script *s)
{
    script_open(s, SUBJECT_POOL);
    for (int i = 0; i < s->model.n_keys && s->kv; i++)
        script_put(s, i, any_len(s));
    if (!s->kv)
        return;
    script_commit(s);
    for (uint32_t n = 1 + script_roll(s, 8); n > 0; n--) {
        int k = (int)script_roll(s, (uint32_t)s->model.n_keys);
        const struct key *key = &s->model.keys[k];
        struct state gone = {.op = s->model.ops - 1};
        if (key->len > 12 && k >= 10 && model_now(&s->model, k)->present &&
            subject_damage(s->fd, key->name, key->len))
            model_add(&s->model, k, &gone);
    }
    s->damaged = true;
    subject_abandon(s->kv);
    s->kv = NULL;
    recorder_detach(&s->log);
    recorder_mark(&s->log, EVENT_OP, s->model.ops - 1);
    recorder_mark(&s->log, EVENT_ACK, s->model.ops);
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_OPENING, 0);
    script_open(s, 0);
    recorder_mark(&s->log, EVENT_OPENED, 0);
    for (int i = 0; i < 4 && s->kv; i++) {
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                   any_len(s));
        script_commit(s);
    }
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
    {.name = "reuse", .keys = 200, .stored = 0, .steps = 8, .step = step_reuse},
    {.name = "displacement",
     .keys = 1200,
     .stored = 0,
     .steps = 90,
     .step = step_displacement},
    {.name = "growth"},
    {.name = "region-split"},
    {.name = "eviction",
     .keys = 220,
     .stored = 140,
     .steps = 70,
     .cache = true,
     .step = step_eviction},
    {.name = "batch", .keys = 40, .stored = 30, .steps = 6, .step = step_batch},
    {.name = "flush-all",
     .keys = 32,
     .stored = 24,
     .steps = 6,
     .step = step_flush_all},
    {.name = "pool-create", .keys = 8, .by_itself = true, .step = step_create},
    {.name = "pool-grow"},
    {.name = "pool-delete"},
    {.name = "reopen", .keys = 24, .by_itself = true, .step = step_reopen},
    {.name = "repair", .keys = 32, .by_itself = true, .step = step_repair},
    {.name = NULL},
};
