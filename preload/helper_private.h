/*
 * What helper.c (the thread) and helper_gather.c (everybody back) share.
 */
#ifndef PRELOAD_HELPER_PRIVATE_H
#define PRELOAD_HELPER_PRIVATE_H

#include <pthread.h>

#include "preload/helper.h"

struct helper {
    struct lock lock; /* queue, start */
    struct endpoint *head, *tail;
    struct loop *loop;
    struct shm *shm;
    bool started, failed;
    _Atomic uint64_t turns; /* a wish that was made before is done after two */
    struct endpoint *all;   /* with links or meetings; under all_lock */
    struct lock all_lock;
    pthread_t thread;
};

extern struct helper helper;

#endif
