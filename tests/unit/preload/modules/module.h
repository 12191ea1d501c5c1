/*
 * Modules as check_backends.c needs them: each leaves a trace in the
 * environment when it is loaded, one that works counts its instances there.
 */
#ifndef TESTS_UNIT_PRELOAD_MODULES_MODULE_H
#define TESTS_UNIT_PRELOAD_MODULES_MODULE_H

#include <errno.h>
#include <stdlib.h>

#include "transport/backend.h"

#define SHOWN __attribute__((visibility("default")))

__attribute__((constructor)) static void leave_trace(void)
{
    setenv("MODULE_LOADED", "1", 1);
}

/* -$MODULE_FAILS, or an instance. */
static inline int module_create(struct loop *loop,
                                const struct backend_config *config,
                                const struct link_events *events,
                                struct backend **out)
{
    static struct backend instance;
    const char *fails = getenv("MODULE_FAILS");
    const char *n = getenv("MODULE_INSTANCES");
    char text[2] = {n != NULL ? (char)(n[0] + 1) : '1', '\0'};

    (void)loop;
    (void)config;
    (void)events;
    setenv("MODULE_INSTANCES", text, 1);
    if (fails != NULL)
        return -atoi(fails);
    *out = &instance;
    return 0;
}

#endif
