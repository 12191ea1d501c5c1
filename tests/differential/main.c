/*
 * usage: differential [OPTIONS] run FILE ...
 *        differential [OPTIONS] seeds FIRST COUNT
 *        differential generate SEED
 *        differential [OPTIONS] minimise FILE | SEED
 *
 * Runs programs of socket calls on the kernel and under the library, and
 * compares every result. See docs/differential.md.
 *
 *   --library FILE   libfastsock.so
 *   --breaking FILE  the same with links that break
 *   --modes LIST     of both,client,server,breaks; default all; and kernel,
 *                    which is run again to see that it says the same
 *   --jobs N         programs at a time
 *   --keep FOLDER    where what differs is written, minimised
 *   --stop N         end after so many that differ
 *   --reruns N       how often what differs is run again, default 5
 *   --show           the outcome of each step
 *
 * Exit status: 0 the same, 1 something differs (or the kernel disagrees with
 * itself about more than one program in a thousand), 2 it could not run, 3 the
 * same but nothing was accelerated.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/differential/actor.h"
#include "tests/differential/judge.h"

enum { JOBS_MOST = 64 };

struct options {
    struct pair_setup setup;
    unsigned modes, jobs, stop, reruns;
    const char *keep;
    bool show;
};

/* What the jobs of one run have in common. */
struct work {
    _Atomic uint64_t next; /* file or seed */
    _Atomic uint32_t bad;
    struct tally tally[JOBS_MOST];
    char log_lock;
};

static struct options options = {
    .setup = {.slow = 1}, .modes = ~1u, .jobs = 1, .stop = 5, .reruns = 5};

static _Noreturn void misused(const char *what)
{
    fprintf(stderr, "differential: %s; see docs/differential.md\n", what);
    exit(2);
}

static unsigned modes_of(char *list)
{
    unsigned modes = 0;
    char *rest;

    for (char *t = strtok_r(list, ",", &rest); t != NULL;
         t = strtok_r(NULL, ",", &rest)) {
        int mode = 0;

        while (mode < MODES && strcmp(mode_name((enum mode)mode), t) != 0)
            mode++;
        if (mode == MODES)
            misused("expected modes out of both, client, server, breaks");
        modes |= 1u << mode;
    }
    return modes;
}

/* ---- one program ---- */

static bool is_seed(const char *text)
{
    return text[strspn(text, "0123456789")] == '\0';
}

static void load(struct program *p, const char *name)
{
    FILE *file;

    if (is_seed(name)) {
        program_generate(p, strtoull(name, NULL, 10));
        return;
    }
    file = fopen(name, "r");
    if (file == NULL || !program_read(p, file, name)) {
        fprintf(stderr, "differential: %s: cannot be read\n", name);
        exit(2);
    }
    fclose(file);
}

static void keep(const struct judge *j, const struct program *p)
{
    char path[512];
    FILE *file;

    if (options.keep == NULL)
        return;
    snprintf(path, sizeof(path), "%s/%s-%llu.prog", options.keep,
             mode_name(j->mode), (unsigned long long)p->seed);
    file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "differential: %s: %s\n", path, strerror(errno));
        return;
    }
    program_write(p, file);
    fclose(file);
    printf("kept as %s\n", path);
}

static const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {"same", "DIFFERS", "differed once",
                                        "UNSTABLE on the kernel"};

    return names[verdict];
}

static void show(const struct judge *j, const struct program *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        char step[200], seen[300];

        step_text(&p->step[i], step, sizeof(step));
        outcome_text(&p->step[i], &j->pair[MODE_KERNEL].shared->seen[i], seen,
                     sizeof(seen));
        printf("  %3u  %-44s %s\n", i, step, seen);
    }
}

/* True: no difference. */
static bool judge_one(struct judge *j, const char *name, struct program *p)
{
    uint64_t once = j->tally.once;
    enum verdict verdict = judge_program(j, p);

    if (options.show && j->pair[MODE_KERNEL].shared != NULL)
        show(j, p);
    if (verdict == VERDICT_SAME && j->tally.once == once)
        return true;
    printf("%s: %s\n", name,
           verdict_name(verdict == VERDICT_SAME ? VERDICT_ONCE : verdict));
    judge_explain(j, p, stdout);
    if (verdict == VERDICT_DIFFERS && options.keep != NULL) {
        judge_minimise(j, p);
        judge_explain(j, p, stdout);
        keep(j, p);
    }
    fflush(stdout);
    return verdict == VERDICT_SAME;
}

/* ---- many ---- */

static void job(struct work *work, unsigned number, char **names,
                uint64_t first, uint64_t n)
{
    struct program *p = malloc(sizeof(*p));
    struct judge *j = malloc(sizeof(*j));
    uint64_t at;

    if (p == NULL || j == NULL)
        exit(2);
    judge_init(j, &options.setup);
    j->modes = options.modes;
    j->reruns = options.reruns;
    while ((at = atomic_fetch_add(&work->next, 1)) < n &&
           atomic_load(&work->bad) < options.stop) {
        char seed[24];

        snprintf(seed, sizeof(seed), "%llu", (unsigned long long)(first + at));
        load(p, names != NULL ? names[at] : seed);
        if (!judge_one(j, names != NULL ? names[at] : seed, p))
            atomic_fetch_add(&work->bad, 1);
    }
    judge_fini(j);
    work->tally[number] = j->tally;
    free(j);
    free(p);
}

static struct tally sum_of(const struct work *work)
{
    struct tally sum = {0};
    uint64_t *to = (uint64_t *)&sum;

    for (unsigned i = 0; i < options.jobs; i++) {
        const uint64_t *from = (const uint64_t *)&work->tally[i];

        for (size_t k = 0; k < sizeof(sum) / sizeof(*to); k++)
            to[k] += from[k];
    }
    return sum;
}

static void report(const struct tally *t)
{
    printf("%llu runs, %llu tries again, %llu reads and writes added up, "
           "%llu edges told once more, %llu streams stayed on TCP\n",
           (unsigned long long)t->runs, (unsigned long long)t->tries,
           (unsigned long long)t->added_up, (unsigned long long)t->edges_again,
           (unsigned long long)t->not_up);
    printf("%llu programs: %llu same, %llu differ, %llu unstable, %llu once; "
           "%llu of %llu accelerated, %llu of %llu links broke\n",
           (unsigned long long)t->programs, (unsigned long long)t->same,
           (unsigned long long)t->differs, (unsigned long long)t->unstable,
           (unsigned long long)t->once, (unsigned long long)t->up,
           (unsigned long long)t->both, (unsigned long long)t->broke,
           (unsigned long long)t->breaks);
}

static int run_many(char **names, uint64_t first, uint64_t n)
{
    struct work *work = mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct tally t;
    int status, bad = 0;

    if (work == MAP_FAILED)
        misused("no memory");
    for (unsigned i = 0; i < options.jobs; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            job(work, i, names, first, n);
            fflush(stdout);
            _exit(0);
        }
    while (wait(&status) > 0)
        bad |= status;
    t = sum_of(work);
    report(&t);
    if (bad != 0)
        return 2;
    if (t.differs > 0 || t.unstable > t.programs / 1000)
        return 1;
    return t.both > 0 && t.up == 0 ? 3 : 0;
}

static int minimise(const char *name)
{
    struct program *p = malloc(sizeof(*p));
    struct judge *j = malloc(sizeof(*j));
    int rc = 0;

    if (p == NULL || j == NULL)
        return 2;
    load(p, name);
    judge_init(j, &options.setup);
    j->modes = options.modes;
    j->reruns = options.reruns;
    if (judge_program(j, p) == VERDICT_DIFFERS) {
        judge_minimise(j, p);
        judge_explain(j, p, stderr);
        program_write(p, stdout);
        rc = 1;
    } else {
        fprintf(stderr, "%s: no difference\n", name);
    }
    judge_fini(j);
    free(j);
    free(p);
    return rc;
}

/* ---- arguments ---- */

static int be_actor(int argc, char **argv)
{
    struct shared *shared = pair_attach(SHARED_FD);
    unsigned process = argc > 2 ? (unsigned)atoi(argv[2]) : PROCESSES;

    if (shared == NULL || process > SERVER)
        return 2;
    actor_main(shared, process);
}

static int be_image(int argc, char **argv)
{
    struct shared *shared = pair_attach(SHARED_FD);

    if (shared == NULL || argc < 6)
        return 2;
    actor_set_pair_fd(atoi(argv[5]));
    actor_image(shared, (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
}

static int generate(const char *seed)
{
    struct program *p = malloc(sizeof(*p));

    if (p == NULL)
        return 2;
    load(p, seed);
    program_write(p, stdout);
    free(p);
    return 0;
}

static void read_options(int argc, char **argv)
{
    static const struct option list[] = {
        {"library", 1, NULL, 'l'}, {"breaking", 1, NULL, 'b'},
        {"modes", 1, NULL, 'm'},   {"jobs", 1, NULL, 'j'},
        {"keep", 1, NULL, 'k'},    {"stop", 1, NULL, 's'},
        {"reruns", 1, NULL, 'r'},  {"slow", 1, NULL, 'S'},
        {"show", 0, NULL, 'v'},    {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "+", list, NULL)) != -1)
        switch (c) {
        case 'l':
            options.setup.library = realpath(optarg, NULL);
            break;
        case 'b':
            options.setup.breaking = realpath(optarg, NULL);
            break;
        case 'm':
            options.modes = modes_of(optarg);
            break;
        case 'j':
            options.jobs = (unsigned)atoi(optarg);
            break;
        case 'k':
            options.keep = optarg;
            break;
        case 's':
            options.stop = (unsigned)atoi(optarg);
            break;
        case 'r':
            options.reruns = (unsigned)atoi(optarg);
            break;
        case 'S':
            options.setup.slow = (unsigned)atoi(optarg);
            break;
        case 'v':
            options.show = true;
            break;
        default:
            misused("an option is not known");
        }
    if (options.jobs < 1 || options.jobs > JOBS_MOST)
        misused("expected 1 to 64 jobs");
}

int main(int argc, char **argv)
{
    const char *what;

    if (argc > 1 && strcmp(argv[1], "actor") == 0)
        return be_actor(argc, argv);
    if (argc > 1 && strcmp(argv[1], "image") == 0)
        return be_image(argc, argv);
    read_options(argc, argv);
    if (argc - optind < 2)
        misused("expected run, seeds, generate or minimise, and of what");
    what = argv[optind++];
    if (strcmp(what, "generate") == 0)
        return generate(argv[optind]);
    if (options.setup.library == NULL)
        misused("expected --library FILE");
    if (options.setup.breaking == NULL)
        options.modes &= ~(1u << MODE_BREAKS);
    if (strcmp(what, "run") == 0)
        return run_many(argv + optind, 0, (uint64_t)(argc - optind));
    if (strcmp(what, "seeds") == 0 && argc - optind == 2)
        return run_many(NULL, strtoull(argv[optind], NULL, 10),
                        strtoull(argv[optind + 1], NULL, 10));
    if (strcmp(what, "minimise") == 0)
        return minimise(argv[optind]);
    misused("expected run, seeds, generate or minimise");
}
