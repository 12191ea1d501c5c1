/*
 * The engine under test: all that the crash tests know of its insides is
 * here. The rest uses store/engine/engine.h.
 */
#ifndef TESTS_CRASH_SUBJECT_H
#define TESTS_CRASH_SUBJECT_H

#include "store/engine/engine.h"
#include "store/pm/persist.h"

#define SUBJECT_POOL KV_MIN_POOL /* bytes; small pools are quick to recover */
#define SUBJECT_NOW  1000        /* the clock of all tests, unix seconds */

/* size 0: an existing pool only. 0 or -errno and a sentence. */
int subject_open(const char *path, uint64_t size, bool cache,
                 const struct pm_hook *hook, struct kv **out, char *error,
                 size_t error_size);

/* Close without a word to the pool, as a crash does. */
void subject_abandon(struct kv *kv);

/* The engine's own audit. 0 or -errno and a sentence. */
int subject_audit(struct kv *kv, char *error, size_t error_size);

/* Change one byte of the key wherever it stands in the file, past persist.h.
 * The key must be long enough to be nothing else. False: it is not there. */
bool subject_damage(int fd, const void *key, size_t klen);

#endif
