/*
 * Random operations on the durable engine and on the one in memory must agree
 * at every step, over reopening and over crashes that lose nothing. Values
 * that were borrowed must keep their bytes as long as promised.
 *
 * MODEL_STEPS and MODEL_SEED in the environment: other numbers than usual.
 */
#include "config/log.h"
#include "store/engine/audit.h"
#include "store/engine/memory.h"
#include "tests/support/run_suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 500
#ifdef FASTSOCK_TEST
#define STEPS 30000 /* each opening is audited, and sanitizers are slow */
#else
#define STEPS 100000
#endif
#define POOL     (8u << 20)
#define BORROWED 32
#define HELD     8

struct borrowed {
    struct kv_item item;
    struct kv_item same; /* the model's */
};

struct world {
    struct kv *kv;
    struct kv *model; /* the engine in memory */
    int fd;
    char path[32];
    struct kv_options options;
    struct borrowed borrowed[2][BORROWED]; /* this turn's, the last one's */
    int n_borrowed[2];
    struct borrowed held[HELD];
    int n_held;
    uint32_t random;
    uint32_t now;
    unsigned long no_space;
    unsigned long stores;
    unsigned long evictions; /* before the last reopening */
    bool reserved;           /* the last store was into reserved space */
};

/* A change, for both. */
struct given {
    enum kv_mode mode;
    const char *key;
    size_t klen;
    uint32_t flags;
    uint32_t exptime;
    uint64_t cas;
    unsigned char *value;
    uint32_t len;
};

static uint32_t setting(const char *name, uint32_t usual)
{
    const char *text = getenv(name);
    return text ? (uint32_t)strtoul(text, NULL, 10) : usual;
}

static int steps(void)
{
    return (int)setting("MODEL_STEPS", STEPS);
}

static uint32_t roll(struct world *w, uint32_t sides)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 17;
    w->random ^= w->random << 5;
    return (w->random >> 4) % sides;
}

static size_t name_of(int k, char out[64])
{
    return (size_t)snprintf(out, 64,
                            k % 5 == 0   ? "%d"
                            : k % 5 == 1 ? "a-key-of-some-length-%d"
                            : k % 5 == 2 ? "a-key-that-never-fits-into-an-"
                                           "entry-at-all-%d"
                                         : "key%d",
                            k);
}

/* The need for space takes items out of a cache: out of the model too. */
static void look(struct world *w, const char *name, size_t klen)
{
    if (w->options.evict && kv_exists(w->kv, name, klen) == KV_MISS)
        kv_delete(w->model, name, klen);
}

static void set_now(struct world *w, uint32_t now)
{
    w->now = now;
    kv_set_time(w->kv, now);
    kv_set_time(w->model, now);
}

static uint32_t random_len(struct world *w)
{
    uint32_t kind = roll(w, 100);
    return kind < 40   ? roll(w, 33)
           : kind < 80 ? roll(w, 300)
           : kind < 98 ? roll(w, 4000)
                       : roll(w, 100000);
}

static unsigned char *random_value(struct world *w, uint32_t len)
{
    unsigned char *value = malloc(len + 1);
    ck_assert_ptr_nonnull(value);
    if (roll(w, 8) == 0 && len > 0) { /* a number, perhaps */
        memset(value, ' ', len);
        char digits[24];
        int n =
            snprintf(digits, sizeof(digits), "%u", (unsigned)roll(w, 1000000));
        memcpy(value, digits, (uint32_t)n < len ? (uint32_t)n : len);
        return value;
    }
    uint32_t seed = roll(w, 1u << 20);
    for (uint32_t i = 0; i < len; i++)
        value[i] = (unsigned char)(seed + i * 17 + (i >> 7));
    return value;
}

static enum kv_result store(struct world *w, struct kv *kv,
                            const struct given *g, uint64_t *cas)
{
    struct kv_reservation r;
    w->reserved = false;
    if (roll(w, 6) != 0)
        return kv_store(kv, g->mode, g->key, g->klen, g->flags, g->exptime,
                        g->cas, g->value, g->len, cas);
    enum kv_result result = kv_reserve(kv, g->klen, g->len, &r);
    if (result != KV_OK)
        return result;
    w->reserved = true;
    for (size_t at = 0, room; at < g->len; at += room) {
        void *to = kv_reserved(kv, &r, at, &room);
        memcpy(to, g->value + at, room);
    }
    if (roll(w, 8) == 0) { /* change our mind, and do it after all */
        kv_cancel(kv, &r);
        return kv_store(kv, g->mode, g->key, g->klen, g->flags, g->exptime,
                        g->cas, g->value, g->len, cas);
    }
    return kv_publish(kv, &r, g->mode, g->key, g->klen, g->flags, g->exptime,
                      g->cas, cas);
}

/* Room for the new value may have been that of the old one: then the item was
 * absent when the rules were applied. */
static bool as_absent(const struct given *g, enum kv_result got)
{
    return g->mode == KV_CAS                        ? got == KV_MISS
           : g->mode == KV_SET || g->mode == KV_ADD ? got == KV_OK
                                                    : got == KV_NOT_STORED;
}

/* Both have done the same. */
static void compare(struct world *w, enum kv_result got, uint64_t cas,
                    enum kv_result want, uint64_t want_cas)
{
    struct kv_statistics stats;
    ck_assert_int_eq(got, want);
    if (got != KV_OK)
        return;
    ck_assert_uint_eq(cas, want_cas);
    kv_stats(w->kv, &stats);
    ck_assert_uint_gt(stats.cas, cas);
}

static void step_store(struct world *w, int k)
{
    char name[64];
    struct kv_item old = {0};
    struct given g = {.mode = (enum kv_mode)roll(w, 6), .key = name};
    uint64_t cas = 0, want_cas = 0;
    g.klen = name_of(k, name);
    look(w, name, g.klen);
    kv_get(w->model, name, g.klen, &old);
    if (g.mode == KV_CAS || roll(w, 10) == 0)
        g.cas = old.cas + roll(w, 2) * 5;
    if ((g.mode == KV_APPEND || g.mode == KV_PREPEND) && old.len > 5000)
        g.mode = KV_SET;
    g.len = random_len(w);
    g.value = random_value(w, g.len);
    g.flags = roll(w, 1u << 20);
    g.exptime = roll(w, 4) ? 0 : w->now + roll(w, 50);
    enum kv_result got = store(w, w->kv, &g, &cas);
    w->stores++;
    if (got == KV_NO_SPACE) { /* allowed, and nothing has changed */
        w->no_space++;
    } else {
        if (w->options.evict && w->reserved && as_absent(&g, got))
            kv_delete(w->model, name, g.klen);
        enum kv_result want = store(w, w->model, &g, &want_cas);
        compare(w, got, cas, want, want_cas);
    }
    free(g.value);
}

static bool same(const struct world *w, const struct borrowed *b)
{
    struct kv_run run = {0};
    const unsigned char *bytes = b->same.value;
    while (kv_next_run(w->kv, &b->item, &run))
        if (memcmp(run.bytes, bytes + run.end - run.len, run.len) != 0)
            return false;
    return run.end == b->item.len && b->item.len == b->same.len;
}

static void check_borrowed(const struct world *w)
{
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < w->n_borrowed[turn]; i++)
            ck_assert_msg(same(w, &w->borrowed[turn][i]),
                          "a borrowed value has changed");
}

static void commit(struct world *w)
{
    check_borrowed(w);
    ck_assert_int_eq(kv_commit(w->kv), KV_OK);
    ck_assert_int_eq(kv_commit(w->model), KV_OK);
    memcpy(w->borrowed[1], w->borrowed[0], sizeof(w->borrowed[0]));
    w->n_borrowed[1] = w->n_borrowed[0];
    w->n_borrowed[0] = 0;
    check_borrowed(w);
    if (roll(w, 4) == 0) {
        w->n_borrowed[1] = 0;
        kv_unpin_all(w->kv);
        kv_unpin_all(w->model);
    }
}

static void step_get(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    struct borrowed b;
    look(w, name, klen);
    enum kv_result result = kv_get(w->kv, name, klen, &b.item);
    ck_assert_int_eq(result, kv_get(w->model, name, klen, &b.same));
    ck_assert_int_eq(kv_exists(w->kv, name, klen), result);
    ck_assert_int_eq(kv_exists(w->model, name, klen), result);
    if (result != KV_OK)
        return;
    ck_assert_uint_eq(b.item.flags, b.same.flags);
    ck_assert_uint_eq(b.item.exptime, b.same.exptime);
    ck_assert_uint_eq(b.item.cas, b.same.cas);
    ck_assert(same(w, &b));
    if (w->n_borrowed[0] < BORROWED)
        w->borrowed[0][w->n_borrowed[0]++] = b;
}

static void release(struct world *w, int i)
{
    struct borrowed *b = &w->held[i];
    ck_assert_msg(same(w, b), "a held value has changed");
    kv_release(w->kv, &b->item);
    kv_release(w->model, &b->same);
    *b = w->held[--w->n_held];
}

static void release_all(struct world *w)
{
    while (w->n_held > 0)
        release(w, 0);
}

static void step_hold(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    struct borrowed b;
    if (w->n_held == HELD)
        release(w, (int)roll(w, HELD));
    look(w, name, klen);
    enum kv_result result = kv_hold(w->kv, name, klen, &b.item);
    ck_assert_int_eq(result, kv_hold(w->model, name, klen, &b.same));
    if (result == KV_OK)
        w->held[w->n_held++] = b;
}

static void step_write(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name), from = random_len(w) / 4;
    uint32_t len = roll(w, 600);
    uint64_t cas = 0, want_cas = 0;
    unsigned char *part = random_value(w, len);
    look(w, name, klen);
    enum kv_result got = kv_write(w->kv, name, klen, from, part, len, 0, &cas);
    if (got != KV_NO_SPACE) {
        enum kv_result want =
            kv_write(w->model, name, klen, from, part, len, 0, &want_cas);
        compare(w, got, cas, want, want_cas);
    }
    free(part);
}

static void step_arith(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    bool incr = roll(w, 2);
    uint64_t delta = roll(w, 1u << 20);
    uint64_t value = 0, cas = 0, want_value = 0, want_cas = 0;
    look(w, name, klen);
    enum kv_result got = kv_arith(w->kv, name, klen, incr, delta, &value, &cas);
    if (got == KV_NO_SPACE)
        return;
    enum kv_result want =
        kv_arith(w->model, name, klen, incr, delta, &want_value, &want_cas);
    compare(w, got, cas, want, want_cas);
    ck_assert_uint_eq(value, want_value);
}

static void step_other(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    uint32_t exptime = roll(w, 3) ? w->now + roll(w, 100) : 0;
    look(w, name, klen);
    if (roll(w, 2))
        ck_assert_int_eq(kv_delete(w->kv, name, klen),
                         kv_delete(w->model, name, klen));
    else
        ck_assert_int_eq(kv_touch(w->kv, name, klen, exptime),
                         kv_touch(w->model, name, klen, exptime));
}

static void step_flush(struct world *w)
{
    uint32_t when = roll(w, 2) ? w->now : w->now + 1 + roll(w, 20);
    ck_assert_int_eq(kv_flush_all(w->kv, when), KV_OK);
    ck_assert_int_eq(kv_flush_all(w->model, when), KV_OK);
}

static void audit_world(struct world *w)
{
    char fault[128] = "no memory";
    ck_assert_msg(audit(w->kv, fault, sizeof(fault)) == 0, "%s", fault);
}

/* Both give the same cas ids from now on. */
static void align_cas(struct world *w)
{
    struct memory *model = (struct memory *)(void *)w->model;
    struct kv_statistics stats;
    kv_stats(w->kv, &stats);
    ck_assert_uint_ge(stats.cas, model->next_cas);
    model->next_cas = stats.cas;
}

static void reopen(struct world *w, bool crash)
{
    char error[256] = "";
    struct kv_statistics stats;
    commit(w);
    release_all(w);
    w->n_borrowed[0] = w->n_borrowed[1] = 0;
    w->evictions += w->kv->stats.evictions;
    w->kv->failed = crash; /* then close does not tidy up */
    kv_close(w->kv);
    ck_assert_msg(kv_open(w->path, &w->options, &w->kv, error, sizeof(error)) ==
                      0,
                  "%s", error);
    kv_stats(w->kv, &stats);
    ck_assert_uint_eq(stats.repaired, 0);
    ck_assert(stats.was_clean != crash);
    align_cas(w);
    set_now(w, w->now);
    audit_world(w);
}

static void world_open(struct world *w, enum kv_durability durability,
                       uint64_t size)
{
    char error[256] = "";
    struct kv_options in_memory = {.size = 1u << 30,
                                   .engine = KV_ENGINE_MEMORY};
    memset(w, 0, sizeof(*w));
    w->random = setting("MODEL_SEED", 0x1234567) | 1;
    w->fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(w->path, sizeof(w->path), "/proc/self/fd/%d", w->fd);
    w->options = (struct kv_options){
        .size = size, .durability = durability, .evict = size < POOL};
    ck_assert_msg(kv_open(w->path, &w->options, &w->kv, error, sizeof(error)) ==
                      0,
                  "%s", error);
    ck_assert_int_eq(kv_open(NULL, &in_memory, &w->model, error, sizeof(error)),
                     0);
    align_cas(w);
    set_now(w, 1000);
}

static void world_close(struct world *w)
{
    release_all(w);
    kv_close(w->model);
    kv_close(w->kv);
    close(w->fd);
}

static void live(struct world *w, int steps)
{
    for (int i = 0; i < steps; i++) {
        int k = (int)roll(w, KEYS);
        uint32_t what = roll(w, 1000);
        if (what < 400)
            step_store(w, k);
        else if (what < 730)
            step_get(w, k);
        else if (what < 750)
            step_hold(w, k);
        else if (what < 820)
            step_arith(w, k);
        else if (what < 870)
            step_write(w, k);
        else if (what < 995)
            step_other(w, k);
        else if (roll(w, 20) == 0)
            step_flush(w);
        if (roll(w, 5) == 0)
            commit(w);
        if (roll(w, 40) == 0)
            set_now(w, w->now + roll(w, 3));
        if (roll(w, 2500) == 0)
            reopen(w, roll(w, 2));
    }
    audit_world(w);
    for (int k = 0; k < KEYS; k++)
        step_get(w, k);
}

START_TEST(random_operations_agree_with_a_plain_model)
{
    struct world w;
    world_open(&w, KV_DURABILITY_DEFAULT, POOL);
    live(&w, steps());
    ck_assert_uint_lt(w.no_space, w.stores / 100);
    world_close(&w);
}
END_TEST

START_TEST(with_msync_the_model_agrees_as_well)
{
    struct world w;
    world_open(&w, KV_DURABILITY_SYNC, POOL);
    live(&w, steps() / 10);
    world_close(&w);
}
END_TEST

START_TEST(a_cache_forgets_but_never_mixes_up)
{
    struct world w;
    world_open(&w, KV_DURABILITY_DEFAULT, POOL / 32);
    for (int i = 0; i < 20; i++) {
        live(&w, steps() / 100);
        audit_world(&w);
    }
    ck_assert_uint_gt(w.evictions + w.kv->stats.evictions, 50);
    world_close(&w);
}
END_TEST

struct count {
    uint64_t items;
    uint64_t bytes;
};

static bool count_item(void *context, const void *key, size_t klen,
                       const struct kv_item *item)
{
    struct count *count = context;
    (void)key;
    count->items++;
    count->bytes += klen + item->len;
    return true;
}

START_TEST(a_visit_to_each_item_counts_what_the_model_has)
{
    struct world w;
    struct count count = {0, 0}, want = {0, 0};
    world_open(&w, KV_DURABILITY_PROCESS, POOL);
    for (int i = 0; i < 100 && want.items <= KEYS / 8; i++) {
        live(&w, 1000); /* the last of it may have been a flush */
        want = (struct count){0, 0};
        kv_each(w.model, count_item, &want);
    }
    kv_each(w.kv, count_item, &count);
    ck_assert_uint_gt(want.items, KEYS / 8);
    ck_assert_uint_eq(count.items, want.items);
    ck_assert_uint_eq(count.bytes, want.bytes);
    world_close(&w);
}
END_TEST

int main(int argc, char **argv)
{
    log_threshold = LOG_NONE;
    if (argc == 1 && !getenv("PMEM_IS_PMEM_FORCE")) { /* also as if on PM */
        int status = 1;
        pid_t child = fork();
        if (child == 0) {
            setenv("PMEM_IS_PMEM_FORCE", "1", 1);
            execlp(argv[0], argv[0], (char *)NULL);
            _exit(127);
        }
        waitpid(child, &status, 0);
        if (status != 0)
            return 1;
    }
    Suite *suite = suite_create("engine model");
    TCase *tcase = tcase_create("model");
    tcase_set_timeout(tcase, 60 + steps() / 2000);
    tcase_add_test(tcase, random_operations_agree_with_a_plain_model);
    tcase_add_test(tcase, with_msync_the_model_agrees_as_well);
    tcase_add_test(tcase, a_cache_forgets_but_never_mixes_up);
    tcase_add_test(tcase, a_visit_to_each_item_counts_what_the_model_has);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
