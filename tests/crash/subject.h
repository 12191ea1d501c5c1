/*
 * The engine under test: all that the crash tests know of its insides is
 * here. The rest uses store/engine/engine.h.
 */
#ifndef TESTS_CRASH_SUBJECT_H
#define TESTS_CRASH_SUBJECT_H

#include "store/engine/engine.h"
#include "store/pm/persist.h"

#define SUBJECT_POOL  KV_MIN_POOL /* bytes; small pools are quick to recover */
#define SUBJECT_REACH 63          /* places of a bucket */
#define SUBJECT_NOW   1000        /* the clock of all tests, unix seconds */

/* size 0: an existing pool only. 0 or -errno and a sentence. */
int subject_open(const char *path, uint64_t size, bool cache,
                 const struct pm_hook *hook, struct kv **out, char *error,
                 size_t error_size);

/* The same for a region with a pool "default", which gets so many bytes; with
 * 0 and a size there is no pool, and *out is not set. */
int subject_open_region(const char *path, uint64_t size, uint64_t pool,
                        const struct pm_hook *hook, struct kv_region **region,
                        struct kv **out, char *error, size_t error_size);

/* Whether a region can be opened: 0, or -errno and a sentence. */
int subject_try_region(const char *path, const struct pm_hook *hook,
                       char *error, size_t error_size);

/* The region that a pool is in. */
struct kv_region *subject_region(struct kv *kv);

/* Past persist.h: the word of the first grain beyond the region's end is that
 * of its first grain, so a region that is larger has to clear it before. */
void subject_stray_word(struct kv_region *region);

/* Store an item with the cas id that it had in another pool. */
enum kv_result subject_restore(struct kv *kv, const void *key, size_t klen,
                               uint32_t flags, uint32_t exptime, uint64_t cas,
                               const void *value, size_t len);

/* An item of this new key makes another one move. */
bool subject_crowded(struct kv *kv, const void *key, size_t klen);

/* How far an item lies behind the bucket of a key; UINT32_MAX: elsewhere. */
uint32_t subject_distance(struct kv *kv, const void *key, size_t klen,
                          const void *item, size_t item_len);

/* Close without a word to the pool, as a crash does. */
void subject_abandon(struct kv *kv);

/* The engine's own audit. 0 or -errno and a sentence. */
int subject_audit(struct kv *kv, char *error, size_t error_size);

/* Change one byte of the key wherever it stands in the file, past persist.h.
 * The key must be long enough to be nothing else. False: it is not there. */
bool subject_damage(int fd, const void *key, size_t klen);

/* The same for the ceiling of the cas ids: all but the first are above it. */
bool subject_lower_ceiling(int fd);

#endif
