/*
 * Mutants: the engine without one flush, without one fence, or with one store
 * moved before the fence that precedes it, by call site. A log is recorded
 * once; a mutant reads it without the event. Every mutant must give a wrong
 * image, or be explained in the table below.
 */
#include "tests/crash/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS       6 /* scripts of each kind */
#define MUTANTS_MAX 512
#define WHAT        100

static const struct effort effort = {.per_family = 6,
                                     .all_below = 6,
                                     .images_max = 3000,
                                     .depth = 0,
                                     .nested_one_in = 1};

/* Mutants that do no harm: how many in a function and its caller, and why. */
static const struct {
    enum mutation kind;
    const char *function;
    const char *caller;
    int most;
    const char *why;
} harmless[] = {
    {MUTATION_EARLY, "take_possession", "region_open", 1,
     "no one trusts the opener after a crash"},
    {MUTATION_EARLY, "region_set", "pool_open", 1,
     "a pool may be called in use before it is"},
    {MUTATION_EARLY, "move_in", "grow_first", 1,
     "the space is the new pool's since before"},
    {MUTATION_EARLY, "move_in", "adopt", 1,
     "its room was free before the commit that precedes it"},
    {MUTATION_EARLY, "set_flush", "flush_now", 2,
     "the record that does not count may be written at any time"},
    {MUTATION_EARLY, "set_flush", "durable_flush_all", 2,
     "the record that does not count may be written at any time"},
    {MUTATION_EARLY, "durable_set", "raise_ceiling", 1,
     "a ceiling that is raised early only skips ids"},
    {MUTATION_EARLY, "durable_set", "end_recovery", 1,
     "a ceiling that is raised early only skips ids"},
    {MUTATION_EARLY, "region_set", "restore_item", 1,
     "a ceiling that is raised early only skips ids"},
    {MUTATION_EARLY, "leave_summary", "durable_close", 1,
     "a ceiling just above the last id given is right at any time"},
    {MUTATION_EARLY, "summary_write", "leave_summary", 1,
     "it counts only with the ceiling of its own close"},
    {MUTATION_EARLY, "forget", "take_bucket", 1,
     "what is not valid may be dropped at any time"},
};
#define HARMLESS (sizeof(harmless) / sizeof(*harmless))

struct verdict {
    bool caught;
    char kind[16];
    unsigned seed;
    unsigned long images;
    char what[WHAT];
};

/* All scripts, recorded once. */
struct logs {
    struct sites *sites;
    int n;
    struct script scripts[KINDS_MAX * SEEDS];
    const struct script_kind *kinds[KINDS_MAX * SEEDS];
    unsigned seeds[KINDS_MAX * SEEDS];
    int n_mutants;
    struct mutant mutants[MUTANTS_MAX];
    struct verdict *verdicts; /* shared */
    unsigned *next;           /* shared */
};

static const char *const mutation_names[] = {[MUTATION_NO_FLUSH] = "no flush",
                                             [MUTATION_NO_FENCE] = "no fence",
                                             [MUTATION_EARLY] = "too early"};

static bool is_known(const struct logs *logs, const struct mutant *mutant)
{
    for (int i = 0; i < logs->n_mutants; i++)
        if (logs->mutants[i].kind == mutant->kind &&
            logs->mutants[i].name == mutant->name)
            return true;
    return false;
}

static void add_mutant(struct logs *logs, const struct mutant *mutant)
{
    if (mutant->name != 0 && logs->n_mutants < MUTANTS_MAX)
        logs->mutants[logs->n_mutants++] = *mutant;
}

static bool concerns(const struct logs *logs, const struct mutant *mutant,
                     const struct event *event)
{
    bool flush = event->kind == EVENT_FLUSH || event->kind == EVENT_COPY;
    bool store = event->kind == EVENT_STORE || event->kind == EVENT_COPY;
    if (sites_name(logs->sites, event->site) != mutant->name)
        return false;
    return mutant->kind == MUTATION_NO_FLUSH   ? flush
           : mutant->kind == MUTATION_NO_FENCE ? event->kind == EVENT_FENCE
                                               : store;
}

static bool record_all(struct logs *logs)
{
    for (int k = 0; script_kinds[k].name; k++)
        for (unsigned seed = 0; seed < SEEDS && script_kinds[k].step; seed++) {
            struct script *script = &logs->scripts[logs->n];
            logs->kinds[logs->n] = &script_kinds[k];
            logs->seeds[logs->n++] = seed;
            if (!script_run(script, &script_kinds[k], seed, logs->sites)) {
                printf("crash: %s %u: %s\n", script_kinds[k].name, seed,
                       script->error);
                return false;
            }
        }
    sites_name_all(logs->sites);
    return true;
}

/* Whether the mutant's event is where images are looked at, and, if it is to
 * come early, after a fence. */
static bool matters(const struct logs *logs, const struct mutant *mutant,
                    const struct recorder *log)
{
    bool looking = false, fence = false;
    for (size_t e = 0; e < log->n_events; e++) {
        const struct event *event = &log->events[e];
        if (event->kind == EVENT_LOOK || event->kind == EVENT_SKIP) {
            looking = event->kind == EVENT_LOOK;
            fence = false;
        } else if (looking && concerns(logs, mutant, event) &&
                   (fence || mutant->kind != MUTATION_EARLY)) {
            return true;
        }
        fence |= event->kind == EVENT_FENCE;
    }
    return false;
}

static void find_mutants(struct logs *logs)
{
    static const enum mutation kinds[] = {MUTATION_NO_FLUSH, MUTATION_NO_FENCE,
                                          MUTATION_EARLY};
    for (size_t m = 0; m < sizeof(kinds) / sizeof(*kinds); m++)
        for (int i = 0; i < logs->n; i++) {
            const struct recorder *log = &logs->scripts[i].log;
            for (size_t e = 0; e < log->n_events; e++) {
                struct mutant mutant = {
                    kinds[m], sites_name(logs->sites, log->events[e].site)};
                if (concerns(logs, &mutant, &log->events[e]) &&
                    !is_known(logs, &mutant) && matters(logs, &mutant, log))
                    add_mutant(logs, &mutant);
            }
        }
}

static bool try_script(const struct logs *logs, const struct mutant *mutant,
                       int i, struct verdict *verdict)
{
    const struct script *script = &logs->scripts[i];
    struct explorer x;
    if (!matters(logs, mutant, &script->log) ||
        explorer_init(&x, logs->sites, NULL, &effort) < 0)
        return false;
    x.mutant = *mutant;
    x.expected.damaged = script->damaged;
    verdict->caught =
        !explore(&x, &script->log, &script->model, logs->seeds[i]);
    verdict->images += x.images;
    if (verdict->caught) {
        snprintf(verdict->kind, sizeof(verdict->kind), "%s",
                 logs->kinds[i]->name);
        verdict->seed = logs->seeds[i];
        snprintf(verdict->what, sizeof(verdict->what), "%.99s", x.what);
    }
    image_fini(&x.image);
    explorer_fini(&x);
    return verdict->caught;
}

static void work(void *context, int number)
{
    struct logs *logs = context;
    (void)number;
    for (;;) {
        unsigned m = __atomic_fetch_add(logs->next, 1, __ATOMIC_RELAXED);
        if (m >= (unsigned)logs->n_mutants)
            return;
        for (int seed = 0; seed < SEEDS; seed++)
            for (int i = seed; i < logs->n; i += SEEDS)
                if (try_script(logs, &logs->mutants[m], i, &logs->verdicts[m]))
                    goto next;
    next:;
    }
}

/* "function (file:line) < caller (file:line)" */
static bool is_between(const char *name, const char *function,
                       const char *caller)
{
    size_t n = strlen(function), m = strlen(caller);
    const char *second = strstr(name, " < ");
    return second && strncmp(name, function, n) == 0 && name[n] == ' ' &&
           strncmp(second + 3, caller, m) == 0 && second[3 + m] == ' ';
}

/* Why a mutant that nobody caught does no harm, or NULL. */
static const char *excuse(const struct mutant *mutant, const char *name,
                          int used[HARMLESS])
{
    for (size_t i = 0; i < HARMLESS; i++)
        if (harmless[i].kind == mutant->kind &&
            is_between(name, harmless[i].function, harmless[i].caller) &&
            used[i]++ < harmless[i].most)
            return harmless[i].why;
    return NULL;
}

static int print_verdicts(const struct logs *logs)
{
    int caught = 0, explained = 0, survive = 0, used[HARMLESS] = {0};
    for (int m = 0; m < logs->n_mutants; m++) {
        const struct mutant *mutant = &logs->mutants[m];
        const struct verdict *v = &logs->verdicts[m];
        const char *name = logs->sites->names[mutant->name];
        const char *why = v->caught ? NULL : excuse(mutant, name, used);
        caught += v->caught;
        explained += !v->caught && why;
        survive += !v->caught && !why;
        printf("%-9s %-9s %s\n",
               v->caught ? "caught"
               : why     ? "harmless"
                         : "SURVIVES",
               mutation_names[mutant->kind], name);
        if (v->caught)
            printf("                    by %s %u, image %lu: %s\n", v->kind,
                   v->seed, v->images, v->what);
        else
            printf("                    %s (%lu images)\n",
                   why ? why : "nobody notices", v->images);
    }
    printf("%d mutants: %d caught, %d harmless for a reason, %d survive\n",
           logs->n_mutants, caught, explained, survive);
    return survive > 0 || logs->n_mutants == 0;
}

int run_mutants(void)
{
    struct logs *logs = calloc(1, sizeof(*logs));
    int rc = 1;
    if (!logs)
        return 1;
    logs->sites = sites_create();
    logs->verdicts = run_shared(MUTANTS_MAX * sizeof(*logs->verdicts));
    logs->next = run_shared(sizeof(*logs->next));
    if (!logs->sites || !logs->verdicts || !logs->next) {
        fputs("crash: no memory\n", stderr);
        goto free_logs;
    }
    if (!record_all(logs))
        goto free_scripts;
    find_mutants(logs);
    if (run_workers(run_cpus(), work, logs))
        rc = print_verdicts(logs);
free_scripts:
    for (int i = 0; i < logs->n; i++)
        script_fini(&logs->scripts[i]);
    sites_destroy(logs->sites);
free_logs:
    free(logs);
    return rc;
}
