/*
 * What a store may hold after a crash.
 *
 * Operations have numbers. Each key has the states that operations gave it, in
 * order; a state that nobody acknowledged may be there or not. A crash happens
 * in a window: operations below `acked` are acknowledged, those from `begun`
 * on have not begun. Then a key has the last state below acked, or any of
 * those in between.
 */
#ifndef TESTS_CRASH_MODEL_H
#define TESTS_CRASH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_NAME   248
#define MODEL_POOLS  6 /* "default", "pool1", ... */
#define MODEL_SECRET "what nobody may read afterwards " /* twice */

struct state {
    uint32_t op; /* that made it */
    bool present;
    bool by_flush; /* absent since all is */
    uint32_t len;
    uint32_t flags;
    uint32_t exptime;
    uint64_t cas;
    unsigned char *bytes;
};

struct key {
    char name[MODEL_NAME];
    size_t len;
    bool here;            /* scratch: seen by a walk */
    struct state *states; /* [0]: absent, operation 0 */
    int n, max;
};

/* A flush_all for later; when 0: there is none any more. */
struct flush_mark {
    uint32_t op;
    uint32_t when; /* unix seconds */
};

struct model {
    struct key *keys;
    int n_keys;
    int n_pools;         /* keys[n_keys] and on: pools, flags are their pages */
    uint64_t region;     /* bytes of the region for pools; 0: it has only one */
    uint32_t grown;      /* operation that makes the region larger; 0: none */
    uint64_t grown_by;   /* by so many bytes for pools */
    int secret_pool;     /* key of the pool that has it; 0: none */
    uint32_t secret_end; /* the pool that has this operation is another one */
    uint32_t zeroed;     /* operation that overwrites the secret; 0: none */
    uint32_t ops;        /* numbers given so far; the first is 1 */
    uint32_t acked;      /* operations below it */
    bool cache; /* an item may be evicted by an operation in the window */
    struct flush_mark *flushes;
    int n_flushes;
    uint64_t *cas; /* by operation: the id that was given, or 0 */
    uint32_t max_cas;
};

struct window {
    uint32_t acked;
    uint32_t begun;
};

/* Names of n keys of all lengths, each ending in its number. */
void model_init(struct model *model, int n_keys);
void model_fini(struct model *model);

/* The number of a pool's name as a key, or -1 when it is no pool of ours. */
int model_find_pool(const struct model *model, const char *name);

/* The number in a name, or -1 when it is no key of the model. */
int model_find(const struct model *model, const void *name, size_t len);

/* The number of a new operation. */
uint32_t model_begin(struct model *model);

/* The state that the operation gives a key, or takes part in; bytes are taken
 * over and freed by the model. */
void model_add(struct model *model, int k, const struct state *state);
void model_add_flush(struct model *model, uint32_t op, uint32_t when);
void model_give_cas(struct model *model, uint32_t op, uint64_t cas);

/* The newest state of a key. */
const struct state *model_now(const struct model *model, int k);

/* Whether a key may have this state; NULL: be absent. */
bool model_allows(const struct model *model, struct window window, int k,
                  const struct state *found);

/* Whether a region may have so many bytes for pools. */
bool model_allows_region(const struct model *model, struct window window,
                         uint64_t bytes);

/* Whether an operation in the window changed it. */
bool model_changed(const struct model *model, struct window window, int k);

/* The key was there, and only a flush of the window may have removed it. */
bool model_flush_only(const struct model *model, struct window window, int k);

/* Times of a flush to come: the lowest and the highest that may be set. */
void model_flush_range(const struct model *model, struct window window,
                       uint32_t *low, uint32_t *high);

/* The highest cas id that was acknowledged. */
uint64_t model_cas(const struct model *model, struct window window);

#endif
