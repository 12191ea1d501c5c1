/*
 * Names for the places in the program that call persist.h.
 *
 * A chain of return addresses is turned by addr2line, once, into the first two
 * lines of the program that are not persist.h or persist.c. Chains with the
 * same name are one site. Without addr2line the addresses are the name.
 */
#ifndef TESTS_CRASH_SITES_H
#define TESTS_CRASH_SITES_H

#include <stddef.h>
#include <stdint.h>

#define SITE_DEPTH 4    /* callers that are kept */
#define SITE_CALLS 1024 /* different chains */
#define SITE_NAME  120

struct sites {
    uint32_t n_calls, n_names, n_named; /* 0 is no site */
    void *calls[SITE_CALLS][SITE_DEPTH];
    uint32_t name_of[SITE_CALLS]; /* of the chains below n_named */
    char names[SITE_CALLS][SITE_NAME];
};

/* NULL: no memory. */
struct sites *sites_create(void);
void sites_destroy(struct sites *sites);

/* The number of a chain of callers. */
uint32_t sites_add(struct sites *sites, void *const callers[SITE_DEPTH]);

/* Find the names of the chains that were added since. */
void sites_name_all(struct sites *sites);

/* The number of the name of a chain; 0 before it has one. */
static inline uint32_t sites_name(const struct sites *sites, uint32_t call)
{
    return call < sites->n_named ? sites->name_of[call] : 0;
}

#endif
