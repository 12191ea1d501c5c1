/* kvpool check: every damage of a pool file, told; nothing is written. */
#include "store/tool/report.h"

#include <errno.h>
#include <string.h>

struct options {
    struct tool_options common;
    uint64_t max;
};

struct numbers {
    unsigned pools;
    uint64_t items;
    bool clean; /* all closed in order */
};

static int survey_pools(struct survey *s, struct numbers *numbers)
{
    uint32_t slots = view_header(s->view)->slots;
    numbers->clean = true;
    for (uint32_t i = 0; i < slots; i++) {
        struct survey_pool pool;
        if (survey_slot(s, i)->state != REGION_SLOT_POOL)
            continue;
        int rc = survey_pool_open(s, i, &pool);
        numbers->pools++;
        if (rc == -EUCLEAN)
            continue;
        if (rc < 0)
            return rc;
        rc = survey_pool(&pool);
        numbers->items += pool.items;
        numbers->clean &= pool.header->state.clean == 1;
        survey_pool_close(&pool);
        if (rc < 0)
            return rc;
    }
    return s->fixes->error;
}

static void print_end(const char *file, const struct survey *s,
                      const struct numbers *numbers, struct report *report)
{
    if (s->orphans > 0)
        printf("%llu grains name a pool that is not there: deleted when the "
               "file was last open, or lost\n",
               (unsigned long long)s->orphans);
    if (s->damages == 0) {
        printf("%s is clean: %u pool%s, %llu items, %s\n", file, numbers->pools,
               numbers->pools == 1 ? "" : "s",
               (unsigned long long)numbers->items,
               numbers->clean ? "closed in order"
                              : "in use when its program ended");
        return;
    }
    report_kinds(report, s);
    printf("%s is damaged: %llu damages, %llu of them beyond repair; %llu "
           "items%s are lost, %llu are whole\n",
           file, (unsigned long long)s->damages, (unsigned long long)s->beyond,
           (unsigned long long)s->lost, s->lost_more ? " and more" : "",
           (unsigned long long)numbers->items);
    if (s->beyond < s->damages)
        printf("'kvpool repair %s' says what can be done\n", file);
}

static int look(struct view *view, const struct options *options)
{
    struct json json = {.out = stdout};
    struct report report = {.out = stdout,
                            .json = options->common.json ? &json : NULL,
                            .max = options->max};
    struct numbers numbers = {0};
    struct fixes fixes;
    struct survey s;
    fixes_init(&fixes);
    int rc = survey_init(&s, view, &fixes);
    s.report = report_damage;
    s.context = &report;
    s.lines = options->common.progress;
    if (report.json) {
        json_begin(&json, NULL, '{');
        json_text(&json, "file", view->path);
        json_begin(&json, "list", '[');
    }
    if (rc == 0)
        rc = survey_region(&s);
    if (rc == 0)
        rc = survey_pools(&s, &numbers);
    rc = rc == -EUCLEAN ? 0 : rc;
    int status = rc < 0 ? TOOL_FAILED : (int)report_status(&s);
    if (report.json) {
        json_end(&json, ']');
        report_numbers(&json, &s);
        json_number(&json, "pools", numbers.pools);
        json_number(&json, "items", numbers.items);
        json_number(&json, "orphan_grains", s.orphans);
        json_bool(&json, "closed_in_order", numbers.clean);
        json_number(&json, "status", (unsigned)status);
        json_end(&json, '}');
    } else if (rc == 0) {
        print_end(view->path, &s, &numbers, &report);
    }
    if (rc < 0)
        tool_error("check", "%s", strerror(-rc));
    survey_fini(&s);
    fixes_fini(&fixes);
    return status;
}

int kvpool_check(int argc, char **argv)
{
    static const struct option table[] = {TOOL_OPTION_JSON,
                                          TOOL_OPTION_PROGRESS,
                                          {"max", required_argument, NULL, 'm'},
                                          {NULL, 0, NULL, 0}};
    struct options options = {.max = REPORT_MAX};
    char error[512] = "";
    struct view view;
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 'm' && tool_size(optarg, &options.max) == 0)
            continue;
        if (option == 'm')
            return tool_usage("check",
                              "expected a number after --max, not "
                              "'%s'",
                              optarg);
        if (!tool_option(&options.common, option))
            return tool_bad_option(argv, "--json, --progress or --max N");
    }
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    int rc = view_open(&view, file, VIEW_READ, error, sizeof(error));
    if (rc < 0)
        return report_refusal("check", &options.common, file, rc, error);
    int status = look(&view, &options);
    view_close(&view);
    return status;
}
