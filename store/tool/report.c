/* See report.h. */
#include "store/tool/report.h"

#include <string.h>

static void show_json(struct json *json, const struct damage *damage)
{
    json_begin(json, NULL, '{');
    json_text(json, "kind", damage_name(damage->kind));
    json_number(json, "offset", damage->at);
    if (damage->pool)
        json_text(json, "pool", damage->pool);
    json_text(json, "what", damage->what);
    json_bool(json, "repairable", damage->mend != NULL);
    if (damage->mend)
        json_text(json, "repair", damage->mend);
    json_number(json, "items_lost", damage->items);
    json_end(json, '}');
}

void report_damage(void *context, const struct damage *damage)
{
    struct report *report = context;
    char pool[REGION_NAME_MAX + 1] = "";
    if (report->shown == report->max)
        return;
    report->shown++;
    if (report->json) {
        show_json(report->json, damage);
        return;
    }
    if (damage->pool)
        snprintf(pool, sizeof(pool), "%.*s", (int)REGION_NAME_MAX,
                 damage->pool);
    fprintf(report->out, "  %#-12llx %-11s %s%s%s%s\n",
            (unsigned long long)damage->at, damage_name(damage->kind),
            pool[0] ? "pool " : "", pool, pool[0] ? ": " : "", damage->what);
    fprintf(report->out, "%27s%s%s\n", "", damage->mend ? "repair: " : "",
            damage->mend ? damage->mend
                         : "beyond repair: restore the file from a copy");
}

void report_kinds(struct report *report, const struct survey *survey)
{
    if (survey->damages > report->shown)
        fprintf(report->out, "  ... and %llu more (--max shows more)\n",
                (unsigned long long)(survey->damages - report->shown));
    for (unsigned kind = 0; kind < DAMAGE_KINDS; kind++)
        if (survey->n[kind] > 0)
            fprintf(report->out, "%llu x %s: %s\n",
                    (unsigned long long)survey->n[kind],
                    damage_name((enum damage_kind)kind),
                    damage_meaning((enum damage_kind)kind));
}

void report_numbers(struct json *json, const struct survey *survey)
{
    json_number(json, "damages", survey->damages);
    json_number(json, "beyond_repair", survey->beyond);
    json_number(json, "items_lost", survey->lost);
    json_bool(json, "more_items_lost", survey->lost_more);
    json_begin(json, "kinds", '{');
    for (unsigned kind = 0; kind < DAMAGE_KINDS; kind++)
        if (survey->n[kind] > 0)
            json_number(json, damage_name((enum damage_kind)kind),
                        survey->n[kind]);
    json_end(json, '}');
}

enum tool_exit report_status(const struct survey *survey)
{
    if (survey->damages == 0)
        return TOOL_DONE;
    return survey->foreign && survey->damages == 1 ? TOOL_FOREIGN
                                                   : TOOL_DAMAGED;
}

int report_refusal(const char *command, const struct tool_options *options,
                   const char *file, int rc, const char *error)
{
    int status = tool_status(rc);
    struct json json = {.out = stdout};
    tool_error(command, "%s", error[0] != '\0' ? error : strerror(-rc));
    if (!options->json)
        return status;
    json_begin(&json, NULL, '{');
    json_text(&json, "file", file);
    json_number(&json, "status", (unsigned)status);
    json_text(&json, "error", error[0] != '\0' ? error : strerror(-rc));
    json_end(&json, '}');
    return status;
}
