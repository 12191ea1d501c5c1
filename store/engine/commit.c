/*
 * A fixed array of words in order of arrival with an open-addressed index over
 * it. A dropped word keeps its place in the index, so that chains stay whole;
 * all of it goes at the next run.
 */
#include "store/engine/commit.h"

#include <assert.h>
#include <string.h>

void commit_init(struct commit *commit, struct pm *pm)
{
    memset(commit, 0, sizeof(*commit));
    commit->pm = pm;
}

static uint32_t home(const uint64_t *at)
{
    return (uint32_t)(((uintptr_t)at >> 3) * 0x9e3779b97f4a7c15u >> 32) %
           COMMIT_INDEX;
}

struct commit_word *commit_find(struct commit *commit, const uint64_t *at)
{
    uint32_t idx = home(at);
    while (commit->index[idx] != 0) {
        struct commit_word *word = &commit->words[commit->index[idx] - 1];
        if (word->at == at)
            return word;
        idx = (idx + 1) % COMMIT_INDEX;
    }
    return NULL;
}

/* The word waiting for this address; else a new one, with what is there. */
static struct commit_word *word_for(struct commit *commit, uint64_t *at)
{
    uint32_t idx = home(at);
    for (; commit->index[idx] != 0; idx = (idx + 1) % COMMIT_INDEX)
        if (commit->words[commit->index[idx] - 1].at == at)
            return &commit->words[commit->index[idx] - 1];
    assert(commit_room(commit) > 0);
    struct commit_word *word = &commit->words[commit->n];
    *word = (struct commit_word){at, *at, idx};
    commit->index[idx] = (uint16_t)++commit->n;
    return word;
}

void commit_write(struct commit *commit, uint64_t *at, uint64_t value)
{
    word_for(commit, at)->value = value;
}

void commit_change(struct commit *commit, uint64_t *at, uint64_t clear,
                   uint64_t set)
{
    struct commit_word *word = word_for(commit, at);
    word->value = (word->value & ~clear) | set;
}

void commit_write_loose(struct commit *commit, uint64_t *at, uint64_t value)
{
    commit_write(commit, at, value);
    commit->n_loose++;
}

void commit_drop(struct commit *commit, const uint64_t *at)
{
    struct commit_word *word =
        commit->n_loose > 0 ? commit_find(commit, at) : NULL;
    if (word)
        word->at = NULL;
}

int commit_run(struct commit *commit)
{
    int rc = pm_fence(commit->pm);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < commit->n; i++) {
        struct commit_word *word = &commit->words[i];
        commit->index[word->idx] = 0;
        if (!word->at) {
            commit->lines--;
            continue;
        }
        pm_store64(commit->pm, word->at, word->value);
        pm_flush(commit->pm, word->at, sizeof(*word->at));
    }
    commit->lines += commit->n;
    commit->n = 0;
    commit->n_loose = 0;
    commit->runs++;
    return pm_fence(commit->pm);
}
