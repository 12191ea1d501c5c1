/* See run.h. */
#include "tests/crash/run.h"

#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISTINCT_SLOTS (1u << 22)

struct work {
    const struct goal *goal;
    struct totals *totals;
    struct seen *distinct;
    int kinds[KINDS_MAX]; /* those that are there */
    int n_kinds;
};

int run_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return CPU_COUNT(&set);
}

void *run_shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

bool run_workers(int n, void (*work)(void *context, int number), void *context)
{
    bool fine = true;
    pid_t pids[n];
    fflush(NULL);
    for (int i = 0; i < n; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            work(context, i);
            fflush(NULL);
            _exit(0);
        }
        fine &= pids[i] > 0;
    }
    for (int i = 0; i < n; i++) {
        int status = 1;
        if (pids[i] > 0)
            waitpid(pids[i], &status, 0);
        if (status != 0)
            fprintf(stderr, "crash: a worker ended with status 0x%x\n", status);
        fine &= status == 0;
    }
    return fine;
}

static void print_sequence(FILE *out, const struct script *script,
                           const struct explorer *x)
{
    struct window w = x->expected.window;
    fprintf(out, "operations, acknowledged (+), in the window (?):\n");
    for (uint32_t op = 1; op < w.begun && op < script->model.ops; op++)
        if (op + 60 > w.acked)
            fprintf(out, " %c %u %s\n", op < w.acked ? '+' : '?', op,
                    script->texts[op]);
}

/* The image and how it came about, beside the program. */
static void keep(const struct script_kind *kind, uint64_t seed,
                 const struct script *script, const struct explorer *x)
{
    char program[256], path[400];
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (n < 0)
        return;
    program[n] = '\0';
    char *folder = dirname(program);
    snprintf(path, sizeof(path), "%s/failed-%s-%llu.pool", folder, kind->name,
             (unsigned long long)seed);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    size_t size = x->image.size * 8;
    bool kept = fd >= 0 && write(fd, x->image.words, size) == (ssize_t)size;
    if (fd >= 0)
        close(fd);
    printf("image %s: %s\n", kept ? "kept" : "could not be kept", path);
    snprintf(path, sizeof(path), "%s/failed-%s-%llu.txt", folder, kind->name,
             (unsigned long long)seed);
    FILE *text = fopen(path, "w");
    if (!text)
        return;
    fprintf(text, "%s\n", x->what);
    print_sequence(text, script, x);
    fclose(text);
}

bool run_job(const struct script_kind *kind, uint64_t seed,
             const struct effort *effort, struct seen *distinct,
             struct tally *tally)
{
    struct script script;
    struct explorer x;
    bool fine = script_run(&script, kind, seed, NULL);
    if (!fine) {
        printf("crash: %s %llu: %s\n", kind->name, (unsigned long long)seed,
               script.error);
        goto fini_script;
    }
    if (explorer_init(&x, NULL, distinct, effort) < 0) {
        printf("crash: no memory\n");
        fine = false;
        goto fini_script;
    }
    x.expected.damaged = script.damaged;
    fine = explore(&x, &script.log, &script.model, seed);
    if (!fine) {
        printf("crash: %s %llu, image %lu: %s\n", kind->name,
               (unsigned long long)seed, x.images, x.what);
        print_sequence(stdout, &script, &x);
        keep(kind, seed, &script, &x);
        printf("repeat with: crash %s %llu\n", kind->name,
               (unsigned long long)seed);
    }
    __atomic_add_fetch(&tally->jobs, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->images, x.images, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->distinct, x.new_images, __ATOMIC_RELAXED);
    __atomic_add_fetch(&tally->nested, x.nested, __ATOMIC_RELAXED);
    image_fini(&x.image);
    explorer_fini(&x);
fini_script:
    script_fini(&script);
    return fine;
}

/* By processor time: what other programs took of the CPUs is no fault. */
static bool late(const struct work *w)
{
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return used.tv_sec > (time_t)w->goal->seconds;
}

static unsigned long distinct_of(const struct work *w, int kind)
{
    return __atomic_load_n(&w->totals->kinds[kind].distinct, __ATOMIC_RELAXED);
}

static unsigned long distinct_in_all(const struct work *w)
{
    unsigned long in_all = 0;
    for (int i = 0; i < w->n_kinds; i++)
        in_all += distinct_of(w, w->kinds[i]);
    return in_all;
}

static bool wanted(const struct work *w, int kind)
{
    return distinct_of(w, kind) < w->goal->per_kind ||
           distinct_in_all(w) < w->goal->images;
}

static bool all_there(const struct work *w)
{
    for (int i = 0; i < w->n_kinds; i++)
        if (wanted(w, w->kinds[i]))
            return false;
    return true;
}

static void work(void *context, int number)
{
    struct work *w = context;
    (void)number;
    while (!all_there(w) && !late(w) && w->totals->failed == 0) {
        unsigned long job =
            __atomic_fetch_add(&w->totals->next_job, 1, __ATOMIC_RELAXED);
        int kind = w->kinds[job % (unsigned)w->n_kinds];
        if (!wanted(w, kind))
            continue;
        if (!run_job(&script_kinds[kind], job / (unsigned)w->n_kinds,
                     &w->goal->effort, w->distinct, &w->totals->kinds[kind]))
            __atomic_add_fetch(&w->totals->failed, 1, __ATOMIC_RELAXED);
    }
}

static void print_tallies(const struct work *w)
{
    struct tally all = {0};
    printf("%-14s %8s %9s %9s %9s\n", "kind", "scripts", "images", "distinct",
           "nested");
    for (int i = 0; script_kinds[i].name; i++) {
        const struct tally *t = &w->totals->kinds[i];
        if (!script_kinds[i].step) {
            printf("%-14s not there yet\n", script_kinds[i].name);
            continue;
        }
        printf("%-14s %8lu %9lu %9lu %9lu\n", script_kinds[i].name, t->jobs,
               t->images, t->distinct, t->nested);
        all.images += t->images;
        all.distinct += t->distinct;
        all.nested += t->nested;
    }
    printf("%lu images, %lu distinct, %lu of crashes during recovery, "
           "%d kinds\n",
           all.images, all.distinct, all.nested, w->n_kinds);
}

int run_goal(const struct goal *goal)
{
    struct work w = {.goal = goal};
    int rc = 1;
    w.totals = run_shared(sizeof(*w.totals));
    w.distinct = seen_create(DISTINCT_SLOTS);
    if (!w.totals || !w.distinct) {
        fputs("crash: no memory\n", stderr);
        goto fini;
    }
    for (int i = 0; script_kinds[i].name; i++)
        if (script_kinds[i].step)
            w.kinds[w.n_kinds++] = i;
    bool fine = run_workers(run_cpus(), work, &w);
    if (fine && w.totals->failed == 0 && !all_there(&w))
        printf("crash: %u s of each worker were not enough for %lu "
               "images\n",
               goal->seconds, goal->images);
    rc = !fine || w.totals->failed > 0 || !all_there(&w);
    print_tallies(&w);
fini:
    seen_destroy(w.distinct);
    if (w.totals)
        munmap(w.totals, sizeof(*w.totals));
    return rc;
}
