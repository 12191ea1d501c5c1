/*
 * See judge.h.
 */
#include "tests/differential/judge.h"

#include <string.h>

#include "tests/differential/actor.h"

enum { KERNEL_RUNS = 3, KERNEL_RUNS_IN_DOUBT = 150 };

void judge_init(struct judge *j, const struct pair_setup *setup)
{
    memset(j, 0, sizeof(*j));
    j->setup = *setup;
    j->modes = (1u << MODES) - 1 - (1u << MODE_KERNEL);
    j->reruns = 5;
    for (int i = 0; i < MODES; i++)
        j->pair[i].mode = (enum mode)i;
}

void judge_fini(struct judge *j)
{
    for (int i = 0; i < MODES; i++)
        pair_end(&j->pair[i]);
}

static void count(struct judge *j, enum mode mode, const struct program *p)
{
    const struct shared *s = j->pair[mode].shared;
    struct tally *t = &j->tally;

    t->runs++;
    if (mode == MODE_BOTH) {
        t->both++;
        t->up += s->ups >= 2 && s->link_bytes > 0;
        t->not_up += s->not_up;
    }
    if (mode == MODE_BREAKS && (p->break_at[0] || p->break_at[1])) {
        t->breaks++;
        t->broke += s->breaks > 0;
    }
    t->edges_again += s->edges_again;
    t->added_up += s->added_up;
    t->tries += s->tries;
    t->link_bytes += s->link_bytes;
}

/* The kernel's word, in pair[MODE_KERNEL].shared. */
static bool ask_kernel(struct judge *j, const struct program *p)
{
    struct pair *kernel = &j->pair[MODE_KERNEL];

    if (pair_run(kernel, &j->setup, p, NULL) == PAIR_DONE)
        return true;
    j->mode = MODE_KERNEL;
    j->at = kernel->shared->turn;
    memcpy(j->seen, kernel->shared->seen, sizeof(j->seen));
    memset(j->expected, 0, sizeof(j->expected));
    pair_end(kernel);
    return false;
}

/* True: as on the kernel. */
static bool run_in(struct judge *j, enum mode mode, const struct program *p)
{
    struct pair *pair = &j->pair[mode];
    const struct shared *kernel = j->pair[MODE_KERNEL].shared;
    enum pair_result how = pair_run(pair, &j->setup, p, kernel);
    uint32_t stop = atomic_load(&pair->shared->stop);

    if (how == PAIR_DONE && stop == 0) {
        count(j, mode, p);
        return true;
    }
    j->mode = mode;
    j->how = how;
    j->at = how == PAIR_DONE ? stop - 1 : pair->shared->turn;
    memcpy(j->expected, kernel->seen, sizeof(j->expected));
    memcpy(j->seen, pair->shared->seen, sizeof(j->seen));
    pair_end(pair); /* who knows what state it is in */
    return false;
}

/* Does the kernel agree with itself? Compares outcomes and nothing else. */
static bool kernel_is_stable(struct judge *j, const struct program *p, int runs)
{
    struct outcome first[STEPS_MOST];

    memcpy(first, j->pair[MODE_KERNEL].shared->seen, sizeof(first));
    for (int i = 0; i < runs; i++) {
        if (!ask_kernel(j, p))
            return false;
        for (uint32_t k = 0; k < p->n; k++) {
            struct outcome *o = &j->pair[MODE_KERNEL].shared->seen[k];

            o->done_at = first[k].done_at;
            if (memcmp(o, &first[k], sizeof(*o)) != 0) {
                j->mode = MODE_KERNEL;
                j->how = PAIR_DONE;
                j->at = k;
                memcpy(j->expected, first, sizeof(j->expected));
                memcpy(j->seen, j->pair[MODE_KERNEL].shared->seen,
                       sizeof(j->seen));
                return false;
            }
        }
    }
    return true;
}

static enum verdict unstable(struct judge *j)
{
    j->tally.unstable++;
    return VERDICT_UNSTABLE;
}

/* It differed: always, sometimes, or never again? */
static enum verdict look_again(struct judge *j, const struct program *p,
                               enum mode mode)
{
    struct judge first = *j;

    first.differed = first.ran = 1;
    if (!kernel_is_stable(j, p, KERNEL_RUNS))
        return unstable(j);
    for (unsigned i = 0; i < j->reruns; i++) {
        first.ran++;
        first.differed += !run_in(j, mode, p);
    }
    /* What the library does at times the kernel may do at times, too. */
    if (first.differed > 1 && first.differed < first.ran &&
        !kernel_is_stable(j, p, KERNEL_RUNS_IN_DOUBT) && j->at == first.at)
        return unstable(j);
    j->mode = first.mode;
    j->how = first.how;
    j->at = first.at;
    memcpy(j->expected, first.expected, sizeof(j->expected));
    memcpy(j->seen, first.seen, sizeof(j->seen));
    j->differed = first.differed;
    j->ran = first.ran;
    if (j->reruns > 0 && j->differed == 1) {
        j->tally.once++;
        return VERDICT_ONCE;
    }
    j->tally.differs++;
    return VERDICT_DIFFERS;
}

enum verdict judge_program(struct judge *j, const struct program *p)
{
    j->tally.programs++;
    j->how = PAIR_DONE;
    if (!ask_kernel(j, p)) {
        j->how = PAIR_HUNG;
        return unstable(j);
    }
    if ((j->modes & 1u << MODE_KERNEL) && !kernel_is_stable(j, p, KERNEL_RUNS))
        return unstable(j);
    for (int mode = MODE_KERNEL + 1; mode < MODES; mode++) {
        enum verdict verdict;

        if (mode == MODE_BREAKS && p->loose)
            continue; /* too little is decided */
        if (!(j->modes >> mode & 1) || run_in(j, (enum mode)mode, p))
            continue;
        verdict = look_again(j, p, (enum mode)mode);
        if (verdict != VERDICT_ONCE)
            return verdict;
    }
    j->tally.same++;
    return VERDICT_SAME;
}

static void explain_step(const struct judge *j, const struct program *p,
                         uint32_t i, FILE *out)
{
    char step[200], expected[300], seen[300];

    step_text(&p->step[i], step, sizeof(step));
    outcome_text(&p->step[i], &j->seen[i], seen, sizeof(seen));
    if (i != j->at) {
        fprintf(out, "  %3u  %-44s %s\n", i, step, seen);
        return;
    }
    outcome_text(&p->step[i], &j->expected[i], expected, sizeof(expected));
    fprintf(out, "->%3u  %-44s\n         expected: %s\n         seen:     %s\n",
            i, step, expected, j->how == PAIR_DONE ? seen : "no end to it");
}

void judge_explain(const struct judge *j, const struct program *p, FILE *out)
{
    static const char *const ends[] = {"", "; it hung", "; a process died"};

    fprintf(out, "seed %llu, mode %s%s%s, family %u, break %u %u:",
            (unsigned long long)p->seed, mode_name(j->mode), ends[j->how],
            p->loose ? ", loose" : "", p->family, p->break_at[0],
            p->break_at[1]);
    fprintf(out, " %u of %u runs differ\n", j->differed, j->ran);
    for (uint32_t i = 0; i < p->n && i <= j->at + 3; i++)
        explain_step(j, p, i, out);
}

/* ---- smaller ---- */

static bool still_differs(struct judge *j, const struct program *p,
                          enum mode mode)
{
    if (!ask_kernel(j, p))
        return false;
    for (unsigned i = 0; i <= j->reruns; i++)
        if (!run_in(j, mode, p))
            return true;
    return false;
}

static void without(struct program *p, uint32_t from, uint32_t n)
{
    memmove(&p->step[from], &p->step[from + n],
            (p->n - from - n) * sizeof(p->step[0]));
    p->n -= n;
}

/* Halves, quarters, ... single steps, until nothing can be taken away. */
void judge_minimise(struct judge *j, struct program *p)
{
    enum mode mode = j->mode;
    bool any = true;

    if (j->at + 1 < p->n) {
        struct program shorter = *p;

        shorter.n = j->at + 1;
        if (still_differs(j, &shorter, mode))
            *p = shorter;
    }
    while (any) {
        any = false;
        for (uint32_t size = p->n / 2 + 1; size >= 1; size /= 2)
            for (uint32_t from = 0; from + size <= p->n;) {
                struct program smaller = *p;

                without(&smaller, from, size);
                if (smaller.n > 0 && still_differs(j, &smaller, mode)) {
                    *p = smaller;
                    any = true;
                } else {
                    from += size;
                }
            }
    }
    for (int end = 0; end < 2; end++) {
        struct program calmer = *p;

        calmer.break_at[end] = 0;
        if (still_differs(j, &calmer, mode))
            *p = calmer;
    }
    still_differs(j, p, mode); /* so that what is explained is its own */
}
