/*
 * What the checks of the survey share: the pool that is damaged, and what has
 * to become of it. In a failed check these abort the test.
 *
 * What lies where in a pool depends on the seed of its hash, so some checks run
 * on several. LONG=1 tries every bit, and more pools; a slow machine
 * (MODEL_STEPS) few of them. MODEL_SEED in the environment: another first pool.
 */
#ifndef TESTS_SUPPORT_DAMAGED_CASE_H
#define TESTS_SUPPORT_DAMAGED_CASE_H

#include "tests/support/damaged_pool.h"

#include <check.h>

extern struct damaged_pool damaged;
extern unsigned damaged_step; /* bits from one to the next that is tried */

/* Fixtures of a test case. */
void damaged_begin(void);
void damaged_begin_larger(void);
void damaged_end(void);

/* How many pools a loop test is to be run on, and in it: the nth of them, as
 * large as the one that the fixture has made. */
int damaged_pools(void);
void damaged_again(int nth);

/* Run, tell how to repeat a failure, and destroy. What main() returns. */
int damaged_run(Suite *suite);

const struct region_header *damaged_header(void);
uint64_t damaged_state_at(size_t field); /* of struct pool_state */
void damaged_put(uint64_t at, uint64_t word);
uint64_t damaged_get(uint64_t at);
struct hop_entry *damaged_entry(const struct damaged_item *item);
const struct damaged_item *damaged_of_form(enum hop_form form, unsigned nth);

/* What was damaged is found, mended, and nothing is missing after that. */
struct damaged_outcome damaged_is_mended(enum damage_kind kind);

/* It is found, and costs that many items at most, all of them told. */
struct damaged_outcome damaged_loses(enum damage_kind kind, unsigned most);

#endif
