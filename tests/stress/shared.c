/*
 * The front over shards with 1, 2, 10 and 100 threads, in a file, in one that
 * is synced at each commit, and in memory. A thread checks what it gets; sums
 * are checked at the end. Built with the thread sanitizer, it shows that the
 * locks suffice.
 *
 *     shared          some thousand operations per scenario
 *     shared long     a hundred times as many
 */
#include "config/log.h"
#include "store/engine/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    THREADS_MOST = 100,
    KEYS = 200,
    OWN_KEYS = 4000,
    LEN_MOST = 3000,
    SMALL = 4 << 20,
    GROWTH = 128 << 10
};

struct scene;

struct worker {
    struct scene *scene;
    int number;
    uint64_t random;
    uint64_t done; /* what counts in this scenario */
};

struct scenario {
    const char *name;
    void (*step)(struct worker *w, int i);
    bool (*check)(struct scene *s); /* at the end; may be NULL */
    bool evict;
    bool asks;   /* for what is missing */
    bool filled; /* all keys are there at the beginning */
};

struct scene {
    struct kv_shared *shared;
    const struct scenario *scenario;
    int threads;
    int steps; /* per thread */
    struct worker workers[THREADS_MOST];
    struct kv_item held[KEYS]; /* passed from thread to thread */
    atomic_int taken[KEYS];    /* 0: free, 1: somebody is at it, 2: held */
    atomic_bool failed;
    atomic_ulong told;
    atomic_ulong asked;
};

static void fail(struct scene *s, const char *what)
{
    if (!atomic_exchange(&s->failed, true))
        printf("%s, %d threads: %s\n", s->scenario->name, s->threads, what);
}

static uint32_t roll(struct worker *w, uint32_t sides)
{
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return (uint32_t)(w->random >> 16) % sides;
}

/* A value says its key and length in every word. */
static uint32_t make_value(uint32_t *value, uint32_t key, uint32_t len)
{
    for (uint32_t i = 0; i < len / 4; i++)
        value[i] = key << 16 | len;
    return len / 4 * 4;
}

static bool value_is(const void *value, uint32_t key, uint32_t len)
{
    const unsigned char *bytes = value;
    for (uint32_t i = 0; i < len / 4; i++) {
        uint32_t word;
        memcpy(&word, bytes + i * sizeof(word), sizeof(word));
        if (word != (key << 16 | len))
            return false;
    }
    return true;
}

static enum kv_result put(struct worker *w, uint32_t key)
{
    uint32_t value[LEN_MOST / 4];
    uint32_t len = make_value(value, key,
                              4 * (1 + roll(w, roll(w, 4) ? 7 : LEN_MOST / 4)));
    return kv_shared_store(w->scene->shared, KV_SET, &key, sizeof(key), 0, 0, 0,
                           value, len, NULL);
}

static enum kv_result get(struct worker *w, uint32_t key)
{
    uint32_t value[LEN_MOST / 4];
    struct kv_item item;
    enum kv_result result = kv_shared_get(w->scene->shared, &key, sizeof(key),
                                          0, value, sizeof(value), &item);
    if (result == KV_OK && !value_is(value, key, item.len))
        fail(w->scene, "a value of several");
    return result;
}

static void step_put(struct worker *w, int i)
{
    int own = OWN_KEYS / w->scene->threads;
    uint32_t key = (uint32_t)(w->number * own + i % own);
    if (put(w, key) != KV_OK || get(w, key) != KV_OK)
        fail(w->scene, "what was put is not there");
}

static bool check_put(struct scene *s)
{
    struct kv_statistics stats;
    kv_shared_stats(s->shared, &stats);
    return stats.items == OWN_KEYS; /* a multiple of all numbers of threads */
}

/* The same by batches, as many keys. */
static void step_batch(struct worker *w, int i)
{
    struct kv_put batch[16];
    uint32_t keys[16], values[16][16];
    int own = OWN_KEYS / w->scene->threads;
    if (i % 16 != 0)
        return;
    for (int n = 0; n < 16; n++) {
        keys[n] = (uint32_t)(w->number * own + (i + n) % own);
        batch[n] = (struct kv_put){
            .key = &keys[n],
            .klen = sizeof(keys[n]),
            .value = values[n],
            .len = make_value(values[n], keys[n], 4 * (1 + roll(w, 16)))};
    }
    if (kv_shared_store_batch(w->scene->shared, batch, 16) != KV_OK ||
        get(w, keys[roll(w, 16)]) != KV_OK)
        fail(w->scene, "what a batch has put is not there");
}

static void step_get(struct worker *w, int i)
{
    (void)i;
    if (get(w, roll(w, KEYS)) != KV_OK)
        fail(w->scene, "a key is gone");
}

static void step_mixed(struct worker *w, int i)
{
    uint32_t key = roll(w, KEYS);
    if ((i & 1 ? put(w, key) : get(w, key)) != KV_OK)
        fail(w->scene, "a key is gone");
}

/* Thread 0 makes it larger now and then, up to its room. */
static void step_grow(struct worker *w, int i)
{
    char error[256] = "";
    int every = w->scene->steps / 16 + 1;
    if (w->number == 0 && i % every == every - 1 &&
        kv_shared_grow(w->scene->shared, GROWTH, error, sizeof(error)) < 0)
        fail(w->scene, error);
    step_put(w, i);
}

static void step_miss(struct worker *w, int i)
{
    uint32_t key = roll(w, 1u << 14);
    (void)i;
    if (get(w, key) != KV_OK)
        fail(w->scene, "a miss was not answered");
}

static bool check_miss(struct scene *s)
{
    return atomic_load(&s->asked) > 0;
}

static bool fetch(void *context, const void *key, size_t klen,
                  struct kv_item *out)
{
    struct scene *s = context;
    uint32_t value[10], number;
    (void)out;
    memcpy(&number, key, sizeof(number));
    uint32_t len = make_value(value, number, sizeof(value));
    if (kv_shared_store(s->shared, KV_SET, key, klen, 0, 0, 0, value, len,
                        NULL) != KV_OK)
        fail(s, "a callback could not put");
    atomic_fetch_add(&s->asked, 1);
    return false;
}

static void step_fill(struct worker *w, int i)
{
    uint32_t key = roll(w, 1u << 14), value[LEN_MOST / 4];
    uint32_t len = make_value(value, key, LEN_MOST);
    (void)i;
    if (kv_shared_store(w->scene->shared, KV_ADD, &key, sizeof(key), 0, 0, 0,
                        value, len, NULL) == KV_OK)
        w->done++;
    get(w, roll(w, 1u << 14));
}

static uint64_t done(const struct scene *s)
{
    uint64_t sum = 0;
    for (int i = 0; i < s->threads; i++)
        sum += s->workers[i].done;
    return sum;
}

static void told(void *context, const void *key, size_t klen,
                 const struct kv_item *item)
{
    struct scene *s = context;
    uint32_t number;
    memcpy(&number, key, sizeof(number));
    if (klen != sizeof(number) || !value_is(item->value, number, item->len))
        fail(s, "an evicted value of several");
    kv_shared_exists(s->shared, &number, sizeof(number)); /* is allowed */
    atomic_fetch_add(&s->told, 1);
}

static bool check_evict(struct scene *s)
{
    struct kv_statistics stats;
    kv_shared_stats(s->shared, &stats);
    return stats.evictions > 0 && stats.evictions == atomic_load(&s->told) &&
           done(s) == stats.items + stats.evictions;
}

static void step_delete(struct worker *w, int i)
{
    uint32_t key = roll(w, KEYS), value = key << 16 | 4;
    if (i & 1)
        w->done += kv_shared_store(w->scene->shared, KV_ADD, &key, sizeof(key),
                                   0, 0, 0, &value, 4, NULL) == KV_OK;
    else
        w->done -=
            kv_shared_delete(w->scene->shared, &key, sizeof(key)) == KV_OK;
}

static bool check_delete(struct scene *s)
{
    struct kv_statistics stats;
    kv_shared_stats(s->shared, &stats);
    return stats.items == KEYS + done(s);
}

/* Hold here, release there, and change it in between. */
static void step_hold(struct worker *w, int i)
{
    struct scene *s = w->scene;
    uint32_t key = roll(w, KEYS);
    struct kv_run run = {0};
    int state = 0;
    (void)i;
    if (roll(w, 3) == 0)
        put(w, key);
    if (atomic_compare_exchange_strong(&s->taken[key], &state, 1)) {
        bool got = kv_shared_hold(s->shared, &key, sizeof(key),
                                  &s->held[key]) == KV_OK;
        if (!got)
            fail(s, "a key is gone");
        atomic_store(&s->taken[key], got ? 2 : 0);
        return;
    }
    state = 2;
    if (!atomic_compare_exchange_strong(&s->taken[key], &state, 1))
        return;
    while (kv_shared_next_run(s->shared, &s->held[key], &run))
        if (!value_is(run.bytes, key, run.len) && run.len == run.end)
            fail(s, "a held value has changed");
    kv_shared_release(s->shared, &s->held[key]);
    atomic_store(&s->taken[key], 0);
}

static bool check_hold(struct scene *s)
{
    for (int k = 0; k < KEYS; k++)
        if (atomic_load(&s->taken[k]) == 2)
            kv_shared_release(s->shared, &s->held[k]);
    return true;
}

static void step_count(struct worker *w, int i)
{
    (void)i;
    if (kv_shared_arith(w->scene->shared, "sum", 3, true, 1, NULL, NULL) !=
        KV_OK)
        fail(w->scene, "the number is gone");
}

static bool check_count(struct scene *s)
{
    char text[24] = "";
    kv_shared_get(s->shared, "sum", 3, 0, text, sizeof(text) - 1, NULL);
    return strtoul(text, NULL, 10) ==
           (unsigned long)s->threads * (unsigned long)s->steps;
}

/* Whatever there is, all at once. */
static void step_all(struct worker *w, int i)
{
    struct kv_statistics stats;
    switch (roll(w, 40)) {
    case 0:
        kv_shared_stats(w->scene->shared, &stats);
        break;
    case 1:
        kv_shared_commit(w->scene->shared);
        break;
    case 2:
        kv_shared_set_time(w->scene->shared, 1000 + roll(w, 4));
        break;
    case 3:
        if (w->number == 0)
            kv_shared_flush_all(w->scene->shared, 0);
        break;
    case 4:
        kv_shared_touch(w->scene->shared, &i, sizeof(i), 1002);
        break;
    default:
        step_delete(w, (int)roll(w, 2));
        get(w, roll(w, KEYS));
    }
}

static const struct scenario scenarios[] = {
    {.name = "what each thread puts is there",
     .step = step_put,
     .check = check_put},
    {.name = "what each thread puts in batches is there",
     .step = step_batch,
     .check = check_put},
    {.name = "all threads get the same keys", .step = step_get, .filled = true},
    {.name = "some get what others put", .step = step_mixed, .filled = true},
    {.name = "it grows while all threads put and get",
     .step = step_grow,
     .check = check_put},
    {.name = "a callback answers every miss",
     .step = step_miss,
     .check = check_miss,
     .evict = true,
     .asks = true},
    {.name = "who is evicted is told once",
     .step = step_fill,
     .check = check_evict,
     .evict = true},
    {.name = "each item is deleted once",
     .step = step_delete,
     .check = check_delete,
     .filled = true},
    {.name = "a held value is released by another thread",
     .step = step_hold,
     .check = check_hold,
     .filled = true},
    {.name = "no increment is lost", .step = step_count, .check = check_count},
    {.name = "all calls at once", .step = step_all, .filled = true},
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (int i = 0; i < w->scene->steps; i++)
        w->scene->scenario->step(w, i);
    return NULL;
}

static bool fill(struct scene *s)
{
    struct worker w = {.scene = s, .random = 77};
    kv_shared_set_time(s->shared, 1000);
    if (s->scenario->step == step_count)
        return kv_shared_store(s->shared, KV_SET, "sum", 3, 0, 0, 0, "0", 1,
                               NULL) == KV_OK;
    for (uint32_t key = 0; key < KEYS && s->scenario->filled; key++)
        if (put(&w, key) != KV_OK)
            return false;
    return true;
}

static bool play(struct scene *s)
{
    pthread_t threads[THREADS_MOST];
    int started = 0;
    for (; started < s->threads; started++) {
        struct worker *w = &s->workers[started];
        *w = (struct worker){.scene = s,
                             .number = started,
                             .random =
                                 88172645463325252u * (uint64_t)(started + 1)};
        if (pthread_create(&threads[started], NULL, work, w) != 0)
            break;
    }
    if (started < s->threads)
        fail(s, "no thread");
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (s->scenario->check && !s->scenario->check(s))
        fail(s, "the sums are wrong");
    return !atomic_load(&s->failed);
}

/* Where the shards are. */
static const struct {
    enum kv_engine engine;
    enum kv_durability durability;
} modes[] = {{KV_ENGINE_DURABLE, KV_DURABILITY_PROCESS},
             {KV_ENGINE_DURABLE, KV_DURABILITY_SYNC},
             {KV_ENGINE_MEMORY, KV_DURABILITY_DEFAULT}};
enum { MODES = sizeof(modes) / sizeof(*modes) };

static bool run(const struct scenario *scenario, int threads, int steps,
                int mode)
{
    struct kv_shared_options options = {
        .shards = 4,
        .room = 16 * SMALL,
        .pool = {.size = SMALL,
                 .evict = scenario->evict,
                 .durability = modes[mode].durability,
                 .engine = modes[mode].engine}};
    struct scene *s = calloc(1, sizeof(*s));
    char error[256] = "", path[32];
    int fd = memfd_create("pool", MFD_CLOEXEC);
    if (!s || fd < 0)
        return false;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    s->scenario = scenario;
    s->threads = threads;
    s->steps = steps / threads;
    options.pool.size = scenario->evict ? SMALL : 8 * SMALL;
    bool good = false;
    if (kv_shared_open(path, &options, &s->shared, error, sizeof(error)) < 0) {
        puts(error);
    } else {
        if (scenario->evict)
            kv_shared_on_evict(s->shared, told, s);
        if (scenario->asks)
            kv_shared_on_miss(s->shared, fetch, s);
        good = fill(s) && play(s);
        kv_shared_close(s->shared);
    }
    close(fd);
    free(s);
    return good;
}

int main(int argc, char **argv)
{
    static const int threads[] = {1, 2, 10, 100};
    bool long_run = argc > 1 && strcmp(argv[1], "long") == 0;
    int runs = 0;
    log_threshold = LOG_NONE;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++)
        for (size_t t = 0; t < sizeof(threads) / sizeof(*threads); t++)
            for (int mode = 0; mode < MODES; mode++, runs++)
                if (!run(&scenarios[i], threads[t],
                         long_run ? 200000 : OWN_KEYS, mode)) {
                    printf("failed: %s, %d threads\n", scenarios[i].name,
                           threads[t]);
                    return 1;
                }
    printf("%zu scenarios, %d runs\n", sizeof(scenarios) / sizeof(*scenarios),
           runs);
    return 0;
}
