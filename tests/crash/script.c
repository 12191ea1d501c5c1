/*
 * The operations: each is begun in log and model, carried out, and its outcome
 * given to the model afterwards; which crash sees which of it is worked out
 * when the log is read.
 */
#include "tests/crash/script.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGEST 3000 /* bytes of a value */

void script_wrong(struct script *s, const char *format, ...)
{
    va_list args;
    if (s->error[0] != '\0')
        return;
    va_start(args, format);
    vsnprintf(s->error, sizeof(s->error), format, args);
    va_end(args);
}

uint32_t script_roll(struct script *s, uint32_t sides)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random * 0x2545f4914f6cdd1d >> 33) % sides;
}

__attribute__((format(printf, 2, 3))) static uint32_t
begin(struct script *s, const char *format, ...)
{
    uint32_t op = model_begin(&s->model);
    va_list args;
    if (op >= s->max_texts) {
        s->max_texts = op * 2 + 64;
        s->texts = realloc(s->texts, s->max_texts * sizeof(*s->texts));
        if (!s->texts)
            exit(2);
    }
    va_start(args, format);
    vsnprintf(s->texts[op], sizeof(s->texts[op]), format, args);
    va_end(args);
    recorder_mark(&s->log, EVENT_OP, op);
    return op;
}

static unsigned char *random_bytes(struct script *s, uint32_t len)
{
    unsigned char *bytes = malloc((size_t)len + 1);
    uint32_t seed = script_roll(s, 1u << 20);
    if (!bytes)
        exit(2);
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (unsigned char)(seed * 31 + i * 7 + (i >> 8) * 13 + 1);
    return bytes;
}

/* Store by the ordinary call or, now and then, straight into the pool. */
static enum kv_result store(struct script *s, enum kv_mode mode, int k,
                            const struct state *state, uint64_t old_cas,
                            uint64_t *cas)
{
    const struct key *key = &s->model.keys[k];
    struct kv_reservation r;
    if (state->len <= 40 || script_roll(s, 3) != 0)
        return kv_store(s->kv, mode, key->name, key->len, state->flags,
                        state->exptime, old_cas, state->bytes, state->len, cas);
    enum kv_result result = kv_reserve(s->kv, key->len, state->len, &r);
    if (result != KV_OK)
        return result;
    for (size_t at = 0, room; at < state->len; at += room) {
        void *to = kv_reserved(s->kv, &r, at, &room);
        memcpy(to, state->bytes + at, room);
        recorder_wrote(&s->log, to, room);
    }
    return kv_publish(s->kv, &r, mode, key->name, key->len, state->flags,
                      state->exptime, old_cas, cas);
}

/* The state is stored, or, out of space or in a cache, perhaps not. */
static void finish_store(struct script *s, int k, enum kv_result result,
                         struct state *state)
{
    if (result == KV_OK) {
        model_give_cas(&s->model, state->op, state->cas);
        model_add(&s->model, k, state);
        return;
    }
    free(state->bytes);
    if (result != KV_NO_SPACE && !s->cache)
        script_wrong(s, "storing key %d gives result %d", k, (int)result);
}

/* What is about to be stored, but for its bytes. */
static struct state new_state(struct script *s, uint32_t len)
{
    return (struct state){
        .present = true,
        .len = len,
        .flags = script_roll(s, 1u << 30),
        .exptime = script_roll(s, 3) ? 0 : 10000 + script_roll(s, 1000)};
}

static void begin_store(struct script *s, int k, struct state *state)
{
    state->bytes = random_bytes(s, state->len);
    state->op = begin(s, "store key %d, %u bytes", k, state->len);
}

void script_put(struct script *s, int k, uint32_t len)
{
    struct state state = new_state(s, len);
    bool there = model_now(&s->model, k)->present;
    enum kv_mode mode = s->cache || script_roll(s, 2) ? KV_SET
                        : there                       ? KV_REPLACE
                                                      : KV_ADD;
    begin_store(s, k, &state);
    enum kv_result result = store(s, mode, k, &state, 0, &state.cas);
    finish_store(s, k, result, &state);
}

void script_restore(struct script *s, int k, uint32_t len, uint64_t cas)
{
    const struct key *key = &s->model.keys[k];
    struct state state = new_state(s, len);
    begin_store(s, k, &state);
    state.cas = cas;
    enum kv_result result =
        subject_restore(s->kv, key->name, key->len, state.flags, state.exptime,
                        cas, state.bytes, state.len);
    finish_store(s, k, result, &state);
}

static unsigned char *join(const struct state *first,
                           const struct state *second)
{
    unsigned char *bytes = malloc((size_t)first->len + second->len + 1);
    if (!bytes)
        exit(2);
    memcpy(bytes, first->bytes, first->len);
    memcpy(bytes + first->len, second->bytes, second->len);
    return bytes;
}

/* Change an item that is there: by its cas id, or add to one of its ends. */
void script_modify(struct script *s, int k, uint32_t len)
{
    const struct state *old = model_now(&s->model, k);
    enum kv_mode mode = (enum kv_mode)(KV_APPEND + script_roll(s, 3));
    if (old->len + len > LARGEST)
        mode = KV_CAS;
    struct state given = {
        .present = true, .len = len, .bytes = random_bytes(s, len)};
    struct state state = given;
    state.op = begin(s, "mode %d on key %d, %u bytes", (int)mode, k, len);
    enum kv_result result =
        store(s, mode, k, &given, mode == KV_CAS ? old->cas : 0, &state.cas);
    if (mode != KV_CAS) {
        state.bytes = mode == KV_APPEND ? join(old, &given) : join(&given, old);
        state.len = old->len + len;
        state.flags = old->flags;
        state.exptime = old->exptime;
        free(given.bytes);
    }
    finish_store(s, k, result, &state);
}

/* Write a part of an item that is there. */
void script_write(struct script *s, int k, uint32_t from, uint32_t len)
{
    const struct key *key = &s->model.keys[k];
    const struct state *old = model_now(&s->model, k);
    unsigned char *part = random_bytes(s, len);
    struct state state = *old;
    state.len = from + len > old->len ? from + len : old->len;
    state.bytes = calloc(1, (size_t)state.len + 1);
    if (!state.bytes)
        exit(2);
    memcpy(state.bytes, old->bytes, old->len);
    memcpy(state.bytes + from, part, len);
    state.op = begin(s, "write to key %d, %u bytes", k, len);
    enum kv_result result =
        kv_write(s->kv, key->name, key->len, from, part, len, 0, &state.cas);
    free(part);
    finish_store(s, k, result, &state);
}

static unsigned char *text_of(const char *digits, uint32_t *len)
{
    uint32_t n = (uint32_t)strlen(digits);
    uint32_t all = n > *len ? n : *len;
    unsigned char *bytes = malloc((size_t)all + 1);
    if (!bytes)
        exit(2);
    memset(bytes, ' ', all);
    memcpy(bytes, digits, n);
    *len = all;
    return bytes;
}

/* A number for script_arith(). */
void script_number(struct script *s, int k)
{
    char digits[24];
    uint32_t value = script_roll(s, 100000);
    struct state state = {.present = true, .flags = value};
    snprintf(digits, sizeof(digits), "%u", value);
    state.bytes = text_of(digits, &state.len);
    state.op = begin(s, "store key %d, number %s", k, digits);
    enum kv_result result = store(s, KV_SET, k, &state, 0, &state.cas);
    finish_store(s, k, result, &state);
}

void script_arith(struct script *s, int k)
{
    const struct key *key = &s->model.keys[k];
    const struct state old = *model_now(&s->model, k);
    struct state state = {.present = true,
                          .len = old.len,
                          .flags = old.flags,
                          .exptime = old.exptime};
    bool incr = script_roll(s, 2);
    uint64_t delta = script_roll(s, 4)
                         ? script_roll(s, 100000)
                         : (uint64_t)script_roll(s, 1u << 30) << 20;
    uint64_t value = 0;
    char digits[24];
    state.op =
        begin(s, "%s key %d by %" PRIu64, incr ? "incr" : "decr", k, delta);
    enum kv_result result =
        kv_arith(s->kv, key->name, key->len, incr, delta, &value, &state.cas);
    snprintf(digits, sizeof(digits), "%" PRIu64, value);
    state.bytes = text_of(digits, &state.len);
    finish_store(s, k, result, &state);
}

void script_erase(struct script *s, int k)
{
    const struct key *key = &s->model.keys[k];
    bool there = model_now(&s->model, k)->present;
    struct state state = {.op = begin(s, "erase key %d", k)};
    enum kv_result result = kv_delete(s->kv, key->name, key->len);
    if (!s->cache && result != (there ? KV_OK : KV_MISS))
        script_wrong(s, "erasing key %d gives result %d", k, (int)result);
    model_add(&s->model, k, &state);
}

void script_touch(struct script *s, int k)
{
    const struct key *key = &s->model.keys[k];
    struct state state = *model_now(&s->model, k);
    uint32_t exptime = 10000 + script_roll(s, 5000);
    if (!state.present)
        return;
    state.op = begin(s, "touch key %d, %u", k, exptime);
    state.exptime = exptime;
    enum kv_result result = kv_touch(s->kv, key->name, key->len, exptime);
    if (result == KV_OK) {
        unsigned char *bytes = malloc((size_t)state.len + 1);
        if (!bytes)
            exit(2);
        memcpy(bytes, state.bytes, state.len);
        state.bytes = bytes;
        model_add(&s->model, k, &state);
    } else if (!s->cache) {
        script_wrong(s, "touching key %d gives result %d", k, (int)result);
    }
}

void script_flush_all(struct script *s, uint32_t when)
{
    uint32_t op = begin(s, "flush_all at %u", when);
    struct state gone = {.op = op, .by_flush = true};
    if (kv_flush_all(s->kv, when) != KV_OK)
        script_wrong(s, "flush_all fails");
    for (int k = 0; when <= SUBJECT_NOW && k < s->model.n_keys; k++)
        if (model_now(&s->model, k)->present)
            model_add(&s->model, k, &gone);
    model_add_flush(&s->model, op, when <= SUBJECT_NOW ? 0 : when);
}

static bool mark_present(void *context, const void *name, size_t len,
                         const struct kv_item *item)
{
    struct script *s = context;
    int k = model_find(&s->model, name, len);
    (void)item;
    if (k >= 0)
        s->model.keys[k].here = true;
    return true;
}

/* What a cache has evicted is gone as soon as that is acknowledged. */
static void notice_evicted(struct script *s, uint32_t op)
{
    struct state gone = {.op = op};
    for (int k = 0; k < s->model.n_keys; k++)
        s->model.keys[k].here = false;
    kv_each(s->kv, mark_present, s);
    for (int k = 0; k < s->model.n_keys; k++)
        if (!s->model.keys[k].here && model_now(&s->model, k)->present)
            model_add(&s->model, k, &gone);
}

/* What was begun is durable. */
static void acknowledge(struct script *s, uint32_t commit)
{
    if (s->cache)
        notice_evicted(s, commit);
    s->model.acked = s->model.ops;
    recorder_mark(&s->log, EVENT_ACK, s->model.acked);
}

void script_commit(struct script *s)
{
    uint32_t op = begin(s, "commit");
    if (kv_commit(s->kv) != KV_OK)
        script_wrong(s, "a commit fails");
    acknowledge(s, op);
}

void script_put_batch(struct script *s, const int *keys, const uint32_t *lens,
                      uint32_t n)
{
    struct state states[SCRIPT_BATCH];
    struct kv_put puts[SCRIPT_BATCH];
    for (uint32_t i = 0; i < n; i++) {
        const struct key *key = &s->model.keys[keys[i]];
        states[i] = new_state(s, lens[i]);
        begin_store(s, keys[i], &states[i]);
        puts[i] = (struct kv_put){.key = key->name,
                                  .klen = key->len,
                                  .value = states[i].bytes,
                                  .len = states[i].len,
                                  .flags = states[i].flags,
                                  .exptime = states[i].exptime};
    }
    uint32_t op = begin(s, "commit of the batch");
    if (kv_store_batch(s->kv, puts, n) == KV_IO)
        script_wrong(s, "a batch fails");
    for (uint32_t i = 0; i < n; i++) {
        states[i].cas = puts[i].cas_out;
        finish_store(s, keys[i], puts[i].result, &states[i]);
    }
    acknowledge(s, op);
}

int script_pick(struct script *s, bool present)
{
    int n = s->model.n_keys, first = (int)script_roll(s, (uint32_t)n);
    for (int i = 0; i < n; i++)
        if (model_now(&s->model, (first + i) % n)->present == present)
            return (first + i) % n;
    return -1;
}

void script_look(struct script *s)
{
    kv_stats(s->kv, &s->before);
    s->look = s->log.n_events;
    recorder_mark(&s->log, EVENT_LOOK, 0);
}

void script_skip(struct script *s)
{
    recorder_mark(&s->log, EVENT_SKIP, 0);
}

void script_unlook(struct script *s)
{
    s->log.events[s->look].kind = EVENT_SKIP;
}

void script_open(struct script *s, uint64_t size)
{
    char error[200] = "";
    if (subject_open(s->path, size, s->cache, &s->log.hook, &s->kv, error,
                     sizeof(error)) < 0) {
        script_wrong(s, "cannot open: %s", error);
        s->kv = NULL;
    }
}

void script_close(struct script *s)
{
    if (kv_close(s->kv) != 0)
        script_wrong(s, "closing fails");
    s->kv = NULL;
}

void script_abandon(struct script *s)
{
    if (s->kv)
        subject_abandon(s->kv);
    kv_region_close(s->region);
    s->kv = NULL;
    s->region = NULL;
}

static void finish_pool(struct script *s, uint32_t op, int k, uint64_t size)
{
    struct state state = {
        .op = op, .present = size > 0, .flags = (uint32_t)(size / 4096)};
    model_add(&s->model, k, &state);
    s->model.acked = s->model.ops;
    recorder_mark(&s->log, EVENT_ACK, s->model.acked);
}

void script_open_region(struct script *s, uint64_t size, uint64_t pool)
{
    char error[200] = "";
    if (subject_open_region(s->path, size, pool, &s->log.hook, &s->region,
                            &s->kv, error, sizeof(error)) < 0) {
        script_wrong(s, "cannot open: %s", error);
        s->region = NULL;
        s->kv = NULL;
    } else if (size != 0 && pool != 0) {
        s->model.region = kv_region_free(s->region) + pool;
        finish_pool(s, begin(s, "open"), s->model.n_keys, pool);
    }
}

void script_pool_create(struct script *s, int k, uint64_t size)
{
    const char *name = s->model.keys[k].name;
    char error[200] = "";
    uint32_t op = begin(s, "create %s, %llu", name, (unsigned long long)size);
    if (kv_pool_create(s->region, name, size, error, sizeof(error)) < 0)
        script_wrong(s, "%s", error);
    finish_pool(s, op, k, size);
}

void script_pool_delete(struct script *s, int k, bool zero)
{
    const char *name = s->model.keys[k].name;
    char error[200] = "";
    uint32_t op = begin(s, "delete %s%s", name, zero ? " and zero it" : "");
    if (kv_pool_delete(s->region, name, zero, error, sizeof(error)) < 0)
        script_wrong(s, "%s", error);
    if (zero)
        s->model.zeroed = op;
    finish_pool(s, op, k, 0);
}

void script_pool_grow(struct script *s, uint64_t more)
{
    char error[200] = "";
    uint64_t old = (uint64_t)model_now(&s->model, s->model.n_keys)->flags;
    uint32_t op = begin(s, "grow by %llu", (unsigned long long)more);
    if (kv_pool_grow(s->kv, more, error, sizeof(error)) < 0)
        script_wrong(s, "%s", error);
    finish_pool(s, op, s->model.n_keys, old * 4096 + more);
}

void script_region_grow(struct script *s, uint64_t size)
{
    char error[200] = "";
    uint64_t before = kv_region_free(s->region);
    uint32_t op = begin(s, "grow the region to %llu", (unsigned long long)size);
    if (kv_region_grow(s->region, size, error, sizeof(error)) < 0)
        script_wrong(s, "%s", error);
    s->model.grown = op;
    s->model.grown_by = kv_region_free(s->region) - before;
    s->model.acked = s->model.ops;
    recorder_mark(&s->log, EVENT_ACK, s->model.acked);
}

static void store_some(struct script *s, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t len =
            script_roll(s, 4) ? script_roll(s, 40) : script_roll(s, 900);
        script_put(s, (int)script_roll(s, (uint32_t)s->model.n_keys), len);
        if (i % 8 == 7)
            script_commit(s);
    }
    script_commit(s);
}

bool script_run(struct script *s, const struct script_kind *kind, uint64_t seed,
                struct sites *sites)
{
    *s = (struct script){.cache = kind->cache,
                         .random = (seed + 1) * 0x9e3779b97f4a7c15};
    recorder_init(&s->log, sites, true);
    model_init(&s->model, kind->keys);
    s->model.cache = kind->cache;
    s->fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(s->path, sizeof(s->path), "/proc/self/fd/%d", s->fd);
    if (!kind->by_itself) {
        script_open(s, kind->size ? kind->size : SUBJECT_POOL);
        if (s->kv)
            store_some(s, kind->stored);
    }
    for (int i = 0; i < (kind->by_itself ? 1 : kind->steps); i++)
        if (s->error[0] == '\0')
            kind->step(s);
    if (s->kv && s->error[0] == '\0') {
        recorder_compare(&s->log);
        if (s->log.past_us)
            script_wrong(s, "a store went past persist.h");
    }
    return s->error[0] == '\0';
}

void script_fini(struct script *s)
{
    script_abandon(s);
    recorder_fini(&s->log);
    model_fini(&s->model);
    close(s->fd);
    free(s->texts);
}
