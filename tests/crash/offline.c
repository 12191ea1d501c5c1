/* See offline.h. */
#include "tests/crash/offline.h"

#include "store/tool/survey.h"

#include <errno.h>
#include <stdio.h>

struct first {
    char *what;
    size_t size;
    bool told;
};

static void tell(void *context, const struct damage *damage)
{
    struct first *first = context;
    if (!first->told)
        snprintf(first->what, first->size, "%s at %llu: %s",
                 damage_name(damage->kind), (unsigned long long)damage->at,
                 damage->what);
    first->told = true;
}

enum offline_verdict offline_check(const char *path, char *what,
                                   size_t what_size)
{
    struct first first = {.what = what, .size = what_size};
    struct fixes fixes;
    struct view view;
    struct survey s;
    if (view_open(&view, path, VIEW_READ, what, what_size) < 0)
        return OFFLINE_REFUSED;
    fixes_init(&fixes);
    int rc = survey_init(&s, &view, &fixes);
    s.report = tell;
    s.context = &first;
    if (rc == 0)
        rc = survey_region(&s);
    if (rc == 0)
        rc = survey_all(&s);
    bool clean = s.damages == 0;
    survey_fini(&s);
    fixes_fini(&fixes);
    view_close(&view);
    if (rc < 0 && rc != -EUCLEAN)
        return OFFLINE_FAILED;
    return clean ? OFFLINE_CLEAN : OFFLINE_DAMAGED;
}
