/* kvpool dump: the items of a pool, for another pool, program or machine. */
#include "store/tool/dump_format.h"
#include "store/tool/report.h"
#include "store/tool/select_pool.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options {
    struct tool_options common;
    const char *output; /* NULL: standard output */
    bool all;           /* expired and flushed ones too */
};

struct dumping {
    const struct options *options;
    struct dump_writer writer;
    struct progress progress;
    uint64_t now;
    uint64_t gone; /* expired or flushed: not written */
    int error;     /* errno of what could not be written; EFAULT: the pool's
                    * bytes were gone */
};

static bool dump_item(void *context, const struct survey_pool *pool,
                      const struct hop_entry *entry)
{
    struct dumping *d = context;
    const unsigned char *base = pool->survey->view->base;
    struct item_text text = item_read(base, entry);
    struct item_source source = item_value_source(base, entry);
    struct dump_item item = {.klen = text.klen,
                             .vlen = text.vlen,
                             .flags = entry->flags,
                             .exptime = entry->exptime,
                             .cas = entry->cas};
    struct item_runs runs;
    progress_add(&d->progress, 1);
    if (!d->options->all &&
        (survey_flushed(pool, entry, d->now) ||
         (entry->exptime != 0 && entry->exptime <= d->now))) {
        d->gone++;
        return true;
    }
    uint32_t sum = dump_item_sum(&d->writer, &item, text.key);
    item_runs_begin(&runs, base, &source);
    while (item_runs_next(&runs))
        sum = dump_crc_add(&d->writer.crc, sum, runs.bytes, runs.len);
    dump_write_item(&d->writer, &item, text.key, sum);
    item_runs_begin(&runs, base, &source);
    errno = 0;
    while (item_runs_next(&runs))
        dump_write(&d->writer, runs.bytes, runs.len);
    if (ferror(d->writer.out))
        d->error = errno;
    return !ferror(d->writer.out);
}

static int write_dump(struct dumping *d, struct survey_pool *pool, FILE *out)
{
    struct dump_head head = {.size = pool->grains *
                                     view_header(pool->survey->view)->grain,
                             .time = d->now};
    memcpy(head.pool, pool->name, sizeof(head.pool));
    dump_write_head(&d->writer, out, &head);
    progress_begin(&d->progress, "dumped", pool->items,
                   d->options->common.progress);
    survey_each(pool, dump_item, d);
    progress_end(&d->progress);
    dump_write_end(&d->writer);
    if (fflush(out) == 0 && !ferror(out))
        return 0;
    if (d->error == 0)
        d->error = errno;
    clearerr(out); /* the caller tells it */
    return d->error == EFAULT ? -EFAULT : -EIO;
}

static void tell(const struct dumping *d, const struct survey_pool *pool)
{
    struct json json = {.out = d->options->output ? stdout : stderr};
    const struct survey *s = pool->survey;
    if (!d->options->common.json) {
        fprintf(stderr,
                "kvpool dump: pool %s: %llu items, %llu bytes; left out: %llu "
                "expired or flushed%s\n",
                pool->name, (unsigned long long)d->writer.items,
                (unsigned long long)d->writer.bytes,
                (unsigned long long)d->gone,
                s->damages ? ", and what is damaged: see 'kvpool check'" : "");
        return;
    }
    json_begin(&json, NULL, '{');
    json_text(&json, "pool", pool->name);
    json_number(&json, "items", d->writer.items);
    json_number(&json, "bytes", d->writer.bytes);
    json_number(&json, "left_out", d->gone);
    json_number(&json, "damages", s->damages);
    json_end(&json, '}');
}

/* To a file by way of another name, so that it is there whole or not. */
static int dump_to(struct dumping *d, struct survey_pool *pool, char *error,
                   size_t error_size)
{
    const char *path = d->options->output;
    char part[4096];
    if (!path) {
        int rc = write_dump(d, pool, stdout);
        if (rc == -EIO)
            snprintf(error, error_size, "standard output cannot be written: %s",
                     strerror(d->error ? d->error : EIO));
        return rc;
    }
    if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
        return -ENAMETOOLONG;
    FILE *out = fopen(part, "we");
    if (!out) {
        snprintf(error, error_size, "%.300s cannot be written: %s", part,
                 strerror(errno));
        return -EIO;
    }
    int rc = write_dump(d, pool, out);
    if (rc == 0 && fsync(fileno(out)) < 0 && errno != EINVAL)
        rc = -errno;
    if (fclose(out) != 0 && rc == 0)
        rc = -EIO;
    if (rc == 0 && rename(part, path) < 0)
        rc = -EIO;
    if (rc < 0) {
        snprintf(error, error_size, "%.300s cannot be written: %s", path,
                 strerror(errno));
        unlink(part);
    }
    return rc;
}

static int dump(struct view *view, const struct options *options)
{
    struct dumping d = {.options = options, .now = (uint64_t)time(NULL)};
    struct survey_pool pool;
    struct fixes fixes;
    struct survey s;
    char error[512] = "";
    uint32_t slot = 0;
    fixes_init(&fixes);
    int rc = survey_init(&s, view, &fixes);
    s.lines = options->common.progress;
    if (rc == 0)
        rc = survey_region(&s);
    if (rc == 0)
        rc = select_pool(&s, options->common.pool, &slot, error, sizeof(error));
    if (rc == 0)
        rc = survey_pool_open(&s, slot, &pool);
    if (rc == 0) {
        rc = survey_pool(&pool);
        if (rc == 0)
            rc = dump_to(&d, &pool, error, sizeof(error));
        if (rc == 0)
            tell(&d, &pool);
        survey_pool_close(&pool);
    }
    int status = rc == 0 ? (int)report_status(&s) : tool_status(rc);
    if (rc == -EFAULT)
        tool_error("dump",
                   "%s: a part of it cannot be read: a media error, or "
                   "it was cut short meanwhile",
                   view->path);
    else if (rc == -EUCLEAN)
        tool_error("dump", "%s is too damaged: 'kvpool check' says where",
                   view->path);
    else if (rc < 0)
        tool_error("dump", "%s", error[0] ? error : strerror(-rc));
    survey_fini(&s);
    fixes_fini(&fixes);
    return status;
}

int kvpool_dump(int argc, char **argv)
{
    static const struct option table[] = {
        TOOL_OPTION_JSON,
        TOOL_OPTION_PROGRESS,
        TOOL_OPTION_POOL,
        {"output", required_argument, NULL, 'o'},
        {"all", no_argument, NULL, 'a'},
        {NULL, 0, NULL, 0}};
    struct options options = {.output = NULL};
    char error[512] = "";
    struct view view;
    int option;
    while ((option = getopt_long(argc, argv, "o:", table, NULL)) != -1) {
        if (option == 'o')
            options.output = optarg;
        else if (option == 'a')
            options.all = true;
        else if (!tool_option(&options.common, option))
            return tool_bad_option(argv, "--pool NAME, --output FILE, --all, "
                                         "--json or --progress");
    }
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    if (!options.output && isatty(STDOUT_FILENO))
        return tool_usage("dump", "expected --output FILE, or a standard "
                                  "output that is no terminal");
    int rc = view_open(&view, file, VIEW_READ, error, sizeof(error));
    if (rc < 0)
        return report_refusal("dump", &options.common, file, rc, error);
    int status = dump(&view, &options);
    view_close(&view);
    return status;
}
