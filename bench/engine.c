/*
 * The engine alone, beside other stores: one thread, 8-byte keys, 16-byte
 * values, files that count as persistent memory.
 *
 * All stores are filled with the same keys, then measured in turns, in
 * shuffled order, round after round. A figure is the median of the rounds with
 * [smallest..largest]. It counts the processor time of the thread, so that
 * what other programs took of the CPU is not in it; nothing here sleeps.
 * The engine is there twice: how far apart its two rows are is chance.
 *
 * usage: PMEM_IS_PMEM_FORCE=1 engine [-n keys,keys...] [-r rounds] [-f folder]
 *                                    [-s store,store...]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench/stores/store.h"
#include "bench/support/histogram.h"
#include "bench/support/program.h"

#define SLOW       5000   /* ns: looked at more closely */
#define CHUNK_MIN  100000 /* operations of one measurement, as many ... */
#define CHUNK_MAX  500000 /* ... as there are keys, within these */
#define ROUNDS_MAX 99
#define SIZES_MAX  8

enum kind { KIND_GET, KIND_PUT, KIND_BATCH, KINDS };

struct subject {
    const struct store_ops *ops;
    const char *name;
    void *store;
    double fill_ns;
    double dram; /* bytes for each key */
    double ns[KINDS][ROUNDS_MAX];
    struct histogram puts;      /* of the fill, by the clock on the wall */
    struct histogram preempted; /* of these: another program ran meanwhile */
};

struct bench {
    uint64_t n; /* keys */
    uint64_t random;
    unsigned rounds, round;
    const char *folder;
    const char *only; /* names, or NULL: all */
};

static struct subject subjects[] = {
    {.ops = &store_kvpool, .name = "kvpool"},
    {.ops = &store_kvpool, .name = "kvpool again"},
    {.ops = &store_kvpool_hint, .name = "kvpool, keys hinted"},
    {.ops = &store_kvpool_call, .name = "kvpool, batch calls"},
    {.ops = &store_bare, .name = "two bare persists"},
    {.ops = &store_bare_fetch, .name = "bare, lines fetched"},
    {.ops = &store_pmemobj, .name = "libpmemobj"},
    {.ops = &store_lmdb, .name = "LMDB"},
    {.ops = &store_lmdb_nosync, .name = "LMDB, nothing synced"},
    {.ops = &store_plain, .name = "DRAM hash table"}};
#define SUBJECTS (sizeof(subjects) / sizeof(*subjects))

static uint64_t random_below(struct bench *b, uint64_t n)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint64_t)((unsigned __int128)b->random * n >> 64);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static long preemptions(void)
{
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

/* Private memory of this process, in bytes. */
static double private_bytes(void)
{
    long total, rss = 0, shared = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%ld %ld %ld", &total, &rss, &shared) != 3)
        rss = shared = 0;
    fclose(f);
    return (double)(rss - shared) * 4096;
}

static void put(const struct subject *s, uint64_t key)
{
    uint64_t value[STORE_VALUE / 8] = {key, ~key};
    if (!s->ops->put(s->store, key, value))
        program_die("%s: a put failed", s->name);
}

static void commit(const struct subject *s)
{
    if (!s->ops->commit(s->store))
        program_die("%s: a commit failed", s->name);
}

/* Fresh keys, one commit each: what grows does so here. */
static void fill(struct bench *b, struct subject *s)
{
    double before = private_bytes();
    s->store = s->ops->create(b->folder, b->n);
    if (!s->store)
        program_die("%s: cannot be created in %s", s->name, b->folder);
    histogram_clear(&s->puts);
    histogram_clear(&s->preempted);
    long switches = preemptions();
    uint64_t begin = cpu_ns(), last = program_now_ns();
    for (uint64_t key = 0; key < b->n; key++) {
        put(s, key);
        commit(s);
        uint64_t now = program_now_ns();
        histogram_add(&s->puts, now - last, 1);
        if (now - last > SLOW) {
            long more = preemptions();
            if (more != switches)
                histogram_add(&s->preempted, now - last, 1);
            switches = more;
            now = program_now_ns();
        }
        last = now;
    }
    s->fill_ns = (double)(cpu_ns() - begin) / (double)b->n;
    s->dram = (private_bytes() - before) / (double)b->n;
}

/* The keys of the next STORE_BATCH operations. */
static void next_keys(struct bench *b, const struct subject *s, bool puts,
                      uint64_t keys[STORE_BATCH])
{
    for (int i = 0; i < STORE_BATCH; i++)
        keys[i] = random_below(b, b->n);
    for (int i = 0; s->ops->hint && i < STORE_BATCH; i++)
        s->ops->hint(s->store, keys[i], puts);
}

static void get_some(struct bench *b, const struct subject *s, uint64_t n)
{
    uint64_t keys[STORE_BATCH], found;
    for (uint64_t i = 0; i < n; i++) {
        if (i % STORE_BATCH == 0)
            next_keys(b, s, false, keys);
        const void *value = s->ops->get(s->store, keys[i % STORE_BATCH]);
        if (!value)
            program_die("%s: a key is gone", s->name);
        memcpy(&found, value, sizeof(found));
        if (found != keys[i % STORE_BATCH])
            program_die("%s: a value is wrong", s->name);
        if (i % 64 == 63)
            s->ops->rest(s->store);
    }
    s->ops->rest(s->store);
}

static void put_some(struct bench *b, const struct subject *s, uint64_t n,
                     uint64_t batch)
{
    uint64_t keys[STORE_BATCH];
    for (uint64_t i = 0; i < n; i++) {
        if (i % STORE_BATCH == 0)
            next_keys(b, s, true, keys);
        put(s, keys[i % STORE_BATCH]);
        if (i % batch == batch - 1 || i == n - 1)
            commit(s);
    }
}

/* Batches, each by one call. */
static void put_at_once(struct bench *b, const struct subject *s, uint64_t n)
{
    uint64_t keys[STORE_BATCH], values[STORE_BATCH][STORE_VALUE / 8];
    for (uint64_t i = 0; i < n; i += STORE_BATCH) {
        unsigned some = n - i < STORE_BATCH ? (unsigned)(n - i) : STORE_BATCH;
        next_keys(b, s, true, keys);
        for (unsigned k = 0; k < some; k++) {
            values[k][0] = keys[k];
            values[k][1] = ~keys[k];
        }
        if (!s->ops->put_all(s->store, keys, values, some))
            program_die("%s: a batch failed", s->name);
    }
}

static void work(struct bench *b, const struct subject *s, enum kind kind,
                 uint64_t n)
{
    if (kind == KIND_GET)
        get_some(b, s, n);
    else if (kind == KIND_BATCH && s->ops->put_all)
        put_at_once(b, s, n);
    else
        put_some(b, s, n, kind == KIND_PUT ? 1 : STORE_BATCH);
}

static void measure(struct bench *b, struct subject *s, enum kind kind)
{
    bool slow = s->ops == &store_lmdb || s->ops == &store_lmdb_nosync;
    uint64_t n = b->n < CHUNK_MIN   ? CHUNK_MIN
                 : b->n > CHUNK_MAX ? CHUNK_MAX
                                    : b->n;
    if (kind == KIND_GET && !s->ops->get)
        return;
    n /= slow ? 10 : 1;
    work(b, s, kind, n / 2); /* the caches were another store's */
    uint64_t begin = cpu_ns();
    work(b, s, kind, n);
    s->ns[kind][b->round] = (double)(cpu_ns() - begin) / (double)n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void tell_kind(const struct bench *b, struct subject *s, enum kind kind)
{
    double *ns = s->ns[kind];
    char text[48];
    if (kind == KIND_GET && !s->ops->get) {
        printf(" %24s", "");
        return;
    }
    qsort(ns, b->rounds, sizeof(*ns), by_size);
    snprintf(text, sizeof(text), "%.2f [%.2f..%.2f]", 1e3 / ns[b->rounds / 2],
             1e3 / ns[b->rounds - 1], 1e3 / ns[0]);
    printf(" %24s", text);
}

static void tell_tail(const char *what, const struct histogram *h)
{
    printf("    %-38s %9llu: p50 %.0f p99 %.0f p99.9 %.0f p99.99 %.0f max "
           "%llu ns\n",
           what, (unsigned long long)h->n, histogram_quantile(h, 0.5),
           histogram_quantile(h, 0.99), histogram_quantile(h, 0.999),
           histogram_quantile(h, 0.9999), (unsigned long long)h->max);
}

static bool wanted(const struct bench *b, const struct subject *s)
{
    return s->ops->create && (!b->only || strstr(b->only, s->name) != NULL);
}

static void tell(const struct bench *b)
{
    printf("\n%llu keys, million a second: median of %u rounds "
           "[smallest..largest]\n%-22s %8s %24s %24s %24s %10s\n",
           (unsigned long long)b->n, b->rounds, "", "fill", "get", "put",
           "put, batches of 16", "DRAM B/key");
    for (size_t i = 0; i < SUBJECTS; i++) {
        struct subject *s = &subjects[i];
        if (!s->store)
            continue;
        printf("%-22s %8.2f", s->name, 1e3 / s->fill_ns);
        for (int kind = 0; kind < KINDS; kind++)
            tell_kind(b, s, (enum kind)kind);
        printf(" %10.1f\n", s->dram);
    }
    printf("one put and its commit during the fill, by the wall clock\n");
    for (size_t i = 0; i < SUBJECTS; i++) {
        if (!subjects[i].store)
            continue;
        tell_tail(subjects[i].name, &subjects[i].puts);
        if (subjects[i].preempted.n > 0)
            tell_tail("  while another program ran", &subjects[i].preempted);
    }
}

/* Puts in which the table grew, in processor time: what other programs took
 * of the CPU is no pause of ours. */
static void tell_growth(const struct bench *b)
{
    static struct histogram pauses;
    struct subject s = {.ops = &store_kvpool, .name = "kvpool"};
    s.store = s.ops->create(b->folder, b->n);
    if (!s.store)
        program_die("%s: cannot be created in %s", s.name, b->folder);
    uint64_t growths = 0, last = cpu_ns();
    histogram_clear(&pauses);
    for (uint64_t key = 0; key < b->n; key++) {
        put(&s, key);
        commit(&s);
        uint64_t now = cpu_ns(), more = s.ops->growths(s.store);
        if (more != growths)
            histogram_add(&pauses, now - last, 1);
        growths = more;
        last = cpu_ns();
    }
    s.ops->destroy(s.store);
    printf("one put in which the table grew, in processor time\n");
    tell_tail("kvpool", &pauses);
}

static void shuffle(struct bench *b, size_t order[SUBJECTS])
{
    for (size_t i = 0; i < SUBJECTS; i++) {
        size_t j = random_below(b, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
}

static void run(struct bench *b)
{
    for (size_t i = 0; i < SUBJECTS; i++)
        if (wanted(b, &subjects[i]))
            fill(b, &subjects[i]);
    for (b->round = 0; b->round < b->rounds; b->round++)
        for (int kind = 0; kind < KINDS; kind++) {
            size_t order[SUBJECTS];
            shuffle(b, order);
            for (size_t i = 0; i < SUBJECTS; i++)
                if (subjects[order[i]].store)
                    measure(b, &subjects[order[i]], (enum kind)kind);
        }
    tell(b);
    tell_growth(b);
    for (size_t i = 0; i < SUBJECTS; i++)
        if (subjects[i].store) {
            subjects[i].ops->destroy(subjects[i].store);
            subjects[i].store = NULL;
        }
}

static size_t read_sizes(char *text, uint64_t sizes[SIZES_MAX])
{
    size_t n = 0;
    for (char *at = strtok(text, ","); at && n < SIZES_MAX;
         at = strtok(NULL, ","))
        sizes[n++] = (uint64_t)program_number('n', at, 1000, 1000000000);
    return n;
}

int main(int argc, char **argv)
{
    struct bench b = {
        .random = 88172645463325252u, .rounds = 9, .folder = "/dev/shm"};
    uint64_t sizes[SIZES_MAX] = {100000, 1000000};
    size_t n = 2;
    int c;
    while ((c = getopt(argc, argv, "n:f:r:s:")) != -1) {
        if (c == 'n')
            n = read_sizes(optarg, sizes);
        else if (c == 'f')
            b.folder = optarg;
        else if (c == 'r')
            b.rounds = (unsigned)program_number('r', optarg, 1, ROUNDS_MAX);
        else if (c == 's')
            b.only = optarg;
        else
            return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < SUBJECTS; i++)
        if (!subjects[i].ops->create)
            printf("%s is not measured: make deps-bench\n", subjects[i].name);
    for (size_t i = 0; i < n; i++) { /* each in memory that is fresh */
        pid_t child = fork();
        if (child < 0)
            program_die("no process can be started");
        b.n = sizes[i];
        if (child == 0) {
            run(&b);
            exit(0);
        }
        program_reap(child, "one of the sizes");
    }
    return 0;
}
