/* See explore.h. */
#include "tests/crash/explore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JUDGED_SLOTS 8192 /* images of one point */
#define LINE_WORDS   8
#define USE_ONE_IN   8
#define ALL_MOST     16 /* words: more combinations are never tried in full */

/* A word in flight. */
struct unit {
    uint32_t word;
    uint32_t line; /* index into lines, see number_lines() */
    uint64_t value;
    bool flushed;
};

/* One log being read: the script's, or that of a recovery. */
struct layer {
    struct explorer *x;
    const struct recorder *log;
    unsigned depth;
    bool looking;
    struct unit *units;
    unsigned char *keep;
    size_t n, max;
    uint32_t *lines; /* numbers of cache lines */
    uint32_t n_lines;
};

static uint64_t next_random(struct explorer *x)
{
    x->random ^= x->random << 13;
    x->random ^= x->random >> 7;
    x->random ^= x->random << 17;
    return x->random * 0x2545f4914f6cdd1d >> 20;
}

static bool enough(const struct explorer *x)
{
    return x->failed || x->images >= x->effort.images_max;
}

static void *must(void *memory)
{
    if (!memory) {
        fputs("crash: no memory for the words in flight\n", stderr);
        exit(2);
    }
    return memory;
}

static void add_units(struct layer *l, const struct event *event, bool flushed)
{
    if (l->n + event->n > l->max) {
        l->max = (l->n + event->n) * 2;
        l->units = must(realloc(l->units, l->max * sizeof(*l->units)));
        l->keep = must(realloc(l->keep, l->max));
        l->lines = must(realloc(l->lines, l->max * sizeof(*l->lines)));
    }
    for (uint32_t i = 0; i < event->n; i++)
        l->units[l->n++] =
            (struct unit){.word = event->first + i,
                          .value = l->log->words[event->data + i],
                          .flushed = flushed};
    if (!flushed || event->n == 0) /* a line is flushed as a whole */
        return;
    uint32_t first = event->first / LINE_WORDS;
    uint32_t last = (event->first + event->n - 1) / LINE_WORDS;
    for (size_t i = 0; i < l->n; i++)
        if (l->units[i].word / LINE_WORDS >= first &&
            l->units[i].word / LINE_WORDS <= last)
            l->units[i].flushed = true;
}

static void flush_lines(struct layer *l, const struct event *event)
{
    uint32_t first = event->first / LINE_WORDS;
    uint32_t last = (event->first + event->n - 1) / LINE_WORDS;
    for (size_t i = 0; i < l->n && event->n > 0; i++)
        if (l->units[i].word / LINE_WORDS >= first &&
            l->units[i].word / LINE_WORDS <= last)
            l->units[i].flushed = true;
}

static void settle(struct layer *l)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (l->units[i].flushed)
            image_set(&l->x->image, l->units[i].word, l->units[i].value);
        else
            l->units[kept++] = l->units[i];
    }
    l->n = kept;
}

static void number_lines(struct layer *l)
{
    l->n_lines = 0;
    for (size_t i = 0; i < l->n; i++) {
        uint32_t line = l->units[i].word / LINE_WORDS, at = l->n_lines;
        while (at > 0 && l->lines[at - 1] != line)
            at--;
        if (at == 0) {
            l->lines[l->n_lines] = line;
            at = ++l->n_lines;
        }
        l->units[i].line = at - 1;
    }
}

static bool explore_layer(struct explorer *x, const struct recorder *log,
                          unsigned depth);

/* The recovery from this image crashes too. */
static void crash_again(struct layer *l)
{
    struct explorer *x = l->x;
    enum phase phase = x->expected.phase;
    if (phase <= PHASE_EMPTY || l->depth >= x->effort.depth ||
        next_random(x) % x->effort.nested_one_in != 0)
        return;
    x->expected.phase = PHASE_OPENING;
    explore_layer(x, &x->recoveries[l->depth], l->depth + 1);
    x->expected.phase = phase;
}

/* The image in which the words of keep[] have survived. */
static void try_image(struct layer *l)
{
    struct explorer *x = l->x;
    size_t undo = x->image.n_undo;
    if (enough(x))
        return;
    for (size_t i = 0; i < l->n; i++)
        if (l->keep[i])
            image_set(&x->image, l->units[i].word, l->units[i].value);
    if (seen_add(x->judged[l->depth], x->image.hash)) {
        x->images++;
        x->nested += l->depth > 0;
        if (!x->distinct || seen_add(x->distinct, x->image.hash))
            x->new_images++;
        x->expected.use = next_random(x) % USE_ONE_IN == 0;
        if (judge(&x->image, &x->recoveries[l->depth], &x->expected, x->what,
                  sizeof(x->what)))
            crash_again(l);
        else
            x->failed = true;
    }
    if (!x->failed) /* a wrong image is kept */
        image_rollback(&x->image, undo);
}

/* Sets of words that survive, numbered within their family. */
enum family {
    FAMILY_ENDS,         /* none, all */
    FAMILY_LINE_KEPT,    /* one line */
    FAMILY_LINE_LOST,    /* all but one line */
    FAMILY_PAIR_KEPT,    /* two lines */
    FAMILY_PAIR_LOST,    /* all but two */
    FAMILY_PREFIX,       /* what was stored before a moment */
    FAMILY_SUFFIX,       /* what was stored after it */
    FAMILY_TEAR_KEPT,    /* the first words of one line, no other line */
    FAMILY_TEAR_LOST,    /* all other lines as well */
    FAMILY_WORD_KEPT,    /* one word */
    FAMILY_WORD_LOST,    /* all but one word */
    FAMILY_RANDOM_LINES, /* any lines */
    FAMILY_RANDOM_WORDS, /* any words */
    FAMILIES
};

static size_t family_size(const struct layer *l, enum family family)
{
    size_t lines = l->n_lines;
    switch (family) {
    case FAMILY_ENDS:
        return 2;
    case FAMILY_LINE_KEPT:
    case FAMILY_LINE_LOST:
        return lines;
    case FAMILY_PAIR_KEPT:
    case FAMILY_PAIR_LOST:
        return lines * (lines - 1) / 2;
    case FAMILY_RANDOM_LINES:
        return lines > 2 ? 32 : 0;
    case FAMILY_RANDOM_WORDS:
        return 64;
    default:
        return l->n;
    }
}

static void pair(size_t i, uint32_t *a, uint32_t *b)
{
    uint32_t row = 1;
    while (i >= row)
        i -= row++;
    *a = row;
    *b = (uint32_t)i;
}

static bool survives(struct layer *l, enum family family, size_t member,
                     size_t i, uint64_t lines)
{
    const struct unit *unit = &l->units[i], *other = &l->units[member % l->n];
    uint32_t a = 0, b = 0;
    switch (family) {
    case FAMILY_ENDS:
        return member == 1;
    case FAMILY_LINE_KEPT:
        return unit->line == member;
    case FAMILY_LINE_LOST:
        return unit->line != member;
    case FAMILY_PAIR_KEPT:
    case FAMILY_PAIR_LOST:
        pair(member, &a, &b);
        return (unit->line == a || unit->line == b) ==
               (family == FAMILY_PAIR_KEPT);
    case FAMILY_PREFIX:
        return i <= member;
    case FAMILY_SUFFIX:
        return i >= member;
    case FAMILY_TEAR_KEPT:
        return unit->line == other->line && i <= member;
    case FAMILY_TEAR_LOST:
        return unit->line != other->line || i <= member;
    case FAMILY_WORD_KEPT:
        return i == member;
    case FAMILY_WORD_LOST:
        return i != member;
    case FAMILY_RANDOM_LINES:
        return image_mix(unit->line + 1, lines) & 1;
    default:
        return next_random(l->x) & 1;
    }
}

static void try_family(struct layer *l, enum family family)
{
    size_t size = family_size(l, family);
    size_t tries =
        size < l->x->effort.per_family ? size : l->x->effort.per_family;
    if (family == FAMILY_ENDS)
        tries = size;
    for (size_t t = 0; t < tries && !enough(l->x); t++) {
        size_t member = tries == size ? t : next_random(l->x) % size;
        uint64_t lines = next_random(l->x) | 1;
        for (size_t i = 0; i < l->n; i++)
            l->keep[i] = survives(l, family, member, i, lines);
        try_image(l);
    }
}

/* A crash may happen here. */
static void crash_here(struct layer *l)
{
    size_t most = l->x->effort.all_below;
    if (!l->looking || enough(l->x))
        return;
    seen_clear(l->x->judged[l->depth]);
    if (l->n <= (most < ALL_MOST ? most : ALL_MOST)) {
        for (size_t set = 0; set < (size_t)1 << l->n; set++) {
            for (size_t i = 0; i < l->n; i++)
                l->keep[i] = set >> i & 1;
            try_image(l);
        }
        return;
    }
    number_lines(l);
    for (int family = 0; family < FAMILIES; family++)
        try_family(l, (enum family)family);
}

static bool is_mutant(const struct layer *l, enum mutation kind,
                      const struct event *event)
{
    const struct mutant *mutant = &l->x->mutant;
    return mutant->kind == kind &&
           sites_name(l->x->sites, event->site) == mutant->name;
}

/* Stores that the mutant makes too early, before the fence events[at]. */
static void take_early(struct layer *l, size_t at)
{
    struct window *window = &l->x->expected.window;
    uint32_t begun = window->begun;
    if (l->x->mutant.kind != MUTATION_EARLY || !l->looking)
        return;
    for (size_t i = at + 1; i < l->log->n_events; i++) {
        const struct event *event = &l->log->events[i];
        if (event->kind == EVENT_FENCE || event->kind == EVENT_SKIP ||
            event->kind == EVENT_OPENED)
            break;
        if (event->kind == EVENT_OP && l->depth == 0)
            begun = event->first + 1;
        bool store = event->kind == EVENT_STORE || event->kind == EVENT_COPY;
        if (!store || !is_mutant(l, MUTATION_EARLY, event))
            continue;
        add_units(l, event, false);
        window->begun = begun;
    }
}

static void read_mark(struct layer *l, const struct event *event)
{
    struct expectation *expected = &l->x->expected;
    switch (event->kind) {
    case EVENT_OP:
        expected->window.begun = event->first + 1;
        return;
    case EVENT_ACK:
        expected->window.acked = event->first;
        break;
    case EVENT_LOOK:
        l->looking = true;
        return;
    case EVENT_SKIP:
        l->looking = false;
        return;
    case EVENT_MAKING:
        expected->phase = PHASE_MAKING;
        return;
    case EVENT_EMPTY:
        expected->phase = PHASE_EMPTY;
        break;
    case EVENT_OPENING:
        expected->phase = PHASE_OPENING;
        return;
    case EVENT_OPENED:
        expected->phase = PHASE_OPEN;
        break;
    case EVENT_CLOSING:
        expected->phase = PHASE_CLOSING;
        return;
    default:
        expected->phase = PHASE_CLOSED;
    }
    crash_here(l);
}

static void read_event(struct layer *l, size_t at)
{
    const struct event *event = &l->log->events[at];
    bool flushes = !is_mutant(l, MUTATION_NO_FLUSH, event) || !l->looking;
    switch (event->kind) {
    case EVENT_STORE:
        add_units(l, event, !l->looking);
        break;
    case EVENT_COPY:
        add_units(l, event, flushes);
        break;
    case EVENT_FLUSH:
        if (flushes)
            flush_lines(l, event);
        break;
    case EVENT_FENCE:
        take_early(l, at);
        crash_here(l);
        if (!is_mutant(l, MUTATION_NO_FENCE, event) || !l->looking)
            settle(l);
        break;
    default:
        if (l->depth == 0)
            read_mark(l, event);
    }
}

static bool explore_layer(struct explorer *x, const struct recorder *log,
                          unsigned depth)
{
    struct layer l = {.x = x, .log = log, .depth = depth, .looking = depth > 0};
    size_t undo = x->image.n_undo;
    for (size_t i = 0; i < log->n_events && !enough(x); i++) {
        if (depth > 0 && log->events[i].kind == EVENT_OPENED)
            break;
        read_event(&l, i);
    }
    if (l.n > 0 || depth > 0)
        crash_here(&l);
    if (!x->failed)
        image_rollback(&x->image, undo);
    free(l.units);
    free(l.keep);
    free(l.lines);
    return !x->failed;
}

int explorer_init(struct explorer *x, struct sites *sites,
                  struct seen *distinct, const struct effort *effort)
{
    *x = (struct explorer){
        .sites = sites, .distinct = distinct, .effort = *effort};
    for (int i = 0; i <= DEPTH_MAX; i++) {
        recorder_init(&x->recoveries[i], sites, false);
        x->judged[i] = seen_create(JUDGED_SLOTS);
        if (!x->judged[i]) {
            explorer_fini(x);
            return -ENOMEM;
        }
    }
    return 0;
}

void explorer_fini(struct explorer *x)
{
    for (int i = 0; i <= DEPTH_MAX; i++) {
        recorder_fini(&x->recoveries[i]);
        seen_destroy(x->judged[i]);
    }
}

bool explore(struct explorer *x, const struct recorder *log,
             const struct model *model, uint64_t seed)
{
    if (image_init(&x->image, log->base, log->size) < 0) {
        snprintf(x->what, sizeof(x->what), "no memory for an image");
        x->failed = true;
        return false;
    }
    x->expected.model = model;
    x->expected.window = (struct window){1, 1};
    x->expected.phase = PHASE_OPEN;
    x->random = seed * 0x9e3779b97f4a7c15 | 1;
    return explore_layer(x, log, 0);
}
