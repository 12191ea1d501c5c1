/* See select_pool.h. */
#include "store/tool/select_pool.h"

#include "store/pm/region.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int select_pool(const struct survey *survey, const char *name, uint32_t *slot,
                char *error, size_t error_size)
{
    const struct region_header *h = view_header(survey->view);
    char list[256] = "";
    unsigned n = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < h->slots; i++) {
        const struct region_slot *at = survey_slot(survey, i);
        size_t used = strlen(list);
        if (at->state != REGION_SLOT_POOL)
            continue;
        if (strncmp(at->name, name ? name : "default", REGION_NAME_MAX) == 0) {
            *slot = i;
            return 0;
        }
        n++;
        last = i;
        snprintf(list + used, sizeof(list) - used, "%s\"%.*s\"",
                 used ? ", " : "", (int)REGION_NAME_MAX, at->name);
    }
    if (!name && n == 1) {
        *slot = last;
        return 0;
    }
    if (n == 0)
        return region_refuse(survey->view->path, error, error_size, -ENOENT,
                             "has no pools; make one with 'kvpool create "
                             "--add'");
    return region_refuse(survey->view->path, error, error_size, -ENOENT,
                         "has %s%s%s%s: choose one of %s with --pool",
                         name ? "no pool \"" : "several pools",
                         name ? name : "", name ? "\"" : "",
                         name ? "" : " and none named \"default\"", list);
}
