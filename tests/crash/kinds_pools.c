/*
 * Scripts about whole pools: made, closed and opened, repaired, grown, deleted
 * in a region that has several.
 */
#include "tests/crash/kinds.h"

#include <stdio.h>
#include <string.h>

/* A region by itself is there as soon as it has been opened. */
void step_region_create(struct script *s)
{
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_MAKING, 0);
    script_open_region(s, SUBJECT_POOL, 0);
    recorder_mark(&s->log, EVENT_EMPTY, 0);
    if (s->region)
        script_pool_create(s, s->model.n_keys, 8 * 4096);
}

void step_create(struct script *s)
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
        script_put(s, 1, kinds_large_len(s));
    script_commit(s);
}

/* Closing in order, opening again, and a crash at any moment of it. */
void step_reopen(struct script *s)
{
    script_open(s, SUBJECT_POOL);
    for (int i = 0; i < 20 && s->kv; i++)
        script_put(s, i % s->model.n_keys, kinds_any_len(s));
    for (int i = 0; i < 6 && s->kv; i++) {
        script_commit(s);
        script_look(s);
        if (script_roll(s, 2))
            kinds_any_operation(s,
                                (int)script_roll(s, (uint32_t)s->model.n_keys));
        recorder_mark(&s->log, EVENT_CLOSING, 0);
        script_close(s);
        s->model.acked = s->model.ops;
        recorder_mark(&s->log, EVENT_ACK, s->model.acked);
        recorder_mark(&s->log, EVENT_CLOSED, 0);
        recorder_mark(&s->log, EVENT_OPENING, 0);
        script_open(s, 0);
        recorder_mark(&s->log, EVENT_OPENED, 0);
        if (!s->kv)
            return;
        script_put(s, i, kinds_any_len(s));
        script_commit(s);
        if (script_roll(s, 2)) /* the first id after opening, and no trace */
            script_erase(s, i);
    }
}

/* A dump is loaded: cas ids that are far beyond what this pool has given. */
void step_restore(struct script *s)
{
    uint64_t cas = 0;
    script_open(s, SUBJECT_POOL);
    if (!s->kv)
        return;
    script_look(s);
    for (int i = 0; i < s->model.n_keys; i++) {
        cas += 1 + (script_roll(s, 4) ? script_roll(s, 1000)
                                      : (uint64_t)script_roll(s, 3) << 20);
        script_restore(s, i, kinds_any_len(s), cas);
        if (script_roll(s, 4) == 0)
            script_commit(s);
    }
    script_commit(s);
    script_put(s, 0, kinds_any_len(s));
    script_commit(s);
}

/* A crash while damaged entries are dropped. */
void step_repair(struct script *s)
{
    script_open(s, SUBJECT_POOL);
    for (int i = 0; i < s->model.n_keys && s->kv; i++)
        script_put(s, i, kinds_any_len(s));
    if (!s->kv)
        return;
    script_commit(s);
    for (uint32_t n = 1 + script_roll(s, 8); n > 0; n--) {
        int k = (int)script_roll(s, (uint32_t)s->model.n_keys);
        const struct key *key = &s->model.keys[k];
        struct state gone = {.op = s->model.ops - 1};
        if (key->len > 12 && k >= 10 && k < s->model.n_keys - 1 &&
            model_now(&s->model, k)->present &&
            subject_damage(s->fd, key->name, key->len))
            model_add(&s->model, k, &gone);
    }
    s->damaged = true;
    subject_abandon(s->kv);
    s->kv = NULL;
    if (script_roll(s, 2) && !subject_lower_ceiling(s->fd))
        script_wrong(s, "the pool has no ceiling of cas ids");
    recorder_detach(&s->log);
    recorder_mark(&s->log, EVENT_OP, s->model.ops - 1);
    recorder_mark(&s->log, EVENT_ACK, s->model.ops);
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_OPENING, 0);
    script_open(s, 0);
    recorder_mark(&s->log, EVENT_OPENED, 0);
    if (s->kv) { /* its id was given all the same */
        script_erase(s, s->model.n_keys - 1);
        script_commit(s);
    }
    for (int i = 0; i < 4 && s->kv; i++) {
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys),
                   kinds_any_len(s));
        script_commit(s);
    }
}

/* A region with some pools, and holes of one grain between them. */
static void open_region(struct script *s)
{
    int first = s->model.n_keys + 1;
    script_open_region(s, SUBJECT_POOL, 16 * 4096);
    if (!s->kv)
        return;
    for (int i = 0; i < s->model.n_keys; i++)
        script_put(s, i, kinds_any_len(s) / 4);
    script_commit(s);
    for (int k = first; k < first + 4; k++)
        script_pool_create(s, k, 4096 * (4 + script_roll(s, 3)));
    script_pool_delete(s, first + 1, false);
}

void step_pool_create(struct script *s)
{
    open_region(s);
    if (!s->kv)
        return;
    script_look(s);
    script_pool_create(s, s->model.n_keys + 2, 4096 * (4 + script_roll(s, 3)));
    script_put(s, 0, kinds_any_len(s) / 4);
    script_commit(s);
    script_pool_create(s, s->model.n_keys + 5, 4096 * (4 + script_roll(s, 4)));
}

void step_pool_grow(struct script *s)
{
    open_region(s);
    for (int i = 0; i < 3 && s->kv; i++) {
        script_look(s);
        script_pool_grow(s, 4096 * (1 + script_roll(s, 4)));
        script_put(s, i, kinds_any_len(s) / 4);
        script_commit(s);
    }
}

/* A growth that was given up: its grain words are in the file. The next one
 * takes other grains, for the hole is too small. */
void step_pool_regrow(struct script *s)
{
    char error[200];
    open_region(s);
    if (!s->kv)
        return;
    s->log.fail_fence = true;
    if (kv_pool_grow(s->kv, 4096, error, sizeof(error)) == 0)
        script_wrong(s, "a growth succeeds although its fence fails");
    script_abandon(s);
    recorder_detach(&s->log);
    recorder_mark(&s->log, EVENT_OP, s->model.ops - 1);
    recorder_mark(&s->log, EVENT_ACK, s->model.ops);
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_OPENING, 0);
    script_open_region(s, 0, 0);
    recorder_mark(&s->log, EVENT_OPENED, 0);
    if (!s->kv)
        return;
    script_pool_grow(s, 4096 * 8);
    script_put(s, 0, kinds_any_len(s) / 4);
    script_commit(s);
}

/* The file is longer at once, the region when its header says so; then pools
 * get what is new. A crash finds old or new bounds, and what was there. */
void step_region_grow(struct script *s)
{
    open_region(s);
    if (!s->kv)
        return;
    s->damaged = script_roll(s, 2);
    if (s->damaged)
        subject_stray_word(s->region);
    recorder_detach(&s->log); /* the log begins with the longer file */
    recorder_mark(&s->log, EVENT_OP, s->model.ops - 1);
    recorder_mark(&s->log, EVENT_ACK, s->model.ops);
    script_look(s);
    script_region_grow(s, SUBJECT_POOL + 4096 * (1 + script_roll(s, 60)));
    script_pool_grow(s, kv_region_free(s->region) / 8192 * 4096);
    script_put(s, 0, kinds_any_len(s) / 4);
    script_commit(s);
    if (kv_region_free(s->region) >= 8 * 4096)
        script_pool_create(s, s->model.n_keys + 5, 4 * 4096);
}

/* Pool 3 is given something to hide, and goes. */
void step_pool_delete(struct script *s)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    const char *secret = MODEL_SECRET MODEL_SECRET;
    char error[200];
    struct kv *kv;
    int k = s->model.n_keys + 3;
    open_region(s);
    if (!s->kv)
        return;
    script_pool_grow(s, 4096);
    script_pool_delete(s, k, false);
    script_pool_create(s, k, 16 * 4096);
    if (kv_pool_open(s->region, s->model.keys[k].name, &options, &kv, error,
                     sizeof(error)) < 0) {
        script_wrong(s, "%s", error);
        return;
    }
    kv_store(kv, KV_SET, "k", 1, 0, 0, 0, secret, strlen(secret), NULL);
    kv_close(kv);
    s->model.secret_pool = k;
    script_look(s);
    script_pool_delete(s, k, script_roll(s, 2));
    s->model.secret_end = s->model.ops;
    if (script_roll(s, 2)) {
        script_put(s, 0, kinds_any_len(s) / 4);
        script_commit(s);
    }
    script_pool_create(s, k, 4096 * (13 + script_roll(s, 4)));
}

/* The first pool of a region whose grains were full of something else. */
void step_pool_first(struct script *s)
{
    struct kv_options options = {.durability = KV_DURABILITY_PROCESS};
    static const unsigned char junk[1000] = {[0 ... 999] = 0xff};
    char error[200], name[16];
    struct kv *kv;
    script_open_region(s, SUBJECT_POOL, 16 * 4096);
    if (!s->kv)
        return;
    subject_abandon(s->kv);
    s->kv = NULL;
    if (kv_pool_open(s->region, "default", &options, &kv, error,
                     sizeof(error)) < 0) {
        script_wrong(s, "%s", error);
        return;
    }
    for (int i = 0; i < 60; i++) {
        int len = snprintf(name, sizeof(name), "%d", i);
        kv_store(kv, KV_SET, name, (size_t)len, 0, 0, 0, junk, sizeof(junk),
                 NULL);
    }
    kv_close(kv);
    script_pool_delete(s, s->model.n_keys, false);
    s->model.region = 0; /* pools are not compared */
    recorder_mark(&s->log, EVENT_LOOK, 0);
    recorder_mark(&s->log, EVENT_MAKING, 0);
    script_pool_create(s, s->model.n_keys, 16 * 4096);
    if (kv_pool_open(s->region, "default", &options, &s->kv, error,
                     sizeof(error)) < 0) {
        script_wrong(s, "%s", error);
        return;
    }
    kv_set_time(s->kv, SUBJECT_NOW);
    recorder_mark(&s->log, EVENT_OPENED, 0);
    for (int i = 0; i < 3; i++) {
        script_put(s, i, script_roll(s, 33));
        script_commit(s);
    }
}
