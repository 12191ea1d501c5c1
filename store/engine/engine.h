/*
 * A durable key-value store: a library, and the engine of kvserver.
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

#define KV_MAX_KEY   65535       /* bytes */
#define KV_MAX_VALUE (1u << 30)  /* bytes; upper bound of max_value */
#define KV_MIN_POOL  (256 << 10) /* bytes; smallest pool that is created */

enum kv_result {
    KV_OK,
    KV_MISS,       /* absent, expired or flushed */
    KV_EXISTS,     /* present with another cas */
    KV_NOT_STORED, /* add on present; replace, append, prepend on absent */
    KV_TOO_LARGE,  /* key or value beyond the limits, or beyond the pool */
    KV_NO_SPACE,   /* store mode: full; cache mode: nothing could be evicted */
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

struct kv_options {
    uint64_t size; /* bytes of a pool to create if there is none; an existing
                    * pool keeps its size. 0: open existing only */
    enum kv_durability durability;
    bool evict;         /* cache mode: evict the least recently used */
    bool contiguous;    /* no value is stored in pieces, for who maps it */
    uint32_t max_value; /* bytes; 0 means 1 MiB */
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
};

/* One run of bytes of a value; zero it before the first kv_next_run(). */
struct kv_run {
    const void *bytes; /* borrowed as the value is */
    uint32_t len;      /* bytes */
    uint32_t end;      /* bytes of the value up to the end of this run */
    uint64_t next;     /* private */
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
    uint64_t get_expired;   /* lookups that met an expired item */
    uint64_t get_flushed;   /* lookups that met a flushed item */
    uint64_t commits;       /* pairs of fences, those inside calls included */
    uint64_t displacements; /* entries moved to make room in the table */
    uint64_t growths;       /* segments of the table written anew */
    uint64_t pieces;        /* values stored in pieces since open */
    uint64_t repaired;      /* damaged entries dropped by kv_open() */
    uint64_t cas;           /* the next cas id */
    const char *durability; /* "pmem", "sync" or "process" */
    bool was_clean;         /* the last user of the pool closed it */
    uint32_t max_value;     /* bytes */
};

struct kv_region_options {
    uint64_t size;  /* bytes to create if there is nothing; 0: open only */
    uint64_t grain; /* bytes of a grain of a new region, a power of two from
                     * 4 KiB to 32 MiB; 0: by its size */
    uint64_t room;  /* bytes that it may grow to while it is open */
    enum kv_durability durability;
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
 * sizes in whole grains. size 0: all that is free. A pool that is open cannot
 * be deleted; zero: its bytes are overwritten before they are free.
 */
int kv_pool_create(struct kv_region *region, const char *name, uint64_t size,
                   char *error, size_t error_size);
int kv_pool_delete(struct kv_region *region, const char *name, bool zero,
                   char *error, size_t error_size);

/* A pool that was not closed is recovered here. size and durability in the
 * options mean nothing: they are the region's. */
int kv_pool_open(struct kv_region *region, const char *name,
                 const struct kv_options *options, struct kv **out, char *error,
                 size_t error_size);

/* At least so many bytes more, out of what is free in the region. */
int kv_pool_grow(struct kv *kv, uint64_t more, char *error, size_t error_size);

/* Call visit for each pool until it returns false. */
typedef bool kv_pool_visit(void *context, const struct kv_pool_info *info);
void kv_pool_each(const struct kv_region *region, kv_pool_visit *visit,
                  void *context);

/* Open, or create, a file with one pool, "default", that has all of it. */
int kv_open(const char *path, const struct kv_options *options, struct kv **out,
            char *error, size_t error_size);

/* Commit, mark the pool clean, release everything. 0 or -errno; kv is gone
 * either way. NULL is allowed. */
int kv_close(struct kv *kv);

/* The clock, unix seconds; it stands still between calls. A value before the
 * last one is allowed and taken. Call it before the operations of a turn. */
void kv_set_time(struct kv *kv, uint32_t now);

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

/* KV_OK or KV_MISS; neither statistics nor the order of use change. */
enum kv_result kv_exists(struct kv *kv, const void *key, size_t klen);

/* Every value borrowed so far is given back; space waiting for it is free. */
void kv_unpin_all(struct kv *kv);

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
 * the right. flags and exptime stay. KV_MISS, KV_NOT_NUMBER. *value and *cas
 * (each may be NULL) are the new number and the new cas id.
 */
enum kv_result kv_arith(struct kv *kv, const void *key, size_t klen, bool incr,
                        uint64_t delta, uint64_t *value, uint64_t *cas);

/* At unix second `when` (now or before: at once) every item stored until then
 * is gone. A later call replaces one that has not come to pass. */
enum kv_result kv_flush_all(struct kv *kv, uint32_t when);

/*
 * Make everything since the last commit durable, under two fences; without
 * changes it costs nothing. KV_IO: the pool has failed, none of the turn's
 * operations may be acknowledged.
 */
enum kv_result kv_commit(struct kv *kv);

void kv_stats(const struct kv *kv, struct kv_statistics *out);

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

#pragma GCC visibility pop

#endif
