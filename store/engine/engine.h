/*
 * A durable key-value store: a library, and the engine of kvserver. The same
 * calls serve a store in memory only, with the same outcomes.
 *
 * A region (a file, or a DAX device) holds pools; a pool holds items. Happy
 * path: kv_region_open(), kv_pool_create() once, kv_pool_open(); or kv_open(),
 * which does all three for a file with one pool. Then per turn kv_set_time(),
 * any number of operations, one kv_commit(); at last kv_close(). An operation
 * is seen by the next one at once, but it is durable, and may be acknowledged,
 * only after kv_commit() has returned KV_OK. After a crash each operation that
 * was not committed is found whole or not at all.
 *
 * A region and its pools belong to one thread, and there are no locks. What
 * returns int returns 0 or -errno and then says in *error, in one sentence,
 * what was expected and what to do; nothing has changed. Operations return
 * enum kv_result; outputs are set only with KV_OK unless said otherwise. Keys
 * are 1 to KV_MAX_KEY bytes of any content and need no terminator; key and
 * value arguments are borrowed for the call only.
 */
#ifndef STORE_ENGINE_ENGINE_H /* installed as <kvpool.h> */
#define STORE_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)

#define KV_MAX_KEY   (64u << 10) /* bytes */
#define KV_MAX_VALUE (1u << 30)  /* bytes; upper bound of max_value */
#define KV_MIN_POOL  (256 << 10) /* bytes; smallest region that is created */

enum kv_result {
    KV_OK,
    KV_MISS,       /* absent, expired or flushed */
    KV_EXISTS,     /* present with another cas */
    KV_NOT_STORED, /* add on present; replace, append, prepend on absent */
    KV_TOO_LARGE,  /* to be stored: key or value beyond the limits, or beyond
                    * the pool; to look for such a key is a KV_MISS */
    KV_NO_SPACE,   /* store mode: full; cache mode: nothing could be evicted;
                    * or no cas id is left, after 2^62 of them */
    KV_NOT_NUMBER, /* incr or decr of something else */
    KV_IO          /* the pool has failed: nothing more is promised, close it */
};

enum kv_mode { KV_SET, KV_ADD, KV_REPLACE, KV_APPEND, KV_PREPEND, KV_CAS };

enum kv_durability {
    KV_DURABILITY_DEFAULT, /* pmem on persistent memory; else process, with
                            * one warning line */
    KV_DURABILITY_PMEM,    /* survives power loss; refused when not on PM */
    KV_DURABILITY_SYNC,    /* survives power loss on any medium, by msync */
    KV_DURABILITY_PROCESS  /* survives kill -9, not power loss */
};

/* What keeps the items. */
enum kv_engine {
    KV_ENGINE_DURABLE, /* a pool in a region */
    KV_ENGINE_MEMORY   /* memory of this process, and they end with it */
};

/*
 * What becomes of SIGBUS, which the kernel sends when a file was cut short
 * under its mapping, or when its medium fails. Guarded: the call that meets it
 * returns KV_IO, or nothing where it returns no result; so do all after it on
 * that region, and its file is left as it is. Memory that the call had taken
 * for itself is not given back. That needs a handler of SIGBUS
 * for the whole process; faults elsewhere go on to the one there was before.
 */
enum kv_guard {
    KV_GUARD_NONE,   /* SIGBUS ends the process, if nobody catches it */
    KV_GUARD_ZEROES, /* who reads a borrowed value, outside of any call, then
                      * reads zeroes; the next call says KV_IO */
    KV_GUARD_EXIT    /* there the process ends: a sentence on standard error,
                      * status 1 */
};

struct kv_options {
    uint64_t size; /* bytes of a pool to create if there is none; an existing
                    * pool keeps its size. 0: open existing only. In memory:
                    * bytes of items and table together */
    enum kv_durability durability;
    bool evict;            /* cache mode: evict the least recently used */
    bool contiguous;       /* no value is stored in pieces, for who maps it */
    uint32_t max_value;    /* bytes; 0 means 1 MiB */
    enum kv_engine engine; /* of kv_open(); a pool of a region is durable */
    enum kv_guard guard;   /* of kv_open(); a pool of a region: the region's */
    bool own_thread; /* of a pool of a region: its thread may be another one
                      * than that of the others, see kv_pool_open() */
};

struct kv_item {
    const void *value; /* borrowed: see kv_get(); NULL: it is in pieces, see
                        * kv_next_run() */
    uint32_t len;      /* bytes of value */
    uint32_t flags;    /* the client's, opaque */
    uint32_t exptime;  /* unix seconds, 0 = never */
    uint64_t cas;      /* unique and rising, also across restarts */
    uint64_t chain;    /* private */
    uint32_t skip;     /* private */
    uint32_t shard;    /* private */
    void *held;        /* private */
};

/* One run of bytes of a value; zero it before the first kv_next_run(). */
struct kv_run {
    const void *bytes; /* borrowed as the value is */
    uint32_t len;      /* bytes */
    uint32_t end;      /* bytes of the value up to the end of this run */
    uint64_t next;     /* private */
};

/* One put of a batch: the arguments of kv_store(), by their names, and what it
 * has given. With all zero but key, value and their lengths it is a plain put:
 * KV_SET. */
struct kv_put {
    const void *key; /* borrowed for the call */
    size_t klen;
    const void *value; /* borrowed for the call */
    size_t len;
    uint64_t cas;
    uint32_t flags;
    uint32_t exptime;
    enum kv_mode mode;
    enum kv_result result; /* set by the call */
    uint64_t cas_out;      /* the same, with KV_OK */
    struct kv_put *next;   /* private */
};

/* Space for a value that is received straight into the pool. */
struct kv_reservation {
    void *buffer;    /* write len bytes here before kv_publish(); NULL: the
                      * room is in pieces, see kv_reserved() */
    uint32_t len;    /* bytes, as asked for */
    uint32_t prefix; /* private: room for the key before buffer */
    uint64_t offset; /* private: place of the blob in the pool */
};

struct kv_statistics {
    uint64_t items;         /* present, expired ones not yet swept included */
    uint64_t total_items;   /* stored since open */
    uint64_t bytes;         /* keys and values of items */
    uint64_t pool_size;     /* bytes; of a file with one pool all of them */
    uint64_t table_entries; /* places for items */
    uint64_t heap_size;     /* bytes for keys and values that are not inline */
    uint64_t heap_free;     /* bytes of it that can be allocated now */
    uint64_t evictions;     /* valid items removed to make room */
    uint64_t reclaimed;     /* expired or flushed items removed */
    uint64_t get_hits;      /* by kv_get(), kv_read() and kv_hold() */
    uint64_t get_misses;
    uint64_t get_expired;   /* lookups that met an expired item */
    uint64_t get_flushed;   /* lookups that met a flushed item */
    uint64_t commits;       /* pairs of fences, those inside calls included */
    uint64_t displacements; /* entries moved to make room in the table */
    uint64_t growths;       /* segments of the table written anew, larger */
    uint64_t shrinks;       /* the same, smaller */
    uint64_t pieces;        /* values stored in pieces since open */
    uint64_t repaired;      /* damaged entries dropped since open */
    uint64_t cas;           /* the next cas id */
    const char *durability; /* "pmem", "sync", "process"; in memory "none" */
    bool was_clean;         /* the last user of the pool closed it */
    uint32_t max_value;     /* bytes */
    uint64_t scan_left;     /* places that opening has left for later; 0: all
                             * of the pool has been looked at */
    uint64_t total_bytes;   /* keys and values of total_items */
    uint64_t fences;        /* since open, also those of other pools of the
                             * region without own_thread */
    uint64_t flushed;       /* bytes of cache lines written back, as fences:
                             * by total_bytes the write amplification */
};

/* What writes to a pool. The last five make room, or keep order, within a call
 * that is counted by itself. */
enum kv_kind {
    KV_KIND_INSERT,   /* a put of a key that was absent */
    KV_KIND_REPLACE,  /* of one that was present */
    KV_KIND_JOIN,     /* append and prepend: stored is all of the new value */
    KV_KIND_NUMBER,   /* kv_arith() */
    KV_KIND_TOUCH,    /* kv_touch() */
    KV_KIND_DELETE,   /* kv_delete() */
    KV_KIND_FLUSH,    /* kv_flush_all() */
    KV_KIND_EXPIRE,   /* an expired or flushed item was removed */
    KV_KIND_EVICT,    /* a valid one was, to make room */
    KV_KIND_DISPLACE, /* an entry was moved within the table */
    KV_KIND_GROW,     /* a segment of the table was written, or anew, larger */
    KV_KIND_SHRINK,   /* the same, smaller */
    KV_KINDS
};

/* What operations of a kind have cost the medium since the pool was opened. */
struct kv_cost {
    uint64_t n;      /* of them that are durable */
    uint64_t stored; /* bytes of the keys and values that they wrote */
    double flushed;  /* bytes of cache lines: what they wrote themselves, and
                      * their parts of the commits that made them durable */
    double fences;   /* their parts: 2 of each, by how many shared it */
};

struct kv_region_options {
    uint64_t size;  /* bytes to create if there is nothing; 0: open only */
    uint64_t grain; /* bytes of a grain of a new region, a power of two from
                     * 4 KiB to 32 MiB; 0: by its size */
    uint64_t room;  /* bytes that it may grow to while it is open */
    enum kv_durability durability;
    enum kv_guard guard;
};

/* What kv_pool_each() tells. */
struct kv_pool_info {
    const char *name; /* borrowed for the call */
    uint64_t size;    /* bytes */
    uint64_t created; /* unix seconds */
    bool open;        /* by this program */
    bool clean;       /* closed in order */
};

struct kv_region;
struct kv;

/* One program has a region open at a time. All its pools are closed before
 * it; NULL is allowed. */
int kv_region_open(const char *path, const struct kv_region_options *options,
                   struct kv_region **out, char *error, size_t error_size);
int kv_region_close(struct kv_region *region);

/* Make it so many bytes long, while pools are open. */
int kv_region_grow(struct kv_region *region, uint64_t size, char *error,
                   size_t error_size);

/* Bytes that no pool has. */
uint64_t kv_region_free(const struct kv_region *region);

/*
 * Pools have names of 1 to 87 bytes without spaces and control characters, and
 * sizes in whole grains: four pages at least, in which the table begins. size
 * 0: all that is free. A pool that is open cannot be deleted; zero: its bytes
 * are overwritten before they are free.
 */
int kv_pool_create(struct kv_region *region, const char *name, uint64_t size,
                   char *error, size_t error_size);
int kv_pool_delete(struct kv_region *region, const char *name, bool zero,
                   char *error, size_t error_size);

/*
 * A pool that was not closed is recovered here. size and durability in the
 * options mean nothing: they are the region's. With own_thread operations on
 * this pool may run while other threads have other pools of the region that
 * were opened so; whatever opens, closes, grows, creates or deletes is still
 * done by one thread at a time.
 */
int kv_pool_open(struct kv_region *region, const char *name,
                 const struct kv_options *options, struct kv **out, char *error,
                 size_t error_size);

/* At least so many bytes more, out of what is free in the region. */
int kv_pool_grow(struct kv *kv, uint64_t more, char *error, size_t error_size);

/* Call visit for each pool until it returns false. */
typedef bool kv_pool_visit(void *context, const struct kv_pool_info *info);
void kv_pool_each(const struct kv_region *region, kv_pool_visit *visit,
                  void *context);

/* Open, or create, a file with one pool, "default", that has all of it. With
 * KV_ENGINE_MEMORY there is no file: path is only a word for sentences, NULL
 * is allowed, and kv_commit() ends a turn and always succeeds. */
int kv_open(const char *path, const struct kv_options *options, struct kv **out,
            char *error, size_t error_size);

/* Commit, mark the pool clean, release everything. 0 or -errno; kv is gone
 * either way. NULL is allowed. */
int kv_close(struct kv *kv);

/* The clock, unix seconds; it stands still between calls. A value before the
 * last one is allowed and taken. Call it before the operations of a turn. */
void kv_set_time(struct kv *kv, uint32_t now);

/*
 * Begin to load what a call about this key needs; store: a call that stores it.
 * Whoever knows several keys gives such hints for all of them before the first
 * call, so that the misses of the caches overlap. Nothing else happens. For
 * puts only, kv_store_batch() does it by itself.
 */
void kv_hint(struct kv *kv, const void *key, size_t klen, bool store);

/*
 * Find an item. out->value is borrowed and its bytes do not change, whatever
 * happens to the item meanwhile, until the SECOND kv_commit() from now or the
 * next kv_unpin_all(), whichever comes first. So this is right without a copy:
 * kv_get(), other operations, kv_commit(), writev() from out->value, and
 * kv_unpin_all() or the next turn. Not needed beyond that: copy it.
 */
enum kv_result kv_get(struct kv *kv, const void *key, size_t klen,
                      struct kv_item *out);

/*
 * A value lies in several pieces when there was no free run of its size. This
 * gives one after the other, of any value that kv_get() found, as long as it
 * is borrowed; false at the end.
 */
bool kv_next_run(const struct kv *kv, const struct kv_item *item,
                 struct kv_run *run);

/* Copy len bytes of such a value from that offset on; bytes copied. */
size_t kv_copy_value(const struct kv *kv, const struct kv_item *item,
                     size_t from, void *to, size_t len);

/*
 * Copy up to size bytes of a value from that offset on. Nothing is borrowed.
 * out, which may be NULL, gets all but the value: out->len - from says how
 * many bytes there were.
 */
enum kv_result kv_read(struct kv *kv, const void *key, size_t klen, size_t from,
                       void *buffer, size_t size, struct kv_item *out);

/* KV_OK or KV_MISS; neither statistics nor the order of use change. */
enum kv_result kv_exists(struct kv *kv, const void *key, size_t klen);

/* The same, and *out gets length, flags, exptime and cas; no value. */
enum kv_result kv_attributes(struct kv *kv, const void *key, size_t klen,
                             struct kv_item *out);

/* Items; expired ones that nobody has met yet are among them. */
uint64_t kv_count(const struct kv *kv);

/* Every value borrowed so far is given back; space waiting for it is free. */
void kv_unpin_all(struct kv *kv);

/*
 * As kv_get(), for longer: the bytes do not change until kv_release() is given
 * the same struct, whatever happens to the item and however many turns pass.
 * Space that is held cannot be used otherwise. All must be released before
 * kv_close().
 */
enum kv_result kv_hold(struct kv *kv, const void *key, size_t klen,
                       struct kv_item *out);
void kv_release(struct kv *kv, struct kv_item *item);

/*
 * Store an item. exptime: absolute unix seconds, 0 = never; APPEND and PREPEND
 * keep flags and exptime of the item. cas: KV_CAS always compares it (KV_MISS
 * when absent, KV_EXISTS when it differs); the other modes compare it when it
 * is not 0 and the item is present. cas_out may be NULL.
 */
enum kv_result kv_store(struct kv *kv, enum kv_mode mode, const void *key,
                        size_t klen, uint32_t flags, uint32_t exptime,
                        uint64_t cas, const void *value, size_t len,
                        uint64_t *cas_out);

/*
 * Store len bytes at that offset of a value that is there; the rest of it,
 * flags and exptime stay. Behind its end it grows, and a gap is zeroes. As any
 * store it is a new value, whole or not at all. cas, unless 0, is compared.
 * KV_MISS, KV_EXISTS, and as kv_store().
 */
enum kv_result kv_write(struct kv *kv, const void *key, size_t klen,
                        size_t from, const void *bytes, size_t len,
                        uint64_t cas, uint64_t *cas_out);

/*
 * Reserve room for a value of len bytes under a key of klen bytes, to be
 * filled over any number of turns. Nothing is visible or durable before
 * kv_publish(), which flushes the bytes itself and then behaves as kv_store().
 * kv_publish() consumes the reservation whatever it returns; kv_cancel() gives
 * it back. All must be gone before kv_close(). KV_TOO_LARGE, KV_NO_SPACE.
 */
enum kv_result kv_reserve(struct kv *kv, size_t klen, size_t len,
                          struct kv_reservation *out);
enum kv_result kv_publish(struct kv *kv, struct kv_reservation *reservation,
                          enum kv_mode mode, const void *key, size_t klen,
                          uint32_t flags, uint32_t exptime, uint64_t cas,
                          uint64_t *cas_out);
/* Where the bytes of the value from that offset on go, and room for how many:
 * for a reservation of either kind. */
void *kv_reserved(const struct kv *kv, const struct kv_reservation *reservation,
                  size_t from, size_t *room);
void kv_cancel(struct kv *kv, struct kv_reservation *reservation);

/* KV_OK or KV_MISS. */
enum kv_result kv_delete(struct kv *kv, const void *key, size_t klen);

/* New exptime (absolute unix seconds, 0 = never); the cas id stays. */
enum kv_result kv_touch(struct kv *kv, const void *key, size_t klen,
                        uint32_t exptime);

/*
 * memcached's incr and decr: an unsigned 64-bit decimal number; incr wraps,
 * decr stops at 0; a result shorter than the old text is padded with spaces on
 * the right; a value of more than 512 KiB is none. flags and exptime stay.
 * KV_MISS, KV_NOT_NUMBER, KV_NO_SPACE. *value and *cas
 * (each may be NULL) are the new number and the new cas id.
 */
enum kv_result kv_arith(struct kv *kv, const void *key, size_t klen, bool incr,
                        uint64_t delta, uint64_t *value, uint64_t *cas);

/*
 * Called for each valid item that a cache removes to make room, with all of
 * it; key, item and value are borrowed for the call. It runs at the end of the
 * public call that needed the room, in the order of the evictions; one of
 * kv_commit() after the turn is durable, so that its puts are of the next.
 *
 * It may call anything on this store but kv_close(). What its own
 * puts evict is told after it, not within, up to KV_EVICT_DEPTH deep; beyond
 * that, and when there is no memory for the copy, an item goes untold.
 */
#define KV_EVICT_DEPTH 8
typedef void kv_evicted(void *context, const void *key, size_t klen,
                        const struct kv_item *item);

/*
 * Called when kv_get(), kv_read() or kv_hold() finds nothing, but not from
 * within itself.
 * It may call what the one above may; key is borrowed. False: the store is
 * asked once more, so that an item which was put meanwhile is found. True, not
 * for kv_hold(): *out is the answer, filled in by the callback whether it
 * could put it or not; out->value stays readable as long as the callback says.
 */
typedef bool kv_missed(void *context, const void *key, size_t klen,
                       struct kv_item *out);

/* NULL: nothing is called any more. 0 or -ENOMEM. Not from a callback. */
int kv_on_evict(struct kv *kv, kv_evicted *call, void *context);
int kv_on_miss(struct kv *kv, kv_missed *call, void *context);

/* At unix second `when` (now or before: at once) every item stored until then
 * is gone. A later call replaces one that has not come to pass. */
enum kv_result kv_flush_all(struct kv *kv, uint32_t when);

/*
 * Make everything since the last commit durable, under two fences; without
 * changes it costs nothing. KV_IO: the pool has failed, none of the turn's
 * operations may be acknowledged.
 */
enum kv_result kv_commit(struct kv *kv);

/*
 * n calls of kv_store(), in the order of the array, and kv_commit(); but what
 * the puts to come need is loaded meanwhile, as kv_hint() does it, so that this
 * is the fast way to store many small items. A hundred share two fences, unless
 * room has to be made; of thousands the first are committed on the way.
 *
 * All else is as in those calls. A put sees those before it, of the same key
 * too, and what it evicts is told before the next. One that fails says why in
 * its result, its item stays as it was, and the others go on. After a crash
 * within the call each put is found whole or not at all.
 *
 * KV_OK: all are stored and durable. KV_IO: the commit has failed, and that is
 * the result of each. Otherwise the first result that is no KV_OK; those that
 * say KV_OK are durable. n may be 0.
 */
enum kv_result kv_store_batch(struct kv *kv, struct kv_put *batch, size_t n);

/*
 * A pool that was closed in order is open at once; that all of it is looked at
 * is left for later. Until then puts use grains that were empty, and what was
 * deleted or evicted since. Each kv_commit() does some of it, and so does this
 * call, in well below a millisecond, for who has nothing else to do; true:
 * there is more. Without it nothing is wrong.
 */
bool kv_catch_up(struct kv *kv);

void kv_stats(const struct kv *kv, struct kv_statistics *out);

/*
 * out[kind] is what the operations of that kind have cost; in memory all is 0.
 * n is of what is durable; what the operations of a turn have stored and
 * flushed is told at once. All kinds together are the fences and bytes of
 * kv_stats(), but for what opening and closing take and a cache line for each
 * 2^20 puts. The name of a kind is one word.
 */
void kv_costs(const struct kv *kv, struct kv_cost out[KV_KINDS]);
const char *kv_kind_name(enum kv_kind kind);

/* Call visit for each valid item, in no order, until it returns false. The
 * arguments are borrowed for that call; visit must not change the store. */
typedef bool kv_visit(void *context, const void *key, size_t klen,
                      const struct kv_item *item);
void kv_each(struct kv *kv, kv_visit *visit, void *context);

/*
 * The same bit by bit: visits some hundred items, 2048 at most, and gives the
 * cursor for the next call, 0 at the end or when visit says false. The first
 * cursor is 0. Between two calls the store may change as it likes: an item
 * that is there all the time is visited once.
 */
uint64_t kv_scan(struct kv *kv, uint64_t cursor, kv_visit *visit,
                 void *context);

/*
 * The same for programs with threads: N shards, each a pool with a lock of its
 * own, in one file or in memory; the hash of a key says which.
 *
 * Any thread may make any call but kv_shared_close(), and the ones that set
 * callbacks, which are for a time when no other thread is inside. What is not
 * said here is as in the call of the same name above. A change is durable on
 * return, unless batch is set: then after kv_shared_commit(). Its result is
 * KV_IO when it could not be made durable.
 */
#define KV_MAX_SHARDS 128 /* 32 in a file of less than 64 MiB */

struct kv_shared_options {
    uint32_t shards; /* of a new file; 0: as many as there are CPUs. A file
                      * keeps the number that it was made with */
    bool batch;      /* changes become durable by kv_shared_commit() */
    uint64_t room;   /* bytes that the file may grow to while it is open */
    struct kv_options pool; /* of each; but size is that of all together */
};

struct kv_shared;

/* path: as of kv_open(). */
int kv_shared_open(const char *path, const struct kv_shared_options *options,
                   struct kv_shared **out, char *error, size_t error_size);
int kv_shared_close(struct kv_shared *shared);
uint32_t kv_shared_shards(const struct kv_shared *shared);

/*
 * At least so many bytes more for all together, as evenly as may be; a file
 * gets larger by what it has not got free. Others wait meanwhile. What fails in
 * the middle leaves some shards larger than others; the next call begins with
 * the smaller ones. 0 or -errno.
 */
int kv_shared_grow(struct kv_shared *shared, uint64_t more, char *error,
                   size_t error_size);

/* Call it now and then; until the first call it is the time of opening. */
void kv_shared_set_time(struct kv_shared *shared, uint32_t now);

/* Copies up to size bytes of the value from that offset on; out, which may be
 * NULL, gets all but the value: out->len - from says how many there were. */
enum kv_result kv_shared_get(struct kv_shared *shared, const void *key,
                             size_t klen, size_t from, void *buffer,
                             size_t size, struct kv_item *out);

/* Without a copy: readable by any thread, until one of them releases it. */
enum kv_result kv_shared_hold(struct kv_shared *shared, const void *key,
                              size_t klen, struct kv_item *out);
void kv_shared_release(struct kv_shared *shared, struct kv_item *item);
bool kv_shared_next_run(const struct kv_shared *shared,
                        const struct kv_item *item, struct kv_run *run);

enum kv_result kv_shared_exists(struct kv_shared *shared, const void *key,
                                size_t klen);
enum kv_result kv_shared_store(struct kv_shared *shared, enum kv_mode mode,
                               const void *key, size_t klen, uint32_t flags,
                               uint32_t exptime, uint64_t cas,
                               const void *value, size_t len,
                               uint64_t *cas_out);
/* Shard by shard: of the puts of one, in the order of the array, each shard has
 * its lock once and commits once. Threads may see those of one shard before
 * those of another. KV_IO is the result of those whose shard has failed. */
enum kv_result kv_shared_store_batch(struct kv_shared *shared,
                                     struct kv_put *batch, size_t n);
enum kv_result kv_shared_delete(struct kv_shared *shared, const void *key,
                                size_t klen);
enum kv_result kv_shared_touch(struct kv_shared *shared, const void *key,
                               size_t klen, uint32_t exptime);
enum kv_result kv_shared_arith(struct kv_shared *shared, const void *key,
                               size_t klen, bool incr, uint64_t delta,
                               uint64_t *value, uint64_t *cas);

/* Several calls as one: call has the shard of that key for itself, as a store
 * of its own, and makes no kv_shared call. Its result is the result. */
typedef enum kv_result kv_shared_call(void *context, struct kv *kv);
enum kv_result kv_shared_run(struct kv_shared *shared, const void *key,
                             size_t klen, kv_shared_call *call, void *context);

/* On all shards, one after the other; the first result that is no KV_OK. */
enum kv_result kv_shared_flush_all(struct kv_shared *shared, uint32_t when);
enum kv_result kv_shared_commit(struct kv_shared *shared);

/* Sums; of cas the largest. */
void kv_shared_stats(struct kv_shared *shared, struct kv_statistics *out);
void kv_shared_costs(struct kv_shared *shared, struct kv_cost out[KV_KINDS]);

/* visit is called with a shard locked: it makes no kv_shared call. */
uint64_t kv_shared_scan(struct kv_shared *shared, uint64_t cursor,
                        kv_visit *visit, void *context);

/* Callbacks run in the thread whose call caused them, without a lock, and may
 * make any call but these and kv_shared_close(). */
int kv_shared_on_evict(struct kv_shared *shared, kv_evicted *call,
                       void *context);
void kv_shared_on_miss(struct kv_shared *shared, kv_missed *call,
                       void *context);

#pragma GCC visibility pop

#endif
