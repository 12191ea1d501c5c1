/*
 * The engine alone: one thread, 8-byte keys, 16-byte values, in a pool that
 * counts as persistent memory. Beside it, in the same run, the least that a
 * durable put can cost: two fences with a cache line before each.
 *
 * usage: PMEM_IS_PMEM_FORCE=1 engine [-n keys] [-f pool] [-r rounds]
 */
#include <getopt.h>
#include <libpmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/histogram.h"
#include "bench/support/program.h"
#include "store/engine/engine.h"

#define SLOW    5000 /* ns: no put without growth needs so long */
#define PER_KEY 256  /* bytes of pool: room for a table that grows */

struct bench {
    struct kv *kv;
    uint64_t n;      /* keys */
    uint64_t random; /* state of a generator */
    const char *path;
};

static uint64_t any_key(struct bench *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint64_t)((unsigned __int128)b->random * b->n >> 64);
}

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "engine: %s\n", what);
    exit(1);
}

static void put(struct bench *b, uint64_t key)
{
    uint64_t value[2] = {key, ~key};
    must(kv_store(b->kv, KV_SET, &key, sizeof(key), 0, 0, 0, value,
                  sizeof(value), NULL) == KV_OK,
         "a put failed");
}

static void commit(struct bench *b)
{
    must(kv_commit(b->kv) == KV_OK, "a commit failed");
}

static void tell(const char *what, uint64_t n, uint64_t ns)
{
    printf("%-28s %8.2f M/s %8.0f ns\n", what, (double)n * 1e3 / (double)ns,
           (double)ns / (double)n);
}

static void tell_puts(const char *what, const struct histogram *h)
{
    printf("%-28s p50 %.0f p99 %.0f p99.9 %.0f max %llu ns, %llu puts\n", what,
           histogram_quantile(h, 0.5), histogram_quantile(h, 0.99),
           histogram_quantile(h, 0.999), (unsigned long long)h->max,
           (unsigned long long)h->n);
}

/* Fresh keys: the table grows; each put is timed for its tail, and those in
 * which a segment was written anew once more by themselves. */
static void fill(struct bench *b)
{
    static struct histogram all, grown;
    uint64_t begin = program_now_ns(), last = begin, growths = 0;
    struct kv_statistics s;
    histogram_clear(&all);
    histogram_clear(&grown);
    for (uint64_t key = 0; key < b->n; key++) {
        put(b, key);
        commit(b);
        uint64_t t = program_now_ns();
        histogram_add(&all, t - last, 1);
        if (t - last > SLOW) {
            kv_stats(b->kv, &s);
            if (s.growths != growths)
                histogram_add(&grown, t - last, 1);
            growths = s.growths;
            t = program_now_ns();
        }
        last = t;
    }
    tell("put, durable, table grows", b->n, last - begin);
    tell_puts("", &all);
    tell_puts("  of these, with growth", &grown);
}

static void get(struct bench *b, uint64_t n)
{
    struct kv_item item;
    uint64_t begin = program_now_ns(), sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t key = any_key(b);
        must(kv_get(b->kv, &key, sizeof(key), &item) == KV_OK, "a get failed");
        sum += *(const unsigned char *)item.value;
        if (i % 64 == 63)
            kv_unpin_all(b->kv);
    }
    tell(sum ? "get" : "get (of nothing)", n, program_now_ns() - begin);
}

static void replace(struct bench *b, uint64_t n, uint64_t batch)
{
    char what[32];
    uint64_t begin = program_now_ns();
    for (uint64_t i = 0; i < n; i++) {
        put(b, any_key(b));
        if (i % batch == batch - 1)
            commit(b);
    }
    snprintf(what, sizeof(what), "put, durable, batch of %llu",
             (unsigned long long)batch);
    tell(what, n, program_now_ns() - begin);
}

/* An entry and an owner word in other lines, a fence after each. */
static void bare(struct bench *b, uint64_t n)
{
    size_t size = b->n * 128;
    char *lines = pmem_map_file("/dev/shm/fastsock-bare", size,
                                PMEM_FILE_CREATE, 0600, &size, NULL);
    must(lines != NULL, "no memory for the bare persists");
    memset(lines, 0, size);
    char entry[64] = "entry";
    uint64_t begin = program_now_ns();
    for (uint64_t i = 0; i < n; i++) {
        uint64_t place = any_key(b);
        pmem_memcpy_nodrain(lines + place * 128, entry, 64);
        pmem_drain();
        *(volatile uint64_t *)(lines + place * 128 + 64) = i;
        pmem_flush(lines + place * 128 + 64, 8);
        pmem_drain();
    }
    tell("two bare persists", n, program_now_ns() - begin);
    pmem_unmap(lines, size);
    unlink("/dev/shm/fastsock-bare");
}

static void memory(const char *when, uint64_t n, size_t pool)
{
    long rss = 0, shared = 0, total = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%ld %ld %ld", &total, &rss, &shared) == 3)
        printf("%-28s %.1f bytes of DRAM per key (private pages)\n", when,
               (double)(rss - shared) * 4096 / (double)n);
    if (f)
        fclose(f);
    (void)pool;
}

int main(int argc, char **argv)
{
    struct bench b = {.n = 1000000, .random = 88172645463325252u};
    char error[512] = "";
    int c, rounds = 2;
    b.path = "/dev/shm/fastsock-engine-bench";
    while ((c = getopt(argc, argv, "n:f:r:")) != -1) {
        if (c == 'n')
            b.n = strtoull(optarg, NULL, 0);
        else if (c == 'f')
            b.path = optarg;
        else if (c == 'r')
            rounds = atoi(optarg);
        else
            return 2;
    }
    unlink(b.path);
    struct kv_options options = {.size = (b.n * PER_KEY + (64u << 20)),
                                 .durability = KV_DURABILITY_PMEM};
    must(kv_open(b.path, &options, &b.kv, error, sizeof(error)) == 0, error);
    kv_set_time(b.kv, 1000);
    fill(&b);
    memory("after that", b.n, options.size);
    for (int i = 0; i < rounds; i++) {
        get(&b, 4 * b.n);
        replace(&b, b.n, 1);
        replace(&b, 2 * b.n, 16);
        bare(&b, b.n);
    }
    struct kv_statistics s;
    kv_stats(b.kv, &s);
    printf("%-28s %.2f of %llu entries, %llu displacements, %llu commits\n",
           "load", (double)s.items / (double)s.table_entries,
           (unsigned long long)s.table_entries,
           (unsigned long long)s.displacements, (unsigned long long)s.commits);
    kv_close(b.kv);
    unlink(b.path);
    return 0;
}
