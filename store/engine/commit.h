/*
 * The words that make a turn true.
 *
 * Contents may be written at any time into places that nothing durable names.
 * The words that name them are kept here until commit_run(): it fences, so
 * that the contents are durable, then stores and flushes all words and fences
 * again. Until then commit_read() tells what a word will be; whoever reads
 * such a word asks here.
 */
#ifndef STORE_ENGINE_COMMIT_H
#define STORE_ENGINE_COMMIT_H

#include "store/pm/persist.h"

#define COMMIT_MAX   1024 /* words between two commits */
#define COMMIT_INDEX (4 * COMMIT_MAX)

struct commit_word {
    uint64_t *at; /* in persistent memory; NULL: dropped */
    uint64_t value;
    uint32_t idx; /* its place in index[] */
};

struct commit {
    struct pm *pm;
    uint32_t n;       /* words, dropped ones included */
    uint32_t n_loose; /* of these, by commit_write_loose() */
    uint64_t runs;    /* pairs of fences since commit_init() */
    uint64_t lines;   /* that they flushed: one for each word */
    struct commit_word words[COMMIT_MAX];
    uint16_t index[COMMIT_INDEX]; /* by address: 1 + number of a word, or 0 */
};

void commit_init(struct commit *commit, struct pm *pm);

/* Words that can still be added before a run is due. */
static inline uint32_t commit_room(const struct commit *commit)
{
    return COMMIT_MAX - commit->n;
}

/* The word waiting for this address, or NULL. */
struct commit_word *commit_find(struct commit *commit, const uint64_t *at);

static inline uint64_t commit_read(struct commit *commit, const uint64_t *at)
{
    if (commit->n == 0)
        return *at;
    struct commit_word *word = commit_find(commit, at);
    return word ? word->value : *at;
}

/* Needs room for one. A later write to the same address replaces an earlier. */
void commit_write(struct commit *commit, uint64_t *at, uint64_t value);

/* The same with some bits of what the word will be. */
void commit_change(struct commit *commit, uint64_t *at, uint64_t clear,
                   uint64_t set);

/* As commit_write(), for words that are seldom written, often read or dropped:
 * the latter two cost nothing while there are none. */
void commit_write_loose(struct commit *commit, uint64_t *at, uint64_t value);

static inline uint64_t commit_read_loose(struct commit *commit,
                                         const uint64_t *at)
{
    return commit->n_loose == 0 ? *at : commit_read(commit, at);
}

/* Forget what waits for this address, after commit_write_loose(). */
void commit_drop(struct commit *commit, const uint64_t *at);

/* 0 or -errno; then nothing is known to be durable. */
int commit_run(struct commit *commit);

#endif
