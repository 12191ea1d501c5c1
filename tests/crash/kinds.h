/*
 * What the two files of kinds share: steps about pools, for the table of all
 * kinds, and lengths and operations chosen at random.
 */
#ifndef TESTS_CRASH_KINDS_H
#define TESTS_CRASH_KINDS_H

#include "tests/crash/script.h"

/* Bytes of a value that is not inline; of any value. */
uint32_t kinds_large_len(struct script *script);
uint32_t kinds_any_len(struct script *script);

/* One operation on a key, whether it is there or not. */
void kinds_any_operation(struct script *script, int k);

void step_region_create(struct script *script);
void step_create(struct script *script);
void step_reopen(struct script *script);
void step_repair(struct script *script);
void step_restore(struct script *script);
void step_region_grow(struct script *script);
void step_pool_create(struct script *script);
void step_pool_grow(struct script *script);
void step_pool_regrow(struct script *script);
void step_pool_delete(struct script *script);
void step_pool_first(struct script *script);

#endif
