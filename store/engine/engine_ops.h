/*
 * An engine as a table of functions. The public calls of engine.h go through
 * it, so that who opens a store chooses what keeps it.
 *
 * There are two engines: the durable one, a pool in a region (durable.h), and
 * one in memory only (memory.h). The contract of each function is that of the
 * public call of its name in engine.h.
 */
#ifndef STORE_ENGINE_ENGINE_OPS_H
#define STORE_ENGINE_ENGINE_OPS_H

#include "store/engine/engine.h"

struct kv_ops {
    const char *name;
    int (*close)(struct kv *kv);
    void (*fail)(struct kv *kv); /* KV_IO from now on; NULL: it cannot */
    int (*grow)(struct kv *kv, uint64_t more, char *error, size_t error_size);
    void (*set_time)(struct kv *kv, uint32_t now);
    void (*hint)(struct kv *kv, const void *key, size_t klen,
                 bool store); /* NULL: of no use */
    enum kv_result (*get)(struct kv *kv, const void *key, size_t klen,
                          struct kv_item *out);
    /* used: it counts as a use, or a miss; else it is a look only. */
    enum kv_result (*read)(struct kv *kv, const void *key, size_t klen,
                           bool used, size_t from, void *buffer, size_t size,
                           struct kv_item *out);
    enum kv_result (*exists)(struct kv *kv, const void *key, size_t klen);
    bool (*next_run)(const struct kv *kv, const struct kv_item *item,
                     struct kv_run *run);
    size_t (*copy_value)(const struct kv *kv, const struct kv_item *item,
                         size_t from, void *to, size_t len);
    void (*unpin_all)(struct kv *kv);
    enum kv_result (*hold)(struct kv *kv, const void *key, size_t klen,
                           struct kv_item *out);
    void (*release)(struct kv *kv, struct kv_item *item);
    enum kv_result (*store)(struct kv *kv, enum kv_mode mode, const void *key,
                            size_t klen, uint32_t flags, uint32_t exptime,
                            uint64_t cas, const void *value, size_t len,
                            uint64_t *cas_out);
    enum kv_result (*reserve)(struct kv *kv, size_t klen, size_t len,
                              struct kv_reservation *out);
    enum kv_result (*publish)(struct kv *kv, struct kv_reservation *reservation,
                              enum kv_mode mode, const void *key, size_t klen,
                              uint32_t flags, uint32_t exptime, uint64_t cas,
                              uint64_t *cas_out);
    void *(*reserved)(const struct kv *kv,
                      const struct kv_reservation *reservation, size_t from,
                      size_t *room);
    void (*cancel)(struct kv *kv, struct kv_reservation *reservation);
    enum kv_result (*delete)(struct kv *kv, const void *key, size_t klen);
    enum kv_result (*touch)(struct kv *kv, const void *key, size_t klen,
                            uint32_t exptime);
    enum kv_result (*arith)(struct kv *kv, const void *key, size_t klen,
                            bool incr, uint64_t delta, uint64_t *value,
                            uint64_t *cas);
    enum kv_result (*flush_all)(struct kv *kv, uint32_t when);
    enum kv_result (*commit)(struct kv *kv);
    bool (*catch_up)(struct kv *kv); /* NULL: there is nothing */
    void (*stats)(const struct kv *kv, struct kv_statistics *out);
    void (*costs)(const struct kv *kv,
                  struct kv_cost out[KV_KINDS]); /* NULL: there are none */
    uint64_t (*scan)(struct kv *kv, uint64_t cursor, kv_visit *visit,
                     void *context);
};

struct watch;
struct guarded;

/* What the state of every engine begins with. */
struct kv_head {
    const struct kv_ops *ops; /* the engine's, or what stands before them */
    struct watch *watch;      /* callbacks; NULL: none */
    struct guarded *guarded;  /* against a cut file; NULL: not */
};

static inline struct kv_head *kv_head_of(struct kv *kv)
{
    return (struct kv_head *)(void *)kv;
}

static inline const struct kv_ops *kv_ops_of(const struct kv *kv)
{
    return ((const struct kv_head *)(const void *)kv)->ops;
}

#endif
