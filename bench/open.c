/*
 * How long a pool takes to open after a crash, and after a close in order:
 * small items, and values of 1 KiB. A child fills it and goes without closing
 * it.
 *
 * A figure is processor time; "pool" is what the pool uses of its file.
 *
 * usage: PMEM_IS_PMEM_FORCE=1 open [-n keys] [-r rounds] [-f folder]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/program.h"
#include "store/engine/engine.h"

#define TURN 64 /* puts of a commit while filling */

struct bench {
    char path[256];
    uint64_t n;
    uint32_t len; /* bytes of a value */
    bool evict;
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct kv *open_pool(const struct bench *b, uint64_t size)
{
    struct kv_options options = {
        .size = size, .durability = KV_DURABILITY_PMEM, .evict = b->evict};
    char error[512] = "no memory";
    struct kv *kv;
    if (kv_open(b->path, &options, &kv, error, sizeof(error)) < 0)
        program_die("%s", error);
    kv_set_time(kv, 1000);
    return kv;
}

static void fill(const struct bench *b)
{
    uint64_t size = b->n * (b->len + 192) + (64u << 20);
    struct kv *kv = open_pool(b, size);
    char *value = calloc(1, b->len);
    for (uint64_t key = 0; key < b->n; key++) {
        if (!value || kv_store(kv, KV_SET, &key, sizeof(key), 0, 0, 0, value,
                               b->len, NULL) != KV_OK)
            program_die("a put failed");
        if (key % TURN == TURN - 1)
            kv_commit(kv);
    }
    if (kv_commit(kv) != KV_OK)
        program_die("a commit failed");
}

static void crash(const struct bench *b, void (*work)(const struct bench *))
{
    pid_t child = fork();
    if (child < 0)
        program_die("no process can be started");
    if (child == 0) {
        work(b);
        _exit(0);
    }
    program_reap(child, "a child");
}

static void reopen(const struct bench *b)
{
    struct kv_statistics s;
    uint64_t begin = cpu_ns(), wall = program_now_ns();
    struct kv *kv = open_pool(b, 0);
    uint64_t ns = cpu_ns() - begin;
    wall = program_now_ns() - wall;
    kv_stats(kv, &s);
    if (s.items != b->n || s.was_clean || s.scan_left > 0)
        program_die("%llu items were found, of %llu",
                    (unsigned long long)s.items, (unsigned long long)b->n);
    double used = (double)(s.heap_size - s.heap_free);
    printf("  %6.0f ms (%.0f by the wall clock): %.2f GB of pool a second, "
           "%.2f million entries a second, %.0f ns each\n",
           (double)ns / 1e6, (double)wall / 1e6, used / (double)ns,
           (double)s.items * 1e3 / (double)ns, (double)ns / (double)s.items);
}

static void close_pool(const struct bench *b)
{
    if (kv_close(open_pool(b, 0)) < 0)
        program_die("the pool does not close");
}

/* What serving needs, then the rest. */
static void reopen_clean(const struct bench *b)
{
    struct kv_statistics s;
    uint64_t longest = 0, begin = cpu_ns(), last, steps = 0;
    struct kv *kv = open_pool(b, 0);
    uint64_t ns = cpu_ns() - begin;
    do {
        last = cpu_ns();
        kv_catch_up(kv);
        kv_stats(kv, &s);
        steps++;
        if (cpu_ns() - last > longest)
            longest = cpu_ns() - last;
    } while (s.scan_left > 0);
    printf("  %6.2f ms until it serves; %.0f ms in %llu steps until all is "
           "looked at, the longest of them %.0f us\n",
           (double)ns / 1e6, (double)(cpu_ns() - begin) / 1e6,
           (unsigned long long)steps, (double)longest / 1e3);
    if (s.items != b->n || !s.was_clean)
        program_die("%llu items were found, of %llu",
                    (unsigned long long)s.items, (unsigned long long)b->n);
    kv_close(kv);
}

static void run(struct bench *b, int rounds)
{
    printf("%llu keys of 8 bytes, values of %u%s\n", (unsigned long long)b->n,
           b->len, b->evict ? ", a cache" : "");
    crash(b, fill);
    for (int i = 0; i < rounds; i++)
        crash(b, reopen);
    crash(b, close_pool);
    printf("  after a close in order\n");
    for (int i = 0; i < rounds; i++)
        crash(b, reopen_clean);
    unlink(b->path);
}

int main(int argc, char **argv)
{
    static const struct {
        uint32_t len;
        bool evict;
    } cases[] = {{16, false}, {1024, false}, {1024, true}};
    struct bench b = {.n = 1000000};
    const char *folder = "/dev/shm";
    int c, rounds = 5;
    while ((c = getopt(argc, argv, "n:f:r:")) != -1) {
        if (c == 'n')
            b.n = (uint64_t)program_number('n', optarg, 1000, 100000000);
        else if (c == 'f')
            folder = optarg;
        else if (c == 'r')
            rounds = (int)program_number('r', optarg, 1, 99);
        else
            return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(b.path, sizeof(b.path), "%s/fastsock-open-bench-%d", folder,
             (int)getpid());
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        b.len = cases[i].len;
        b.evict = cases[i].evict;
        run(&b, rounds);
    }
    return 0;
}
