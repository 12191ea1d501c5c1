/*
 * Crash images of the engine: see README.md in this folder.
 *
 *     crash               5,000 distinct images
 *     crash long          200,000, and 5,000 of each kind of operation
 *     crash mutants       what happens without each flush, fence and ordering
 *     crash KIND SEED     one script again, as a failure names it
 */
#include "tests/crash/run.h"

#include "config/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct goal short_goal = {.images = 5000,
                                       .per_kind = 200,
                                       .seconds = 100,
                                       .effort = {.per_family = 3,
                                                  .all_below = 4,
                                                  .images_max = 200,
                                                  .depth = DEPTH_MAX,
                                                  .nested_one_in = 8}};
static const struct goal long_goal = {.images = 200000,
                                      .per_kind = 5000,
                                      .seconds = 400,
                                      .effort = {.per_family = 16,
                                                 .all_below = 7,
                                                 .images_max = 3000,
                                                 .depth = DEPTH_MAX,
                                                 .nested_one_in = 24}};

static int repeat(const char *name, const char *seed)
{
    const struct script_kind *kind = script_kinds;
    const struct goal *goals[] = {&short_goal, &long_goal};
    while (kind->name && strcmp(kind->name, name) != 0)
        kind++;
    if (!kind->step) {
        fprintf(stderr, "crash: there is no kind of script \"%s\"\n", name);
        return 2;
    }
    for (size_t i = 0; i < 2; i++) {
        struct tally tally = {0};
        bool fine = run_job(kind, strtoull(seed, NULL, 10), &goals[i]->effort,
                            NULL, &tally);
        printf("%lu images, %lu of crashes during recovery\n", tally.images,
               tally.nested);
        if (!fine)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    log_threshold = LOG_NONE;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 1)
        return run_goal(&short_goal);
    if (argc == 2 && strcmp(argv[1], "long") == 0)
        return run_goal(&long_goal);
    if (argc == 2 && strcmp(argv[1], "mutants") == 0)
        return run_mutants();
    if (argc == 3)
        return repeat(argv[1], argv[2]);
    fputs("usage: crash [long | mutants | KIND SEED]\n", stderr);
    return 2;
}
