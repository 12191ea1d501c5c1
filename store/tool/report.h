/* Damages, as a survey tells them, in words or as JSON. */
#ifndef STORE_TOOL_REPORT_H
#define STORE_TOOL_REPORT_H

#include "store/tool/json.h"
#include "store/tool/survey.h"
#include "store/tool/tool.h"

#define REPORT_MAX 100 /* damages that are shown unless more are asked for */

struct report {
    FILE *out;
    struct json *json; /* NULL: words */
    uint64_t max;
    uint64_t shown;
};

/* A survey_report; context: a struct report. In JSON a list is open. */
void report_damage(void *context, const struct damage *damage);

/* After the survey: what was not shown, the kinds and what they mean. */
void report_kinds(struct report *report, const struct survey *survey);

/* The same numbers as members of an open object. */
void report_numbers(struct json *json, const struct survey *survey);

/* What a survey says about the file as a whole. */
enum tool_exit report_status(const struct survey *survey);

/* A file that was refused with a sentence: on standard error, and with --json
 * an object too. Returns the status. */
int report_refusal(const char *command, const struct tool_options *options,
                   const char *file, int rc, const char *error);

#endif
