/*
 * Scripts of operations, one kind of operation each, that are run once under
 * the recorder. A seed decides everything: the same kind and seed give the
 * same log in every run.
 */
#ifndef TESTS_CRASH_SCRIPT_H
#define TESTS_CRASH_SCRIPT_H

#include "tests/crash/model.h"
#include "tests/crash/recorder.h"
#include "tests/crash/subject.h"

#define SCRIPT_TEXT  96
#define SCRIPT_BATCH 16

struct script {
    struct recorder log;
    struct model model;
    struct kv *kv;
    struct kv_region *region; /* NULL: kv has its own */
    int fd;
    char path[32];
    uint64_t random;
    bool cache;
    bool damaged; /* images may be repaired */
    size_t look;  /* the event of the last EVENT_LOOK */
    struct kv_statistics before;
    char (*texts)[SCRIPT_TEXT]; /* by operation: what it is, for people */
    uint32_t max_texts;
    char error[256]; /* the engine did what it must not: "" if not */
};

struct script_kind {
    const char *name;
    int keys;
    int stored; /* of them, before the first step */
    int steps;
    uint64_t size; /* bytes of the pool; 0: SUBJECT_POOL */
    bool cache;
    bool by_itself; /* step() opens the pool, and is called once */
    void (*step)(struct script *script);
};

/* The end has no name. A kind without step() is not there yet. */
extern const struct script_kind script_kinds[];

/* Run one. False: script->error says what went wrong. */
bool script_run(struct script *script, const struct script_kind *kind,
                uint64_t seed, struct sites *sites);
void script_fini(struct script *script);

/* For steps: one operation each, recorded and put into the model. */
uint32_t script_roll(struct script *script, uint32_t sides);
void script_open(struct script *script, uint64_t size);
void script_close(struct script *script);

/* A region with pools: keys n_keys and on of the model. */
void script_open_region(struct script *script, uint64_t size, uint64_t pool);
void script_abandon(struct script *script);
void script_pool_create(struct script *script, int k, uint64_t size);
void script_pool_delete(struct script *script, int k, bool zero);
void script_pool_grow(struct script *script, uint64_t more);
void script_region_grow(struct script *script, uint64_t size);
void script_look(struct script *script);
void script_skip(struct script *script);
void script_unlook(struct script *script); /* nothing of interest happened */
void script_commit(struct script *script);
void script_put(struct script *script, int k, uint32_t len);
/* By one call, which commits; SCRIPT_BATCH at most, a key more than once. */
void script_put_batch(struct script *script, const int *keys,
                      const uint32_t *lens, uint32_t n);
void script_modify(struct script *script, int k, uint32_t len);
void script_write(struct script *script, int k, uint32_t from, uint32_t len);
void script_number(struct script *script, int k);
void script_arith(struct script *script, int k);
/* The cas id is that of another pool. */
void script_restore(struct script *script, int k, uint32_t len, uint64_t cas);
void script_erase(struct script *script, int k);
void script_touch(struct script *script, int k);
void script_flush_all(struct script *script, uint32_t when);
void script_wrong(struct script *script, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Some key that is there, or that is not; -1: none. */
int script_pick(struct script *script, bool present);

#endif
