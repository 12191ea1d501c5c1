/*
 * Random operations on the engine and on a plain model in memory must agree at
 * every step, over reopening and over crashes that lose nothing. Values that
 * were borrowed must keep their bytes as long as promised.
 *
 * MODEL_STEPS and MODEL_SEED in the environment: other numbers than usual.
 */
#include "config/log.h"
#include "store/engine/audit.h"

#include <check.h>
#include <inttypes.h>
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

struct model_item {
    bool present;
    uint32_t len;
    uint32_t flags;
    uint32_t exptime;
    uint64_t cas;
    unsigned char *value;
};

struct borrowed {
    struct kv_item item;
    unsigned char *copy;
    uint32_t len;
};

struct world {
    struct kv *kv;
    int fd;
    char path[32];
    struct kv_options options;
    struct model_item items[KEYS];
    struct borrowed borrowed[2][BORROWED]; /* this turn's, the last one's */
    int n_borrowed[2];
    uint32_t random;
    uint32_t now;
    uint32_t flush_at; /* 0: none */
    uint64_t last_cas;
    unsigned long no_space;
    unsigned long stores;
    unsigned long evictions; /* before the last reopening */
    bool reserved;           /* the last store was into reserved space */
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

static void forget(struct model_item *item)
{
    free(item->value);
    *item = (struct model_item){0};
}

/* What time has done, and in a cache the need for space. */
static struct model_item *look(struct world *w, int k)
{
    struct model_item *item = &w->items[k];
    struct kv_item got;
    char name[64];
    if (item->present && item->exptime != 0 && item->exptime <= w->now)
        forget(item);
    if (item->present && w->options.evict &&
        kv_get(w->kv, name, name_of(k, name), &got) == KV_MISS)
        forget(item);
    return item;
}

static void set_now(struct world *w, uint32_t now)
{
    w->now = now;
    kv_set_time(w->kv, now);
    if (w->flush_at == 0 || w->flush_at > now)
        return;
    for (int k = 0; k < KEYS; k++)
        forget(&w->items[k]);
    w->flush_at = 0;
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
        int n = snprintf(digits, sizeof(digits), "%" PRIu32, roll(w, 1000000));
        memcpy(value, digits, (uint32_t)n < len ? (uint32_t)n : len);
        return value;
    }
    uint32_t seed = roll(w, 1u << 20);
    for (uint32_t i = 0; i < len; i++)
        value[i] = (unsigned char)(seed + i * 17 + (i >> 7));
    return value;
}

/* The outcome that the rules want, and the model's new value. */
static enum kv_result model_store(struct world *w, struct model_item *item,
                                  enum kv_mode mode, uint64_t cas,
                                  unsigned char *value, uint32_t len,
                                  struct model_item *next)
{
    *next = (struct model_item){.present = true, .len = len, .value = value};
    if (!item->present)
        return mode == KV_CAS                     ? KV_MISS
               : mode == KV_SET || mode == KV_ADD ? KV_OK
                                                  : KV_NOT_STORED;
    if (mode == KV_ADD)
        return KV_NOT_STORED;
    if ((mode == KV_CAS || cas != 0) && cas != item->cas)
        return KV_EXISTS;
    if (mode != KV_APPEND && mode != KV_PREPEND)
        return KV_OK;
    if (item->len + len > w->kv->max_value)
        return KV_TOO_LARGE;
    next->value = malloc(item->len + len + 1);
    ck_assert_ptr_nonnull(next->value);
    bool append = mode == KV_APPEND;
    memcpy(next->value + (append ? 0 : len), item->value, item->len);
    memcpy(next->value + (append ? item->len : 0), value, len);
    next->len = item->len + len;
    free(value);
    return KV_OK;
}

static void adopt(struct world *w, struct model_item *item,
                  struct model_item *next, uint64_t cas)
{
    ck_assert_uint_gt(cas, w->last_cas);
    w->last_cas = cas;
    next->cas = cas;
    free(item->value);
    *item = *next;
}

static enum kv_result engine_store(struct world *w, enum kv_mode mode,
                                   const char *name, size_t klen,
                                   const struct model_item *item, uint64_t cas,
                                   uint64_t *cas_out)
{
    struct kv_reservation r;
    if (roll(w, 6) != 0)
        return kv_store(w->kv, mode, name, klen, item->flags, item->exptime,
                        cas, item->value, item->len, cas_out);
    enum kv_result result = kv_reserve(w->kv, klen, item->len, &r);
    if (result != KV_OK)
        return result;
    w->reserved = true;
    for (size_t at = 0, room; at < item->len; at += room) {
        void *to = kv_reserved(w->kv, &r, at, &room);
        memcpy(to, item->value + at, room);
    }
    if (roll(w, 8) == 0) { /* change our mind, and do it after all */
        kv_cancel(w->kv, &r);
        return kv_store(w->kv, mode, name, klen, item->flags, item->exptime,
                        cas, item->value, item->len, cas_out);
    }
    return kv_publish(w->kv, &r, mode, name, klen, item->flags, item->exptime,
                      cas, cas_out);
}

/* Room for the new value may have been that of the old one: then the item was
 * absent when the rules were applied. */
static bool evicted_by_reserving(const struct world *w, enum kv_mode mode,
                                 enum kv_result got)
{
    return w->options.evict && w->reserved &&
           (mode == KV_CAS   ? got == KV_MISS
            : mode == KV_ADD ? got == KV_OK
                             : got == KV_NOT_STORED);
}

static void step_store(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    struct model_item *item = look(w, k), next;
    enum kv_mode mode = (enum kv_mode)roll(w, 6);
    uint64_t cas =
        mode == KV_CAS || roll(w, 10) == 0 ? item->cas + roll(w, 2) * 5 : 0;
    uint32_t len = random_len(w);
    bool joins = mode == KV_APPEND || mode == KV_PREPEND;
    if (joins && item->len > 5000)
        mode = KV_SET, joins = false;
    struct model_item given = {.value = random_value(w, len),
                               .len = len,
                               .flags = roll(w, 1u << 20),
                               .exptime =
                                   roll(w, 4) ? 0 : w->now + roll(w, 50)};
    uint64_t cas_out = 0;
    w->reserved = false;
    enum kv_result got =
        engine_store(w, mode, name, klen, &given, cas, &cas_out);
    w->stores++;
    if (evicted_by_reserving(w, mode, got))
        forget(item);
    if (got == KV_NO_SPACE) { /* allowed, and nothing has changed */
        w->no_space++;
        free(given.value);
        return;
    }
    enum kv_result want =
        model_store(w, item, mode, cas, given.value, len, &next);
    ck_assert_int_eq(got, want);
    if (got != KV_OK) {
        free(given.value);
        return;
    }
    next.flags = joins ? item->flags : given.flags;
    next.exptime = joins ? item->exptime : given.exptime;
    adopt(w, item, &next, cas_out);
}

static bool same(const struct world *w, const struct kv_item *item,
                 const unsigned char *bytes)
{
    struct kv_run run = {0};
    while (kv_next_run(w->kv, item, &run))
        if (memcmp(run.bytes, bytes + run.end - run.len, run.len) != 0)
            return false;
    return run.end == item->len;
}

static void borrow(struct world *w, const struct kv_item *item)
{
    if (w->n_borrowed[0] == BORROWED)
        return;
    struct borrowed *b = &w->borrowed[0][w->n_borrowed[0]++];
    b->item = *item;
    b->len = item->len;
    b->copy = malloc(item->len + 1);
    ck_assert_ptr_nonnull(b->copy);
    kv_copy_value(w->kv, item, 0, b->copy, item->len);
}

static void drop_borrowed(struct world *w, int turn)
{
    for (int i = 0; i < w->n_borrowed[turn]; i++)
        free(w->borrowed[turn][i].copy);
    w->n_borrowed[turn] = 0;
}

static void check_borrowed(const struct world *w)
{
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < w->n_borrowed[turn]; i++) {
            const struct borrowed *b = &w->borrowed[turn][i];
            ck_assert_msg(same(w, &b->item, b->copy),
                          "a borrowed value has changed");
        }
}

static void commit(struct world *w)
{
    check_borrowed(w);
    ck_assert_int_eq(kv_commit(w->kv), KV_OK);
    drop_borrowed(w, 1);
    memcpy(w->borrowed[1], w->borrowed[0], sizeof(w->borrowed[0]));
    w->n_borrowed[1] = w->n_borrowed[0];
    w->n_borrowed[0] = 0;
    check_borrowed(w);
    if (roll(w, 4) == 0) {
        drop_borrowed(w, 1);
        kv_unpin_all(w->kv);
    }
}

static void step_get(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    const struct model_item *item = look(w, k);
    struct kv_item got;
    enum kv_result result = kv_get(w->kv, name, klen, &got);
    ck_assert_int_eq(result, item->present ? KV_OK : KV_MISS);
    if (result != KV_OK)
        return;
    ck_assert_uint_eq(got.len, item->len);
    ck_assert_uint_eq(got.flags, item->flags);
    ck_assert_uint_eq(got.exptime, item->exptime);
    ck_assert_uint_eq(got.cas, item->cas);
    ck_assert(same(w, &got, item->value));
    borrow(w, &got);
}

static void step_arith(struct world *w, int k)
{
    char name[64], digits[24];
    size_t klen = name_of(k, name);
    struct model_item *item = look(w, k), next = *item;
    bool incr = roll(w, 2);
    uint64_t delta = roll(w, 1u << 20), value = 0, cas = 0, number = 0;
    enum kv_result got = kv_arith(w->kv, name, klen, incr, delta, &value, &cas);
    if (!item->present) {
        ck_assert_int_eq(got, KV_MISS);
        return;
    }
    uint32_t n = 0;
    while (n < item->len && item->value[n] >= '0' && item->value[n] <= '9')
        number = number * 10 + (item->value[n++] - '0');
    bool numeric = n > 0 && n <= 7 && item->len <= 4096 &&
                   (n == item->len || item->value[n] == ' ');
    if (got == KV_NOT_NUMBER || got == KV_NO_SPACE) {
        ck_assert(got == KV_NO_SPACE || !numeric);
        return;
    }
    ck_assert_int_eq(got, KV_OK);
    if (!numeric) /* odd text that happens to be a number: believe it */
        number = incr ? value - delta : value + delta;
    else
        ck_assert_uint_eq(value, incr             ? number + delta
                                 : delta > number ? 0
                                                  : number - delta);
    n = (uint32_t)snprintf(digits, sizeof(digits), "%" PRIu64, value);
    next.len = n > item->len ? n : item->len;
    next.value = malloc(next.len + 1);
    ck_assert_ptr_nonnull(next.value);
    memset(next.value, ' ', next.len);
    memcpy(next.value, digits, n);
    adopt(w, item, &next, cas);
}

static void step_other(struct world *w, int k)
{
    char name[64];
    size_t klen = name_of(k, name);
    struct model_item *item = look(w, k);
    enum kv_result want = item->present ? KV_OK : KV_MISS;
    if (roll(w, 2)) {
        ck_assert_int_eq(kv_delete(w->kv, name, klen), want);
        forget(item);
    } else {
        uint32_t exptime = roll(w, 3) ? w->now + roll(w, 100) : 0;
        ck_assert_int_eq(kv_touch(w->kv, name, klen, exptime), want);
        if (item->present)
            item->exptime = exptime;
    }
}

static void step_flush(struct world *w)
{
    uint32_t when = roll(w, 2) ? w->now : w->now + 1 + roll(w, 20);
    ck_assert_int_eq(kv_flush_all(w->kv, when), KV_OK);
    w->flush_at = when;
    set_now(w, w->now);
}

static void audit_world(struct world *w)
{
    char fault[128] = "no memory";
    ck_assert_msg(audit(w->kv, fault, sizeof(fault)) == 0, "%s", fault);
}

static void reopen(struct world *w, bool crash)
{
    char error[256] = "";
    struct kv_statistics stats;
    commit(w);
    drop_borrowed(w, 0);
    drop_borrowed(w, 1);
    w->evictions += w->kv->stats.evictions;
    w->kv->failed = crash; /* then close does not tidy up */
    kv_close(w->kv);
    ck_assert_msg(kv_open(w->path, &w->options, &w->kv, error, sizeof(error)) ==
                      0,
                  "%s", error);
    kv_stats(w->kv, &stats);
    ck_assert_uint_eq(stats.repaired, 0);
    ck_assert(stats.was_clean != crash);
    ck_assert_uint_gt(stats.cas, w->last_cas);
    set_now(w, w->now);
    audit_world(w);
}

static void world_open(struct world *w, enum kv_durability durability,
                       uint64_t size)
{
    char error[256] = "";
    memset(w, 0, sizeof(*w));
    w->random = setting("MODEL_SEED", 0x1234567) | 1;
    w->now = 1000;
    w->fd = memfd_create("pool", MFD_CLOEXEC);
    snprintf(w->path, sizeof(w->path), "/proc/self/fd/%d", w->fd);
    w->options = (struct kv_options){
        .size = size, .durability = durability, .evict = size < POOL};
    ck_assert_msg(kv_open(w->path, &w->options, &w->kv, error, sizeof(error)) ==
                      0,
                  "%s", error);
    set_now(w, 1000);
}

static void world_close(struct world *w)
{
    for (int k = 0; k < KEYS; k++)
        forget(&w->items[k]);
    drop_borrowed(w, 0);
    drop_borrowed(w, 1);
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
        else if (what < 750)
            step_get(w, k);
        else if (what < 850)
            step_arith(w, k);
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
    struct count count = {0, 0};
    uint64_t items = 0, bytes = 0;
    char name[64];
    world_open(&w, KV_DURABILITY_PROCESS, POOL);
    live(&w, 3000);
    kv_each(w.kv, count_item, &count);
    for (int k = 0; k < KEYS; k++)
        if (look(&w, k)->present) {
            items++;
            bytes += name_of(k, name) + w.items[k].len;
        }
    ck_assert_uint_eq(count.items, items);
    ck_assert_uint_eq(count.bytes, bytes);
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
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
