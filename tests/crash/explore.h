/*
 * The images that a log allows, each handed to the judge.
 *
 * A store is in flight until a fence that follows a flush of its line. At each
 * fence and each acknowledgement a crash may happen, and any of the words in
 * flight may have survived, flushed or not, in any order: a line may be
 * evicted at any time, and a line may be torn between words. Few words: all
 * combinations. More: samples of the families in explore.c.
 *
 * Recovery writes too: its log is explored in the same way, to depth 2.
 */
#ifndef TESTS_CRASH_EXPLORE_H
#define TESTS_CRASH_EXPLORE_H

#include "tests/crash/judge.h"
#include "tests/crash/seen.h"
#include "tests/crash/sites.h"

#define DEPTH_MAX 2 /* crashes during the recovery from a crash */

/* What the log is read without, to see whether anybody notices. */
enum mutation {
    MUTATION_NONE,
    MUTATION_NO_FLUSH, /* a flush, or that of a copy, does nothing */
    MUTATION_NO_FENCE,
    MUTATION_EARLY /* a store is made before the fence that precedes it */
};

struct mutant {
    enum mutation kind;
    uint32_t name; /* of the site, by sites_name() */
};

struct effort {
    unsigned per_family; /* images of a family at one point */
    unsigned all_below;  /* words in flight that are tried in all ways */
    unsigned long images_max;
    unsigned depth;         /* DEPTH_MAX at most */
    unsigned nested_one_in; /* images whose recovery crashes too */
};

struct explorer {
    const struct sites *sites;
    struct mutant mutant;
    struct effort effort;
    struct seen *distinct; /* shared, never forgets */
    struct image image;
    struct expectation expected;
    uint64_t random;
    unsigned long images;
    unsigned long new_images; /* that nobody had seen */
    unsigned long nested;     /* images of recoveries, among them */
    bool failed;
    char what[400];
    /* private */
    struct recorder recoveries[DEPTH_MAX + 1];
    struct seen *judged[DEPTH_MAX + 1];
};

/* sites and distinct are borrowed; distinct may be NULL. 0 or -ENOMEM. */
int explorer_init(struct explorer *x, struct sites *sites,
                  struct seen *distinct, const struct effort *effort);
void explorer_fini(struct explorer *x);

/*
 * Explore a log that was recorded with its base. False: an image is wrong,
 * x->what says how, and x->image is that image.
 */
bool explore(struct explorer *x, const struct recorder *log,
             const struct model *model, uint64_t seed);

#endif
