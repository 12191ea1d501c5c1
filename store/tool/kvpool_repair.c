/*
 * kvpool repair: what can be done about damage, and, with --yes, doing it.
 *
 * The survey puts everything right in its private view. A second survey of that
 * view must find nothing more; only then the words that differ are written, and
 * before them a file from which they can be put back.
 */
#include "store/tool/report.h"
#include "store/tool/undo.h"

#include "store/pm/persist.h"
#include "store/pm/region.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct options {
    struct tool_options common;
    uint64_t max;
    const char *backup; /* NULL: beside the pool */
    const char *undo;   /* NULL: repair */
    bool yes;
    bool no_backup;
};

struct repair {
    const struct options *options;
    struct view *view;
    struct fixes fixes;
    uint64_t grow_to;
    uint64_t items;
    char backup[4096];
    char error[512];
};

/* Write the words through the one layer that writes pools. */
static int write_words(struct repair *r)
{
    uint64_t size = r->view->file_size;
    struct pm pm;
    int rc = 0, fd = r->view->fd;
    if (r->grow_to > size) {
        if (ftruncate(fd, (off_t)r->grow_to) < 0 || fsync(fd) < 0)
            return -errno;
        size = r->grow_to;
    }
    size = size / 4096 * 4096;
    rc = pm_map(&pm, fd, size, PM_PMEM, NULL);
    if (rc == -ENOTSUP)
        rc = pm_map(&pm, fd, size, PM_SYNC, NULL);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < r->fixes.n; i++) {
        const struct fix *fix = &r->fixes.list[i];
        uint64_t *at = (uint64_t *)(void *)(pm.base + fix->at);
        pm_store64(&pm, at, fix->new);
        pm_flush(&pm, at, sizeof(*at));
    }
    rc = pm_fence(&pm);
    pm_unmap(&pm);
    return rc;
}

static int keep_backup(struct repair *r)
{
    const struct options *options = r->options;
    if (options->no_backup)
        return 0;
    if (!options->backup && r->view->device) {
        snprintf(r->error, sizeof(r->error),
                 "%.200s is a device: say with --backup FILE where what is "
                 "changed is kept, or --no-backup",
                 r->view->path);
        return -EINVAL;
    }
    if (snprintf(r->backup, sizeof(r->backup), "%s%s",
                 options->backup ? options->backup : r->view->path,
                 options->backup ? "" : ".undo") >= (int)sizeof(r->backup))
        return -ENAMETOOLONG;
    return undo_write(r->backup, &r->fixes, r->view->file_size, r->grow_to,
                      r->error, sizeof(r->error));
}

/* What is left in the view that no fix has mended. */
static int survey_again(struct repair *r, uint64_t *left)
{
    struct fixes none;
    struct survey s;
    fixes_init(&none);
    int rc = survey_init(&s, r->view, &none);
    s.lines = r->options->common.progress;
    if (rc == 0)
        rc = survey_region(&s);
    if (rc == 0)
        rc = survey_all(&s);
    rc = rc == -EUCLEAN ? 0 : rc;
    /* the view is longer than the file, for it is to be as long */
    *left = s.damages - (r->grow_to != 0 ? s.n[DAMAGE_TRUNCATED] : 0);
    survey_fini(&s);
    fixes_fini(&none);
    return rc;
}

static int do_it(struct repair *r)
{
    int rc = keep_backup(r);
    if (rc == 0) {
        rc = write_words(r);
        if (rc < 0)
            snprintf(r->error, sizeof(r->error), "%.200s cannot be written: %s",
                     r->view->path, strerror(-rc));
    }
    return rc;
}

static void print_end(const struct repair *r, const struct survey *s,
                      uint64_t left, bool done)
{
    const char *file = r->view->path;
    if (s->damages == 0) {
        printf("%s is clean: nothing to repair\n", file);
        return;
    }
    printf("%s: %llu damages, %llu beyond repair; %zu words %s; %llu items%s "
           "%s lost\n",
           file, (unsigned long long)s->damages, (unsigned long long)s->beyond,
           r->fixes.n, done ? "were changed" : "would be changed",
           (unsigned long long)s->lost, s->lost_more ? " and more" : "",
           done ? "are" : "would be");
    if (done && r->backup[0])
        printf("what was there before is in %s: 'kvpool repair --yes --undo %s "
               "%s' puts it back\n",
               r->backup, r->backup, file);
    else if (!done && s->beyond < s->damages)
        printf("nothing was changed; 'kvpool repair --yes %s' does it\n", file);
    if (left > 0)
        printf("%s\n", s->beyond > 0
                           ? "a part is beyond repair: dump what is whole with "
                             "'kvpool dump', or restore the file from a copy"
                           : "the repair would not be complete: restore the "
                             "file from a copy");
}

static void print_json(struct json *json, const struct repair *r,
                       const struct survey *s, uint64_t left, bool done)
{
    json_end(json, ']');
    report_numbers(json, s);
    json_number(json, "words", r->fixes.n);
    json_bool(json, "changed", done);
    if (done && r->backup[0])
        json_text(json, "backup", r->backup);
    json_number(json, "left", left);
    json_end(json, '}');
}

static int survey_once(struct repair *r, struct survey *s,
                       struct report *report)
{
    int rc = survey_init(s, r->view, &r->fixes);
    s->report = report_damage;
    s->context = report;
    s->lines = r->options->common.progress;
    if (rc == 0)
        rc = survey_region(s);
    if (rc == 0)
        rc = survey_all(s);
    r->grow_to = s->grow_to;
    fixes_settle(&r->fixes);
    return rc == -EUCLEAN ? 0 : rc;
}

static int repair(struct view *view, const struct options *options)
{
    struct repair r = {.options = options, .view = view};
    struct json json = {.out = stdout};
    struct report report = {.out = stdout,
                            .json = options->common.json ? &json : NULL,
                            .max = options->max};
    struct survey s;
    uint64_t left = 0;
    if (report.json) {
        json_begin(&json, NULL, '{');
        json_text(&json, "file", view->path);
        json_begin(&json, "list", '[');
    }
    fixes_init(&r.fixes);
    int rc = survey_once(&r, &s, &report);
    if (rc == 0 && s.damages > 0)
        rc = survey_again(&r, &left);
    bool some = r.fixes.n > 0 || r.grow_to != 0;
    bool done = rc == 0 && options->yes && some;
    if (done)
        rc = do_it(&r);
    done &= rc == 0;
    if (report.json)
        print_json(&json, &r, &s, left, done);
    else
        print_end(&r, &s, left, done);
    if (rc < 0)
        tool_error("repair", "%s", r.error[0] ? r.error : strerror(-rc));
    int status = rc < 0 ? TOOL_FAILED
                 : s.damages == 0 || (done && left == 0)
                     ? TOOL_DONE
                     : (int)report_status(&s);
    survey_fini(&s);
    fixes_fini(&r.fixes);
    return status;
}

static void print_undo(const struct repair *r)
{
    struct json json = {.out = stdout};
    if (!r->options->common.json) {
        printf("%s: %zu words %s\n", r->view->path, r->fixes.n,
               r->options->yes ? "are as they were before the repair"
                               : "would be put back; --yes does it");
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "file", r->view->path);
    json_number(&json, "words", r->fixes.n);
    json_bool(&json, "changed", r->options->yes);
    json_end(&json, '}');
}

/* Put back what a repair has changed, when nobody has changed it since. */
static int undo(struct view *view, const struct options *options)
{
    struct repair r = {.options = options, .view = view};
    uint64_t file_size = 0, grow_to = 0, size = view->file_size;
    fixes_init(&r.fixes);
    int rc = undo_read(options->undo, &r.fixes, &file_size, &grow_to, r.error,
                       sizeof(r.error));
    if (rc == 0 && size != (grow_to > file_size ? grow_to : file_size))
        rc = region_refuse(view->path, r.error, sizeof(r.error), -EINVAL,
                           "has another size than after that repair");
    for (size_t i = 0; i < r.fixes.n && rc == 0; i++)
        if (size < 8 || r.fixes.list[i].at > size - 8 ||
            view_word(view, r.fixes.list[i].at) != r.fixes.list[i].old)
            rc = region_refuse(view->path, r.error, sizeof(r.error), -EINVAL,
                               "was changed since that repair, at %#llx: it "
                               "cannot be undone",
                               (unsigned long long)r.fixes.list[i].at);
    if (rc == 0 && options->yes) {
        rc = write_words(&r);
        if (rc == 0 && !view->device && file_size < size &&
            ftruncate(view->fd, (off_t)file_size) < 0)
            rc = -errno;
    }
    if (rc == 0)
        print_undo(&r);
    else
        tool_error("repair", "%s", r.error[0] ? r.error : strerror(-rc));
    fixes_fini(&r.fixes);
    return rc < 0 ? TOOL_FAILED : options->yes ? TOOL_DONE : TOOL_DAMAGED;
}

static int take_option(struct options *options, int option, char **argv)
{
    switch (option) {
    case 'y':
        options->yes = true;
        return 0;
    case 'b':
        options->backup = optarg;
        return 0;
    case 'N':
        options->no_backup = true;
        return 0;
    case 'u':
        options->undo = optarg;
        return 0;
    case 'm':
        if (tool_size(optarg, &options->max) == 0)
            return 0;
        return tool_usage("repair", "expected a number after --max, not '%s'",
                          optarg);
    default:
        if (tool_option(&options->common, option))
            return 0;
        return tool_bad_option(argv, "--yes, --backup FILE, --no-backup, "
                                     "--undo FILE, --max N, --json or "
                                     "--progress");
    }
}

int kvpool_repair(int argc, char **argv)
{
    static const struct option table[] = {
        TOOL_OPTION_JSON,
        TOOL_OPTION_PROGRESS,
        {"yes", no_argument, NULL, 'y'},
        {"backup", required_argument, NULL, 'b'},
        {"no-backup", no_argument, NULL, 'N'},
        {"undo", required_argument, NULL, 'u'},
        {"max", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0}};
    struct options options = {.max = REPORT_MAX};
    char error[512] = "";
    struct view view;
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        int status = take_option(&options, option, argv);
        if (status != 0)
            return status;
    }
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    int rc = view_open(&view, file, options.yes ? VIEW_WRITE : VIEW_READ, error,
                       sizeof(error));
    if (rc < 0)
        return report_refusal("repair", &options.common, file, rc, error);
    int status = options.undo ? undo(&view, &options) : repair(&view, &options);
    view_close(&view);
    return status;
}
