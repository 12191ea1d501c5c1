/*
 * One image of a pool after a crash: the real recovery, the engine's audit,
 * and a comparison with the model.
 */
#ifndef TESTS_CRASH_JUDGE_H
#define TESTS_CRASH_JUDGE_H

#include "tests/crash/image.h"
#include "tests/crash/model.h"
#include "tests/crash/recorder.h"

enum phase {
    PHASE_MAKING, /* the pool is being made: a size makes it again */
    PHASE_EMPTY,  /* a region, and perhaps its pool */
    PHASE_OPENING,
    PHASE_OPEN,
    PHASE_CLOSING,
    PHASE_CLOSED
};

/* What has to be true of an image. */
struct expectation {
    const struct model *model;
    struct window window;
    enum phase phase;
    bool damaged; /* opening may repair, and then it lasts */
    bool use;     /* store something after the recovery as well */
};

/*
 * Recovery is recorded in *recorder, which has its EVENT_OPENED mark; the
 * image's file is as before on return. False: *what says what is wrong.
 */
bool judge(struct image *image, struct recorder *recorder,
           const struct expectation *expected, char *what, size_t what_size);

#endif
