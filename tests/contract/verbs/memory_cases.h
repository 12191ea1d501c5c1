/* Cases of check_verbs, in the guest. */
#ifndef TESTS_CONTRACT_VERBS_MEMORY_CASES_H
#define TESTS_CONTRACT_VERBS_MEMORY_CASES_H

#include <check.h>

void add_verbs_memory_cases(TCase *tcase);

#endif
